"""Intervals that hold although the deliveries of one event are correlated, and successive events are.

One event reaches thousands of subscribers within milliseconds, so its deliveries are one observation, not thousands: intervals
over rows as if independent covered the truth in 6 % of experiments where they promised 95 %. And a debounce makes the events of a
burst wait for the same silence, so even events are not independent. The unit is a batch of successive events, at most `BATCHES`:

* ratios of sums over events (refetches per update): Student's t over linearised batch sums; from 100 events on;
* means of latencies: the same on logarithms (batches are skewed, because a long burst is rare and late), from `MEAN_EVENTS` on;
* quantiles: the share of rows beyond the quantile, and how sure it is by batches, turned back into quantiles (R. S. Woodruff,
  JASA 47, 1952; Wilson's form). Needs `events_needed` events; with fewer every method tried prints narrow intervals that cover
  60 to 90 %, because the slowest twentieth lies in a handful of bursts;
* what is independent from event to event (the spread of a fan-out): Student's t over linearised events (`ratio`);
* warm-up: MSER-5 (K. P. White, "An effective truncation heuristic for bias reduction in simulation output", 1997).

Intervals are called 95 %. They take Student's t at the levels `SURE_OF_RATIO` and `SURE`, because batches of a few bursts have
longer tails than t. Coverage as measured (`tests/results/test_coverage.py` prints it; a trailing debounce under Poisson
updates, two a wait, and under two kinds of bursts; 2,000 experiments each):

                     updates        mean  per update         p50         p95
    two a wait           100        none       96.0%       96.7%        none
    two a wait           300        none       94.7%       97.4%        none
    two a wait         1,000       96.4%       95.8%       98.2%        none
    two a wait         3,000       97.2%       96.3%       98.1%       95.7%
    bursts of ten        100        none       95.0%       96.8%        none
    bursts of ten        300        none       95.4%       97.2%        none
    bursts of ten      1,000       94.7%       95.9%       97.6%        none
    bursts of ten      3,000       97.2%       95.2%       98.1%       95.7%
    loose bursts         100        none       96.1%       96.9%        none
    loose bursts         300        none       96.3%       97.5%        none
    loose bursts       1,000       95.7%       95.5%       96.9%        none
    loose bursts       3,000       97.5%       95.5%       97.8%       96.8%

Values may be inf: an update that was never shown has waited longer than any other, and a figure that is inf is *never*. An end
of an interval that is not defined is None.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist
from typing import Any

import numpy as np

from sim.arrays import Array

Interval = tuple[float | None, float | None]

BATCHES = 10
MIN_BATCHES = 5
EVENTS_PER_BATCH = 20
MEAN_EVENTS = 1000
"""Events from which the mean of a latency has an interval."""
LEVEL = 0.95
SURE_OF_RATIO, SURE = 0.96, 0.98
"""Levels of Student's t that cover `LEVEL`: for ratios of sums over events, and for means and quantiles of latencies."""
UNDEFINED: Interval = (None, None)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % interval and the number of independent observations (events) it stands on.

    None: undefined, there is no such figure. inf: never.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0

    def row(self) -> dict[str, Any]:
        """As summary.json holds it: a figure that is never has no value and `never`: true; one that is undefined has no value."""
        never = {"never": True} if self.value is not None and math.isinf(self.value) else {}
        return {"value": finite(self.value), "ci_low": finite(self.low), "ci_high": finite(self.high), "n": self.n} | never


def finite(value: float | None) -> float | None:
    """*value* as a Python number that JSON can hold; None for None, NaN and infinity."""
    return None if value is None or not math.isfinite(value) else (int(value) if isinstance(value, int) else float(value))


def or_nan(value: float | None) -> float:
    """*value*; NaN for None."""
    return math.nan if value is None else value


def quantile(values: Array, p: float, weights: Array | None = None) -> float | None:
    """The smallest value that a share *p* of the (weighted) values does not exceed; None of nothing.

    Always one of the values: inf where it falls on what never happened, and nothing between a number and inf is made up.
    """
    if len(values) == 0:
        return None
    if weights is None:
        return float(np.sort(values)[min(max(math.ceil(p * len(values) - 1e-9) - 1, 0), len(values) - 1)])
    order = np.argsort(values, kind="stable")
    return _weighted(values[order], np.cumsum(weights[order]), p)


def _weighted(values: Array, heap: Array, p: float) -> float:
    """`quantile` of sorted values, whose weights add up to *heap*."""
    return float(values[np.searchsorted(heap, p * heap[-1] * (1 - 1e-12))])


