"""One readiness loop and one list of timers for all connections of a process, inside gevent's own hub.

Thousands of sockets hang on one epoll descriptor, and gevent watches only that one. Against a watcher or a greenlet for each
socket this halves the time per message, and it keeps the order: libev runs what became ready together *last arrived first*
(measured, gevent 26.9), epoll first come, first served. A batch is bounded, so that timers and Locust's own heartbeats get
their turn in the middle of a broadcast to everyone.

Rejected, with CPU per message of a broadcast to 5,000 (one core, quiet machine, where this design took 9 us): websocket-client
in a greenlet each 26, `websockets.sync` in a greenlet each 70 and three descriptors, the Sans-I/O protocol in a greenlet each 20,
a libev watcher each 14 to 20, an asyncio loop on gevent 27, picows on uvloop in a thread or child 9 with twice the memory and two
more packages. Also rejected: a pause of 0.2 ms after each look that found few sockets, because refetches start later. (After many
sockets, in the middle of a broadcast, the ring makes one: `loadtests.client.ring`.)

The mux is the load test's `sim.clock.Scheduler`: nanoseconds since 1970 by the monotonic clock, tied to wall time once, so that
the kernel's receive times and everything else are on one scale that never jumps.
"""

from __future__ import annotations

import contextlib
import heapq
import logging
import operator
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import gevent
from gevent import monkey

from loadtests.client.ring import ReceiveRing
from sim.clock import SECOND, Entry
from sim.errors import WorkbenchError

READ, WRITE = 1, 4
"""EPOLLIN and EPOLLOUT, which are POLLIN and POLLOUT as well."""
EDGES = 0x80002000
"""EPOLLET and EPOLLRDHUP: epoll reports a socket once when it becomes ready, and the peer's close as an event of its own. Without
EPOLLET the kernel looks at each socket again after it was read."""

POLL_EVERY = 0.002
"""Seconds between two looks at the sockets where there is no epoll; by as much arrivals may seem later than they are."""

BATCH = 256
"""Sockets or timers served before the hub goes round once: about 3 ms of work."""

TICK = 1 << 18
"""Nanoseconds (a quarter of a ms). Timers that are due within one tick share a list (`Slot`): a heap of all timers would get
thousands of entries in one broadcast. The hub itself rounds to a ms."""

logger = logging.getLogger(__name__)

Call = tuple[int, Callable[..., Any], tuple[Any, ...]]
"""When it is due, the function, its arguments."""

_instant = operator.itemgetter(0)


class Slot(list[Call]):
    """The calls that are due within one tick; `live`: the number of them that were not cancelled."""

    __slots__ = ("live",)
    live: int


class SlotEntry(Entry):
    """A call that can be cancelled: a slot whose calls are all cancelled wakes nothing. Slots are emptied when they are over:
    slot and entry refer to each other, and the garbage collector, which would free them, runs once in minutes."""

    __slots__ = ("slot",)
    slot: Slot

    def cancel(self) -> None:
        if self.callback is not None:
            self.callback, self.args = None, ()
            self.slot.live -= 1


class Readable(Protocol):
    """What the mux watches."""

    def ready(self, events: int) -> None: ...


class Readiness(Protocol):
    """Which sockets are ready: `select.epoll`, or `Polled`."""

    def register(self, descriptor: int, events: int) -> Any: ...

    def modify(self, descriptor: int, events: int) -> Any: ...

    def unregister(self, descriptor: int) -> Any: ...

    def poll(self, timeout: float, most: int) -> list[tuple[int, int]]: ...

    def close(self) -> None: ...


class Polled:
    """poll(2) with the interface of epoll: for macOS and the BSDs. Each look goes through all sockets, so it is for thousands,
    not for tens of thousands."""

    def __init__(self) -> None:
        """Raises AttributeError where there is none."""
        poll = monkey.get_original("select", "poll")()
        self.register, self.modify, self.unregister, self._poll = poll.register, poll.modify, poll.unregister, poll.poll

    def poll(self, timeout: float, most: int) -> list[tuple[int, int]]:
        """All that are ready, whatever *most* says: the next look would begin with the same ones."""
        found: list[tuple[int, int]] = self._poll(timeout * 1000)
        return found

    def close(self) -> None:
        """Nothing to close."""


def readiness() -> Readiness:
    """The best interface that this system has. Raises `WorkbenchError` where it has none."""
    try:
        found: Readiness = monkey.get_original("select", "epoll")()
    except AttributeError:
        try:
            return Polled()
        except AttributeError:
            raise WorkbenchError("the load client needs epoll or poll: Linux, macOS, a BSD, or a container") from None
    return found


