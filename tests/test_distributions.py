"""Durations: moments and shares against drawn samples, and fits that find what samples were drawn from."""

from __future__ import annotations

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


@pytest.mark.parametrize("distribution", ALL, ids=repr)
def test_samples_have_the_mean_the_variance_and_the_shares_that_are_claimed(distribution: Any) -> None:
    n = 200_000
    drawn = distribution.sample(np.random.default_rng(1), n)
    assert drawn.shape == (n,)
    assert drawn.min() >= 0
    error = math.sqrt(distribution.variance() / n)
    assert abs(drawn.mean() - distribution.mean()) <= 5 * error + 1e-9
    assert drawn.var() == pytest.approx(distribution.variance(), rel=0.1, abs=1e-12)
    for x in np.quantile(drawn, [0.01, 0.3, 0.7, 0.99]):
        assert distribution.cdf(np.array([x]))[0] == pytest.approx((drawn <= x).mean(), abs=0.005)


@pytest.mark.parametrize("distribution", ALL, ids=repr)
def test_what_is_left_of_a_duration_under_way_has_the_equilibrium_distribution(distribution: Any) -> None:
    """Its mean is E[X^2] / 2 E[X], and it is at most x with probability 1/E[X] times the integral of 1 - F up to x."""
    n, mean = 200_000, distribution.mean()
    drawn = residual(distribution, np.random.default_rng(2), n)
    assert drawn.shape == (n,)
    if mean == 0:
        assert not drawn.any()
        return
    assert drawn.mean() == pytest.approx((distribution.variance() + mean**2) / (2 * mean), rel=0.03)
    for x in np.quantile(drawn, [0.1, 0.5, 0.9]):
        grid = np.linspace(0, x, 20_001)
        share = np.trapezoid(1 - distribution.cdf(grid), grid) / mean
        assert (drawn <= x).mean() == pytest.approx(share, abs=0.006)


@pytest.mark.parametrize("distribution", ALL, ids=repr)
def test_shares_grow_from_nothing_to_all(distribution: Any) -> None:
    shares = distribution.cdf(np.array([-1.0, 0.0, 0.5, 1.0, 5.0, 1e9]))
    assert shares[0] == 0
    assert np.all(np.diff(shares) >= 0)
    assert shares[-1] == pytest.approx(1, abs=1e-9)


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


def test_a_pareto_without_variance_says_so() -> None:
    assert Pareto(1.0, 2.0).variance() == math.inf


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
    found = fit(truth.sample(np.random.default_rng(2), 20_000), type(truth)).distribution
    assert type(found) is type(truth)
    assert found.mean() == pytest.approx(truth.mean(), rel=0.03)
    assert math.sqrt(found.variance()) == pytest.approx(math.sqrt(truth.variance()), rel=0.05)


@pytest.mark.parametrize("truth", TRUE, ids=repr)
def test_the_best_fit_is_the_family_that_it_came_from(truth: Any) -> None:
    found = fit_best(truth.sample(np.random.default_rng(3), 5_000))
    assert type(found.distribution) is type(truth)
    assert found.ks < 0.03


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.kind)
def test_no_neighbour_is_likelier(family: type) -> None:
    x = np.random.default_rng(4).gamma(2.0, 1.5, 400)
    found = fit(x, family)

    def likelihood(distribution: Any) -> float:
        step = 1e-5
        return float(np.log((distribution.cdf(x + step) - distribution.cdf(x - step)) / (2 * step)).sum())

    best = likelihood(found.distribution)
    assert best == pytest.approx(found.log_likelihood, abs=0.01)
    values = [getattr(found.distribution, name) for name in found.distribution.__slots__]
    for i in range(len(values)):
        for factor in (0.97, 1.03):
            assert likelihood(family(*[v * factor if i == j else v for j, v in enumerate(values)])) < best


def test_the_distance_is_that_of_scipy() -> None:
    x = np.random.default_rng(5).lognormal(0.0, 1.0, 50)
    found = fit(x, Lognormal)
    assert found.ks == pytest.approx(stats.kstest(x, found.distribution.cdf).statistic)


def test_a_good_fit_and_a_bad_one_are_told_apart() -> None:
    rng = np.random.default_rng(6)
    x = rng.lognormal(0.0, 0.4, 100)
    assert fit(x, Lognormal).p_value(rng) > 0.1
    assert fit(x, Exponential).p_value(rng) < 0.05


def test_durations_without_spread_are_a_constant() -> None:
    for values in ([3.0], [3.0, 3.0, 3.0]):
        assert fit_best(values).distribution == Constant(3.0)
        assert fit(values, Weibull).distribution == Constant(3.0)


def test_an_empirical_fit_keeps_the_values() -> None:
    assert fit([1.0, 2.0], Empirical).distribution == Empirical((1.0, 2.0))


@given(st.lists(st.floats(0.001, 1000), min_size=1, max_size=30))
def test_whatever_was_measured_can_be_fitted(values: list[float]) -> None:
    found = fit_best(values)
    assert 0 <= found.ks <= 1
    assert math.isfinite(found.distribution.mean())


@pytest.mark.parametrize(
    ("values", "family", "complaint"),
    [
        ([], Lognormal, "no durations to fit to"),
        ([1.0, 0.0], Gamma, "must be finite and > 0 s, got 0.0 to 1.0"),
        ([1.0, math.nan], Gamma, "must be finite"),
        ([1.0, 2.0], Pareto, "cannot fit 'pareto'"),
    ],
)
def test_what_cannot_be_fitted_is_said(values: list[float], family: type, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        fit(values, family)
