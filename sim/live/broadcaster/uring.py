"""One frame to many sockets in one system call, where io_uring may be used. Everything is done within the call that submits,
because a socket that takes nothing says so at once."""

from __future__ import annotations

import ctypes
import errno
import struct
from array import array
from collections.abc import Sequence

from sim.uring import COUNTER, Ring

_SEND = 26
_AT_ONCE = 0x40 | 0x4000
"""MSG_DONTWAIT, MSG_NOSIGNAL."""

ENTRIES = 512
"""Sockets in one call."""
ROOM = 1 << 18
"""Bytes of the longest frame."""


class SendRing:
    """Of one process and thread. `send`; `close` at the end."""

    def __init__(self) -> None:
        """Raises OSError where the system has none, or does not allow it."""
        self._uring = uring = Ring(ENTRIES)
        self.close = uring.close
        self.broken = False
        """Whether the system has refused a call: nothing is sent by it from then on."""
        self._ring = uring.ring
        completions = uring.completions.cast("i")
        self._which, self._results = completions[0::4], completions[2::4]
        self._frame = ctypes.create_string_buffer(ROOM)
        for i in range(ENTRIES):
            request = (_SEND, 0, 0, -1, 0, ctypes.addressof(self._frame), 0, _AT_ONCE, i)
            struct.pack_into("BBHiQQIIQ", uring.requests, 64 * i, *request)
        requests = uring.requests.cast("i")
        self._sockets, self._sizes = requests[1::16], requests[6::16]
        self._size = self._turn = 0

    def send(self, sockets: Sequence[int], frame: bytes) -> list[int]:
        """Send *frame* to each of these descriptors. For each: the bytes of it that were taken, or a negative `errno`."""
        size, taken = len(frame), list[int]()
        if size > ROOM or self.broken:
            return [-errno.EAGAIN] * len(sockets)
        ctypes.memmove(self._frame, frame, size)
        if size != self._size:
            self._sizes[:] = memoryview(array("i", [size]) * ENTRIES)
            self._size = size
        for start in range(0, len(sockets), ENTRIES):
            taken += self._submit(array("i", sockets[start : start + ENTRIES]), size)
        return taken

    def _submit(self, sockets: array[int], size: int) -> list[int]:
        count, before, uring = len(sockets), self._turn, self._uring
        first = before % ENTRIES
        until = min(count, ENTRIES - first)
        self._sockets[first : first + until] = memoryview(sockets)[:until]
        self._sockets[: count - until] = memoryview(sockets)[until:]
        self._turn = after = (before + count) & COUNTER
        ring = self._ring
        ring[uring.sent_tail] = after
        while (left := (after - ring[uring.done_tail]) & COUNTER) and not self.broken:
            waiting = (after - ring[uring.sent_head]) & COUNTER
            self.broken = uring.enter(waiting, left) < 0 and ctypes.get_errno() != errno.EINTR
        done, first = count - left, before % len(self._results)
        until = min(done, len(self._results) - first)
        results = self._results[first : first + until].tolist() + self._results[: done - until].tolist()
        if results.count(size) < count:  # Else it does not matter which is whose.
            which = self._which[first : first + until].tolist() + self._which[: done - until].tolist()
            by_slot = dict(zip(which, results, strict=True))
            results = [by_slot.get((before + i) % ENTRIES, -errno.EAGAIN) for i in range(count)]
        ring[uring.done_head] = after - left & COUNTER
        return results
