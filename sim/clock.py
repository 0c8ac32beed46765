"""Who is told the time, and the virtual clock.

Everything that decides (policies, refetchers, engines) counts integer nanoseconds on a monotonic clock, because ties must be
well defined: with floats `now - last >= wait` is a coin toss at equality, and a timer can re-arm for ever. Seconds appear at
the borders only (scenario files, tables, plots).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from heapq import heappop, heappush
from itertools import repeat
from typing import Any, Protocol

SECOND = 1_000_000_000
"""Nanoseconds in a second."""

_FOR_EVER = (1 << 63) - 1


def ns(seconds: float) -> int:
    """Seconds to integer nanoseconds, rounded to the nearest."""
    return round(seconds * SECOND)


class Timer(Protocol):
    """What `call_at` returns: `cancel()` before it rings and it will not."""

    def cancel(self) -> None: ...


class Scheduler(Protocol):
    """A clock that can ring: virtual (`EventList`) or real (the load test's mux)."""

    def now(self) -> int:
        """The present instant, nanoseconds, monotonic."""
        ...

    def call_at(self, when: int, callback: Callable[..., Any], *args: Any) -> Timer:
        """Run `callback(*args)` at instant *when* (at once, but never re-entrantly, when that is past)."""
        ...


class Entry:
    """One thing to happen. Cancelling marks it; it is skipped when its turn comes."""

    __slots__ = ("args", "callback")

    def __init__(self, callback: Callable[..., Any] | None, args: tuple[Any, ...]) -> None:
        self.callback = callback
        self.args = args

    def cancel(self) -> None:
        self.callback = None

    def ring(self) -> None:
        if self.callback is not None:
            self.callback(*self.args)


class Lane:
    """Entries of one callback, each in order when it is made, of which the event list holds the first only.

    Made by `EventList.lane`. One that comes out of order goes to the event list itself, so order costs nothing but time.
    """

    __slots__ = ("_callback", "_clock", "_entries")

    def __init__(
        self, clock: EventList, callback: Callable[[Any, int], Any], entries: Iterable[tuple[int, int, Any]] = ()
    ) -> None:
        self._clock = clock
        self._callback = callback
        self._entries = deque(entries)
        """(instant, serial, item); the first stays until it has run."""
        if self._entries:
            self._wait()

    def post(self, when: int, item: Any) -> None:
        """Run `callback(item, when)` at instant *when*, which is not past."""
        clock, entries = self._clock, self._entries
        clock._serial = serial = clock._serial + 1
        if entries:
            if when >= entries[-1][0]:
                entries.append((when, serial, item))
            else:
                heappush(clock._heap, (when, serial, self._callback, (item, when)))
        else:
            entries.append((when, serial, item))
            self._wait()

    def _wait(self) -> None:
        when, serial, _ = self._entries[0]
        heappush(self._clock._heap, (when, serial, self._run, ()))

    def _run(self) -> None:
        """Run its entries until one of the event list is due before the next."""
        clock, heap, entries, callback = self._clock, self._clock._heap, self._entries, self._callback
        while True:
            when, _, item = entries[0]
            clock._now = when
            callback(item, when)
            entries.popleft()
            if not entries:
                return
            if heap[0] < entries[0]:
                self._wait()
                return


class Hearer(Protocol):
    """Who can be told that something has arrived at an instant. What `hear` is may change on the way."""

    hear: Callable[[int], Any]


class Series:
    """Many who hear, one after the other, in the place of one entry each."""

    __slots__ = ("hearers", "of", "position", "serial", "whens")

    def __init__(self, serial: int, whens: Sequence[int], hearers: Sequence[Hearer], of: Any) -> None:
        self.serial = serial
        self.whens = whens
        self.hearers = hearers
        self.of = of
        self.position = 0


class EventList:
    """Virtual time. Entries at the same instant run in the order in which they were made, so runs are bit-equal."""

    def __init__(self, start: int = 0) -> None:
        self._now = start
        self._heap: list[tuple[int, int, Callable[..., Any], tuple[Any, ...]]] = []
        self._serial = 0
        self._lanes: dict[Hashable, Lane] = {}
        self.telling: Any = None
        """Whose series is told now (`tell_each`)."""

    def now(self) -> int:
        return self._now

    def call_at(self, when: int, callback: Callable[..., Any], *args: Any) -> Entry:
        entry = Entry(callback, args)
        self.post(when, entry.ring)
        return entry

    def post(self, when: int, callback: Callable[..., Any], *args: Any) -> None:
        """`call_at` for what is never cancelled, at two thirds of the cost."""
        self._serial = serial = self._serial + 1
        heappush(self._heap, (when if when > self._now else self._now, serial, callback, args))

    def lane(self, name: Hashable, callback: Callable[[Any, int], Any]) -> Lane:
        """The lane *name*, for entries that are mostly made in the order of their instants, as timers of one length are."""
        lane = self._lanes.get(name)
        if lane is None:
            lane = self._lanes[name] = Lane(self, callback)
        return lane

    def call_each(self, whens: Sequence[int], items: Iterable[Any], callback: Callable[[Any, int], Any]) -> None:
        """Run `callback(item, when)` for each pair, *whens* ascending and not past: as one `call_at` each, made now, in order."""
        self._serial += 1
        Lane(self, callback, zip(whens, repeat(self._serial), items))

    def tell_each(self, whens: Sequence[int], hearers: Sequence[Hearer], of: Any) -> None:
        """Run `hearer.hear(when)` for each pair, as `call_each`, at a tenth of the cost of an entry each. Meanwhile `telling` is
        *of*."""
        if len(whens):
            self._serial += 1
            self._push(Series(self._serial, whens, hearers, of))

    def run(self, until: int | None = None) -> None:
        """Let time pass until nothing is left to happen, or through instant *until* (entries at *until* included)."""
        heap, last = self._heap, _FOR_EVER if until is None else until
        # The first entry past *until*, so that nothing else has to look at that instant.
        heappush(heap, (last + 1, 0, _nothing, ()))
        while True:
            when, _, callback, args = heappop(heap)
            if when > last:
                break
            self._now = when
            callback(*args)
        if until is not None and until > self._now:
            self._now = until

    def _push(self, series: Series) -> None:
        heappush(self._heap, (series.whens[series.position], series.serial, self._advance, (series,)))

    def _advance(self, series: Series) -> None:
        """Run the series on until an entry of the heap is due before its next item."""
        heap, whens, hearers, serial = self._heap, series.whens, series.hearers, series.serial
        self.telling = series.of
        for position in range(series.position, len(whens)):
            when = whens[position]
            first = heap[0]
            if first[0] <= when and (first[0] < when or first[1] < serial):
                series.position = position
                self._push(series)
                return
            self._now = when
            hearers[position].hear(when)


def _nothing() -> None:
    """The end of a stretch of time (`EventList.run`)."""
