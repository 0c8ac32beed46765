"""What a large deployment takes: by hand at one size, by laws over sizes, beside the fleet engine and beside bundles."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from sim.errors import BadInput
from sim.experiments import scale
from sim.experiments.scale import Costs, costs_of, needs, world
from sim.prediction import Fit, Parameter
from sim.results.answers import report
from sim.scenario import to_dict

PLAIN = Costs(1e-5, 1e-4, 100, 10_000, 0.0002, 0.001, 0.002, 500, "a test's")


def test_a_size_worked_out_by_hand() -> None:
    there = world(1000, "generic", wait=1.0, every=100.0)
    found = needs(there, PLAIN)
    # 500 users with 1,000 servers, each once in 100 s; 500 dashboards hear all of it, and fetch once in a second and a tenth.
    assert found["events"] == pytest.approx(10)
    assert found["deliveries"] == pytest.approx(5000)
    assert found["refetches"] == pytest.approx(500 / 1.1)
    assert (found["nodes"], found["bus"]) == (1, 0)
    assert found["workers"] == math.ceil(500 / 1.1 * 0.002 / scale.UTILISATION)
    assert found["memory"] == 10_000_000
    assert found["bandwidth"] == pytest.approx(5000 * 100 + 500 / 1.1 * 500)
    specific = needs(world(1000, "specific", every=100.0), PLAIN)
    assert specific["deliveries"] == pytest.approx(5)
    assert needs(world(1000, "per_user", every=100.0), PLAIN)["deliveries"] == pytest.approx(10 + 5)


def test_generic_grows_with_the_square_and_the_others_in_proportion() -> None:
    frame = scale.sizes((10**4, 10**5)).set_index(["channels", "subscribers"])["deliveries"]
    assert frame["generic", 10**5] / frame["generic", 10**4] == pytest.approx(100)
    for kind in ("specific", "per_user"):
        assert frame[kind, 10**5] / frame[kind, 10**4] == pytest.approx(10)


def test_what_is_first_short() -> None:
    assert needs(world(100), PLAIN)["breaks"] == "nothing"
    assert needs(world(200_000, "generic"), PLAIN)["breaks"] == scale.WORDS["fan-out"]
    assert needs(world(10**7), PLAIN)["breaks"] == scale.WORDS["bus"]
    assert needs(world(10**7), PLAIN)["nodes"] == math.inf
    assert math.isfinite(needs(world(10**7), PLAIN, bus="by channel")["nodes"])
    assert needs(world(10**6), replace(PLAIN, connection=10**6))["breaks"] == scale.WORDS["memory"]
    assert needs(world(10**4), replace(PLAIN, board=10.0))["breaks"] == scale.WORDS["workers"]
    both = [needs(world(10**6, "generic"), PLAIN, bus=bus)["nodes"] for bus in ("every node", "by channel")]
    assert both[0] == both[1]


def test_more_machines_bring_everybody_back_sooner() -> None:
    storm = scale.storms((10**6,), (1, 2, 10), PLAIN)
    assert storm["fresh"].is_monotonic_decreasing
    assert (storm["fresh"] >= storm["connected"]).all()
    row = needs(world(10**6), PLAIN, bus="by channel")
    size = scale.theory.Deployment(
        10**6, row["events"], row["deliveries"] / (10**6 * row["events"]), PLAIN.delivery + PLAIN.event
    )
    back = size.restart(
        int(row["nodes_in_a_minute"]), PLAIN.handshake, int(row["workers_in_a_minute"]), PLAIN.request, 1, PLAIN.board
    )
    assert back.fresh <= 60


def test_the_fleet_engine_agrees_as_far_as_chance_lets_it() -> None:
    drawn = scale.against_fleet((1000,))
    assert set(drawn["channels"]) == set(scale.CHANNELS)
    assert scale.within_chance(drawn)
    assert not scale.within_chance(drawn.assign(off=drawn["off"] + 1.0))


def test_measured_runs_beside_it() -> None:
    runs = [report.sample(name) for name in ("one-node-1000", "one-node-4000", "two-nodes")]
    beside = scale.against_runs(runs)
    off = beside.set_index(["run", "figure"])["off"].abs()
    # The costs come from the smallest and the largest on one node: there only what the pages heard is a prediction.
    assert off[["one-node-1000", "one-node-4000"]].max() < 1e-9
    assert off.xs("deliveries", level="figure").max() < 1e-3
    closed = beside.set_index(["run", "figure"])["closed"]
    cpu = "processor time of all nodes, s"
    # A second node has its own part of each event, and not one delivery more.
    per_event = closed["two-nodes", cpu] - closed["one-node-4000", cpu]
    slope = (closed["one-node-4000", cpu] - closed["one-node-1000", cpu]) / 3000
    assert per_event == pytest.approx(closed["one-node-1000", cpu] - 1000 * slope)
    with pytest.raises(BadInput, match="two runs on one node"):
        scale.against_runs(runs[-2:])


def test_costs_of_a_fit_and_of_nothing(tmp_path: Path) -> None:
    there = world(100)
    Fit((Parameter("broadcaster.per_subscriber", 1e-4),), to_dict(there)).write(tmp_path / "my.json")
    scenario, words = scale.priced(tmp_path / "my.json")
    assert costs_of(scenario, words).delivery == pytest.approx(1e-4)
    assert "my.json" in words
    assert costs_of(*scale.priced()).delivery == pytest.approx(4.5e-6)
    assert costs_of(there.replace({"broadcaster.model": "reverb"})).connection == scale.CONNECTION["reverb"][1]


def test_its_sentences_name_what_the_frames_say() -> None:
    sizes = (10**4, 10**7)
    one, two, storm = scale.sizes(sizes), scale.sizes(sizes, bus="by channel"), scale.storms((10**7,), (1, 50))
    said = " ".join(scale.answer(one, two, storm, costs_of(world(2))))
    row = two[(two["subscribers"] == 10**7) & (two["channels"] == "per_user")].iloc[0]
    assert f"per-user channels take {row['nodes']:.0f} nodes and {row['workers']} application workers" in said
    assert "for generic ones no number of nodes is enough" in said
    assert "from 10,000,000 subscribers on (generic, per-user, specific)" in said
    table = scale.readable(one)
    assert table.index[0] == "10,000, generic"
    assert "∞" in table["nodes"].tolist()
