"""What the application's database says at any instant.

Versions count from 1, and 0 is the state before any commit; a dashboard's version is the sequence number of the newest change
among the resources that it shows. A commit is there for whatever reads at the same instant.

Where changes wait for nothing that a run decides, every commit is known before time starts to pass. Else (`api.save` with shared
workers) the reference engine commits them as it goes.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from sim.arrays import Array
from sim.clock import ns
from sim.distributions import Constant
from sim.incidents import Deploy, Slowdown
from sim.scenario import Scenario
from sim.virtual.draws import columns
from sim.workload import IN_ORDER, ON_DASHBOARD, RESOURCES, Streams, Updates

NOBODY = -1
"""In the place of a user: whose dashboard shows a task."""

EVERYONE = 0
"""In the place of a user: a dashboard that shows everyone's resources."""

NEVER = -1
"""An instant, version or sequence of what has not been committed."""


class History:
    """When something changed, and to which version."""

    __slots__ = ("_count", "instants", "versions")

    def __init__(self, instants: list[int], versions: list[int]) -> None:
        self.instants = instants
        """Sorted, ns."""
        self.versions = versions
        self._count = 0
        """Changes up to the instant that was asked for last: mostly the next one is soon after it."""

    def at(self, instant: int) -> int:
        """Its version at *instant*; 0 before the first change."""
        instants, count = self.instants, self._count
        if not (0 < count < len(instants) and instants[count - 1] <= instant < instants[count]):
            count = self._count = bisect_right(instants, instant)
        return self.versions[count - 1] if count else 0


NOTHING = History([], [])
"""Of what never changes."""


def away(scenario: Scenario) -> list[tuple[int, int]]:
    """When the application is not there: what is asked of it then is refused, ns."""
    return sorted((ns(i.at), ns(i.at) + ns(i.down)) for i in scenario.incidents if isinstance(i, Deploy))


