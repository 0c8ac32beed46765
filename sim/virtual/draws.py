"""Durations one at a time, as integer nanoseconds, from the columns that a distribution draws."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import repeat

import numpy as np

from sim.clock import SECOND, ns
from sim.distributions import Constant, Distribution, residual

BLOCK = 4096

PART = 1 << 15
"""Rows of a long column that are worked on together: a few columns of them stay in a core's cache."""

LONGEST = 1e9
"""Seconds: longer than any run, and short enough for 64 bits of nanoseconds."""


def draws(distribution: Distribution, rng: np.random.Generator) -> Callable[[], int]:
    """A function that gives the next duration (ns >= 0) of *distribution*. A constant takes no randomness."""
    if isinstance(distribution, Constant):
        return repeat(ns(distribution.value)).__next__
    return _blocks(lambda size: columns(distribution, rng, size)).__next__


def residuals(distribution: Distribution, rng: np.random.Generator) -> Callable[[], int]:
    """As `draws`: what is left, at an instant of its own, of a duration that is under way then (`distributions.residual`)."""
    return _blocks(lambda size: _ns(residual(distribution, rng, size))).__next__


def columns(distribution: Distribution, rng: np.random.Generator, size: int) -> np.ndarray:
    """*size* durations at once, int64 ns."""
    return _ns(distribution.sample(rng, size))


def _blocks(draw: Callable[[int], np.ndarray]) -> Iterator[int]:
    while True:
        yield from draw(BLOCK).tolist()


def parts(size: int) -> Iterator[slice]:
    """Of a column of *size* rows, those to be worked on together, in order."""
    return (slice(first, min(first + PART, size)) for first in range(0, size, PART))


def _ns(seconds: np.ndarray) -> np.ndarray:
    """In the place of *seconds*, which are not needed any more."""
    whole = seconds.view(np.int64)
    for part in parts(seconds.size):
        one = seconds[part]
        np.minimum(one, LONGEST, out=one)
        one *= SECOND
        whole[part] = np.rint(one, out=one).astype(np.int64)
    return whole
