"""A fit is written, read again, applied and drawn from; a damaged one is refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sim.errors import BadInput
from sim.prediction import Fit, Parameter, read
from sim.prediction.parameters import Residual
from sim.scenario import Scenario, to_dict
from sim.workload import Poisson

SERVICE = {"kind": "lognormal", "scale": 0.003, "sigma": 0.5}
FIT = Fit(
    parameters=(
        Parameter("broadcaster.per_subscriber", 0.00001, 0.000009, 0.000011, "s", n=50),
        Parameter("api.service", SERVICE, 0.0029, 0.0031, "s", n=500),
        Parameter("broadcaster.compose_per_subscriber", low=0.0, high=1e-5, identified=False, needs="a run at 2,000 subscribers"),
        Parameter("cpu.broadcaster.per_delivery", 0.000008, unit="s"),
    ),
    scenario=to_dict(Scenario(name="measured")),
    draws=(
        {"broadcaster.per_subscriber": 0.000009, "api.service": SERVICE, "cpu.broadcaster.per_delivery": 0.000007},
        {"broadcaster.per_subscriber": 0.000011, "api.service": SERVICE, "cpu.broadcaster.per_delivery": 0.000009},
    ),
    residuals=(Residual("a", "fan_out.last.p50", 0.01, 0.011),),
    ranges={"subscribers": (500.0, 1000.0)},
    runs=({"name": "a", "subscribers": 500},),
    target={"broadcaster": "workbench"},
)


def test_it_comes_back_as_it_was_written(tmp_path: Path) -> None:
    FIT.write(tmp_path / "fit.json")
    assert read(tmp_path / "fit.json") == FIT


def test_point_values_go_into_any_scenario_and_what_is_not_identified_stays() -> None:
    scenario = FIT.apply(Scenario().replace({"broadcaster.cost": 3.0, "broadcaster.compose_per_subscriber": 1e-6}))
    assert scenario.broadcaster.costs.per_subscriber == 0.00001, "a fitted cost is of the machine as it is: no factor on it"
    assert scenario.broadcaster.compose_per_subscriber == 1e-6
    assert scenario.api.service.mean() == pytest.approx(0.003)
    assert FIT.base().name == "measured"
    assert FIT.costs == {"cpu.broadcaster.per_delivery": 0.000008}


def test_a_draw_keeps_together_what_was_estimated_together() -> None:
    rng = np.random.default_rng(1)
    drawn = [FIT.drawn(rng) for _ in range(40)]
    pairs = {(row["broadcaster.per_subscriber"], row["cpu.broadcaster.per_delivery"]) for row in drawn}
    assert pairs == {(0.000009, 0.000007), (0.000011, 0.000009)}
    Scenario().replace(FIT.draw(rng, Scenario()))


def test_means_of_numbers_and_distributions() -> None:
    assert [parameter.mean for parameter in FIT.parameters] == [0.00001, pytest.approx(0.003), None, 0.000008]
    assert FIT.residuals[0].off == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 9}, "version 9"),
        ({"parameters": [{"kay": 1}]}, "damaged"),
        ({"parameters": 3}, "damaged"),
        ({"draws": [{"api.save": 1}]}, "api.save"),
        ({"scenario": {"duraton": 1}}, "duration"),
        ({"scenario": []}, "damaged|not a fit"),
        ({"more": 1}, "not a fit"),
        ({"ranges": {"subscribers": 3}}, "damaged"),
    ],
)
def test_a_damaged_fit_is_refused_by_name(tmp_path: Path, change: dict[str, object], words: str) -> None:
    path = tmp_path / "fit.json"
    FIT.write(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(BadInput, match=words) as raised:
        read(path)
    assert str(path) in str(raised.value) or "scenario" in str(raised.value)


def test_no_file_and_no_fit(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"workbench fit RUN"):
        read(tmp_path / "none.json")
    (tmp_path / "toml").write_text("seed = 1")
    with pytest.raises(BadInput, match="not a fit"):
        read(tmp_path / "toml")


def test_what_grows_with_rest_is_that_of_the_scenarios_rate_within_what_was_measured() -> None:
    way = {"kind": "empirical", "values": [0.001, 0.003]}
    fit = Fit(
        parameters=(
            Parameter("network.to_broadcaster", way),
            Parameter("rest.network.to_broadcaster", 0.5),
            Parameter("broadcaster.per_subscriber", 1e-5),
        ),
        scenario=to_dict(Scenario()),
        ranges={"rate": (0.25, 4.0)},
    )

    def mean(rate: float) -> float:
        made = fit.apply(Scenario(workload=Poisson(rate=rate)))
        assert made.broadcaster.per_subscriber == 1e-5
        return made.network.to_broadcaster.mean()

    assert mean(1.0) == pytest.approx(0.002)
    assert mean(0.25) == pytest.approx(0.004)
    assert mean(4.0) == pytest.approx(0.001)
    assert (mean(0.001), mean(100.0)) == (mean(0.25), mean(4.0)), "beyond what was measured nothing is known"
