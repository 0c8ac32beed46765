"""A run that has reached a limit says which, and which key moves it; a run that has not says nothing."""

from __future__ import annotations

from typing import Any

import pytest

from sim.results.answers.culprits import culprits
from sim.results.summary import metric_of, summarise
from sim.scenario import Fleet, Pages, Scenario
from sim.virtual import engines
from sim.workload import Poisson

CALM = Scenario(
    duration=60.0,
    drain=10.0,
    fleet=Fleet(users=1),
    workload=Poisson(rate=1.0),
    pages=(Pages("dashboard", 50),),
).replace({"policy.kind": "window", "policy.wait": 0.2})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ()),
        ({"api.service": 0.05}, ("the one application worker is busy", "set api.workers to")),
        ({"api.service": 0.5, "api.workers": 3}, ("the 3 application workers are busy",)),
        ({"api.rate_limit": 20}, ("refuses", "api.rate_limit = 20")),
        ({"api.queue_limit": 5, "api.service": 0.01}, ("refuses", "api.queue_limit = 5")),
        ({"api.timeout": 0.2, "api.service": 0.01}, ("api.timeout = 200 ms",)),
        ({"api.timeout": 0.2, "api.service": 0.01, "api.retries": 2}, ("retries come on top", "api.retry_budget")),
        ({"broadcaster.per_subscriber": 0.03}, ("one node is busy", "broadcaster.nodes")),
        (
            {"broadcast.dispatch": "queued", "network.to_broadcaster": 1.5},
            ("the publisher's queue grows", "broadcast.queue_workers"),
        ),
        (
            {"workload.rate": 10.0, "policy": {"kind": "debounce", "wait": 1.0}},
            ("debounce 1 s waits for a silence", "policy.max_wait"),
        ),
        ({"policy": {"kind": "debounce", "wait": 0.3}}, ()),
        # One herd that takes longer than the wait is no silence that does not come.
        ({"policy": {"kind": "debounce", "wait": 0.1}, "api.service": 0.02, "workload.rate": 0.05}, ()),
    ],
)
def test_each_limit_has_its_sentence(changes: dict[str, Any], words: tuple[str, ...]) -> None:
    scenario = CALM.replace(changes)
    made = engines.run(scenario, "reference")
    found = culprits(made.summary, scenario, made.tables.updates)
    assert len(found) == bool(words) or len(words) > 1, found
    for word in words:
        assert any(word in sentence for sentence in found), found


def test_both_engines_name_the_same_culprit() -> None:
    for changes in ({"api.service": 0.05}, {"broadcaster.per_subscriber": 0.03}, {}):
        scenario = CALM.replace(changes)
        said = [culprits(engines.run(scenario, engine).summary, scenario) for engine in ("reference", "fleet")]
        reference, fleet = ([line.split(" busy")[0] for line in one] for one in said)
        assert reference == fleet


def test_a_measured_summary_names_the_process_whose_core_is_full() -> None:
    summary = {"cpu.application": {"value": 0.99}, "cpu.broadcaster": {"value": 0.4}}
    assert "the application's process takes 0.99 of a core" in culprits(summary, CALM)[0]
    assert "the broadcaster takes 1 of a core" in culprits({"cpu.broadcaster": {"value": 1.0}}, CALM)[0]


def test_the_busiest_node_counts() -> None:
    scenario = CALM.replace({"broadcaster.per_subscriber": 0.002, "broadcaster.nodes": 2})
    summary = summarise(engines.run(scenario, "reference").tables, scenario)
    assert 0.02 < summary["broadcaster.utilisation"]["value"] < 0.2
    assert metric_of("broadcaster.utilisation") is not None
