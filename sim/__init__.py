"""The notify-then-refetch workbench but for its load test: the pattern in virtual time, its real servers, and the results.

>>> from sim import simulate
>>> simulate("demo", {"policy.wait": 0.2}).refetches
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:
    from sim.results.run import Run
    from sim.scenario import Scenario
    from sim.virtual.engines import Engine
    from sim.virtual.ledger import Tables


@overload
def simulate(
    scenario: Scenario | str | Path,
    changes: Mapping[str, Any] | None = None,
    *,
    output: None = None,
    progress: Callable[[float], None] | None = None,
    engine: Engine = "reference",
) -> Tables: ...


@overload
def simulate(
    scenario: Scenario | str | Path,
    changes: Mapping[str, Any] | None = None,
    *,
    output: str | Path,
    progress: Callable[[float], None] | None = None,
    command: str = "",
    engine: Engine = "reference",
) -> Run: ...


def simulate(
    scenario: Scenario | str | Path,
    changes: Mapping[str, Any] | None = None,
    *,
    output: str | Path | None = None,
    progress: Callable[[float], None] | None = None,
    command: str = "",
    engine: Engine = "reference",
) -> Tables | Run:
    """Run a scenario (itself, its name or its path) in virtual time, with dotted keys set to *changes*.

    Returns its tables in memory (`updates`, `notifications`, `refetches`, `subscriptions`, `pages`, `metrics`: frames,
    seconds), or, with *output*, writes a run bundle there and returns it. *progress* is told the share that is done.

    *engine*: `reference` has all rows; `fleet` is for what would be too much of them, has those of some pages drawn at random and
    the figures of all; `auto` chooses by size. Raises `BadInput`, also for a key that is for load tests only (unless the
    scenario's `ignore` names it).
    """
    # The engines bring pandas along; who only wants an error class or a policy does not pay for that.
    from sim.results.run import TABLES, RunWriter
    from sim.scenario import Scenario, load_scenario, require_honoured
    from sim.virtual import engines

    if isinstance(scenario, Scenario):
        scenario = scenario.replace(changes) if changes else scenario
    else:
        scenario = load_scenario(scenario, changes)
    require_honoured(scenario, "simulator")
    if output is None:
        return engines.run(scenario, engine, progress).tables
    writer = RunWriter(output, scenario, source="simulated", command=command)  # refuses before the work, not after it
    try:
        ran = engines.run(scenario, engine, progress)
    except BaseException:
        with suppress(OSError):  # a simulation is whole or nothing; a directory with other things stays
            writer.directory.rmdir()
        raise
    with writer:
        for table in TABLES:
            writer.append(table, ran.tables.columns(table))
        writer.summary = ran.summary
        writer.manifest.sampling = ran.sampling
        writer.manifest.extra["engine"] = ran.engine
        return writer.close()
