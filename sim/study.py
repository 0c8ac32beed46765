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

from sim.clock import SECOND, ns
from sim.distributions import Lognormal
from sim.errors import BadInput
from sim.policy import Debounce, Immediate, Policy, Polling, Window, fires
from sim.results import text
from sim.results.answers.choices import PRESETS, Choice, describe
from sim.results.answers.report import updates_of
from sim.results.ledger.book import Ledger
from sim.results.ledger.staleness import mean_age, saw_tooth
from sim.results.run import Run
from sim.results.summary import Summary, summarise
from sim.scenario import Fleet, Pages, Scenario, to_dict
from sim.virtual import fleet, reference
from sim.virtual.ledger import Tables
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


NO_TIME = dict.fromkeys(
    ("broadcaster.fixed", "broadcaster.per_subscriber", "network.to_broadcaster", "network.to_subscriber", "network.to_api"), 0.0
)
"""Keys with which neither the broadcaster nor a way takes time."""


def dashboards(name: str, pages: int, rate: float, duration: float, drain: float, warmup: float = 0.0) -> Scenario:
    """Some pages of one user that all hear Poisson updates at *rate*: what closed forms are of."""
    return Scenario(
        name=name,
        warmup=warmup,
        duration=duration,
        drain=drain,
        fleet=Fleet(users=1),
        workload=Poisson(rate=rate),
        pages=(Pages("dashboard", pages),),
    )


def row(figures: Summary) -> dict[str, float]:
    """The columns of a study; what was never shown is infinitely late, what nothing is known of is NaN."""
    return {column: text.value(figures, metric) for column, metric in COLUMNS.items()}


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


