"""What comes on many sockets, without a call to the system for each: Linux's io_uring, where it may be used.

A request for each socket stands until it is cancelled: the kernel puts what arrives into the next free buffer, with the stamp
that `recvmsg` would give, and a completion into a list that this process reads. It does so when it is entered (DEFER_TASKRUN),
for some twenty sockets a call, and is entered when its eventfd says that there is something. See io_uring_setup(2), and
io_uring_prep_recvmsg_multishot(3) for the layout of a buffer: a head of four numbers, room for control data, the bytes.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import socket
import struct
import time
from collections.abc import Callable
from typing import Protocol

from sim.uring import COUNTER, WAIT, Ring

_RECVMSG, _CANCEL = 10, 14
_REGISTER_EVENTFD, _REGISTER_BUFFERS = 4, 22
_SINGLE_ISSUER, _DEFER_TASKRUN = 1 << 12, 1 << 13
_MULTISHOT, _SELECT_BUFFER, _SILENT = 1 << 1, 1 << 5, 1 << 6
_HAS_BUFFER, _HAS_MORE = 1 << 32, 1 << 33
"""In the second word of a completion: its result in the low half, then these, and the buffer's number from bit 48."""

REQUESTS, COMPLETIONS = 64, 4096
BUFFERS = 256
ROOM = 4096
"""Bytes of a buffer. What is longer comes in pieces."""
HEAD = 48
"""Bytes before what arrived: the head, and a stamp as control data."""
STRIDE = ROOM + 64
"""From buffer to buffer: by a power of two they would meet in the caches."""
BATCH = 512
"""Arrivals before the hub goes round once."""


class Taker(Protocol):
    """Who has a socket."""

    def received(self, data: bytes, arrived_at: int, read_at: int) -> None: ...

    def over(self, error: int) -> None:
        """Nothing follows: 0 by the peer's will, else an `errno`."""


