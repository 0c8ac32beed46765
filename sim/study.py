"""Many settings of one scenario, simulated side by side by the fastest engine that is exact for each. What reports compare.

Every setting meets the same updates (common random numbers), so differences are the settings'. Frames come back, one row per
setting, with the metrics of a run's summary as columns.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from sim.distributions import Lognormal
from sim.errors import BadInput
from sim.policy import Debounce, Immediate, Policy, Polling, Window
from sim.results import text
from sim.results.answers.choices import PRESETS, Choice
from sim.results.answers.report import describe, updates_of
from sim.results.ledger.stages import times_to_notified
from sim.results.run import Run
from sim.results.summary import Summary, counted_journeys, summarise
from sim.scenario import Fleet, Pages, Scenario, to_dict
from sim.virtual import fleet, reference
from sim.virtual.theory import predict
from sim.workload import Poisson, Updates

COLUMNS = {
    "refetches_per_update": "refetches_per_update",
    "fresh_mean": "time_to_fresh.mean",
    "fresh_p50": "time_to_fresh.p50",
    "fresh_p95": "time_to_fresh.p95",
    "fresh_p99": "time_to_fresh.p99",
    "never_share": "starved_ratio",
    "peak": "refetch_rate.peak",
}
"""Columns of a study, and the summary's metric of each."""


def summary(scenario: Scenario, updates: Updates | None = None) -> Summary:
    """The summary of one simulated run: by the fleet engine where it is exact, else by the reference engine."""
    if not fleet.supports(scenario):
        return fleet.run(scenario, updates=updates).summary()
    return summarise(reference.run(scenario, updates=updates), scenario)


def row(figures: Summary) -> dict[str, float]:
    """The columns of a study; what was never shown is infinitely late, what nothing is known of is NaN."""
    found: dict[str, float] = {}
    for column, metric in COLUMNS.items():
        figure = figures.get(metric, {"value": None})
        value = np.inf if text.is_never(figure) else figure["value"]
        found[column] = np.nan if value is None else float(value)
    return found


def simulated(scenario: Scenario, policy: Policy, updates: Updates | None = None) -> dict[str, float]:
    """`row` of the scenario with this policy."""
    return row(summary(scenario.replace({"policy": to_dict(policy)}), updates))


def only(scenario: Scenario, page: str) -> Scenario:
    """The scenario with pages of one kind only. Raises `BadInput` where it has none."""
    pages = tuple(dataclasses.replace(p, policy=None) for p in scenario.pages if p.page == page and p.subscribers)
    if not pages:
        raise BadInput(f"scenario {scenario.name} has no pages of kind {page!r}")
    return dataclasses.replace(scenario, pages=pages)


def choices(scenario: Scenario, some: Iterable[Choice], updates: Updates | None = None) -> pd.DataFrame:
    """One row per choice: policy (its family), setting, the `COLUMNS`, and `choice` itself."""
    rows = [
        {"policy": choice.family, "setting": choice.setting} | simulated(scenario, choice.policy, updates) | {"choice": choice}
        for choice in some
    ]
    return pd.DataFrame(rows)


