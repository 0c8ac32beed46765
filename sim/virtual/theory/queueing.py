"""Workers, herds and fan-out in closed form.

Times in seconds, rates per second. Fan-out has a stationary state below a utilisation of 1, and raises `BadInput` beyond.

Sources: Kleinrock, Queueing Systems I (M/M/c, M/D/1); Gunther (universal scalability law).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sim.errors import BadInput
from sim.virtual.theory.domain import elementwise, not_negative, positive, share, stable, whole

# --- many workers, one queue -------------------------------------------------------------------------------------------


def _waiting(load: float, workers: int) -> float:
    """Erlang C: the probability that an arrival waits."""
    blocked = 1.0
    for k in range(1, workers + 1):
        blocked = load * blocked / (k + load * blocked)
    return blocked / (1 - load / workers * (1 - blocked))


@elementwise
def response_quantile(q: float, rate: float, workers: int, service_mean: float) -> float:
    """The response (wait and service) that a share q of the refetches does not exceed, s: M/M/c, first come first served, exact.

    Poisson refetches, exponential service. With one worker -E[S] ln(1 - q)/(1 - rate E[S]). Rate 0: an idle application.
    """
    share(q=q)
    not_negative(rate=rate)
    positive(service_mean=service_mean)
    whole(workers=workers)
    load = rate * service_mean
    stable(load / workers, "refetches")
    if q == 1:
        return math.inf
    waiting, spare = _waiting(load, int(workers)), workers - load

    def beyond(t: float) -> float:
        """P(response > t), t in mean services: the wait is 0 or, with probability `waiting`, exponential of rate `spare`."""
        if abs(spare - 1) < 1e-9:
            return math.exp(-t) * (1 + waiting * t)
        waited = (spare * math.exp(-t) - math.exp(-spare * t)) / (spare - 1)
        return (1 - waiting) * math.exp(-t) + waiting * waited

    low, high = 0.0, -2 * math.log1p(-q) * (1 + 1 / spare) + 1
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if beyond(middle) > 1 - q else (low, middle)
    return service_mean * (low + high) / 2


@elementwise
def response_knee(workers: int, service_mean: float, factor: float = 2.0, q: float = 0.99, fixed: float = 0.0) -> float:
    """The knee of the load-latency curve: refetches per second at which the q-quantile of the response is *factor* times its idle
    value (M/M/c). *fixed*: what each response takes besides, such as the network, s."""
    not_negative(fixed=fixed)
    if not factor > 1:
        raise BadInput(f"factor must be > 1, got {factor!r}")
    capacity = workers / service_mean
    limit = factor * (fixed + response_quantile(q, 0.0, workers, service_mean)) - fixed
    low, high = 0.0, capacity * (1 - 1e-12)
    while high - low > 1e-9 * capacity:
        middle = (low + high) / 2
        low, high = (middle, high) if response_quantile(q, middle, workers, service_mean) < limit else (low, middle)
    return (low + high) / 2


# --- a herd: all pages at once -----------------------------------------------------------------------------------------


def mean_rank(size: int, workers: int) -> float:
    """Mean over k = 1 ... size of ceil(k/workers)."""
    full, rest = divmod(size, workers)
    return (workers * full * (full + 1) / 2 + rest * (full + 1)) / size


@elementwise
def herd_response_mean(size: int, workers: int, service: float) -> float:
    """X refetches at one instant on c idle workers, constant service, FIFO: mean response S * mean of ceil(k/c), about X S/2c."""
    whole(size=size, workers=workers)
    not_negative(service=service)
    return service * mean_rank(int(size), int(workers))


@elementwise
def jittered_herd_response_mean(size: int, workers: int, service: float, jitter: float) -> float:
    """Mean time from the fire to the answer when X refetches spread over `jitter` seconds: max(J, X S/c)/2 + S.

    Fluid law (0.6 % low at its worst, J = X S/c). Jitter never makes a herd fresher: up to J = X S/c it is free, beyond it costs.
    """
    whole(size=size, workers=workers)
    not_negative(service=service, jitter=jitter)
    return max(jitter, size * service / workers) / 2 + service


# --- fan-out: one sender, one subscriber after the other ---------------------------------------------------------------


@elementwise
def fanout_delay_last(subscribers: int, per_subscriber: float, rate: float = 0.0, nodes: int = 1) -> float:
    """Mean time from publish to the last subscriber's notification: n d plus the wait behind earlier events."""
    n = _per_node(subscribers, nodes)
    not_negative(per_subscriber=per_subscriber, rate=rate)
    return n * per_subscriber + _fanout_wait(n, per_subscriber, rate)


