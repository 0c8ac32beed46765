"""How the comparison of virtual time and sockets judges, on figures worked out by hand; and that what is kept is of today."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sim.errors import BadInput
from sim.experiments import parity
from sim.experiments.parity import BANDS, Band
from sim.incidents import Restart
from sim.scenario import Scenario
from tests.parity.cases import CASES

NOTIFIED = "time_to_notified.p50"


def found(measured: float, simulated: list[float], band: Band | None = None, figure: str = NOTIFIED) -> pd.Series:
    """The row of one figure of one case."""
    runs = pd.DataFrame({name: simulated if name == figure else np.nan for name in BANDS})
    rows = parity.compare(dict.fromkeys(BANDS, np.nan) | {figure: measured}, runs)
    case = {"name": "one", "beyond": {figure: band} if band is not None else {}, "figures": rows}
    (row,) = parity.table({"cases": [case]}).to_dict("records")
    return pd.Series(row)


def test_a_figure_agrees_where_one_more_run_would_lie() -> None:
    """Three runs, mean 2, deviation 1: t of two degrees at 99 % is 9.925, so one more lies within 9.925 * sqrt(4 / 3) = 11.46."""
    none = Band(0.0, 0.0, "")
    low, high = parity.one_more(np.array([1.0, 2.0, 3.0]))
    assert (low, high) == pytest.approx((2 - 11.460, 2 + 11.460), abs=1e-3)
    assert [found(value, [1.0, 2.0, 3.0], none)["inside"] for value in (-9.47, -9.45, 13.45, 13.47)] == [False, True, True, False]


def test_a_band_widens_the_interval_by_a_share_and_an_amount() -> None:
    band = Band(0.1, 0.5, "because")
    rows = [found(value, [10.0, 10.0, 10.0], band) for value in (8.49, 8.51, 11.49, 11.51)]
    assert [row["inside"] for row in rows] == [False, True, True, False]
    assert not any(row["by_chance"] for row in rows)
    assert found(10.0, [10.0] * 3, band)["by_chance"]


def test_never_agrees_with_never_only() -> None:
    assert found(np.inf, [np.inf] * 3)["inside"]
    assert not found(1.0, [np.inf] * 3)["inside"]
    assert not found(np.inf, [1.0, 1.0, 1.0])["inside"]
    assert found(np.inf, [1.0, np.inf, 1.0])["inside"], "one of the runs says so"


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
    assert kept == {case.name: (dict(case.tables), case.keys) for case in CASES}


def test_every_key_has_a_case() -> None:
    """But for some of workloads, which both programs draw by the same code."""
    idle = parity.by_key(parity.read()).query("figures == 0").index
    assert [name for name in idle if not name.startswith("workload.")] == []
    assert len(idle) < 50


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(BadInput, match=r"none\.json: cannot be read.*tests\.parity"):
        parity.read("none.json")
