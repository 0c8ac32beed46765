"""What the application's database says at any instant.

Versions count from 1, and 0 is the state before any commit; a dashboard's version is the sequence number of the newest change
among the resources that it shows. A commit is there for whatever reads at the same instant.

Where changes wait for nothing that a run decides, every commit is known before time starts to pass. Else (`api.save` with shared
workers) the reference engine commits them as it goes.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Any

import numpy as np

from sim.clock import ns
from sim.distributions import Constant
from sim.scenario import Scenario
from sim.virtual.draws import columns
from sim.workload import RESOURCES, Streams, Updates

Array = np.ndarray[Any, Any]

EVERYONE = 0
"""In the place of a user: a dashboard that shows everyone's resources."""

NEVER = -1
"""An instant, version or sequence of what has not been committed."""


class History:
    """When something changed, and to which version."""

    __slots__ = ("instants", "versions")

    def __init__(self, instants: list[int], versions: list[int]) -> None:
        self.instants = instants
        """Sorted, ns."""
        self.versions = versions

    def at(self, instant: int) -> int:
        """Its version at *instant*; 0 before the first change."""
        count = bisect_right(self.instants, instant)
        return self.versions[count - 1] if count else 0


NOTHING = History([], [])
"""Of what never changes."""


def feeds_back(scenario: Scenario) -> bool:
    """Whether changes wait for workers that refetches keep busy."""
    return scenario.api.save != Constant(0.0) and scenario.api.save_workers == "shared"


class Database:
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
        each = np.array([fleet.servers_per_user, fleet.sites_per_user])[updates.resource] if size else np.empty(0, np.int64)
        self.user: Array = (updates.resource_id - 1) // np.maximum(each, 1) + 1
        self._key: Array = updates.resource_id * len(RESOURCES) + updates.resource
        self._histories: dict[tuple[str, int], History] = {}
        self._commits = 0
        self._orders: dict[str, tuple[Array, Array]] = {}
        """Column -> (committed rows by its value and by their commit, these values); made when first asked for."""
        if not feeds_back(scenario):
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
        boards = [self._histories.get(("dashboard", user)) for user in (EVERYONE, int(self.user[update]))]
        for history, version in ((mine, self.version[update]), *((board, self._commits) for board in boards if board)):
            history.instants.append(at)
            history.versions.append(int(version))

    def _commit_all(self, scenario: Scenario, rng: Streams) -> None:
        saved = self.intended_at
        if scenario.api.save != Constant(0.0):
            service = columns(scenario.api.save, rng["save"], len(saved))
            lock = self._key if scenario.api.save_lock == "resource" else np.zeros_like(self._key)
            saved = _one_at_a_time(self.intended_at, service, lock, self.delay)
        self.committed_at = saved + self.delay
        order = np.argsort(self.committed_at, kind="stable")
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
            keys = {"everyone": np.zeros_like(self.user), "user": self.user, "resource": self._key}[column]
            done = np.flatnonzero(self.committed_at != NEVER)
            rows = done[np.lexsort((self.sequence[done], keys[done]))]
            self._orders[column] = rows, keys[rows]
        rows, keys = self._orders[column]
        return rows[np.searchsorted(keys, wanted) : np.searchsorted(keys, wanted, side="right")]


def _one_at_a_time(arrivals: Array, service: Array, lock: Array, held: int) -> Array:
    """When each is saved, where those of one lock are saved one after the other, each *held* ns longer (to its commit)."""
    saved = np.empty_like(arrivals)
    free: dict[int, int] = {}
    for row, (at, time, key) in enumerate(zip(arrivals.tolist(), service.tolist(), lock.tolist(), strict=True)):
        saved[row] = end = max(at, free.get(key, 0)) + time
        free[key] = end + held
    return saved
