"""How many, how big, how much: capacity, nodes, payload, retries.

Times in seconds, rates per second, sizes in bytes. The capacity results rest on the no-overlap theorem: two refetches of one
page are at least `wait` apart, so while a herd drains within `wait` (S ceil(N/c) <= wait) herds never meet, and the k-th page
of a herd is fresh exactly S ceil(k/c) after its debounce fires: no simulation needed.
"""

from __future__ import annotations

import math

import numpy as np

from sim.errors import BadInput
from sim.virtual.theory.debounce import trailing_delay_mean, trailing_delay_quantile
from sim.virtual.theory.domain import elementwise, not_negative, positive, share, whole
from sim.virtual.theory.max_wait import survival
from sim.virtual.theory.queueing import mean_rank

# --- the refetch API ---------------------------------------------------------------------------------------------------


@elementwise
def stable_subscribers(refetch_rate: float, workers: int, service_mean: float) -> float:
    """Largest number of pages that the API can answer for ever: c/(f E[S]), f refetches per second and page."""
    positive(refetch_rate=refetch_rate, service_mean=service_mean)
    whole(workers=workers)
    return workers / (refetch_rate * service_mean)


@elementwise
def always_stable_subscribers(wait: float, workers: int, service_mean: float) -> float:
    """Pages for which a trailing debounce keeps the API stable at *any* Poisson rate: e wait c/E[S], since f <= 1/(e wait)."""
    positive(wait=wait, service_mean=service_mean)
    whole(workers=workers)
    return math.e * wait * workers / service_mean


def _no_overlap(wait: float, subscribers: int, workers: int, service: float) -> None:
    whole(subscribers=subscribers, workers=workers)
    not_negative(wait=wait, service=service)
    drain = service * math.ceil(subscribers / workers)
    if drain > wait * (1 + 1e-12):
        raise BadInput(
            f"{subscribers} pages on {workers} workers drain in {drain:.4g} s, longer than wait ({wait:.4g} s): "
            "herds overlap, simulate instead"
        )


def herd_freshness_mean(rate: float, wait: float, subscribers: int, workers: int, service: float, network: float = 0.0) -> float:
    """Mean time to fresh over updates and pages, trailing debounce, one herd per fire: E[D] + network + S * mean of ceil(k/c).

    Poisson updates, constant service; *network*: all one-way delays together. Raises `BadInput` where herds overlap.
    """
    _no_overlap(wait, subscribers, workers, service)
    not_negative(network=network)
    return trailing_delay_mean(rate, wait) + network + service * mean_rank(subscribers, workers)


def herd_freshness_sf(
    t: float, rate: float, wait: float, subscribers: int, workers: int, service: float, network: float = 0.0
) -> float:
    """P(time to fresh > t) over updates and pages: mean over k of P(D > t - network - S ceil(k/c)). As `herd_freshness_mean`."""
    _no_overlap(wait, subscribers, workers, service)
    not_negative(t=t, network=network)
    positive(rate=rate, wait=wait)
    ranks = math.ceil(subscribers / workers)
    pages = np.full(ranks, workers)
    pages[-1] = subscribers - workers * (ranks - 1)
    # The atom P(D = wait) makes the step at t - network - S rank = wait: keep rounding from deciding on which side it falls.
    left = np.round(t - network - service * np.arange(1, ranks + 1), 12)
    return float(pages @ survival(left, rate, wait)) / subscribers


def herd_freshness_quantile(
    q: float, rate: float, wait: float, subscribers: int, workers: int, service: float, network: float = 0.0
) -> float:
    """The time to fresh that a share q of (update, page) pairs does not exceed, seconds. As `herd_freshness_mean`."""
    share(q=q)
    _no_overlap(wait, subscribers, workers, service)
    last = service * math.ceil(subscribers / workers)
    alone = trailing_delay_quantile(q, rate, wait) + network
    if not math.isfinite(alone):
        return math.inf
    from scipy.optimize import brentq

    def beyond(t: float) -> float:
        return herd_freshness_sf(t, rate, wait, subscribers, workers, service, network) - (1 - q)

    # Its step at the atom D = wait may be where the sign changes: the root is then the step.
    low, high = alone - 1e-9, alone + last + 1e-9
    try:
        return float(brentq(beyond, low, high, xtol=1e-9))
    except ValueError:  # no change of sign: everybody has the same delay, to rounding
        return high


