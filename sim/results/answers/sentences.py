"""The answers of the report notebooks: figures in, sentences out. The first paragraph is the answer, the others its support.

No number is written here; words are chosen by what the figures say.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from sim.results.answers.report import describe
from sim.results.fronts import cheapest_within
from sim.results.ledger.stages import STAGES, slowest_kind
from sim.results.statistics import events_needed
from sim.results.text import digits, figure, interval, number, percent, seconds, unit_of

Summary = Mapping[str, Mapping[str, Any]]

ON_PURPOSE = {"debounce": "the debounce, which is waited on purpose", "refetch": "the refetch itself"}


def start_here(run: Summary, model: Summary, steps: pd.DataFrame) -> tuple[str, ...]:
    """One update's journey: how long, where the time goes, what it costs, and whether the simulator agrees."""
    stage = str(steps["share"][list(STAGES)].idxmax())
    share = percent(float(steps["share"][stage]))
    first = (
        f"Half of all changes are on a page within {figure(run, 'time_to_fresh.p50')}, nineteen in twenty within "
        f"{figure(run, 'time_to_fresh.p95')}. {share} of that time is {ON_PURPOSE.get(stage, f'the {stage}')}."
    )
    support = (
        f"{_sureness(run, 'time_to_fresh.p50', 'time_to_fresh.p95')} "
        f"They owed the pages {figure(run, 'deliveries.expected')} deliveries, of which {figure(run, 'delivery_ratio')} arrived: "
        f"half within {figure(run, 'time_to_notified.p50')}, all but a hundredth within {figure(run, 'time_to_notified.p99')}. "
        f"An update costs {figure(run, 'refetches_per_update')} refetches over all pages; "
        f"{percent(let_through(run))} of the notifications lead to one."
    )
    agreement = (
        f"The simulator, given the same updates, says {figure(model, 'time_to_fresh.p50')} and "
        f"{figure(model, 'time_to_fresh.p95')} for the same two figures, and {figure(model, 'refetches_per_update')} refetches "
        f"per update{_apart(run, model)}."
    )
    return first, support, agreement


def _sureness(run: Summary, *metrics: str) -> str:
    """The 95 % intervals of some figures of one answer, in their order, or what they need to have one."""
    n, words = number(run[metrics[0]]["n"]), []
    for metric, place in zip(metrics, ("first", "second", "third"), strict=False):
        row = run[metric]
        if row["ci_low"] is not None:
            words.append(f"the {place} figure lies in {interval(row['ci_low'], row['ci_high'], unit_of(metric))}")
        else:
            least = events_needed(float(metric.rpartition(".p")[2]) / 100)
            words.append(f"the {place} needs {number(least)} updates to have an interval")
    return f"Over {n} updates, with 95 % confidence, {'; '.join(words)}."


def _apart(run: Summary, model: Summary, metric: str = "time_to_fresh.p95") -> str:
    """How far the model's figure lies from the run's, in words."""
    ours, theirs = run[metric]["value"], model[metric]["value"]
    if not ours or not theirs:
        return ""
    off = theirs / ours - 1
    if abs(off) < 0.01:
        return "; at the slow end the two agree within one per cent"
    return f"; its slow end is {digits(abs(off) * 100, 2)} % too {'pessimistic' if off > 0 else 'optimistic'}"


def let_through(run: Summary) -> float | None:
    """Refetches per notification: what the policy lets through; None without notifications."""
    row = run.get("refetches_per_notification")
    return row["value"] if row else None


def steady(theory: pd.DataFrame, rate: float, wait: float) -> str:
    """What a debounce of *wait* does to independent updates at *rate*, and a window of the same wait (`study.steady`)."""
    exact = theory[(theory["source"] == "theory") & np.isclose(theory["wait"], wait)].set_index("policy")
    window = next(str(policy) for policy in exact.index if str(policy).startswith("window"))
    mean, p95 = ({policy: seconds(float(exact[name][policy])) for policy in exact.index} for name in ("mean", "p95"))
    return (
        f"Where updates come independently, {number(rate)} a second on one channel, a debounce of {seconds(wait)} shows a change "
        f"{mean['debounce']} late on average, and the slowest twentieth {p95['debounce']} late or more: it waits for a silence "
        f"that hardly ever comes. A window of the same {seconds(wait)} is {mean[window]} late on average, {p95[window]} at most."
    )


