"""The log-histogram: exact where it says so, close where it says so, and a sum of its parts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.errors import BadInput
from sim.virtual.fleet import compiled
from sim.virtual.fleet.histogram import FineHistogram
from sim.virtual.fleet.spread import STEPS, Kinds, Profile, Spread

durations = st.lists(st.integers(0, 10**13), min_size=1, max_size=50)


def of(values) -> FineHistogram:
    histogram = FineHistogram()
    histogram.add(np.array(values, np.int64))
    return histogram


@settings(deadline=None)
@given(durations)
def test_count_mean_and_extremes_are_exact(values):
    histogram = of(values)
    assert len(histogram) == len(values)
    assert histogram.total == sum(values)
    assert (histogram.least, histogram.largest) == (min(values), max(values))
    assert histogram.mean == pytest.approx(sum(values) / len(values) / 1e9)
    assert histogram.max == max(values) / 1e9


@settings(deadline=None)
@given(durations, durations)
def test_parts_add_up(first, second):
    assert of(first) + of(second) == of(second) + of(first) == of(first + second)
    assert of(first) + FineHistogram() == of(first)


@pytest.mark.parametrize("q", [0.0, 0.01, 0.5, 0.95, 0.999, 1.0])
def test_quantiles_are_right_to_a_fifth_of_a_percent(q):
    values = np.random.default_rng(1).lognormal(18, 2, 200_000).astype(np.int64)
    assert of(values).quantile(q) == pytest.approx(np.quantile(values, q) / 1e9, rel=4e-3)


def test_equal_values_have_that_value_as_every_quantile():
    histogram = of([123_456_789] * 10)
    assert {histogram.quantile(q) for q in (0, 0.3, 1)} == {0.123456789}


def test_a_sum_that_an_int64_could_not_hold():
    histogram = FineHistogram()
    for _ in range(3):
        histogram.add(np.full(1 << 16, 1 << 46))
    assert histogram.total == 3 << 62


def test_the_share_within_a_limit_and_the_curve():
    histogram = of(np.arange(1, 1001) * 1_000_000)
    assert histogram.share_within(0.25) == pytest.approx(0.25, abs=3e-3)
    seconds, share = histogram.curve()
    assert share[-1] == 1.0
    assert (np.diff(share) >= 0).all()
    assert np.interp(0.5, seconds, share) == pytest.approx(0.5, abs=3e-3)


def test_nothing_is_not_a_number_and_never_an_error():
    empty = FineHistogram()
    assert np.isnan([empty.mean, empty.max, empty.quantile(0.5), empty.share_within(1.0)]).all()
    assert empty.curve()[0].size == 0
    assert repr(empty) == "Histogram(empty)"
    empty.add(np.empty(0, np.int64))
    assert len(empty) == 0


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="-5"):
        of([-5])
    with pytest.raises(BadInput, match="between 0 and 1"):
        of([5]).quantile(1.5)


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
    (histogram,), expected = spread.finish(), of(every)
    assert (total, count) == (values[start:stop].sum(), stop - start)
    assert histogram.total == every.sum()
    assert (len(histogram), histogram.least, histogram.largest) == (every.size, every.min(), every.max())
    step = 2_000_000_000 / STEPS / 1e9
    for q in (0.1, 0.5, 0.9):
        assert histogram.quantile(q) == pytest.approx(expected.quantile(q), rel=5e-3, abs=2 * step)
