"""How a run stands: its thresholds, its validity, and what failed at its target, in words."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from sim.results import text, thresholds
from sim.results.answers.choices import describe
from sim.results.run import Run

HEALTHY = "healthy"
FAILED = {
    "updates.failed": ("updates", "updates failed"),
    "updates.unknown": ("updates", "updates of which nobody knows whether they were committed"),
    "updates.not_broadcast": ("updates", "updates committed, their event never accepted"),
    "refetches.failed": ("refetches", "refetches failed"),
}


def paragraphs(named: Mapping[str, Run]) -> list[str]:
    """A sentence for each run, and a table with a column for each: thresholds, validity, and faults of the target."""
    rows: dict[str, dict[str, str]] = {}
    for name, found in named.items():
        cells = {str(check.threshold): f"{'pass' if check.ok else '**FAIL**'}: {check.got}" for check in judged(found)}
        cells |= {"the run": verdict(found), "its target": "; ".join(trouble(found)) or f"{HEALTHY}: nothing failed there"}
        if remarks := found.manifest.validity.get("remarks"):
            cells["besides"] = "; ".join(map(str, remarks))
        for row, cell in cells.items():
            rows.setdefault(row, {})[name] = cell
    last = ("the run", "its target", "besides")
    table = pd.DataFrame.from_dict(rows, orient="index", columns=list(named)).fillna(text.NONE)
    table = table.loc[[row for row in rows if row not in last] + [row for row in last if row in rows]]
    sentences = (f"**{name}**, {what_was_run(found)}: {state(found)}." for name, found in named.items())
    return [*sentences, text.markdown(table)]


def what_was_run(found: Run) -> str:
    """A run in half a sentence: `demo measured on 2026-11-27 at 09:00 UTC, 1,000 subscribers, debounce 500 ms`."""
    day, _, time = found.manifest.created_at.partition("T")
    return (
        f"{found.scenario.name} {found.manifest.source} on {day} at {time[:5]} UTC, "
        f"{text.number(found.scenario.subscribers)} subscribers, {describe(found.scenario.policy)}"
    )


def state(found: Run) -> str:
    """How a run stands: `1 of 5 thresholds fails; the run is valid; its target: 12 of 90 refetches failed`."""
    results = judged(found)
    failed = sum(not check.ok for check in results)
    objective = f"all {len(results)} thresholds pass" if results else "no thresholds are set"
    if failed:
        objective = f"{failed} of {len(results)} thresholds **{'fails' if failed == 1 else 'fail'}**"
    what, target = verdict(found), "; ".join(trouble(found)) or HEALTHY
    return f"{objective}; the run is {what if what == 'valid' else f'**{what}**'}; its target: {target}"


def verdict(found: Run) -> str:
    """`valid`, or `invalid: why`; with `partial` in front where the run is partial."""
    reasons = "; ".join(map(str, found.manifest.validity.get("reasons", [])))
    state = "valid" if found.manifest.validity.get("ok") else f"invalid: {reasons or 'no reason given'}"
    return f"partial, {state}" if found.manifest.partial else state


def judged(found: Run) -> list[thresholds.Check]:
    """The run's thresholds, each met by its summary."""
    wanted = thresholds.parse_all(found.scenario.thresholds)
    return thresholds.check(wanted, thresholds.complete(wanted, found))


def trouble(found: Run) -> list[str]:
    """What failed at the run's target, a line each; empty: nothing that was seen. As the load test noted, else by the summary."""
    noted, summary = found.manifest.extra.get("target_trouble"), found.summary

    def count(metric: str) -> float:
        return summary.get(metric, {}).get("value") or 0

    lost = count("deliveries.missing.target")
    lines = [f"{text.number(lost)} of {text.number(count('deliveries.expected'))} deliveries lost"] if lost else []
    if isinstance(noted, list):
        return [*map(str, noted), *lines]
    return [
        f"{text.number(count(metric))} of {text.number(count(of))} {what}"
        for metric, (of, what) in FAILED.items()
        if count(metric)
    ] + lines
