"""What `python -m tests.parity` compares: the figures of measured runs, and of simulated ones with the costs of the machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pandas as pd

from sim.distributions import Distribution, Lognormal, fit_best
from sim.prediction import fit
from sim.prediction.observations import Observed
from sim.results import text
from sim.results.run import Run
from sim.results.summary import Summary, summarise
from sim.scenario import Scenario, build, to_dict
from sim.virtual import reference
from sim.workload import streams

RUNS = 10
"""Simulated runs of a case."""


COMPARED = (
    "updates",
    "deliveries.received",
    "time_to_notified.p50",
    "time_to_notified.p99",
    "time_to_fresh.p50",
    "time_to_fresh.p99",
    "refetches_per_update",
    "wasted_share",
    "failed_share",
    "stale_ratio",
    "refetch_time.p50",
)
"""The figures that are compared."""


def figures(summary: Summary) -> dict[str, float]:
    """The compared figures of one run; never is infinite, and what there is nothing to make from is NaN."""
    found = {name: text.value(summary, name) for name in COMPARED}
    for name in ("wasted", "failed"):
        found[f"{name}_share"] = text.value(summary, f"refetches.{name}") / (text.value(summary, "refetches") or np.nan)
    return found


def costs_of(run: Run) -> dict[str, Any]:
    """What a machine adds to every scenario, from one measured run with the default service time: keys for `Scenario.replace`.

    The way to the broadcaster and the time between two of its writes as `fit` has them; the time from a change's request to its
    commit; and the service time, longer by as much as the run's refetches are (the embedded application waits for what is left
    of a service time, so one as short as the default is in part its own work).
    """
    costs = fit.point(run, "broadcaster.per_subscriber", "network.to_")
    # The embedded application has one lock for everything that is changed.
    costs |= {
        "api.save": to_dict(fit_best(saves_of(Observed(run)))),
        "api.save_workers": "own",
        "api.save_lock": "database",
    }
    longer = figures(run.summary)["refetch_time.p50"] / float(np.median(simulate([run.scenario], costs)["refetch_time.p50"]))
    service = run.scenario.api.service
    assert isinstance(service, Lognormal)
    return costs | {"api.service": to_dict(replace(service, scale=service.scale * longer))}


def saves_of(observed: Observed) -> np.ndarray:
    """Seconds from the request of a change to its commit, of those that came when no other was under way: what a change takes by
    itself, its way included. Of an application whose changes wait for nothing but each other."""
    updates = observed.run.updates.assign(sent=observed.sent.to_numpy(float))
    rows = updates.dropna(subset=["sent", "committed_at"]).sort_values("sent")
    sent, committed = rows["sent"].to_numpy(float), rows["committed_at"].to_numpy(float)
    before = np.r_[-np.inf, np.maximum.accumulate(committed)[:-1]] if len(committed) else committed
    found: np.ndarray = (committed - sent)[(sent >= before) & (committed > sent)]
    return found


def pace(run: Run, costs: Mapping[str, Any]) -> float | None:
    """How many times as long as in *costs* a change took on its way to the commit in this run (medians); None: not known."""
    usual: Distribution = build(Scenario, {"api": {"save": costs["api.save"]}}, where="costs").api.save
    saves = saves_of(Observed(run))
    return float(np.median(saves) / np.median(usual.sample(np.random.default_rng(1), 10_000))) if saves.size else None


def simulate(scenarios: Sequence[Scenario], costs: Mapping[str, Any], runs: int = RUNS, paces: float = 0.0) -> pd.DataFrame:
    """The figures of *runs* simulated runs with the scenario's own updates; a row each.

    *scenarios*: the one scenario, with its incidents as they were in each load test, in turn. *costs* of the machine do not take
    the place of what the scenario says itself. *paces*: how much the machine's pace varies between runs (`scatter`).
    """
    updates, rows = scenarios[0].draw_updates(streams(scenarios[0].seed)), []
    pace = np.random.default_rng(scenarios[0].seed)
    for number in range(runs):
        scenario = scenarios[number % len(scenarios)]
        mine = slower(added(scenario, costs), float(np.exp(paces * pace.standard_normal())))
        one = replace(scenario.replace(mine), seed=1000 * scenario.seed + number + 1)
        rows.append(figures(summarise(reference.run(one, updates=updates), one)))
    return pd.DataFrame(rows)


def scatter(paces: Sequence[float]) -> float:
    """How much the pace varied between these runs: standard deviation of its logarithm."""
    return float(np.std(np.log(paces), ddof=1)) if len(paces) > 1 else 0.0


def slower(costs: Mapping[str, Any], times: float) -> dict[str, Any]:
    """*costs* that are this many times as high."""
    found: dict[str, Any] = {}
    for key, value in costs.items():
        if isinstance(value, Mapping):
            found[key] = dict(value) | {name: value[name] * times for name in ("scale", "value") if name in value}
        else:
            found[key] = value * times if isinstance(value, float) else value
    return found


def added(scenario: Scenario, costs: Mapping[str, Any]) -> dict[str, Any]:
    """Of *costs* those of which the scenario says nothing itself: the others it takes the time to keep."""
    default = Scenario()

    def said(table: str, prefix: str) -> bool:
        mine, usual = getattr(scenario, table), getattr(default, table)
        return any(getattr(mine, f.name) != getattr(usual, f.name) for f in fields(mine) if f.name.startswith(prefix))

    # What the embedded database locks is a fact, whatever a save takes.
    silent = {"api.save_lock": True} if scenario.api.save_lock == default.api.save_lock else {}
    silent |= {
        "api.save": not said("api", "save"),
        "api.service": scenario.api.service == default.api.service,
        "broadcaster.": replace(scenario.broadcaster, nodes=1) == default.broadcaster,
        "network.": True,
    }
    return {key: value for key, value in costs.items() if any(key.startswith(name) and free for name, free in silent.items())}


def as_it_happened(scenario: Scenario, rows: Sequence[Mapping[str, Any]]) -> Scenario:
    """The scenario with its incidents as they were (*rows* of the run's manifest): a process that starts again takes its time."""
    incidents = []
    for incident in scenario.incidents:
        row = next(row for row in rows if row["kind"] == incident.kind and row["at"] == incident.at)
        lasted = row["ended_at"] - row["began_at"]
        length = {name: lasted for name in ("down", "duration") if hasattr(incident, name)}
        incidents.append(replace(incident, at=row["began_at"], **length))
    return replace(scenario, incidents=tuple(incidents))


def compare(measured: Sequence[Mapping[str, float]], simulated: pd.DataFrame) -> list[dict[str, Any]]:
    """A row per figure: what was measured and what was simulated, run by run."""
    rows = []
    for name in COMPARED:
        seen, values = [run[name] for run in measured], simulated[name].to_list()
        if not np.isnan([*seen, *values]).all():
            rows.append({"figure": name, "measured": seen, "simulated": values})
    return rows
