"""How many, how big, how much: capacity, nodes, payload, retries.

Times in seconds, rates per second, sizes in bytes. The capacity results rest on the no-overlap theorem: two refetches of one
page are at least `wait` apart, so while a herd drains within `wait` (S ceil(N/c) <= wait) herds never meet, and the k-th page
of a herd is fresh exactly S ceil(k/c) after its debounce fires: no simulation needed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sim.errors import BadInput
from sim.virtual.theory.debounce import trailing_delay_quantile, trailing_freshness_mean
from sim.virtual.theory.domain import elementwise, not_negative, positive, share, whole
from sim.virtual.theory.max_wait import survival

# --- the refetch API ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Herd:
    """Pages of one trailing debounce under Poisson updates, whose refetches are answered before the next ones are due.

    Two refetches of a page are at least `wait` apart. So while a herd drains within `wait` herds never meet, and the pages of
    rank r = ceil(k/c) are begun S (r - 1) and answered S r after the refetches arrive at the application. Their time to fresh is
    that of `trailing_freshness_mean` with this response and this reading time: a page that is answered later also reads later,
    and so shows updates that came while the herd was being answered. Exact.
    """

    rate: float
    """Updates per second."""
    wait: float
    """Of the debounce, s."""
    subscribers: int
    workers: int
    service: float
    """Of one refetch, constant, s."""
    before: float = 0.0
    """One-way delays until the state is read (to the broadcaster, to the subscriber, to the application), together, s."""
    after: float = 0.0
    """Of the way back, s."""

    def __post_init__(self) -> None:
        positive(rate=self.rate)
        whole(subscribers=self.subscribers, workers=self.workers)
        not_negative(wait=self.wait, service=self.service, before=self.before, after=self.after)
        ranks = math.ceil(self.subscribers / self.workers)
        drain = max(self.service * ranks, self.before + self.service * (ranks - 1))
        if drain > self.wait * (1 + 1e-12):
            raise BadInput(
                f"{self.subscribers} pages on {self.workers} workers drain in {drain:.4g} s, longer than wait "
                f"({self.wait:.4g} s): herds overlap, simulate instead"
            )

    @property
    def _ranks(self) -> np.ndarray:
        return np.arange(1, math.ceil(self.subscribers / self.workers) + 1)

    @property
    def _pages(self) -> np.ndarray:
        """Of each rank."""
        pages = np.full(self._ranks.size, self.workers)
        pages[-1] = self.subscribers - self.workers * (pages.size - 1)
        return pages

    def mean(self) -> float:
        """Mean time to fresh over updates and pages, s."""
        read = self.before + self.service * (self._ranks - 1)
        response = read + self.service + self.after
        fresh = trailing_freshness_mean(self.rate, self.wait, response, np.minimum(read, self.wait))
        return float(self._pages @ fresh) / self.subscribers

    def survival_by_rank(self, t: float) -> np.ndarray:
        """P(time to fresh > t) of the pages of each rank: (1 - q) P(D > t - response) + q P(U < response - t), with q the share
        of updates that come between a fire and the reading after it, and U uniform on that time."""
        not_negative(t=t)
        read = self.before + self.service * (self._ranks - 1)
        response = read + self.service + self.after
        early = read * self.rate * math.exp(-self.rate * self.wait)
        # The atom P(D = wait) makes a step at t - response = wait: keep rounding from deciding on which side it falls.
        late = survival(np.round(t - response, 12), self.rate, self.wait)
        inside = np.clip((response - t) / np.where(read > 0, read, 1.0), 0.0, 1.0)
        return (1 - early) * late + early * inside

    def survival(self, t: float) -> float:
        """P(time to fresh > t) over updates and pages."""
        return float(self._pages @ self.survival_by_rank(t)) / self.subscribers

    def quantile(self, q: float) -> float:
        """The time to fresh that a share q of (update, page) pairs does not exceed, s."""
        share(q=q)
        last = self.before + self.service * math.ceil(self.subscribers / self.workers) + self.after
        high = trailing_delay_quantile(q, self.rate, self.wait) + last
        if not math.isfinite(high):
            return math.inf
        low = 0.0
        while high - low > 1e-9:  # bisected, since the atom D = wait makes steps
            middle = (low + high) / 2
            low, high = (middle, high) if self.survival(middle) > 1 - q else (low, middle)
        return high


def subscribers_within(
    target: float,
    rate: float,
    wait: float,
    workers: int,
    service: float,
    before: float = 0.0,
    after: float = 0.0,
    q: float = 0.99,
) -> int:
    """Most pages whose q-quantile of time to fresh stays at or below *target* seconds, within the no-overlap range (0: none).

    Where even the range's end holds it is the answer: simulate for more. Constant service.
    """
    positive(service=service, target=target)
    share(q=q)
    ranks = min(math.floor(wait / service * (1 + 1e-12)), 1 + math.floor((wait - before) / service * (1 + 1e-12)))
    if ranks < 1:
        return 0
    late = Herd(rate, wait, workers * ranks, workers, service, before, after).survival_by_rank(target)
    # With m pages in the last rank R: c (p_1 + ... + p_(R-1)) + m p_R <= (1 - q) (c (R - 1) + m).
    spare = (1 - q) * workers * np.arange(ranks) - workers * np.concatenate(([0.0], np.cumsum(late)[:-1])) + 1e-12
    excess = late - (1 - q)
    with np.errstate(divide="ignore", invalid="ignore"):
        most = np.where(
            excess > 0, np.clip(np.floor(spare / excess), 0, workers), np.where(spare >= workers * excess, workers, 0)
        )
    holds = np.flatnonzero(most > 0)
    return int(workers * holds[-1] + most[holds[-1]]) if holds.size else 0


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
