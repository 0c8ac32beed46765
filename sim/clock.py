"""Who is told the time, and the virtual clock.

Everything that decides (policies, refetchers, engines) counts integer nanoseconds on a monotonic clock, because ties must be
well defined: with floats `now - last >= wait` is a coin toss at equality, and a timer can re-arm for ever. Seconds appear at
the borders only (scenario files, tables, plots).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any, Protocol

SECOND = 1_000_000_000
"""Nanoseconds in a second."""


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


class EventList:
    """Virtual time. Entries at the same instant run in the order in which they were made, so runs are bit-equal."""

    def __init__(self, start: int = 0) -> None:
        self._now = start
        self._heap: list[tuple[int, int, Entry]] = []
        self._serial = 0

    def now(self) -> int:
        return self._now

    def call_at(self, when: int, callback: Callable[..., Any], *args: Any) -> Entry:
        entry = Entry(callback, args)
        self._serial += 1
        heapq.heappush(self._heap, (max(when, self._now), self._serial, entry))
        return entry

    def run(self, until: int | None = None) -> None:
        """Let time pass until nothing is left to happen, or through instant *until* (entries at *until* included)."""
        heap, pop = self._heap, heapq.heappop
        while heap and (until is None or heap[0][0] <= until):
            self._now, _, entry = pop(heap)
            if entry.callback is not None:
                entry.callback(*entry.args)
        if until is not None and until > self._now:
            self._now = until
