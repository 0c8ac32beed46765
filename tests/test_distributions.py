"""Durations: moments and shares against drawn samples, and fits that find what samples were drawn from."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sim.distributions import (
    FAMILIES,
    Constant,
    Empirical,
    Exponential,
    Gamma,
    Lognormal,
    Mixture,
    Pareto,
    Uniform,
    Weibull,
    fit,
    fit_best,
    residual,
    strata,
)

ALL: list[Any] = [
    Constant(2.0),
    Exponential(0.5),
    Exponential(0.0),
    Uniform(1.0, 4.0),
    Uniform(2.0, 2.0),
    Lognormal(3.0, 0.8),
    Lognormal(3.0, 0.0),
    Gamma(2.0, 0.7),
    Gamma(2.0, 9.0),
    Weibull(1.5, 0.8),
    Weibull(1.5, 3.0),
    Pareto(2.0, 4.5),
    Empirical((0.2, 0.2, 5.0, 1.0)),
    Mixture((Constant(0.1), Exponential(4.0)), (9.0, 1.0)),
]


def exact(distribution: Any) -> Any:
    """The same distribution by SciPy: its `mean`, `var` and `cdf` are the truth that samples are held against."""
    match distribution:
        case Exponential() if distribution.scale > 0:
            return stats.expon(scale=distribution.scale)
        case Uniform() if distribution.low < distribution.high:
            return stats.uniform(distribution.low, distribution.high - distribution.low)
        case Lognormal() if distribution.sigma > 0:
            return stats.lognorm(distribution.sigma, scale=math.exp(distribution.mu))
        case Gamma():
            return stats.gamma(distribution.shape, scale=distribution.scale / distribution.shape)
        case Weibull():
            return stats.weibull_min(distribution.shape, scale=distribution.characteristic)
        case Pareto():
            return stats.pareto(distribution.shape, scale=distribution.least)
        case Mixture():
            return Weighted([exact(part) for part in distribution.parts], distribution.shares)
        case Empirical():
            return Weighted([Always(value) for value in distribution.values], np.full(4, 1 / 4))
    return Always(distribution.mean())


class Always:
    def __init__(self, value: float) -> None:
        self.value = value

    def mean(self) -> float:
        return self.value

    def var(self) -> float:
        return 0.0

    def cdf(self, x: np.ndarray) -> np.ndarray:
        return (x >= self.value).astype(float)


class Weighted:
    def __init__(self, parts: list[Any], shares: np.ndarray) -> None:
        self.parts, self.shares = parts, shares

    def mean(self) -> float:
        return float(self.shares @ [part.mean() for part in self.parts])

    def var(self) -> float:
        return float(self.shares @ [part.var() + part.mean() ** 2 for part in self.parts] - self.mean() ** 2)

    def cdf(self, x: np.ndarray) -> np.ndarray:
        return np.tensordot(self.shares, [part.cdf(x) for part in self.parts], axes=1)


@pytest.mark.parametrize("distribution", ALL, ids=repr)
def test_samples_have_the_mean_the_variance_and_the_shares_that_are_claimed(distribution: Any) -> None:
    n = 200_000
    drawn = distribution.sample(np.random.default_rng(1), n)
    assert drawn.shape == (n,)
    assert drawn.min() >= 0
    truth = exact(distribution)
    assert distribution.mean() == pytest.approx(truth.mean())
    assert abs(drawn.mean() - distribution.mean()) <= 5 * math.sqrt(truth.var() / n) + 1e-9
    assert drawn.var() == pytest.approx(truth.var(), rel=0.1, abs=1e-12)
    for x in np.quantile(drawn, [0.01, 0.3, 0.7, 0.99]):
        assert truth.cdf(np.array([x]))[0] == pytest.approx((drawn <= x).mean(), abs=0.005)


@pytest.mark.parametrize("distribution", ALL, ids=repr)
def test_what_is_left_of_a_duration_under_way_has_the_equilibrium_distribution(distribution: Any) -> None:
    """Its mean is E[X^2] / 2 E[X], and it is at most x with probability 1/E[X] times the integral of 1 - F up to x."""
    n, mean = 200_000, distribution.mean()
    drawn = residual(distribution, np.random.default_rng(2), n)
    assert drawn.shape == (n,)
    if mean == 0:
        assert not drawn.any()
        return
    assert drawn.mean() == pytest.approx((exact(distribution).var() + mean**2) / (2 * mean), rel=0.03)
    for x in np.quantile(drawn, [0.1, 0.5, 0.9]):
        grid = np.linspace(0, x, 20_001)
        share = np.trapezoid(1 - exact(distribution).cdf(grid), grid) / mean
        assert (drawn <= x).mean() == pytest.approx(share, abs=0.006)


@given(st.floats(0.01, 100), st.floats(0.1, 3), st.integers(0, 2**32))
def test_the_scale_is_the_mean_whatever_the_shape(scale: float, shape: float, seed: int) -> None:
    for distribution in (
        Exponential(scale),
        Lognormal(scale, shape),
        Gamma(scale, shape),
        Weibull(scale, shape),
        Pareto(scale, 1 + shape),
    ):
        assert distribution.mean() == scale
        assert (distribution.sample(np.random.default_rng(seed), 3) == distribution.sample(np.random.default_rng(seed), 3)).all()


def test_what_a_kind_is_where_nothing_is_said_of_it() -> None:
    assert [kind() for kind in (Constant, Exponential, Uniform, Lognormal, Gamma, Weibull, Pareto, Empirical, Mixture)] == [
        Constant(0.0),
        Exponential(1.0),
        Uniform(0.0, 1.0),
        Lognormal(1.0, 1.0),
        Gamma(1.0, 2.0),
        Weibull(1.0, 1.5),
        Pareto(1.0, 2.5),
        Empirical((1.0,)),
        Mixture((Constant(1.0),), (1.0,)),
    ]


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: Constant(-1.0), "value must be a finite number >= 0 s, got -1.0"),
        (lambda: Constant(math.nan), "value must be"),
        (lambda: Exponential(math.inf), "scale must be a finite number"),
        (lambda: Uniform(2.0, 1.0), "high must be >= low"),
        (lambda: Lognormal(0.0), "scale must be a finite number > 0 s"),
        (lambda: Lognormal(1.0, -1.0), "sigma must be between 0 and 20"),
        (lambda: Gamma(1.0, 0.0), "shape must be between 0.01 and 1e"),
        (lambda: Weibull(-1.0, 1.0), "scale must be"),
        (lambda: Pareto(1.0, 1.0), "shape must be > 1"),
        (lambda: Empirical(()), "values must hold at least one duration"),
        (lambda: Empirical((1.0, -1.0)), "values must be a finite number >= 0 s"),
        (lambda: Mixture((Constant(1.0),), (1.0, 2.0)), "weights must hold one number for each of 1 parts, got 2"),
        (lambda: Mixture((Constant(1.0),), (0.0,)), "weights must be >= 0 and not all 0"),
    ],
)
def test_an_impossible_value_is_refused(make: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        make()


# --- fitting -----------------------------------------------------------------------------------------------------------

TRUE = [Exponential(2.0), Lognormal(3.0, 0.6), Gamma(2.0, 3.0), Gamma(2.0, 0.5), Weibull(2.0, 0.7), Weibull(2.0, 4.0)]


@pytest.mark.parametrize("truth", TRUE, ids=repr)
def test_a_fit_finds_the_parameters_back(truth: Any) -> None:
    found, _ = fit(truth.sample(np.random.default_rng(2), 20_000), type(truth))
    assert type(found) is type(truth)
    assert found.mean() == pytest.approx(truth.mean(), rel=0.03)
    assert exact(found).std() == pytest.approx(exact(truth).std(), rel=0.05)


@pytest.mark.parametrize("truth", TRUE, ids=repr)
def test_the_best_fit_is_the_family_that_it_came_from(truth: Any) -> None:
    x = truth.sample(np.random.default_rng(3), 5_000)
    found = fit_best(x)
    assert type(found) is type(truth)
    assert stats.kstest(x, exact(found).cdf).statistic < 0.03


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.kind)
def test_no_neighbour_is_likelier(family: type) -> None:
    x = np.random.default_rng(4).gamma(2.0, 1.5, 400)
    found, likelihood = fit(x, family)
    assert likelihood == pytest.approx(exact(found).logpdf(x).sum())
    values = dataclasses.astuple(found)
    for i in range(len(values)):
        for factor in (0.97, 1.03):
            neighbour = family(*[v * factor if i == j else v for j, v in enumerate(values)])
            assert exact(neighbour).logpdf(x).sum() < likelihood


@pytest.mark.parametrize("values", [[3.0], [3.0, 3.0, 3.0]])
def test_durations_without_spread_are_a_constant(values: list[float]) -> None:
    assert fit_best(values) == Constant(3.0)


@given(st.lists(st.floats(0.001, 1000), min_size=1, max_size=30))
def test_whatever_was_measured_can_be_fitted(values: list[float]) -> None:
    assert math.isfinite(fit_best(values).mean())


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ([], "no durations to fit to"),
        ([1.0, 0.0], "must be finite and > 0 s, got 0.0 to 1.0"),
        ([1.0, math.nan], "must be finite"),
    ],
)
def test_what_cannot_be_fitted_is_said(values: list[float], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        fit_best(values)


@given(st.lists(st.floats(0.001, 10.0), min_size=1, max_size=60), st.integers(1, 30))
def test_strata_have_the_mean_of_the_values_and_lie_among_them_in_order(values: list[float], most: int) -> None:
    parts = strata(values, most)
    assert len(parts) == min(most, len(values))
    assert parts.mean() == pytest.approx(np.mean(values))
    assert (np.diff(parts) >= -1e-9).all()
    assert parts.min() >= min(values) - 1e-9
    assert parts.max() <= max(values) + 1e-9


def test_a_value_at_the_border_of_two_strata_counts_in_both() -> None:
    assert strata([6.0, 1.0, 2.0], 2).tolist() == pytest.approx([4 / 3, 14 / 3])
    assert strata([3.0, 1.0], 5).tolist() == [1.0, 3.0]


@pytest.mark.parametrize(
    "durations",
    [
        np.r_[0.001, 1e6],
        np.r_[np.full(5, 1e-9), 1e12],
        10.0 ** np.linspace(-12, 12, 9),
        1 + 1e-6 * np.arange(5),
        1 + 2e-5 * np.arange(2),
        np.full(3, 5e-324),
    ],
)
def test_what_is_fitted_can_be_drawn_from_however_odd_the_durations(durations: np.ndarray) -> None:
    drawn = fit_best(durations).sample(np.random.default_rng(1), 20)
    assert np.isfinite(drawn).all()
    assert (drawn >= 0).all()
