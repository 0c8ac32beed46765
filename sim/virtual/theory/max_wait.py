"""Trailing debounce with max_wait under Poisson updates, as lodash counts it.

`rate` updates per second, times in seconds, x = rate * wait, a = rate e**-x, D the delay of a debounce without cap. Two
functions carry everything, both finite alternating sums because the transform of P(D > t) is (1 - E)/(s + rate E), E =
e**(-(rate + s) wait):

    m(c) = E[min(D, c)]                          transform S/s
    v(c) = integral over 0..c of P(D > u) m(c - u) du     transform S**2/s

Once a c is large the sums would cancel; then mean and mean square of D are left, less the exact tail.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np

from sim.errors import BadInput
from sim.virtual.theory.debounce import decay, trailing_delay_mean
from sim.virtual.theory.domain import positive

_SERIES_LIMIT = 12.0
_TERMS = 90  # (a c)**k / k! is below 1e-40 beyond
_NODES = 32
_DEGREE = 20  # of the polynomials between two corners


class Capped(NamedTuple):
    """What a cap does: refetches per second, mean delay (s)."""

    refetch_rate: float
    delay_mean: float


def _sums(c: np.ndarray, rate: float, wait: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """P(D > c), m(c) and v(c) for an array of caps."""
    quiet = math.exp(-rate * wait)
    a = rate * quiet
    sf, m, v = np.zeros((3, c.size))
    near = a * c <= _SERIES_LIMIT
    if near.any():
        t = c[near]
        terms = min(int(t.max() / wait), _TERMS) + 1
        left = t[:, None] - wait * np.arange(terms + 2)
        valid = left >= 0
        left = np.where(valid, left, 0.0)
        k = np.arange(terms)
        scaled = -a * left
        # base[j, k] = (-a (c - j wait)+)**k / k! for j = k, k + 1, k + 2
        inverse = np.array([1 / math.factorial(n) for n in range(terms)])
        base = [scaled[:, j : j + terms] ** k * inverse * valid[:, j : j + terms] for j in range(3)]
        hold = [left[:, j : j + terms] for j in range(3)]
        sf[near] = (base[0] - quiet * base[1]).sum(axis=1)
        m[near] = ((base[0] * hold[0] - quiet * base[1] * hold[1]) / (k + 1)).sum(axis=1)
        squares = [b * h * h for b, h in zip(base, hold, strict=True)]
        v[near] = ((squares[0] - 2 * quiet * squares[1] + quiet**2 * squares[2]) / (k + 2)).sum(axis=1)
    if not near.all():
        far = ~near
        t = c[far]
        mean = trailing_delay_mean(rate, wait)
        m[far], v[far] = mean, mean * mean
        y = decay(rate, wait)[0] * wait
        if y < 0.9:  # otherwise theta c > 12 e**0.9: the tail is below 1e-12
            theta = y / wait
            e = theta / rate
            first, second = 1 - wait * theta, wait**2 * theta
            amplitude = (1 - e) / first
            regular = wait * e / first - (1 - e) * second / (2 * first**2)
            tail = np.exp(-theta * t)
            sf[far] = amplitude * tail
            m[far] -= amplitude / theta * tail
            v[far] -= tail / theta * (2 * regular * amplitude + amplitude**2 * (t + 1 / theta))
    return sf, m, v


@functools.lru_cache(maxsize=4096)
def lodash_max_wait(rate: float, wait: float, max_wait: float) -> Capped:
    """lodash's and use-debounce's cap: it counts from the *last invocation* while a storm goes on.

    After a forced refetch at T, whose last update came eta before, an update at T + y with y + eta < wait does not start
    afresh: the cap stays T + M, that is M - y for it. So the remaining cap c is a Markov renewal chain on {M} and (M - wait,
    M): forced with last update in d eta, rate P(D > c - eta) e**(-rate eta); continued at y < wait - eta, rate e**(-rate y);
    else back to M. Its stationary law p is solved on 32 Gauss nodes (Nystrom; 48 differ by 1e-7), then with sums over p:
    refetch rate 1/(1/rate + sum p m), delay sum p (m + rate v)/(1 + rate sum p m). Agrees with runs of the state machine to
    0.05 %. No published formula is known to us.

    Valid for 1e6 wait >= max_wait >= 2 wait > 0 (below, gaps between refetches are not bounded by the cap: simulate).
    """
    positive(rate=rate, wait=wait, max_wait=max_wait)
    if max_wait < 2 * wait:
        raise BadInput(f"max_wait must be >= 2 * wait ({2 * wait!r} s) for this formula, got {max_wait!r}: simulate it instead")
    if max_wait > 1e6 * wait:
        raise BadInput(f"max_wait must be <= 1e6 * wait ({1e6 * wait!r} s) for this formula, got {max_wait!r}: leave it out")
    nodes, weights = _gauss()
    y, weights = (nodes + 1) * wait / 2, weights * wait / 2
    caps = np.concatenate(([max_wait], max_wait - y))
    _, m, v = _sums(caps, rate, wait)
    transition = np.empty((_NODES + 1, _NODES + 1))
    transition[:, 1:] = _forced_within(caps, wait - y, rate, wait) * (rate * np.exp(-rate * y) * weights)
    transition[:, 0] = 1 - transition[:, 1:].sum(axis=1)
    balance = transition.T - np.eye(_NODES + 1)
    balance[0] = 1.0
    law = np.linalg.solve(balance, np.eye(_NODES + 1)[0])
    mean = float(law @ m)
    return Capped(1 / (1 / rate + mean), float(law @ (m + rate * v)) / (1 + rate * mean))


def _forced_within(caps: np.ndarray, ages: np.ndarray, rate: float, wait: float) -> np.ndarray:
    """[i, j] = P(cap i forces the refetch, and its last update is younger than ages[j]).

    The integral over 0..z of rate P(D > c - eta) e**(-rate eta) d eta is J(c) - e**(-rate z) J(c - z) for any J with J' = rate
    (P(D > u) - J). J is solved by collocation between the corners of P(D > u), the multiples of wait; J = P at the lower end
    keeps it free of a boundary layer.
    """
    low, high = float(caps.min() - ages.max()), float(caps.max())
    corners = wait * np.arange(math.ceil(low / wait + 1e-9), math.ceil(high / wait - 1e-9))
    edges = np.array([low, *corners, high])
    nodes, derivative, to_series = _chebyshev()
    width = np.diff(edges)
    inner = edges[:-1, None] + (nodes + 1) / 2 * width[:, None]
    # The corner of its own panel belongs to the panel, from whichever side: keep rounding from reading the neighbour's value.
    inner[:, 0] += 1e-13 * wait
    inner[:, -1] -= 1e-13 * wait
    survival = _sums(inner.ravel(), rate, wait)[0].reshape(inner.shape)
    start = survival[0, 0]
    coefficients = np.empty_like(survival)
    for panel in range(width.size):
        pull = rate * width[panel] / 2
        system = derivative + pull * np.eye(nodes.size)
        right = pull * survival[panel]
        system[0], right[0] = np.eye(nodes.size)[0], start
        values = np.linalg.solve(system, right)
        start = values[-1]
        coefficients[panel] = to_series @ values
    at = caps[:, None] - np.concatenate(([0.0], ages))
    panel_of = np.clip(np.searchsorted(edges, at, side="right") - 1, 0, width.size - 1)
    s = 2 * (at - edges[panel_of]) / width[panel_of] - 1
    running = np.polynomial.chebyshev.chebval(s, np.moveaxis(coefficients[panel_of], -1, 0), tensor=False)
    return running[:, :1] - np.exp(-rate * ages) * running[:, 1:]


@functools.cache
def _gauss() -> tuple[np.ndarray, np.ndarray]:
    return np.polynomial.legendre.leggauss(_NODES)


@functools.cache
def _chebyshev() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Collocation points on [-1, 1] in rising order; the matrices values -> derivative and values -> Chebyshev coefficients."""
    nodes = -np.cos(np.pi * np.arange(_DEGREE + 1) / _DEGREE)
    to_series = np.linalg.inv(np.polynomial.chebyshev.chebvander(nodes, _DEGREE))
    slopes = np.polynomial.chebyshev.chebder(np.eye(_DEGREE + 1))
    derivative = np.polynomial.chebyshev.chebvander(nodes, _DEGREE - 1) @ slopes @ to_series
    return nodes, derivative, to_series