def choose(front: pd.DataFrame, objective: float, customary: pd.Series, page: str) -> tuple[str, ...]:
    """Which setting: the cheapest that meets the objective on these updates, against the customary one; or that none does.

    *front*: `fronts.front` over a study's choices; *customary*: the row of `study.presets` to compare with.
    """
    best = cheapest_within(front, "refetches_per_update", "fresh_p95", objective)
    usual = (
        f"The customary {customary['policy']} keeps the slowest twentieth waiting {seconds(customary['fresh_p95'])} or longer, "
        f"at {number(customary['refetches_per_update'])} refetches per update."
    )
    if best is None:
        freshest = front.iloc[int(front["fresh_p95"].argmin())]
        return (
            f"No setting shows 95 % of the changes on a {page} within {seconds(objective)}: the freshest, {freshest['policy']}, "
            f"{freshest['setting']}, needs {seconds(freshest['fresh_p95'])}. The application is the limit, not the debounce.",
            usual,
        )
    saved = 1 - best["refetches_per_update"] / customary["refetches_per_update"]
    against = f"{percent(abs(saved))} {'fewer' if saved > 0 else 'more'} refetches than the customary {customary['policy']}"
    fresher = customary["fresh_p95"] / best["fresh_p95"]
    return (
        f"For the {page}, set {describe(best['choice'].policy)}: 95 % of changes are shown within {seconds(best['fresh_p95'])} "
        f"(objective {seconds(objective)}), at {number(best['refetches_per_update'])} refetches per update. Of the "
        f"{number(len(front))} settings tried none meets the objective with fewer.",
        f"That is {digits(fresher, 2)} times fresher at the slow end, with {against}. {usual}",
    )


def latency(run: Summary, steps: Mapping[str, pd.DataFrame], ways: pd.DataFrame) -> tuple[str, ...]:
    """How long and where the time goes, by kind of page; and what a queue between save and broadcast adds.

    *steps*: `stages.stage_table` by kind of page; *ways*: `stages.percentiles` of the times to notified, by way of dispatch, the
    first row being what the run did.
    """
    slowest = slowest_kind(steps)
    table = steps[slowest]
    wire = float(table["mean"][["save", "broadcast", "fan-out"]].sum())
    page = float(table["mean"][["debounce", "wait"]].sum())
    total, refetch = seconds(float(table["mean"]["total"])), seconds(float(table["mean"]["refetch"]))
    first = (
        f"A change is heard after {figure(run, 'time_to_notified.p50')} (all but a hundredth within "
        f"{figure(run, 'time_to_notified.p99')}) and is on the screen after {figure(run, 'time_to_fresh.p50')} "
        f"(all but a twentieth within {figure(run, 'time_to_fresh.p95')})."
    )
    where = (
        f"On the slowest kind of page, the {slowest}, {seconds(wire)} of the mean {total} pass on the way from save to arrival, "
        f"{seconds(page)} are the page's own waiting, and {refetch} are the refetch. Figures are over "
        f"{number(run['time_to_fresh.p50']['n'])} updates."
    )
    slowest_way = str(ways["p95"].idxmax())
    queue = (
        f"Dispatched as in this run, nineteen in twenty notifications arrive within {seconds(float(ways['p95'].iloc[0]))}; "
        f"{slowest_way}, within {seconds(float(ways['p95'].max()))} (both simulated, same updates)."
    )
    return first, where, queue


def explained(verdict: str, checks: pd.DataFrame, findings: tuple[str, ...], comparison: str) -> tuple[str, ...]:
    """One run's verdict and what stands out in it; *comparison* is the headline against another run, empty without one."""
    failed = [f"{name} ({row['got']})" for name, row in checks.iterrows() if row["verdict"] != "pass"]
    passed = (
        f"{number(len(checks) - len(failed))} of {number(len(checks))} thresholds pass" if len(checks) else "no thresholds set"
    )
    first = f"The run is {verdict}; {passed}{'; missed: ' + ', '.join(failed) if failed else ''}."
    return (first, " ".join(findings), *([f"Against the other run: {comparison}."] if comparison else []))
