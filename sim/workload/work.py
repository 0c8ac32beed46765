"""Long work on servers, drawn from distributions: firewall rules, packages, tasks, database operations.

Each is what the application's jobs do (`sim.brokeforge.jobs`), one update per save.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from sim.distributions import Distribution, Lognormal
from sim.marks import Number, PerMinute, Share, above_zero, shares
from sim.workload.scripts import PROBABILITY, Runs, Script
from sim.workload.updates import ASPECTS, CYCLES, RESOURCES, Aspect, Change, Resource, Updates, encode

SOFTWARE: tuple[Aspect, ...] = ("monitoring", "scheduler", "supervisor")

Line = tuple[float, Aspect, int, Change]
"""Share of the run's time, what changes, its step, what it becomes."""


@dataclass(frozen=True)
class _Work(Runs):
    """Runs that take some time and may fail. Not a workload by itself."""

    of: ClassVar[Resource] = "server"
    """What runs; lines of a history are its server's all the same."""

    per_minute: PerMinute | None = field(default=6.0, kw_only=True)
    takes: Distribution = field(default_factory=lambda: Lognormal(5.0, 0.5), kw_only=True)
    """Seconds that one takes."""
    failure: Share = field(default=0.0, kw_only=True)
    """Probability that one fails."""
    speed: Number = field(default=1.0, kw_only=True)
    """Times as fast."""

    def __post_init__(self) -> None:
        super().__post_init__()
        above_zero(self, "speed")
        shares(self, "failure", what=PROBABILITY)

    def lines(self, run: int, before: int, end: Change) -> list[Line]:
        """What run number *run* does on a server that had *before* runs before; *end*: completed or failed."""
        raise NotImplementedError

    def expected(self, duration: float, servers: int, sites: int = 0) -> float:
        return self._expected(duration, servers, self.takes.mean() / self.speed, len(self.lines(0, 0, "completed")))

    def updates(self, rng: np.random.Generator, duration: float, servers: int, sites: int = 0) -> Updates:
        starts, times, failures = rng.spawn(3)
        seen: Counter[int] = Counter()

        def script(run: int, server: int) -> Script:
            length = float(self.takes.sample(times, 1)[0]) / self.speed
            lines = self.lines(run, seen[server], "failed" if failures.random() < self.failure else "completed")
            seen[server] += 1
            at = np.array([share for share, _, _, _ in lines]) * length
            change = np.array([encode(step, status) for _, _, step, status in lines], np.int32)
            history = [server * (aspect == "progress") for _, aspect, _, _ in lines]
            return Script(at, change, length, np.array([ASPECTS.index(aspect) for _, aspect, _, _ in lines]), np.array(history))

        return self._play(starts, duration, servers, RESOURCES.index(self.of), script)


@dataclass(frozen=True)
class Firewall(_Work):
    """Firewall rules: each is added (pending), installed (installing, then active or failed), updated and deleted again."""

    kind: ClassVar[str] = "firewall"

    def lines(self, run: int, before: int, end: Change) -> list[Line]:
        life: tuple[Change, ...] = ("pending", "installing", end, "installing", "completed", "removed")
        return [(n / (len(life) - 1), "rule", run + 1, status) for n, status in enumerate(life)]


@dataclass(frozen=True)
class Packages(_Work):
    """Packages on servers: monitoring, scheduler and supervisor in turn, removed where they are there, else installed."""

    kind: ClassVar[str] = "packages"

    def lines(self, run: int, before: int, end: Change) -> list[Line]:
        turn, which = divmod(before, len(SOFTWARE))
        cycle = CYCLES[SOFTWARE[which]]
        first, second = cycle[2 * turn % len(cycle)], cycle[(2 * turn + 1) % len(cycle)]
        return [(0.0, SOFTWARE[which], 0, first), (1.0, SOFTWARE[which], 0, end if second == "completed" else second)]


@dataclass(frozen=True)
class _InParts(_Work):
    """Work whose progress is lines in the server's history. Not a workload by itself."""

    parts: int = 0
    """Lines of progress in the server's history, evenly over the run."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.parts <= 10_000:
            raise ValueError(f"parts must be between 0 and 10,000, got {self.parts!r}")

    def progress(self, run: int) -> list[Line]:
        return [(n / (self.parts + 1), "progress", run * self.parts + n, "completed") for n in range(1, self.parts + 1)]


@dataclass(frozen=True)
class Tasks(_InParts):
    """The servers' tasks, run again and again: each end is broadcast whole (`TaskCompleted` on `tasks.{id}`)."""

    kind: ClassVar[str] = "tasks"
    of: ClassVar[Resource] = "task"

    def lines(self, run: int, before: int, end: Change) -> list[Line]:
        return [*self.progress(run), (1.0, "status", 0, end)]


@dataclass(frozen=True)
class DatabaseOperations(_InParts):
    """Database operations (a dump, a migration): one begins (pending), progresses, and ends as completed or failed."""

    kind: ClassVar[str] = "database"

    parts: int = 5

    def lines(self, run: int, before: int, end: Change) -> list[Line]:
        return [(0.0, "task", run + 1, "pending"), *self.progress(run), (1.0, "task", run + 1, end)]
