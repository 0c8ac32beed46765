"""One frame to many sockets in one system call: Linux's io_uring, where it may be used (containers often forbid it).

The layout of the two rings that kernel and process share is that of io_uring_setup(2) and <linux/io_uring.h>: requests of 64
bytes, completions of 16. Everything is done within the call that submits, because a socket that takes nothing says so at once.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import struct
import sys
from array import array
from collections.abc import Sequence
from typing import Any

_SETUP, _ENTER = 425, 426
"""System calls, by the same numbers on every architecture."""
_REQUESTS_AT = 0x10000000
_WAIT = 1
_SEND = 26
_AT_ONCE = 0x40 | 0x4000
"""MSG_DONTWAIT, MSG_NOSIGNAL."""
_COUNTER = 0xFFFFFFFF

ENTRIES = 512
"""Sockets in one call."""
ROOM = 1 << 18
"""Bytes of the longest frame."""


class SendRing:
    """Of one process and thread. `send`; `close` at the end."""

    def __init__(self) -> None:
        """Raises OSError where the system has none, or does not allow it."""
        if sys.platform != "linux":
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        self._call: Any = ctypes.CDLL(None, use_errno=True).syscall
        parameters = ctypes.create_string_buffer(120)
        self._descriptor = self._call(_SETUP, ENTRIES, parameters)
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        self.broken = False
        """Whether the system has refused a call: nothing is sent by it from then on."""
        # Offsets in bytes: of head, tail, mask, entries, flags, dropped, array; of head, tail, mask, entries, overflow, list.
        sent, done = struct.unpack_from("7I", parameters, 40), struct.unpack_from("6I", parameters, 80)
        (room,) = struct.unpack_from("I", parameters, 4)
        size = max(sent[6] + 4 * ENTRIES, done[5] + 16 * room)
        self._ring = memoryview(mmap.mmap(self._descriptor, size)).cast("I")
        self._ring[sent[6] // 4 : sent[6] // 4 + ENTRIES] = memoryview(array("I", range(ENTRIES)))
        self._sent_head, self._sent_tail, self._done_head, self._done_tail = (at // 4 for at in (*sent[:2], *done[:2]))
        completions = self._ring.cast("B")[done[5] : done[5] + 16 * room].cast("i")
        self._which, self._results = completions[0::4], completions[2::4]
        self._frame = ctypes.create_string_buffer(ROOM)
        requests = memoryview(mmap.mmap(self._descriptor, 64 * ENTRIES, offset=_REQUESTS_AT))
        for i in range(ENTRIES):
            struct.pack_into("BBHiQQIIQ", requests, 64 * i, _SEND, 0, 0, -1, 0, ctypes.addressof(self._frame), 0, _AT_ONCE, i)
        self._sockets, self._sizes = requests.cast("i")[1::16], requests.cast("i")[6::16]
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
        count, before = len(sockets), self._turn
        first = before % ENTRIES
        until = min(count, ENTRIES - first)
        self._sockets[first : first + until] = memoryview(sockets)[:until]
        self._sockets[: count - until] = memoryview(sockets)[until:]
        self._turn = after = (before + count) & _COUNTER
        ring = self._ring
        ring[self._sent_tail] = after
        while (left := (after - ring[self._done_tail]) & _COUNTER) and not self.broken:
            waiting = (after - ring[self._sent_head]) & _COUNTER
            if self._call(_ENTER, self._descriptor, waiting, left, _WAIT, None, 0) < 0 and ctypes.get_errno() != errno.EINTR:
                self.broken = True
        done, first = count - left, before % len(self._results)
        until = min(done, len(self._results) - first)
        results = self._results[first : first + until].tolist() + self._results[: done - until].tolist()
        if results.count(size) < count:  # Else it does not matter which is whose.
            which = self._which[first : first + until].tolist() + self._which[: done - until].tolist()
            by_slot = dict(zip(which, results, strict=True))
            results = [by_slot.get((before + i) % ENTRIES, -errno.EAGAIN) for i in range(count)]
        ring[self._done_head] = after - left & _COUNTER
        return results

    def close(self) -> None:
        os.close(self._descriptor)
