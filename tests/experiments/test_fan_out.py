"""Fan-out: slopes, where nodes end, which channel reaches whom; theory and fleet engine agree."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from sim.experiments import fan_out
from sim.results.run import Run
from sim.scenario import Fleet, Pages, Scenario
from sim.virtual.theory import fanout_subscribers_max
from sim.workload import Poisson
from tests.experiments.bundles import bundle

EACH = 1e-4


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """40 dashboards, 100 µs each: a fan-out that is known."""
    scenario = Scenario(duration=20.0, fleet=Fleet(users=1), workload=Poisson(rate=2.0), pages=(Pages("dashboard", 40),)).replace(
        {"broadcaster.per_subscriber": EACH, "broadcaster.fixed": 0.0}
    )
    return bundle(tmp_path_factory.mktemp("run") / "run", scenario)


def test_the_delay_of_each_subscriber_is_found_again(run: Run) -> None:
    each = fan_out.per_subscriber([run])
    assert each.value == pytest.approx(EACH, rel=1e-6)
    assert each.n > 20
    row = fan_out.sizes([run]).iloc[0]
    assert row["subscribers"] == 40
    assert row["spread"] == pytest.approx(39 * EACH, rel=1e-6)
    assert math.isnan(row["cpu_per_event"])


def test_the_fitted_curve_goes_through_what_it_was_fitted_to(run: Run) -> None:
    curve = fan_out.curve(fan_out.sizes([run]), fan_out.fitted(run))
    measured, model = curve.iloc[0], curve.iloc[1]
    assert model["source"] == "simulated"
    assert model["last"] == pytest.approx(measured["last"], rel=0.02)
    assert model["last"] - model["first"] == pytest.approx(measured["spread"], rel=1e-3)


def test_a_typical_event_is_heard_by_all_and_in_order(run: Run) -> None:
    heard = fan_out.spreads([run], points=10)
    assert len(heard) == 10
    assert heard["heard"].is_monotonic_increasing
    assert heard["heard"].iloc[-1] == 1.0
    assert heard["since"].iloc[0] == 0.0


def test_slope_of_a_line_and_of_one_point() -> None:
    frame = pd.DataFrame({"subscribers": [1.0, 2.0, 4.0], "y": [3.0, 5.0, 9.0], "z": [2.0, np.nan, np.nan]})
    assert fan_out.slope(frame, "y") == pytest.approx((2.0, 1.0))
    assert fan_out.slope(frame, "z") == (2.0, 0.0)
    assert math.isnan(fan_out.slope(frame.head(0), "y")[0])
    line = fan_out.line(frame, "y")
    assert set(line["source"]) == {"fit", "measured"}


def test_theory_and_simulation_of_nodes_agree() -> None:
    nodes = fan_out.nodes(1e-5, 10.0, counts=(1, 4))
    assert fan_out.apart(nodes) < 0.1
    ends = nodes[nodes["source"] == "theory"].groupby("group")["subscribers"].max()
    assert ends["4 nodes"] == pytest.approx(4 * ends["1 node"], rel=1e-3)


def test_limits_leave_a_share_of_the_nodes_time() -> None:
    limits = fan_out.limits(1e-5, (1.0, 10.0), counts=(1, 2), utilisation=0.5)
    assert limits.loc[10.0, "1 node"] == pytest.approx(0.5 * fanout_subscribers_max(10.0, 1e-5))
    assert limits.loc[1.0, "2 nodes"] == pytest.approx(20 * limits.loc[10.0, "1 node"])


def test_channels_reach_whom_they_are_for() -> None:
    scenario = Scenario(
        duration=30.0, fleet=Fleet(users=20, servers_per_user=2), workload=Poisson(rate=5.0), pages=(Pages("dashboard", 40),)
    )
    found = fan_out.channels(scenario)
    assert found["messages"].tolist() == pytest.approx([1.0, 2.0, 40.0])
    assert found["refetches"].is_monotonic_increasing
