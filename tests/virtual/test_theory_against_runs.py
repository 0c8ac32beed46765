"""The closed forms against runs of the policies themselves, which know no formula.

Rule for every comparison: seeded; the run is cut into 20 batches, and the formula must lie within five standard errors of the
batch means (a chance of about 1 in 10,000 each with Student's t of 19 degrees, and the seeds are fixed).
"""

from __future__ import annotations

import heapq
import math

import numpy as np
import pytest

import sim.virtual.theory as theory
from sim.clock import SECOND
from sim.policy import Debounce, Immediate, Policy, RateLimit, Window, fires

BATCHES = 20


def agrees(batches: np.ndarray, expected: float) -> None:
    error = batches.std(ddof=1) / math.sqrt(batches.size)
    assert abs(batches.mean() - expected) <= 5 * error + 1e-9 * abs(expected), (batches.mean(), error, expected)


def by_batch(values: np.ndarray) -> np.ndarray:
    return np.array([part.mean() for part in np.array_split(values, BATCHES)])


class PolicyRun:
    """A policy on sampled updates: everything in seconds, batched by update."""

    def __init__(self, policy: Policy, gaps: np.ndarray) -> None:
        self.updates = np.cumsum((gaps * SECOND).astype(np.int64))
        self.fires = np.array(fires(policy, self.updates.tolist()), dtype=np.int64)
        covering = np.searchsorted(self.fires, self.updates)
        seen = covering < self.fires.size
        self.updates = self.updates[seen]
        self.delay = (self.fires[covering[seen]] - self.updates) / SECOND

    def refetch_rate(self) -> np.ndarray:
        """Per batch: refetches per second, as a ratio over the batch's span."""
        rates = []
        for part in np.array_split(self.updates, BATCHES):
            count = np.searchsorted(self.fires, part[-1]) - np.searchsorted(self.fires, part[0])
            rates.append(count / (part[-1] - part[0]) * SECOND)
        return np.array(rates)

    def between(self) -> tuple[np.ndarray, np.ndarray]:
        """(age just after a refetch, time to the next one): what the mean age is an integral of."""
        newest = self.updates[np.searchsorted(self.updates, self.fires, side="right") - 1]
        return (self.fires - newest)[:-1] / SECOND, np.diff(self.fires) / SECOND

    def age_mean(self) -> np.ndarray:
        after, until = self.between()
        return np.array(
            [
                (a * i + i * i / 2).sum() / i.sum()
                for a, i in zip(np.array_split(after, BATCHES), np.array_split(until, BATCHES), strict=True)
            ]
        )

    def stale_periods(self) -> np.ndarray:
        """Per refetch: how long the page had been stale, seconds."""
        before = np.concatenate(([-1], self.fires[:-1]))
        first = self.updates[np.minimum(np.searchsorted(self.updates, before, side="right"), self.updates.size - 1)]
        return np.maximum(self.fires - first, 0) / SECOND


def poisson(rate: float, count: int, seed: int = 7) -> np.ndarray:
    return np.random.default_rng(seed).exponential(1 / rate, count)


TRAILING = [(0.5, 1.0), (1.0, 1.0), (5.0, 0.4)]


@pytest.mark.parametrize(("rate", "wait"), TRAILING)
def test_trailing_debounce(rate, wait):
    run = PolicyRun(Debounce(wait=wait), poisson(rate, 100_000))
    agrees(run.refetch_rate(), theory.debounce.trailing_refetch_rate(rate, wait))
    agrees(by_batch(run.delay), theory.trailing_delay_mean(rate, wait))
    for t in (wait, 1.5 * wait, 3.2 * wait):
        agrees(by_batch(run.delay > t + 1e-9), theory.debounce.trailing_delay_sf(t, rate, wait))
    agrees(run.age_mean(), theory.debounce.trailing_age_mean(rate, wait))
    after, until = run.between()
    agrees(by_batch(after + until), theory.debounce.trailing_age_peak(rate, wait))
    stale, total = run.stale_periods()[1:], run.fires[-1] - run.fires[0]
    scale = stale.size / (total / SECOND)
    agrees(by_batch(stale) * scale, theory.debounce.trailing_stale_fraction(rate, wait))
    agrees(by_batch(stale**2 / 2) * scale, theory.debounce.trailing_sync_age(rate, wait))


@pytest.mark.parametrize(("rate", "wait"), [(0.6, 1.0), (3.0, 0.5)])
def test_leading_edges(rate, wait):
    gaps = poisson(rate, 100_000)
    lead = PolicyRun(Debounce(wait=wait, leading=True, trailing=False), gaps)
    agrees(lead.refetch_rate(), theory.debounce.leading_refetch_rate(rate, wait))
    agrees(by_batch(lead.delay), theory.debounce.leading_delay_mean(rate, wait))
    agrees(lead.age_mean(), theory.debounce.leading_age_mean(rate, wait))
    both = PolicyRun(Debounce(wait=wait, leading=True), gaps)
    agrees(both.refetch_rate(), theory.debounce.both_edges_refetch_rate(rate, wait))
    agrees(by_batch(both.delay), theory.debounce.both_edges_delay_mean(rate, wait))
    agrees(both.age_mean(), theory.debounce.both_edges_age_mean(rate, wait))


