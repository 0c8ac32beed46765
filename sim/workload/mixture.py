"""Several workloads at once (`Superposition`), and the union that a scenario chooses from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sim.workload.arrivals import Bursty, Diurnal, FlashCrowd, Instants, Logs, Mmpp, Poisson, Regular, Statuses
from sim.workload.heard import Heard
from sim.workload.scripts import Deployments, Provisioning, Replay
from sim.workload.updates import ASPECTS, CHANGES, NUMBERED, RESOURCES, Updates, walk
from sim.workload.work import DatabaseOperations, Firewall, Packages, Tasks


@dataclass(frozen=True, slots=True)
class Superposition:
    """All of `parts` at the same time, each with random numbers of its own.

    Steps, rules, tasks and lines of later parts are numbered after those of earlier ones, so that two parts never fight over one.
    Of what a resource has but one (a site's status, a server's connection or monitoring), the statuses go round anew where
    several parts change it.
    """

    kind: ClassVar[str] = "mixture"

    parts: tuple[Workload, ...] = ()
    """The workloads, each a table with a kind."""

    def expected(self, duration: float, servers: int, sites: int = 0) -> float:
        """Expected number of updates in *duration* seconds."""
        return sum(part.expected(duration, servers, sites) for part in self.parts)

    def updates(self, rng: np.random.Generator, duration: float, servers: int, sites: int = 0) -> Updates:
        """Draw every part and merge; at equal instants the earlier part goes first."""
        drawn: list[Updates] = []
        taken, parts_of = np.zeros(len(ASPECTS), np.int64), np.zeros((len(RESOURCES), len(ASPECTS)), np.int64)
        numbered = np.isin(np.array(ASPECTS), NUMBERED)
        for part, child in zip(self.parts, rng.spawn(len(self.parts)), strict=True):
            rows = part.updates(child, duration, servers, sites)
            on_server = rows.resource == RESOURCES.index("server")
            moved = np.where(on_server & numbered[rows.aspect], rows.change + taken[rows.aspect] * len(CHANGES), rows.change)
            np.maximum.at(taken, rows.aspect, moved // len(CHANGES))
            parts_of[np.unique(rows.resource), :] += np.isin(np.arange(len(ASPECTS)), rows.aspect)
            drawn.append(Updates(rows.at, rows.resource, rows.resource_id, moved.astype(np.int32), rows.aspect))
        merged = Updates.merge(drawn)
        one = (merged.resource == RESOURCES.index("site")) | ~numbered[merged.aspect]
        shared = one & (parts_of[merged.resource, merged.aspect] > 1)
        if shared.any():
            anew = walk(merged.at, merged.resource, merged.resource_id, merged.aspect)
            change = np.where(shared, anew.change, merged.change)
            return Updates(merged.at, merged.resource, merged.resource_id, change, merged.aspect)
        return merged


Workload = (
    Poisson
    | Regular
    | Bursty
    | Mmpp
    | Diurnal
    | FlashCrowd
    | Logs
    | Statuses
    | Instants
    | Heard
    | Replay
    | Provisioning
    | Deployments
    | Firewall
    | Packages
    | DatabaseOperations
    | Tasks
    | Superposition
)
