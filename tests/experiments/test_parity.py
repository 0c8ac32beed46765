"""How the comparison of virtual time and sockets judges, on figures worked out by hand; and that what is kept is of today."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sim.errors import BadInput
from sim.experiments import parity
from sim.incidents import Restart
from sim.scenario import Scenario
from tests.parity import simulations
from tests.parity.cases import CASES

NOTIFIED = "time_to_notified.p50"


def found(measured: list[float], simulated: list[float]) -> pd.Series:
    """The row of one figure of one case."""
    rows = [{"figure": NOTIFIED, "measured": measured, "simulated": simulated}]
    (row,) = parity.table({"cases": [{"name": "one", "figures": rows}]}).to_dict("records")
    return pd.Series(row)


def test_the_interval_is_as_wide_as_the_scatter_of_both_sides() -> None:
    """Both of deviation 1 by three runs: twice the variance and four degrees of freedom, t = 4.604."""
    low, high = parity.joint(np.array([4.0, 5.0, 6.0]), np.array([1.0, 2.0, 3.0]))
    assert (low, high) == pytest.approx((2 - 4.604 * (8 / 3) ** 0.5, 2 + 4.604 * (8 / 3) ** 0.5), abs=1e-2)
    assert [found([x - 1, x, x + 1], [1.0, 2.0, 3.0])["inside"] for x in (9.51, 9.53)] == [True, False]
    assert found([5.0, 5.0], [5.0, 5.0])["inside"]
    assert not found([5.0, 5.0], [6.0, 6.0])["inside"], "neither has any scatter"


def test_one_more_run_of_a_machine_like_the_simulation_is_inside_as_often_as_is_said() -> None:
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(2000):
        measured, simulated = rng.normal(3.0, 0.5, 4), rng.normal(3.0, 0.2, 10)
        low, high = parity.joint(measured[:3], simulated)
        inside += low <= measured[3] <= high
    assert inside / 2000 > parity.LEVEL - 0.01


def test_never_agrees_with_never_only() -> None:
    assert found([np.inf], [np.inf] * 3)["inside"]
    assert not found([1.0], [np.inf] * 3)["inside"]
    assert not found([np.inf, 1.0], [1.0, 1.0, 1.0])["inside"]
    assert found([np.inf], [1.0, np.inf, 1.0])["inside"], "one of the runs says so"


def test_costs_of_the_machine_do_not_take_the_place_of_what_a_scenario_says() -> None:
    said = Scenario().replace({"api.save": 0.1, "broadcaster.fixed": 0.01})
    costs = {"api.save": 0.004, "api.save_workers": "own", "broadcaster.per_subscriber": 1e-5, "network.to_api": 0.1}
    assert simulations.added(said, costs) == {"network.to_api": 0.1}
    assert simulations.added(said, costs | {"api.save_lock": "database"}) == {"network.to_api": 0.1, "api.save_lock": "database"}
    assert simulations.added(Scenario(), costs) == costs


def test_the_incidents_are_simulated_as_they_happened() -> None:
    planned = Scenario(incidents=(Restart(at=4.0, down=0.5, signal="SIGKILL"),))
    rows = [{"kind": "restart", "at": 4.0, "began_at": 4.05, "ended_at": 5.05}]
    (happened,) = simulations.as_it_happened(planned, rows).incidents
    assert isinstance(happened, Restart)
    assert (happened.at, happened.down, happened.signal) == (4.05, pytest.approx(1.0), "SIGKILL")


def test_what_is_kept_is_of_the_cases_of_today() -> None:
    """Who changes a case measures it anew: python -m tests.parity."""
    kept = {case["name"]: (case["tables"], case["keys"]) for case in parity.read()["cases"]}
    today = {case.name: (dict(case.tables), case.keys) for case in CASES}
    assert kept == today


def test_every_key_has_a_case() -> None:
    """But for some of workloads, which both programs draw by the same code."""
    idle = parity.by_key(parity.read()).query("figures == 0").index
    assert [name for name in idle if not name.startswith("workload.")] == []
    assert len(idle) < 50


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(BadInput, match=r"none\.json: cannot be read.*tests\.parity"):
        parity.read("none.json")
