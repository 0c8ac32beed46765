"""From a committed change to the event at the broadcaster: at once or by a queue, and what is merged or given up on the way.

The same decisions as `sim.brokeforge.broadcasting.dispatcher`, in virtual time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from sim.clock import EventList, ns
from sim.scenario import Scenario
from sim.virtual.channels import Channels
from sim.virtual.database import Commits
from sim.virtual.reference.broadcaster import Answered, BroadcastNodes


class Publishing:
    """Dispatches updates, by number (their row in the database)."""

    def __init__(
        self, scenario: Scenario, clock: EventList, database: Commits, broadcaster: BroadcastNodes, network: Callable[[], int]
    ) -> None:
        broadcast = scenario.broadcast
        self._clock = clock
        self._broadcaster = broadcaster
        self._network = network
        self._opens = not scenario.broadcaster.costs.keep_alive
        updates = database.updates
        self._channels = Channels(scenario)
        self._resource = updates.resource.tolist()
        self._resource_id = updates.resource_id.tolist()
        self.published_at: list[int] = [-1] * len(updates)
        """Instant at which the broadcaster had the event first; -1: never."""
        self._queue = DispatchQueue(scenario, clock, self)
        self._debounce = DebouncedDispatch(scenario) if broadcast.debounce else None
        self.answers = broadcast.dispatch == "now" and self._debounce is None
        """Whether the worker that dispatches waits for the broadcaster."""

    def follow(self, at: list[int]) -> None:
        """Dispatch every update at its instant, known in advance; -1: never."""
        order = sorted((update for update, instant in enumerate(at) if instant >= 0), key=at.__getitem__)
        self._clock.call_each([at[update] for update in order], order, self.dispatch)

    def key(self, update: int) -> tuple[int, int]:
        """What a debounced or unique dispatch is unique by: the resource."""
        return self._resource[update], self._resource_id[update]

    def dispatch(self, update: int, at: int, done: Callable[[int], None] | None = None) -> None:
        """The event of *update* leaves now, *at*. *done* is called when the worker that dispatches need wait no more (see
        `answers`)."""
        if self._debounce is not None:
            self._queue.push(update, self._debounce.delay(self.key(update), update, at))
        elif self.answers:
            self.post(update, lambda update, accepted: self._answered(update, accepted, done))
        else:
            self._queue.push(update)

    def _answered(self, update: int, accepted: bool, done: Callable[[int], None] | None) -> None:
        if not accepted:
            self._queue.failed(update)
        if done is not None:
            done(update)

    def may_send(self, update: int) -> bool:
        """Asked by a worker of the queue that has taken *update*: not where a newer one has taken its place."""
        return self._debounce is None or self._debounce.holds(self.key(update), update)

    def post(self, update: int, answered: Answered) -> None:
        """Send the event to the broadcaster."""
        way = self._network()
        if self._opens:
            way += self._network() + self._network()
        self._clock.post(self._clock.now() + way, self._deliver, update, answered)

    def _deliver(self, update: int, answered: Answered) -> None:
        """The request is at the broadcaster, where there is one."""
        if not self._broadcaster.up:
            answered(update, False)
            return
        if self.published_at[update] < 0:
            self.published_at[update] = self._clock.now()
        resource = self._resource[update]
        self._broadcaster.accept(update, self._channels(resource, self._resource_id[update]), answered, resource)


class DispatchQueue:
    """Laravel's queue: a job may be taken `queue_latency` after its dispatch, by the first worker that is free.

    What the broadcaster did not take, also when it was sent at once, is tried again `backoff` later, `tries` times in all.
    """

    def __init__(self, scenario: Scenario, clock: EventList, publishing: Publishing) -> None:
        broadcast = scenario.broadcast
        self._clock = clock
        self._publishing = publishing
        self._latency = ns(broadcast.queue_latency)
        self._free = broadcast.queue_workers
        self._tries = broadcast.tries
        self._backoff = ns(broadcast.backoff)
        self._unique = broadcast.unique and not broadcast.debounce
        self._unique_for = ns(broadcast.unique_for)
        self._locked: dict[tuple[int, int], int] = {}
        self._failures: dict[int, int] = {}
        self._ready: deque[int] = deque()

    def push(self, update: int, delay: int = 0) -> None:
        """A job for *update*, *delay* (and the latency) from now; dropped where it is to be unique and is not."""
        now = self._clock.now()
        if self._unique:
            key = self._publishing.key(update)
            if now < self._locked.get(key, 0):
                return
            self._locked[key] = now + self._unique_for
        self._clock.post(now + delay + self._latency, self._available, update)

    def failed(self, update: int) -> None:
        """The broadcaster did not take it."""
        failures = self._failures[update] = self._failures.get(update, 0) + 1
        if failures < self._tries:
            self._clock.post(self._clock.now() + self._backoff, self._available, update)

    def _available(self, update: int) -> None:
        self._ready.append(update)
        self._work()

    def _work(self) -> None:
        while self._free and self._ready:
            update = self._ready.popleft()
            if self._unique and not self._failures.get(update):
                # Before it is sent: what is committed from now on has an event of its own.
                self._locked.pop(self._publishing.key(update), None)
            if self._publishing.may_send(update):
                self._free -= 1
                self._publishing.post(update, self._answered)

    def _answered(self, update: int, accepted: bool) -> None:
        self._free += 1
        if not accepted:
            self.failed(update)
        self._work()


class DebouncedDispatch:
    """Server-side debounced dispatch (Laravel 13's `DebounceFor`): of a series on one resource the last event is sent.

    Each dispatch takes the token of its resource and waits; one that comes up without the token is dropped. A dispatch that comes
    `debounce_max_wait` or more after the first of its series does not wait, and ends the series; so does one that is sent.
    """

    def __init__(self, scenario: Scenario) -> None:
        self._wait = ns(scenario.broadcast.debounce)
        cap = scenario.broadcast.debounce_max_wait
        self._max_wait = None if cap is None else ns(cap)
        self._first: dict[tuple[int, int], int] = {}
        """Resource -> instant of the first dispatch of the series."""
        self._token: dict[tuple[int, int], int] = {}
        """Resource -> update that was dispatched last."""

    def delay(self, key: tuple[int, int], update: int, at: int) -> int:
        """*update* is dispatched; returns how long it waits."""
        self._token[key] = update
        if self._max_wait is not None and at - self._first.setdefault(key, at) >= self._max_wait:
            del self._first[key]
            return 0
        return self._wait

    def holds(self, key: tuple[int, int], update: int) -> bool:
        """It has come up: is it still the last? Then its series is over."""
        if self._token[key] != update:
            return False
        self._first.pop(key, None)
        return True
