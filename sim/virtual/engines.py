"""Which engine for which scenario; the tables and the figures of either under the same names."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from sim.results.run import Run, RunWriter
from sim.results.summary import summarise
from sim.scenario import Scenario
from sim.virtual import fleet, measures, reference
from sim.virtual.ledger import Tables
from sim.virtual.refetching import Progress
from sim.workload import streams

Engine = Literal["auto", "reference", "fleet"]
Figures = dict[str, dict[str, Any]]

LARGE = 500_000
"""Notifications and refetches from which the fleet engine is chosen: the reference engine would need about a second."""

COUNTED = ("refetches.applied", "refetches.wasted", "refetches.failed", "bytes_per_update")
"""Sums over pages that the fleet engine knows of its probes only: scaled up."""


def choose(scenario: Scenario) -> Engine:
    """The fleet engine where the run is large and nothing in it feeds back, else the reference engine."""
    if fleet.supports(scenario):
        return "reference"
    reference.check(scenario)
    size = sum(measures.expected_size(scenario, reference.draw_updates(scenario, streams(scenario.seed))))
    return "fleet" if size >= LARGE else "reference"


def figures(scenario: Scenario, engine: Engine = "auto") -> tuple[Engine, Figures]:
    """(engine that ran, metric -> {value, ci_low, ci_high, n}) by the names of a run's `summary.json`. Raises `BadInput`."""
    if engine == "auto":
        engine = choose(scenario)
    if engine == "reference":
        return engine, summarise(reference.run(scenario))
    _, summary, _ = sampled(scenario)
    return engine, summary


def sampled(
    scenario: Scenario, probes: int = fleet.PROBES, progress: Progress | None = None
) -> tuple[Tables, Figures, dict[str, Any]]:
    """A run of the fleet engine: the rows of *probes* pages drawn at random, the figures of all pages, `manifest.sampling`.

    Counts, times to notified and to fresh, load and queue are exact; what only rows tell (staleness, age of information,
    outcomes) is estimated from the probes, without bias.
    """
    result, tables, sampling = fleet.sample(scenario, probes, progress)
    share = sampling.get("share", 1.0)
    estimated = summarise(tables)
    for name in COUNTED:
        row = estimated[name]
        estimated[name] = {key: value if key == "n" or value is None else value / share for key, value in row.items()}
    return tables, estimated | result.summary(), sampling


def write(
    directory: str | Path,
    scenario: Scenario,
    engine: Engine = "auto",
    probes: int = fleet.PROBES,
    progress: Progress | None = None,
    command: str = "",
) -> Run:
    """Run and write a bundle: all rows by the reference engine, those of *probes* pages by the fleet engine. Raises
    `BadInput`."""
    if engine == "auto":
        engine = choose(scenario)
    with RunWriter(directory, scenario, source="simulated", command=command) as writer:
        if engine == "fleet":
            tables, writer.summary, writer.manifest.sampling = sampled(scenario, probes, progress)
        else:
            tables = reference.run(scenario, progress)
            writer.summary = summarise(tables)
        for table in ("updates", "notifications", "refetches", "subscriptions", "metrics"):
            writer.append(table, tables.columns(table))
        writer.manifest.extra["engine"] = engine
        return writer.close()
