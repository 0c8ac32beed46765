"""Many sorted lists in one: members of groups in order of a value, and searches in all of them at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from sim.arrays import Array


class SortedGroups:
    """Members sorted by (group, value), ties as given. Values may be instants or whole numbers of any size.

    Values are replaced by their rank among all values, so that group and value fit one 64-bit key whatever they are (versions in
    microseconds since 1970 do not, multiplied by anything).
    """

    def __init__(self, groups: Array, values: Array) -> None:
        """*groups*: whole numbers >= 0; *values*: no NaN."""
        self._distinct = np.unique(values)
        self._span = len(self._distinct) + 1
        keys = groups.astype(np.int64) * self._span + np.searchsorted(self._distinct, values)
        self.order = np.argsort(keys, kind="stable")
        """Members in sorted order."""
        self._keys = keys[self.order]

    def start(self, groups: Array) -> Array:
        """Place of the first member of each group, or where it would be."""
        return np.searchsorted(self._keys, groups.astype(np.int64) * self._span)

    def before(self, groups: Array, values: Array | float) -> Array:
        """Place of each group's first member with at least the value."""
        return self._place(groups, values, "left")

    def through(self, groups: Array, values: Array | float) -> Array:
        """Place behind each group's last member with at most the value."""
        return self._place(groups, values, "right")

    def _place(self, groups: Array, values: Array | float, side: Any) -> Array:
        rank = np.searchsorted(self._distinct, np.asarray(values), side=side)
        return np.searchsorted(self._keys, groups.astype(np.int64) * self._span + rank)


def ranges(low: Array, high: Array) -> tuple[Array, Array]:
    """(i, k) for every k in range(low[i], high[i]), in order: a join of ranges with what they hold."""
    count = np.maximum(high - low, 0)
    i = np.repeat(np.arange(len(count)), count)
    return i, np.arange(len(i)) - np.repeat(np.cumsum(count) - count, count) + np.repeat(low, count)


def place_of(known: Any, wanted: Any) -> Array:
    """Position in *known* (whole numbers, each once, in any order) of each wanted; -1: not there.

    -1 is also the last place of an array: `np.r_[values, otherwise][place_of(...)]` looks up with a value for what is not there.
    """
    return pd.Index(np.asarray(known, np.int64)).get_indexer(pd.Index(np.asarray(wanted, np.int64)))


def whole(column: Any) -> tuple[Array, Array]:
    """(values as int64, which of them are known) of a nullable column of whole numbers."""
    return column.fillna(0).to_numpy(np.int64), column.notna().to_numpy(bool)
