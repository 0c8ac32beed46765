"""The log-histogram: exact where it says so, close where it says so, and a sum of its parts."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.errors import BadInput
from sim.results.histogram import FineHistogram, Histogram

durations = st.lists(st.integers(0, 10**14), min_size=1, max_size=50)
either = st.sampled_from([Histogram, FineHistogram])


def of(values: Any, kind: type[Histogram] = Histogram) -> Histogram:
    histogram = kind()
    histogram.add(values)
    return histogram


@settings(deadline=None)
@given(durations, either)
def test_count_mean_and_extremes_are_exact(values: list[int], kind: type[Histogram]) -> None:
    histogram = of(values, kind)
    assert (histogram.count, histogram.total) == (len(values), sum(values))
    assert (histogram.least, histogram.largest) == (min(values), max(values))
    assert histogram.mean == pytest.approx(sum(values) / len(values) / 1e9)
    assert histogram.max == max(values) / 1e9


@settings(deadline=None)
@given(durations, durations, either)
def test_parts_add_up_and_what_came_since_is_the_rest(first: list[int], second: list[int], kind: type[Histogram]) -> None:
    one, other, both = of(first, kind), of(second, kind), of(first + second, kind)
    assert one + other == other + one == sum([one, other], kind()) == both
    assert (both.since(one).counts == other.counts).all()
    assert both.since(one).total == other.total
    assert one.since(both) is one, "it began anew"


@settings(deadline=None)
@given(durations, st.sampled_from([(Histogram, 1 / 32), (FineHistogram, 1 / 256)]), st.sampled_from([0.01, 0.5, 0.9, 0.99, 1.0]))
def test_a_quantile_is_that_of_the_values(values: list[int], promise: tuple[type[Histogram], float], q: float) -> None:
    exact = float(np.quantile(values, q, method="inverted_cdf"))
    assert of(values, promise[0]).quantile(q) == pytest.approx(exact / 1e9, rel=promise[1], abs=2e-9)


@pytest.mark.parametrize("q", [0.0, 0.01, 0.5, 0.95, 0.999, 1.0])
@pytest.mark.parametrize(("kind", "promise"), [(Histogram, 0.02), (FineHistogram, 4e-3)])
def test_quantiles_of_many_values(kind: type[Histogram], promise: float, q: float) -> None:
    values = np.random.default_rng(1).lognormal(18, 2, 200_000).astype(np.int64)
    assert of(values, kind).quantile(q) == pytest.approx(np.quantile(values, q) / 1e9, rel=promise)


def test_equal_values_have_that_value_as_every_quantile() -> None:
    assert {of([123_456_789] * 10).quantile(q) for q in (0, 0.3, 1)} == {0.123456789}


def test_bins_are_without_gap_and_in_order() -> None:
    powers = np.int64(1) << np.arange(7, 62)
    edges = np.sort(np.concatenate([np.arange(1, 128), powers, powers - 1]))
    for kind in (Histogram(), FineHistogram()):
        bins = kind.bins_of(edges)
        assert (np.diff(bins) >= 0).all()
        assert bins[-1] < len(kind.counts)
        low = kind.edges()
        assert ((low[bins] <= edges.astype(float)) & (edges.astype(float) < low[bins + 1])).all()


def test_a_sum_that_an_int64_could_not_hold() -> None:
    histogram = Histogram()
    for _ in range(3):
        histogram.add(np.full(1 << 16, 1 << 46))
    assert histogram.total == 3 << 62


def test_how_many_are_above_a_limit_and_where_the_others_are() -> None:
    histogram = of(np.arange(1, 1001) * 1_000_000, FineHistogram)
    assert histogram.count_above(0.25) == pytest.approx(750, abs=3)
    assert histogram.quantile_with(1000, 0.25) == pytest.approx(0.5, abs=3e-3)
    assert histogram.quantile_with(1000, 0.75) == np.inf
    seconds, counts = histogram.held()
    assert counts.sum() == 1000
    assert np.interp(500, np.cumsum(counts), seconds) == pytest.approx(0.5, abs=3e-3)


def test_negative_values_are_counted_apart() -> None:
    histogram = of([-5, 7, -1])
    assert (histogram.count, histogram.negative, histogram.total, histogram.largest) == (1, 2, 7, 7)
    assert (histogram + histogram).negative == 4


def test_nothing_is_not_a_number_and_never_an_error() -> None:
    empty = of([])
    assert np.isnan([empty.mean, empty.max, empty.quantile(0.5)]).all()
    assert (empty.count, empty.count_above(1.0), empty.quantile_with(0, 0.5)) == (0, 0, None)
    assert empty.held()[0].size == 0
    with pytest.raises(BadInput, match="between 0 and 1"):
        empty.quantile(1.5)


@settings(deadline=None)
@given(durations)
def test_it_survives_json(values: list[int]) -> None:
    tree = of([*values, -1]).to_dict()
    assert Histogram.from_dict(json.loads(json.dumps(tree))) == of([*values, -1])


@pytest.mark.parametrize(
    ("low", "high", "lost", "level"), [(49, 49, 0, 0.5), (7, 0, 93, 0.07), (57, 0, 43, 0.57), (29, 71, 0, 0.29)]
)
def test_a_level_that_is_reached_exactly_is_that_of_the_lower_value(low: int, high: int, lost: int, level: float) -> None:
    """However its product with the count is rounded."""
    histogram = FineHistogram()
    histogram.add(np.repeat([1_000_000_000, 2_000_000_000], [low, high]))
    assert histogram.quantile_with(lost, level) == pytest.approx(1.0, rel=0.005)