class ReceiveRing:
    """Of one process and thread. `add` a socket, `drop` it before it is closed; `ready` when `descriptor` is."""

    def __init__(self, offset: int, failed: Callable[[], None]) -> None:
        """*offset*: from the monotonic clock to that of stamps. *failed*: called within the handler of what a taker raised.
        Raises OSError where the system has no such ring, does not allow it, or does not do by it what is expected."""
        self._offset, self._failed = offset, failed
        # Nothing waits in it: to give the interpreter's lock away for each call would cost more than the call.
        self._uring = uring = Ring(REQUESTS, COMPLETIONS, _SINGLE_ISSUER | _DEFER_TASKRUN, ctypes.PyDLL)
        self._takers: dict[int, tuple[Taker, int]] = {}
        self._received: dict[int, Callable[[bytes, int, int], None]] = {}
        self._last = self._turn = self._sent = 0
        self._done = uring.completions.cast("Q")
        self.descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        try:
            uring.register(_REGISTER_EVENTFD, struct.pack("i", self.descriptor))
            self._memory = mmap.mmap(-1, BUFFERS * STRIDE)
            self._words = memoryview(self._memory).cast("q")
            self._base = _address(self._memory)
            slots = mmap.mmap(-1, 16 * BUFFERS)
            self._slots, self._free = memoryview(slots).cast("Q"), memoryview(slots).cast("H")
            uring.register(_REGISTER_BUFFERS, struct.pack("QIHH3Q", _address(slots), BUFFERS, 0, 0, 0, 0, 0))
            self._order = list(range(BUFFERS)) * 2
            for which in range(BUFFERS):
                self._offer(which, which)
            self._free[7] = BUFFERS
            self._message = ctypes.create_string_buffer(struct.pack("6QQ", 0, 0, 0, 0, 0, HEAD - 16, 0))
            self._prove()
        except OSError:
            self.close()
            raise

    def __len__(self) -> int:
        return len(self._takers)

    def add(self, descriptor: int, taker: Taker) -> int:
        """Take what comes there from now on; the number to `drop` it by. Raises OSError."""
        self._last = token = self._last + 1  # Never again the same: what comes late for one is nobody's.
        self._takers[token] = taker, descriptor
        self._received[token] = taker.received
        self._ask(token, descriptor)
        return token

    def _ask(self, token: int, descriptor: int) -> None:
        self._request(0, _RECVMSG, _SELECT_BUFFER, _MULTISHOT, descriptor, 0, ctypes.addressof(self._message), 1, 0, token)

    def _request(self, flags: int, *request: int) -> None:
        uring = self._uring
        struct.pack_into("BBHiQQIIQ24x", uring.requests, 64 * (self._sent % uring.entries), *request)
        self._sent += 1
        uring.ring[uring.sent_tail] = self._sent & COUNTER
        if (taken := uring.enter(1, 0, flags)) != 1:
            raise OSError(-taken, os.strerror(-taken))

    def drop(self, token: int) -> None:
        """Take no more; what has come and was not given is lost, as with a socket that is closed. Else the socket lives on."""
        if self._takers.pop(token, None) is not None:
            del self._received[token]
            # And what the cancelled request has left to do, for it holds the socket open.
            self._request(WAIT, _CANCEL, _SILENT, 0, -1, 0, token, 0, 0, 0)

    def ready(self, events: int) -> None:
        """Give what has come."""
        uring, received, words, memory = self._uring, self._received, self._words, self._memory
        ring, room, given = uring.ring, uring.room, 0
        while given < BATCH:
            uring.enter(0, 0)
            first, last = ring[uring.done_head], ring[uring.done_tail]
            count = last - first & COUNTER
            if not count:
                return
            read_at = time.monotonic_ns() + self._offset
            first %= room
            until = min(count, room - first)
            done = self._done[2 * first : 2 * (first + until)].tolist() + self._done[: 2 * (count - until)].tolist()
            ring[uring.done_head] = last
            given += count
            ended = []
            order = []
            for token, said in zip(done[::2], done[1::2], strict=True):
                size = 0
                if said & _HAS_BUFFER:
                    order.append(which := said >> 48)
                    start = which * STRIDE
                    size = (said & COUNTER) - HEAD
                    if size > 0 and (take := received.get(token)) is not None:
                        word = start >> 3
                        # Two lengths in the first word, of name and control data; the stamp after the control data's own head.
                        arrived_at = words[word + 4] * 1_000_000_000 + words[word + 5] if words[word] else read_at
                        start += HEAD
                        try:
                            take(memory[start : start + size], arrived_at, read_at)
                        except Exception:
                            self._failed()
                if not said & _HAS_MORE:
                    ended.append((token, size, said & COUNTER))
            self._give_back(order)
            for token, size, result in ended:
                self._ended(token, size, result)
        os.eventfd_write(self.descriptor, 1)

    def _give_back(self, order: list[int]) -> None:
        """Buffers that are free again. They are used in turn, so each has its old place in the list, where it stands still."""
        first = self._turn % BUFFERS
        if order != self._order[first : first + len(order)]:
            for place, which in enumerate(order, self._turn):
                self._offer(place % BUFFERS, which)
        self._turn += len(order)
        self._free[7] = self._turn + BUFFERS & 0xFFFF

    def _offer(self, place: int, which: int) -> None:
        self._slots[2 * place] = self._base + which * STRIDE
        # The upper half of the first one's word is the list's tail.
        kept = self._slots[2 * place + 1] & 0xFFFF << 48
        self._slots[2 * place + 1] = kept | which << 32 | ROOM

    def _ended(self, token: int, size: int, result: int) -> None:
        """A request has come to its end: the socket's, or for want of buffers or of room in the list."""
        if token not in self._takers:
            return
        taker, descriptor = self._takers[token]
        error = (1 << 32) - result if result >> 31 else 0
        if size > 0 or error == errno.ENOBUFS:
            try:
                self._ask(token, descriptor)
                return
            except OSError as refused:
                error = refused.errno or errno.EIO
        del self._takers[token], self._received[token]
        taker.over(error)

    def _prove(self) -> None:
        """That bytes come through it, and the end."""

        class Proof:
            def __init__(self) -> None:
                self.said: list[object] = []

            def received(self, data: bytes, arrived_at: int, read_at: int) -> None:
                self.said.append(data)

            def over(self, error: int) -> None:
                self.said.append(error)

        proof = Proof()
        near, far = socket.socketpair()
        with near, far:
            token = self.add(near.fileno(), proof)
            far.sendall(b"x")
            far.close()
            self.ready(1)
            self.drop(token)
        if proof.said != [b"x", 0]:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    def close(self) -> None:
        """Sockets must have been dropped."""
        os.close(self.descriptor)
        self._uring.close()


def _address(memory: mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))
