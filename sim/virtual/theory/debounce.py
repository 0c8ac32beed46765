"""Debounce without max_wait, in closed form: refetch rate, delay, staleness, age.

Model. Updates come at `rate` per second as a Poisson process, the page waits for `wait` seconds of silence; x = rate * wait. The
delay D runs from an update to the first refetch that is due after it; the answer takes no time unless a function says otherwise.
A trailing debounce is a paralysable dead-time counter: each update starts the dead time anew. It fires when M/D/infinity becomes
idle, and D is a pedestrian's time to cross a road that needs a gap of `wait`.

All rates are per second and all times seconds. Every function takes scalars or arrays that broadcast, raises `BadInput` outside
its validity range, and answers `inf` where a float64 ends (a page that starves for 1e308 s starves for ever).

Source: Takacs, Introduction to the Theory of Queues (M/G/infinity, type II counters). Every form is tested against runs of the
policies themselves.
"""

from __future__ import annotations

import math

from sim.errors import BadInput
from sim.virtual.theory.domain import (
    elementwise,
    exp,
    exp_beyond_linear,
    expm1,
    not_negative,
    positive,
    share,
)

# --- trailing edge (the default of lodash and use-debounce), Poisson updates -------------------------------------------


@elementwise
def trailing_refetch_rate(rate: float, wait: float) -> float:
    """Refetches per second of one page: rate e**-x. Largest, 1/(e wait), at rate = 1/wait."""
    not_negative(rate=rate, wait=wait)
    return rate * math.exp(-rate * wait)


@elementwise
def trailing_delay_mean(rate: float, wait: float) -> float:
    """Mean delay of an update, seconds: (e**x - 1)/rate. The same for every update (no memory)."""
    positive(rate=rate)
    not_negative(wait=wait)
    return expm1(rate * wait) / rate


def decay(rate: float, wait: float) -> tuple[float, float]:
    """(theta, C) of the tail P(D > t) ~ C e**(-theta t); theta per second.

    theta * wait is the *other* root y of y e**-y = x e**-x (Lambert's W, branch -1 below x = 1 and 0 above), C = (1 - y/x)/(1 -
    y). At x = 1 both roots meet: theta = 1/wait, C = 2. Near it the root comes from its own series, where W has lost half its
    digits.
    """
    positive(rate=rate, wait=wait)
    x = rate * wait
    e = 1 - x
    if abs(e) < 1e-3:
        u = e * (1 + e * (2 / 3 + e * (4 / 9 + e * 44 / 135)))
    else:
        from scipy.special import lambertw  # half a second to import: only where the root is wanted

        argument = -x * math.exp(-x)
        if argument == 0.0:
            return 0.0, 1.0
        y = float(-lambertw(argument, -1 if x < 1 else 0).real)
        return y / wait, (y - x) / ((y - 1) * x)
    y = 1 + u
    amplitude = 2.0 if u == 0 else (u + e) / (u * x)
    return y / wait, amplitude


# Below this many expected refetches the alternating series keeps 12 digits; above it the tail is exact to 13.
_SERIES_LIMIT = 6.0


@elementwise
def trailing_delay_sf(t: float, rate: float, wait: float) -> float:
    """P(D > t), right-continuous: 1 before `wait`, 1 - e**-x at `wait` (P(D = wait) = e**-x).

    Sum over k of (-a)**k/k! [(t - k wait)+**k - e**-x (t - (k+1) wait)+**k] with a = rate e**-x, absolute error below 1e-12;
    for a t > 6 the exact exponential tail (`decay`).
    """
    positive(rate=rate)
    not_negative(wait=wait)
    if t < wait:
        return 1.0
    if wait == 0:
        return 0.0
    quiet = math.exp(-rate * wait)
    a = rate * quiet
    if a * t > _SERIES_LIMIT:
        theta, amplitude = decay(rate, wait)
        return amplitude * math.exp(-theta * t)
    total, k, scale = 0.0, 0, 1.0
    while k * wait <= t:
        # a goes into the power: t alone is astronomic where a is tiny, and t**k would leave float64.
        here, after = a * (t - k * wait), a * (t - (k + 1) * wait)
        total += scale * (here**k - (quiet * after**k if after >= 0 else 0.0))
        if k > 3 and abs(scale) * here**k < 1e-18:
            break
        k += 1
        scale *= -1 / k
    return min(max(total, 0.0), 1.0)


