"""The application that answers: c workers, one first-in-first-out queue, and what may refuse before it.

Work that is admitted is done, whoever gave up meanwhile (PHP does not notice). So all about a request is settled when it arrives:
it is begun when the first worker is free (J. Kiefer, J. Wolfowitz 1955), and then reads the state of the database. Nothing here
waits; who asks gets the instant of the answer with it.
"""

from __future__ import annotations

import heapq
import struct
from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from sim.clock import SECOND, ns
from sim.incidents import Deploy, Outage, Slowdown
from sim.scenario import Scenario
from sim.virtual.database import History

RATE_WINDOW = 60 * SECOND
"""Laravel's limiter counts attempts from a user's first request for one minute, then anew."""

REFUSAL = 300
"""Bytes of a refusal, head and body."""

LONG_AGO = -(1 << 62)

Answer = tuple[int, int | None, int, int]
"""(instant at which it leaves, version (None: it has none), status, bytes)."""

_work = struct.Struct("=3q").pack


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """What a page asks for, and what it costs."""

    user: int
    resource: str
    resource_id: int
    history: History
    """When its version grew, and to what (`Database.history`)."""
    size: int
    """Bytes of its answer, head and body."""
    extra: int = 0
    """Additional service time, ns."""
    cacheable: bool = True


class Api:
    """Told of each arrival, in their order."""

    def __init__(self, scenario: Scenario, service: Callable[[], int]) -> None:
        api, incidents = scenario.api, scenario.incidents
        self._service = service
        self._free = [0] * api.workers
        self._queue_limit = api.queue_limit
        self._begins: deque[int] = deque()
        self._rate_limit = api.rate_limit
        self._windows: dict[int, tuple[int, int]] = {}
        self._cache = ns(api.cache)
        self._cached: dict[tuple[str, int, int], tuple[int, int]] = {}
        self._outages = sorted(
            (ns(i.at), ns(i.at) + ns(i.down if isinstance(i, Deploy) else i.duration))
            for i in incidents
            if isinstance(i, Outage | Deploy)
        )
        self._slow = [(ns(i.at), ns(i.at) + ns(i.duration), i.factor) for i in incidents if isinstance(i, Slowdown)]
        self._releases = sorted(ns(i.at) for i in incidents if isinstance(i, Deploy))
        self._troubled = bool(self._outages or self._slow)
        self._guarded = api.rate_limit is not None or api.queue_limit is not None or bool(self._cache)
        self._log = bytearray()
        self.refused = 0
        self.from_cache = 0

    def answer(self, view: View, made_at: int, at: int) -> Answer:
        """The answer to a request for *view* that arrives at instant *at*; its page was loaded at *made_at*."""
        if self._guarded:
            early = self._guard(view, at)
            if early is not None:
                return early
        begin = self._free[0]
        if begin < at:
            begin = at
        service = self._service() + view.extra
        if self._troubled:
            begin, service = self._trouble(begin, service)
        end = begin + service
        heapq.heapreplace(self._free, end)
        self._log += _work(at, begin, end)
        version = view.history.at(begin)
        if self._guarded:
            self._begins.append(begin)
            if view.cacheable:
                self._cached[_key(view)] = (version, end)
        if self._releases and made_at < self._released(begin):
            return end, version, 409, REFUSAL
        return end, version, 200, view.size

    def work(self) -> np.ndarray[Any, Any]:
        """int64 (n, 3): arrival, begin and end of each request that was worked on, ns, in order of arrival."""
        return np.frombuffer(self._log, np.int64).reshape(-1, 3)

    def _guard(self, view: View, at: int) -> Answer | None:
        """An answer that no worker has to make: refused, or remembered."""
        if self._rate_limit is not None and not self._allowed(view.user, at):
            self.refused += 1
            return at, None, 429, REFUSAL
        if self._cache and view.cacheable:
            # Who comes while the answer is being made waits for it.
            version, ready = self._cached.get(_key(view), (0, LONG_AGO))
            if at <= ready + self._cache:
                self.from_cache += 1
                return max(at, ready), version, 200, view.size
        if self._queue_limit is not None and self._waiting(at) >= self._queue_limit and self._free[0] > at:
            self.refused += 1
            return at, None, 503, REFUSAL
        return None

    def _allowed(self, user: int, at: int) -> bool:
        since, count = self._windows.get(user, (LONG_AGO, 0))
        if at >= since + RATE_WINDOW:
            since, count = at, 0
        self._windows[user] = (since, count + 1)
        return count < (self._rate_limit or 0)

    def _waiting(self, at: int) -> int:
        """Requests that are not begun at instant *at*; begins are in order, because the queue is."""
        begins = self._begins
        while begins and begins[0] <= at:
            begins.popleft()
        return len(begins)

    def _trouble(self, begin: int, service: int) -> tuple[int, int]:
        for start, end in self._outages:
            if start <= begin < end:
                begin = end
        for start, end, factor in self._slow:
            if start <= begin < end:
                service = round(service * factor)
        return begin, service

    def _released(self, at: int) -> int:
        """Instant of the last release up to *at*; long ago: none yet."""
        done = bisect_right(self._releases, at)
        return self._releases[done - 1] if done else LONG_AGO


def _key(view: View) -> tuple[str, int, int]:
    """What makes two refetches identical: the resource, and for a dashboard whose it is."""
    return view.resource, view.resource_id, view.user if view.resource == "dashboard" else 0
