"""Every scenario in data/scenarios can be read, says what it is for, and makes updates."""

from __future__ import annotations

import pytest

from sim.results.thresholds import parse_all
from sim.scenario import SCENARIO_DIR, Scenario, build, load_scenario, to_dict
from sim.workload import streams

NAMES = sorted(path.stem for path in SCENARIO_DIR.glob("*.toml"))


def test_the_main_job_and_the_questions_have_a_scenario_each() -> None:
    assert {"demo", "steady", "herd", "starvation", "provisioning", "deploys", "logs", "collapse"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_named_scenario_loads_and_makes_the_updates_that_are_expected(name: str) -> None:
    scenario = load_scenario(name)
    assert scenario.name == name
    assert len(scenario.description.split()) >= 10
    assert scenario.subscribers > 0
    assert build(Scenario, to_dict(scenario), where=name) == scenario
    parse_all(scenario.thresholds)
    servers, sites = scenario.fleet.servers, scenario.fleet.sites
    duration = scenario.warmup + scenario.duration
    updates = scenario.workload.updates(streams(scenario.seed)["workload"], duration, servers, sites)
    assert len(updates) == pytest.approx(scenario.workload.expected(duration, servers, sites), rel=0.25)


def test_the_main_job_is_a_recorded_trace_and_a_thousand_subscribers() -> None:
    demo = load_scenario("demo")
    assert demo.workload.kind == "replay"
    assert demo.subscribers >= 1000
    assert 20 <= demo.duration <= 30
