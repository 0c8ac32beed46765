"""The search for the knee: the same load test with one key of the scenario raised step by step, until a step does not hold.

A step holds when its run is valid, every threshold holds, and (where the scenario has no threshold) nothing was lost. An invalid
run says nothing of the target, so its step is repeated once. The last
value that held is the answer; each step leaves a bundle of its own, so that reports can show the whole curve.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sim.commands import options
from sim.commands.measuring.one import Settings, run_load_test
from sim.commands.measuring.outcome import Outcome
from sim.errors import BadInput
from sim.results.text import number, percent, seconds
from sim.scenario import Scenario, parse_assignments

USERS = "users"
"""Key for the number of subscribers, in the scenario's mixture of pages."""


Step = tuple[Any, Outcome, str]
"""Value, what came of it, and why it does not hold (empty: it does)."""


def search(scenario: Scenario, settings: Settings, text: str, as_json: bool = False) -> int:
    """Run `KEY=A,B,...`; returns the exit code: 0 when at least one step held, 3 when none did."""
    key, values = _values(text)
    knee, rows = walk(scenario, settings, key, values)
    if as_json:
        steps = [{"value": value, "bundle": str(outcome.directory), "fails": why} for value, outcome, why in rows]
        options.print_json("loadtest", {"key": key, "knee": knee, "steps": steps})
    else:
        print(table(key, rows, knee))
    return 0 if knee is not None else 3


def walk(scenario: Scenario, settings: Settings, key: str, values: Sequence[Any]) -> tuple[Any, list[Step]]:
    """A load test for each value, up to the first that does not hold: (the last value that held, or None; the steps)."""
    variants = [scenario.with_subscribers(int(value)) if key == USERS else scenario.replace({key: value}) for value in values]
    root = settings.output or Path("runs") / f"{scenario.name}-search-{time.strftime('%Y%m%d-%H%M%S')}"
    knee: Any = None
    rows: list[Step] = []
    for value, variant in zip(values, variants, strict=True):
        print(f"{key} = {value}", file=sys.stderr)
        for place in (f"{key}={value}", f"{key}={value}-again"):
            outcome = run_load_test(variant, replace(settings, output=root / place))
            if outcome.interrupted:
                outcome.require_pass()
            if not outcome.reasons:
                break
        why = fails(outcome)
        rows.append((value, outcome, why))
        if why:
            break
        knee = value
    return knee, rows


def _values(text: str) -> tuple[str, list[Any]]:
    key, equals, values = text.partition("=")
    if not equals or not key or not values:
        raise BadInput(f"--search {text!r}: write KEY=A,B,.., as workload.rate=10,20,40 or users=1000,2000")
    return key, [parse_assignments([f"{key}={value}"])[key] for value in values.split(",")]


def fails(outcome: Outcome) -> str:
    """Why this step does not hold; empty when it does."""
    if outcome.reasons:
        return f"invalid: {outcome.reasons[0]}"
    failed = [check.said for check in outcome.checks if not check.ok]
    if failed:
        return failed[0]
    lost = outcome.fates["missing.target"]
    return f"{lost} deliveries lost" if lost and not outcome.checks else ""


def table(key: str, rows: list[Step], knee: Any) -> str:
    lines = [f"{key:>16}  {'delivered':>10}  {'notified p99':>12}  {'fresh p99':>10}  {'refetches/s':>11}"]
    for value, outcome, why in rows:
        figures = {name: outcome.summary.get(name, {}).get("value") for name in FIGURES}
        cells = [percent(figures["delivery_ratio"]), seconds(figures["time_to_notified.p99"])]
        cells += [seconds(figures["time_to_fresh.p99"]), number(figures["refetch_rate.mean"])]
        lines.append(f"{value!s:>16}  {cells[0]:>10}  {cells[1]:>12}  {cells[2]:>10}  {cells[3]:>11}  {why}")
    lines.append(f"knee: {key} = {knee} held" if knee is not None else f"no step held: begin below {key} = {rows[0][0]}")
    if knee is not None and not rows[-1][2]:
        lines.append("every step held: the knee lies above")
    return "\n".join(lines)


FIGURES = ("delivery_ratio", "time_to_notified.p99", "time_to_fresh.p99", "refetch_rate.mean")