def clock_pair() -> tuple[int, int]:
    """(wall, monotonic) in nanoseconds, of the same instant within 0.1 us: the closest of a hundred readings."""
    readings = []
    for _ in range(100):
        before, wall, after = time.monotonic_ns(), time.time_ns(), time.monotonic_ns()
        readings.append((after - before, wall, (before + after) // 2))
    _, wall, monotonic = min(readings)
    return wall, monotonic


class Mux:
    """Create one per process, after the fork, in the thread of the hub that it will live in."""

    def __init__(self, ready: Readiness | None = None, ring: bool = True) -> None:
        """*ready*: None for the best that this system has. *ring*: read by io_uring where that is allowed."""
        self._epoll = ready or readiness()
        self.pair = clock_pair()
        self.offset = self.pair[0] - self.pair[1]
        """Nanoseconds from the monotonic clock to this one."""
        self._loop = gevent.get_hub().loop
        self._watched: dict[int, Readable] = {}
        if isinstance(self._epoll, Polled):
            self._edges = 0
            self._watcher = self._loop.timer(POLL_EVERY, POLL_EVERY)
        else:
            self._edges = EDGES
            self._watcher = self._loop.io(self._epoll.fileno(), 1)  # type: ignore[attr-defined]
        self._watcher.start(self._serve)
        self.ring: ReceiveRing | None = None
        """None: io_uring is not allowed here."""
        if ring and self._edges:
            with contextlib.suppress(OSError):
                self.ring = ReceiveRing(self.offset, self._failed)
                self.watch(self.ring.descriptor, self.ring, READ)
        self._slots: dict[int, Slot] = {}
        self._ticks: list[int] = []
        """The keys of the slots, as a heap."""
        self._due: deque[Call] = deque()
        """Calls of slots whose time has come, which have not been made yet."""
        self._alarm: Any = None
        self._ringing = False
        self.errors = 0
        """Exceptions that callbacks raised: a fault of ours or of the user's page, logged, never fatal."""

    @property
    def waits_by(self) -> str:
        """`io_uring`, `epoll`, or `poll`."""
        return "poll" if isinstance(self._epoll, Polled) else "epoll" if self.ring is None else "io_uring"

    # ---- clock

    def now(self) -> int:
        return time.monotonic_ns() + self.offset

    def step(self) -> int:
        """How far wall time has moved against the monotonic clock since the start, ns. Not 0: the clock was set."""
        wall, monotonic = clock_pair()
        return wall - monotonic - self.offset

    def call_at(self, when: int, callback: Callable[..., Any], *args: Any) -> Entry:
        entry = SlotEntry(callback, args)
        entry.slot = self.post(when, entry.ring)
        return entry

    def post(self, when: int, callback: Callable[..., Any], *args: Any) -> Slot:
        """`call_at` for a call that is never cancelled; returns its slot."""
        tick = when // TICK + 1  # It rings when its tick is over, so never before its time.
        slot = self._slots.get(tick)
        if slot is not None:
            slot.append((when, callback, args))
            slot.live += 1
            return slot
        self._slots[tick] = slot = Slot([(when, callback, args)])
        slot.live = 1
        heapq.heappush(self._ticks, tick)
        if self._ticks[0] == tick and not self._ringing:
            self._set_alarm()
        return slot

    def _set_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.stop()
            self._alarm.close()
            self._alarm = None
        while self._ticks and not self._slots[self._ticks[0]].live:
            self._slots.pop(heapq.heappop(self._ticks)).clear()
        if self._due or self._ticks:
            wait = 0.0 if self._due else max((self._ticks[0] * TICK - self.now()) / SECOND, 0.0)
            self._alarm = self._loop.timer(wait)
            self._alarm.start(self._ring, update=True)

    def _ring(self) -> None:
        due, ticks, now = self._due, self._ticks, self.now() // TICK
        self._ringing = True  # The alarm is set once, when all have rung.
        for _ in range(BATCH):
            if not due:
                if not ticks or ticks[0] > now:
                    break
                slot = self._slots.pop(heapq.heappop(ticks))
                slot.sort(key=_instant)
                due.extend(slot)
                slot.clear()
            _, callback, args = due.popleft()
            try:
                callback(*args)
            except Exception:
                self._failed()
        self._ringing = False
        self._set_alarm()

    # ---- sockets

    def watch(self, descriptor: int, stream: Readable, events: int) -> None:
        """Call `stream.ready(events)` when *descriptor* becomes ready for some of *events* (0: errors and hang-up only). The
        stream takes all there is: it may not be called again for what it leaves."""
        interest = events | self._edges if events & READ else events
        if descriptor in self._watched:
            self._epoll.modify(descriptor, interest)
        else:
            self._epoll.register(descriptor, interest)
        self._watched[descriptor] = stream

    @property
    def watched(self) -> int:
        """The number of sockets."""
        return len(self._watched) + (0 if self.ring is None else len(self.ring) - 1)

    def forget(self, descriptor: int) -> None:
        """Stop watching a descriptor; call it before the descriptor is closed."""
        if self._watched.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def _serve(self) -> None:
        watched = self._watched
        for descriptor, events in self._epoll.poll(0, BATCH):
            stream = watched.get(descriptor)
            if stream is not None:
                try:
                    stream.ready(events)
                except Exception:
                    self._failed()

    def _failed(self) -> None:
        self.errors += 1
        if self.errors <= 10:
            logger.exception("a callback failed (counted; the run goes on)")

    def close(self) -> None:
        """Stop watching and ringing. Streams must have been closed by their owners."""
        self._watcher.stop()
        self._watcher.close()
        self._ticks.clear()
        self._slots.clear()
        self._due.clear()
        self._set_alarm()
        self._epoll.close()
        if self.ring is not None:
            self.ring.close()