def batches(events: Array, count: int = BATCHES) -> list[slice]:
    """Slices of rows that cut *events* (event of each row, rows ordered by event) into at most *count* runs of equally many
    events, of at least `EVENTS_PER_BATCH`; where that makes fewer than `MIN_BATCHES`: empty list, nothing can be said."""
    if len(events) == 0:
        return []
    starts = np.flatnonzero(np.r_[True, events[1:] != events[:-1]])
    count = min(count, len(starts) // EVENTS_PER_BATCH)
    if count < MIN_BATCHES:
        return []
    firsts = [int(starts[len(starts) * b // count]) for b in range(count)]
    return [slice(low, high) for low, high in zip(firsts, [*firsts[1:], len(events)], strict=True)]


def events_needed(p: float | None = None) -> int:
    """How many events the quantile *p* needs to have an interval, or a ratio (None)."""
    if p is None:
        return MIN_BATCHES * EVENTS_PER_BATCH
    tail = min(p, 1 - p)
    return 100 if tail >= 0.25 else math.ceil(125 / tail - 1e-6) if tail > 0 else 2**62


@cache
def student(freedom: float, p: float = (1 + LEVEL) / 2) -> float:
    """The quantile *p* (from 1/2 on) of Student's t with *freedom* (at least 1) degrees of freedom; NaN below.

    To ten digits `scipy.special.stdtrit`, whose import takes longer than most runs to summarise. With t = sqrt(freedom)
    tan(angle) the probability between 0 and t is an integral of cos(angle)^(freedom - 1), concave: Newton's steps from the normal
    quantile, which is less, never go too far.
    """
    if not freedom >= 1:
        return math.nan
    if freedom < 1000:
        factor = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(math.pi)
    else:  # the same, where the logarithms are large and what is left of their difference is not
        factor = math.sqrt(freedom / 2 / math.pi) * (1 - 1 / (4 * freedom) + 1 / (32 * freedom**2) + 5 / (128 * freedom**3))
    nodes, weights = np.polynomial.legendre.leggauss(64)
    angle = math.atan(NormalDist().inv_cdf(p) / math.sqrt(freedom))
    for _ in range(50):
        # Powers of the cosine by the sine: as precise near 0.
        density = factor * np.exp((freedom - 1) / 2 * np.log1p(-(np.sin(np.r_[angle / 2 * (1 + nodes), angle]) ** 2)))
        step = float((p - 0.5 - angle / 2 * (weights @ density[:-1])) / density[-1])
        angle += step
        if abs(step) <= 1e-15 * angle:
            break
    return math.sqrt(freedom) * math.tan(angle)


def half_width(observations: Array, level: float = LEVEL) -> float:
    """Half of Student's interval for the mean of independent *observations*."""
    count = len(observations)
    return student(count - 1, (1 + level) / 2) * float(observations.std(ddof=1)) / math.sqrt(count)


def half_width_of_next(observations: Array, level: float = LEVEL, besides: float = 0.0) -> float:
    """Half of Student's interval for one more observation, around the middle of independent ones. *besides*: a standard error
    that they do not show."""
    count = len(observations)
    variance = float(observations.var(ddof=1)) * (1 + 1 / count) if count > 1 else 0.0
    return student(max(count - 1, 1), (1 + level) / 2) * math.sqrt(variance + besides**2)


def t_interval(observations: Array, centre: float, level: float = LEVEL) -> Interval:
    """Student's interval around *centre* from independent *observations*; inf among them leaves the upper end open."""
    if len(observations) < MIN_BATCHES or not math.isfinite(centre):
        return UNDEFINED
    known = observations[np.isfinite(observations)]
    if len(known) < MIN_BATCHES:
        return UNDEFINED
    half = half_width(known, level)
    return centre - half, (centre + half if len(known) == len(observations) else None)


def mean_of(observations: Any) -> Estimate:
    """The mean of independent observations with Student's interval; those that are not known (NaN) are left out."""
    known = np.asarray(observations, float)
    known = known[~np.isnan(known)]
    if not len(known):
        return Estimate(None)
    centre = float(known.mean())
    return Estimate(centre, *t_interval(known, centre), n=len(known))


def quantiles(values: Array, events: Array, levels: tuple[float, ...], weights: Array | None = None) -> list[Estimate]:
    """Estimates of several quantiles of *values*; *events* says of which event each is (rows ordered by event)."""
    if len(events) == 0:
        return [Estimate(None) for _ in levels]
    weights = np.ones(len(values)) if weights is None else weights
    n = 1 + int(np.count_nonzero(events[1:] != events[:-1]))
    order = np.argsort(values, kind="stable")
    ranked, heap = values[order], np.cumsum(weights[order])
    cuts = batches(events)
    totals = np.array([weights[rows].sum() for rows in cuts])
    found = []
    for p in levels:
        centre = _weighted(ranked, heap, p)
        if n < events_needed(p) or not cuts:
            found.append(Estimate(centre, n=n))
            continue
        beyond = np.where(values > centre, weights, 0.0)
        share = float(beyond.sum() / heap[-1])
        low, high = share_interval(share, linearised(np.array([beyond[rows].sum() for rows in cuts]), totals), n, SURE)
        # Fewer than one event lies beyond: the upper end is above all values.
        upper = _weighted(ranked, heap, 1 - low) if low * n >= 1 else math.inf
        found.append(Estimate(centre, _weighted(ranked, heap, max(1 - high, 0.0)), upper, n))
    return found


def share_interval(share: float, observations: Array, n: int, level: float = LEVEL) -> tuple[float, float]:
    """Wilson's interval of a share from the pseudo-values of batches, with Student's t: inside [0, 1], and not empty where all
    batches agree (as if *n* events were independent then)."""
    t = student(len(observations) - 1, (1 + level) / 2)
    variance = float(observations.var(ddof=1)) / len(observations)
    size = share * (1 - share) / variance if variance > 0 and 0 < share < 1 else float(n)
    middle = (share + t * t / (2 * size)) / (1 + t * t / size)
    half = t * math.sqrt(share * (1 - share) / size + t * t / (4 * size * size)) / (1 + t * t / size)
    return max(0.0, middle - half), min(1.0, middle + half)


def welch(*parts: tuple[float, int]) -> tuple[float, float]:
    """The variance of a sum of independent parts, and its degrees of freedom (B. L. Welch, Biometrika 34, 1947).

    A part is its variance, and the number of observations that tell it.
    """
    total = sum(variance for variance, _ in parts)
    if not total:
        return 0.0, float(sum(n - 1 for _, n in parts))
    return total, total**2 / sum(variance**2 / (n - 1) for variance, n in parts)


def batch_ratio(numerator: Array, denominator: Array, bounds: tuple[float, float] = (0.0, math.inf)) -> Estimate:
    """sum(numerator) / sum(denominator), both given per event in their order, with the interval of batches of events.

    *bounds*: what the ratio cannot leave; between 0 and 1 it is a share.
    """
    n, total = len(numerator), float(denominator.sum())
    if n == 0 or total == 0:
        return Estimate(None, n=n)
    value = float(numerator.sum()) / total
    cuts = batches(np.arange(n))
    if not cuts or not math.isfinite(value):
        return Estimate(value, n=n)
    parts = linearised(*(np.array([column[rows].sum() for rows in cuts], dtype=float) for column in (numerator, denominator)))
    if bounds == (0.0, 1.0):
        return Estimate(value, *share_interval(value, parts, n, SURE_OF_RATIO), n)
    low, high = t_interval(parts, value, SURE_OF_RATIO)
    return Estimate(value, None if low is None else max(low, bounds[0]), None if high is None else min(high, bounds[1]), n)


def batch_mean(sums: Array, counts: Array) -> Estimate:
    """Mean of a latency: sum(sums) / sum(counts), both given per event in their order; see the module for its interval."""
    plain = batch_ratio(sums, counts)
    value, n = plain.value, plain.n
    if n < MEAN_EVENTS or value is None or not 0 < value < math.inf:
        return Estimate(value, n=n)
    cuts = batches(np.arange(n))
    means = np.array([sums[rows].sum() / max(float(counts[rows].sum()), 1e-300) for rows in cuts])
    if not (means > 0).all():
        return plain
    factor = math.exp(half_width(np.log(means), SURE))
    return Estimate(value, value / factor, value * factor, n)


def ratio(numerator: Array, denominator: Array) -> Estimate:
    """sum(numerator) / sum(denominator), both given per event, with Student's interval of what the events say (`linearised`).

    For what does not depend from one event to the next; else `batch_ratio`.
    """
    n, total = len(numerator), float(denominator.sum())
    if n == 0 or total == 0:
        return Estimate(None, n=n)
    value = float(numerator.sum()) / total
    return Estimate(value, *(t_interval(linearised(numerator, denominator), value) if math.isfinite(value) else UNDEFINED), n)


def linearised(numerator: Array, denominator: Array) -> Array:
    """Pseudo-values of a ratio of two sums over windows: their mean is the ratio, their spread its uncertainty.

    A window's own ratio would not do: a quiet window's is wild, and weighs as much as a busy one's. (Delta method; W. G. Cochran,
    Sampling Techniques, 1977, chapter 6.)
    """
    if not len(numerator):
        return np.array([])
    value, mean = numerator.sum() / denominator.sum(), denominator.mean()
    return np.asarray(value + (numerator - value * denominator) / mean)


def mser5(values: Array) -> int:
    """How many leading values to drop as warm-up, by MSER-5; 0 when there are too few to tell (fewer than 10 batches of 5).

    The cut that minimises the squared standard error of the mean of what is left, over cuts at batch means of five, in the first
    half of the series (a minimum in the second half says that the run was too short, not where to cut).
    """
    means = np.asarray(values, float)[: len(values) // 5 * 5].reshape(-1, 5).mean(axis=1)
    if len(means) < 10:
        return 0
    left = np.arange(len(means), 0, -1)
    sums, squares = (np.cumsum(x[::-1])[::-1] for x in (means - means.mean(), (means - means.mean()) ** 2))
    error = (squares - sums**2 / left) / left**2
    return int(np.argmin(error[: len(means) // 2 + 1])) * 5
