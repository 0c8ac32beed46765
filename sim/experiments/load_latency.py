"""Load against latency: how the response to a refetch grows with the refetches offered, up to and beyond what can be answered.

Refetches that have nothing to do with one another (each page shows another resource and fetches it at once) reach an application
whose service time is exponential: M/M/c, whose closed form stands beside the simulation. Herds and constant work are another
matter: see `sim.experiments.herd`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from sim.distributions import Exponential
from sim.policy import Immediate
from sim.results.statistics import mean_of, quantiles
from sim.results.summary import summarise
from sim.results.text import number
from sim.scenario import Fleet, Network, Pages, Scenario, to_dict
from sim.study import explained_by_chance
from sim.virtual import reference
from sim.virtual.theory import response_knee, response_quantile
from sim.workload import Poisson

LEVELS = (0.5, 0.99)
FACTOR = 2.0
"""The knee is where p99 is this many times what it is when the application is idle."""

PAGES = 1000
"""Each shows a resource of its own: enough of them that a page's next update hardly ever meets its own refetch."""

SLICES = 20
"""Of a run's time, to tell how sure the number of answers per second is."""

FIXED = 2 * Network().to_api.mean()
"""Of each response besides wait and service: the way to the application and back, s."""


def simulated(utilisations: Iterable[float], service: float, workers: int = 1, refetches: int = 20_000) -> pd.DataFrame:
    """By offered load: offered (1/s), utilisation, delivered (answers/s in the window) with its 95 % interval, p50 and p99 of the
    response (s) with their intervals, fresh_p50 and fresh_p99 (time to fresh, s), refetches, source.

    *service*: mean, s. *refetches*: at least that many are simulated at each load; towards saturation, where neighbours resemble
    one another, up to three times as many. Each load has draws of its own: what one meets by chance says nothing of the next.
    """
    rows = []
    for seed, busy in enumerate(utilisations, start=1):
        rate = busy * workers / service
        # A queue forgets its state in a time proportional to 1/(1 - rho)^2, so high loads get more refetches, within reason.
        count = refetches * (3 if 0.75 < busy < 1 else 1)
        rows.append({"utilisation": busy, "offered": rate, "source": "simulated"} | _one(rate, service, workers, count, seed))
    return pd.DataFrame(rows)


def _one(rate: float, service: float, workers: int, count: int, seed: int) -> dict[str, Any]:
    scenario = Scenario(
        name="load-latency",
        seed=seed,
        duration=count / rate,
        drain=2.0,
        in_flight="overlap",
        fleet=Fleet(users=1, servers_per_user=PAGES),
        workload=Poisson(rate=rate),
        pages=(Pages("detail", PAGES),),
    ).replace({"policy": to_dict(Immediate()), "api.workers": workers, "api.service": to_dict(Exponential(service))})
    run = reference.run(scenario)
    sent = run.refetches.sort_values("started_at", kind="stable")
    finished = sent["finished_at"].to_numpy(dtype=float)
    took = finished - sent["started_at"].to_numpy(dtype=float)
    counts, _ = np.histogram(finished, bins=SLICES, range=(0.0, scenario.duration))
    names = ("delivered", "p50", "p99")
    estimates = (mean_of(counts * SLICES / scenario.duration), *quantiles(took, np.arange(len(took)), LEVELS))
    figures = summarise(run, scenario)
    row: dict[str, Any] = {"refetches": len(took)}
    for name, estimate in zip(names, estimates, strict=True):
        row |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
    return row | {f"fresh_{p}": figures[f"time_to_fresh.{p}"]["value"] for p in ("p50", "p99")}


def theory(utilisations: Iterable[float], service: float) -> pd.DataFrame:
    """`simulated` by one worker in closed form, below saturation: offered, utilisation, delivered, p50, p99, source."""
    busy = np.array([load for load in utilisations if load < 1])
    rate = busy / service
    half, tail = (FIXED + response_quantile(q, rate, 1, service) for q in LEVELS)
    return pd.DataFrame({"utilisation": busy, "offered": rate, "delivered": rate, "p50": half, "p99": tail, "source": "theory"})


