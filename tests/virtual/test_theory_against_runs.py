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
    agrees(run.refetch_rate(), theory.trailing_refetch_rate(rate, wait))
    agrees(by_batch(run.delay), theory.trailing_delay_mean(rate, wait))
    agrees(by_batch((run.delay - theory.trailing_delay_mean(rate, wait)) ** 2), theory.trailing_delay_variance(rate, wait))
    agrees(by_batch(np.exp(-0.7 * run.delay)), theory.trailing_delay_transform(0.7, rate, wait))
    for t in (wait, 1.5 * wait, 3.2 * wait):
        agrees(by_batch(run.delay > t + 1e-9), theory.trailing_delay_sf(t, rate, wait))
    agrees(run.age_mean(), theory.trailing_age_mean(rate, wait))
    after, until = run.between()
    agrees(by_batch(after + until), theory.trailing_age_peak(rate, wait))
    stale, total = run.stale_periods()[1:], run.fires[-1] - run.fires[0]
    scale = stale.size / (total / SECOND)
    agrees(by_batch(stale) * scale, theory.trailing_stale_fraction(rate, wait))
    agrees(by_batch(stale**2 / 2) * scale, theory.trailing_sync_age(rate, wait))


@pytest.mark.parametrize(("rate", "wait"), [(0.6, 1.0), (3.0, 0.5)])
def test_leading_edges(rate, wait):
    gaps = poisson(rate, 100_000)
    lead = PolicyRun(Debounce(wait=wait, leading=True, trailing=False), gaps)
    agrees(lead.refetch_rate(), theory.leading_refetch_rate(rate, wait))
    agrees(by_batch(lead.delay), theory.leading_delay_mean(rate, wait))
    agrees(lead.age_mean(), theory.leading_age_mean(rate, wait))
    both = PolicyRun(Debounce(wait=wait, leading=True), gaps)
    agrees(both.refetch_rate(), theory.both_edges_refetch_rate(rate, wait))
    agrees(by_batch(both.delay), theory.both_edges_delay_mean(rate, wait))
    agrees(both.age_mean(), theory.both_edges_age_mean(rate, wait))


@pytest.mark.parametrize(("rate", "wait"), [(0.6, 1.0), (8.0, 0.5)])
def test_window_and_limiter(rate, wait):
    gaps = poisson(rate, 100_000)
    window = PolicyRun(Window(wait=wait), gaps)
    agrees(window.refetch_rate(), theory.window_refetch_rate(rate, wait))
    agrees(by_batch(window.delay), theory.window_delay_mean(rate, wait))
    agrees(by_batch(window.delay <= theory.window_delay_quantile(0.3, rate, wait)), 0.3)
    agrees(window.age_mean(), theory.window_age_mean(rate, wait))
    stale = window.stale_periods()[1:]
    assert stale == pytest.approx(np.full(stale.size, wait))
    limiter = PolicyRun(RateLimit(wait=wait), gaps)
    agrees(limiter.refetch_rate(), theory.limiter_refetch_rate(rate, wait))
    agrees(by_batch(limiter.delay), theory.limiter_delay_mean(rate, wait))
    agrees(limiter.age_mean(), theory.limiter_age_mean(rate, wait))


def test_a_fixed_clock():
    rate, interval = 1.3, 0.8
    updates = np.cumsum(poisson(rate, 200_000))
    ticks = np.ceil(updates / interval)
    agrees(by_batch(ticks * interval - updates), theory.grid_delay_mean(interval))
    useful = np.unique(ticks)
    agrees(by_batch(np.isin(np.arange(1, int(ticks[-1]) + 1), useful)) / interval, theory.grid_flush_rate(rate, interval))
    first = updates[np.searchsorted(updates, (useful - 1) * interval)]
    stale = useful * interval - first
    agrees(by_batch(stale) * stale.size / updates[-1], theory.grid_stale_fraction(rate, interval))
    agrees(by_batch(stale**2 / 2) * stale.size / updates[-1], theory.grid_sync_age(rate, interval))
    instants = np.arange(interval, updates[-1], interval)[10:]
    age = instants - updates[np.searchsorted(updates, instants, side="right") - 1]
    agrees(by_batch(age + interval / 2), theory.grid_age_mean(rate, interval))