class Commits:
    """Commits of a run. Columns are in the order of `updates`, instants in ns."""

    def __init__(self, updates: Updates, scenario: Scenario, rng: Streams) -> None:
        self.updates = updates
        fleet, size = scenario.fleet, len(updates)
        self.intended_at: Array = updates.at
        self.delay = ns(scenario.broadcast.commit_delay)
        """From the save to the commit."""
        self.committed_at: Array = np.full(size, NEVER)
        self.version: Array = np.full(size, NEVER)
        self.sequence: Array = np.full(size, NEVER)
        each = np.array([fleet.each(resource) for resource in RESOURCES])[updates.resource]
        shown = updates.resource < len(ON_DASHBOARD)
        self.user: Array = np.where(shown, (updates.resource_id - 1) // np.maximum(each, 1) + 1, NOBODY)
        """On whose dashboard each is."""
        self._key: Array = updates.resource_id * len(RESOURCES) + updates.resource
        self._histories: dict[tuple[str, int], History] = {}
        self._commits = 0
        self._orders: dict[str, tuple[Array, Array]] = {}
        """Column -> (committed rows by its value and by their commit, these values); made when first asked for."""
        if not scenario.api.changes_need_workers:
            self._commit_all(scenario, rng)

    @property
    def saved_at(self) -> Array:
        """When each was saved, before its commit."""
        return np.where(self.committed_at == NEVER, NEVER, self.committed_at - self.delay)

    def history(self, resource: str, resource_id: int, user: int = EVERYONE) -> History:
        """The versions of a resource; of a dashboard (*resource_id* is 0) that shows the resources of *user*."""
        key = (resource, user if resource == "dashboard" else resource_id)
        if key not in self._histories:
            versions = self.sequence if resource == "dashboard" else self.version
            rows = self._rows(resource, key[1])
            self._histories[key] = History(self.committed_at[rows].tolist(), versions[rows].tolist())
        return self._histories[key]

    def commits(self, resource: str, resource_id: int, user: int = EVERYONE) -> list[int]:
        """Sorted instants at which its version grew."""
        return self.history(resource, resource_id, user).instants

    def commit(self, update: int, at: int) -> None:
        """*update* is in the database from *at* on; called in the order of time."""
        self._commits += 1
        self._orders.clear()
        resource, resource_id = RESOURCES[self.updates.resource[update]], int(self.updates.resource_id[update])
        mine = self.history(resource, resource_id)
        self.committed_at[update], self.sequence[update] = at, self._commits
        self.version[update] = len(mine.instants) + 1
        users = (EVERYONE, int(self.user[update])) if self.user[update] != NOBODY else ()
        boards = [self._histories.get(("dashboard", user)) for user in users]
        for history, version in ((mine, self.version[update]), *((board, self._commits) for board in boards if board)):
            history.instants.append(at)
            history.versions.append(int(version))

    def _commit_all(self, scenario: Scenario, rng: Streams) -> None:
        saved = self.intended_at
        if scenario.api.save != Constant(0.0):
            service = columns(scenario.api.save, rng["save"], len(saved))
            lock = self._key if scenario.api.save_lock == "resource" else np.zeros_like(self._key)
            answered = np.array([ns(answer_after(scenario, resource)) for resource in RESOURCES])[self.updates.resource]
            slow = [(ns(i.at), ns(i.at) + ns(i.duration), i.factor) for i in scenario.incidents if isinstance(i, Slowdown)]
            saved = _one_at_a_time(self.intended_at, service, lock, self.delay, self._key, answered, slow)
        self.committed_at = saved + self.delay
        for start, end in away(scenario):
            self.committed_at[(start <= self.intended_at) & (self.intended_at < end)] = NEVER
        order = np.argsort(self.committed_at, kind="stable")
        order = order[self.committed_at[order] != NEVER]
        self.sequence[order] = np.arange(1, len(order) + 1)
        keys = self._key[order]
        by_key = order[np.argsort(keys, kind="stable")]
        first = np.flatnonzero(np.diff(self._key[by_key], prepend=-1))
        sizes = np.diff(first, append=len(by_key))
        self.version[by_key] = np.arange(1, len(by_key) + 1) - np.repeat(first, sizes)

    def _rows(self, resource: str, number: int) -> Array:
        """Committed updates of a resource, or of a user's dashboard, in the order of their commits."""
        if resource == "dashboard":
            column, wanted = ("everyone", 0) if number == EVERYONE else ("user", number)
        else:
            column, wanted = "resource", number * len(RESOURCES) + RESOURCES.index(resource)
        if column not in self._orders:
            keys = {"everyone": np.minimum(self.user, EVERYONE), "user": self.user, "resource": self._key}[column]
            done = np.flatnonzero(self.committed_at != NEVER)
            rows = done[np.lexsort((self.sequence[done], keys[done]))]
            self._orders[column] = rows, keys[rows]
        rows, keys = self._orders[column]
        return rows[np.searchsorted(keys, wanted) : np.searchsorted(keys, wanted, side="right")]


def answer_after(scenario: Scenario, resource: str) -> float:
    """Seconds from the save of a change until it is answered, where nothing waits at the broadcaster: to the commit, and with
    `dispatch = "now"` until the broadcaster has answered."""
    broadcast, costs = scenario.broadcast, scenario.broadcaster.costs
    if broadcast.dispatch != "now" or broadcast.debounce:
        return broadcast.commit_delay
    ways = 1 if costs.keep_alive else 3
    heard = _listeners(scenario, resource) / scenario.broadcaster.nodes
    each = costs.compose_per_subscriber + (costs.between(scenario.extra_payload) if costs.answer == "after" else 0.0)
    answer = ways * scenario.network.to_broadcaster.mean() + costs.fixed + heard * each
    return max(broadcast.commit_delay, answer) if broadcast.moment == "on_save" else broadcast.commit_delay + answer


def _listeners(scenario: Scenario, resource: str) -> float:
    """Pages that hear of a change of one *resource*, on average."""
    kind, fleet = scenario.broadcast.channels, scenario.fleet
    heard = 0.0
    for pages in scenario.pages:
        if pages.page == "dashboard":
            share = {"specific": 0.0, "per_user": 1 / fleet.users}.get(kind, 1.0) if resource in ON_DASHBOARD else 0.0
        else:
            mine = pages.resource == resource and (kind != "generic" or resource not in ON_DASHBOARD)
            share = 1 / max(fleet.count(resource), 1) if mine else 0.0
        heard += pages.subscribers * share
    return heard


def _one_at_a_time(
    arrivals: Array,
    service: Array,
    lock: Array,
    held: int,
    resource: Array,
    answered: Array,
    slow: Sequence[tuple[int, int, float]],
) -> Array:
    """When each is saved, where those of one lock are saved one after the other, each *held* ns longer (to its commit), and the
    next of a resource comes when the one before is *answered* ns after its save, or its patience is over. *slow*: from when to
    when a save that begins takes how many times as long."""
    saved = np.empty_like(arrivals)
    at, time, locks, after_save = (column.tolist() for column in (arrivals, service, lock, answered))
    order, key_of = np.argsort(resource, kind="stable").tolist(), resource.tolist()
    follows = {row: after for row, after in pairwise(order) if key_of[row] == key_of[after]}
    come = [(at[row], row) for row in set(order) - set(follows.values())]
    heapq.heapify(come)
    free: dict[int, int] = {}
    patience = ns(IN_ORDER)
    while come:
        # In the order in which they come to their lock.
        begin, row = heapq.heappop(come)
        begin = max(begin, free.get(locks[row], 0))
        factor = math.prod(times for start, over, times in slow if start <= begin < over)
        saved[row] = end = begin + round(time[row] * factor)
        free[locks[row]] = end + held
        if (following := follows.get(row)) is not None:
            heapq.heappush(come, (max(at[following], min(end + after_save[row], at[following] + patience)), following))
    return saved
