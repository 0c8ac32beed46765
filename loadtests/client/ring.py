"""What comes on many sockets, without a call to the system for each: Linux's io_uring, where it may be used.

A request for each socket stands until it is cancelled: the kernel puts what arrives into the next free buffer, with the stamp
that `recvmsg` would give, and a completion into a list that this process reads. It does so when it is entered (DEFER_TASKRUN),
for some twenty sockets a call, and is entered when its eventfd says that there is something. See io_uring_setup(2), and
io_uring_prep_recvmsg_multishot(3) for the layout of a buffer: a head of four numbers, room for control data, the bytes.

Rejected: to watch the ring's own descriptor, which with DEFER_TASKRUN does not become ready when something comes (Linux 6.18).
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import socket
import struct
import time
from array import array
from collections.abc import Callable
from typing import Protocol

from loadtests.client.echo import Ear
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
BATCH = 256
"""Arrivals before the hub goes round once: about a ms of work."""
CROWD, REST = 24, 200_000
"""After this many arrivals at a time, which are a broadcast, others get at most these nanoseconds to come together, for each turn
of the hub costs as much as several of them. No refetch begins much later: timers are put together by more (`mux.TICK`)."""
_SLOT_BITS = 24
_SLOT = (1 << _SLOT_BITS) - 1
"""Of the numbers that sockets have here: the place in the arrays, and a serial above it."""


class Taker(Protocol):
    """Who has a socket: a `Link`."""

    subscriber: int

    @property
    def audience(self) -> int:
        """Of a subscriber for whom the next bytes, where they are one frame, need only be recorded (`Ear.audience`); else -1."""

    def received(self, data: bytes, arrived_at: int, read_at: int) -> None: ...


class ReceiveRing:
    """Of one process and thread. `add` a socket, `drop` it before it is closed; `ready` when `descriptor` is."""

    def __init__(self, offset: int, failed: Callable[[], None]) -> None:
        """*offset*: from the monotonic clock to that of stamps. *failed*: called within the handler of what a taker raised.
        Raises OSError where the system has no such ring, does not allow it, or does not do by it what is expected."""
        self._offset, self._failed = offset, failed
        self._ear = Ear(lambda _: 0)
        self._record: Callable[[int, int, int, int], None] = lambda *_: None
        # Nothing waits in it: to give the interpreter's lock away for each call would cost more than the call.
        self._uring = uring = Ring(REQUESTS, COMPLETIONS, _SINGLE_ISSUER | _DEFER_TASKRUN, ctypes.PyDLL)
        # By slots, in arrays: with thousands of sockets, each object that is looked at is one that no cache has.
        self._tokens, self._heard_at = array("q"), array("q")
        self._audiences, self._subscribers = array("i"), array("i")
        self._takers: list[tuple[Taker, Callable[[int], None], int] | None] = []
        self._vacant: list[int] = []
        self._serial = self._turn = self._sent = 0
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

    def record_by(self, ear: Ear, record: Callable[[int, int, int, int], None]) -> None:
        """Where takers have an audience: by whom frames are known, and what is called for each event in place of the taker:
        *record* (code and stamp, arrived_at, read_at, subscriber)."""
        self._ear, self._record = ear, record

    def __len__(self) -> int:
        return len(self._takers) - len(self._vacant)

    def add(self, descriptor: int, taker: Taker, over: Callable[[int], None]) -> int:
        """Give *taker* what comes there from now on; the number to `drop` it by. *over*(errno): nothing follows; 0: by the peer's
        will. Raises OSError."""
        if self._vacant:
            slot = self._vacant.pop()
        else:
            slot = len(self._takers)
            self._takers.append(None)
            for column in (self._tokens, self._heard_at, self._audiences, self._subscribers):
                column.append(0)
        self._serial += 1  # What comes late for one is nobody's.
        self._tokens[slot] = token = self._serial << _SLOT_BITS | slot
        self._takers[slot] = taker, over, descriptor
        self._audiences[slot], self._subscribers[slot], self._heard_at[slot] = -1, taker.subscriber, 0
        try:
            self._ask(token, descriptor)
        except OSError:
            self._leave(slot)
            raise
        return token

    def _leave(self, slot: int) -> None:
        self._takers[slot], self._tokens[slot] = None, 0
        self._vacant.append(slot)

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
        if token and self._tokens[slot := token & _SLOT] == token:
            self._leave(slot)
            # And what the cancelled request has left to do, for it holds the socket open.
            self._request(WAIT, _CANCEL, _SILENT, 0, -1, 0, token, 0, 0, 0)

    def heard_at(self, token: int) -> int:
        """When something came last that was recorded without a call; 0: never."""
        slot = token & _SLOT
        return self._heard_at[slot] if token and self._tokens[slot] == token else 0

    def ready(self, events: int) -> None:
        """Give what has come."""
        uring, words, memory, tokens = self._uring, self._words, self._memory, self._tokens
        audiences, subscribers, heard_at = self._audiences, self._subscribers, self._heard_at
        ear, record, ring, room, given, last, rested = self._ear, self._record, uring.ring, uring.room, 0, b"", False
        frames, event = ear.frames, None
        while given < BATCH:
            uring.enter(0, 0)
            head, tail = ring[uring.done_head], ring[uring.done_tail]
            count = tail - head & COUNTER
            if not count:
                if given < CROWD or rested:
                    return
                uring.rest(CROWD, REST)
                rested = True
                continue
            read_at = time.monotonic_ns() + self._offset
            first = head % room
            until = min(count, room - first)
            done = self._done[2 * first : 2 * (first + until)].tolist() + self._done[: 2 * (count - until)].tolist()
            ring[uring.done_head] = tail
            given += count
            ended, order = list[tuple[int, int, int]](), list[int]()
            for token, said in zip(done[::2], done[1::2], strict=True):
                size = 0
                if said & _HAS_BUFFER:
                    order.append(which := said >> 48)
                    start = which * STRIDE
                    size = (said & COUNTER) - HEAD
                    if size > 0 and tokens[slot := token & _SLOT] == token:
                        word = start >> 3
                        # Two lengths in the first word, of name and control data; the stamp after the control data's own head.
                        arrived_at = words[word + 4] * 1_000_000_000 + words[word + 5] if words[word] else read_at
                        start += HEAD
                        data = memory[start : start + size]
                        if (audience := audiences[slot]) >= 0:
                            if data != last:
                                event, last = frames.get(data) or ear.read(data), data
                            if event is not None and (audience in event.audiences or ear.is_news(event, audience)):
                                record(event.code | (arrived_at != read_at), arrived_at, read_at, subscribers[slot])
                                heard_at[slot] = read_at
                            else:
                                self._give(slot, token, data, arrived_at, read_at)
                        else:
                            self._give(slot, token, data, arrived_at, read_at)
                if not said & _HAS_MORE:
                    ended.append((token, size, said & COUNTER))
            self._give_back(order)
            for token, size, result in ended:
                self._ended(token, size, result)
        os.eventfd_write(self.descriptor, 1)

    def _give(self, slot: int, token: int, data: bytes, arrived_at: int, read_at: int) -> None:
        there = self._takers[slot]
        assert there is not None
        try:
            there[0].received(data, arrived_at, read_at)
        except Exception:
            self._failed()
        if self._tokens[slot] == token:
            self._audiences[slot] = there[0].audience

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
        if self._tokens[slot := token & _SLOT] != token or (there := self._takers[slot]) is None:
            return
        _, over, descriptor = there
        error = (1 << 32) - result if result >> 31 else 0
        if size > 0 or error == errno.ENOBUFS:
            try:
                self._ask(token, descriptor)
                return
            except OSError as refused:
                error = refused.errno or errno.EIO
        self._leave(slot)
        try:
            over(error)
        except Exception:
            self._failed()

    def _prove(self) -> None:
        """That bytes come through it, and the end."""

        said = list[object]()

        class Proof:
            subscriber, audience = 0, -1

            def received(self, data: bytes, arrived_at: int, read_at: int) -> None:
                said.append(data)

        near, far = socket.socketpair()
        with near, far:
            token = self.add(near.fileno(), Proof(), said.append)
            far.sendall(b"x")
            far.close()
            self.ready(1)
            self.drop(token)
        if said != [b"x", 0]:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    def close(self) -> None:
        """Sockets must have been dropped."""
        os.close(self.descriptor)
        self._uring.close()


def _address(memory: mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))
