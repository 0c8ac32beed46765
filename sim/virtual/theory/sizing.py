"""How many, how big, how much: capacity, nodes, payload, retries.

Times in seconds, rates per second, sizes in bytes. The capacity results rest on the no-overlap theorem: two refetches of one
page are at least `wait` apart, so while a herd drains within `wait` (S ceil(N/c) <= wait) herds never meet, and the k-th page
of a herd is fresh exactly S ceil(k/c) after its debounce fires: no simulation needed.
"""

from __future__ import annotations

import math

import numpy as np

from sim.errors import BadInput
from sim.virtual.theory.debounce import trailing_freshness_mean
from sim.virtual.theory.domain import elementwise, not_negative, positive, whole

# --- the refetch API ---------------------------------------------------------------------------------------------------


@elementwise
def herd_fresh_mean(
    rate: float, wait: float, subscribers: int, workers: int, service: float, before: float = 0.0, after: float = 0.0
) -> float:
    """Mean time to fresh over updates and pages of one trailing debounce under Poisson updates, s: exact while no herds meet.

    *service* of one refetch is constant, *before* are the ways until the state is read (to the broadcaster, to the subscriber, to
    the application), together, *after* is the way back. Two refetches of a page are at least `wait` apart. So while a herd drains
    within `wait`, the pages of rank r = ceil(k/c) are begun S (r - 1) and answered S r after the refetches arrive, and their time
    to fresh is that of `trailing_freshness_mean`: a page that is answered later also reads later, and so shows updates that came
    while the herd was being answered.
    """
    positive(rate=rate)
    whole(subscribers=subscribers, workers=workers)
    not_negative(wait=wait, service=service, before=before, after=after)
    ranks = np.arange(1, math.ceil(subscribers / workers) + 1)
    read = before + service * (ranks - 1)
    drain = max(service * ranks[-1], read[-1])
    if drain > wait * (1 + 1e-12):
        raise BadInput(
            f"{subscribers} pages on {workers} workers drain in {drain:.4g} s, longer than wait ({wait:.4g} s): herds overlap, "
            "simulate instead"
        )
    pages = np.full(ranks.size, workers)
    pages[-1] = subscribers - workers * (ranks.size - 1)
    fresh = trailing_freshness_mean(rate, wait, read + service + after, np.minimum(read, wait))
    return float(pages @ fresh) / subscribers


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
def retry_utilisation_max(retries: int) -> float:
    """The utilisation below which immediate retries cannot keep a collapse alive: 1/(1 + k)."""
    not_negative(retries=retries)
    return 1 / (1 + retries)