@pytest.mark.parametrize(("rate", "wait", "cap"), [(10.0, 0.5, 1.0), (2.0, 0.5, 1.7), (1.0, 1.0, 2.0)])
def test_the_cap_of_lodash(rate, wait, cap):
    run = PolicyRun(Debounce(wait=wait, max_wait=cap, timing="lodash"), poisson(rate, 150_000))
    capped = theory.lodash_max_wait(rate, wait, cap)
    agrees(run.refetch_rate(), capped.refetch_rate)
    agrees(by_batch(run.delay), capped.delay_mean)


@pytest.mark.parametrize(("rate", "wait", "cap"), [(10.0, 0.5, 1.0), (2.0, 0.5, 1.7), (1.0, 1.0, 1.0)])
def test_the_cap_of_the_text_books(rate, wait, cap):
    """Its own policy, in one loop: the deadline counts from the first update that nothing has answered."""
    updates = np.cumsum(poisson(rate, 150_000)).tolist()
    spans, delays, forced, i = [], [], [], 0
    while i < len(updates) - 1:
        deadline, j = updates[i] + cap, i
        while j + 1 < len(updates) and updates[j + 1] < min(updates[j] + wait, deadline):
            j += 1
        due = min(updates[j] + wait, deadline)
        forced.append(updates[j] + wait > deadline)
        delays += [due - updates[k] for k in range(i, j + 1)]
        spans.append(due)
        i = j + 1
    capped = theory.textbook_max_wait(rate, wait, cap)
    agrees(1 / by_batch(np.diff(spans)), capped.refetch_rate)
    agrees(by_batch(np.array(delays)), capped.delay_mean)
    agrees(by_batch(np.array(forced, float)), capped.forced)


def test_regular_updates_under_a_cap():
    gaps = np.full(2001, 0.4)
    lodash = PolicyRun(Debounce(wait=0.5, max_wait=1.0, timing="lodash"), gaps)
    assert np.diff(lodash.fires[2:-2]) / SECOND == pytest.approx(1 / theory.constant_interval_lodash_rate(1.0))
    textbook = theory.constant_interval_textbook(0.4, 1.0)
    assert textbook.refetch_rate == pytest.approx(1 / 1.2)
    assert textbook.delay_mean == pytest.approx((1.0 + 0.6 + 0.2) / 3)


def test_renewal_updates_and_runs():
    mean, sigma, wait = 1.0, 1.0, 0.7
    rng = np.random.default_rng(3)
    gaps = rng.lognormal(math.log(mean) - sigma**2 / 2, sigma, 100_000)
    gap = theory.lognormal_gap(mean, sigma, wait)
    run = PolicyRun(Debounce(wait=wait), gaps)
    agrees(run.refetch_rate(), theory.renewal_refetch_rate(gap))
    agrees(by_batch(run.delay), theory.renewal_delay_mean(gap, wait))
    seen = theory.observed_gap(gaps, wait)
    assert seen.shorter == pytest.approx(gap.shorter, abs=0.01)
    count, delay, refetches = 12, [], []
    for part in gaps[:60_000].reshape(-1, count)[:4000]:
        single = PolicyRun(Debounce(wait=wait), part)
        delay.append(single.delay.mean())
        refetches.append(single.fires.size)
    agrees(by_batch(np.array(delay)), theory.run_delay_mean(count, gap, wait))
    agrees(by_batch(np.array(refetches, float)), theory.run_refetches(count, gap))


def test_clusters_count_by_their_mean_length_alone():
    rate, wait = 0.3, 0.5
    rng = np.random.default_rng(5)
    starts = np.cumsum(rng.exponential(1 / rate, 60_000))
    inner = rng.uniform(0.05, 0.45, (starts.size, 4))
    updates = np.sort((starts[:, None] + np.concatenate([np.zeros((starts.size, 1)), np.cumsum(inner, axis=1)], axis=1)).ravel())
    run = PolicyRun(Debounce(wait=wait), np.diff(updates, prepend=0.0))
    agrees(run.refetch_rate(), theory.cluster_refetch_rate(rate, 1.0, wait))
    stale = run.stale_periods()[1:]
    agrees(by_batch(stale) * stale.size / updates[-1], theory.cluster_stale_fraction(rate, 1.0, wait))


