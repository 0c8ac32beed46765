"""The application's workers: how many requests are worked on together, how long each takes, and what may refuse before.

    arrive -+- refused by the rate limit, or answered from the cache: at once, no worker is asked
            +- the queue is full (`api.queue_limit`): 503 at once
            +- the queue, first come first served -> a worker -> the answer

A page holds its worker for `api.service` (and `service_per_row` for each server of a dashboard); what the handler itself takes
counts into that time, and only what is left of it is waited for. A change holds its worker until its answer: lock, save
(`api.save`), commit and, with `dispatch = "now"`, the broadcaster; with `save_workers = "own"`, or where a save takes no time, it
holds none.

A request that was admitted is worked on, whether its client still waits or not. The simulator's application
(`sim.virtual.reference.api`) means the same by the same keys: a worker that is free begins at once, and one that becomes free
begins its next request at the instant at which the last one was due to end, so that a timer that rings late delays one answer
and not all that follow.

What has nothing to do with pages and changes (`/up`, `/metrics`, the board's files) needs no worker.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from sim.brokeforge.application import Application, Visit
from sim.brokeforge.http import HttpError, Response
from sim.clock import Scheduler, ns

Done = Callable[[Response], None]
InThread = Callable[[Callable[[], Response], Done], None]
"""`in_thread(work, done)`: run *work* on a thread, then *done* with its result where the station runs."""

KEPT_ANSWERS = 10_000
"""Answers that the cache holds; beyond this it starts anew."""


@dataclass(slots=True)
class Kept:
    """An answer in the cache: being made while `waiting` is a list, kept until an instant afterwards."""

    waiting: list[tuple[Visit, Done]] | None = field(default_factory=list)
    answer: Response | None = None
    until: int = 0


class Station:
    """Works on visits. *service* draws the next refetch's duration, ns. Called on one thread only."""

    def __init__(
        self,
        app: Application,
        clock: Scheduler,
        in_thread: InThread,
        service: Callable[[], int],
    ) -> None:
        api = app.api
        self._app = app
        self._clock = clock
        self._in_thread = in_thread
        self._service = service
        self._per_row = ns(api.service_per_row)
        self._cache = ns(api.cache)
        self._limit = api.queue_limit
        self._free = [clock.now()] * api.workers
        """Of each idle worker, the instant since which it is; a heap."""
        self._queue: deque[tuple[Visit, Done, int]] = deque()
        self._kept: dict[tuple[object, ...], Kept] = {}
        self._workers = api.workers
        self._elsewhere = not api.changes_need_workers
        self._closed = False
        self._open_since = clock.now()
        self._beginning = False

    @property
    def waiting(self) -> int:
        return len(self._queue)

    @property
    def busy(self) -> int:
        return self._workers - len(self._free)

    def stop_beginning(self) -> None:
        """An outage: no worker begins a request; those that come wait, as far as the queue goes."""
        self._closed = True

    def begin_again(self) -> None:
        """The outage is over."""
        self._closed = False
        self._open_since = self._clock.now()
        self._begin()

    def submit(self, visit: Visit, done: Done) -> None:
        """Work on *visit*; *done* is called once with its answer, now or later."""
        if not visit.needs_worker or (self._elsewhere and visit.changes):
            if self._app.blocks(visit):
                self._in_thread(lambda: self._app.answer(visit), lambda response: self._leave(visit, done, response))
            else:
                self._leave(visit, done, self._app.answer(visit))
            return
        now = self._clock.now()
        key = visit.cache_key if self._cache else None
        if key is not None and (kept := self._kept.get(key)) is not None:
            if kept.waiting is not None:
                kept.waiting.append((visit, done))
                return
            if now <= kept.until and kept.answer is not None:
                self._leave(visit, done, kept.answer)
                return
        if self._limit is not None and len(self._queue) >= self._limit and (self._closed or not self._free):
            refusal = HttpError(503, "Too many requests are waiting.", headers=(("Retry-After", "1"),))
            self._leave(visit, done, refusal.response())
            return
        if key is not None:
            if len(self._kept) >= KEPT_ANSWERS:
                self._kept = {k: kept for k, kept in self._kept.items() if kept.waiting is not None}
            self._kept[key] = Kept()
        self._queue.append((visit, done, now))
        self._begin()

    def _begin(self) -> None:
        if self._beginning:
            return  # a request that took no time has ended within the loop below, which goes on with the next
        self._beginning = True
        while self._free and self._queue and not self._closed:
            visit, done, arrived_at = self._queue.popleft()
            self._work(visit, done, max(heapq.heappop(self._free), arrived_at, self._open_since))
        self._beginning = False

    def _work(self, visit: Visit, done: Done, begin: int) -> None:
        """*begin*: when the worker was due to begin; the present, or a moment ago."""
        factor, cost = self._app.factor, 0 if visit.changes else self._service()

        def made(response: Response) -> None:
            """The handler is done; its worker is free when the visit's time is over, or now if that has passed."""
            due = begin + round((cost + self._per_row * response.rows) * factor)
            self._at(due, self._answered, visit, done, response, max(due, self._clock.now()))

        if self._app.blocks(visit):
            self._in_thread(lambda: self._app.answer(visit), made)
        else:
            made(self._app.answer(visit))

    def _answered(self, visit: Visit, done: Done, response: Response, freed_at: int) -> None:
        heapq.heappush(self._free, freed_at)
        if self._cache and (key := visit.cache_key) is not None and (kept := self._kept.get(key)) is not None:
            waiting, kept.waiting = kept.waiting or [], None
            kept.answer, kept.until = response, freed_at + self._cache if response.status < 400 else 0
            for other, tell in waiting:
                self._leave(other, tell, response)
        self._leave(visit, done, response)
        self._begin()

    def _leave(self, visit: Visit, done: Done, response: Response) -> None:
        done(self._app.leave(visit, response))

    def _at(self, when: int, callback: Callable[..., object], *args: object) -> None:
        if when <= self._clock.now():
            callback(*args)
        else:
            self._clock.call_at(when, callback, *args)
