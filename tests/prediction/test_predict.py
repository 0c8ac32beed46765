"""Predictions: what a fit says of a load that was not measured, with intervals, and how far outside it lies."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest

from sim.cli import main
from sim.distributions import Constant
from sim.policy import Window
from sim.prediction import Fit, Parameter
from sim.prediction.parameters import Residual
from sim.prediction.predict import NO_MISFIT, RANGE, figures_of, predict, residuals
from sim.scenario import Fleet, Network, Pages, Scenario, to_dict
from sim.virtual import engines
from sim.workload import Regular, streams

SCENARIO = Scenario(
    name="small",
    duration=10.0,
    fleet=Fleet(users=2),
    workload=Regular(rate=2.0),
    pages=(Pages("dashboard", 100),),
    policy=Window(wait=0.3),
    network=Network(to_broadcaster=Constant(0.001), to_subscriber=Constant(0.0)),
)
FIT = Fit(
    parameters=(
        Parameter("broadcaster.per_subscriber", 0.00001, 0.000009, 0.000011, "s"),
        Parameter("cpu.broadcaster.per_second", 0.001),
        Parameter("cpu.broadcaster.per_event", 0.0005),
        Parameter("cpu.broadcaster.per_delivery", 0.00001),
    ),
    scenario=to_dict(SCENARIO),
    draws=tuple({"broadcaster.per_subscriber": value} for value in (0.000009, 0.00001, 0.000011)),
    ranges={"subscribers": (100.0, 200.0), "rate": (1.0, 2.0), "receivers": (100.0, 200.0), "refetch_rate": (1.0, 4000.0)},
)


def test_a_figure_lies_in_its_interval_and_follows_the_parameters() -> None:
    found = predict(FIT, SCENARIO.with_subscribers(200), draws=6)
    last = found.figures["fan_out.last.p50"]
    assert last.low < last.value < last.high
    assert last.value == pytest.approx(0.001 + 0.0001 + 200 * 0.00001, rel=0.15)
    assert found.outside == {}
    assert found.mark("fan_out.last.p50") == ""


def test_what_lies_outside_is_marked_with_how_far() -> None:
    found = predict(FIT, SCENARIO.with_subscribers(800), draws=2)
    assert found.outside["receivers"] == pytest.approx(4.0)
    assert found.mark("fan_out.last.p50") == "4 x the measured receivers of an event"
    assert "x the measured" in found.mark("time_to_fresh.p50")
    small = predict(FIT, SCENARIO.with_subscribers(10), draws=2)
    assert small.outside["receivers"] == pytest.approx(0.1)


def test_a_figure_names_what_its_interval_leaves_out() -> None:
    known = tuple(Residual("a", metric, 1.0, 1.1, 100) for metric in ("time_to_notified.p50", "cpu.broadcaster"))
    found = predict(dataclasses.replace(FIT, residuals=known), SCENARIO, draws=3)
    lacks = {metric: figure.lacks for metric, figure in found.figures.items()}
    assert lacks["fan_out.first.p50"] == lacks["cpu.broadcaster"] == "", "of the same part of the model as a known one"
    assert lacks["fan_out.last.p99"] == lacks["refetch_time.p50"] == NO_MISFIT
    assert (found.figures["starved_ratio"].value, lacks["starved_ratio"]) == (0.0, RANGE)


def test_what_only_some_simulations_have_is_no_figure_and_is_named() -> None:
    rare = SCENARIO.replace({"workload": {"kind": "poisson", "rate": 0.07}})
    found = predict(FIT, rare, draws=6)
    assert found.missing["time_to_fresh.p50"] in range(1, 6)
    assert "time_to_fresh.p50" not in found.figures
    assert "time_to_fresh.p50" not in predict(FIT, rare.replace({"workload.rate": 0.0}), draws=2).missing


def test_a_misfit_widens_the_interval_and_more_so_far_away() -> None:
    off = dataclasses.replace(FIT, residuals=(Residual("a", "fan_out.last.p50", 1.0, 1.1, 200),), draws=())
    widths = []
    for fit, subscribers in ((FIT, 200), (off, 200), (off, 800)):
        figure = predict(fit, SCENARIO.with_subscribers(subscribers), draws=4).figures["fan_out.last.p50"]
        widths.append(math.log(figure.high / figure.low))
    assert widths[0] < widths[1] < widths[2]


def test_variants_meet_the_same_random_numbers_and_a_key_that_is_set_stands() -> None:
    one, again = (predict(FIT, SCENARIO, draws=3).figures for _ in range(2))
    assert one == again
    set_by_hand = SCENARIO.replace({"broadcaster.per_subscriber": 0.0001})
    kept = predict(FIT, set_by_hand, draws=3, kept=["broadcaster.per_subscriber"]).figures["fan_out.last.p50"]
    assert kept.value > 5 * one["fan_out.last.p50"].value


def test_refetches_per_update_are_those_of_the_scenario() -> None:
    plain = engines.run(SCENARIO, "reference").summary["refetches_per_update"]["value"]
    assert predict(FIT, SCENARIO, draws=3).figures["refetches_per_update"].value == pytest.approx(plain, rel=0.02)


def test_processor_time_is_costs_times_counts() -> None:
    summary = engines.run(SCENARIO, "reference").summary
    found = figures_of(summary, SCENARIO, FIT.costs)["cpu.broadcaster"]
    received = summary["deliveries.received"]["value"]
    assert found == pytest.approx(0.001 + (summary["updates"]["value"] * 0.0005 + received * 0.00001) / 10)


def test_both_engines_say_the_same_of_given_updates_and_one_rule_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    updates = SCENARIO.draw_updates(streams(1))
    slow = engines.run(SCENARIO, updates=updates)
    assert (slow.engine, predict(FIT, SCENARIO, draws=2, updates=updates).engine) == ("reference", "reference")
    monkeypatch.setattr(engines.choose, "__defaults__", (0, None))
    fast = engines.run(SCENARIO, updates=updates)
    assert (fast.engine, predict(FIT, SCENARIO, draws=2, updates=updates).engine) == ("fleet", "fleet")
    for metric in ("fan_out.last.p50", "updates", "refetches_per_update"):
        assert fast.summary[metric]["value"] == pytest.approx(slow.summary[metric]["value"]), metric


def test_memory_is_that_of_the_processes_and_their_pages() -> None:
    costs = {"memory.broadcaster.per_process": 3e7, "memory.broadcaster.per_subscriber": 2400.0}
    scenario = SCENARIO.replace({"broadcaster.nodes": 2})
    found = figures_of(engines.run(scenario, "reference").summary, scenario, costs)
    assert found["memory.broadcaster"] == pytest.approx(2 * 3e7 + 100 * 2400)


def test_a_run_of_the_model_leaves_no_residuals() -> None:
    updates = SCENARIO.draw_updates(streams(SCENARIO.seed))
    made = FIT.apply(SCENARIO)
    summary = engines.run(made, updates=updates).summary
    found = residuals(dataclasses.replace(FIT, draws=()), [("run", SCENARIO, updates, summary)])
    assert found
    assert max(abs(row.off) for row in found) < 1e-9


def test_the_command_prints_what_it_predicts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unknown = Parameter("api.service", identified=False, needs="a run with 20 refetches")
    dataclasses.replace(FIT, parameters=(*FIT.parameters, unknown)).write(tmp_path / "fit.json")
    assert main(["predict", "--fit", str(tmp_path / "fit.json"), "--users", "800", "--draws", "3", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["figures"]["fan_out.last.p50"]["outside"].startswith("4 x")
    assert printed["figures"]["starved_ratio"]["lacks"] == RANGE
    assert printed["not_identified"] == {"api.service": "a run with 20 refetches"}
    assert main(["predict", "--fit", str(tmp_path / "fit.json"), "--set", "policy.wait=0.5", "--draws", "2"]) == 0
    text = capsys.readouterr().out
    assert all(words in text for words in ("95 % of runs", f"starved_ratio: {RANGE}", "a run with 20 refetches"))
    for bad in (["--draws", "1"], ["--set", "policy.wiat=1"], ["nosuch"]):
        assert main(["predict", "--fit", str(tmp_path / "fit.json"), *bad]) == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert main(["predict", "--fit", str(tmp_path / "none.json")]) == 2
    assert np.isfinite(FIT.costs["cpu.broadcaster.per_event"])
