"""How the comparison of virtual time and sockets judges, on figures worked out by hand; and that what is kept is of today."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sim.errors import BadInput
from sim.experiments import parity
from sim.experiments.parity import Band
from sim.incidents import Restart
from sim.scenario import Scenario
from tests.parity.cases import CASES

NOTIFIED = "time_to_notified.p50"


def found(measured: list[float], simulated: list[float], band: Band | None = None, figure: str = NOTIFIED) -> pd.Series:
    """The row of one figure of one case."""
    rows = [{"figure": figure, "measured": measured, "simulated": simulated}]
    case = {"name": "one", "beyond": {figure: band} if band is not None else {}, "figures": rows}
    (row,) = parity.table({"cases": [case]}).to_dict("records")
    return pd.Series(row)


def test_what_was_measured_once_agrees_where_one_more_simulated_run_would_lie() -> None:
    """Three runs, mean 2, deviation 1: t of two degrees at 99 % is 9.925, so one more lies within 9.925 * sqrt(4 / 3) = 11.46."""
    none = Band(0.0, 0.0, "")
    assert parity.joint(np.array([7.0]), np.array([1.0, 2.0, 3.0])) == pytest.approx((2 - 11.460, 2 + 11.460), abs=1e-3)
    values = (-9.47, -9.45, 13.45, 13.47)
    assert [found([value], [1.0, 2.0, 3.0], none)["inside"] for value in values] == [False, True, True, False]


def test_repeats_widen_the_interval_by_their_own_scatter_and_no_band_does() -> None:
    """Both of deviation 1 by three runs: twice the variance and four degrees of freedom, t = 4.604."""
    low, high = parity.joint(np.array([4.0, 5.0, 6.0]), np.array([1.0, 2.0, 3.0]))
    assert (low, high) == pytest.approx((2 - 4.604 * (8 / 3) ** 0.5, 2 + 4.604 * (8 / 3) ** 0.5), abs=1e-2)
    wide = Band(10.0, 100.0, "because")
    assert [found([x - 1, x, x + 1], [1.0, 2.0, 3.0], wide)["inside"] for x in (9.51, 9.53)] == [True, False]
    assert found([5.0, 5.0], [5.0, 5.0])["inside"]
    assert not found([5.0, 5.0], [6.0, 6.0], wide)["inside"], "neither has any scatter"


def test_one_more_run_of_a_machine_like_the_simulation_is_inside_as_often_as_is_said() -> None:
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(2000):
        measured, simulated = rng.normal(3.0, 0.5, 4), rng.normal(3.0, 0.2, 10)
        low, high = parity.joint(measured[:3], simulated)
        inside += low <= measured[3] <= high
    assert inside / 2000 > parity.LEVEL - 0.01


def test_a_band_widens_the_interval_of_what_was_measured_once_by_a_share_and_an_amount() -> None:
    band = Band(0.1, 0.5, "because")
    rows = [found([value], [10.0, 10.0, 10.0], band) for value in (8.49, 8.51, 11.49, 11.51)]
    assert [row["inside"] for row in rows] == [False, True, True, False]
    assert not any(row["by_chance"] for row in rows)
    assert found([10.0], [10.0] * 3, band)["by_chance"]


def test_never_agrees_with_never_only() -> None:
    assert found([np.inf], [np.inf] * 3)["inside"]
    assert not found([1.0], [np.inf] * 3)["inside"]
    assert not found([np.inf, 1.0], [1.0, 1.0, 1.0])["inside"]
    assert found([np.inf], [1.0, np.inf, 1.0])["inside"], "one of the runs says so"


def test_costs_of_the_machine_do_not_take_the_place_of_what_a_scenario_says() -> None:
    said = Scenario().replace({"api.save": 0.1, "broadcaster.fixed": 0.01})
    costs = {"api.save": 0.004, "api.save_workers": "own", "broadcaster.per_subscriber": 1e-5, "network.to_api": 0.1}
    assert parity.added(said, costs) == {"network.to_api": 0.1}
    assert parity.added(said, costs | {"api.save_lock": "database"}) == {"network.to_api": 0.1, "api.save_lock": "database"}
    assert parity.added(Scenario(), costs) == costs


def test_the_incidents_are_simulated_as_they_happened() -> None:
    planned = Scenario(incidents=(Restart(at=4.0, down=0.5, signal="SIGKILL"),))
    rows = [{"kind": "restart", "at": 4.0, "began_at": 4.05, "ended_at": 5.05}]
    (happened,) = parity.as_it_happened(planned, rows).incidents
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
