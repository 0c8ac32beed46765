"""What a clock that can ring offers, and the virtual clock.

Everything that decides (policies, refetchers, engines) counts integer nanoseconds on a monotonic clock, because ties must be
well defined: with floats `now - last >= wait` is a coin toss at equality, and a timer can re-arm for ever. Seconds appear at
the borders only (scenario files, tables, plots).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from heapq import heappop, heappush
from itertools import chain, repeat
from typing import Any, Protocol

SECOND = 1_000_000_000
"""Nanoseconds in a second."""

_FOR_EVER = (1 << 63) - 1

LONG_AGO = -(1 << 62)
"""Before every instant."""


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

    __slots__ = ("_callback", "_clock", "_entries", "_silence")

    def __init__(
        self,
        clock: EventList,
        callback: Callable[[Any, int], Any],
        entries: Iterable[tuple[int, int, Any]] = (),
        silence: int | None = None,
    ) -> None:
        self._clock = clock
        self._callback = callback
        self._entries = deque(entries)
        """(instant, serial, item); the first stays until it has run."""
        self._silence = silence
        if self._entries:
            self._wait_for_first()

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
            self._wait_for_first()

    def _wait_for_first(self) -> None:
        when, serial, _ = self._entries[0]
        heappush(self._clock._heap, (when, serial, self._run, ()))

    def _run(self) -> None:
        """Run its entries until one of the event list is due before the next."""
        clock, heap, entries, callback = self._clock, self._clock._heap, self._entries, self._callback
        silence = self._silence
        while True:
            when, _, item = entries[0]
            if silence is None or when >= item.heard_at + silence or when != item.alarm_at:
                clock._now = when
                callback(item, when)
            else:
                item.alarm_at = item.quiet_until = later = item.heard_at + silence
                if later < entries[-1][0]:
                    self.post(later, item)
                else:  # written out, because most timers end here
                    clock._serial = serial = clock._serial + 1
                    entries.append((later, serial, item))
            entries.popleft()
            if not entries:
                return
            if heap[0] < entries[0]:
                self._wait_for_first()
                return


class Listener(Protocol):
    """Hears what arrives. While it waits for silence an arrival only counts, and is the last so far; so it is not called then,
    which spares most calls of a run."""

    quiet_until: int
    """Arrivals before this instant are noted here; of others it is notified."""
    alarm_at: int
    """When its timer rings."""
    heard_at: int
    """The last arrival."""
    unanswered: int
    """Arrivals that it has not done anything about."""

    def notified(self, at: int) -> None: ...


class ListenerRef(Protocol):
    """What leads to a listener, which may be another one on the way."""

    listener: Listener


class Series:
    """Arrivals at many, one after the other, in the place of one entry each."""

    __slots__ = ("head", "of", "rest", "serial")

    def __init__(self, serial: int, arrivals: Iterator[tuple[int, ListenerRef]], of: Any) -> None:
        self.serial = serial
        self.head = next(arrivals)
        self.rest = arrivals
        self.of = of


class EventList:
    """Virtual time. Entries at the same instant run in the order in which they were made, so runs are bit-equal."""

    def __init__(self, start: int = 0) -> None:
        self._now = start
        self._heap: list[tuple[int, int, Callable[..., Any], tuple[Any, ...]]] = []
        self._serial = 0
        self._lanes: dict[Hashable, Lane] = {}
        self.telling: Any = None
        """The series that is being delivered (`tell_each`): its *of*."""

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

    def lane(self, name: Hashable, callback: Callable[[Any, int], Any], silence: int | None = None) -> Lane:
        """The lane *name*, for entries that are mostly made in the order of their instants, as timers of one length are.

        *silence*: its items are `Listener`s, and run when they have heard nothing for this long: what is heard while an entry
        waits puts it off.
        """
        lane = self._lanes.get(name)
        if lane is None:
            lane = self._lanes[name] = Lane(self, callback, silence=silence)
        return lane

    def call_each(self, whens: Sequence[int], items: Iterable[Any], callback: Callable[[Any, int], Any]) -> None:
        """Run `callback(item, when)` for each pair, *whens* ascending and not past: as one `call_at` each, made now, in order."""
        self._serial += 1
        Lane(self, callback, zip(whens, repeat(self._serial), items))

    def tell_each(self, whens: Sequence[int], connections: Sequence[ListenerRef], of: Any) -> None:
        """Run `connection.listener.notified(when)` for each pair, as `call_each`, at a tenth of the cost of an entry each.
        Meanwhile `telling` is *of*."""
        if len(whens):
            self._serial += 1
            self._push(Series(self._serial, zip(whens, connections, strict=True), of))

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
        heappush(self._heap, (series.head[0], series.serial, self._advance, (series,)))

    def _advance(self, series: Series) -> None:
        """Run the series on until an entry of the heap is due before its next item."""
        heap, serial = self._heap, series.serial
        self.telling = series.of
        due = _FOR_EVER
        first = None
        for when, connection in chain((series.head,), series.rest):
            if heap[0] is not first:
                first = heap[0]
                due = first[0] + (first[1] > serial)  # what was made later comes after an arrival of its instant
            if when >= due:
                series.head = when, connection
                self._push(series)
                return
            listener = connection.listener
            if when < listener.quiet_until:
                listener.heard_at = when
                listener.unanswered += 1
            else:
                self._now = when
                listener.notified(when)


def _nothing() -> None:
    """The end of a stretch of time (`EventList.run`)."""
