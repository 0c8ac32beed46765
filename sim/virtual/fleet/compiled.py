"""The hot loops compiled, where Numba is installed (`pip install 'notify-refetch-workbench[fast]'`). Without it everything
still works.

Compiled code is cached on disk beside this file: the first run on a machine pays about a second for each loop, later ones
milliseconds.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np

from sim.arrays import Array

INSTALLED = importlib.util.find_spec("numba") is not None

ENABLED = False
"""Are the loops taken? Set by `prepare`; what they give is the same either way."""

WORTHWHILE = 3_000_000
"""Requests from which they pay for their start: importing Numba takes 0.7 s, NumPy and the standard library 0.05 to 0.23 us
each."""


def prepare(requests: int) -> None:
    """Take the compiled loops from now on if there is so much to do (and Numba is installed)."""
    global ENABLED
    ENABLED = ENABLED or (INSTALLED and requests >= WORTHWHILE)


UNPACKED = 0, np.empty(0, np.int32), np.empty(0, np.int64)


def serve(
    sent: Array,
    service: Array,
    begins: Array,
    free: Array,
    window: tuple[int, int],
    way: int = 0,
    base: int = 0,
    packed: tuple[int, Array, Array] = UNPACKED,
) -> tuple[int, ...]:
    """A first-come first-served queue, see `sim.virtual.fleet.queueing`: *begins* are written, *free* (sorted) is left sorted.

    *sent*, sorted, and *begins* count from *base*, all other instants are of the run. A request takes *way* to the queue, and as
    long back. *packed*: (bits, numbers, answers): *sent* have a number in their lowest bits and are left without it; the numbers
    (int32) and the instants of the answers (from *base*) are written. Returns what is observed in the *window* (busy, count,
    waited, longest), and the least and the largest of these answers.
    """
    found: tuple[int, ...] = _loops().serve(sent, service, begins, free, window, way, base, *packed)
    return found


def exponential(rng: np.random.Generator, scale: float, count: int) -> Array:
    """As `draws.columns` of exponential durations, the same numbers: 3.5 ns each, by NumPy alone 4.9."""
    found = np.empty(count, np.int64)
    _loops().scaled(rng.standard_exponential(count), scale, found)
    return found


def pack(shares: Array, most: float, earliest: Array, first: int, bits: int, into: Array) -> None:
    """Instants *earliest* + shares * most (ns), with the numbers *first*, first + 1, ... in their lowest *bits*."""
    if ENABLED:
        _loops().pack(shares, most, earliest, first, bits, into)
    else:
        into[:] = earliest + (shares * most).astype(np.int64) << bits | np.arange(first, first + shares.size)


def rearranged(values: Array, order: Array, other: Array) -> Array:
    """*values* (bytes) in the *order* of some members, in that of the *other*: 1.6 ns each, by NumPy's two steps 5."""
    found: Array = _loops().rearranged(values, order, other)
    return found


def count_steps(values: Array, kinds: Array, number: int, shift: int, first: int, size: int) -> tuple[Array, Array, Array, Array]:
    """Per kind (uint8, below *number*): (counts, sum, least, largest) of *values* in *size* steps of 2**shift, counted from the
    *first* on."""
    found: tuple[Array, Array, Array, Array] = _loops().count_steps(values, kinds, number, shift, first, size)
    return found


def count_bins(durations: Array, shift: int, first: int, counts: Array) -> None:
    """Count durations in the bins of `Histogram.bins_of`: 1.5 ns each, by NumPy's steps 8."""
    _loops().count_bins(durations, shift, first, counts)


def _loops() -> Any:
    from sim.virtual.fleet import loops  # with Numba, whose import takes a third of a second

    return loops