@pytest.mark.parametrize(("rate", "wait"), [(0.6, 1.0), (8.0, 0.5)])
def test_window_and_limiter(rate, wait):
    gaps = poisson(rate, 100_000)
    window = PolicyRun(Window(wait=wait), gaps)
    agrees(window.refetch_rate(), theory.window_refetch_rate(rate, wait))
    agrees(by_batch(window.delay), theory.policies.window_delay_mean(rate, wait))
    agrees(by_batch(window.delay <= theory.policies.window_delay_quantile(0.3, rate, wait)), 0.3)
    agrees(window.age_mean(), theory.policies.window_age_mean(rate, wait))
    stale = window.stale_periods()[1:]
    assert stale == pytest.approx(np.full(stale.size, wait))
    limiter = PolicyRun(RateLimit(wait=wait), gaps)
    agrees(limiter.refetch_rate(), theory.policies.limiter_refetch_rate(rate, wait))
    agrees(by_batch(limiter.delay), theory.policies.limiter_delay_mean(rate, wait))
    agrees(limiter.age_mean(), theory.policies.limiter_age_mean(rate, wait))


def test_a_fixed_clock():
    rate, interval = 1.3, 0.8
    updates = np.cumsum(poisson(rate, 200_000))
    ticks = np.ceil(updates / interval)
    agrees(by_batch(ticks * interval - updates), theory.policies.grid_delay_mean(interval))
    useful = np.unique(ticks)
    first = updates[np.searchsorted(updates, (useful - 1) * interval)]
    stale = useful * interval - first
    agrees(by_batch(stale) * stale.size / updates[-1], theory.policies.grid_stale_fraction(rate, interval))
    agrees(by_batch(stale**2 / 2) * stale.size / updates[-1], theory.policies.grid_sync_age(rate, interval))
    instants = np.arange(interval, updates[-1], interval)[10:]
    age = instants - updates[np.searchsorted(updates, instants, side="right") - 1]
    agrees(by_batch(age + interval / 2), theory.policies.grid_age_mean(rate, interval))


@pytest.mark.parametrize(("rate", "wait", "cap"), [(10.0, 0.5, 1.0), (2.0, 0.5, 1.7), (1.0, 1.0, 2.0)])
def test_the_cap_of_lodash(rate, wait, cap):
    run = PolicyRun(Debounce(wait=wait, max_wait=cap, timing="lodash"), poisson(rate, 150_000))
    capped = theory.max_wait.lodash_max_wait(rate, wait, cap)
    agrees(run.refetch_rate(), capped.refetch_rate)
    agrees(by_batch(run.delay), capped.delay_mean)


def test_an_update_can_ride_on_a_running_refetch():
    rate, wait, response, read = 1.2, 0.8, 0.5, 0.3
    run = PolicyRun(Debounce(wait=wait), poisson(rate, 120_000))
    shown = run.fires + int(response * SECOND)
    first = np.searchsorted(run.fires + int(read * SECOND), run.updates)
    seen = first < shown.size
    fresh = (shown[first[seen]] - run.updates[seen]) / SECOND
    agrees(by_batch(fresh), theory.debounce.trailing_freshness_mean(rate, wait, response, read))


def test_immediate_is_a_debounce_of_nothing():
    run = PolicyRun(Immediate(), poisson(2.0, 1000))
    assert run.delay.max() == 0.0


# --- queues and ages ---------------------------------------------------------------------------------------------------


def farm(arrivals: np.ndarray, service: np.ndarray, workers: int) -> np.ndarray:
    """Start times of a first-come first-served queue, sorted arrivals: the smallest free time serves next."""
    free = [0.0] * workers
    start = np.empty(arrivals.size)
    for i, (at, needs) in enumerate(zip(arrivals.tolist(), service.tolist(), strict=True)):
        start[i] = max(at, free[0])
        heapq.heapreplace(free, start[i] + needs)
    return start


def test_broadcasts_queue_behind_each_other():
    rate, subscribers, cost = 40.0, 500, 2e-5
    rng = np.random.default_rng(17)
    arrivals = np.cumsum(rng.exponential(1 / rate, 200_000))
    start = farm(arrivals, np.full(arrivals.size, subscribers * cost), 1)
    agrees(by_batch(start - arrivals) + subscribers * cost, theory.fanout_delay_last(subscribers, cost, rate))


def mean_age(generated: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """Time-average age per batch, of answers that arrive in order."""
    after, until = (shown - generated)[:-1], np.diff(shown)
    return np.array(
        [
            (a * i + i * i / 2).sum() / i.sum()
            for a, i in zip(np.array_split(after, BATCHES), np.array_split(until, BATCHES), strict=True)
        ]
    )