def presets(scenario: Scenario, updates: Updates | None = None) -> pd.DataFrame:
    """What well-known products do, on this scenario: by product the policy, the `COLUMNS`, and where it is written."""
    rows = {
        name: {"policy": describe(policy)} | simulated(scenario, policy, updates) | {"source": source}
        for name, (policy, source) in PRESETS.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def ways(run: Run, some: Mapping[str, Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Times to notified (s) of a run's own updates, simulated with each variant (name -> dotted keys)."""
    updates, found = updates_of(run), {}
    for name, changes in some.items():
        scenario = run.scenario.replace(changes)
        found[name] = times_to_notified(counted_journeys(reference.run(scenario, updates=updates), scenario))
    return found


def variants(scenario: Scenario, some: Mapping[str, Mapping[str, Any]], updates: Updates | None = None) -> pd.DataFrame:
    """One row per variant (name -> dotted keys), by the reference engine: the `COLUMNS`, and what only it can tell.

    Further columns: wasted (share of the refetches), messages_per_update, out_of_order (answers that were older than what was
    shown), stale_at_end (pages that still show an old state when the run is over).
    """
    rows = {}
    for name, changes in some.items():
        changed = scenario.replace(changes)
        tables = reference.run(changed, updates=updates)
        figures = summarise(tables, changed)
        sent = figures["refetches"]["value"] or np.nan
        rows[name] = row(figures) | {
            "wasted": float(figures["refetches.wasted"]["value"] or 0) / sent,
            "messages_per_update": len(tables.notifications) / max(len(tables.updates), 1),
            "out_of_order": float(figures["pages.regressions"]["value"] or 0),
            "stale_at_end": float(figures["pages.stale_at_end"]["value"] or 0),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


# --- steady updates, where theory is exact -------------------------------------------------------------------------------

FAMILIES: dict[str, Callable[[float], Policy]] = {
    "debounce": lambda wait: Debounce(wait=wait),
    "window (maxWait = wait)": lambda wait: Window(wait=wait),
    "polling": lambda wait: Polling(interval=wait),
}


def steady(rate: float, waits: Iterable[float], hours: float = 1.0) -> pd.DataFrame:
    """Poisson updates at *rate*: debounce, window and polling by closed form and by simulation of *hours*.

    Columns: policy, setting, wait (s), load (refetches per update and page), mean, p95 (s), source (theory, simulated). Network
    and service times are as good as nothing, as the closed forms have it.
    """
    rows = []
    scenario = Scenario(
        name="steady",
        duration=hours * 3600,
        drain=max(120.0, 60 * max(waits := tuple(waits))),
        fleet=Fleet(users=1),
        workload=Poisson(rate=rate),
        pages=(Pages("dashboard", 1),),
    ).replace({"api.service": 1e-6, "network.to_broadcaster": 1e-6, "network.to_subscriber": 1e-6, "network.to_api": 1e-6})
    for family, make in FAMILIES.items():
        for wait in waits:
            policy = make(wait)
            exact = predict(policy, rate)
            drawn = simulated(scenario, policy)
            label = {"policy": family, "setting": describe(policy), "wait": wait}
            rows.append(
                label
                | {"load": exact["refetches_per_update"], "mean": exact["time_to_fresh.mean"], "p95": exact["time_to_fresh.p95"]}
                | {"source": "theory"}
            )
            rows.append(
                label
                | {"load": drawn["refetches_per_update"], "mean": drawn["fresh_mean"], "p95": drawn["fresh_p95"]}
                | {"source": "simulated"}
            )
    return pd.DataFrame(rows)


def measured(runs: Iterable[Run]) -> pd.DataFrame:
    """The same columns from bundles: one row per run, `source` as the run says."""
    rows = []
    for run in runs:
        figures, policy = row(run.summary), run.scenario.policy
        family = {"debounce": "debounce", "window": "window (maxWait = wait)", "polling": "polling"}.get(policy.kind, policy.kind)
        rows.append(
            {
                "policy": family,
                "setting": describe(policy),
                "wait": getattr(policy, "wait", getattr(policy, "interval", np.nan)),
                "load": figures["refetches_per_update"] / max(run.scenario.subscribers, 1),
                "mean": figures["fresh_mean"],
                "p95": figures["fresh_p95"],
                "source": run.manifest.source,
            }
        )
    frame = pd.DataFrame(rows, columns=["policy", "setting", "wait", "load", "mean", "p95", "source"])
    return frame.astype({"load": float, "mean": float, "p95": float})


def starvation(rates: Iterable[float], waits: Iterable[float], level: str = "p95") -> pd.DataFrame:
    """Quantile of the time to fresh (s) of a trailing debounce under Poisson updates: index wait, columns updates per second."""
    columns = {rate: {wait: predict(Debounce(wait=wait), rate)[f"time_to_fresh.{level}"] for wait in waits} for rate in rates}
    return pd.DataFrame(columns)


def as_good_as_polling(rates: Iterable[float]) -> tuple[np.ndarray, np.ndarray, str]:
    """(rates, waits, words): above this line plain polling is fresher than a debounce at the same load (rate x wait = ln 2)."""
    across = np.asarray(tuple(rates), float)
    return across, math.log(2) / across, "above: polling is fresher"


def agreement(steady: pd.DataFrame, points: pd.DataFrame) -> pd.DataFrame:
    """Simulated and measured rows beside the closed form of the same setting: theory, mean (s), off (relative), load, p95."""
    exact = steady[steady["source"] == "theory"].set_index("setting")["mean"]
    rows = pd.concat([steady[steady["source"] == "simulated"], points], ignore_index=True)
    rows = rows[rows["setting"].isin(exact.index)]
    theory = exact.reindex(rows["setting"]).to_numpy()
    found = rows[["setting", "source", "load", "mean", "p95"]].assign(theory=theory, off=rows["mean"].to_numpy() / theory - 1)
    return found.assign(policy=rows["policy"]).sort_values(["policy", "theory", "source"], ascending=[True, True, False])


# --- variants that reports compare ---------------------------------------------------------------------------------------

Changes = dict[str, dict[str, Any]]

RULES = {"cancel (Inertia 1)": "cancel", "overlap (Inertia 2, 3)": "overlap", "single flight": "single_flight"}
"""What a new refetch does to a running one."""


def rules(service: float) -> Changes:
    """The in-flight rules, with answers that take about *service* seconds, whoever asks: only then do they matter."""
    slow = {"api.service": to_dict(Lognormal(service, 0.5)), "api.workers": 10_000}
    return {name: slow | {"in_flight": rule} for name, rule in RULES.items()}


DISPATCH: Changes = {
    "as in this run": {},
    "queued, one worker": {"broadcast.dispatch": "queued", "broadcast.queue_workers": 1},
    "queued, looked for each second": {
        "broadcast.dispatch": "queued",
        "broadcast.queue_workers": 1,
        "broadcast.queue_latency": 1.0,
    },
}
"""ShouldBroadcastNow, or ShouldBroadcast through a queue."""


def jitters(*spans: float) -> Changes:
    """The scenario's policy, each refetch put off by up to so many seconds."""
    return {f"jitter {text.seconds(span)}": {"policy.jitter": span} for span in spans}


def server_side(wait: float) -> Changes:
    """The same wait on the page, and on the server before the event goes out (pages then fetch at once)."""
    words = text.seconds(wait)
    immediate = to_dict(Immediate())
    return {
        f"debounce {words} on the page": {"policy": to_dict(Debounce(wait=wait))},
        f"debounce {words} on the server": {"policy": immediate, "broadcast.debounce": wait},
        f"the same, at most {text.seconds(2 * wait)}": {
            "policy": immediate,
            "broadcast.debounce": wait,
            "broadcast.debounce_max_wait": 2 * wait,
        },
    }
