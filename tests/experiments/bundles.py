"""Runs of the reference engine as bundles on disk, for what reads bundles."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from sim.results.run import TABLES, Run, RunWriter
from sim.results.summary import summarise
from sim.scenario import Scenario
from sim.virtual import reference


def bundle(directory: Path, scenario: Scenario, source: Literal["measured", "simulated"] = "simulated") -> Run:
    """*scenario* simulated and written; *source* is what its manifest says."""
    tables = reference.run(scenario)
    with RunWriter(directory, scenario, source=source, command="") as writer:
        for name in TABLES:
            writer.append(name, tables.columns(name))
        writer.summary = summarise(tables, scenario)
        return writer.close()
