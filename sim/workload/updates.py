"""The vocabulary: one update, many updates as columns, and the random streams that everything is drawn from."""

from __future__ import annotations

import hashlib
import typing
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from sim.clock import SECOND

Resource = Literal["server", "site", "task"]
Status = Literal["pending", "installing", "completed", "failed"]

RESOURCES: tuple[Resource, ...] = ("server", "site", "task")
"""A task is that of the server of its number, which runs again and again: each of its ends is an update, broadcast whole."""

ON_DASHBOARD: tuple[Resource, ...] = ("server", "site")
"""What dashboards show and hear of."""

STATUSES: tuple[Status, ...] = ("pending", "installing", "completed", "failed")

NEXT: dict[Status | None, frozenset[Status]] = {
    None: frozenset({"pending", "installing"}),
    "pending": frozenset({"installing"}),
    "installing": frozenset({"completed", "failed"}),
    "completed": frozenset({"pending", "installing"}),
    "failed": frozenset({"pending", "installing"}),
}
"""What a step may become, by what it is (None: not there yet). Every workload keeps to it; a finished step may run again."""

Change = Status | Literal["removing", "removed"]
"""What an update makes of the thing that changes: a step's status, or on its way out, or gone."""

CHANGES: tuple[Change, ...] = (*STATUSES, "removing", "removed")

Aspect = Literal["status", "rule", "connection", "monitoring", "scheduler", "supervisor", "progress", "log", "task"]
"""What of a resource changes. `status`: of a server the status of one of its provision steps, of a site its own. The others are a
server's: a firewall rule, whether it is connected, software that is installed on it, a line of its history (the progress of a
deployment, a log), a task whose end is broadcast whole."""

ASPECTS: tuple[Aspect, ...] = typing.get_args(Aspect)

NUMBERED: tuple[Aspect, ...] = ("status", "rule", "progress", "log", "task")
"""Aspects of which a server has many, distinguished by `step`; of the others it has one, whose step is 0."""

SITE_STATUS: dict[Change, str] = {"installing": "deploying", "completed": "active", "failed": "failed"}
"""What the status of a site's update is called in the application. A site that waits has no status of its own."""

IN_ORDER = 1.0
"""Seconds that a change waits for the answer to the one before of the same resource: a step cannot be completed before it has
begun, and two requests at once arrive in either order. An application that takes longer gets both."""

WALK_STEPS = 8
"""Steps that changes without a script of their own go round (as many as the recorded stack has installers)."""

CYCLES: dict[Aspect, tuple[Change, ...]] = {
    "status": ("pending", "installing", "completed"),
    "connection": ("removed", "completed"),
    "monitoring": ("removing", "removed", "installing", "completed"),
    "scheduler": ("removing", "removed", "installing", "completed"),
    "supervisor": ("installing", "completed", "removing", "removed"),
}
"""What changes without a script of their own go round, from what the sample servers are: connected, with monitoring and a
scheduler, without a supervisor."""


class Update(NamedTuple):
    """One change to make: at instant `at_ns`, `status` of `step` of that server (`PUT /servers/{id}/provision/{step}`).

    A site has one status and no steps: its `step` is 0, and `PATCH /sites/{id}` sets `SITE_STATUS[status]`. What the other
    aspects become in the application: `sim.live.drive.changes`. A task has no steps either: it ends as `completed` or `failed`.
    """

    at_ns: int
    resource: Resource
    resource_id: int
    step: int
    status: Change
    aspect: Aspect = "status"


