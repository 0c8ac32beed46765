"""Which engine for which scenario, and the figures of either under the same names."""

from __future__ import annotations

from typing import Any, Literal

from sim.results.summary import summarise
from sim.scenario import Scenario
from sim.virtual import fleet, measures, reference
from sim.workload import streams

Engine = Literal["auto", "reference", "fleet"]
Figures = dict[str, dict[str, Any]]

LARGE = 500_000
"""Notifications and refetches from which the fleet engine is chosen: the reference engine would need about a second."""

PER_PAGE = ("stale_ratio", "age_of_information.", "age_of_synchronisation.", "refetch_time.", "refetch_delay.")
"""Figures that the fleet engine estimates from its probes (means and quantiles over pages); its other figures are exact."""


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
    result, probes, _ = fleet.sample(scenario)
    estimated = {name: row for name, row in summarise(probes).items() if name.startswith(PER_PAGE)}
    return engine, estimated | result.summary()
