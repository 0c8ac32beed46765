"""Shifted profiles are counted as their values would be, one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.results.histogram import FineHistogram
from sim.virtual.fleet import compiled
from sim.virtual.fleet.spread import STEPS, Kinds, Profile, Spread


@settings(deadline=None)
@given(
    st.integers(1, 9000),
    st.lists(st.integers(0, 10**10), min_size=1, max_size=5),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_shifted_profiles_count_like_their_values_one_by_one(size, shifts, rising, random):
    rng = np.random.default_rng(random.randint(0, 1 << 30))
    values = rng.integers(0, 2_000_000_000, size)
    if rising:
        values.sort()
    start = random.randint(0, size - 1)
    stop = random.randint(start + 1, size)
    spread, profile, moves = Spread(), Profile(values, rising), np.array(shifts)
    chosen = slice(start, stop) if random.random() < 0.5 else np.isin(np.arange(size), np.arange(start, stop))
    if random.random() < 0.4:
        kinds = np.zeros(size, np.uint8)
        kinds[start:stop] = rng.integers(1, 3, stop - start)
        chosen = Kinds(kinds, np.array([False, True, True]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled, "ENABLED", compiled.INSTALLED and random.random() < 0.5)
        total, count = spread.add_shifted(profile, moves, np.zeros(moves.size, np.int64), chosen)
    every = (values[start:stop] + moves[:, None]).ravel()
    (histogram,), expected = spread.finish(), FineHistogram()
    expected.add(every)
    assert (total, count) == (values[start:stop].sum(), stop - start)
    assert histogram.total == every.sum()
    assert (histogram.count, histogram.least, histogram.largest) == (every.size, every.min(), every.max())
    step = 2_000_000_000 / STEPS / 1e9
    for q in (0.1, 0.5, 0.9):
        assert histogram.quantile(q) == pytest.approx(expected.quantile(q), rel=5e-3, abs=2 * step)
