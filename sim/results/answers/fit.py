"""The simulator's parameters from a measured run: fan-out cost, way to the broadcaster, service time, size of an answer.

What can be told apart is fitted, what cannot stays as the scenario says (the network's shares of a round trip cannot be seen
from its ends, so `network.to_subscriber` and `network.to_api` stay). Each estimate carries what it is made from, so that one that
rests on little is seen to:

    broadcaster.per_subscriber    slope of arrival over rank within one event; the median over events of some breadth
    network.to_broadcaster        commit -> first subscriber, less the fixed costs, over updates
    api.service                   answer k of a first-in-first-out queue of c workers leaves S after it came or after answer k - c
                                  left, whichever is later: so S is read off the departures (exact for one worker)
    api.service_per_row           what a dashboard takes longer, per server shown
    api.answer_bytes, .._per_row  mean sizes of answers
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sim.distributions import fit_best
from sim.errors import BadInput
from sim.results.ledger import costs
from sim.results.ledger.book import ledger_of
from sim.results.run import Run
from sim.results.statistics import Estimate, batches, t_interval
from sim.results.summary import window
from sim.scenario import Scenario, to_dict

Array = np.ndarray[Any, Any]

BREADTH = 10
"""Receivers that an event needs before its spread says something about one of them."""

MIN_SAMPLES = 20
SHORTEST = 1e-6
"""Seconds: a duration below the clock's resolution is taken to be that."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One key of a scenario, fitted: its new value (as TOML holds it), the mean that it stands for, and from how much."""

    key: str
    value: Any
    mean: Estimate
    """In seconds or bytes; n is what it was fitted to."""
    made_from: str


def fit(run: Run) -> list[Parameter]:
    """All parameters that the run has enough of to fit. Raises `BadInput` where it has none."""
    start, _ = window(run)
    # Service times are read off the departures of all refetches: a sample of them tells nothing about the queue.
    service = () if ledger_of(run).sampled else _service(run, start)
    found = [*_fan_out(run), *service, *_sizes(run, start)]
    if not found:
        raise BadInput(f"{run.name} has too few deliveries and refetches to fit anything to (at least {MIN_SAMPLES} of one)")
    return found


def fitted(run: Run, parameters: list[Parameter]) -> Scenario:
    """The run's scenario with the fitted values in place."""
    return run.scenario.replace({parameter.key: parameter.value for parameter in parameters})


def _fan_out(run: Run) -> Iterator[Parameter]:
    scenario = run.scenario
    spread = costs.arrivals(run)
    broad = spread[spread["ranks"] >= BREADTH - 1]
    per_node = np.maximum((broad["ranks"].to_numpy(dtype=float) + 1) / scenario.broadcaster.nodes - 1, 1)
    slopes = broad["spread"].to_numpy() / per_node
    each = scenario.broadcaster.costs.per_subscriber
    if len(slopes) >= 3:
        each = float(np.median(slopes))
        yield Parameter(
            "broadcaster.per_subscriber",
            each,
            Estimate(each, *_interval(slopes, np.median), n=len(slopes)),
            f"first to last receiver of {len(slopes)} events",
        )
    fixed = scenario.broadcaster.costs.fixed + scenario.network.to_subscriber.mean() + each
    way = (spread["first"] - each * (spread["first_rank"] - 1)).dropna().to_numpy() - fixed
    if len(way) >= MIN_SAMPLES:
        way = np.maximum(way, SHORTEST)
        yield Parameter(
            "network.to_broadcaster",
            to_dict(fit_best(way).distribution),
            Estimate(float(way.mean()), *_interval(way, np.mean), n=len(way)),
            f"commit to first receiver of {len(way)} updates, less {fixed * 1e3:.2g} ms of fixed cost",
        )


def _service(run: Run, start: float) -> Iterator[Parameter]:
    # That a page has the newest already (304) takes a worker as well.
    done = _answered(run, start, (200, 304))
    if len(done) < MIN_SAMPLES:
        return
    to_api = run.scenario.network.to_api.mean()
    service = service_times(
        done["started_at"].to_numpy() + to_api, done["finished_at"].to_numpy() - to_api, run.scenario.api.workers
    )
    board = (done["resource"] == "dashboard").to_numpy()
    rows = run.scenario.fleet.servers if run.scenario.api.dashboard_of == "everyone" else run.scenario.fleet.servers_per_user
    per_row = 0.0
    if min(board.sum(), (~board).sum()) >= MIN_SAMPLES and rows:
        per_row = max(0.0, float(service[board].mean() - service[~board].mean()) / rows)
        yield Parameter(
            "api.service_per_row",
            per_row,
            Estimate(per_row, n=len(done)),
            f"{int(board.sum())} dashboards of {rows} rows against {int((~board).sum())} other pages",
        )
    own = np.maximum(service - np.where(board, per_row * rows, 0.0), SHORTEST)
    yield Parameter(
        "api.service",
        to_dict(fit_best(own).distribution),
        Estimate(float(own.mean()), *_interval(own, np.mean), n=len(own)),
        f"departures of {len(own)} answers, {run.scenario.api.workers} workers",
    )


def service_times(arrived: Array, left: Array, workers: int) -> Array:
    """Service time of each job of a first-in-first-out queue, from when it came and when it left (s).

    Sorted by departure, job k began when it came or when job k - c left: exact for one worker, close for several as long as
    service times do not differ much. Never below zero.
    """
    order = np.argsort(left, kind="stable")
    before = np.full(len(left), -np.inf)
    before[workers:] = left[order][:-workers] if workers < len(left) else before[workers:]
    service = np.empty(len(left))
    service[order] = left[order] - np.maximum(arrived[order], before)
    return np.maximum(service, 0.0)


def _sizes(run: Run, start: float) -> Iterator[Parameter]:
    done = _answered(run, start, (200,))
    board = (done["resource"] == "dashboard").to_numpy()
    size = done["bytes"].to_numpy(dtype=float)
    base: float = run.scenario.api.answer_bytes
    if (~board).sum() >= MIN_SAMPLES:
        base = round(float(size[~board].mean()))
        yield Parameter("api.answer_bytes", base, Estimate(base, n=int((~board).sum())), "mean of pages of one resource")
    rows = run.scenario.fleet.servers if run.scenario.api.dashboard_of == "everyone" else run.scenario.fleet.servers_per_user
    if board.sum() >= MIN_SAMPLES and rows:
        each = max(0, round((float(size[board].mean()) - base) / rows))
        yield Parameter(
            "api.answer_bytes_per_row", each, Estimate(each, n=int(board.sum())), f"mean of dashboards of {rows} rows"
        )


def _answered(run: Run, start: float, statuses: tuple[int, ...]) -> pd.DataFrame:
    refetches = run.refetches
    answered = refetches["finished_at"].notna() & refetches["status"].isin(statuses)
    return refetches[(refetches["started_at"] >= start) & answered]


def _interval(values: Array, figure: Any) -> tuple[float | None, float | None]:
    """95 % interval of a figure of successive values, by batches of them."""
    parts = np.array([figure(values[rows]) for rows in batches(np.arange(len(values)))])
    return t_interval(parts, float(figure(values)))