@elementwise
def trailing_delay_quantile(q: float, rate: float, wait: float) -> float:
    """The delay that a share q of the updates does not exceed, seconds (q = 0.95: p95)."""
    positive(rate=rate)
    not_negative(wait=wait)
    share(q=q)
    if q == 1:
        return math.inf
    quiet = math.exp(-rate * wait)
    if q <= quiet or wait == 0:
        return wait
    if quiet == 0:
        return math.inf
    theta, amplitude = decay(rate, wait)
    if theta < 1e-300:
        return math.inf
    tail = math.log(amplitude / (1 - q)) / theta
    if rate * quiet * tail > _SERIES_LIMIT:
        return tail
    from scipy.optimize import brentq

    upper = max(tail, wait)
    while trailing_delay_sf(upper, rate, wait) > 1 - q:
        upper *= 1.5
    if upper == wait:
        return wait
    return float(brentq(lambda t: trailing_delay_sf(t, rate, wait) - (1 - q), wait, upper, xtol=1e-13, rtol=1e-13))


@elementwise
def trailing_stale_fraction(rate: float, wait: float) -> float:
    """Share of time in which the page shows an old state: 1 - e**-x."""
    not_negative(rate=rate, wait=wait)
    return -math.expm1(-rate * wait)


@elementwise
def trailing_sync_age(rate: float, wait: float) -> float:
    """Mean age of synchronisation, seconds (time since the first update not shown; 0 while fresh): (e**x - 1 - x)/rate."""
    positive(rate=rate)
    not_negative(wait=wait)
    return exp_beyond_linear(rate * wait) / rate


@elementwise
def trailing_age_mean(rate: float, wait: float) -> float:
    """Mean age of information, seconds: e**x/rate, the inverse of the refetch rate. Least at rate = 1/wait."""
    positive(rate=rate)
    not_negative(wait=wait)
    return exp(rate * wait) / rate


@elementwise
def trailing_age_peak(rate: float, wait: float) -> float:
    """Mean peak age of information, seconds: wait + e**x/rate."""
    return wait + trailing_age_mean(rate, wait)


@elementwise
def trailing_freshness_mean(rate: float, wait: float, response: float, read: float | None = None) -> float:
    """Mean time from an update to the screen, seconds, when the answer comes `response` after the refetch and was read from the
    database `read` (default: `response`) after it.

    (1 - q)(E[D] + response) + q (response - read/2), q = read rate e**-x: an update that arrives while a refetch is on its way
    may be in it. Valid for read <= response and read <= wait.
    """
    positive(rate=rate)
    read = response if read is None else read
    not_negative(wait=wait, response=response, read=read)
    if read > response or read > wait:
        raise BadInput(f"read must be at most response and wait ({response!r}, {wait!r} s), got {read!r}")
    early = read * rate * math.exp(-rate * wait)
    return (1 - early) * (trailing_delay_mean(rate, wait) + response) + early * (response - read / 2)


# --- other edges -------------------------------------------------------------------------------------------------------


@elementwise
def leading_refetch_rate(rate: float, wait: float) -> float:
    """Leading edge only: rate e**-x refetches per second."""
    return trailing_refetch_rate(rate, wait)


@elementwise
def leading_delay_mean(rate: float, wait: float) -> float:
    """Leading edge only, mean delay, seconds: (e**x - 1)/rate. A storm's last state waits for the next storm."""
    return trailing_delay_mean(rate, wait)


@elementwise
def leading_age_mean(rate: float, wait: float) -> float:
    """Leading edge only, mean age of information, seconds: e**x/rate - wait."""
    return trailing_age_mean(rate, wait) - wait


@elementwise
def both_edges_refetch_rate(rate: float, wait: float) -> float:
    """Leading and trailing: rate p (2 - p), p = e**-x (the trailing one only after two or more updates, as in lodash)."""
    not_negative(rate=rate, wait=wait)
    p = math.exp(-rate * wait)
    return rate * p * (2 - p)


@elementwise
def both_edges_delay_mean(rate: float, wait: float) -> float:
    """Leading and trailing, mean delay, seconds: (1 - p)**2/(rate p), p = e**-x."""
    positive(rate=rate)
    not_negative(wait=wait)
    x = rate * wait
    return math.expm1(-x) ** 2 * exp(x) / rate


@elementwise
def both_edges_age_mean(rate: float, wait: float) -> float:
    """Leading and trailing, mean age of information, seconds: (e**x - 1 - x + e**-x (1 + x))/rate."""
    positive(rate=rate)
    not_negative(wait=wait)
    x = rate * wait
    return (exp_beyond_linear(x) + math.exp(-x) * (1 + x)) / rate
