"""What a live application was heard to change (`workbench listen`), drawn anew: gaps, bursts, their sizes and their resources."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from sim.distributions import Distribution, Empirical, strata
from sim.workload.arrivals import Arrivals, more, need_resources, refuse_too_many
from sim.workload.updates import Updates, to_ns, walk

BURST = 1.0
"""Seconds: events of one resource that follow each other more closely belong to one burst."""


@dataclass(frozen=True, slots=True)
class Heard(Arrivals):
    """Bursts of one resource each, as `workbench listen` heard them: a burst begins after a gap drawn from `between`, has one of
    the `sizes`, and its updates follow each other by gaps drawn from `within`.

    `rate` is a factor (2: twice as many bursts a second, each as it was). With the same resources hit as often as they were
    (`weights`), a channel of one resource is as busy as it was heard to be.
    """

    kind: ClassVar[str] = "heard"

    between: Distribution = field(default_factory=lambda: Empirical((1.0,)))
    """From the begin of one burst to that of the next, of whichever resource, seconds."""
    within: Distribution = field(default_factory=lambda: Empirical((0.1,)))
    """From one update of a burst to the next, seconds."""
    sizes: tuple[int, ...] = (1,)
    """Updates of each burst that was heard; each is as likely."""
    weights: tuple[float, ...] = ()
    """How often servers 1, 2, ... are hit, relative to each other; those beyond are not. Empty: all alike."""
    site_weights: tuple[float, ...] = ()
    """The same of sites."""

    def __post_init__(self) -> None:
        super(Heard, self).__post_init__()
        if self.per != "total":
            raise ValueError("per does not apply to heard: its bursts are those of all resources together")
        if not self.between.mean() > 0:
            raise ValueError("between must have a mean > 0 s")
        if not self.sizes or not all(size >= 1 for size in self.sizes):
            raise ValueError(f"sizes must be whole numbers >= 1, at least one, got {self.sizes!r}")
        for name in ("weights", "site_weights"):
            some = getattr(self, name)
            if not all(0 <= weight < float("inf") for weight in some) or (some and not sum(some) > 0):
                raise ValueError(f"{name} must be numbers >= 0, not all 0, got {some!r}")

    def expected(self, duration: float, servers: int, sites: int = 0) -> float:
        return self.rate * duration / self.between.mean() * float(np.mean(self.sizes))

    def updates(self, rng: np.random.Generator, duration: float, servers: int, sites: int = 0) -> Updates:
        need_resources(self, servers, sites)
        when, how_many, which = rng.spawn(3)
        bursts = self._begins(when, duration)
        sizes = how_many.choice(np.asarray(self.sizes), len(bursts))
        refuse_too_many(float(sizes.sum()))
        # A gap that is longer than all of it would cost those after it their digits.
        gaps = np.minimum(self.within.sample(how_many, int(sizes.sum())), duration)
        first = np.cumsum(sizes) - sizes
        gaps[first] = 0.0
        since = np.cumsum(gaps)
        at = np.repeat(bursts - since[first], sizes) + since if len(bursts) else bursts
        on_site = which.random(len(bursts)) < self.site_share
        server = _drawn(which, len(bursts), servers, self.weights)
        site = _drawn(which, len(bursts), sites, self.site_weights)
        kept = at < duration
        hit = (np.repeat(column, sizes)[kept] for column in (on_site, np.where(on_site, site, server)))
        return walk(to_ns(at[kept]), *hit)

    def _begins(self, rng: np.random.Generator, duration: float) -> np.ndarray:
        """Seconds at which bursts begin; the first as if one had listened from any instant on."""
        if self.rate == 0:
            return np.empty(0)
        expected = self.rate * duration / self.between.mean()
        refuse_too_many(expected)
        with np.errstate(over="ignore", invalid="ignore"):  # beyond all durations
            begins = np.array([rng.random() * self.between.length_biased(rng, 1)[0] / self.rate])
            while begins[-1] < duration:
                gaps = self.between.sample(rng, more(len(begins), expected)) / self.rate
                begins = np.concatenate([begins, begins[-1] + np.cumsum(gaps)])
        return begins[begins < duration]


def _drawn(rng: np.random.Generator, size: int, resources: int, weights: tuple[float, ...]) -> np.ndarray:
    """Numbers from 1; where the fleet is smaller than what was heard, its first ones."""
    chance = np.asarray(weights[:resources], float)
    if not chance.sum() > 0:
        return rng.integers(1, resources + 1, size) if resources else np.ones(size, np.int64)
    return rng.choice(len(chance), size, p=chance / chance.sum()) + 1


def heard(servers: list[np.ndarray], sites: list[np.ndarray]) -> Heard:
    """The workload of what was heard: of each server and site the seconds at which it changed. Raises `ValueError` where that
    is not enough (fewer than two bursts)."""
    begins, sizes, within = [], [], []
    weights: list[list[float]] = [[], []]
    for kind, resources in enumerate((servers, sites)):
        for at in resources:
            at = np.sort(np.asarray(at, float))
            parts = np.split(at, np.flatnonzero(np.diff(at) > BURST) + 1) if len(at) else []
            begins += [part[0] for part in parts]
            sizes += [len(part) for part in parts]
            within += [gap for part in parts for gap in np.diff(part)]
            weights[kind].append(float(len(parts)))
    gaps = np.diff(np.sort(begins))
    if not gaps.sum() > 0:
        raise ValueError(f"{len(begins)} bursts were heard: at least two are needed, at different instants")
    total = sum(map(sum, weights))
    return Heard(
        site_share=sum(weights[1]) / total,
        between=_empirical(gaps),
        within=_empirical(np.asarray(within)) if within else Empirical((0.0,)),
        sizes=tuple(round(float(size)) for size in strata(sizes, MOST)),
        weights=tuple(weights[0]),
        site_weights=tuple(weights[1]),
    )


MOST = 500
"""Values that a scenario file spells out of what was heard: beyond, as many quantiles."""


def _empirical(values: np.ndarray) -> Empirical:
    return Empirical(tuple(round(float(value), 6) for value in strata(values, MOST)))
