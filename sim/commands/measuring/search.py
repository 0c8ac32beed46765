"""The search for the knee: the same load test with more and more load, until a step does not hold.

A step holds when its run is valid, every threshold holds, and (where the scenario has no threshold) nothing was lost. An invalid
run says nothing of the target, so its step is repeated once. Each step leaves a bundle of its own, so that reports can show the
whole curve. `search` takes the values that it is given, `climb` looks for the number of subscribers by itself.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from sim.commands import options
from sim.commands.measuring.one import LoadTestSettings, run_load_test
from sim.commands.measuring.outcome import LoadTestOutcome
from sim.errors import BadInput
from sim.results.text import aligned, figure
from sim.scenario import Scenario, parse_assignments

USERS = "users"
"""Key for the number of subscribers, in the scenario's mixture of pages."""

FIGURES = {
    "delivered": "delivery_ratio",
    "notified p99": "time_to_notified.p99",
    "fresh p99": "time_to_fresh.p99",
    "refetches/s": "refetch_rate.mean",
}
"""Shown of each step: heading, metric."""


class SearchStep(NamedTuple):
    """One load test of a search."""

    value: Any
    outcome: LoadTestOutcome
    why: str
    """Why it does not hold; empty: it does."""


def search(scenario: Scenario, settings: LoadTestSettings, text: str, as_json: bool = False) -> int:
    """Run `KEY=A,B,...` up to the first that does not hold; returns the exit code: 0 where a step held, 3 where none did.

    After an interrupt it prints what was found by then, and raises the interrupt.
    """
    key, values = _values(text)
    variants = [vary(scenario, key, value) for value in values]
    root = place(scenario, settings)
    steps: list[SearchStep] = []
    try:
        for value, variant in zip(values, variants, strict=True):
            print(f"{key} = {value}", file=sys.stderr)
            steps.append(step(variant, settings, root, key, value))
            if steps[-1].why:
                break
    finally:
        held = [found.value for found in steps if not found.why]
        knee = held[-1] if held else None
        if as_json:
            rows = [{"value": value, "bundle": str(outcome.directory), "fails": why} for value, outcome, why in steps]
            options.print_json("loadtest", {"key": key, "knee": knee, "steps": rows})
        elif steps:
            print(table(key, steps))
            print(f"knee: {key} = {knee} held" if held else f"no step held: begin below {key} = {steps[0].value}")
            if held and not steps[-1].why:
                print("every step held: the knee lies above")
    if steps[-1].outcome.interrupted:
        steps[-1].outcome.require_pass()
    return 0 if held else 3


def vary(scenario: Scenario, key: str, value: Any) -> Scenario:
    return scenario.with_subscribers(int(value)) if key == USERS else scenario.replace({key: value})


def place(scenario: Scenario, settings: LoadTestSettings) -> Path:
    """The directory of a search's bundles."""
    return settings.output or Path("runs") / f"{scenario.name}-search-{time.strftime('%Y%m%d-%H%M%S')}"


def step(scenario: Scenario, settings: LoadTestSettings, root: Path, key: str, value: Any) -> SearchStep:
    """The load test of one value; an invalid one once more. An interrupted one does not hold."""
    for name in (f"{key}={value}", f"{key}={value}-again"):
        outcome = run_load_test(scenario, replace(settings, output=root / name))
        if outcome.interrupted or not outcome.reasons:
            break
    return SearchStep(value, outcome, outcome.verdict if outcome.interrupted else fails(outcome))


def _values(text: str) -> tuple[str, list[Any]]:
    key, equals, values = text.partition("=")
    if not equals or not key or not values:
        raise BadInput(f"--search {text!r}: write KEY=A,B,.., as workload.rate=10,20,40 or users=1000,2000")
    return key, [parse_assignments([f"{key}={value}"])[key] for value in values.split(",")]


def fails(outcome: LoadTestOutcome) -> str:
    """Why this step does not hold; empty when it does."""
    if outcome.reasons:
        return f"invalid: {outcome.reasons[0]}"
    failed = [check.text for check in outcome.checks if not check.ok]
    if failed:
        return failed[0]
    lost = outcome.fates["missing.target"]
    return f"{lost} deliveries lost" if lost and not outcome.checks else ""


def table(key: str, steps: Sequence[SearchStep]) -> str:
    rows = [[*(figure(outcome.summary, metric) for metric in FIGURES.values()), why or "holds"] for _, outcome, why in steps]
    names = pd.Index([str(found.value) for found in steps], name=key)
    return "\n".join(aligned(pd.DataFrame(rows, names, columns=[*FIGURES, "verdict"])))