def test_an_update_can_ride_on_a_running_refetch():
    rate, wait, response, read = 1.2, 0.8, 0.5, 0.3
    run = PolicyRun(Debounce(wait=wait), poisson(rate, 120_000))
    shown = run.fires + int(response * SECOND)
    first = np.searchsorted(run.fires + int(read * SECOND), run.updates)
    seen = first < shown.size
    fresh = (shown[first[seen]] - run.updates[seen]) / SECOND
    agrees(by_batch(fresh), theory.trailing_freshness_mean(rate, wait, response, read))
    # Little: stale updates on time average = rate times mean time to fresh, measured the other way round.
    begin, end = run.updates[0] / SECOND, shown[-1] / SECOND
    assert fresh.sum() / (end - begin) == pytest.approx(theory.stale_updates(rate, fresh.mean()), rel=0.02)


def test_single_flight():
    rate, response = 2.0, 0.4
    rng = np.random.default_rng(9)
    updates = np.cumsum(rng.exponential(1 / rate, 100_000))
    starts, answers, i = [], [], 0
    free = 0.0
    while i < updates.size:
        start = max(updates[i], free)
        free = start + rng.exponential(response)
        starts.append(start)
        answers.append(free)
        i = int(np.searchsorted(updates, start, side="right"))
    quiet = 1 / (1 + rate * response)
    agrees(1 / by_batch(np.diff(starts)), theory.single_flight_refetch_rate(rate, response, quiet))
    fresh = np.array(answers)[np.searchsorted(starts, updates[updates <= starts[-1]])] - updates[updates <= starts[-1]]
    agrees(by_batch(fresh), theory.single_flight_freshness_mean(rate, response, 2 * response**2, quiet))
    constant = theory.single_flight_refetch_rate(rate, response, math.exp(-rate * response))
    assert constant == pytest.approx(theory.limiter_refetch_rate(rate, response))


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


@pytest.mark.parametrize(("rate", "workers"), [(0.6, 1), (3.0, 4)])
def test_a_farm_of_exponential_workers(rate, workers):
    rng = np.random.default_rng(11)
    arrivals = np.cumsum(rng.exponential(1 / rate, 300_000))
    wait = farm(arrivals, rng.exponential(1.0, arrivals.size), workers) - arrivals
    agrees(by_batch(wait), theory.mmc_wait_mean(workers, rate, 1.0))
    agrees(by_batch(wait > 0), theory.erlang_c(workers, rate))
    agrees(by_batch(wait > 0.8), theory.mmc_wait_sf(0.8, workers, rate, 1.0))
    agrees(by_batch(wait <= theory.mmc_wait_quantile(0.9, workers, rate, 1.0)), 0.9)


def test_batches_wait_for_each_other():
    rate, batch, workers, mu = 0.1, 5, 8, 0.1
    rng = np.random.default_rng(13)
    arrivals = np.repeat(np.cumsum(rng.exponential(1 / rate, 60_000)), batch)
    wait = farm(arrivals, rng.exponential(1 / mu, arrivals.size), workers) - arrivals
    agrees(by_batch(wait), theory.batch_mmc_wait_mean(rate, batch, workers, mu))
    sizes = np.random.default_rng(14).integers(1, 6, 60_000)
    arrivals = np.repeat(np.cumsum(rng.exponential(1.0, sizes.size)), sizes)
    wait = farm(arrivals, np.full(arrivals.size, 0.2), 1) - arrivals
    agrees(by_batch(wait), theory.batch_mg1_wait_mean(1.0, 3.0, 11.0, 0.2, 0.04))


