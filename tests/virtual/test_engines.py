"""Choosing an engine, and what its import costs."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from typing import Any

import pytest

from sim.errors import BadInput
from sim.scenario import Scenario
from sim.virtual import engines


def test_who_only_asks_pays_for_numpy_alone():
    """Frames, SciPy and compiled code are loaded by what needs them: a run, or the few formulas without a closed form."""
    heavy = ("scipy", "pandas", "pyarrow", "numba", "matplotlib")
    program = f"import sys, sim.virtual.theory, sim.virtual.engines; print([m for m in {heavy} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "keys",
    [
        {"api.service": 1e9},
        {"api.service": 1e9, "api.cache": 1.0},
        {"api.service": 1e9, "api.save": 1e-6},
        {"api.service_per_row": 1e9},
        {"broadcaster.fixed": 1e9},
        {"network.to_api": 1e9},
        {"api.service": 1e6, "incidents": [{"kind": "slowdown", "duration": 9.0, "factor": 1e9}]},
    ],
)
def test_what_takes_longer_than_any_run_shows_nothing(keys: dict[str, Any]) -> None:
    """In 64 bits of nanoseconds; the fleet engine says so, or finds the same."""
    pages = [{"page": "dashboard", "subscribers": 40}]
    scenario = Scenario(duration=9.0).replace({"pages": pages, "workload.rate": 4, **keys})
    summary = engines.run(scenario, "reference").summary
    assert summary["refetches.applied"]["value"] == summary["pairs.shown"]["value"] == 0
    assert summary["refetches"]["value"] == summary["refetches.running"]["value"]
    with suppress(BadInput):
        assert engines.run(scenario, "fleet").summary["pairs.shown"]["value"] == 0
