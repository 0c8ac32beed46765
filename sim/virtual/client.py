"""A page's HTTP client: the way to the application and back, giving up, trying again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sim.clock import EventList, Timer, ns
from sim.scenario import Scenario
from sim.virtual.api import Api, View

Done = Callable[[Any, int, int, int, int], None]
"""(token, at, version, status, size): the final answer; status 0 is none."""


class Client:
    """What all pages' requests have in common. The retry budget is shared: so many retries for each first attempt."""

    def __init__(self, scenario: Scenario, clock: EventList, api: Api, network: Callable[[], int]) -> None:
        self.clock = clock
        self.api = api
        self.network = network
        self.timeout = None if scenario.api.timeout is None else ns(scenario.api.timeout)
        self.retries = scenario.api.retries
        self.backoff = ns(scenario.api.retry_backoff)
        self.budget = scenario.api.retry_budget
        self.first_attempts = 0
        self.second_attempts = 0
        """Retries, of whatever number."""
        self.timeouts = 0

    def get(self, view: View, made_at: int, done: Done, token: Any) -> Request:
        """Send a request now; *done(token, ...)* is called once, unless it is aborted. *made_at*: when its page was loaded."""
        self.first_attempts += 1
        request = Request(self, view, made_at, done, token)
        request.send()
        return request

    def may_retry(self, attempt: int) -> bool:
        if attempt > self.retries:
            return False
        return self.budget is None or self.second_attempts < self.budget * self.first_attempts


class Request:
    """One GET. An answer to an attempt that was given up is not heard."""

    __slots__ = ("attempt", "client", "done", "made_at", "timer", "token", "view")

    def __init__(self, client: Client, view: View, made_at: int, done: Done, token: Any) -> None:
        self.client = client
        self.view = view
        self.made_at = made_at
        self.done = done
        self.token = token
        self.attempt = 0
        """The attempt that is waited for; -1: aborted."""
        self.timer: Timer | None = None

    def send(self) -> None:
        client = self.client
        clock = client.clock
        self.attempt += 1
        clock.call_at(clock.now() + client.network(), client.api.arrive, self, self.attempt)
        if client.timeout is not None:
            self.timer = clock.call_at(clock.now() + client.timeout, self._give_up, self.attempt)

    def answer(self, attempt: int, version: int, status: int, size: int) -> None:
        """An answer to *attempt* has come back."""
        if attempt != self.attempt:
            return
        if self.timer is not None:
            self.timer.cancel()
        if status >= 400 and status != 409 and self.client.retries:
            self._failed(status, size)
        else:
            self.done(self.token, self.client.clock.now(), version, status, size)

    def abort(self) -> None:
        """Nobody waits for it any more."""
        self.attempt = -1
        if self.timer is not None:
            self.timer.cancel()

    def _give_up(self, attempt: int) -> None:
        if attempt == self.attempt:
            self.client.timeouts += 1
            self._failed(0, 0)

    def _failed(self, status: int, size: int) -> None:
        client = self.client
        if not client.may_retry(self.attempt):
            self.attempt = -1
            self.done(self.token, client.clock.now(), -1, status, size)
            return
        client.second_attempts += 1
        if client.backoff:
            # Until it is sent again no answer counts: the next attempt has a number that none has.
            pause = client.backoff << (self.attempt - 1)
            self.timer = client.clock.call_at(client.clock.now() + pause, self._again, self.attempt)
            self.attempt += 1
        else:
            self.send()

    def _again(self, failed: int) -> None:
        if self.attempt == failed + 1:
            self.attempt = failed
            self.send()