def test_an_exponential_herd():
    rng = np.random.default_rng(15)
    size, workers = 23, 4
    means, lasts = [], []
    for _ in range(4000):
        service = rng.exponential(0.5, size)
        response = farm(np.zeros(size), service, workers) + service
        means.append(response.mean())
        lasts.append(response.max())
    agrees(by_batch(np.array(means)), theory.herd_exponential_mean(size, workers, 0.5))
    agrees(by_batch(np.array(lasts)), theory.herd_exponential_last(size, workers, 0.5))


def test_broadcasts_queue_behind_each_other():
    rate, subscribers, cost = 40.0, 500, 2e-5
    rng = np.random.default_rng(17)
    arrivals = np.cumsum(rng.exponential(1 / rate, 200_000))
    start = farm(arrivals, np.full(arrivals.size, subscribers * cost), 1)
    agrees(by_batch(start - arrivals) + (subscribers + 1) * cost / 2, theory.fanout_delay_mean(subscribers, cost, rate))
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


@pytest.mark.parametrize("kind", ["mm1", "md1", "dm1"])
def test_ages_of_first_come_first_served(kind):
    rate, mu = 0.55, 1.0
    rng = np.random.default_rng(19)
    count = 200_000
    gaps = np.full(count, 1 / rate) if kind[0] == "d" else rng.exponential(1 / rate, count)
    service = np.full(count, 1 / mu) if kind[1] == "d" else rng.exponential(1 / mu, count)
    arrivals = np.cumsum(gaps)
    shown = farm(arrivals, service, 1) + service
    expected = {"mm1": theory.mm1_age, "md1": theory.md1_age, "dm1": theory.dm1_age}[kind](rate, mu)
    agrees(mean_age(arrivals, shown), expected)
    if kind != "dm1":
        square = 1.0 if kind == "md1" else 2.0
        agrees(by_batch((shown - arrivals)[:-1] + np.diff(shown)), theory.mg1_peak_age(rate, 1.0, square))


@pytest.mark.parametrize("rule", ["lost", "replaced", "preempted"])
def test_ages_of_a_single_place(rule):
    rate, mu = 1.4, 1.0
    rng = np.random.default_rng(23)
    generated, shown, busy_until, waiting = [], [], 0.0, None
    arrivals = np.cumsum(rng.exponential(1 / rate, 200_000)).tolist()
    current = None
    for at in arrivals:
        while current is not None and busy_until <= at:
            generated.append(current)
            shown.append(busy_until)
            current, waiting = waiting, None
            if current is not None:
                busy_until += rng.exponential(1 / mu)
        if current is None or rule == "preempted":
            current, busy_until = at, at + rng.exponential(1 / mu)
        elif rule == "replaced":
            waiting = at
    forms = {"lost": theory.mm11_age, "replaced": theory.mm12_replacing_age, "preempted": theory.mm1_preemptive_age}
    agrees(mean_age(np.array(generated), np.array(shown)), forms[rule](rate, mu))


def test_two_overlapping_answers_can_land_in_the_wrong_order():
    rng = np.random.default_rng(29)
    gap, mu = 0.3, 2.0
    first, second = rng.exponential(1 / mu, (2, 200_000))
    agrees(by_batch(first > gap + second), theory.older_lands_last(gap, mu))


def test_waiting_before_the_next_refetch_pays_exactly_as_computed():
    rng = np.random.default_rng(31)
    response = rng.choice([0.0, 2.0], 200_000)
    best = theory.update_or_wait([0.0, 2.0])
    pause = np.maximum(best.threshold - response, 0.0)
    cycle = pause[:-1] + response[1:]  # the answer before sets the age, then pause and the next response pass
    age = (response[:-1] * cycle + cycle**2 / 2).reshape(-1)
    batches = np.array(
        [a.sum() / c.sum() for a, c in zip(np.array_split(age, BATCHES), np.array_split(cycle, BATCHES), strict=True)]
    )
    agrees(batches, best.age)
    for other in (0.5 * best.threshold, 1.5 * best.threshold):
        pause = np.maximum(other - response, 0.0)
        cycle = pause[:-1] + response[1:]
        assert (response[:-1] * cycle + cycle**2 / 2).sum() / cycle.sum() > best.age
