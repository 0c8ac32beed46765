"""Which engine for which scenario; the tables and the figures of either under the same names.

To choose takes no frames, so the engines and the summary are imported when a run is made: pandas, pyarrow and SciPy take three
times as long to import as all the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from sim.scenario import Scenario
from sim.virtual.preparation import Progress, check, expected_size, supports
from sim.workload import Updates, streams

if TYPE_CHECKING:
    from sim.virtual.ledger import Tables

Engine = Literal["auto", "reference", "fleet"]
Figures = dict[str, dict[str, Any]]

LARGE = 500_000
"""Notifications and refetches from which a sweep takes the fleet engine: the reference engine would need a second or two."""


def choose(scenario: Scenario, large: int = LARGE, updates: Updates | None = None) -> Engine:
    """The fleet engine where the run is large and nothing in it feeds back, else the reference engine. *updates*: as in `run`."""
    if supports(scenario):
        return "reference"
    check(scenario)
    size = sum(expected_size(scenario, scenario.draw_updates(streams(scenario.seed)) if updates is None else updates))
    return "fleet" if size >= large else "reference"


class Outcome(NamedTuple):
    """What a run came to, whichever engine it took."""

    engine: Engine
    tables: Tables
    summary: Figures
    """By the names of a run's `summary.json`."""
    sampling: dict[str, Any]
    """How rows relate to what happened (`manifest.sampling`)."""


def run(
    scenario: Scenario,
    engine: Engine = "auto",
    progress: Progress | None = None,
    probes: int | None = None,
    updates: Updates | None = None,
) -> Outcome:
    """Simulate: all rows by the reference engine, those of *probes* pages (None: `fleet.PROBES`) drawn at random by
    the fleet engine.

    The fleet engine's counts, outcomes, times to notified and to fresh, load and queue are exact all the same; what only rows
    tell (staleness, age of information, times of single refetches) it estimates from its probes, without bias. *updates* takes
    the place of those that the workload would draw. Raises `BadInput`.
    """
    from sim.results.summary import levels_of, summarise
    from sim.virtual import fleet, reference

    if engine == "auto":
        engine = choose(scenario, updates=updates)
    if engine == "reference":
        tables = reference.run(scenario, progress, updates)
        return Outcome(engine, tables, summarise(tables), {"method": "all"})
    result, tables, sampling = fleet.sample(scenario, fleet.PROBES if probes is None else probes, progress, updates)
    return Outcome(engine, tables, summarise(tables) | result.summary(levels_of(scenario)), sampling)
