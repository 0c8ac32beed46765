"""What a fan-out costs: the model's costs, those that are set, and the factor on all of them."""

from __future__ import annotations

import pytest

from sim.errors import BadInput
from sim.policy import Debounce, FullPayload, Immediate, Window
from sim.scenario import Broadcast, Broadcaster, Pages, Scenario
from sim.scenario.broadcaster import MODELS


def test_a_key_that_is_not_set_is_the_models() -> None:
    assert Broadcaster().costs == MODELS["workbench"]
    assert Broadcaster("reverb").costs == MODELS["reverb"]
    assert Broadcaster("reverb", fixed=0.0, nagle=False).costs.fixed == 0.0
    assert not Broadcaster("reverb", nagle=False).costs.nagle
    assert Broadcaster("reverb", nagle=False).costs.per_subscriber == MODELS["reverb"].per_subscriber


def test_the_factor_is_on_times_only() -> None:
    slow = Broadcaster("reverb", cost=2.0, fixed=0.01).costs
    assert slow.fixed == 0.02
    assert slow.per_subscriber == 2 * MODELS["reverb"].per_subscriber
    assert (slow.answer, slow.nagle, slow.keep_alive) == ("after", True, False)


@pytest.mark.parametrize(
    ("subscribers", "first", "last"), [(500, (0.014, 0.017), (0.029, 0.033)), (1000, (0.024, 0.072), (0.054, 0.120))]
)
def test_reverb_is_as_measured(subscribers: int, first: tuple[float, float], last: tuple[float, float]) -> None:
    """First and last receiver (s) as in the measurements; the span of what was measured, widened by a tenth."""
    costs = MODELS["reverb"]
    found = costs.fixed + subscribers * costs.compose_per_subscriber + costs.per_subscriber
    assert 0.9 * first[0] <= found <= 1.1 * first[1]
    assert 0.9 * last[0] <= costs.last(subscribers) <= 1.1 * last[1]


def test_payload_costs_time_between_writes() -> None:
    costs = Broadcaster(per_subscriber=1e-6, per_byte=1e-9).costs
    assert costs.between(0) == 1e-6
    assert costs.between(2000) == pytest.approx(3e-6)
    assert Scenario().extra_payload == 0
    assert Scenario(broadcast=Broadcast(payload="full", payload_bytes=500)).extra_payload == 2000


@pytest.mark.parametrize(
    ("scenario", "where"),
    [
        (Scenario(policy=FullPayload()), "policy = full_payload"),
        (Scenario(policy=Immediate(), pages=(Pages(), Pages(policy=FullPayload()))), r"pages\[1\].policy = full_payload"),
    ],
)
def test_a_page_that_shows_the_payload_needs_one(scenario: Scenario, where: str) -> None:
    with pytest.raises(BadInput, match=where):
        scenario.check()
    scenario.replace({"broadcast.payload": "full"}).check()


@pytest.mark.parametrize("key", ["cost", "fixed", "per_subscriber", "compose_per_subscriber", "per_byte"])
def test_nothing_costs_less_than_nothing(key: str) -> None:
    with pytest.raises(BadInput, match=key):
        Scenario().replace({f"broadcaster.{key}": -1.0})


def test_a_kind_without_members_of_its_own_leaves_none_behind() -> None:
    assert Scenario(policy=Debounce(wait=0.2)).replace({"policy.kind": "full_payload"}).policy == FullPayload()
    assert Scenario(policy=Debounce(wait=0.2)).replace({"policy.kind": "window"}).policy == Window(wait=0.2)
    with pytest.raises(BadInput, match="kind"):
        Scenario().replace({"policy.kind": "nonsense"})
