"""Throttles, limiters, polling, batching in closed form, and what no policy can beat. Poisson updates, answers that take no time.

`rate` updates per second, times in seconds, x = rate * wait. A window throttle opens a window of `wait` at the
first update and refetches at its end (in the libraries: trailing with max_wait = wait, whose timers refetch up to 10.6 % more
often). A limiter refetches at once when idle, else `wait` after the refetch before. A grid flushes every `wait` seconds
whatever happens: server-side coalescing on a fixed clock, or polling with that interval.

Sources: Cho & Garcia-Molina, SIGMOD 2000 (polling); Deb & Serfozo, Adv. Appl. Prob. 5(2), 1973 (count-based batching is optimal).
"""

from __future__ import annotations

import math

from sim.virtual.theory.domain import FACTORIALS, elementwise, not_negative, positive, power_series, second_moment, share, whole

# --- window throttle ---------------------------------------------------------------------------------------------------


@elementwise
def window_refetch_rate(rate: float, wait: float) -> float:
    """Refetches per second: rate/(1 + x)."""
    not_negative(rate=rate, wait=wait)
    return rate / (1 + rate * wait)


@elementwise
def window_delay_mean(rate: float, wait: float) -> float:
    """Mean delay, seconds: wait (1 + x/2)/(1 + x). Never more than `wait`."""
    not_negative(rate=rate, wait=wait)
    x = rate * wait
    return wait * (1 + x / 2) / (1 + x)


@elementwise
def window_delay_quantile(q: float, rate: float, wait: float) -> float:
    """The delay that a share q does not exceed, seconds: 1/(1 + x) of the updates open a window (delay `wait`), the rest is
    uniform on it."""
    not_negative(rate=rate, wait=wait)
    share(q=q)
    x = rate * wait
    return wait if q * (1 + x) >= x else q * (1 + x) / rate


@elementwise
def window_stale_fraction(rate: float, wait: float) -> float:
    """Share of time in which the page shows an old state: x/(1 + x)."""
    not_negative(rate=rate, wait=wait)
    x = rate * wait
    return x / (1 + x)


@elementwise
def window_age_mean(rate: float, wait: float) -> float:
    """Mean age of information, seconds: (1 - e**-x)/rate + (wait**2 + 2 wait/rate + 2/rate**2)/(2 (wait + 1/rate))."""
    positive(rate=rate)
    not_negative(wait=wait)
    idle = 1 / rate
    return -math.expm1(-rate * wait) * idle + (wait**2 + 2 * wait * idle + 2 * idle**2) / (2 * (wait + idle))


# --- rate limiter ------------------------------------------------------------------------------------------------------


@elementwise
def limiter_refetch_rate(rate: float, wait: float) -> float:
    """Refetches per second: rate/(x + e**-x)."""
    not_negative(rate=rate, wait=wait)
    x = rate * wait
    return rate / (x + math.exp(-x))


@elementwise
def limiter_delay_mean(rate: float, wait: float) -> float:
    """Mean delay, seconds: (x**2/2)/(rate (x + e**-x)). Never more than `wait`."""
    positive(rate=rate)
    not_negative(wait=wait)
    x = rate * wait
    return x * x / 2 / (rate * (x + math.exp(-x)))


@elementwise
def limiter_age_mean(rate: float, wait: float) -> float:
    """Mean age of information, seconds: E[a] + E[I**2]/2E[I] with a the age at a refetch and I the time between two."""
    positive(rate=rate)
    not_negative(wait=wait)
    x = rate * wait
    at_refetch = (-math.expm1(-x) - x * math.exp(-x)) / rate
    between = wait + math.exp(-x) / rate
    square = wait**2 + math.exp(-x) * (2 * wait / rate + 2 / rate**2)
    return at_refetch + square / (2 * between)


# --- a fixed clock: server-side coalescing, polling --------------------------------------------------------------------


@elementwise
def grid_flush_rate(rate: float, interval: float) -> float:
    """Useful ticks per second (those with something new): (1 - e**-x)/interval. A poller also pays for the others: 1/interval."""
    not_negative(rate=rate)
    positive(interval=interval)
    return -math.expm1(-rate * interval) / interval


@elementwise
def polling_refetch_rate(interval: float) -> float:
    """Polls per second: 1/interval, whatever changes."""
    positive(interval=interval)
    return 1 / interval


@elementwise
def grid_delay_mean(interval: float) -> float:
    """Mean delay, seconds: interval/2."""
    not_negative(interval=interval)
    return interval / 2


@elementwise
def grid_delay_quantile(q: float, interval: float) -> float:
    """The delay that a share q does not exceed, seconds: uniform on the interval."""
    share(q=q)
    not_negative(interval=interval)
    return q * interval


@elementwise
def grid_age_mean(rate: float, interval: float) -> float:
    """Mean age of information, seconds: 1/rate + interval/2."""
    positive(rate=rate)
    not_negative(interval=interval)
    return 1 / rate + interval / 2


