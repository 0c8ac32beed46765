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


def test_an_event_that_began_earlier_than_those_accepted_before_it_is_found_on_each_channel() -> None:
    """The first began at the very instant at which the subscription ended. Channels have different numbers of events."""
    updates = [update(0, 1.9, committed_at=1.5), update(1, 1.0, published_at=3.0), update(2, 5.0), update(3, 6.0, resource_id=2)]
    run = Frames(
        frame("updates", updates),
        frame("notifications", [notification(0, 7, 1.4), notification(1, 7, 1.4)]),
        subscriptions=frame("subscriptions", [{"subscriber": 7, "ended_at": 1.5, "reason": "dropped"}]),
    )
    result = deliveries(run, SCENARIO.replace({"broadcast.channels": "specific"}), True)
    assert (result.expected["update"].tolist(), result.beyond["update"].tolist()) == ([1], [0])


def test_a_subscription_that_ended_as_the_event_was_accepted_need_not_hear_it() -> None:
    for ended, expected in ((1.02, []), (1.03, [0])):
        result = found([], [update(0, 1.0)], measured=True, ended_at=ended, reason="dropped")
        assert result.expected["update"].tolist() == expected


def test_arrivals_without_serials_go_to_the_earliest_event_that_was_surely_expected() -> None:
    """The page subscribed while the first event was being published: it may have heard it, and need not have."""
    updates = [update(0, 1.0, published_at=2.0), *(update(i, 2.0 + i) for i in (1, 2, 3))]
    for count, first in ((1, 1), (3, 1), (4, 0)):
        arrivals = [notification(None, 7, 5.1 + i) for i in range(count)]
        result = found(arrivals, updates, measured=True, subscribed_at=1.5)
        got = result.expected.dropna(subset=["received_at"])
        assert got["update"].tolist() == list(range(first, first + count))
        assert got["received_at"].tolist() == [row["received_at"] for row in arrivals]
    beyond = found([notification(None, 7, 5.1 + i) for i in range(6)], updates, measured=True, subscribed_at=1.5).beyond
    assert beyond["received_at"].tolist() == pytest.approx([9.1, 10.1])


def test_where_others_publish_an_event_was_on_the_channels_on_which_anybody_heard_it() -> None:
    scenario = SCENARIO.replace({"publisher.via": "none"})
    generic = {"channel": "private-servers"}
    run = Frames(
        frame("updates", [update(3, 1.0), update(1, 2.0), update(2, 3.0)]),
        frame("notifications", [notification(1, 7, 2.1), notification(3, 8, 1.1, **generic), notification(None, 7, 4.0)]),
        subscriptions=frame("subscriptions", [{"subscriber": 7}, {"subscriber": 8} | generic, {"subscriber": 9} | generic]),
    )
    result = deliveries(run, scenario, True)
    rows = result.expected[["update", "subscriber", "channel"]]
    assert [(u, s) for u, s, _ in rows.itertuples(index=False)] == [(3, 8), (3, 9), (1, 7)]
    assert result.beyond.empty, "an event that nobody can name is not said to be unexpected"


def test_keys_of_many_columns_tell_all_rows_apart() -> None:
    """Nine columns whose values need 73 bits: only the first tells a row from the one 256 behind it."""
    low = np.arange(512) % 256
    keys = matching._same_keys([np.arange(512), *[low] * 8])
    assert len(set(keys.tolist())) == 512
    keys = matching._same_keys([low] * 9)
    assert (keys[:256] == keys[256:]).all()


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
    reasons = matching.missing(result, over=10.0, measured=True, unfinished=[(40, 49)])
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


def test_on_its_way_is_what_was_accepted_no_earlier_than_the_slowest_arrival_takes_before_the_end() -> None:
    updates = [update(0, 1.0, published_at=1.5), update(1, 7.0, published_at=7.0), update(2, 8.0, published_at=8.0)]
    result = found([notification(0, 7, 3.5)], updates)
    assert matching.missing(result, over=10.0, measured=True).tolist() == ["", "target", "on_its_way"]
    assert matching.missing(found([], updates), over=8.0, measured=True).tolist() == ["target", "target", "on_its_way"]


def test_a_simulated_run_loses_nothing_however_long_it_takes() -> None:
    rows = [{"subscriber": 1}, {"subscriber": 2, "ended_at": 9.0, "reason": "dropped"}, {"subscriber": 3}]
    result = found([notification(0, 1, 1.2)], [update(0, 1.0)], subscriptions=rows)
    assert matching.missing(result, over=10.0, measured=True).tolist() == ["", "target", "target"]
    assert matching.missing(result, over=10.0, measured=False).tolist() == ["", "connection", "on_its_way"]


def test_a_connection_that_ended_as_long_after_the_event_as_the_slowest_arrival_took_was_the_reason() -> None:
    rows = [{"subscriber": s, "ended_at": at, "reason": "dropped"} for s, at in ((1, 9.0), (2, 3.5), (3, 3.75))]
    result = found([notification(0, 1, 3.5)], [update(0, 1.0, published_at=1.5)], subscriptions=rows)
    assert matching.missing(result, over=10.0, measured=True).tolist() == ["", "connection", "target"]


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
    # Each page and each channel has its own order.
    others = [notification(1, 7, 2.1), notification(0, 8, 2.2), notification(0, 7, 2.3, channel="private-servers")]
    run = Frames(frame("updates", [update(0, 1.0), update(1, 2.0)]), frame("notifications", others))
    assert not matching.out_of_order(run).any()
    each = [notification(serial, page, 5.0) for page, serial in ((7, 2), (8, 1), (9, 0))]
    run = Frames(frame("updates", [update(serial, 1.0 + serial) for serial in range(3)]), frame("notifications", each))
    assert not matching.out_of_order(run).any()
    assert not matching.out_of_order(Frames()).any()


def test_an_update_that_was_not_broadcast_is_not_expected_on_the_wire() -> None:
    assert found([], [update(0, 1.0, published_at=NAN), update(1, 2.0)]).expected["update"].tolist() == [1]
