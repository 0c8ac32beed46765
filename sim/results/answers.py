"""The answers of the report notebooks: figures in, sentences out. The first paragraph is the answer, the others its support.

No number is written here; words are chosen by what the figures say.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from sim.results.stages import STAGES
from sim.results.text import digits, figure, interval, number, percent

Summary = Mapping[str, Mapping[str, Any]]

ON_PURPOSE = {"debounce": "the debounce, which is waited on purpose", "refetch": "the refetch itself"}


def start_here(run: Summary, model: Summary, steps: pd.DataFrame) -> tuple[str, ...]:
    """One update's journey: how long, where the time goes, what it costs, and whether the simulator agrees."""
    stage = str(steps["share"][list(STAGES)].idxmax())
    share = percent(float(steps["share"][stage]))
    p95 = run["time_to_fresh.p95"]
    first = (
        f"Half of all changes are on a page within {figure(run, 'time_to_fresh.p50')}, nineteen in twenty within "
        f"{figure(run, 'time_to_fresh.p95')}. {share} of that time is {ON_PURPOSE.get(stage, f'the {stage}')}."
    )
    support = (
        f"The second figure has the 95 % interval {interval(p95['ci_low'], p95['ci_high'])}, over {number(p95['n'])} updates. "
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
