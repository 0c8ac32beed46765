"""Who is told the time, and the virtual clock.

Everything that decides (policies, refetchers, engines) counts integer nanoseconds on a monotonic clock, because ties must be
well defined: with floats `now - last >= wait` is a coin toss at equality, and a timer can re-arm for ever. Seconds appear at
the borders only (scenario files, tables, plots).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
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


class Series:
    """Many things to happen, one after the other, in the place of one entry each."""

    __slots__ = ("callback", "items", "position", "serial", "whens")

    def __init__(self, serial: int, whens: Sequence[int], items: Sequence[Any], callback: Callable[[Any, int], Any]) -> None:
        self.serial = serial
        self.whens = whens
        self.items = items
        self.callback = callback
        self.position = 0


class EventList:
    """Virtual time. Entries at the same instant run in the order in which they were made, so runs are bit-equal."""

    def __init__(self, start: int = 0) -> None:
        self._now = start
        self._heap: list[tuple[int, int, Callable[..., Any], tuple[Any, ...]]] = []
        self._serial = 0
        self._until = _FOR_EVER

    def now(self) -> int:
        return self._now

    def call_at(self, when: int, callback: Callable[..., Any], *args: Any) -> Entry:
        entry = Entry(callback, args)
        self.post(when, entry.ring)
        return entry

    def post(self, when: int, callback: Callable[..., Any], *args: Any) -> None:
        """`call_at` for what is never cancelled, at two thirds of the cost."""
        self._serial = serial = self._serial + 1
        heapq.heappush(self._heap, (when if when > self._now else self._now, serial, callback, args))

    def call_each(self, whens: Sequence[int], items: Sequence[Any], callback: Callable[[Any, int], Any]) -> None:
        """Run `callback(item, when)` for each pair, *whens* ascending and not past.

        The same as one `call_at` each, made now and in this order, but at a tenth of the cost where nothing comes between.
        """
        if len(whens):
            self._serial += 1
            self._push(Series(self._serial, whens, items, callback))

    def run(self, until: int | None = None) -> None:
        """Let time pass until nothing is left to happen, or through instant *until* (entries at *until* included)."""
        heap, pop = self._heap, heapq.heappop
        self._until = last = _FOR_EVER if until is None else until
        while heap and heap[0][0] <= last:
            self._now, _, callback, args = pop(heap)
            callback(*args)
        if until is not None and until > self._now:
            self._now = until

    def _push(self, series: Series) -> None:
        heapq.heappush(self._heap, (series.whens[series.position], series.serial, self._advance, (series,)))

    def _advance(self, series: Series) -> None:
        """Run the series on until an entry of the heap is due before its next item."""
        heap, last = self._heap, self._until
        whens, items, callback, serial = series.whens, series.items, series.callback, series.serial
        for position in range(series.position, len(whens)):
            when = whens[position]
            if when > last or (heap and (heap[0][0] < when or (heap[0][0] == when and heap[0][1] < serial))):
                series.position = position
                self._push(series)
                return
            self._now = when
            callback(items[position], when)
