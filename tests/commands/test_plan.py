"""`workbench plan`: machines for a load, the largest load that holds, and the walk up to it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sim.cli import main
from sim.commands import plan
from sim.errors import BadInput
from sim.live.capacity.calibration import Calibration
from sim.policy import Window
from sim.prediction import Fit, Parameter
from sim.scenario import Pages, Scenario, to_dict
from sim.virtual.sweep import Objective
from sim.virtual.theory import usl_throughput
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
    assert found["low"] < found["subscribers"] == found["high"]
    assert found["planned"] == int(found["low"] * 0.75) == tree["subscribers"]
    assert found["at"]["value"] < 2
    assert found["workers"] >= 1
    assert main(["plan", "--fit", fit, "--objective", "time_to_fresh.p95 < 2", "--subscribers", "100"]) == 0
    said = capsys.readouterr().out
    assert f"{found['subscribers']:,} subscribers keep time_to_fresh.p95 < 2 s" in said
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
        (["--objective", "stale_ratio < 0.2", "--measure"], 2, "stale_ratio cannot be walked up to"),
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


def test_an_objective_as_a_threshold() -> None:
    assert plan.threshold(Objective.parse("time_to_fresh.p99.9 <= 1.5")) == {"time_to_fresh_ms": "p(99.9) <= 1500"}
    with pytest.raises(BadInput, match="cannot be walked up to"):
        plan.threshold(Objective.parse("time_to_fresh.mean < 1"))


def test_the_walk_begins_below_and_stops_where_it_is_missed(
    fit: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Any] = []

    def walk(scenario: Scenario, settings: object, key: str, values: list[int]) -> tuple[int, list[plan.Step]]:
        asked.extend([scenario.thresholds, key, values])
        outcome = SimpleNamespace(directory="runs/1", summary={"deliveries.received": {"value": 10.0 * values[0]}})
        return values[0], [(values[0], outcome, ""), (values[1], outcome, "too late")]  # type: ignore[list-item]

    monkeypatch.setattr(plan, "walk", walk)
    tree = planned(["--fit", fit, "--objective", "time_to_fresh.p95 < 2", "--measure"], capsys)
    thresholds, key, values = asked
    assert thresholds == {"delivery_ratio": "value >= 1", "time_to_fresh_ms": "p(95) < 2000"}
    assert key == "users"
    assert values == sorted(values)
    assert values[0] < tree["largest"]["subscribers"] < values[-1]
    assert tree["measured"]["knee"] == values[0]
    assert [step["fails"] for step in tree["measured"]["steps"]] == ["", "too late"]


@pytest.mark.parametrize(
    ("throughput", "said"),
    [
        (
            lambda n: 50 * usl_throughput(n, 0.02, 0.0001),
            "contention 0.02, coherence 0.0001: throughput is largest at 99",
        ),
        (lambda n: 50 * n, "not fitted: throughput grows in proportion to the load"),
    ],
)
def test_scalability_is_fitted_where_it_is_seen(throughput: Any, said: str) -> None:
    loads = (10, 20, 40, 80, 160, 320)
    steps: list[Any] = [
        (n, SimpleNamespace(summary={"deliveries.received": {"value": 20 * throughput(float(n))}}), "") for n in loads
    ]
    assert plan.scalability(steps, 20.0).startswith(said)
    assert "needs 6 different loads" in plan.scalability(steps[:4], 20.0)