@dataclass(frozen=True, slots=True, eq=False)
class Updates:
    """Updates as columns of equal length, sorted by instant; equal instants stay in the order in which they were made."""

    at: np.ndarray
    """int64, nanoseconds since the start of the run."""
    resource: np.ndarray
    """int8, index in `RESOURCES`."""
    resource_id: np.ndarray
    """int64, from 1."""
    change: np.ndarray
    """int32, `encode(step, status)`."""
    aspect: np.ndarray
    """int8, index in `ASPECTS`."""

    @classmethod
    def of(cls, at: object, resource: object, resource_id: object, change: object, aspect: object = 0) -> Updates:
        """Sort by *at* and give each column its type; scalars stand for a whole column."""
        columns = np.broadcast_arrays(
            np.asarray(at, np.int64),
            np.asarray(resource, np.int8),
            np.asarray(resource_id, np.int64),
            np.asarray(change, np.int32),
            np.asarray(aspect, np.int8),
        )
        order = np.argsort(columns[0], kind="stable")
        return cls(*(column[order] for column in columns))

    @classmethod
    def none(cls) -> Updates:
        return cls.of([], [], [], [])

    @classmethod
    def merge(cls, parts: Iterable[Updates]) -> Updates:
        """All updates of *parts* by instant; at equal instants the earlier part goes first."""
        parts = list(parts)
        if not parts:
            return cls.none()
        return cls.of(*(np.concatenate([getattr(part, name) for part in parts]) for name in cls.__slots__))

    @property
    def step(self) -> np.ndarray:
        """int32 step numbers; 0 for a site or a task."""
        return self.change // len(CHANGES)

    @property
    def status(self) -> np.ndarray:
        """int32 index in `CHANGES`."""
        return self.change % len(CHANGES)

    def __len__(self) -> int:
        return len(self.at)

    def __getitem__(self, rows: slice | np.ndarray) -> Updates:
        """A part of the rows, by slice or mask, in the same order."""
        return Updates(*(getattr(self, name)[rows] for name in Updates.__slots__))

    def __iter__(self) -> Iterator[Update]:
        columns = (self.at, self.resource, self.resource_id, self.step, self.status, self.aspect)
        for at, resource, resource_id, step, status, aspect in zip(*(column.tolist() for column in columns), strict=True):
            yield Update(at, RESOURCES[resource], resource_id, step, CHANGES[status], ASPECTS[aspect])


def encode(step: int, status: Change) -> int:
    """Step and status as the one number that `Updates.change` holds."""
    return step * len(CHANGES) + CHANGES.index(status)


def walk(at: np.ndarray, resource: np.ndarray, resource_id: np.ndarray, aspect: np.ndarray | int = 0) -> Updates:
    """Give instants and resources a change each, such that every one is a real change that the application allows.

    The n-th update of an aspect of a server moves it on by one in its cycle: step 1 pending, installing, completed, then step 2,
    ... and after `WALK_STEPS` steps again from step 1. A line of its history is a new one each time. A site is in turn
    installing and completed.
    """
    rows = Updates.of(at, resource, resource_id, 0, aspect)
    nth = _count_before((rows.resource_id * len(RESOURCES) + rows.resource) * len(ASPECTS) + rows.aspect)
    change = np.where(rows.resource == RESOURCES.index("server"), 0, nth % 2 + encode(0, "installing"))
    for index, name in enumerate(ASPECTS):
        hit = (rows.aspect == index) & (rows.resource == RESOURCES.index("server"))
        cycle = np.array([CHANGES.index(status) for status in CYCLES.get(name, ("completed",))])
        turn, place = np.divmod(nth[hit], len(cycle))
        steps = 0 if name not in NUMBERED else turn % WALK_STEPS + 1 if name == "status" else turn + 1
        change[hit] = steps * len(CHANGES) + cycle[place]
    return Updates(rows.at, rows.resource, rows.resource_id, change.astype(np.int32), rows.aspect)


def _count_before(groups: np.ndarray) -> np.ndarray:
    """How many earlier rows belong to the same group, for each row."""
    order = np.argsort(groups, kind="stable")
    ordered = groups[order]
    first = np.flatnonzero(np.diff(ordered, prepend=-1))
    sizes = np.diff(first, append=len(groups))
    counts = np.empty(len(groups), np.int64)
    counts[order] = np.arange(len(groups)) - np.repeat(first, sizes)
    return counts


def to_ns(seconds: np.ndarray) -> np.ndarray:
    """float64 seconds to int64 nanoseconds, rounded to the nearest."""
    return np.rint(np.asarray(seconds) * SECOND).astype(np.int64)


class Streams:
    """Independent random generators by the name of their purpose, all from one seed.

    A purpose that is added later, or draws more, leaves every other one's numbers as they were; so two policies meet the
    same updates. `streams["workload"]` is one generator that goes on where it stopped.
    """

    def __init__(self, seed: int) -> None:
        if seed < 0:
            raise ValueError(f"seed must be >= 0, got {seed!r}")
        self.seed = seed
        self._made: dict[str, np.random.Generator] = {}

    def __getitem__(self, purpose: str) -> np.random.Generator:
        if purpose not in self._made:
            self._made[purpose] = np.random.default_rng(self.sequence(purpose))
        return self._made[purpose]

    def sequence(self, purpose: str) -> np.random.SeedSequence:
        """The purpose's own seed sequence, to spawn further ones from (for example one per subscriber)."""
        words = np.frombuffer(hashlib.sha256(purpose.encode()).digest()[:16], "<u4")
        return np.random.SeedSequence(self.seed, spawn_key=tuple(words.tolist()))


def streams(seed: int) -> Streams:
    """Named random generators of a run: `streams(scenario.seed)["workload"]`."""
    return Streams(seed)
