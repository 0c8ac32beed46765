"""A page's HTTP client: the way to the application and back, giving up, trying again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sim.clock import EventList, Timer, ns
from sim.distributions import Constant
from sim.policy import NEVER
from sim.refetch import Abort
from sim.scenario import Scenario
from sim.virtual.reference.api import NO_ANSWER, Answer, ApiStation, View

Done = Callable[[Any, int, int | None, int | None, int], None]
"""(token, at, version, status, size): the final answer; status None: there is none."""

RETRIED = (NO_ANSWER, 429, 503)
"""Statuses after which a request is tried again; a time-out is another reason."""


class HttpClient:
    """What all pages' requests have in common. The retry budget is shared: this many retries for each first attempt."""

    def __init__(self, scenario: Scenario, clock: EventList, api: ApiStation, network: Callable[[], int]) -> None:
        self.shared = scenario.api.changes_need_workers
        """Changes arrive at the application as well, so no answer is known in advance."""
        self.clock = clock
        self.api = api
        self.network = network
        self.timeout = None if scenario.api.timeout is None else ns(scenario.api.timeout)
        self.retries = scenario.api.retries
        self.backoff = ns(scenario.api.retry_backoff)
        self.budget = scenario.api.retry_budget
        self.in_order = isinstance(scenario.network.to_api, Constant) and not self.shared
        """Requests arrive in the order in which they are sent, so the application can take each when it is sent."""
        self.simple = self.in_order and self.timeout is None and not self.retries
        self._way = ns(scenario.network.to_api.mean())
        """Where requests are simple, each way takes this long."""
        self.flush: Callable[[], None] | None = None
        """Lets the application have what was sent before by others than this client (`outcomes.Sent`)."""
        self.first_attempts = 0
        self.second_attempts = 0
        """Retries, of whatever number."""
        self.timeouts = 0

    def get(self, view: View, made_at: int, done: Done, token: Any) -> Abort | None:
        """Send a request now; *done(token, at, version, status, size)* is called once, unless it is aborted.

        *made_at*: when its page was loaded. Where None comes back an answer cannot be stopped, and *done* has to overhear it.
        """
        if self.flush is not None:
            self.flush()
        return self.requests(view, made_at, done)(token)

    def requests(self, view: View, made_at: int, done: Done) -> Callable[[Any], Abort | None]:
        """`get` as a function of the token, for a page that sends many. It does not `flush`."""

        def simple(token: Any) -> None:
            at, read_at, status, size = answer(view, made_at, now() + way)
            at += way
            post(at, done, token, at, None if read_at is None else version_at(read_at), status or None, size)

        def fetch(token: Any) -> Abort:
            self.first_attempts += 1
            request = Fetch(self, view, made_at, done, token)
            request.send()
            return request.abort

        answer, version_at, now, post, way = self.api.answer, view.history.at, self.clock.now, self.clock.post, self._way
        return simple if self.simple else fetch

    def may_retry(self, attempt: int) -> bool:
        if attempt > self.retries:
            return False
        return self.budget is None or self.second_attempts + 1 <= self.budget * self.first_attempts


class Fetch:
    """One GET that may be given up and tried again. An answer to an attempt that was given up is not heard.

    An answer that would come at the very instant of the time-out is too late. When an answer will come is mostly known once its
    request has arrived: then an attempt has either an answer or a time-out to wait for, never both.
    """

    __slots__ = ("attempts", "awaited", "client", "done", "made_at", "timer", "token", "view")

    def __init__(self, client: HttpClient, view: View, made_at: int, done: Done, token: Any) -> None:
        self.client = client
        self.view = view
        self.made_at = made_at
        self.done = done
        self.token = token
        self.attempts = 0
        self.awaited = 0
        """The attempt whose answer counts; 0: none."""
        self.timer: Timer | None = None  # of the pause before the next attempt

    def send(self) -> None:
        client, clock = self.client, self.client.clock
        now = clock.now()
        self.attempts += 1
        self.awaited = self.attempts
        arrival = now + client.network()
        deadline = NEVER if client.timeout is None else now + client.timeout
        if client.in_order:
            self._arrive(self.attempts, arrival, deadline)
            return
        if arrival >= deadline or (client.shared and deadline < NEVER):
            clock.post(deadline, self._give_up, self.attempts)
        clock.post(arrival, self._arrive, self.attempts, arrival, deadline)

    def abort(self) -> None:
        """Its page does not wait for it any more."""
        self.awaited = 0
        if self.timer is not None:
            self.timer.cancel()

    def _arrive(self, attempt: int, at: int, deadline: int) -> None:
        api = self.client.api
        if self.client.shared:
            api.request(self.view, self.made_at, at, lambda answer: self._settled(attempt, deadline, answer))
        else:
            self._settled(attempt, deadline, api.answer(self.view, self.made_at, at))

    def _settled(self, attempt: int, deadline: int, answer: Answer) -> None:
        clock = self.client.clock
        at, read_at, status, size = answer
        at += self.client.network()
        if at < deadline:
            clock.post(at, self._answered, attempt, read_at, status, size)
        elif clock.now() < deadline and not self.client.shared:
            clock.post(deadline, self._give_up, attempt)

    def _answered(self, attempt: int, read_at: int | None, status: int, size: int) -> None:
        if attempt != self.awaited:
            return
        if status in RETRIED:
            self._failed(status or None, size)
        else:
            self.awaited = 0
            # Asked for now, when all that was committed up to that instant is known.
            version = None if read_at is None else self.view.history.at(read_at)
            self.done(self.token, self.client.clock.now(), version, status, size)

    def _give_up(self, attempt: int) -> None:
        if attempt == self.awaited:
            self.client.timeouts += 1
            self._failed(None, 0)

    def _failed(self, status: int | None, size: int) -> None:
        client = self.client
        self.awaited = 0
        if not client.may_retry(self.attempts):
            self.done(self.token, client.clock.now(), None, status, size)
            return
        client.second_attempts += 1
        if client.backoff:
            pause = client.backoff << (self.attempts - 1)
            self.timer = client.clock.call_at(client.clock.now() + pause, self.send)
        else:
            self.send()
