"""Billions of (update, page) pairs as a histogram, at the price of herds times updates.

A herd's profile (when each page is answered, counted from the herd's own instant) is the same for every update that the herd
answers; only the shift differs, by how long that update had waited. So the profile is cut into at most 2,048 equal steps once,
and a shifted copy is counted per update. Count, sum, least and largest stay exact; a quantile is right to 0.2 % and one step.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from sim.virtual.fleet import compiled
from sim.virtual.fleet.histogram import Histogram

Array = np.ndarray[Any, Any]

STEPS = 2048
_FINEST = 12  # no step below 2**12 ns
_BUFFER = 1 << 19


class Steps(NamedTuple):
    """Durations as counts: middles of steps (ns), how many, and exactly their sum, least and largest."""

    middles: Array
    counts: Array
    total: int
    least: int
    largest: int


class Profile:
    """Durations (int64 ns, may be negative) that are shifted together. *rising*: they are sorted."""

    def __init__(self, values: Array, rising: bool = False) -> None:
        self.values = values
        self.rising = rising

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

    def part(self, start: int, stop: int) -> Steps:
        """Of the values [start:stop]; at least one value."""
        shift, edges = self._grid
        first = self.least >> shift
        if self.rising:
            counts = np.diff(np.clip(edges, start, stop))
            total, low, high = int(self._sums[stop] - self._sums[start]), int(self.values[start]), int(self.values[stop - 1])
        elif compiled.ENABLED:
            counts, total, low, high = compiled.count_steps(self.values[start:stop], shift, first, edges.size)
        else:
            chosen = self.values[start:stop]
            counts = np.bincount((chosen >> shift) - first, minlength=edges.size - 1)
            total, low, high = int(chosen.sum()), int(chosen.min()), int(chosen.max())
        return self._steps(counts, total, low, high)

    def where(self, chosen: Array) -> Steps:
        """Of the values that are *chosen* (bool); at least one value."""
        if not compiled.ENABLED:
            return Profile(self.values[chosen]).whole
        shift, edges = self._grid
        return self._steps(*compiled.count_steps(self.values, shift, self.least >> shift, edges.size, chosen))

    @cached_property
    def whole(self) -> Steps:
        return self.part(0, self.size)

    def _steps(self, counts: Array, total: int, least: int, largest: int) -> Steps:
        shift, first = self._grid[0], self.least >> self._grid[0]
        held = np.flatnonzero(counts)
        middles = ((held + first) << shift) + (1 << shift - 1)
        return Steps(middles, counts[held], total, least, largest)


class Spread:
    """Collects shifted profiles into a `Histogram`. Call `finish` once at the end."""

    def __init__(self) -> None:
        self.histogram = Histogram()
        self._waiting: list[Array] = []
        self._size = 0

    def add(self, durations: Array) -> None:
        """Count durations (int64 ns >= 0) as they are; they must not be changed afterwards."""
        self._waiting.append(durations)
        self._size += durations.size
        if self._size >= _BUFFER:
            self.finish()

    def add_shifted(self, profile: Profile, shifts: Array, start: int = 0, stop: int | None = None) -> int:
        """Count the profile's values [start:stop] once for each shift (int64 ns), moved by it. Returns the exact sum of all,
        ns."""
        stop = profile.size if stop is None else stop
        size = stop - start
        if size <= 0 or not shifts.size:
            return 0
        if size <= 2 * STEPS:
            chosen = profile.values[start:stop]
            self.add((chosen + shifts[:, None]).ravel() if shifts.size > 1 else chosen + shifts[0])
            return int(chosen.sum()) * shifts.size + size * int(shifts.sum())
        return self.add_steps(profile.whole if size == profile.size else profile.part(start, stop), shifts, size)

    def add_steps(self, steps: Steps, shifts: Array, size: int) -> int:
        """Count *size* values, known by their steps, once for each shift, moved by it. Returns the exact sum of all, ns."""
        total = steps.total * shifts.size + size * int(shifts.sum())
        least, largest = steps.least + int(shifts.min()), steps.largest + int(shifts.max())
        moved = np.clip(steps.middles + shifts[:, None], least, largest)
        self.histogram.add_counts(moved.ravel(), np.tile(steps.counts, shifts.size), total, least, largest)
        return total

    def finish(self) -> Histogram:
        """Everything counted so far."""
        if self._waiting:
            self.histogram.add(np.concatenate(self._waiting))
            self._waiting, self._size = [], 0
        return self.histogram
