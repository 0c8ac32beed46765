"""Receive from many sockets without a system call for each: Linux's io_uring, where it is allowed.

Each socket has one request, which stands until it is cancelled. The kernel puts bytes that arrive into the next free buffer, with
the stamp that `recvmsg` would give, and adds a completion to a list that this process reads. It does this work inside
io_uring_enter (DEFER_TASKRUN), for some twenty sockets a call or for as many as are waited for; this process calls it when the
ring's eventfd is readable. See io_uring_setup(2), and io_uring_prep_recvmsg_multishot(3) for the layout of a buffer: a head of
four numbers, room for control data, the bytes.

Frames for pages that only listen are recorded from here, all that came together at once. No object of a page is touched then:
with thousands of pages each would have to be fetched from memory.

Rejected: watching the ring's own descriptor, which with DEFER_TASKRUN does not become ready when something comes (Linux 6.18).
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

import numpy as np
import numpy.typing as npt

from loadtests.client.reader import FEW, EventReader
from sim.uring import COUNTER, WAIT, Ring

_RECVMSG, _CANCEL = 10, 14
_REGISTER_EVENTFD, _REGISTER_BUFFERS = 4, 22
_SINGLE_ISSUER, _DEFER_TASKRUN = 1 << 12, 1 << 13
_MULTISHOT, _SELECT_BUFFER, _SILENT = 1 << 1, 1 << 5, 1 << 6
_HAS_BUFFER, _HAS_MORE = 1 << 32, 1 << 33
"""In the second word of a completion: its result in the low half, then these, and the buffer's number from bit 48."""

REQUESTS, COMPLETIONS = 64, 8192
BUFFERS = 4096
ROOM = 1024
"""Bytes of a buffer. A longer message comes in pieces."""
HEAD = 48
"""Bytes before what arrived: the head, and a stamp as control data."""
STRIDE = ROOM + 64
"""Bytes from one buffer to the next. With a power of two all buffers would compete for the same places in the caches."""
CROWD = 20
"""Arrivals at a time that are taken for a broadcast. The ring then waits for more of them to come together, because each turn of
the hub and each call cost as much as many arrivals."""
Rest = tuple[int, int]
"""Arrivals before the hub goes round once; nanoseconds that the ring waits for so many arrivals of a broadcast."""
LISTENING: Rest = 2048, 4_000_000
"""Where every page only listens, so that nothing waits for this process."""
ACTING: Rest = 256, 200_000
"""Where a page may have to refetch: about a ms of work, and a wait that delays a refetch by less than a tick of the timers
(`mux.TICK`)."""
_SLOT_BITS = 24
_SLOT = (1 << _SLOT_BITS) - 1
"""A socket's token: its slot (place in the arrays) in these bits, a serial above them."""


class Taker(Protocol):
    """The owner of a socket: a `Link`."""

    subscriber: int

    @property
    def audience(self) -> int:
        """The subscriber's audience (`EventReader.audience`), where the next bytes need only be recorded if they are one frame;
        else -1."""

    def received(self, data: bytes, arrived_at: int, read_at: int) -> None: ...


Record = Callable[[npt.NDArray[np.int64], npt.NDArray[np.int64], int, npt.NDArray[np.int64]], None]


