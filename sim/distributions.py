"""Durations as frozen values. `sample(rng, size)` gives float64 seconds; `mean()` is exact. `length_biased(rng, size)` draws each
duration in proportion to its length: those that are under way at an instant (`residual`).

`scale` is always the mean, so a scenario that swaps one shape for another keeps its load. `fit_best` goes the other way: from
measured durations to the distribution that makes them likeliest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import numpy as np

from sim.marks import Number, Unit


@dataclass(frozen=True, slots=True)
class Constant:
    """Always the same duration."""

    kind: ClassVar[str] = "constant"
    value: float = 0.0
    """The duration, seconds."""

    def __post_init__(self) -> None:
        _duration(self.value, "value")

    def mean(self) -> float:
        return self.value

    def sample(self, rng: np.random.Generator, size: int) -> np.ndarray:
        return np.full(size, self.value)

    def length_biased(self, rng: np.random.Generator, size: int) -> np.ndarray:
        return np.full(size, self.value)


@dataclass(frozen=True, slots=True)
class _OfMean:
    """Durations that are given by their mean. Not a distribution by itself."""

    scale: float = 1.0
    """Mean, seconds."""

    def __post_init__(self) -> None:
        _duration(self.scale, "scale", above=True)

    def mean(self) -> float:
        return self.scale


@dataclass(frozen=True, slots=True)
class _Shaped(_OfMean):
    """The same with a form of its own. Not a distribution by itself."""

    shape: Number = 1.0
    """Form: see the kind."""

    def __post_init__(self) -> None:
        _OfMean.__post_init__(self)
        _duration(self.shape, "shape", above=True)


@dataclass(frozen=True, slots=True)
class Exponential(_OfMean):
    """Memoryless durations."""

    kind: ClassVar[str] = "exponential"

    def __post_init__(self) -> None:
        _duration(self.scale, "scale")

    def sample(self, rng: np.random.Generator, size: int) -> np.ndarray:
        return rng.standard_exponential(size) * self.scale  # the same numbers as `exponential`, and sooner

    def length_biased(self, rng: np.random.Generator, size: int) -> np.ndarray:
        return rng.gamma(2.0, self.scale, size)


@dataclass(frozen=True, slots=True)
class Uniform:
    """Equally likely between `low` and `high` seconds."""

    kind: ClassVar[str] = "uniform"
    low: float = 0.0
    """Shortest, seconds."""
    high: float = 1.0
    """Longest, seconds."""

    def __post_init__(self) -> None:
        _duration(self.low, "low")
        _duration(self.high, "high")
        if self.high < self.low:
            raise ValueError(f"high must be >= low, got {self.low!r} to {self.high!r}")

    def mean(self) -> float:
        return (self.low + self.high) / 2

    def sample(self, rng: np.random.Generator, size: int) -> np.ndarray:
        return rng.uniform(self.low, self.high, size)

    def length_biased(self, rng: np.random.Generator, size: int) -> np.ndarray:
        # In shares of the longest, whose square may be more than a number can be.
        least = (self.low / self.high) ** 2 if self.high else 1.0
        return self.high * np.sqrt(least + rng.random(size) * (1 - least))


@dataclass(frozen=True, slots=True)
class Lognormal(_OfMean):
    """Skewed durations, given by their mean (s) and the standard deviation of the logarithm."""

    kind: ClassVar[str] = "lognormal"
    sigma: Number = 1.0
    """Standard deviation of the logarithm: 0.5 scatters little, 1.5 much."""

    def __post_init__(self) -> None:
        _OfMean.__post_init__(self)
        if not 0 <= self.sigma <= 20:
            raise ValueError(f"sigma must be between 0 and 20, got {self.sigma!r}")

    @property
    def mu(self) -> float:
        """Mean of the logarithm."""
        return math.log(self.scale) - self.sigma**2 / 2

    def sample(self, rng: np.random.Generator, size: int) -> np.ndarray:
        return rng.lognormal(self.mu, self.sigma, size)

    def length_biased(self, rng: np.random.Generator, size: int) -> np.ndarray:
        return rng.lognormal(self.mu + self.sigma**2, self.sigma, size)


@dataclass(frozen=True, slots=True)
class Gamma(_Shaped):
    """Sum of `shape` exponential stages (any shape > 0): above 1 more regular than exponential, below 1 less."""

    kind: ClassVar[str] = "gamma"
    shape: Number = 2.0

    def sample(self, rng: np.random.Generator, size: int) -> np.ndarray:
        return rng.gamma(self.shape, self.scale / self.shape, size)

    def length_biased(self, rng: np.random.Generator, size: int) -> np.ndarray:
        return rng.gamma(self.shape + 1, self.scale / self.shape, size)


@dataclass(frozen=True, slots=True)
class Weibull(_Shaped):
    """Durations whose chance to end grows (`shape` > 1) or falls (< 1) with the time they have lasted."""

    kind: ClassVar[str] = "weibull"
    shape: Number = 1.5

    @property
    def characteristic(self) -> float:
        """The duration that 63.2 % stay below: what textbooks call the scale."""
        return self.scale / math.gamma(1 + 1 / self.shape)

    def sample(self, rng: np.random.Generator, size: int) -> np.ndarray:
        return self.characteristic * rng.weibull(self.shape, size)

    def length_biased(self, rng: np.random.Generator, size: int) -> np.ndarray:
        return self.characteristic * rng.gamma(1 + 1 / self.shape, 1.0, size) ** (1 / self.shape)


@dataclass(frozen=True, slots=True)
class Pareto(_OfMean):
    """Heavy-tailed durations: P(X > x) = (least / x)^shape. `shape` > 1, or there is no mean; <= 2: no variance."""

    kind: ClassVar[str] = "pareto"
    shape: Number = 2.5

    def __post_init__(self) -> None:
        _OfMean.__post_init__(self)
        if not 1 < self.shape < math.inf:
            raise ValueError(f"shape must be > 1 (else the mean is infinite), got {self.shape!r}")

    @property
    def least(self) -> float:
        """The shortest duration, seconds."""
        return self.scale * (self.shape - 1) / self.shape

    def sample(self, rng: np.random.Generator, size: int) -> np.ndarray:
        return self.least * (1 + rng.pareto(self.shape, size))

    def length_biased(self, rng: np.random.Generator, size: int) -> np.ndarray:
        return self.least * (1 + rng.pareto(self.shape - 1, size))


@dataclass(frozen=True, slots=True)
class Empirical:
    """Measured durations, drawn with replacement."""

    kind: ClassVar[str] = "empirical"
    values: tuple[float, ...] = (1.0,)
    """The durations, seconds."""

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError("values must hold at least one duration")
        for value in self.values:
            _duration(value, "values")

    def mean(self) -> float:
        return math.fsum(self.values) / len(self.values)

    def sample(self, rng: np.random.Generator, size: int) -> np.ndarray:
        return rng.choice(np.asarray(self.values, float), size)

    def length_biased(self, rng: np.random.Generator, size: int) -> np.ndarray:
        values = np.asarray(self.values, float)
        return rng.choice(values, size, p=values / values.sum() if values.sum() > 0 else None)


@dataclass(frozen=True, slots=True)
class Mixture:
    """One of `parts`, chosen with probability proportional to `weights`: a cache that hits or misses, say."""

    kind: ClassVar[str] = "mixture"
    parts: tuple[Distribution, ...] = field(default_factory=lambda: (Constant(1.0),))
    """The distributions to choose from."""
    weights: Annotated[tuple[float, ...], Unit("")] = (1.0,)
    """How often each is chosen, in proportion."""

    def __post_init__(self) -> None:
        if len(self.parts) != len(self.weights) or not self.parts:
            raise ValueError(f"weights must hold one number for each of {len(self.parts)} parts, got {len(self.weights)}")
        if not all(0 <= w < math.inf for w in self.weights) or not sum(self.weights) > 0:
            raise ValueError(f"weights must be >= 0 and not all 0, got {self.weights!r}")

    @property
    def shares(self) -> np.ndarray:
        """Probability of each part."""
        return np.asarray(self.weights, float) / sum(self.weights)

    def mean(self) -> float:
        return float(self.shares @ [part.mean() for part in self.parts])

    def sample(self, rng: np.random.Generator, size: int) -> np.ndarray:
        return self._drawn(rng, size, self.shares, "sample")

    def length_biased(self, rng: np.random.Generator, size: int) -> np.ndarray:
        means = self.shares * [part.mean() for part in self.parts]
        return self._drawn(rng, size, means / means.sum() if means.sum() > 0 else self.shares, "length_biased")

    def _drawn(self, rng: np.random.Generator, size: int, shares: np.ndarray, draw: str) -> np.ndarray:
        which = rng.choice(len(self.parts), size, p=shares)
        drawn = np.empty(size)
        for i, part in enumerate(self.parts):
            chosen = which == i
            drawn[chosen] = getattr(part, draw)(rng, int(chosen.sum()))
        return drawn


Distribution = Constant | Exponential | Uniform | Lognormal | Gamma | Weibull | Pareto | Empirical | Mixture


def strata(values: Sequence[float] | np.ndarray, most: int) -> np.ndarray:
    """The values in order, or of more than *most* the means of that many equal parts of them: shape, tail and mean are theirs.

    A value at the border of two parts counts in both, with its shares: of 1, 2, 6 in two parts the 2 is half in each (4/3, 14/3).
    """
    ordered = np.sort(np.asarray(values, float))
    count = min(most, len(ordered))
    if count == len(ordered):
        return ordered
    sums = np.interp(np.linspace(0, len(ordered), count + 1), np.arange(len(ordered) + 1), np.r_[0.0, np.cumsum(ordered)])
    return np.asarray(np.diff(sums) * count / len(ordered))


def residual(distribution: Distribution, rng: np.random.Generator, size: int) -> np.ndarray:
    """What is left, at an instant that knows nothing of it, of a duration that is under way then; seconds.

    Long durations are under way more often than short ones, each in proportion to its length, and the instant lies anywhere
    within (W. Feller, An Introduction to Probability Theory, vol. 2, XI.4). So a renewal process whose first duration is drawn
    like this has its long-run rate, 1 / mean, from the start.
    """
    return distribution.length_biased(rng, size) * rng.random(size)


# --- fitting -----------------------------------------------------------------------------------------------------------


FAMILIES: tuple[type[Exponential | Lognormal | Gamma | Weibull], ...] = (Exponential, Lognormal, Gamma, Weibull)
"""The families that `fit_best` tries."""


def fit_best(durations: Sequence[float] | np.ndarray) -> Distribution:
    """The likeliest distribution of the family of `FAMILIES` with the smallest AIC (Akaike's criterion, 2 k - 2 log L).

    A single duration, or (nearly) equal ones, give `Constant`. A family whose likeliest member cannot be drawn from, as of
    durations over twenty decades, is left out. *durations*: seconds. Raises ValueError for no values, or values <= 0 or above
    `LONGEST`.
    """
    x = np.asarray(durations, float)
    if x.ndim != 1 or not len(x):
        raise ValueError("no durations to fit to")
    if not np.all((x > 0) & (x <= LONGEST)):
        ends = f"{float(x.min())!r} to {float(x.max())!r}"
        raise ValueError(f"durations must be finite and > 0 s, got {ends} (at most {LONGEST:g})")
    if math.isclose(x.min(), x.max(), rel_tol=1e-5):
        return Constant(float(x.mean()))
    fits = []
    for family in FAMILIES:
        with suppress(ValueError):
            fits.append((fit(x, family), 1 if family is Exponential else 2))
    return min(fits, key=lambda found: 2 * found[1] - 2 * found[0][1])[0][0]


def fit(x: np.ndarray, family: type) -> tuple[Distribution, float]:
    """The member of a *family* of `FAMILIES` that makes the durations likeliest, and the logarithm of their likelihood.

    *x*: seconds, > 0, not all equal.
    """
    log, mean = np.log(x), float(x.mean())
    made: Distribution
    if family is Exponential:
        made, density = Exponential(mean), -math.log(mean) - x / mean
    elif family is Lognormal:
        mu, sigma = float(log.mean()), float(log.std())
        made = Lognormal(math.exp(mu + sigma**2 / 2), sigma)
        density = -log - math.log(sigma) - 0.5 * math.log(2 * math.pi) - (log - mu) ** 2 / (2 * sigma**2)
    elif family is Gamma:
        a = _gamma_shape(math.log(mean) - float(log.mean()))
        made = Gamma(mean, a)
        density = a * math.log(a / mean) - math.lgamma(a) + (a - 1) * log - a * x / mean
    else:
        k = _weibull_shape(x)
        # Scaled by the largest value, so that no power overflows.
        at63 = float(x.max() * np.mean((x / x.max()) ** k) ** (1 / k))
        made = Weibull(at63 * math.gamma(1 + 1 / k), k)
        density = math.log(k / at63) + (k - 1) * (log - math.log(at63)) - (x / at63) ** k
    return made, float(density.sum())


def _gamma_shape(s: float) -> float:
    """Solve log a - digamma(a) = s by Newton's method from Minka's starting point (Minka 2002)."""
    from scipy.special import digamma, polygamma

    a = (3 - s + math.sqrt((s - 3) ** 2 + 24 * s)) / (12 * s)
    for _ in range(50):
        step = (math.log(a) - digamma(a) - s) / (1 / a - polygamma(1, a))
        a = a / 2 if step >= a else float(a - step)
        if abs(step) <= 1e-12 * a:
            break
    return a


def _weibull_shape(x: np.ndarray) -> float:
    """Solve the likelihood equation for the shape: it is monotone, so a bracket that holds the root always finds it."""
    from scipy.optimize import brentq

    log = np.log(x / x.max())

    def slope(k: float) -> float:
        weights = np.exp(k * log)
        return float(weights @ log / weights.sum() - 1 / k - log.mean())

    low, high = 1e-3, 1.0
    while slope(high) < 0:
        low, high = high, high * 2
    return float(brentq(slope, low, high, xtol=1e-12))


LONGEST = 1e12
"""Seconds: thirty thousand years. Squares and sums of durations stay numbers."""
SHAPES = (0.01, LONGEST)
"""Beyond, a gamma or Weibull distribution is no longer drawn from: its moments are no numbers."""


def _duration(value: float, name: str, *, above: bool = False) -> None:
    if name == "shape" and not SHAPES[0] <= value <= SHAPES[1]:
        raise ValueError(f"shape must be between {SHAPES[0]} and {SHAPES[1]:g}, got {value!r}")
    if not (value > 0 if above else value >= 0) or not value <= LONGEST:
        bound = "> 0" if above else ">= 0"
        raise ValueError(f"{name} must be a finite number {bound} s, got {value!r} (at most {LONGEST:g})")
