"""Billions of (update, page) pairs as a histogram, at the price of herds times updates.

A herd's profile (when each page is answered, counted from the herd's own instant) is the same for every update that the herd
answers; only the shift differs, by how long that update had waited. So the profile is cut into at most 2,048 equal steps once,
and a shifted copy is counted per update. Count, sum, least and largest stay exact; a quantile is right to 0.2 % and one step.
"""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np

from sim.arrays import Array
from sim.results.histogram import FineHistogram
from sim.virtual.fleet import compiled

STEPS = 2048
_FINEST = 12  # no step below 2**12 ns
_BUFFER = 1 << 16  # what is counted together stays in a cache


class StepCounts(NamedTuple):
    """Durations as counts: middles of steps (ns), how many, and exactly their sum, least and largest."""

    middles: Array
    counts: Array
    total: int
    least: int
    largest: int


class Kinds(NamedTuple):
    """Some of a profile's values: those whose kind is wanted. Values are counted by kind once, whatever is asked for."""

    kinds: Array
    """Of each value (uint8)."""
    wanted: Array
    """bool, of each kind."""

    @property
    def mask(self) -> Array:
        chosen: Array = self.wanted[self.kinds]
        return chosen


class Profile:
    """Durations (int64 ns, may be negative) that are shifted together.

    *rising*: they are sorted. *reach*: the least and the largest, where they are known.
    """

    def __init__(self, values: Array, rising: bool = False, reach: tuple[int, int] | None = None) -> None:
        self.values = values
        if reach is not None:
            self.least, self.largest = reach
        self.rising = rising
        self._whole: StepCounts | None = None
        self._by_kind: tuple[Array, tuple[Array, Array, Array, Array]] | None = None

    @property
    def size(self) -> int:
        return self.values.size

    @cached_property
    def least(self) -> int:
        return int(self.values[0] if self.rising else self.values.min())

    @cached_property
    def largest(self) -> int:
        return int(self.values[-1] if self.rising else self.values.max())

    @cached_property
    def _sums(self) -> Array:
        """Running sums, with a 0 in front: of a rising profile, of which any part may be asked for."""
        return np.concatenate(([0], np.cumsum(self.values)))

    @cached_property
    def _grid(self) -> tuple[int, Array]:
        """(shift, edges): steps of 2**shift ns that cover the values, and the edges' places among rising values."""
        shift = max(_FINEST, (max(self.largest - self.least, 1) // STEPS).bit_length())
        first = self.least >> shift
        edges = np.arange(first, (self.largest >> shift) + 2) << shift
        return shift, np.searchsorted(self.values, edges) if self.rising else edges

    def count(self, chosen: slice | Array | Kinds) -> int:
        """How many values these are."""
        if isinstance(chosen, slice):
            return int(chosen.stop - chosen.start)
        if isinstance(chosen, Kinds):
            return int(self._counted(chosen.kinds, chosen.wanted.size)[0][chosen.wanted].sum())
        return int(np.count_nonzero(chosen))

    def _counted(self, kinds: Array, number: int) -> tuple[Array, Array, Array, Array]:
        """Per kind: (steps, sum, least, largest)."""
        if self._by_kind is None or self._by_kind[0] is not kinds:
            shift, edges = self._grid
            self._by_kind = kinds, compiled.count_steps(self.values, kinds, number, shift, self.least >> shift, edges.size)
        return self._by_kind[1]

    def part(self, chosen: slice | Array | Kinds) -> StepCounts:
        """Of the values of a range, or of those that are *chosen* (bool, or by kind); at least one value."""
        whole = isinstance(chosen, slice) and (chosen.start, chosen.stop) == (0, self.size)
        if whole and self._whole is not None:
            return self._whole
        shift, edges = self._grid
        first = self.least >> shift
        if isinstance(chosen, slice) and self.rising:
            counts = np.diff(np.clip(edges, chosen.start, chosen.stop))
            total = int(self._sums[chosen.stop] - self._sums[chosen.start])
            low, high = int(self.values[chosen.start]), int(self.values[chosen.stop - 1])
        elif compiled.ENABLED and (whole or not isinstance(chosen, slice)):
            kinds, wanted = self._as_kinds(chosen)
            of_kind, totals, leasts, largests = self._counted(kinds, wanted.size)
            counts, total = of_kind[wanted].sum(axis=0), int(totals[wanted].sum())
            low, high = int(leasts[wanted].min()), int(largests[wanted].max())
        else:
            values = self.values[chosen.mask if isinstance(chosen, Kinds) else chosen]
            counts = np.bincount((values >> shift) - first, minlength=edges.size - 1)
            total, low, high = int(values.sum()), int(values.min()), int(values.max())
        steps = self._steps(counts, total, low, high)
        if whole:
            self._whole = steps
        return steps

    def _steps(self, counts: Array, total: int, least: int, largest: int) -> StepCounts:
        shift, first = self._grid[0], self.least >> self._grid[0]
        held = np.flatnonzero(counts)
        middles = ((held + first) << shift) + (1 << shift - 1)
        return StepCounts(middles, counts[held], total, least, largest)

    def _as_kinds(self, chosen: slice | Array | Kinds) -> Kinds:
        """*chosen*: all, those of a mask, or by kind."""
        if isinstance(chosen, Kinds):
            return chosen
        if not isinstance(chosen, slice):
            return Kinds(chosen.view(np.uint8), np.array([False, True]))
        if self._by_kind is not None:
            return Kinds(self._by_kind[0], np.ones(len(self._by_kind[1][0]), bool))
        return Kinds(np.zeros(self.size, np.uint8), np.array([True]))


class _Counted(FineHistogram):
    """With the compiled loop where there is one."""

    def _count(self, values: Array) -> None:
        if compiled.ENABLED:
            compiled.count_bins(values, 52 - self.BITS, 1023 << self.BITS, self.counts)
        else:
            super()._count(values)


class Spread:
    """Collects shifted profiles into a `FineHistogram` for each of *batches*. Call `finish` once at the end."""

    def __init__(self, batches: int = 1) -> None:
        self._histograms: list[FineHistogram] = [_Counted() for _ in range(batches)]
        self._waiting: list[list[Array]] = [[] for _ in range(batches)]
        self._size = 0

    def add_shifted(
        self, profile: Profile, shifts: Array, batch: Array, chosen: slice | Array | Kinds | None = None
    ) -> tuple[int, int]:
        """Count the profile's values (all, those of a range, of a mask or of kinds) once for each shift (int64 ns), moved by it.

        *batch*: of each shift. Returns (the sum of the values, ns, unshifted; how many they are).
        """
        if chosen is None:
            chosen = slice(0, profile.size)
        if isinstance(chosen, Kinds) and not (compiled.ENABLED and profile.size > 2 * STEPS):
            chosen = chosen.mask
        size = profile.count(chosen)
        if size <= 0 or not shifts.size:
            return 0, 0
        parts = [(int(batch[0]), shifts)]
        if batch[0] != batch[-1] or (batch.size > 2 and (batch != batch[0]).any()):
            parts = [(number, shifts[batch == number]) for number in np.unique(batch).tolist()]
        if size <= 2 * STEPS:
            values = profile.values[chosen.mask if isinstance(chosen, Kinds) else chosen]
            for number, mine in parts:
                self._add(number, values + mine if mine.size == 1 else (values + mine[:, None]).ravel())
            return int(values.sum()), size
        steps = profile.part(chosen)
        for number, mine in parts:
            self._add_steps(number, steps, mine, size)
        return steps.total, size

    def _add(self, batch: int, durations: Array) -> None:
        """Count durations (int64 ns >= 0) as they are."""
        self._waiting[batch].append(durations)
        self._size += durations.size
        if self._size >= _BUFFER:
            self.finish()

    def _add_steps(self, batch: int, steps: StepCounts, shifts: Array, size: int) -> None:
        """Count *size* values, known by their steps, once for each shift, moved by it."""
        total = steps.total * shifts.size + size * int(shifts.sum())
        least, largest = steps.least + int(shifts.min()), steps.largest + int(shifts.max())
        moved = np.clip(steps.middles + shifts[:, None], least, largest)
        self._histograms[batch].add_counts(moved.ravel(), np.tile(steps.counts, shifts.size), total, least, largest)

    def finish(self) -> list[FineHistogram]:
        """Everything counted so far, by batch."""
        for histogram, waiting in zip(self._histograms, self._waiting, strict=True):
            if waiting:
                histogram.add(np.concatenate(waiting))
                waiting.clear()
        self._size = 0
        return self._histograms
