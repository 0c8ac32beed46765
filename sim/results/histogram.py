"""Counts on a logarithmic scale: what is kept of samples too many to keep, merged by addition.

Each octave has 32 bins, so a quantile is within 1/64 (1.6 %) of the value; below 32 values are exact. Values are whole numbers,
here nanoseconds; negative ones are counted apart, because a negative duration is an error and never a number.

Not `sim.virtual.fleet.histogram`: that has eight times the bins for a third digit, takes no negatives, and never goes through
JSON.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

SUB = 32
"""Bins per octave."""
_OCTAVES = 45
BINS = SUB * (_OCTAVES + 1)
"""Enough for durations of two weeks in nanoseconds; what is longer counts in the last bin."""


def bin_of(values: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """The bin of each value (>= 0)."""
    v = np.asarray(values, dtype=np.int64)
    mantissa, exponent = np.frexp(v.astype(np.float64))
    octave = exponent.astype(np.int64) - 6
    bins = SUB + octave * SUB + ((2.0 * mantissa - 1.0) * SUB).astype(np.int64)
    return np.minimum(np.where(v < SUB, v, bins), BINS - 1)


def middle_of(bins: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """The value that stands for each bin: its middle."""
    b = np.asarray(bins, dtype=np.int64)
    octave = np.maximum(b // SUB - 1, 0)
    low = np.where(b < SUB, b, (SUB + b % SUB) << octave)
    width = np.where(b < SUB, 1, np.int64(1) << octave)
    return low + np.where(width > 1, width / 2.0, 0.0)


class Histogram:
    """A mergeable distribution. `count`, `total` (sum), `largest` and `negative` are exact, quantiles within 1.6 %."""

    __slots__ = ("bins", "largest", "negative", "total")

    def __init__(self) -> None:
        self.bins = np.zeros(BINS, np.int64)
        self.total = 0
        self.largest = 0
        self.negative = 0

    @property
    def count(self) -> int:
        return int(self.bins.sum())

    def add(self, values: npt.ArrayLike) -> None:
        """Count a batch of whole numbers."""
        v = np.asarray(values, dtype=np.int64)
        good = v[v >= 0] if v.size and v.min() < 0 else v
        self.negative += v.size - good.size
        if good.size:
            self.bins += np.bincount(bin_of(good), minlength=BINS)
            self.total += int(good.sum())
            self.largest = max(self.largest, int(good.max()))

    def merge(self, other: Histogram) -> None:
        self.bins += other.bins
        self.total += other.total
        self.largest = max(self.largest, other.largest)
        self.negative += other.negative

    def quantile(self, p: float) -> float:
        """The value below which a share *p* lies; NaN of nothing. The largest is exact."""
        count = self.count
        if count == 0:
            return float("nan")
        if p >= 1.0:
            return float(self.largest)
        rank = np.searchsorted(np.cumsum(self.bins), max(p * count, 0.5))
        return min(float(middle_of(rank)), float(self.largest))

    def to_dict(self) -> dict[str, Any]:
        """Plain members for JSON: the occupied bins, and the exact members."""
        occupied = np.flatnonzero(self.bins)
        return {
            "bins": dict(zip(map(str, occupied.tolist()), self.bins[occupied].tolist(), strict=True)),
            "total": self.total,
            "largest": self.largest,
            "negative": self.negative,
        }

    @classmethod
    def from_dict(cls, tree: Mapping[str, Any]) -> Histogram:
        """Raises KeyError or ValueError for what `to_dict` did not write."""
        histogram = cls()
        for name, count in tree["bins"].items():
            histogram.bins[int(name)] = count
        histogram.total, histogram.largest, histogram.negative = int(tree["total"]), int(tree["largest"]), int(tree["negative"])
        return histogram


def merged(histograms: Iterable[Histogram]) -> Histogram:
    """The sum of all."""
    result = Histogram()
    for histogram in histograms:
        result.merge(histogram)
    return result