def subscribers_within(
    target: float, rate: float, wait: float, workers: int, service: float, network: float = 0.0, q: float = 0.99
) -> int:
    """Most pages whose q-quantile of time to fresh stays at or below *target* seconds, within the no-overlap range (0: none).

    Beyond that range, S ceil(N/c) > wait, the answer is the range's end: simulate for more.
    """
    positive(service=service, target=target)
    high = workers * math.floor(wait / service * (1 + 1e-12))
    low = 0
    while low < high:
        middle = (low + high + 1) // 2
        if herd_freshness_sf(target, rate, wait, middle, workers, service, network) <= 1 - q:
            low = middle
        else:
            high = middle - 1
    return low


# --- the broadcaster ---------------------------------------------------------------------------------------------------


@elementwise
def fanout_subscribers_max(rate: float, per_subscriber: float) -> float:
    """Most subscribers of one channel that one node can keep up with: 1/(rate d); rate events per second, d seconds per
    subscriber."""
    positive(rate=rate, per_subscriber=per_subscriber)
    return 1 / (rate * per_subscriber)


@elementwise
def nodes_needed(rate: float, subscribers: int, per_subscriber: float, utilisation: float = 0.7, relay: float = 0.0) -> float:
    """Broadcaster nodes for N subscribers: the least m >= rate N d/(rho - rate relay).

    *utilisation* rho: the target of each node; *relay*: seconds that every node spends on every event (the Redis hop). Raises
    `BadInput` where the relay alone exceeds the target: more nodes do not help.
    """
    positive(rate=rate, per_subscriber=per_subscriber, utilisation=utilisation)
    whole(subscribers=subscribers)
    not_negative(relay=relay)
    left = utilisation - rate * relay
    if left <= 0:
        raise BadInput(
            f"relay: {rate:g} events/s cost each node {rate * relay:.3g} s/s, over the target of {utilisation:g}: "
            "no number of nodes is enough"
        )
    return max(1, math.ceil(rate * subscribers * per_subscriber / left - 1e-9))


# --- payload -----------------------------------------------------------------------------------------------------------


@elementwise
def break_even_payload(refetches_per_notification: float, notification: float, overhead: float) -> float:
    """The resource size at which notify-then-refetch and full payload send the same bytes: (n + r H)/(1 - r).

    r refetches per notification, n bytes of a notification's body, H bytes of HTTP around a refetch. A larger resource: refetch
    is cheaper. r >= 1: infinite, the full payload always wins on bytes.
    """
    not_negative(refetches_per_notification=refetches_per_notification, notification=notification, overhead=overhead)
    r = refetches_per_notification
    return (notification + r * overhead) / (1 - r) if r < 1 else math.inf


# --- retries -----------------------------------------------------------------------------------------------------------


@elementwise
def attempts_per_request(failure: float, retries: int) -> float:
    """Mean attempts of a request that each attempt fails with this probability, at most `retries` retries: (1 - p**(k+1))/(1 -
    p)."""
    share(failure=failure)
    not_negative(retries=retries)
    return (1 - failure ** (retries + 1)) / (1 - failure) if failure < 1 else retries + 1.0


@elementwise
def retry_load(utilisation: float, retries: int) -> float:
    """Load once every attempt times out, abandoned work being done all the same: rho (1 + k). Above 1 a backlog longer than the
    time-out keeps itself alive (metastable); below, goodput recovers to 1. Fluid argument; the step was simulated for k = 1, 2,
    3."""
    not_negative(utilisation=utilisation, retries=retries)
    return utilisation * (1 + retries)


@elementwise
def retry_utilisation_max(retries: int) -> float:
    """The utilisation below which immediate retries cannot keep a collapse alive: 1/(1 + k)."""
    not_negative(retries=retries)
    return 1 / (1 + retries)
