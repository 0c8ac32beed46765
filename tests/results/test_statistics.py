"""Intervals: exact where they can be, and their coverage on correlated deliveries whose truth is known."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.results import statistics
from sim.results.statistics import Estimate, batch_ratio, batches, bootstrap, finite, mser5, quantile, quantiles, ratio

numbers = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50)


@given(numbers, st.floats(0, 1))
def test_quantile_is_numpys_linear_one(values: list[float], p: float) -> None:
    assert quantile(np.array(values), p) == pytest.approx(np.quantile(values, p), rel=1e-9, abs=1e-6)


def test_a_quantile_that_falls_on_what_never_happened_is_infinite() -> None:
    values = np.array([1.0, 2.0, 3.0, math.inf])
    assert quantile(values, 0.5) == 2.5
    assert quantile(values, 0.99) == math.inf
    assert quantile(np.array([]), 0.5) is None
    assert Estimate(math.inf, 1.0, math.nan, 3).row() == {"value": None, "ci_low": 1.0, "ci_high": None, "n": 3}


def test_finite_keeps_whole_numbers_whole() -> None:
    assert finite(3) == 3
    assert isinstance(finite(3), int)
    assert finite(np.float64(0.5)) == 0.5


@given(st.integers(0, 600), st.integers(1, 3), st.sampled_from([None, 0.5, 0.9]))
def test_batches_cut_between_events_and_lose_no_row(events: int, rows: int, p: float | None) -> None:
    serial = np.repeat(np.arange(events), rows)
    cuts = batches(serial, p)
    each = {None: 10, 0.5: 20, 0.9: 100}[p]
    if events < statistics.MIN_BATCHES * each:
        assert cuts == []
        return
    assert len(cuts) == min(statistics.BATCHES, events // each)
    assert cuts[0].start == 0
    assert cuts[-1].stop == len(serial)
    assert all(a.stop == b.start for a, b in itertools.pairwise(cuts))
    sizes = [len(set(serial[cut])) for cut in cuts]
    assert sum(sizes) == events
    assert max(sizes) - min(sizes) <= 1


def test_all_equal_values_have_an_interval_of_no_width() -> None:
    (estimate,) = quantiles(np.full(3000, 0.25), np.repeat(np.arange(1000), 3), (0.95,))
    assert estimate == Estimate(0.25, 0.25, 0.25, 1000)
    for figure in (ratio, batch_ratio):
        found = figure(np.full(50, 2.0), np.full(50, 4.0))
        assert (found.value, found.low, found.high) == (0.5, 0.5, 0.5)


def test_few_events_have_a_figure_but_no_interval() -> None:
    (estimate,) = quantiles(np.arange(3000.0), np.repeat(np.arange(3), 1000), (0.5,))
    assert estimate == Estimate(1499.5, None, None, 3)
    assert ratio(np.array([1.0]), np.array([2.0])) == Estimate(0.5, None, None, 1)
    assert ratio(np.array([]), np.array([])) == Estimate(None, None, None, 0)


def test_the_upper_end_is_open_where_a_batch_never_got_there() -> None:
    values = np.linspace(0, 1, 200)
    values[:10] = math.inf
    (estimate,) = quantiles(values, np.arange(200), (0.5,))
    assert estimate.high is None
    assert estimate.low is not None


def test_bootstrap_draws_every_event_equally() -> None:
    sums = bootstrap(np.eye(4), repetitions=4000)
    assert (sums.sum(axis=1) == 4).all()
    assert sums.mean(axis=0) == pytest.approx(np.ones(4), abs=0.1)


def correlated(rng: np.random.Generator, events: int = 500, receivers: int = 50) -> tuple[np.ndarray, np.ndarray]:
    """Delays that are the event's own (exponential, mean 1) and a little of the receiver's."""
    delays = rng.exponential(1.0, events)[:, None] + rng.uniform(-0.01, 0.01, (events, receivers))
    return delays.ravel(), np.repeat(np.arange(events), receivers)


@pytest.mark.parametrize(("p", "truth"), [(0.5, math.log(2)), (0.9, math.log(10))])
def test_intervals_of_quantiles_cover_the_truth_where_rows_would_not(p: float, truth: float) -> None:
    rng = np.random.default_rng(5)
    covered = 0
    for _ in range(200):
        (estimate,) = quantiles(*correlated(rng, receivers=5), (p,))
        assert estimate.low is not None
        assert estimate.high is not None
        covered += estimate.low <= truth <= estimate.high
    assert covered >= 175, "95 % intervals must cover in about 190 of 200 experiments"


def test_intervals_of_means_cover_the_truth() -> None:
    rng = np.random.default_rng(6)
    covered = 0
    for _ in range(200):
        values, events = correlated(rng, 100)
        estimate = ratio(np.bincount(events, values), np.bincount(events).astype(float), repetitions=400)
        assert estimate.low is not None
        assert estimate.high is not None
        covered += estimate.low <= 1.0 <= estimate.high
    assert covered >= 175


def debounced(rng: np.random.Generator, updates: int, rate: float = 4.0, wait: float = 0.5) -> np.ndarray:
    """Delays of successive updates under a trailing debounce: all of a burst wait for the same silence."""
    at = np.cumsum(rng.exponential(1 / rate, updates + 200))
    quiet = np.r_[np.diff(at) > wait, True]
    fires = np.minimum.accumulate(np.where(quiet, at + wait, np.inf)[::-1])[::-1]
    return (fires - at)[:updates]


def test_batches_cover_where_successive_events_depend_on_each_other_and_a_bootstrap_of_events_does_not() -> None:
    rng = np.random.default_rng(8)
    mean, median = (math.exp(2.0) - 1) / 4, 1.2153
    covered = {"mean": 0, "median": 0, "independent": 0}
    for _ in range(200):
        delays = debounced(rng, 600)
        ones = np.ones(len(delays))
        (middle,) = quantiles(delays, np.arange(len(delays)), (0.5,))
        for name, found, truth in (
            ("mean", batch_ratio(delays, ones), mean),
            ("median", middle, median),
            ("independent", ratio(delays, ones, repetitions=200), mean),
        ):
            assert found.low is not None
            assert found.high is not None
            covered[name] += found.low <= truth <= found.high
    # The delays are as skewed as they come; 95 % are reached only by longer runs.
    assert covered["mean"] >= 155
    assert covered["median"] >= 170
    assert covered["independent"] < 140


def test_tails_have_no_interval_before_a_batch_has_ten_events_beyond_them() -> None:
    delays = debounced(np.random.default_rng(9), 900)
    (estimate,) = quantiles(delays, np.arange(900), (0.95,))
    assert estimate.value is not None
    assert (estimate.low, estimate.high) == (None, None)


def test_a_share_stays_a_share() -> None:
    hits = np.ones(60)
    hits[3] = 0.0
    found = batch_ratio(hits, np.ones(60), bounds=(0.0, 1.0))
    assert found.high == 1.0


def test_mser_cuts_a_warm_up_and_leaves_a_steady_series_alone() -> None:
    rng = np.random.default_rng(7)
    steady = rng.normal(10, 1, 2000)
    rising = steady - 8 * np.exp(-np.arange(2000) / 60)
    assert 60 <= mser5(rising) <= 600
    assert mser5(np.full(1000, 3.0)) == 0
    assert mser5(steady[:40]) == 0
    assert abs(rising[mser5(rising) :].mean() - 10) < abs(rising.mean() - 10)
