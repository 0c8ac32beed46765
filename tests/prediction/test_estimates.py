"""Estimators on numbers made by hand; on runs: `test_fit.py`."""

from __future__ import annotations

import numpy as np
import pytest

from sim.distributions import Constant, Empirical
from sim.prediction.estimates import MIN_ANSWERS, MIN_EVENTS, STRATA, distribution, rest, separable, workers_at_most
from tests.prediction.test_samples import sample


def test_a_distribution_is_its_values_or_the_means_of_equal_parts_of_them() -> None:
    assert distribution(np.full(5, 0.25)) == Constant(0.25)
    assert distribution(np.array([3.0, 1.0])) == Empirical((1.0, 3.0))
    many = np.random.default_rng(1).permutation(10 * STRATA) / 1000
    found = distribution(many)
    assert isinstance(found, Empirical)
    assert found.values[:2] == (0.0045, 0.0145)
    assert len(found.values) == STRATA == 100
    assert found.mean() == pytest.approx(many.mean())


def test_fan_outs_differ_in_size_where_two_groups_of_ten_events_do() -> None:
    few, many = np.full(MIN_EVENTS, 100.0), np.full(MIN_EVENTS, 150.0)
    assert separable(np.r_[many, few])
    assert not separable(np.r_[many, few[1:]])
    assert not separable(np.r_[many - 1, few])
    assert not separable(np.r_[many[1:], few, few]), "of the larger ones there are nine"


def test_a_rest_tells_something_only_where_rests_differ() -> None:
    since, took = np.full(30, 2.0), np.linspace(0.001, 0.002, 30)
    assert rest(since, took) == 0.0
    assert rest(np.linspace(1.0, 2.0, 30), took) == pytest.approx(1.0, abs=0.05)
    two = np.where(np.arange(30) < 15, 1.0, 1.5)
    assert rest(two, 0.001 * two) == pytest.approx(1.0), "by as much as is asked for"
    assert rest(np.linspace(1.0, 2.0, 30), took[::-1]) == 0.0, "no rest makes it quicker"
    nine = np.where(np.arange(30) < MIN_EVENTS - 1, np.linspace(1.0, 4.0, 30), np.nan)
    assert rest(nine, took) == 0.0


def test_how_many_jobs_are_worked_on_at_once_is_what_gets_done_over_what_one_takes_alone() -> None:
    n = 2 * MIN_ANSWERS
    waits = np.arange(n) < MIN_ANSWERS
    own = np.where(waits, 0.04, 0.01)

    def bound(alone: int = MIN_ANSWERS, waited: int = MIN_ANSWERS) -> float | None:
        kept = np.r_[np.arange(waited), n - 1 - np.arange(alone)]
        columns = {"own": own, "board": np.zeros(n, bool), "waited": waits, "alone": ~waits}
        return workers_at_most([sample(answers=n, **{name: column[kept] for name, column in columns.items()})])

    assert bound() == pytest.approx(1.0), "four at once, each four times as long"
    assert bound(alone=MIN_ANSWERS - 1) is None
    assert bound(waited=MIN_ANSWERS - 1) is None
