"""`workbench plan`: machines for a load, the largest load that holds, and the walk up to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sim.cli import main
from sim.commands import plan
from sim.commands.measuring.outcome import LoadTestOutcome
from sim.live.capacity.calibration import Calibration
from sim.policy import Window
from sim.prediction import Fit, Parameter
from sim.results.thresholds import parse_all
from sim.scenario import Pages, Scenario, to_dict
from sim.virtual.sweep import Objective
from sim.workload import Poisson

SMALL = Scenario(
    name="small", duration=10.0, workload=Poisson(rate=4.0), pages=(Pages("dashboard", 20),), policy=Window(wait=0.5)
)
SLOW, SLOWER = ({"kind": "constant", "value": value} for value in (0.005, 0.01))


@pytest.fixture(autouse=True)
def ruler(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine's calibration takes seconds, and is not what is tested."""
    found = Calibration(200, 1e-5, 1e-4, 1e-4, 1e-3, 50_000.0, 1e-5, 1000.0, 20_000.0, 50_000_000.0, "kernel", {}, "now")
    monkeypatch.setattr(plan, "calibrated", lambda _: found)


@pytest.fixture
def fit(tmp_path: Path) -> str:
    path = tmp_path / "fit.json"
    found = Fit((Parameter("api.service", SLOW),), to_dict(SMALL), ({"api.service": SLOWER},), ranges={"subscribers": (5, 20)})
    found.write(path)
    return str(path)


def planned(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main(["plan", "--json", *arguments]) == 0
    tree: dict[str, Any] = json.loads(capsys.readouterr().out)
    return tree


def test_the_largest_load_with_what_a_fit_leaves_open(fit: str, capsys: pytest.CaptureFixture[str]) -> None:
    tree = planned(["--fit", fit, "--objective", "time_to_fresh.p95 < 2", "--margin", "0.25"], capsys)
    found = tree["largest"]
    # Twice the service time halves what the workers can do, and the margin is taken from the worst draw.
    assert found["low"] < found["subscribers"] <= found["high"]
    assert found["planned"] == int(found["low"] * 0.75) == tree["subscribers"]
    assert found["at"]["value"] < 2
    assert found["workers"] >= 1
    assert main(["plan", "--fit", fit, "--objective", "time_to_fresh.p95 < 2", "--subscribers", "100"]) == 0
    said = capsys.readouterr().out
    assert f"({found['low']:,} to {found['high']:,}) subscribers keep time_to_fresh.p95 < 2 s" in said
    assert "planned           100 subscribers" in said
    assert "measured up to 20 subscribers: this is 5 times as many" in said


def test_machines_for_a_number_of_subscribers(capsys: pytest.CaptureFixture[str]) -> None:
    assert planned(["--subscribers", "5000"], capsys)["subscribers"] == 5000


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "say --subscribers N, or --objective"),
        (["--subscribers", "9", "--measure"], 2, "--measure needs --objective"),
        (["--objective", "time_to_fresh.p95 < 2", "--margin", "1"], 2, "--margin must be a share"),
        (["--objective", "stale_rtio < 0.2", "--measure"], 2, "no such metric"),
        (["--objective", "time_to_fresh.p95 < 2", "--measure", "--within", "soon"], 2, "--within must be a time"),
        (["--objective", "time_to_fresh.p95 < 2", "--measure", "--within", "9"], 2, "a single load test"),
        (["--subscribers", "9", "--set", "workload.rte=1"], 2, "workload.rte"),
        (["--objective", "time_to_fresh.p95 < 2", "--measure", "--set", "network.to_api=0.1"], 2, "for the simulator only"),
        (["--objective", "time_to_fresh.p95 < 2", "--measure", "--target", "nothing.json"], 2, "nothing.json"),
        (["--objective", "time_to_fresh.p95 < 2", "--measure", "-o", "pyproject.toml"], 2, "is there already"),
        (["--objective", "time_to_flesh.p95 < 2"], 2, "no such figure"),
        (["--objective", "time_to_fresh.p95 < 0.0001"], 3, "not even one subscriber"),
        (["--objective", "time_to_fresh.p95 < 2", "--fit", "nothing.json"], 2, "nothing.json"),
    ],
)
def test_what_cannot_be_planned_is_one_line(
    arguments: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", *arguments]) == code
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("objective", "found"),
    [
        ("time_to_fresh.p99.9 <= 1.5", {"time_to_fresh": "p(99.9) <= 1.5"}),
        ("time_to_fresh.mean < 1", {"time_to_fresh": "mean < 1.0"}),
        ("stale_ratio < 0.05", {"stale_ratio": "value < 0.05"}),
    ],
)
def test_an_objective_as_a_threshold(objective: str, found: dict[str, str]) -> None:
    goal = Objective.parse(objective)
    assert plan.threshold(goal) == found
    threshold = parse_all(found)[0]
    assert (threshold.key, threshold.op, threshold.limit) == (goal.metric, goal.op, goal.limit)


def test_the_climb_begins_below_what_is_predicted_and_says_whether_they_agree(
    fit: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Scenario] = []

    def step(scenario: Scenario, settings: object, root: Path, key: str, value: int) -> plan.SearchStep:
        asked.append(scenario)
        summary = {"deliveries.received": {"value": 10.0 * value, "n": 1}}
        outcome = LoadTestOutcome(root / f"{key}={value}", "x", summary, {}, {}, (), (), (), 1.0)
        return plan.SearchStep(value, outcome, "" if scenario.subscribers <= 60 else "too late")

    monkeypatch.setattr(plan, "step", step)
    command = ["--fit", fit, "--objective", "time_to_fresh.p95 < 2", "--measure", "-o", str(tmp_path / "knee")]
    tree = planned(command, capsys)
    largest, measured = tree["largest"], tree["measured"]
    assert asked[0].thresholds == {"delivery_ratio": "value >= 1", "time_to_fresh": "p(95) < 2.0"}
    assert asked[0].api == SMALL.api, "a load test's target has its own costs"
    assert asked[0].subscribers == round(plan.START * largest["subscribers"])
    assert measured["held"] <= 60 < measured["missed"]
    assert measured["agrees"] == (largest["low"] < measured["missed"] and measured["held"] <= largest["high"])
    assert main(["plan", *command]) == 0
    said = capsys.readouterr()
    assert said.out.count("too late") + said.out.count("  holds") == len(measured["steps"])
    assert f"{measured['held']} subscribers hold, {measured['missed']} do not" in said.out
    assert "load tests or so take" in said.err
