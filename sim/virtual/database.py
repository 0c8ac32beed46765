"""What the application's database says at any instant.

Every commit is known before time starts to pass (a workload does not react), so the state at an instant is a count of the commits
up to it. A commit is there for whatever reads at the same instant.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sim.clock import ns
from sim.scenario import Scenario
from sim.workload import RESOURCES, Updates

Array = np.ndarray[Any, Any]


class Database:
    """Commits of a run. Columns are in the order of `updates`; versions count from 1, 0 is the state before any commit."""

    def __init__(self, updates: Updates, scenario: Scenario) -> None:
        self.updates = updates
        self.intended_at: Array = updates.at
        self.committed_at: Array = updates.at + ns(scenario.broadcast.commit_delay)
        self.sequence: Array = np.arange(1, len(updates) + 1)
        key = updates.resource_id * len(RESOURCES) + updates.resource
        order = np.argsort(key, kind="stable")
        edges = np.flatnonzero(np.diff(key[order])) + 1
        self.version: Array = np.empty(len(updates), np.int64)
        self._commits: dict[tuple[str, int], list[int]] = {}
        for rows in np.split(order, edges) if len(order) else ():
            self.version[rows] = np.arange(1, len(rows) + 1)
            resource, resource_id = RESOURCES[updates.resource[rows[0]]], int(updates.resource_id[rows[0]])
            self._commits[resource, resource_id] = self.committed_at[rows].tolist()
        self._all: list[int] = self.committed_at.tolist()

    def commits(self, resource: str, resource_id: int) -> list[int]:
        """Sorted instants at which the version of *resource* grew; `bisect_right(commits, at)` is its version at *at*."""
        return self._all if resource == "dashboard" else self._commits.get((resource, resource_id), [])
