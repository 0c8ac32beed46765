"""Age of information in queues: how old is what the screen shows, on time average.

Updates arrive at `rate` per second and are served at `service_rate` per second, first come first served unless said otherwise;
rho = rate/service_rate. All results are seconds; FCFS ones hold for rho < 1 and raise `BadInput` beyond.

For a pull page the age is set by the instant at which the state was *read*, not by the notification: these forms bound a page
that shows what each answer contained when its service began.

Sources: Kaul, Yates, Gruteser, INFOCOM 2012 (M/M/1, M/D/1, D/M/1); Costa, Codreanu, Ephremides, IEEE T-IT 62(4) 2016 (M/M/1/1,
M/M/1/2*); Inoue, Masuyama, Takine, Tanaka, IEEE T-IT 65(12) 2019 (M/G/1); Sun et al., "Update or wait", IEEE T-IT 63(11) 2017,
arXiv 1601.02284.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from sim.errors import BadInput
from sim.virtual.theory.domain import elementwise, exp, not_negative, positive, second_moment, share, stable


def _utilisation(rate: float, service_rate: float) -> float:
    positive(rate=rate, service_rate=service_rate)
    stable(rate / service_rate, "age of information")
    return rate / service_rate


@elementwise
def mm1_age(rate: float, service_rate: float) -> float:
    """Poisson updates, exponential service: (1 + 1/rho + rho**2/(1 - rho))/mu. Least at rho = 0.531."""
    rho = _utilisation(rate, service_rate)
    return (1 + 1 / rho + rho**2 / (1 - rho)) / service_rate


@elementwise
def md1_age(rate: float, service_rate: float) -> float:
    """Poisson updates, constant service: (1/(2 (1 - rho)) + 1/2 + (1 - rho) e**rho/rho)/mu. Least at rho = 0.63."""
    rho = _utilisation(rate, service_rate)
    return (1 / (2 * (1 - rho)) + 0.5 + (1 - rho) * math.exp(rho) / rho) / service_rate


@elementwise
def dm1_age(rate: float, service_rate: float) -> float:
    """Regular updates, exponential service: (1/(2 rho) + 1/(1 - beta))/mu, beta = -rho W0(-e**(-1/rho)/rho). Least at rho =
    0.517."""
    from scipy.special import lambertw

    rho = _utilisation(rate, service_rate)
    beta = -rho * float(lambertw(-math.exp(-1 / rho) / rho).real)
    return (1 / (2 * rho) + 1 / (1 - beta)) / service_rate


def mg1_age(rate: float, service_mean: float, service_square: float, service_transform: float) -> float:
    """Poisson updates, any service: rate E[S**2]/(2 (1 - rho)) + E[S] + (1 - rho)/(rate S*(rate)).

    E[S] in s, E[S**2] in s**2; *service_transform* is S*(rate) = E[e**(-rate S)].
    """
    wait = _mg1_wait(rate, service_mean, service_square)
    share(service_transform=service_transform)
    positive(service_transform=service_transform)
    return wait + service_mean + (1 - rate * service_mean) / (rate * service_transform)


def mg1_peak_age(rate: float, service_mean: float, service_square: float) -> float:
    """Poisson updates, any service, mean age just before a newer answer: 1/rate + E[T], T the time in the system."""
    wait = _mg1_wait(rate, service_mean, service_square)
    return 1 / rate + service_mean + wait


def _mg1_wait(rate: float, service_mean: float, service_square: float) -> float:
    positive(rate=rate, service_mean=service_mean)
    second_moment(service_mean, service_square, "service")
    stable(rate * service_mean, "age of information")
    return rate * service_square / (2 * (1 - rate * service_mean))


@elementwise
def mm1_preemptive_age(rate: float, service_rate: float) -> float:
    """Newest first, preemptive (a new refetch aborts the running one on the server as well): 1/rate + 1/mu. Any rho."""
    positive(rate=rate, service_rate=service_rate)
    return 1 / rate + 1 / service_rate


@elementwise
def mm11_age(rate: float, service_rate: float) -> float:
    """No waiting room, what arrives while busy is lost (M/M/1/1): 1/rate + 2/mu - 1/(rate + mu). Any rho."""
    positive(rate=rate, service_rate=service_rate)
    return 1 / rate + 2 / service_rate - 1 / (rate + service_rate)


@elementwise
def mm12_replacing_age(rate: float, service_rate: float) -> float:
    """One place to wait, the newest takes it (M/M/1/2*; single flight with one re-run):
    1/rate + 2/mu + rate/(rate + mu)**2 + 1/(rate + mu) - 2 (rate + mu)/(rate**2 + rate mu + mu**2). Any rho."""
    positive(rate=rate, service_rate=service_rate)
    both = rate + service_rate
    overlap = 2 * both / (rate**2 + rate * service_rate + service_rate**2)
    return 1 / rate + 2 / service_rate + rate / both**2 + 1 / both - overlap


def zero_wait_age(response_mean: float, response_square: float) -> float:
    """Refetch again as soon as the answer is there: E[Y] + E[Y**2]/2E[Y]; E[Y] in s, E[Y**2] in s**2."""
    positive(response_mean=response_mean)
    second_moment(response_mean, response_square, "response")
    return response_mean + response_square / (2 * response_mean)


class UpdateOrWait(NamedTuple):
    """The optimal pause before the next refetch: z = (threshold - Y)+ after an answer that took Y; both seconds."""

    threshold: float
    age: float


def update_or_wait(responses: Sequence[float], weights: Sequence[float] | None = None) -> UpdateOrWait:
    """The pause that makes the age of a page that refetches at will least (Sun et al. 2017).

    *responses*: the values that the response time takes, seconds; *weights*: their probabilities (default: equal, so that a
    sample will do). The threshold solves E[max(b, Y)**2]/2E[max(b, Y)] = b; the age is b + E[Y]. Y = 0 or 2: b = 2 sqrt(2) - 2,
    age 1.828 against 2 without a pause.
    """
    if not len(responses):
        raise BadInput("responses: at least one response time is needed")
    weights = [1.0] * len(responses) if weights is None else list(weights)
    if len(weights) != len(responses) or min(weights) < 0 or not sum(weights) > 0:
        raise BadInput("weights must be as many as responses, none negative, not all zero")
    for value in responses:
        not_negative(response=value)
    total = sum(weights)
    law = [(y, w / total) for y, w in zip(responses, weights, strict=True)]
    mean = sum(y * p for y, p in law)
    if mean == 0:
        return UpdateOrWait(0.0, 0.0)
    # f(b) = E[max**2]/2 - b E[max] falls from E[Y**2]/2 > 0 and is negative at max Y.
    low, high = 0.0, max(responses)
    while high - low > 1e-15 * high:
        middle = (low + high) / 2
        if middle in (low, high):
            break
        balance = sum(p * max(middle, y) * (max(middle, y) / 2 - middle) for y, p in law)
        low, high = (middle, high) if balance > 0 else (low, middle)
    return UpdateOrWait(high, high + mean)


@elementwise
def older_lands_last(gap: float, service_rate: float) -> float:
    """Probability that of two overlapping refetches with exponential answers, started `gap` seconds apart, the older lands last
    (and the page ends stale): e**(-mu gap)/2."""
    not_negative(gap=gap)
    positive(service_rate=service_rate)
    return 0.5 / exp(service_rate * gap)


def optimal_utilisation(kind: str) -> float:
    """The rho at which the age is least: kind "mm1" 0.531, "md1" 0.63, "dm1" 0.517. Found by scan, not known in closed form."""
    ages = {"mm1": mm1_age, "md1": md1_age, "dm1": dm1_age}
    if kind not in ages:
        raise BadInput(f"kind must be one of {', '.join(ages)}, got {kind!r}")
    from scipy.optimize import minimize_scalar

    found = minimize_scalar(lambda rho: ages[kind](rho, 1.0), bounds=(0.05, 0.95), method="bounded", options={"xatol": 1e-9})
    return float(found.x)
