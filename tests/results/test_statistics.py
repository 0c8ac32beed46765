"""Intervals: exact where they can be, and their coverage on correlated deliveries whose truth is known."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.results import statistics
from sim.results.statistics import (
    Estimate,
    batch_mean,
    batch_ratio,
    batches,
    bootstrap,
    events_needed,
    finite,
    mser5,
    quantile,
    quantiles,
    ratio,
)

numbers = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50)


@given(numbers, st.integers(0, 20))
def test_a_quantile_is_the_smallest_value_that_a_share_does_not_exceed(values: list[float], twentieths: int) -> None:
    p = twentieths / 20
    ordered = sorted(values)
    wanted = next(value for i, value in enumerate(ordered) if (i + 1) * 20 >= twentieths * len(ordered))
    assert quantile(np.array(values), p) == wanted
    assert quantile(np.array(values), p, np.full(len(values), 0.3)) == wanted


def test_weights_count_as_many_rows() -> None:
    values, weights = np.array([3.0, 1.0, 2.0]), np.array([1.0, 2.0, 1.0])
    assert [quantile(values, p, weights) for p in (0.5, 0.51, 0.75, 0.76)] == [1.0, 2.0, 2.0, 3.0]


def test_a_quantile_that_falls_on_what_never_happened_is_never() -> None:
    values = np.array([1.0, 2.0, 3.0, math.inf])
    assert quantile(values, 0.5) == 2.0
    assert quantile(values, 0.99) == math.inf
    assert quantile(np.array([]), 0.5) is None
    never = {"value": None, "ci_low": 1.0, "ci_high": None, "n": 3, "never": True}
    assert Estimate(math.inf, 1.0, math.nan, 3).row() == never
    assert "never" not in Estimate(None, n=3).row()


def test_finite_keeps_whole_numbers_whole() -> None:
    assert finite(3) == 3
    assert isinstance(finite(3), int)
    assert finite(np.float64(0.5)) == 0.5


@given(st.integers(0, 600), st.integers(1, 3), st.sampled_from([5, 10, 20]))
def test_batches_cut_between_events_and_lose_no_row(events: int, rows: int, count: int) -> None:
    serial = np.repeat(np.arange(events), rows)
    cuts = batches(serial, count)
    if events < statistics.MIN_BATCHES * statistics.EVENTS_PER_BATCH:
        assert cuts == []
        return
    assert len(cuts) == min(count, events // statistics.EVENTS_PER_BATCH)
    assert cuts[0].start == 0
    assert cuts[-1].stop == len(serial)
    assert all(a.stop == b.start for a, b in itertools.pairwise(cuts))
    sizes = [len(set(serial[cut])) for cut in cuts]
    assert sum(sizes) == events
    assert max(sizes) - min(sizes) <= 1


def test_all_equal_values_have_an_interval_of_no_width() -> None:
    (estimate,) = quantiles(np.full(3000, 0.25), np.repeat(np.arange(1000), 3), (0.5,))
    assert (estimate.value, estimate.low, estimate.n) == (0.25, 0.25, 1000)
    for figure in (ratio, batch_ratio):
        found = figure(np.full(100, 2.0), np.full(100, 4.0))
        assert (found.value, found.low, found.high) == (0.5, 0.5, 0.5)


def test_few_events_have_a_figure_but_no_interval() -> None:
    (estimate,) = quantiles(np.arange(3000.0), np.repeat(np.arange(3), 1000), (0.5,))
    assert estimate == Estimate(1499.0, None, None, 3)
    assert ratio(np.array([1.0]), np.array([2.0])) == Estimate(0.5, None, None, 1)
    assert ratio(np.array([]), np.array([])) == Estimate(None, None, None, 0)


def test_the_upper_end_is_open_where_a_batch_never_got_there() -> None:
    values = np.linspace(0, 1, 200)
    values[90:] = math.inf
    (estimate,) = quantiles(np.random.default_rng(1).permutation(values), np.arange(200), (0.4,))
    assert finite(estimate.high) is None
    assert estimate.low is not None


def test_bootstrap_draws_every_event_equally() -> None:
    sums = bootstrap(np.eye(4), repetitions=4000)
    assert (sums.sum(axis=1) == 4).all()
    assert sums.mean(axis=0) == pytest.approx(np.ones(4), abs=0.1)


def debounced(rng: np.random.Generator, updates: int, rate: float = 4.0, wait: float = 0.5) -> np.ndarray:
    """Delays of successive updates under a trailing debounce: all of a burst wait for the same silence."""
    at = np.cumsum(rng.exponential(1 / rate, updates + 200))
    quiet = np.r_[np.diff(at) > wait, True]
    fires = np.minimum.accumulate(np.where(quiet, at + wait, np.inf)[::-1])[::-1]
    return (fires - at)[:updates]


def correlated(rng: np.random.Generator, events: int = 500, receivers: int = 50) -> tuple[np.ndarray, np.ndarray]:
    """Delays that are the event's own (exponential, mean 1) and a little of the receiver's."""
    delays = rng.exponential(1.0, events)[:, None] + rng.uniform(-0.01, 0.01, (events, receivers))
    return delays.ravel(), np.repeat(np.arange(events), receivers)


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


def test_a_figure_has_an_interval_only_from_the_number_of_events_that_it_needs() -> None:
    rng = np.random.default_rng(9)
    for p in (0.5, 0.05, 0.95):
        n = events_needed(p)
        for events, given_one in ((n - 1, False), (n, True)):
            (estimate,) = quantiles(debounced(rng, events), np.arange(events), (p,))
            assert estimate.value is not None
            assert (estimate.low is not None) == given_one, (p, events)
    few = batch_mean(debounced(rng, statistics.MEAN_EVENTS - 1), np.ones(statistics.MEAN_EVENTS - 1))
    assert few.value is not None
    assert few.low is None


def test_a_share_stays_a_share() -> None:
    hits = np.ones(120)
    hits[[3, 70]] = 0.0
    found = batch_ratio(hits, np.ones(120), bounds=(0.0, 1.0))
    assert found.high is not None
    assert found.low is not None
    assert found.low < 118 / 120 < found.high <= 1.0


def test_no_loss_in_few_events_does_not_prove_that_none_is_lost() -> None:
    found = batch_ratio(np.ones(100), np.ones(100), bounds=(0.0, 1.0))
    assert (found.value, found.high) == (1.0, pytest.approx(1.0))
    assert found.low is not None
    assert found.low < 0.97


def test_mser_cuts_a_warm_up_and_leaves_a_steady_series_alone() -> None:
    rng = np.random.default_rng(7)
    steady = rng.normal(10, 1, 2000)
    rising = steady - 8 * np.exp(-np.arange(2000) / 60)
    assert 60 <= mser5(rising) <= 600
    assert mser5(np.full(1000, 3.0)) == 0
    assert mser5(steady[:40]) == 0
    assert abs(rising[mser5(rising) :].mean() - 10) < abs(rising.mean() - 10)
