"""A histogram that merges by addition and stays within its promise."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.results.histogram import BINS, SUB, Histogram, bin_of, merged, middle_of

values = st.lists(st.integers(0, 10**14), min_size=1, max_size=200)


@given(values)
def test_the_middle_of_a_bin_is_within_its_promise(batch: list[int]) -> None:
    middle = middle_of(bin_of(batch))
    assert (np.abs(middle - np.array(batch)) <= np.array(batch) / (2 * SUB)).all()


def test_bins_are_without_gap_and_in_order() -> None:
    edges = np.concatenate([np.arange(4 * SUB), np.int64(1) << np.arange(7, 50), (np.int64(1) << np.arange(7, 50)) - 1])
    edges.sort()
    bins = bin_of(edges)
    assert (np.diff(bins) >= 0).all()
    assert bins[: 2 * SUB].tolist() == list(range(2 * SUB))
    assert (np.diff(middle_of(np.arange(BINS))) > 0).all()
    assert bin_of([2**62])[0] == BINS - 1


@given(values, values)
def test_merging_is_counting_together(first: list[int], second: list[int]) -> None:
    one, other, both = Histogram(), Histogram(), Histogram()
    one.add(first)
    other.add(second)
    both.add(first + second)
    sum_ = merged([one, other])
    assert (sum_.bins == both.bins).all()
    assert (
        (sum_.total, sum_.largest, sum_.count)
        == (both.total, both.largest, both.count)
        == (
            sum(first + second),
            max(first + second),
            len(first + second),
        )
    )


@given(values, st.sampled_from([0.01, 0.5, 0.9, 0.99, 1.0]))
def test_a_quantile_is_that_of_the_values(batch: list[int], p: float) -> None:
    histogram = Histogram()
    histogram.add(batch)
    exact = float(np.quantile(batch, p, method="inverted_cdf"))
    assert histogram.quantile(p) == pytest.approx(exact, rel=1 / (2 * SUB), abs=0.5)


def test_negative_values_are_counted_apart_and_nothing_is_nothing() -> None:
    histogram = Histogram()
    assert math.isnan(histogram.quantile(0.5))
    histogram.add([])
    histogram.add([-5, 7, -1])
    assert (histogram.count, histogram.negative, histogram.total, histogram.largest) == (1, 2, 7, 7)


@given(values)
def test_it_survives_json(batch: list[int]) -> None:
    histogram = Histogram()
    histogram.add(batch)
    back = Histogram.from_dict(json.loads(json.dumps(histogram.to_dict())))
    assert (back.bins == histogram.bins).all()
    assert (back.total, back.largest, back.negative) == (histogram.total, histogram.largest, histogram.negative)
