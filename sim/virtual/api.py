"""The application that answers: c workers, one first-in-first-out queue, and what may refuse before it.

Work that is admitted is done, whoever gave up meanwhile (PHP does not notice). So the instants at which a request is begun and
finished are known when it arrives (J. Kiefer, J. Wolfowitz 1955): begun when the first worker is free. It reads the state of the
database when it is begun.
"""

from __future__ import annotations

import heapq
from array import array
from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sim.clock import SECOND, EventList, ns
from sim.incidents import Deploy, Outage, Slowdown
from sim.scenario import Scenario

if TYPE_CHECKING:
    from sim.virtual.client import Request

RATE_WINDOW = 60 * SECOND
"""Laravel's limiter counts attempts from a user's first request for one minute, then anew."""

REFUSAL = 300
"""Bytes of a refusal, head and body."""


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """What a page asks for, and what it costs."""

    user: int
    resource: str
    resource_id: int
    commits: list[int]
    """Instants at which its version grew (`Database.commits`)."""
    size: int
    """Bytes of its answer, head and body."""
    extra: int = 0
    """Additional service time, ns."""
    cacheable: bool = True


class Api:
    """Told of arrivals by `arrive`; answers through `Request.answer`."""

    def __init__(self, scenario: Scenario, clock: EventList, service: Callable[[], int], network: Callable[[], int]) -> None:
        api = scenario.api
        self._clock = clock
        self._service = service
        self._network = network
        self._free = [0] * api.workers
        self._queue_limit = api.queue_limit
        self._begins: deque[int] = deque()
        self._rate_limit = api.rate_limit
        self._windows: dict[int, tuple[int, int]] = {}
        self._cache = ns(api.cache)
        self._cached: dict[tuple[str, int, int], tuple[int, int]] = {}
        self._outages = sorted(
            (ns(i.at), ns(i.at) + ns(i.down if isinstance(i, Deploy) else i.duration))
            for i in scenario.incidents
            if isinstance(i, Outage | Deploy)
        )
        self._slow = [(ns(i.at), ns(i.at) + ns(i.duration), i.factor) for i in scenario.incidents if isinstance(i, Slowdown)]
        self._releases = sorted(ns(i.at) for i in scenario.incidents if isinstance(i, Deploy))
        self._troubled = bool(self._outages or self._slow or self._releases)
        self.work: array[int] = array("q")
        """Arrival, begin and end of each request that was worked on, ns."""
        self.refused = 0

    def arrive(self, request: Request, attempt: int) -> None:
        """A request is here now."""
        now = self._clock.now()
        view = request.view
        if self._rate_limit is not None and not self._allowed(view.user, now):
            self._refuse(request, attempt, 429)
            return
        if self._cache and view.cacheable:
            key = (view.resource, view.resource_id, view.user if view.resource == "dashboard" else 0)
            version, ready = self._cached.get(key, (0, -RATE_WINDOW))
            if now <= ready + self._cache:
                self._answer(request, attempt, max(now, ready), version, 200, view.size)
                return
        if self._queue_limit is not None and self._waiting(now) >= self._queue_limit:
            self._refuse(request, attempt, 503)
            return
        free = self._free[0]
        begin = now if now > free else free
        service = self._service() + view.extra
        if self._troubled:
            begin, service = self._trouble(begin, service)
        end = begin + service
        heapq.heapreplace(self._free, end)
        self.work.extend((now, begin, end))
        if self._queue_limit is not None:
            self._begins.append(begin)
        version = bisect_right(view.commits, begin)
        if self._cache and view.cacheable:
            self._cached[key] = (version, end)
        status = 200
        if self._releases and request.made_at < self._released(begin):
            status = 409
        self._clock.call_at(end + self._network(), request.answer, attempt, version, status, view.size)

    def _answer(self, request: Request, attempt: int, at: int, version: int, status: int, size: int) -> None:
        self._clock.call_at(at + self._network(), request.answer, attempt, version, status, size)

    def _refuse(self, request: Request, attempt: int, status: int) -> None:
        self.refused += 1
        self._answer(request, attempt, self._clock.now(), -1, status, REFUSAL)

    def _allowed(self, user: int, now: int) -> bool:
        since, count = self._windows.get(user, (-RATE_WINDOW, 0))
        if now >= since + RATE_WINDOW:
            since, count = now, 0
        self._windows[user] = (since, count + 1)
        return count < (self._rate_limit or 0)

    def _waiting(self, now: int) -> int:
        """Requests that are not begun yet; begins are in order, because the queue is."""
        begins = self._begins
        while begins and begins[0] <= now:
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
        """Instant of the last release up to *at*; -1: none yet."""
        done = bisect_right(self._releases, at)
        return self._releases[done - 1] if done else -1
