"""Fitting finds again what a simulated run was made with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import sim
from sim.distributions import Constant, Lognormal
from sim.errors import BadInput
from sim.results.answers.fit import fit, fitted, service_times
from sim.results.run import Run
from sim.scenario import Api, Broadcaster, Fleet, Network, Pages, Scenario
from sim.workload import Poisson

SCENARIO = Scenario(
    duration=60.0,
    drain=3.0,
    fleet=Fleet(users=4, servers_per_user=5),
    workload=Poisson(rate=3.0),
    pages=(Pages(page="detail", subscribers=40), Pages(page="dashboard", subscribers=60)),
    network=Network(to_broadcaster=Lognormal(0.004, 0.4), to_subscriber=Constant(0.0002), to_api=Constant(0.0002)),
    broadcaster=Broadcaster(fixed=0.0001, per_subscriber=0.00003),
    api=Api(service=Lognormal(0.003, 0.3), service_per_row=0.0002, answer_bytes=1200, answer_bytes_per_row=150),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return sim.simulate(SCENARIO, output=tmp_path_factory.mktemp("fit") / "run")


def test_parameters_come_back(run: Run) -> None:
    found = {parameter.key: parameter for parameter in fit(run)}
    assert found["broadcaster.per_subscriber"].value == pytest.approx(0.00003, rel=0.05)
    assert found["network.to_broadcaster"].mean.value == pytest.approx(0.004, rel=0.15)
    assert found["api.service"].mean.value == pytest.approx(0.003, rel=0.05)
    assert found["api.service"].value["sigma"] == pytest.approx(0.3, abs=0.05)
    assert found["api.service_per_row"].value == pytest.approx(0.0002, rel=0.25)
    assert found["api.answer_bytes"].value == 1200
    assert found["api.answer_bytes_per_row"].value == 150


def test_the_fitted_scenario_is_the_run_with_other_parameters(run: Run) -> None:
    scenario = fitted(run, fit(run))
    assert scenario.policy == SCENARIO.policy
    assert scenario.broadcaster.costs.per_subscriber == pytest.approx(0.00003, rel=0.05)
    assert sim.simulate(scenario, {"duration": 5.0}).updates["update"].size


@pytest.mark.parametrize("workers", [1, 3])
def test_service_times_are_read_off_the_departures(workers: int) -> None:
    rng = np.random.default_rng(4)
    arrived = np.cumsum(rng.exponential(0.01, 400))
    service = np.full(400, 0.02) if workers > 1 else rng.exponential(0.008, 400)
    free, left = [0.0] * workers, []
    for at, time in zip(arrived, service, strict=True):
        begin = max(at, min(free))
        free[free.index(min(free))] = begin + time
        left.append(begin + time)
    assert service_times(arrived, np.array(left), workers) == pytest.approx(service)


def test_a_run_without_anything_to_fit_says_so(tmp_path: Path) -> None:
    empty = sim.simulate(SCENARIO, {"workload": {"kind": "poisson", "rate": 0.0}}, output=tmp_path / "empty")
    with pytest.raises(BadInput, match="too few"):
        fit(empty)


def test_answers_that_change_nothing_take_a_worker_as_well(tmp_path: Path) -> None:
    """A herd of other users' pages is answered by 304: leaving them out makes the others' work of their waiting."""
    pages = (Pages(page="dashboard", subscribers=60),)
    slow = replace(SCENARIO, pages=pages, fleet=Fleet(users=20), workload=Poisson(rate=0.5), api=Api(service=Constant(0.01)))
    run = sim.simulate(slow, output=tmp_path / "herds")
    unchanged = run.refetches["outcome"] == "not_newer"
    assert unchanged.mean() > 0.5
    run.refetches.loc[unchanged, "status"] = 304
    mean = next(parameter.mean.value for parameter in fit(run) if parameter.key == "api.service")
    assert mean == pytest.approx(0.01, rel=0.2)
