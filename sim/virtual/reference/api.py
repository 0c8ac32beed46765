"""The application that answers: c workers, one first-in-first-out queue, and what may refuse before it.

Work that is admitted is done, even if its page has given up meanwhile (PHP does not notice). So all about a request is known when
it arrives: it begins when the first worker is free (J. Kiefer, J. Wolfowitz 1955), and then reads the state of the database.
Nothing here waits; the caller gets the answer at once, with the instant at which it leaves.

A change that sends its event to the broadcaster itself keeps its worker until the broadcaster has answered. That instant is not
known in advance. While such workers are held and no other is free, requests wait in a queue here until a worker is free.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush, heapreplace
from itertools import islice

import numpy as np

from sim.arrays import Array
from sim.clock import SECOND, EventList, ns
from sim.incidents import Deploy, Outage, Slowdown
from sim.scenario import Scenario
from sim.virtual.database import History, away

RATE_WINDOW = 60 * SECOND
"""Laravel's limiter counts attempts from a user's first request for one minute, then anew."""

REFUSAL = 300
"""Bytes of a refusal, head and body."""

NO_ANSWER = 0
"""In the place of a status: the connection was refused."""

NO_RELEASE = 1 << 62
"""In the place of the instant at which a page was loaded: no release is newer, so it is never answered by 409."""

LONG_AGO = -(1 << 62)

FAR = 1 << 61
"""An instant after any run: no queue is longer, so that instants have 64 bits."""

NOT_READ = -1
"""In a column of instants at which the database was read."""

Answer = tuple[int, int | None, int, int]
"""(instant at which it leaves, instant at which it read the database (None: it did not), status, bytes)."""

WAITS: Answer = (0, None, 0, 0)
"""In the place of an answer that is not known yet."""

Key = tuple[str, int, int, int]

Began = Callable[[int], int | None]
"""Called with the instant at which a worker begins a change; returns when it will be done, None: `release` will say."""

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


class ApiStation:
    """The workers and their queue. Arrivals are given in their order: when each is sent (`answer`), or when it arrives
    (`request`, `change`)."""

    def __init__(self, scenario: Scenario, service: Callable[[], int], clock: EventList | None = None) -> None:
        """*clock*: needed where changes are worked on as well (`request`, `change`)."""
        api, incidents = scenario.api, scenario.incidents
        self._clock = clock
        self._service = service
        self._free = [0] * api.workers
        """Heap: when each worker that is not held is free."""
        self._held: list[tuple[int, int]] = []
        """Of each worker that a change holds: the change's arrival, and its begin."""
        self._queue: deque[tuple[int, Callable[[], None]]] = deque()
        """What cannot be settled yet: arrival, and what to do when it can."""
        self._wakes_at = -1
        self._queue_limit = api.queue_limit
        self._begins: deque[int] = deque()
        self._rate_limit = api.rate_limit
        self._windows: dict[int, tuple[int, int]] = {}
        self._cache = ns(api.cache)
        self._cached: dict[Key, tuple[Answer, int]] = {}
        """The last answer to each, made or being made, and until when it is shared."""
        self._awaited: dict[Key, list[Callable[[Answer], None]]] = {}
        """Who waits for an answer that waits in the queue."""
        self._outages = sorted((ns(i.at), ns(i.at) + ns(i.duration)) for i in incidents if isinstance(i, Outage))
        self._away = away(scenario)
        self._slow = [(ns(i.at), ns(i.at) + ns(i.duration), i.factor) for i in incidents if isinstance(i, Slowdown)]
        self._releases = sorted(ns(i.at) for i in incidents if isinstance(i, Deploy))
        self._troubled = bool(self._outages or self._slow)
        self._guarded = api.rate_limit is not None or api.queue_limit is not None or bool(self._cache) or bool(self._away)
        self._plain = not (self._troubled or self._guarded or self._releases)
        self._log = bytearray()
        self.answer: Callable[[View, int, int], Answer] = self._plain_answer() if self._plain else self._answer
        """(view, made_at, at) -> the answer to a request for *view* that arrives at instant *at*; its page was loaded at
        *made_at*."""
        self._over = ns(scenario.length)
        self.refused = 0
        """Of what has arrived when the run ends."""
        self.from_cache = 0

    def _answer(self, view: View, made_at: int, at: int) -> Answer:
        if self._guarded:
            early = self._guard(view, made_at, at)
            if early is not None:
                return early
        return self._settle(view, made_at, at)

    def _plain_answer(self) -> Callable[[View, int, int], Answer]:
        """`answer` where nothing goes wrong, nor may."""
        free, service, log = self._free, self._service, self._log.extend

        def serve(view: View, made_at: int, at: int) -> Answer:
            begin = free[0]
            if begin < at:
                begin = at
            elif begin > FAR:
                begin = FAR
            end = begin + service() + view.extra
            heapreplace(free, end)
            log(_work(at, begin, end))
            return end, begin, 200, view.size

        return serve

    def answer_all(self, views: Sequence[View], number: Array, at: Array) -> tuple[Array, Array, Array, Array]:
        """As `answer` for each of many requests, of pages that no release tells to load anew, in the order of their arrival *at*:
        columns. *number*: of the view that each asks for."""
        if not self._plain:
            found = [
                self.answer(views[view], NO_RELEASE, arrival) for view, arrival in zip(number.tolist(), at.tolist(), strict=True)
            ]
            rows = [(end, NOT_READ if read_at is None else read_at, status, size) for end, read_at, status, size in found]
            ends, reads, status, size = np.array(rows, np.int64).reshape(-1, 4).T.copy()
            return ends, reads, status, size
        if number.size < len(views):
            views, number = [views[view] for view in number.tolist()], np.arange(number.size)
        extra = np.array([view.extra for view in views], np.int64)[number]
        service = np.fromiter(islice(iter(self._service, None), at.size), np.int64, at.size) + extra
        begins, free = [], self._free
        for arrival, needs in zip(at.tolist(), service.tolist(), strict=True):
            begin = free[0]
            if begin < arrival:
                begin = arrival
            elif begin > FAR:
                begin = FAR
            begins.append(begin)
            heapreplace(free, begin + needs)
        reads = np.array(begins, np.int64)
        ends = reads + service
        self._log += np.stack([at, reads, ends], axis=1).tobytes()
        return ends, reads, np.full(at.size, 200), np.array([view.size for view in views], np.int64)[number]

    def request(self, view: View, made_at: int, at: int, heard: Callable[[Answer], None]) -> None:
        """As `answer`, for a request that arrives now, where changes are worked on as well: *heard* is called with the answer
        when it is known, now or later, but not after it leaves."""
        early = self._guard(view, made_at, at, heard) if self._guarded else None
        if early is WAITS:
            return
        if early is not None:
            heard(early)
            return
        key, listeners = self._key(view, made_at), [heard]

        def settle() -> None:
            self._awaited.pop(key, None)
            answer = self._settle(view, made_at, at)
            for listener in listeners:
                listener(answer)

        if self._cache and view.cacheable:
            self._awaited[key] = listeners
        self._take_turn(at, settle)

    def change(self, at: int, begins: Began) -> bool:
        """A change arrives now, and waits for a worker like any request; False: it is refused, because the queue is full or
        there is no application."""
        if self._is_away(at) or self._is_full(at):
            self.refused += at <= self._over
            return False
        self._take_turn(at, lambda: self._settle_change(at, begins))
        return True

    def release(self, arrived_at: int, begin: int) -> None:
        """The worker that was held by a change since *begin* is free from now on."""
        now = self._now()
        self._held.remove((arrived_at, begin))
        self._log += _work(arrived_at, begin, now)
        heappush(self._free, now)
        self._settle_queue()

    def slowed(self, at: int, service: int) -> int:
        """*service* of what begins at *at*, stretched by a slowdown."""
        for start, end, factor in self._slow:
            if start <= at < end:
                service = round(service * factor)
        return min(service, FAR)

    def _now(self) -> int:
        assert self._clock is not None, "changes need a clock"
        return self._clock.now()

    def _can_settle(self) -> bool:
        """Is the next worker known? A worker that is free now is; a later one only while none is held."""
        return bool(self._free) and (not self._held or self._free[0] <= self._now())

    def _take_turn(self, at: int, settle: Callable[[], None]) -> None:
        self._queue.append((at, settle))
        self._settle_queue()

    def _settle_queue(self) -> None:
        while self._queue and self._can_settle():
            self._queue.popleft()[1]()
        if self._queue and self._free and self._free[0] != self._wakes_at:
            assert self._clock is not None
            self._wakes_at = self._free[0]
            self._clock.post(self._wakes_at, self._settle_queue)

    def _settle(self, view: View, made_at: int, at: int) -> Answer:
        if self._plain:
            return self.answer(view, made_at, at)
        begin, service = min(max(self._free[0], at), FAR), self._service() + view.extra
        if self._troubled:
            begin = self._begun(begin)
            service = self.slowed(begin, service)
        end = begin + service
        heapreplace(self._free, end)
        self._log += _work(at, begin, end)
        if self._guarded:
            self._begins.append(begin)
        late = self._releases and made_at < self._released(begin)
        answer = (end, None, 409, REFUSAL) if late else (end, begin, 200, view.size)
        if self._cache and view.cacheable:
            self._cached[self._key(view, made_at)] = answer, end if late else end + self._cache
        return answer

    def _settle_change(self, at: int, begins: Began) -> None:
        begin = self._begun(max(heappop(self._free), at))
        if self._guarded:
            self._begins.append(begin)
        end = begins(begin)
        if end is None:
            self._held.append((at, begin))
        else:
            self._log += _work(at, begin, end)
            heappush(self._free, end)

    def work(self) -> Array:
        """int64 (n, 3): arrival, begin and end of each request that had arrived when the run was over, ns. What still held its
        worker then ends there, and what waited for one that was held begins there."""
        unsettled = [(at, begin, self._over) for at, begin in self._held] + [
            (at, self._over, self._over) for at, _ in self._queue
        ]
        rows = np.concatenate([np.frombuffer(self._log, np.int64), np.array(unsettled, np.int64).ravel()]).reshape(-1, 3)
        return rows[rows[:, 0] <= self._over]

    def _guard(self, view: View, made_at: int, at: int, heard: Callable[[Answer], None] | None = None) -> Answer | None:
        """An answer that no worker has to make: refused, or remembered. `WAITS`: *heard* gets it with another's."""
        if self._is_away(at):
            return at, None, NO_ANSWER, 0
        if self._rate_limit is not None and not self._allowed(view.user, at):
            self.refused += at <= self._over
            return at, None, 429, REFUSAL
        if self._cache and view.cacheable:
            # A request that comes while the answer is being made waits for it.
            key = self._key(view, made_at)
            if heard is not None and key in self._awaited:
                self.from_cache += at <= self._over
                self._awaited[key].append(heard)
                return WAITS
            (ready, read_at, status, size), until = self._cached.get(key, (WAITS, LONG_AGO))
            if at <= until:
                self.from_cache += at <= self._over
                return max(at, ready), read_at, status, size
        if self._is_full(at):
            self.refused += at <= self._over
            return at, None, 503, REFUSAL
        return None

    def _is_full(self, at: int) -> bool:
        """Is the queue full, and no worker free to begin?"""
        if self._queue_limit is None or (self._free and self._free[0] <= at == self._begun(at) and not self._queue):
            return False
        return self._waiting(at) + len(self._queue) >= self._queue_limit

    def _is_away(self, at: int) -> bool:
        """Is its port closed?"""
        return any(start <= at < end for start, end in self._away)

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

    def _begun(self, begin: int) -> int:
        """When a worker that is free at *begin* begins: not in an outage."""
        for start, end in self._outages:
            if start <= begin < end:
                begin = end
        return begin

    def _released(self, at: int) -> int:
        """Instant of the last release up to *at*; long ago: none yet."""
        done = bisect_right(self._releases, at)
        return self._releases[done - 1] if done else LONG_AGO

    def _key(self, view: View, made_at: int) -> Key:
        """What makes two refetches identical: the resource, for a dashboard whose it is, and which release the page is of."""
        release = bisect_right(self._releases, made_at)
        return view.resource, view.resource_id, view.user if view.resource == "dashboard" else 0, release