def ways(run: Run, some: Mapping[str, Mapping[str, Any]], costs: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Times to notified (s) of a run's own updates, simulated with each variant (name -> dotted keys), and with what the target
    takes (*costs*: dotted keys, as `sim.prediction.fit.point` finds them)."""
    updates, found = updates_of(run), {}
    for name, changes in some.items():
        scenario = run.scenario.replace({**costs, **changes})
        journeys = Ledger(reference.run(scenario, updates=updates), scenario).journeys
        found[name] = (journeys["received_at"] - journeys["intended_at"]).dropna().to_numpy()
    return found


def contenders(best: pd.Series | None) -> list[Policy]:
    """What to draw beside one another: the chosen setting, the customary one, a window of the same wait, and a usual poll."""
    customary, poll = (PRESETS[name][0] for name in ("the pattern's document", "Inertia usePoll"))
    some = [best["choice"].policy] if best is not None else []
    return list(dict.fromkeys([*some, customary, Window(wait=0.5), poll]))


def saw_teeth(scenario: Scenario, policies: Iterable[Policy], updates: Updates | None = None) -> dict[str, pd.DataFrame]:
    """Age of what the first page shows, under each policy and on the same updates: policy and mean age in words -> at, age (s).

    Up to the last answer that brought it something: after that all of them only grow older.
    """
    found = {}
    for policy in policies:
        changed = scenario.replace({"policy": to_dict(policy)})
        ledger = Ledger(reference.run(changed, updates=updates), changed)
        found[describe(policy)] = saw_tooth(ledger.states, 0, ledger.window.start, ledger.window.end)
    last = max((float(teeth["at"][teeth["age"].diff() < 0].max()) for teeth in found.values() if len(teeth)), default=np.inf)
    shown = {name: teeth[teeth["at"] <= last] for name, teeth in found.items()}
    return {f"{name}, mean age {text.seconds(mean_age(teeth))}": teeth for name, teeth in shown.items()}


def variants(
    scenario: Scenario,
    some: Mapping[str, Mapping[str, Any]],
    updates: Updates | None = None,
    more: Callable[[Tables], Mapping[str, float]] = lambda tables: {},
) -> pd.DataFrame:
    """One row per variant (name -> dotted keys), by the reference engine: the `COLUMNS`, and what only it can tell.

    Further columns: wasted (share of the refetches), messages_per_update, out_of_order (answers that were older than what was
    shown), stale_at_end (pages that still show an old state when the run is over), and what *more* makes of a run's tables.
    """
    rows = {}
    for name, changes in some.items():
        changed = scenario.replace(changes)
        tables = reference.run(changed, updates=updates)
        figures = summarise(tables, changed)
        rows[name] = row(figures) | {
            "wasted": text.value(figures, "refetches.wasted") / (text.value(figures, "refetches") or np.nan),
            "messages_per_update": len(tables.notifications) / max(len(tables.updates), 1),
            "out_of_order": text.value(figures, "pages.regressions"),
            "stale_at_end": text.value(figures, "pages.stale_at_end"),
            **more(tables),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


# --- steady updates, where theory is exact -------------------------------------------------------------------------------

FAMILIES: dict[str, Callable[[float], Policy]] = {
    "debounce": lambda wait: Debounce(wait=wait),
    "window (maxWait = wait)": lambda wait: Window(wait=wait),
    "polling": lambda wait: Polling(interval=wait),
}


def steady(rate: float, waits: Iterable[float], hours: float = 1.0) -> pd.DataFrame:
    """Poisson updates at *rate*: debounce, window and polling by closed form and by simulation of *hours* (polls: a quarter).

    Columns: policy, setting, wait (s), load (refetches per update and page), mean, low, high (its 95 % interval), p95 (s), source
    (theory, simulated), added (s beside the policy's own delay). Network and service times are as good as nothing, as the closed
    forms have it.
    """
    rows = []
    alone = dashboards("steady", 1, rate, hours * 3600, max(120.0, 60 * max(waits := tuple(waits))))
    ways = dict.fromkeys(("network.to_broadcaster", "network.to_subscriber", "network.to_api"), 1e-6)
    scenario = alone.replace(ways | {"api.service": 1e-6})
    for family, make in FAMILIES.items():
        for wait in waits:
            policy = make(wait)
            exact = predict(policy, rate)
            label = {"policy": family, "setting": describe(policy), "wait": wait, "added": 0.0}
            theory = {
                "load": exact["refetches_per_update"],
                "mean": exact["time_to_fresh.mean"],
                "p95": exact["time_to_fresh.p95"],
                "source": "theory",
            }
            # A poll's delay is uniform over the interval: fewer updates say as much, and polls cost time however few those are.
            duration = scenario.duration / 4 if family == "polling" else scenario.duration
            run = scenario.replace({"policy": to_dict(policy), "duration": duration})
            rows += [label | theory, label | _point(summary(run), 1, "simulated")]
    return pd.DataFrame(rows)


def _point(figures: Summary, pages: int, source: str) -> dict[str, Any]:
    """The columns of `steady` that a summary gives."""
    found, mean = row(figures), figures["time_to_fresh.mean"]
    ends = (mean[end] if mean[end] is not None else np.nan for end in ("ci_low", "ci_high"))
    return {"load": found["refetches_per_update"] / max(pages, 1), "mean": found["fresh_mean"], "p95": found["fresh_p95"]} | dict(
        zip(("low", "high"), ends, strict=True), source=source
    )


def measured(runs: Iterable[Run]) -> pd.DataFrame:
    """The same columns from bundles: one row per run, `source` as the run says; added: its mean times to notified and of an
    answer. A mean of too few updates for an interval of its own has that of `by_chance`."""
    rows = []
    for run in runs:
        policy = run.scenario.policy
        family = next((name for name, make in FAMILIES.items() if make(1.0).kind == policy.kind), policy.kind)
        point = _point(run.summary, run.scenario.subscribers, run.manifest.source)
        if np.isnan(point["low"]) and np.isfinite(point["mean"]):
            low, high = by_chance(policy, int(run.summary["updates"]["value"]), run.scenario.duration)
            point |= {"low": point["mean"] - high, "high": point["mean"] - low}
        ways = (run.summary.get(name, {}).get("value") or 0.0 for name in ("time_to_notified.mean", "refetch_time.mean"))
        rows.append(
            {
                "policy": family,
                "setting": describe(policy),
                "wait": getattr(policy, "wait", getattr(policy, "interval", np.nan)),
                "added": sum(ways),
            }
            | point
        )
    numbers = ["wait", "added", "load", "mean", "p95", "low", "high"]
    return pd.DataFrame(rows, columns=["policy", "setting", *numbers, "source"]).astype(dict.fromkeys(numbers, float))


def by_chance(policy: Policy, updates: int, duration: float, runs: int = 200, seed: int = 1) -> tuple[float, float]:
    """How far (s, least and most of *runs*) the mean delay by *policy* of this many Poisson updates lies from the closed form.

    An interval for runs of a few hundred updates, which are too few for one of their own. NaN where there is no closed form.
    """
    rng, off = np.random.default_rng(seed), []
    try:
        exact = predict(policy, updates / duration)["time_to_fresh.mean"]
    except BadInput:
        return np.nan, np.nan
    for _ in range(runs):
        at = np.sort(rng.uniform(0, duration, rng.poisson(updates)))
        if isinstance(policy, Polling):
            due = np.arange(rng.uniform(0, policy.interval), duration + 2 * policy.interval, policy.interval)
        else:
            due = np.array(fires(policy, [ns(instant) for instant in at]), dtype=float) / SECOND
        found = np.searchsorted(due, at - 1e-9)
        shown = found < len(due)
        off.append(float((due[found[shown]] - at[shown]).mean()) - exact if shown.any() else np.nan)
    return float(np.nanmin(off)), float(np.nanmax(off))


def starvation(rates: Iterable[float], waits: Iterable[float]) -> pd.DataFrame:
    """The p95 of the time to fresh (s) of a trailing debounce under Poisson updates: index wait, columns updates per second."""
    columns = {rate: {wait: predict(Debounce(wait=wait), rate)["time_to_fresh.p95"] for wait in waits} for rate in rates}
    return pd.DataFrame(columns)


def as_good_as_polling(rates: Iterable[float]) -> tuple[np.ndarray, np.ndarray, str]:
    """(rates, waits, words): above this line plain polling is fresher than a debounce at the same load (rate x wait = ln 2)."""
    across = np.asarray(tuple(rates), float)
    return across, math.log(2) / across, "above: polling is fresher"


def together(steady: pd.DataFrame, points: pd.DataFrame) -> pd.DataFrame:
    """`steady` and `measured` in one frame, to plot: what refetches at all."""
    both = pd.concat([steady, points], ignore_index=True)
    return both[both["load"] > 0]


def agreement(steady: pd.DataFrame, points: pd.DataFrame) -> pd.DataFrame:
    """Simulated and measured rows beside the closed form of the same setting, by setting: source, load, mean, low, high, p95,
    theory (s), off (relative), holds (whether the interval of the mean meets what theory allows: its value, and up to `added`
    more)."""
    exact = steady[steady["source"] == "theory"].set_index("setting")["mean"]
    rows = pd.concat([steady[steady["source"] == "simulated"], points], ignore_index=True)
    rows = rows[rows["setting"].isin(exact.index)].sort_values(["policy", "wait", "source"], ascending=[True, True, False])
    theory = rows["setting"].map(exact).to_numpy()
    holds = (rows["low"].to_numpy() <= theory + rows["added"].to_numpy()) & (rows["high"].to_numpy() >= theory)
    found = rows[["setting", "source", "load", "mean", "low", "high", "p95"]].set_index("setting")
    return found.assign(theory=theory, off=rows["mean"].to_numpy() / theory - 1, holds=holds)


def misses_allowed(count: int, level: float = 0.93) -> int:
    """How many of *count* intervals of this (measured) coverage may miss the truth, 999 times of 1,000.

    Binomial; the intervals are not quite independent, since all settings meet the same updates.
    """
    from scipy.special import bdtr

    return int(np.argmax(bdtr(np.arange(count + 1), count, 1 - level) >= 0.999))


def explained_by_chance(missed: int, count: int) -> tuple[bool, str]:
    """Whether no more of *count* intervals miss the closed form than chance explains; and in words."""
    allowed = misses_allowed(count)
    return missed <= allowed, f"{missed} of {count} intervals miss the closed form, at most {allowed} may by chance"


# --- variants that reports compare ---------------------------------------------------------------------------------------

Changes = dict[str, dict[str, Any]]

RULES = {"cancel (Inertia 1)": "cancel", "overlap (Inertia 2, 3)": "overlap", "single flight": "single_flight"}
"""What a new refetch does to a running one."""


def rules(service: float) -> Changes:
    """The in-flight rules, with answers that take about *service* seconds, however many ask: only then do they matter."""
    slow = {"api.service": to_dict(Lognormal(service, 0.5)), "api.workers": 10_000}
    return {name: slow | {"in_flight": rule} for name, rule in RULES.items()}


DISPATCH: Changes = {
    "as in this run": {},
    "queued, one worker": {"broadcast.dispatch": "queued", "broadcast.queue_workers": 1, "broadcast.queue_latency": 0.0},
    "queued, looked for each second": {
        "broadcast.dispatch": "queued",
        "broadcast.queue_workers": 1,
        "broadcast.queue_latency": 1.0,
    },
}
"""ShouldBroadcastNow, or ShouldBroadcast through a queue."""


def jitters(*spans: float) -> Changes:
    """The scenario's policy, each refetch put off by up to this many seconds."""
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
