"""A scenario as text, and back."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from sim.distributions import Constant, Empirical, Mixture, Uniform
from sim.incidents import Outage, Restart
from sim.policy import Debounce, Polling
from sim.scenario import Fleet, Network, Pages, Scenario, load_scenario
from sim.scenario.reading import find_scenario, scenario_names, to_text, to_toml


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1, "1"),
        (True, "true"),
        (0.1, "0.1"),
        (2.0, "2"),
        (1e-07, "1e-07"),
        (0.1 + 0.2, "0.30000000000000004"),
        ('a "b"\n', '"a \\"b\\"\\n"'),
        ([1, [0.5], []], "[1, [0.5], []]"),
        ({"a-b_C1": 1, "a b": {"ü": [True]}}, '{a-b_C1 = 1, "a b" = {"\\u00fc" = [true]}}'),
        ({}, "{}"),
    ],
)
def test_a_value_as_toml(value: Any, text: str) -> None:
    assert to_text(value) == text
    assert tomllib.loads(f"value = {text}")["value"] == value


def test_a_scenario_survives_the_file(tmp_path: Path) -> None:
    scenario = Scenario(
        name='a "name"',
        duration=0.1 + 0.2,
        fleet=Fleet(users=3),
        network=Network(to_api=Mixture((Constant(0.001), Empirical((0.1, 1 / 3))), (0.9, 0.1)), to_subscriber=Uniform(0.0, 0.2)),
        pages=(
            Pages(page="dashboard", subscribers=3, policy=Debounce(wait=0.3, max_wait=1.5)),
            Pages(policy=Polling(interval=4.0)),
        ),
        incidents=(Restart(at=1.0, command=("docker", "restart", "reverb")), Outage(at=2.0, duration=0.5)),
        thresholds={"time_to_fresh_ms": "p(99) < 1500"},
    )
    path = tmp_path / "a.toml"
    path.write_text(to_toml(scenario), encoding="utf-8")
    assert load_scenario(path) == scenario
    assert load_scenario(path, {"duration": 5.0}) == scenario.replace({"duration": 5.0})


def test_a_name_is_a_scenario_of_ours_and_anything_else_a_path() -> None:
    assert {"steady", "herd"} <= set(scenario_names())
    assert find_scenario("herd").parts[-3:] == ("data", "scenarios", "herd.toml")
    for path in ("herd.toml", "elsewhere/herd"):
        assert find_scenario(path) == Path(path)
