"""How many processes, machines, ports and descriptors a load needs, from figures measured on this machine."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from sim.live.capacity import limits
from sim.live.capacity.calibration import Calibration
from sim.scenario import Scenario

USE = 0.5
"""Share of the drain rate, and of a machine's memory, to plan with: load is uneven, and other programs run as well."""

BURST = 0.05
"""Seconds in which one process should have read a broadcast to all of its subscribers: its own lag in the tail."""


@dataclass(frozen=True, slots=True)
class LoadMachine:
    """What a load machine offers."""

    cores: int
    memory: int
    """Bytes."""
    descriptors: int
    """Hard limit of one process."""
    ports: int
    """Local ports to one address and port of the target."""


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """What is needed, and why."""

    subscribers: int
    messages_per_second: float
    workers: int
    limits: dict[str, int]
    """Limit -> workers that it alone asks for; the largest number decides."""
    machines: int
    descriptors_per_worker: int
    descriptors_at_target: int
    ports: int
    """Connections from one machine to one address of the target, with these machines."""
    memory_per_worker: int
    """Bytes."""
    alone: int
    """Load processes with which one such machine can hold all pages, target included, if it need not read a broadcast in time
    (each process has a loopback address of its own). 0: it cannot."""
    nodes_alone: int
    """Broadcaster processes of that machine."""

    @property
    def decided_by(self) -> str:
        return max(self.limits, key=lambda name: self.limits[name])

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"decided_by": self.decided_by}


def plan(scenario: Scenario, calibration: Calibration, machine: LoadMachine) -> LoadPlan:
    """For the scenario as it is (scale it with `with_subscribers` first)."""
    n, rate = scenario.subscribers, sum(pages.subscribers * each for pages, each in scenario.heard())
    per_subscriber = scenario.load.http == "per_subscriber"
    pool = 0 if per_subscriber else scenario.load.pool_size
    room = max(1, (machine.descriptors - limits.SPARE - pool) // (2 if per_subscriber else 1))
    by = {
        "descriptors": math.ceil(n / room),
        "messages": math.ceil(rate / (USE * calibration.drain_rate)) if calibration.drain_rate else 1,
        "burst": math.ceil(n * calibration.cpu_per_message / BURST),
        "one at least": 1,
    }
    workers = max(by.values())
    share = math.ceil(n / workers)
    memory = round(calibration.memory_base + share * calibration.memory_per_subscriber)
    machines = max(
        math.ceil(n / machine.ports),
        math.ceil(workers / machine.cores),
        math.ceil(workers * memory / (USE * machine.memory)),
    )
    http = share if per_subscriber else pool
    alone = max(math.ceil(n / room), math.ceil(n / machine.ports))
    needed = alone * calibration.memory_base + 2 * n * calibration.memory_per_subscriber  # The target's end as well.
    return LoadPlan(
        subscribers=n,
        messages_per_second=rate,
        workers=workers,
        limits=by,
        machines=machines,
        descriptors_per_worker=limits.descriptors_needed(share, http),
        descriptors_at_target=n + limits.SPARE,
        ports=math.ceil(n / machines),
        memory_per_worker=memory,
        alone=alone if needed <= USE * machine.memory else 0,
        nodes_alone=limits.nodes_for(n, machine.descriptors),
    )
