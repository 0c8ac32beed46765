"""Several workloads at once, and the union that a scenario chooses from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sim.workload.arrivals import Bursty, Constant, Diurnal, FlashCrowd, Instants, Logs, Mmpp, Poisson
from sim.workload.scripts import Deployments, Provisioning, Replay
from sim.workload.updates import RESOURCES, STATUSES, Updates, walk


@dataclass(frozen=True, slots=True)
class Mixture:
    """All of `parts` at the same time, each with random numbers of its own.

    Steps of later parts are numbered after those of earlier ones, so that two parts never fight over one step. Sites have no
    steps: where several parts change them, their statuses go round anew.
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
        taken, on_sites = 0, 0
        for part, child in zip(self.parts, rng.spawn(len(self.parts)), strict=True):
            rows = part.updates(child, duration, servers, sites)
            on_server = rows.resource == RESOURCES.index("server")
            on_sites += not on_server.all()
            moved = np.where(on_server, rows.change + taken * len(STATUSES), rows.change).astype(np.int32)
            taken += int(rows.step.max(initial=0))
            drawn.append(Updates(rows.at, rows.resource, rows.resource_id, moved))
        merged = Updates.merge(drawn)
        if on_sites > 1:
            anew = walk(merged.at, merged.resource, merged.resource_id)
            change = np.where(merged.resource == RESOURCES.index("site"), anew.change, merged.change)
            return Updates(merged.at, merged.resource, merged.resource_id, change)
        return merged


Workload = (
    Poisson | Constant | Bursty | Mmpp | Diurnal | FlashCrowd | Logs | Instants | Replay | Provisioning | Deployments | Mixture
)
