"""Deliveries matched one to one, and why one did not arrive."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sim.results.ledger import matching
from sim.results.ledger.matching import Deliveries, deliveries
from sim.scenario import Broadcast, Fleet, Pages, Scenario
from tests.results.frames import NAN, Frames, frame, notification, update

SCENARIO = Scenario(pages=(Pages(page="detail", subscribers=1),))


def found(
    heard: list[Any],
    updates: list[Any] | None = None,
    measured: bool = False,
    subscriptions: list[Any] | None = None,
    **page: Any,
) -> Deliveries:
    run = Frames(
        frame("updates", updates or [update(0, 1.0), update(1, 2.0)]),
        frame("notifications", heard),
        subscriptions=frame("subscriptions", subscriptions or [{"subscriber": 7} | page]),
    )
    return deliveries(run, SCENARIO, measured)


def test_an_arrival_counts_once_and_what_comes_again_is_a_duplicate() -> None:
    result = found([notification(0, 7, 1.1), notification(0, 7, 1.2), notification(9, 7, 3.0)])
    assert result.expected["received_at"].fillna(-1).tolist() == pytest.approx([1.1, -1])
    assert result.beyond["kind"].tolist() == ["duplicate", "unexpected"]


def test_without_serials_it_is_first_in_first_out_and_never_many_to_one() -> None:
    close = [update(0, 1.0), update(1, 1.0035)]
    result = found([notification(None, 7, 1.024), notification(None, 7, 1.025)], close, measured=True)
    assert result.expected["received_at"].tolist() == pytest.approx([1.024, 1.025])
    assert result.beyond.empty
    early = found([notification(None, 7, 0.5), notification(None, 7, 1.1)])
    assert early.expected["received_at"].fillna(-1).tolist() == pytest.approx([1.1, -1])
    assert early.beyond["kind"].tolist() == ["unexpected"]


@pytest.mark.parametrize(("measured", "expected"), [(True, [0]), (False, [])])
def test_a_measured_acceptance_is_an_interval_what_was_received_was_expected(measured: bool, expected: list[int]) -> None:
    """Queued dispatch: the page subscribes between the commit and the end of the publish request, and its connection falls
    there."""
    queued = [update(0, 1.0, published_at=3.0), update(1, 1.5, published_at=3.0)]
    result = found([notification(0, 7, 2.0)], queued, measured, subscribed_at=1.8, ended_at=2.5, reason="dropped")
    assert result.expected["update"].tolist() == expected
    assert len(result.beyond) == 1 - len(expected)


def test_a_simulated_event_is_expected_by_who_is_subscribed_when_it_is_accepted() -> None:
    rows = [
        {"subscriber": 1, "subscribed_at": 1.02},
        {"subscriber": 2, "subscribed_at": 1.03},
        {"subscriber": 3, "ended_at": 1.02, "reason": "dropped"},
        {"subscriber": 4, "ended_at": 1.5, "reason": "closed"},
        {"subscriber": 5, "reason": "refused"},
    ]
    result = found([], [update(0, 1.0)], subscriptions=rows)
    assert result.expected["subscriber"].tolist() == [1, 4]


def test_reasons() -> None:
    rows = [{"subscriber": 1}, {"subscriber": 2, "ended_at": 1.1, "reason": "dropped"}, {"subscriber": 3}, {"subscriber": 40}]
    result = found([notification(0, 1, 1.2)], [update(0, 1.0), update(1, 9.9)], subscriptions=rows)
    reasons = matching.missing(result, over=10.0, unfinished=[(40, 49)])
    rows = list(zip(result.expected["update"], result.expected["subscriber"], reasons, strict=True))
    assert rows == [
        (0, 1, ""),
        (0, 2, "connection"),
        (0, 3, "target"),
        (0, 40, "harness"),
        (1, 1, "on_its_way"),
        (1, 3, "on_its_way"),
        (1, 40, "harness"),
    ]


def test_channels_per_user_reach_the_owner_of_the_server_only() -> None:
    scenario = Scenario(fleet=Fleet(users=2, servers_per_user=2), broadcast=Broadcast(channels="per_user"))
    run = Frames(
        frame("updates", [update(0, 1.0, resource_id=2), update(1, 2.0, resource_id=3)]),
        subscriptions=frame(
            "subscriptions", [{"subscriber": u, "user": u, "channel": f"private-users.{u}.servers"} for u in (1, 2)]
        ),
    )
    rows = deliveries(run, scenario, False).expected
    assert list(zip(rows["update"], rows["subscriber"], strict=True)) == [(0, 1), (1, 2)]


def test_arrivals_after_one_of_a_later_update_are_out_of_order() -> None:
    heard = [notification(0, 7, 2.2), notification(1, 7, 2.1), notification(1, 7, 2.3), notification(None, 7, 2.4)]
    run = Frames(frame("updates", [update(0, 1.0), update(1, 2.0)]), frame("notifications", heard))
    assert np.flatnonzero(matching.out_of_order(run)).tolist() == [0]
    assert not matching.out_of_order(Frames()).any()


def test_an_update_that_was_not_broadcast_is_not_expected_on_the_wire() -> None:
    assert found([], [update(0, 1.0, published_at=NAN), update(1, 2.0)]).expected["update"].tolist() == [1]
