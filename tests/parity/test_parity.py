"""The short cut of `python -m tests.parity`: a few scenarios for some seconds, and only what a busy machine does not change."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import run as call
from typing import Any

import pytest

from sim.live.processes import python
from sim.results.run import Run
from sim.scenario import Scenario, to_toml
from tests.live.calibrated import known_in
from tests.parity import simulations
from tests.parity.cases import CASES

pytestmark = [pytest.mark.loopback, pytest.mark.slow]

SHORT: dict[str, dict[str, Any]] = {
    # One answer for each notification: what is sent is what is heard.
    "immediate": {},
    # Who asks too often in a minute is refused, each time: attempts and refusals are counts of the same updates.
    "rate-limit": {"api.rate_limit": 60},
    # Every payload is shown; site pages wait for silence.
    "full-payload": {},
}
EARLY = {"kind": "flash_crowd", "rate": 0.004, "factor": 2000, "start": 0, "ramp": 0, "hold": 2, "decay": 0}
"""Eight updates a second for two seconds, and none near the end of the window: what is committed late still counts in it."""
EXACT = ("updates", "deliveries.received", "refetches_per_update", "failed_share")


def test_counts_of_a_short_run_are_the_same_in_virtual_time_and_on_sockets(tmp_path: Path) -> None:
    cases = {case.name: short(case.scenario).replace(SHORT[case.name]) for case in CASES if case.name in SHORT}
    with ThreadPoolExecutor() as pool:
        runs = dict(zip(cases, pool.map(lambda name: measured(cases[name], tmp_path), cases), strict=True))
    assert len(runs) == len(SHORT)
    for name, scenario in cases.items():
        seen, simulated = simulations.figures(runs[name].summary), simulations.simulate([scenario], {}, runs=1).iloc[0]
        for figure in EXACT[:2] if name == "full-payload" else EXACT:
            assert seen[figure] == pytest.approx(simulated[figure], nan_ok=True), f"{figure} of {name}"


def short(scenario: Scenario) -> Scenario:
    """*scenario* for some seconds, with updates early in them."""
    early = EARLY | {"site_share": getattr(scenario.workload, "site_share", 0.0)}
    return scenario.replace({"duration": 5, "drain": 1, "workload": early})


def measured(scenario: Scenario, directory: Path) -> Run:
    """A load test, in a process of its own. A busy machine may make it invalid; its counts stand all the same."""
    path = directory / f"{scenario.name}.toml"
    path.write_text(to_toml(scenario), encoding="utf-8")
    command = python("-m", "sim", "loadtest", str(path), "-o", str(directory / scenario.name))
    done = call(command, capture_output=True, text=True, env=os.environ | known_in(directory / f"{scenario.name}-cache"))
    assert done.returncode in (0, 4), done.stderr
    return Run(directory / scenario.name)
