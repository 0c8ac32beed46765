"""From a committed change to the event at the broadcaster: at once or by a queue, and what is merged or given up on the way."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from sim.clock import EventList, ns
from sim.scenario import Scenario
from sim.virtual.database import Database
from sim.virtual.reference.broadcaster import Broadcaster
from sim.workload import RESOURCES

Array = np.ndarray[Any, Any]


class Publishing:
    """Dispatches every update, by number (its row in the database)."""

    def __init__(
        self, scenario: Scenario, clock: EventList, database: Database, broadcaster: Broadcaster, network: Callable[[], int]
    ) -> None:
        broadcast = scenario.broadcast
        self._clock = clock
        self._broadcaster = broadcaster
        self._network = network
        updates = database.updates
        self._channels = Channels(scenario)
        self._resource = updates.resource.tolist()
        self._resource_id = updates.resource_id.tolist()
        self.published_at: list[int] = [-1] * len(updates)
        """Instant at which the broadcaster had the event; -1: never."""

        self._send: Callable[[int], None] = self._post
        if broadcast.dispatch == "queued":
            self._send = Queue(scenario, clock, self).push
        dispatch: Callable[[int, int], None] = self._dispatch
        if broadcast.debounce:
            dispatch = Coalescing(scenario, clock, self.key, self._send).dispatch
        at = database.intended_at if broadcast.moment == "on_save" else database.committed_at
        clock.call_each(at.tolist(), range(len(updates)), dispatch)

    def key(self, update: int) -> tuple[int, int]:
        """What a debounced or unique dispatch is unique by: the resource."""
        return self._resource[update], self._resource_id[update]

    def _dispatch(self, update: int, at: int) -> None:
        self._send(update)

    def _post(self, update: int) -> None:
        """Inside the request that made the change: one attempt."""
        self._clock.call_at(self._clock.now() + self._network(), self.deliver, update)

    def post(self, update: int, answered: Callable[..., None]) -> None:
        """From a queue worker: *answered(update, accepted)* when the broadcaster has answered."""
        self._clock.call_at(self._clock.now() + self._network(), self._deliver_for, update, answered)

    def deliver(self, update: int) -> int:
        """The request is at the broadcaster; returns the instant of its answer, -1 when there is nobody."""
        if not self._broadcaster.up:
            return -1
        self.published_at[update] = self._clock.now()
        return self._broadcaster.accept(update, self._channels(self._resource[update], self._resource_id[update]))

    def _deliver_for(self, update: int, answered: Callable[..., None]) -> None:
        at = self.deliver(update)
        if at < 0:
            answered(update, False)
        else:
            self._clock.call_at(at, answered, update, True)


class Channels:
    """Names of the channels of an event, each name made once."""

    def __init__(self, scenario: Scenario) -> None:
        self._kind = scenario.broadcast.channels
        self._per_user = (scenario.fleet.servers_per_user, scenario.fleet.sites_per_user)
        self._known: dict[tuple[int, int], list[str]] = {}

    def __call__(self, resource: int, resource_id: int) -> list[str]:
        names = self._known.get((resource, resource_id))
        if names is None:
            specific, generic = specific_channel(RESOURCES[resource], resource_id), generic_channel(RESOURCES[resource])
            match self._kind:
                case "specific":
                    names = [specific]
                case "generic":
                    names = [generic]
                case "per_user":
                    names = [specific, user_channel(owner(resource_id, self._per_user[resource]), RESOURCES[resource])]
                case _:
                    names = [specific, generic]
            self._known[resource, resource_id] = names
        return names


def specific_channel(resource: str, resource_id: int) -> str:
    return f"private-{resource}s.{resource_id}"


def generic_channel(resource: str) -> str:
    return f"private-{resource}s"


def user_channel(user: int, resource: str) -> str:
    return f"private-users.{user}.{resource}s"


def owner(resource_id: int, per_user: int) -> int:
    """Users own equal runs of ids, as the fleet is seeded."""
    return (resource_id - 1) // max(per_user, 1) + 1


class Queue:
    """Laravel's queue: a job may be taken `queue_latency` after its dispatch, by the first worker that is free."""

    def __init__(self, scenario: Scenario, clock: EventList, publishing: Publishing) -> None:
        broadcast = scenario.broadcast
        self._clock = clock
        self._publishing = publishing
        self._latency = ns(broadcast.queue_latency)
        self._free = broadcast.queue_workers
        self._tries = broadcast.tries
        self._backoff = ns(broadcast.backoff)
        self._unique = broadcast.unique
        self._unique_for = ns(broadcast.unique_for)
        self._locked: dict[tuple[int, int], int] = {}
        self._failures: dict[int, int] = {}
        self._ready: deque[int] = deque()

    def push(self, update: int) -> None:
        now = self._clock.now()
        if self._unique:
            key = self._publishing.key(update)
            if now < self._locked.get(key, 0):
                return
            self._locked[key] = now + self._unique_for
        self._clock.call_at(now + self._latency, self._available, update)

    def _available(self, update: int) -> None:
        self._ready.append(update)
        self._work()

    def _work(self) -> None:
        while self._free and self._ready:
            self._free -= 1
            self._publishing.post(self._ready.popleft(), self._answered)

    def _answered(self, update: int, accepted: bool) -> None:
        """A worker is done with *update*, which is tried again later where nobody answered."""
        self._free += 1
        failures = 0 if accepted else self._failures.get(update, 0) + 1
        if 0 < failures < self._tries:
            self._failures[update] = failures
            self._clock.call_at(self._clock.now() + self._backoff, self._available, update)
        elif self._unique:
            self._locked.pop(self._publishing.key(update), None)
        self._work()


class Coalescing:
    """Server-side debounced dispatch (Laravel 13's `DebounceFor`): of a series on one resource the last event is sent.

    Each dispatch is delayed by `debounce` and takes the token of its resource; who comes up without the token is dropped. Once
    `debounce_max_wait` has passed since the first of a series, a dispatch is not delayed.
    """

    def __init__(
        self, scenario: Scenario, clock: EventList, key: Callable[[int], tuple[int, int]], send: Callable[[int], None]
    ) -> None:
        self._clock = clock
        self._key = key
        self._send = send
        self._wait = ns(scenario.broadcast.debounce)
        cap = scenario.broadcast.debounce_max_wait
        self._max_wait = None if cap is None else ns(cap)
        self._series: dict[tuple[int, int], tuple[int, int]] = {}
        """Resource -> (instant of the first of the series, update that holds the token)."""

    def dispatch(self, update: int, at: int) -> None:
        key = self._key(update)
        first, _ = self._series.get(key, (at, update))
        self._series[key] = (first, update)
        overdue = self._max_wait is not None and at - first >= self._max_wait
        self._clock.call_at(at if overdue else at + self._wait, self._come_up, update)

    def _come_up(self, update: int) -> None:
        key = self._key(update)
        if self._series.get(key, (0, -1))[1] == update:
            del self._series[key]
            self._send(update)