@elementwise
def grid_sync_age(rate: float, interval: float) -> float:
    """Mean age of synchronisation, seconds: interval (1/2 - 1/x + (1 - e**-x)/x**2), x = rate * interval (Cho &
    Garcia-Molina)."""
    not_negative(rate=rate, interval=interval)
    x = rate * interval
    if x < 0.5:
        return interval * power_series((0.0, *((-1) ** (n + 1) / FACTORIALS[n + 2] for n in range(1, 20))), x)
    return interval * (0.5 - 1 / x - math.expm1(-x) / x**2)


@elementwise
def grid_stale_fraction(rate: float, interval: float) -> float:
    """Share of time in which the page shows an old state: 1 - (1 - e**-x)/x (Cho & Garcia-Molina's freshness is the rest)."""
    not_negative(rate=rate, interval=interval)
    x = rate * interval
    return 1 + math.expm1(-x) / x if x > 1e-8 else x / 2


# --- batching by count, single flight ----------------------------------------------------------------------------------


@elementwise
def count_refetch_rate(rate: float, batch: int) -> float:
    """A refetch at every K-th update: rate/K per second. Unusable alone: the last updates are never shown."""
    not_negative(rate=rate)
    whole(batch=batch)
    return rate / batch


@elementwise
def count_delay_mean(rate: float, batch: int) -> float:
    """Mean delay of count-based batching, seconds: (K - 1)/(2 rate). The least of all policies at this load."""
    positive(rate=rate)
    whole(batch=batch)
    return (batch - 1) / (2 * rate)


def single_flight_refetch_rate(rate: float, response_mean: float, quiet: float) -> float:
    """One refetch at a time with one re-run: 1/(E[Y] + P(no update in Y)/rate) per second.

    Y is the response time (mean in s), *quiet* = E[e**(-rate Y)]: e**(-rate Y) for a constant Y, 1/(1 + rate E[Y]) for an
    exponential one. A constant Y makes this the limiter with wait = Y.
    """
    positive(rate=rate, response_mean=response_mean)
    share(quiet=quiet)
    return 1 / (response_mean + quiet / rate)


def single_flight_freshness_mean(rate: float, response_mean: float, response_square: float, quiet: float) -> float:
    """Mean time from update to screen under single flight, seconds: E[Y] + (rate E[Y**2]/2)/(rate E[I]).

    E[Y**2] in s**2; I = Y + idle time, E[I] the inverse of `single_flight_refetch_rate`. An update that arrives while an answer
    is on its way waits for the rest of that response, then for its own.
    """
    second_moment(response_mean, response_square, "response")
    return response_mean + response_square / 2 * single_flight_refetch_rate(rate, response_mean, quiet)


# --- what a delay must cost: laws over policies ------------------------------------------------------------------------

# r = refetches per update, 0 < r <= 1; delays in seconds. Mean delay alone: the optimum is optimal for the mean only.


def _load(per_update: float, rate: float) -> None:
    positive(rate=rate, per_update=per_update)
    share(per_update=per_update)


@elementwise
def least_delay_at_load(per_update: float, rate: float) -> float:
    """No policy has a smaller mean delay at r refetches per update: (1 - r)/(2 r rate) (Deb & Serfozo; K = 1/r, randomised
    between)."""
    _load(per_update, rate)
    return (1 - per_update) / (2 * per_update * rate)


@elementwise
def window_delay_at_load(per_update: float, rate: float) -> float:
    """The window throttle that makes r refetches per update: (1 - r**2)/(2 r rate). Below every debounce."""
    _load(per_update, rate)
    return (1 - per_update**2) / (2 * per_update * rate)


@elementwise
def polling_delay_at_load(per_update: float, rate: float) -> float:
    """Polling with r polls per update (r > 1 is allowed: polling more often than things change): 1/(2 r rate)."""
    positive(rate=rate, per_update=per_update)
    return 1 / (2 * per_update * rate)


@elementwise
def trailing_delay_at_load(per_update: float, rate: float) -> float:
    """The trailing debounce that makes r refetches per update: (1 - r)/(r rate). Worse than polling below r = 1/2."""
    _load(per_update, rate)
    return (1 - per_update) / (per_update * rate)


@elementwise
def polling_crossover_wait(rate: float) -> float:
    """The `wait` above which plain polling at equal load is fresher than a trailing debounce, seconds: ln 2/rate."""
    positive(rate=rate)
    return math.log(2) / rate


@elementwise
def load_against_polling(rate: float, wait: float) -> float:
    """Refetches of a trailing debounce per poll of a poller that has the same mean delay: 2 (1 - e**-x)."""
    not_negative(rate=rate, wait=wait)
    return -2 * math.expm1(-rate * wait)


@elementwise
def stale_updates(rate: float, freshness_mean: float) -> float:
    """Little: the mean number of updates not yet on the screen is rate times the mean time to fresh, whatever arrivals and
    policy."""
    not_negative(rate=rate, freshness_mean=freshness_mean)
    return rate * freshness_mean
