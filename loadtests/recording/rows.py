"""Rows that are packed into a buffer while messages arrive (0.1 us each) and taken out as one array; and the share of the pages
whose rows are kept."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

ROOM = 16384
"""Rows after which they should be taken out: what is then done with all of them at once keeps the hub for 10 to 20 ms."""


class Rows:
    """Fixed-size records appended to a buffer, taken out as one structured array."""

    __slots__ = ("_buffer", "_count", "_dtype", "_pack", "_room", "_size", "full")

    def __init__(self, full: Callable[[], None], **columns: str) -> None:
        """*full*() is called when there are `ROOM` of them, and each time they have doubled since. Columns: name -> struct code
        (q: int64, i: int32, h: int16)."""
        self.full = full
        self._dtype = np.dtype([(name, {"q": "<i8", "i": "<i4", "h": "<i2"}[code]) for name, code in columns.items()])
        layout = struct.Struct("<" + "".join(columns.values()))
        self._pack, self._size = layout.pack_into, layout.size
        self._new()

    def _new(self) -> None:
        self._buffer, self._room, self._count = bytearray(ROOM * self._size), ROOM, 0

    def add(self, *values: int) -> None:
        count = self._count
        if count == self._room:
            self._grow()
        self._pack(self._buffer, count * self._size, *values)
        self._count = count + 1

    def extend(self, count: int, **columns: npt.ArrayLike) -> None:
        """Add *count* rows at once, by columns."""
        rows = np.empty(count, self._dtype)
        for name, values in columns.items():
            rows[name] = values
        first, self._count = self._count, self._count + count
        while self._count > self._room:
            self._grow()
        self._buffer[first * self._size : self._count * self._size] = rows.tobytes()

    def _grow(self) -> None:
        self._buffer.extend(bytes(len(self._buffer)))
        self._room *= 2
        self.full()

    def take(self) -> np.ndarray:
        rows = np.frombuffer(self._buffer, self._dtype, self._count)
        self._new()
        return rows


@dataclass(frozen=True, slots=True)
class Sample:
    """The pages whose rows are kept: a random share, chosen by a hash of seed and subscriber. The others are only counted.

    The first pages would not do: they are served first, so their figures differ from those of the others.
    """

    seed: int = 0
    share: float = 1.0

    @property
    def weight(self) -> float:
        """The number of pages that each kept page stands for."""
        return 1.0 / self.share if self.share else 0.0

    def keeps(self, subscribers: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """For each of the subscribers, whether its rows are kept."""
        # The finaliser of SplitMix64 (Steele et al., OOPSLA 2014) on a stream of its own for each seed.
        x = np.atleast_1d(np.asarray(subscribers)).astype(np.uint64)
        start = np.uint64((self.seed * 0xD1342543DE82EF95 + 0x9E3779B97F4A7C15) % 2**64)
        with np.errstate(over="ignore"):
            x = start + x * np.uint64(0x9E3779B97F4A7C15)
            x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        kept: npt.NDArray[np.bool_] = ((x ^ (x >> np.uint64(31))) >> np.uint64(11)) * 2.0**-53 < self.share
        return kept
