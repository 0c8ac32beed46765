"""Durations one at a time, as integer nanoseconds, from the columns that a distribution draws."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import repeat

import numpy as np

from sim.clock import SECOND, ns
from sim.distributions import Constant, Distribution

BLOCK = 4096


def draws(distribution: Distribution, rng: np.random.Generator) -> Callable[[], int]:
    """A function that gives the next duration (ns >= 0) of *distribution*. A constant takes no randomness."""
    if isinstance(distribution, Constant):
        return repeat(ns(distribution.value)).__next__
    return _drawn(distribution, rng).__next__


def columns(distribution: Distribution, rng: np.random.Generator, size: int) -> np.ndarray:
    """*size* durations at once, int64 ns."""
    return np.rint(distribution.sample(rng, size) * SECOND).astype(np.int64)


def _drawn(distribution: Distribution, rng: np.random.Generator) -> Iterator[int]:
    while True:
        yield from columns(distribution, rng, BLOCK).tolist()