def knee(service: float, workers: int = 1) -> float:
    """Refetches per second at which the p99 of the response is `FACTOR` times its idle value."""
    return float(response_knee(workers, service, FACTOR, LEVELS[1], FIXED))


def knees(service: float, workers: Iterable[int]) -> pd.DataFrame:
    """By number of workers: idle (p99 when idle, s), knee and capacity (refetches/s), share (knee of capacity)."""
    rows = {}
    for count in workers:
        bend, most = knee(service, count), count / service
        idle = FIXED + response_quantile(LEVELS[1], 0.0, count, service)
        rows[count] = {"idle_p99": idle, "knee": bend, "capacity": most, "share": bend / most}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("workers")


def bracket(points: pd.DataFrame, service: float) -> tuple[float, float]:
    """The simulated loads between which the knee surely lies: the last whose p99 lies below the limit with all of its interval
    (0: none), and the first after it that lies above with all of it (inf: none)."""
    limit = FACTOR * (FIXED + response_quantile(LEVELS[1], 0.0, 1, service))
    surely_below, surely_above = points[points["p99_high"] < limit]["offered"], points[points["p99_low"] > limit]["offered"]
    return float(surely_below.max()) if len(surely_below) else 0.0, float(surely_above.min()) if len(surely_above) else np.inf


def responses(points: pd.DataFrame) -> pd.DataFrame:
    """`simulated` or `theory`, or both, a row for each quantile: offered, utilisation, response, low, high (s), group (p50 or
    p99), source."""
    parts = [
        points[["offered", "utilisation", "source"]].assign(
            group=name, response=points[name], low=points.get(f"{name}_low"), high=points.get(f"{name}_high")
        )
        for name in ("p50", "p99")
    ]
    return pd.concat(parts, ignore_index=True)


def answered(points: pd.DataFrame) -> pd.DataFrame:
    """The same of what is answered: offered, delivered, low, high (1/s), group, source."""
    return points.rename(columns={"delivered_low": "low", "delivered_high": "high"}).assign(group="answered")


def beside(points: pd.DataFrame, service: float) -> pd.DataFrame:
    """`responses` below saturation beside the closed form (`theory`, s); `holds`: it lies inside the interval."""
    rows = responses(points[points["utilisation"] < 1])
    levels = rows["group"].map(dict(zip(("p50", "p99"), LEVELS, strict=True)))
    exact = [FIXED + response_quantile(q, rate, 1, service) for q, rate in zip(levels, rows["offered"], strict=True)]
    return rows.assign(theory=exact, holds=rows["low"].le(exact) & rows["high"].ge(exact))


def agree(table: pd.DataFrame) -> tuple[bool, str]:
    """Whether no more intervals of `beside` miss the closed form than chance explains."""
    return explained_by_chance(int((~table["holds"].astype(bool)).sum()), len(table))


def brackets(bend: float, between: tuple[float, float]) -> tuple[bool, str]:
    """Whether the knee in closed form lies in the simulation's `bracket`, which must have both ends to say anything."""
    low, high = between
    first, last = (number(round(load) if np.isfinite(load) else load) for load in between)
    return 0 < low <= bend <= high < np.inf, f"knee at {number(round(bend))} refetches/s, simulated between {first} and {last}"


def falls_behind(points: pd.DataFrame) -> tuple[bool, str]:
    """Whether beyond saturation fewer refetches are answered than offered, by the whole interval."""
    behind = points["delivered_high"] < points["offered"]
    full = points["utilisation"] > 1
    words = f"{number(int((behind & full).sum()))} of {number(int(full.sum()))} loads beyond saturation fall behind"
    return bool(full.any() and behind[full].all()), words
