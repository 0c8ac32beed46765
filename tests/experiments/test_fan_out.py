"""Fan-out: slopes, where nodes end, which channel reaches whom; theory and fleet engine agree."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sim.errors import BadInput
from sim.experiments import fan_out
from sim.prediction import fit
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


def test_what_an_event_costs_is_told_by_runs_whose_pages_only_listen() -> None:
    sizes = pd.DataFrame({"receivers": [100.0, 300.0, 500.0], "cpu": [1.0, 2.0, 90.0], "refetches": [0.0, 0.0, 7.0]})
    assert fan_out.slope(fan_out.listening(sizes), "cpu", "receivers") == pytest.approx((0.005, 0.5))
    assert len(fan_out.listening(sizes[2:])) == 1


def test_the_fitted_curve_goes_through_what_it_was_fitted_to(run: Run) -> None:
    curve = fan_out.curve(fan_out.sizes([run]), fit.fitted(run, "broadcaster.", "network."))
    delay = curve.pivot(index="group", columns="source", values="delay")
    assert list(delay.columns) == ["fit", "simulated"]
    assert delay["fit"]["last receiver"] == pytest.approx(delay["simulated"]["last receiver"], rel=0.02)
    spread = fan_out.sizes([run])["spread"].iloc[0]
    assert delay["fit"]["last receiver"] - delay["fit"]["first receiver"] == pytest.approx(spread, rel=1e-3)


def test_the_delay_is_fitted_to_a_run_with_events_enough(run: Run, tmp_path: Path) -> None:
    few = bundle(tmp_path / "few", run.scenario.replace({"duration": 1.0}).with_subscribers(80))
    assert len(few.updates) < fit.MIN_EVENTS
    assert fan_out.largest([few, run]) is run
    assert fan_out.largest([few]) is few


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


def record(busy: float) -> dict[str, Any]:
    """Two sizes, each server idle and with 1 and 16 events in flight, in five rounds: costs that are known."""
    rows = []
    for server, factor in (("broadcaster", 1.0), ("bare sender", 0.5)):
        for size in (100, 300):
            common = {"server": server, "subscribers": size, "event_bytes": 200}
            found = [(None, 2.0, 9.0, 0.01)] + [
                (n, 500.0 * n, 4.0 / n + turn / 10, busy) for turn in range(-2, 3) for n in (1, 16)
            ]
            for flying, rate, cpu, share in found:
                some = {"in_flight": flying, "events_per_s": rate, "deliveries_per_s": rate * size, "busy": share}
                rows.append(common | some | {"cpu": cpu * factor * size / 300})
    return {"rows": rows}


def test_a_nodes_capacity_is_from_the_cost_of_a_full_one() -> None:
    table = fan_out.loads(record(0.97))
    assert len(table) == 2 * 2 * 3
    assert set(table["load"]) == {"idle, 2 events/s", "1 in flight", "16 in flight"}
    node = fan_out.capacity(table)
    assert node.full
    assert node.subscribers == 300
    assert node.each.value == pytest.approx(4e-6)
    assert node.each.low is not None
    assert node.each.low < 4e-6
    assert node.bare.value == pytest.approx(2e-6)
    assert node.idle == pytest.approx(9e-6)
    assert node.merged == pytest.approx(16 * 500 * 300)
    assert not fan_out.capacity(fan_out.loads(record(0.5))).full
    shown = fan_out.beside(table)
    assert shown.loc["300 subscribers, idle, 2 events/s", "broadcaster"] == "9 µs"
    assert shown.loc["300 subscribers, 1 in flight", "bare sender"].startswith("2 µs (")
    assert set(fan_out.by_deliveries(table)["subscribers"]) == {300}


def test_a_record_without_full_nodes_or_none_at_all_is_bad_input(tmp_path: Path) -> None:
    idle = [row for row in record(0.5)["rows"] if row["in_flight"] is None]
    with pytest.raises(BadInput, match="no rows of a broadcaster"):
        fan_out.capacity(fan_out.loads({"rows": idle}))
    with pytest.raises(BadInput, match=r"--only saturation makes it"):
        fan_out.saturation(tmp_path / "none.json")
