"""Throttles, limiters and polling in closed form. Poisson updates, answers that take no time.

`rate` updates per second, times in seconds, x = rate * wait. A window throttle opens a window of `wait` at the
first update and refetches at its end (in the libraries: trailing with max_wait = wait, whose timers refetch up to 10.6 % more
often). A limiter refetches at once when idle, else `wait` after the refetch before. A grid flushes every `wait` seconds
whatever happens: server-side coalescing on a fixed clock, or polling with that interval.

Source: Cho & Garcia-Molina, SIGMOD 2000 (polling).
"""

from __future__ import annotations

import math

from sim.virtual.theory.domain import FACTORIALS, elementwise, not_negative, positive, power_series, share

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
