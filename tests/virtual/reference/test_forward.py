"""All refetches at once, or all outcomes at once, give the tables that an event each gives, bit for bit, or are not made so."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from sim.policy import FullPayload
from sim.results.schema import TABLES
from sim.scenario import Pages, Scenario
from sim.virtual.ledger import Tables
from sim.virtual.reference import Simulation, run
from sim.virtual.reference.forward import feeds_forward
from sim.virtual.reference.outcomes import Undecided, is_one_way
from tests.virtual import test_engines_agree, test_identity
from tests.virtual.scenes import scene

WAYS: dict[str, list[Any]] = {
    "api.cache": [0.0, 0.0, 0.4],
    "api.rate_limit": [None, None, 3],
    "api.queue_limit": [None, None, 2],
    "api.not_modified_bytes": [None, 100],
    "broadcaster.nodes": [1, 1, 2, 3],
    "broadcaster.nagle": [False, False, True],
    "broadcast.dispatch": ["now", "now", "queued"],
    "broadcast.debounce": [0.0, 0.0, 0.7],
    "network.to_subscriber": [{"kind": "constant", "value": 0.0021}, {"kind": "exponential", "scale": 0.05}],
    "incidents": [
        [],
        [],
        [{"kind": "outage", "at": 2.0, "duration": 1.0}, {"kind": "slowdown", "at": 4.0, "duration": 2.0, "factor": 5.0}],
    ],
}
"""What is honoured on the way, whichever way the refetches are made."""

changes = st.fixed_dictionaries({key: st.sampled_from(values) for key, values in WAYS.items()})
jitters = st.lists(st.sampled_from([0.0, 0.0, 0.3]), min_size=3, max_size=3)


def with_jitter(scenario: Scenario, jitter: list[float]) -> Scenario:
    def one(pages: Pages, jitter: float) -> Pages:
        policy = scenario.policy_of(pages)
        return pages if isinstance(policy, FullPayload) else replace(pages, policy=replace(policy, jitter=jitter))

    return replace(scenario, pages=tuple(one(pages, most) for pages, most in zip(scenario.pages, jitter, strict=False)))


def assert_equal(mine: Tables, theirs: Tables) -> None:
    for table in TABLES:
        assert_frame_equal(getattr(mine, table), getattr(theirs, table), obj=table)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.one_of(test_identity.scenarios, test_engines_agree.scenarios), changes, jitters)
def test_the_tables_are_those_of_an_event_each(scenario: Scenario, changed: dict[str, Any], jitter: list[float]) -> None:
    scenario = with_jitter(scenario.replace(changed), jitter)
    assert_equal(run(scenario), run(scenario, mode="by_event"))


COMES_AND_GOES: dict[str, list[Any]] = {
    "pages.0.session": [None, {"kind": "exponential", "scale": 2.0}, {"kind": "constant", "value": 2.0}],
    "pages.0.hidden": [0.0, 0.5],
    "pages.0.refetch_on_reconnect": [False, True],
    "pages.0.behaviour": ["good", "good", "stop_reading"],
    "in_flight": ["overlap", "cancel"],
    "api.not_modified_bytes": [None, 100],
    "incidents": [
        [],
        [{"kind": "disconnect", "at": 3.0, "share": 0.5}, {"kind": "deploy", "at": 5.0, "down": 0.5}],
        [{"kind": "restart", "at": 3.1, "down": 1.0}, {"kind": "slowdown", "at": 4.0, "duration": 2.0, "factor": 5.0}],
    ],
}


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.one_of(test_identity.scenarios, test_engines_agree.scenarios),
    changes,
    st.fixed_dictionaries({key: st.sampled_from(values) for key, values in COMES_AND_GOES.items()}),
    jitters,
)
def test_also_where_pages_and_connections_come_and_go(
    scenario: Scenario, changed: dict[str, Any], coming: dict[str, Any], jitter: list[float]
) -> None:
    scenario = with_jitter(scenario.replace(changed | coming), jitter)
    assert_equal(run(scenario), run(scenario, mode="by_event"))


ROOMS: list[dict[str, Any]] = [
    {},
    {"broadcaster__nodes": 3},
    {"broadcaster__per_subscriber": 0.0},
    {"policy": {"kind": "immediate"}, "broadcaster__nodes": 2},
    {"policy": {"kind": "throttle", "wait": 0.29}, "broadcaster__nodes": 2},
    {"policy": {"kind": "debounce", "wait": 0.1, "jitter": 0.2}, "in_flight": "cancel"},
    {"policy": {"kind": "polling", "interval": 0.7}},
    {"policy": {"kind": "immediate"}, "in_flight": "cancel", "api__workers": 4, "api__service": 0.10003},
    {
        "pages": [
            {"page": "detail", "subscribers": 6, "policy": {"kind": "debounce", "wait": 0.1, "jitter": 0.2}},
            {"page": "detail", "subscribers": 6, "policy": {"kind": "immediate"}},
        ]
    },
]


@pytest.mark.parametrize("room", ROOMS)
def test_what_is_usual_is_decided(room: dict[str, Any]) -> None:
    """Also where many pages refetch at one instant: they are in the order in which they heard what started it."""
    scenario = scene([1.0, 1.05, 1.3, 2.0, 2.4], **{"pages": [{"page": "detail", "subscribers": 12}], **room})
    assert feeds_forward(scenario)
    by_event = Simulation(scenario).run()
    assert_equal(Simulation(scenario, mode="forward").run(), by_event)
    assert_equal(Simulation(scenario, mode="one_way").run(), by_event)


def test_of_timers_that_ring_at_one_instant_the_one_that_was_started_first_is_first() -> None:
    """The last timer of a debounce was started at 1.5 s, that of a window at 1.0 s; both pages refetch at 1.8 s."""
    policies = [{"kind": "debounce", "wait": 0.5}, {"kind": "window", "wait": 0.8}]
    pages = [{"page": "detail", "subscribers": 3, "policy": policy} for policy in policies]
    scenario = scene([1.0, 1.05, 1.3, 2.0, 2.4], pages=pages, broadcaster__per_subscriber=0.0)
    by_event = Simulation(scenario).run()
    assert by_event.refetches["subscriber"].tolist()[:6] == [3, 4, 5, 0, 1, 2]
    assert by_event.refetches["due_at"].nunique() == 3
    assert_equal(Simulation(scenario, mode="forward").run(), by_event)


def test_two_that_abort_and_answer_at_one_instant_are_left_to_events() -> None:
    """The answer is there at the very instant at which the next refetch is sent."""
    way, service = {"kind": "constant", "value": 0.0}, {"kind": "constant", "value": 0.5}
    scenario = scene([1.0, 1.5], policy={"kind": "immediate"}, in_flight="cancel", network__to_api=way, api__service=service)
    assert feeds_forward(scenario)
    for mode in ("forward", "one_way"):
        with pytest.raises(Undecided):
            Simulation(scenario, mode=mode).run()  # type: ignore[arg-type]
    assert_equal(run(scenario), run(scenario, mode="by_event"))


@pytest.mark.parametrize(
    ("change", "one_way"),
    [
        ({"pages.0.session": {"kind": "exponential", "scale": 3.0}}, True),
        ({"pages.0.hidden": 0.5}, True),
        ({"pages.0.behaviour": "stop_reading"}, True),
        ({"incidents": [{"kind": "disconnect", "at": 1.0}]}, True),
        ({"incidents": [{"kind": "restart", "at": 1.0, "down": 1.0}]}, True),
        ({"incidents": [{"kind": "deploy", "at": 1.0, "down": 1.0}]}, True),
        ({"incidents": [{"kind": "deploy", "at": 1.0, "down": 1.0}], "pages.0.inertia": True}, False),
        ({"in_flight": "single_flight"}, False),
        ({"policy": {"kind": "polling", "interval": 1.0, "mode": "rest"}}, False),
        ({"api.retries": 1}, False),
        ({"api.save": {"kind": "constant", "value": 0.1}}, False),
        ({"network.to_api": {"kind": "exponential", "scale": 0.1}}, False),
    ],
)
def test_what_comes_back_needs_events(change: dict[str, Any], one_way: bool) -> None:
    """Where pages or connections come and go the answers may still go nowhere."""
    scenario = scene([1.0])
    assert feeds_forward(scenario)
    changed = scenario.replace(change)
    assert not feeds_forward(changed)
    assert is_one_way(changed) == one_way