class ReceiveRing:
    """One per process and thread. `add` a socket, `drop` it before it is closed; call `ready` when `descriptor` is readable."""

    def __init__(self, offset: int, failed: Callable[[], None]) -> None:
        """*offset*: from the monotonic clock to that of stamps, ns. *failed*: called while an exception of a taker is handled.
        Raises OSError where the system has no io_uring or does not allow it, or where it does not work as expected (`_prove`)."""
        self._offset, self._failed = offset, failed
        self._event_reader = EventReader(lambda _: 0)
        self._record: Record = lambda *_: None
        # PyDLL keeps the interpreter's lock: giving it away for each call would cost more than the call.
        self._uring = uring = Ring(REQUESTS, COMPLETIONS, _SINGLE_ISSUER | _DEFER_TASKRUN, ctypes.PyDLL)
        self._takers: list[tuple[Taker, Callable[[int], None], int, int] | None] = []
        """By slot: taker, what is called at the end, descriptor, token."""
        self._vacant: list[int] = []
        self._make_room(np.zeros((4, 0), np.int64))
        self._serial = self._turn = self._sent = 0
        self._crowded, self._rest = False, ACTING
        self._done = np.frombuffer(uring.completions, np.int64).reshape(-1, 2)
        self.descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        try:
            uring.register(_REGISTER_EVENTFD, struct.pack("i", self.descriptor))
            self._memory = mmap.mmap(-1, BUFFERS * STRIDE)
            self._bytes = np.frombuffer(self._memory, np.uint8).reshape(BUFFERS, STRIDE)
            self._words = self._bytes.view(np.int64)
            self._base = _address(self._memory)
            slots = mmap.mmap(-1, 16 * BUFFERS)
            self._slots, self._free = memoryview(slots).cast("Q"), memoryview(slots).cast("H")
            uring.register(_REGISTER_BUFFERS, struct.pack("QIHH3Q", _address(slots), BUFFERS, 0, 0, 0, 0, 0))
            self._order = np.tile(np.arange(BUFFERS), 2)
            for which in range(BUFFERS):
                self._offer(which, which)
            self._free[7] = BUFFERS
            self._message = ctypes.create_string_buffer(struct.pack("6QQ", 0, 0, 0, 0, 0, HEAD - 16, 0))
            self._prove()
        except OSError:
            self.close()
            raise

    def _make_room(self, columns: npt.NDArray[np.int64]) -> None:
        self._columns = np.concatenate([columns, np.zeros((4, max(columns.shape[1], 256)), np.int64)], axis=1)
        self._tokens, self._heard_at, self._audiences, self._subscribers = self._columns

    def record_by(self, reader: EventReader, record: Record) -> None:
        """For takers with an audience: *reader* reads their frames, and *record*(codes and stamps, arrived_at, read_at,
        subscribers) is called in place of the takers."""
        self._event_reader, self._record = reader, record

    def __len__(self) -> int:
        return len(self._takers) - len(self._vacant)

    def add(self, descriptor: int, taker: Taker, over: Callable[[int], None]) -> int:
        """Give *taker* the bytes that come there from now on; returns the token for `drop`. *over*(errno) is called when nothing
        follows; 0: the peer has closed. Raises OSError."""
        if self._vacant:
            slot = self._vacant.pop()
        else:
            slot = len(self._takers)
            self._takers.append(None)
            if slot == self._columns.shape[1]:
                self._make_room(self._columns)
        self._serial += 1  # So that late completions of the slot's former socket are told from its own.
        token = self._serial << _SLOT_BITS | slot
        self._takers[slot] = taker, over, descriptor, token
        self._columns[:, slot] = token, 0, -1, taker.subscriber
        try:
            self._ask(token, descriptor)
        except OSError:
            self._leave(slot)
            raise
        return token

    def _leave(self, slot: int) -> None:
        self._takers[slot], self._tokens[slot], self._audiences[slot] = None, 0, 0
        self._vacant.append(slot)

    def _has(self, token: int) -> bool:
        there = self._takers[token & _SLOT] if token else None
        return there is not None and there[3] == token

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
        """Stop reading. Bytes that were not given yet are lost, as with a closed socket; the socket itself stays open."""
        if self._has(token):
            self._leave(token & _SLOT)
            # WAIT also for the end of the cancelled request, which holds the socket open.
            self._request(WAIT, _CANCEL, _SILENT, 0, -1, 0, token, 0, 0, 0)

    def heard_at(self, token: int) -> int:
        """When a frame was last recorded without a call of the taker (ns); 0: never."""
        return int(self._heard_at[token & _SLOT]) if self._has(token) else 0

    def ready(self, events: int) -> None:
        """Record or give what has come."""
        uring, given = self._uring, 0
        while given < self._rest[0]:
            rested = self._crowded  # The broadcast goes on, most likely.
            if rested:
                uring.rest(*self._rest)
            else:
                uring.enter(0, 0)
            first, count = self._come()
            if count >= CROWD and not rested:
                uring.rest(*self._rest)
                first, count = self._come()
            self._crowded = count >= CROWD
            if not count and not rested:
                return
            if not count:
                continue
            given += count
            done = self._done[np.arange(first, first + count) % uring.room]
            uring.ring[uring.done_head] = first + count & COUNTER
            self._take(done, time.monotonic_ns() + self._offset)
            if self._crowded:
                break
        os.eventfd_write(self.descriptor, 1)

    def _come(self) -> tuple[int, int]:
        """New completions: the number of the first one, and their count."""
        uring = self._uring
        head = uring.ring[uring.done_head]
        return head, uring.ring[uring.done_tail] - head & COUNTER

    def _take(self, done: npt.NDArray[np.int64], read_at: int) -> None:
        tokens, results = done[:, 0], done[:, 1]
        slots, which, sizes = tokens & _SLOT, results >> 48, (results & COUNTER) - HEAD
        filled = (results & _HAS_BUFFER) != 0
        there = filled & (sizes > 0) & (self._tokens[slots] == tokens)
        # Two lengths in the first word, of name and control data; the stamp after the control data's own head.
        stamps = self._words[which, 4] * 1_000_000_000 + self._words[which, 5]
        arrived_at = np.where(self._words[which, 0] != 0, stamps, read_at)
        if len(done) >= FEW:
            there &= ~self._recorded(there, slots, which, sizes, arrived_at, read_at)
        called = np.flatnonzero(there)
        everyone_listens = not len(called) and (self._audiences[: len(self._takers)] >= 0).all()
        self._rest = LISTENING if everyone_listens else ACTING
        memory, starts = self._memory, which[called] * STRIDE + HEAD
        columns = (slots[called], tokens[called], starts, sizes[called], arrived_at[called])
        for slot, token, start, size, at in zip(*(column.tolist() for column in columns), strict=True):
            self._give(slot, token, memory[start : start + size], at, read_at)
        self._give_back(which[filled])
        for i in np.flatnonzero((results & _HAS_MORE) == 0).tolist():
            self._ended(int(tokens[i]), int(sizes[i]) if filled[i] else 0, int(results[i]) & COUNTER)

    def _recorded(
        self,
        there: npt.NDArray[np.bool_],
        slots: npt.NDArray[np.int64],
        which: npt.NDArray[np.int64],
        sizes: npt.NDArray[np.int64],
        arrived_at: npt.NDArray[np.int64],
        read_at: int,
    ) -> npt.NDArray[np.bool_]:
        """Record the arrivals that need only be recorded; returns which they were."""
        audiences = self._audiences[slots]
        alone = there & (audiences >= 0)
        codes = np.full(len(slots), -1)
        for size in set(sizes[alone].tolist()):
            rows = np.flatnonzero(alone & (sizes == size))
            if len(rows) >= FEW:
                codes[rows] = self._event_reader.codes(self._bytes[which[rows], HEAD : HEAD + size], audiences[rows])
        mine = codes >= 0
        if (odd := alone & ~mine).any():  # Later frames of the same page must not overtake it.
            mine &= ~np.isin(slots, slots[odd])
        if mine.any():
            arrived_at, slots = arrived_at[mine], slots[mine]
            self._record(codes[mine] | (arrived_at != read_at), arrived_at, read_at, self._subscribers[slots])
            self._heard_at[slots] = read_at
        return mine

    def _give(self, slot: int, token: int, data: bytes, arrived_at: int, read_at: int) -> None:
        there = self._takers[slot]
        if there is None or there[3] != token:
            return
        try:
            there[0].received(data, arrived_at, read_at)
        except Exception:
            self._failed()
        if self._takers[slot] is there:
            self._audiences[slot] = there[0].audience

    def _give_back(self, order: npt.NDArray[np.int64]) -> None:
        """Return buffers to the kernel. They are used in turn, so most of them still stand in their places of its list."""
        first = self._turn % BUFFERS
        if not np.array_equal(order, self._order[first : first + len(order)]):
            for place, which in enumerate(order.tolist(), self._turn):
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
        slot = token & _SLOT
        if not self._has(token) or (there := self._takers[slot]) is None:
            return
        _, over, descriptor, _ = there
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
        """Raise OSError unless bytes, and then the end of a stream, come through the ring."""

        came = list[object]()

        class Proof:
            subscriber, audience = 0, -1

            def received(self, data: bytes, arrived_at: int, read_at: int) -> None:
                came.append(data)

        near, far = socket.socketpair()
        with near, far:
            token = self.add(near.fileno(), Proof(), came.append)
            far.sendall(b"x")
            far.close()
            self.ready(1)
            self.drop(token)
        if came != [b"x", 0]:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    def close(self) -> None:
        """Sockets must have been dropped."""
        os.close(self.descriptor)
        self._uring.close()


def _address(memory: mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))
