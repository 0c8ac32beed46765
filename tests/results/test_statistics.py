"""Intervals: exact where they can be, and their coverage on correlated deliveries whose truth is known."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import stdtrit
from scipy.stats import t as reference_t

from sim.results import statistics
from sim.results.statistics import (
    Estimate,
    batch_mean,
    batch_ratio,
    batches,
    events_needed,
    finite,
    half_width,
    half_width_of_next,
    linearised,
    mser5,
    quantile,
    quantiles,
    ratio,
    share_interval,
    t_interval,
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
        estimate = ratio(np.bincount(events, values), np.bincount(events).astype(float))
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


FEW = np.array([1.0, 2.0, 4.0, 8.0, 16.0])


@pytest.mark.parametrize("freedom", [1, 1.5, 2, 4, 9.7, 30, 300, 999, 1000, 5e4, 1e8])
def test_student_s_quantiles_are_those_of_scipy(freedom: float) -> None:
    for p in (0.5, 0.6, 0.9, 0.95, 0.975, 0.99, 0.995):
        assert statistics.student(freedom, p) == pytest.approx(stdtrit(freedom, p), rel=1e-10)
    assert math.isnan(statistics.student(0.5))


def test_student_s_intervals_are_those_of_the_book() -> None:
    low, high = reference_t.interval(0.9, 4, loc=FEW.mean(), scale=FEW.std(ddof=1) / math.sqrt(5))
    assert half_width(FEW, 0.9) == pytest.approx((high - low) / 2)
    assert t_interval(FEW, FEW.mean(), 0.9) == pytest.approx((low, high))
    # One more observation, around the mean (prediction interval): its own variance comes on top.
    wanted = reference_t.ppf(0.95, 4) * math.sqrt(FEW.var(ddof=1) * 6 / 5 + 9)
    assert half_width_of_next(FEW, 0.9, besides=3.0) == pytest.approx(wanted)
    assert half_width_of_next(FEW, 0.9) < wanted
    assert half_width_of_next(FEW[:2], 0.9) == pytest.approx(reference_t.ppf(0.95, 1) * math.sqrt(0.5 * 3 / 2))
    assert half_width_of_next(FEW[:1], 0.9, besides=2.0) == pytest.approx(reference_t.ppf(0.95, 1) * 2)


def test_what_was_never_reached_leaves_the_upper_end_open() -> None:
    low, high = t_interval(np.r_[FEW, math.inf], 6.0, 0.9)
    assert (low, high) == (pytest.approx(6.0 - half_width(FEW, 0.9)), None)
    assert t_interval(np.r_[FEW[:4], math.inf], 6.0) == (None, None)
    assert t_interval(FEW[:4], 6.0) == (None, None)
    assert t_interval(FEW, math.inf) == (None, None)


@given(st.floats(0.01, 0.99), st.lists(st.integers(0, 1000), min_size=5, max_size=10), st.sampled_from([0.9, 0.95]))
def test_wilson_s_interval_is_where_the_share_is_t_standard_errors_away(share: float, batch: list[int], level: float) -> None:
    observations = np.array(batch) / 1000
    variance = observations.var(ddof=1) / len(batch)
    n = 500
    size = share * (1 - share) / variance if variance > 0 else n
    t = reference_t.ppf((1 + level) / 2, len(batch) - 1)
    low, high = share_interval(share, observations, n, level)
    assert 0 <= low < share < high <= 1
    for end in (low, high):
        assert size * (share - end) ** 2 == pytest.approx(t * t * end * (1 - end), rel=1e-5, abs=1e-6)


def test_where_all_batches_agree_a_share_is_as_sure_as_its_events() -> None:
    t = reference_t.ppf(0.975, 4)
    for share in (0.0, 1.0):
        ends = share_interval(share, np.full(5, share), 40, 0.95)
        assert ends == pytest.approx((0.0, t * t / (40 + t * t)) if share == 0 else (40 / (40 + t * t), 1.0))
    # Nothing beyond, and batches that differ: there is no variance of a share to divide.
    assert share_interval(1.0, FEW, 40, 0.95) == pytest.approx((40 / (40 + t * t), 1.0))


def test_a_ratio_of_batches_by_hand() -> None:
    rng = np.random.default_rng(3)
    numerator, denominator = rng.poisson(3.0, 100).astype(float), rng.poisson(9.0, 100).astype(float)
    found = batch_ratio(numerator, denominator)
    sums, counts = numerator.reshape(5, 20).sum(axis=1), denominator.reshape(5, 20).sum(axis=1)
    value = sums.sum() / counts.sum()
    parts = value + (sums - value * counts) / counts.mean()
    assert linearised(sums, counts) == pytest.approx(parts)
    half = reference_t.ppf(0.98, 4) * parts.std(ddof=1) / math.sqrt(5)
    assert (found.value, found.low, found.high) == pytest.approx((value, value - half, value + half))
    assert found.n == 100
    bounded = batch_ratio(numerator, denominator, bounds=(value - half / 2, value + half / 3))
    assert (bounded.low, bounded.high) == pytest.approx((value - half / 2, value + half / 3))
    rare = np.zeros(100)
    rare[7] = 1.0
    assert batch_ratio(rare, np.ones(100)).low == 0.0
    assert batch_ratio(numerator[:99], denominator[:99]).low is None
    assert batch_ratio(numerator, np.zeros(100)) == Estimate(None, n=100)
    assert batch_ratio(np.r_[numerator[1:], math.inf], denominator) == Estimate(math.inf, n=100)
    assert len(linearised(np.array([]), np.array([]))) == 0


def test_a_mean_of_latencies_by_hand() -> None:
    rng = np.random.default_rng(4)
    sums, counts = rng.exponential(1.0, 1000), rng.integers(1, 4, 1000).astype(float)
    found = batch_mean(sums, counts)
    means = sums.reshape(10, 100).sum(axis=1) / counts.reshape(10, 100).sum(axis=1)
    factor = math.exp(reference_t.ppf(0.99, 9) * np.log(means).std(ddof=1) / math.sqrt(10))
    value = sums.sum() / counts.sum()
    assert (found.value, found.low, found.high) == pytest.approx((value, value / factor, value * factor))
    assert found.n == 1000
    assert batch_mean(sums[:999], counts[:999]) == Estimate(pytest.approx(sums[:999].sum() / counts[:999].sum()), n=999)
    for odd in (np.zeros(1000), np.full(1000, math.inf)):
        assert batch_mean(odd, counts).low is None
    # A batch of nothing has no logarithm: the plain interval of the ratio.
    sums[:100] = 0.0
    assert batch_mean(sums, counts) == batch_ratio(sums, counts)


def test_quantiles_by_hand() -> None:
    rng = np.random.default_rng(5)
    values, events, weights = rng.exponential(1.0, 2000), np.repeat(np.arange(1000), 2), rng.integers(1, 4, 2000).astype(float)
    found = quantiles(values, events, (0.5, 0.9, 0.999), weights)
    for p, estimate in zip((0.5, 0.9, 0.999), found, strict=True):
        assert (estimate.value, estimate.n) == (quantile(values, p, weights), 1000)
    assert found[2].low is None
    median = found[0].value
    assert median is not None
    beyond = np.where(values > median, weights, 0.0).reshape(10, 200).sum(axis=1)
    totals = weights.reshape(10, 200).sum(axis=1)
    low, high = share_interval(beyond.sum() / totals.sum(), linearised(beyond, totals), 1000, 0.98)
    assert (found[0].low, found[0].high) == (quantile(values, 1 - high, weights), quantile(values, 1 - low, weights))
    assert quantiles(values[:0], events[:0], (0.5,)) == [Estimate(None)]
    # Of equal weights the same as without any.
    assert quantiles(values, events, (0.5,), np.ones(2000)) == quantiles(values, events, (0.5,))


def test_an_upper_end_above_all_that_was_seen_is_open() -> None:
    values = np.zeros(120)
    assert quantiles(values, np.arange(120), (0.5,))[0].high == math.inf
    values[::4] = 1.0
    assert quantiles(values, np.arange(120), (0.5,))[0].high == 1.0


def test_how_many_events_a_figure_needs() -> None:
    assert [events_needed(p) for p in (None, 0.5, 0.25, 0.75)] == [100] * 4
    assert [events_needed(p) for p in (0.2, 0.95, 0.05, 0.99, 0.999)] == [625, 2500, 2500, 12_500, 125_000]
    assert events_needed(1.0) == events_needed(0.0) > 10**15


def test_a_ratio_of_independent_events_by_hand() -> None:
    numerator, denominator = np.arange(20.0), np.r_[0.0, np.ones(19)]
    found = ratio(numerator, denominator)
    events = 10 + (numerator - 10 * denominator) / denominator.mean()
    half = reference_t.ppf(0.975, 19) * events.std(ddof=1) / math.sqrt(20)
    assert (found.value, found.low, found.high) == pytest.approx((10.0, 10 - half, 10 + half))
    assert ratio(numerator[:5], denominator[:5]).low is not None
    assert ratio(numerator[:4], denominator[:4]).low is None
    assert ratio(np.r_[numerator, math.inf], np.ones(21)) == Estimate(math.inf, n=21)


@given(st.lists(st.integers(0, 9), min_size=45, max_size=120))
def test_mser_is_the_least_squared_standard_error_over_cuts_of_the_first_half(values: list[int]) -> None:
    batch = np.array(values, float)[: len(values) // 5 * 5].reshape(-1, 5).mean(axis=1)
    if len(batch) < 10:
        assert mser5(np.array(values)) == 0
        return
    errors = [((batch[cut:] - batch[cut:].mean()) ** 2).sum() / (len(batch) - cut) ** 2 for cut in range(len(batch) // 2 + 1)]
    found = mser5(np.array(values))
    assert found % 5 == 0
    assert errors[found // 5] == pytest.approx(min(errors), abs=1e-9)


def test_ten_batches_are_enough_to_tell_a_warm_up_and_nine_are_not() -> None:
    steady = np.tile([0.0, 1.0, 2.0, 3.0, 4.0], 8)
    assert mser5(np.r_[np.full(10, 100.0), steady]) >= 10
    assert mser5(np.r_[np.full(10, 100.0), steady[:39]]) == 0


def test_a_ratio_of_one_event_is_one() -> None:
    assert batch_ratio(np.array([3.0]), np.array([1.0])) == Estimate(3.0, n=1)
    assert batch_ratio(np.array([]), np.array([])) == Estimate(None, n=0)
