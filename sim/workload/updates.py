"""The vocabulary: one update, many updates as columns, and the random streams that everything is drawn from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from sim.clock import SECOND

Resource = Literal["server", "site"]
Status = Literal["pending", "installing", "completed", "failed"]

RESOURCES: tuple[Resource, ...] = ("server", "site")
STATUSES: tuple[Status, ...] = ("pending", "installing", "completed", "failed")

NEXT: dict[Status | None, frozenset[Status]] = {
    None: frozenset({"pending", "installing"}),
    "pending": frozenset({"installing"}),
    "installing": frozenset({"completed", "failed"}),
    "completed": frozenset({"pending", "installing"}),
    "failed": frozenset({"pending", "installing"}),
}
"""What a step may become, by what it is (None: not there yet). Every workload keeps to it; a finished step may run again."""

SITE_STATUS: dict[Status, str] = {"installing": "deploying", "completed": "active", "failed": "failed"}
"""What the status of a site's update is called in the application. A site that waits has no status of its own."""

WALK_STEPS = 8
"""Steps that changes without a script of their own go round (as many as the recorded stack has installers)."""


class Update(NamedTuple):
    """One change to make: at instant `at_ns`, `status` of `step` of that server (`PUT /servers/{id}/provision/{step}`).

    A site has one status and no steps: its `step` is 0, and `PATCH /sites/{id}` sets `SITE_STATUS[status]`.
    """

    at_ns: int
    resource: Resource
    resource_id: int
    step: int
    status: Status


@dataclass(frozen=True, slots=True, eq=False)
class Updates:
    """Updates as columns of equal length, sorted by instant; equal instants stay in the order in which they were made."""

    at: np.ndarray
    """int64, nanoseconds since the start of the run."""
    resource: np.ndarray
    """int8, index in `RESOURCES`: 0 server, 1 site."""
    resource_id: np.ndarray
    """int64, from 1."""
    change: np.ndarray
    """int32, `encode(step, status)`."""

    @classmethod
    def of(cls, at: object, resource: object, resource_id: object, change: object) -> Updates:
        """Sort by *at* and give each column its type; scalars stand for a whole column."""
        columns = np.broadcast_arrays(
            np.asarray(at, np.int64),
            np.asarray(resource, np.int8),
            np.asarray(resource_id, np.int64),
            np.asarray(change, np.int32),
        )
        order = np.argsort(columns[0], kind="stable")
        return cls(*(column[order] for column in columns))

    @classmethod
    def none(cls) -> Updates:
        return cls.of([], [], [], [])

    @classmethod
    def from_rows(cls, rows: Iterable[Update]) -> Updates:
        rows = list(rows)
        return cls.of(
            [row.at_ns for row in rows],
            [RESOURCES.index(row.resource) for row in rows],
            [row.resource_id for row in rows],
            [encode(row.step, row.status) for row in rows],
        )

    @classmethod
    def merge(cls, parts: Iterable[Updates]) -> Updates:
        """All updates of *parts* by instant; at equal instants the earlier part goes first."""
        parts = list(parts)
        if not parts:
            return cls.none()
        return cls.of(*(np.concatenate([getattr(part, name) for part in parts]) for name in cls.__slots__))

    @property
    def step(self) -> np.ndarray:
        """int32 step numbers; 0 for a site."""
        return self.change // len(STATUSES)

    @property
    def status(self) -> np.ndarray:
        """int32 index in `STATUSES`."""
        return self.change % len(STATUSES)

    def __len__(self) -> int:
        return len(self.at)

    def __getitem__(self, rows: slice | np.ndarray) -> Updates:
        """A part of the rows, by slice or mask, in the same order."""
        return Updates(self.at[rows], self.resource[rows], self.resource_id[rows], self.change[rows])

    def __iter__(self) -> Iterator[Update]:
        columns = (self.at.tolist(), self.resource.tolist(), self.resource_id.tolist(), self.step.tolist(), self.status.tolist())
        for at, resource, resource_id, step, status in zip(*columns, strict=True):
            yield Update(at, RESOURCES[resource], resource_id, step, STATUSES[status])


def encode(step: int, status: Status) -> int:
    """Step and status as the one number that `Updates.change` holds."""
    return step * len(STATUSES) + STATUSES.index(status)


def walk(at: np.ndarray, resource: np.ndarray, resource_id: np.ndarray) -> Updates:
    """Give instants and resources a change each, such that every one is a real change that `NEXT` allows.

    The n-th update of a server moves it on by one: step 1 pending, installing, completed, then step 2, ... and after
    `WALK_STEPS` steps again from step 1. A site is in turn installing and completed.
    """
    rows = Updates.of(at, resource, resource_id, 0)
    nth = _count_before(rows.resource_id * len(RESOURCES) + rows.resource)
    on_server = nth // 3 % WALK_STEPS * len(STATUSES) + nth % 3 + encode(1, "pending")
    on_site = nth % 2 + encode(0, "installing")
    change = np.where(rows.resource == RESOURCES.index("server"), on_server, on_site).astype(np.int32)
    return Updates(rows.at, rows.resource, rows.resource_id, change)


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
