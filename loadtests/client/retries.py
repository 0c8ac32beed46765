"""A page's requests as its own client makes them: with a time-out, retries and a budget (`api.timeout`, `api.retries` ...).

The rules are those of the simulator (`sim.virtual.reference.client`). A request without an answer, or with 429 or 503, is tried
again after a pause that doubles each time. The budget is a number of retries for each first attempt, over all pages together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from loadtests.client.http import TIMEOUT, Answer, Done, Exchange, Pool
from sim.clock import Scheduler, Timer

RETRIED = (0, 429, 503)
"""Statuses after which a request is tried again; 0: no answer came."""


@dataclass(slots=True)
class Retries:
    """The rules for all pages of a process, and what they count."""

    clock: Scheduler
    most: int = 0
    """Retries of one request."""
    backoff: int = 0
    """The first pause, ns; each further one is twice as long."""
    budget: float | None = None
    """Retries for each first attempt, over all pages. None: no limit."""
    first_attempts: int = 0
    """Counted so far."""
    again: int = 0
    """Retries so far."""

    def allow(self, attempt: int) -> bool:
        """Whether there may be another attempt after the *attempt*-th."""
        return attempt <= self.most and (self.budget is None or self.again + 1 <= self.budget * self.first_attempts)


class RetriedGet:
    """One GET with its attempts. `done(answer)` is called once, unless it is aborted: with the last attempt's answer, whose
    `started_at` is the first attempt's."""

    __slots__ = ("_arguments", "_done", "_exchange", "_failed", "_pause", "_pool", "_retries", "attempts", "started_at")

    def __init__(
        self,
        retries: Retries,
        pool: Pool,
        path: str,
        done: Done,
        headers: bytes,
        timeout: float = TIMEOUT,
        failed: Callable[[Answer], None] | None = None,
    ) -> None:
        """*failed*(answer) is called for each attempt that another one follows."""
        self._retries, self._pool, self._done, self._failed = retries, pool, done, failed
        self._arguments = path, headers, timeout
        self._exchange: Exchange | None = None
        self._pause: Timer | None = None
        self.attempts = 0
        self.started_at = -1
        """When the first attempt went to a connection; -1: it never did."""
        retries.first_attempts += 1
        self._send()

    def _send(self) -> None:
        path, headers, timeout = self._arguments
        self._pause = None
        self.attempts += 1
        self._exchange = self._pool.send("GET", path, self._answered, headers, b"", timeout)

    def _answered(self, answer: Answer) -> None:
        if self.started_at < 0:
            self.started_at = answer.started_at
        retries = self._retries
        if answer.status not in RETRIED or not retries.allow(self.attempts):
            answer.started_at = self.started_at
            self._done(answer)
            return
        retries.again += 1
        if self._failed is not None:
            self._failed(answer)
        self._exchange = None
        pause = retries.backoff << (self.attempts - 1)
        self._pause = retries.clock.call_at(retries.clock.now() + pause, self._send)

    def abort(self) -> None:
        """The answer is not wanted any more."""
        if self._pause is not None:
            self._pause.cancel()
        elif self._exchange is not None:
            if self.started_at < 0 and self._exchange.connection is not None:
                self.started_at = self._exchange.started_at
            self._exchange.abort()