def _per_node(subscribers: int, nodes: int) -> float:
    whole(subscribers=subscribers, nodes=nodes)
    return subscribers / nodes


def _fanout_wait(n: float, per_subscriber: float, rate: float) -> float:
    busy = rate * n * per_subscriber
    stable(busy, "fan-out")
    return rate * (n * per_subscriber) ** 2 / (2 * (1 - busy))


# --- scaling -----------------------------------------------------------------------------------------------------------


class UniversalScalability(NamedTuple):
    """A fitted universal scalability law (Gunther): throughput rate N/(1 + contention (N - 1) + coherence N (N - 1))."""

    rate: float
    """Throughput of one, per second."""
    contention: float
    coherence: float

    @property
    def peak(self) -> float:
        """The n of the largest throughput; inf: it never falls."""
        return usl_peak(min(self.contention, 1.0), self.coherence) if self.coherence > 0 else math.inf


USL_POINTS = 6
"""Points that a fit of the law needs (N. J. Gunther, "Guerrilla Capacity Planning", 2007, asks for as many)."""


def usl_fit(n: Sequence[float], throughput: Sequence[float]) -> UniversalScalability:
    """The law fitted to throughputs X by least squares, parameters >= 0: n/X = (1 + sigma (n - 1) + kappa n (n - 1))/rate.

    Raises `BadInput` where the data cannot tell: fewer than `USL_POINTS` points, a range of less than four times, points that lie
    off the law by more than a tenth, or on a straight line (what was offered was served: contention is not seen).
    """
    x, y = np.asarray(n, float), np.asarray(throughput, float)
    if len(x) != len(y) or len(np.unique(x)) < USL_POINTS:
        raise BadInput(f"the universal scalability law needs {USL_POINTS} different loads, there are {len(np.unique(x))}")
    if not (x > 0).all() or not (y > 0).all() or x.max() < 4 * x.min():
        raise BadInput("the universal scalability law needs loads over a range of four times, and throughputs > 0")
    from scipy.optimize import nnls

    # Of relative differences: n/X grows over decades, and each point counts alike.
    weight = y / x
    columns = np.stack([np.ones_like(x), x - 1, x * (x - 1)], axis=1)
    found, _ = nnls(columns * weight[:, None], np.ones_like(x))
    off = np.abs(columns @ found * weight - 1)
    if found[0] <= 0 or off.max() > 0.1:
        raise BadInput(f"the universal scalability law does not describe these throughputs (off by up to {off.max():.0%})")
    bend = (columns[:, 1:] @ found[1:] / (columns @ found)).max()
    if bend < 3 * max(float(off.mean()), 1e-3):
        raise BadInput("throughput grows in proportion to the load: no contention is seen (go on to larger loads)")
    return UniversalScalability(float(1 / found[0]), float(found[1] / found[0]), float(found[2] / found[0]))


@elementwise
def usl_peak(contention: float, coherence: float) -> float:
    """The N at which the throughput of the universal scalability law is largest: sqrt((1 - sigma)/kappa)."""
    share(contention=contention)
    positive(coherence=coherence)
    return math.sqrt((1 - contention) / coherence)
