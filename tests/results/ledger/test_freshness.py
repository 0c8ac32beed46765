"""Joins of freshness.py against a literal reading of their definitions, row by row."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from sim.policy import FullPayload
from sim.results.ledger import freshness
from sim.scenario import Broadcast, Fleet, Pages, Scenario
from tests.results.frames import NAN, Frames, frame, notification, random_run, refetch, update

SCENARIO = Scenario(pages=(Pages(page="detail", subscribers=1),))


def one_page(refetches: list, notifications: list | None = None, updates: list | None = None, **page: object) -> Frames:
    updates = updates or [update(0, 1.0), update(1, 2.0)]
    notifications = [notification(0, 7, 1.1), notification(1, 7, 2.1)] if notifications is None else notifications
    return Frames(
        frame("updates", updates),
        frame("notifications", notifications),
        frame("refetches", refetches),
        frame("subscriptions", [{"subscriber": 7} | page]),
    )


def test_an_update_is_fresh_at_the_first_applied_refetch_that_contains_it() -> None:
    run = one_page([refetch(7, 1.5, 1), refetch(7, 2.5, 2)])
    journeys = freshness.journeys(run, SCENARIO)
    assert journeys["fresh_at"].tolist() == pytest.approx([1.6, 2.6])
    assert journeys["received_at"].tolist() == pytest.approx([1.1, 2.1])
    assert journeys["due_at"].tolist() == pytest.approx([1.5, 2.5])


def test_a_later_version_brings_all_that_came_before_it() -> None:
    journeys = freshness.journeys(one_page([refetch(7, 2.5, 2)]), SCENARIO)
    assert journeys["fresh_at"].tolist() == pytest.approx([2.6, 2.6])


@pytest.mark.parametrize("outcome", ["superseded", "cancelled", "failed", "not_newer"])
def test_what_was_not_applied_shows_nothing(outcome: str) -> None:
    journeys = freshness.journeys(one_page([refetch(7, 1.5, 2, outcome=outcome)]), SCENARIO)
    assert journeys["fresh_at"].isna().all()


def test_an_update_that_no_refetch_brought_stays_as_a_row_without_an_instant() -> None:
    journeys = freshness.journeys(one_page([refetch(7, 1.5, 1)]), SCENARIO)
    assert len(journeys) == 2
    assert math.isnan(journeys["fresh_at"].iloc[1])


def test_refetches_of_another_page_do_not_count() -> None:
    journeys = freshness.journeys(one_page([refetch(8, 1.5, 2), refetch(6, 1.5, 2)]), SCENARIO)
    assert journeys["fresh_at"].isna().all()


def test_a_dashboard_is_fresh_by_the_sequence_over_all_changes() -> None:
    updates = [update(0, 1.0, version=5, resource_id=3), update(1, 2.0, version=1, resource_id=4)]
    page = {"page": "dashboard", "resource": "dashboard", "resource_id": 0, "channel": "private-servers"}
    boards = [notification(0, 7, 1.1, channel="private-servers")]
    run = one_page([refetch(7, 1.5, 1, resource="dashboard"), refetch(7, 2.5, 2, resource="dashboard")], boards, updates, **page)
    everyones = SCENARIO.replace({"api.dashboard_of": "everyone"})
    assert freshness.journeys(run, everyones)["fresh_at"].tolist() == pytest.approx([1.6, 2.6])
    assert freshness.journeys(run, SCENARIO).empty, "it does not show servers 3 and 4"


def test_a_polling_page_without_a_channel_has_to_show_its_resource() -> None:
    run = one_page([refetch(7, 3.0, 2)], [], channel="")
    journeys = freshness.journeys(run, SCENARIO)
    assert journeys["fresh_at"].tolist() == pytest.approx([3.1, 3.1])
    assert freshness.deliveries(run, SCENARIO).empty


def test_of_two_groups_of_one_kind_only_the_full_payload_is_fresh_on_arrival() -> None:
    scenario = Scenario(pages=(Pages(page="detail", policy=FullPayload()), Pages(page="detail")))
    # As a load test numbers them: by worker, not in the order of the scenario's pages.
    pages = [{"subscriber": 7}, {"subscriber": 9, "policy": "full_payload"}]
    heard = [notification(0, subscriber, 1.1) for subscriber in (7, 9)]
    run = Frames(
        frame("updates", [update(0, 1.0)]),
        frame("notifications", heard),
        frame("refetches", [refetch(7, 1.5, 1)]),
        frame("subscriptions", pages),
    )
    journeys = freshness.journeys(run, scenario)
    assert journeys["subscriber"].tolist() == [7, 9]
    assert journeys["fresh_at"].tolist() == pytest.approx([1.6, 1.1])


@pytest.mark.parametrize("unknown", [None, ""])
def test_a_run_that_did_not_record_policies_goes_by_the_kind_of_page(unknown: str | None) -> None:
    scenario = Scenario(pages=(Pages(page="detail", policy=FullPayload()),))
    journeys = freshness.journeys(one_page([], policy=unknown), scenario)
    assert journeys["fresh_at"].tolist() == pytest.approx([1.1, 2.1])


def test_an_update_that_was_not_broadcast_is_owed_to_the_page_but_not_expected_on_the_wire() -> None:
    run = one_page([refetch(7, 2.5, 2)], updates=[update(0, 1.0, published_at=NAN), update(1, 2.0)])
    assert freshness.deliveries(run, SCENARIO)["update"].tolist() == [1]
    assert freshness.journeys(run, SCENARIO)["fresh_at"].tolist() == pytest.approx([2.6, 2.6])


@pytest.mark.parametrize(("reason", "expected"), [("closed", [0]), ("dropped", [0, 1])])
def test_a_page_that_closed_itself_is_not_owed_what_was_on_its_way(reason: str, expected: list[int]) -> None:
    run = one_page([], [notification(0, 7, 1.1)], ended_at=2.3, reason=reason)
    assert freshness.deliveries(run, SCENARIO)["update"].tolist() == expected


def test_channels_per_user_reach_the_owner_of_the_server_only() -> None:
    scenario = Scenario(fleet=Fleet(users=2, servers_per_user=2), broadcast=Broadcast(channels="per_user"))
    run = Frames(
        frame("updates", [update(0, 1.0, resource_id=2), update(1, 2.0, resource_id=3)]),
        subscriptions=frame(
            "subscriptions", [{"subscriber": u, "user": u, "channel": f"private-users.{u}.servers"} for u in (1, 2)]
        ),
    )
    found = freshness.deliveries(run, scenario)
    assert list(zip(found["update"], found["subscriber"], strict=True)) == [(0, 1), (1, 2)]


def test_a_detail_page_on_the_generic_channel_has_nothing_to_show_for_other_servers() -> None:
    updates = [update(0, 1.0, version=1), update(1, 2.0, version=9, resource_id=2)]
    heard = [notification(i, 7, 1.1 + i, channel="private-servers") for i in range(2)]
    run = one_page([refetch(7, 1.5, 1)], heard, updates, channel="private-servers")
    assert freshness.deliveries(run, SCENARIO)["received_at"].notna().sum() == 2
    assert freshness.journeys(run, SCENARIO)["update"].tolist() == [0]


def test_notifications_of_a_foreign_target_belong_to_the_latest_update_before_them() -> None:
    run = one_page([], [notification(None, 7, 1.1), notification(None, 7, 2.1), notification(None, 7, 0.5)])
    assert freshness.attribute(run, SCENARIO)["update"].fillna(-1).tolist() == [0, 1, -1]
    assert freshness.deliveries(run, SCENARIO)["received_at"].tolist() == pytest.approx([1.1, 2.1])


def test_arrivals_are_counted_twice_and_late_ones_out_of_order() -> None:
    heard = [notification(0, 7, 2.2), notification(1, 7, 2.1), notification(1, 7, 2.3)]
    run = one_page([], heard)
    assert freshness.duplicates(run.notifications) == 1
    assert freshness.out_of_order(run, run.notifications) == 1


def literal_deliveries(run: Frames) -> list[tuple]:
    rows = []
    for u in run.updates.itertuples():
        for s in run.subscriptions.itertuples():
            on_it = s.channel in ("private-servers", f"private-servers.{u.resource_id}")
            if not on_it or math.isnan(u.published_at) or not s.subscribed_at <= u.committed_at:
                continue
            if s.ended_at <= u.published_at:
                continue
            n = run.notifications
            came = n[(n["update"] == u.update) & (n["subscriber"] == s.subscriber) & (n["channel"] == s.channel)]["received_at"]
            rows.append((u.update, s.subscriber, s.channel, came.min()))
    return sorted(rows)


def literal_fresh(run: Frames, journeys: pd.DataFrame) -> list[float]:
    found = []
    updates = run.updates.set_index("update")
    pages = run.subscriptions.set_index("subscriber")
    r = run.refetches
    for row in journeys.itertuples():
        board = pages.loc[row.subscriber, "resource"] == "dashboard"
        wanted = updates.loc[row.update, "sequence" if board else "version"]
        enough = r[(r["subscriber"] == row.subscriber) & (r["outcome"] == "applied") & (r["version"] >= wanted)]
        found.append(enough["finished_at"].min())
    return found


@pytest.mark.parametrize("seed", range(8))
def test_joins_equal_their_definition(seed: int) -> None:
    run = random_run(seed)
    found = sorted(freshness.deliveries(run, SCENARIO).itertuples(index=False, name=None))
    wanted = literal_deliveries(run)
    assert [row[:3] for row in found] == [row[:3] for row in wanted]
    assert [row[3] for row in found] == pytest.approx([row[3] for row in wanted], nan_ok=True)
    journeys = freshness.journeys(run, SCENARIO)
    assert journeys["fresh_at"].tolist() == pytest.approx(literal_fresh(run, journeys), nan_ok=True)


def test_empty_tables_give_empty_joins() -> None:
    assert freshness.journeys(Frames(), SCENARIO).empty
    assert freshness.deliveries(Frames(), SCENARIO).empty
    assert freshness.out_of_order(Frames(), Frames().notifications) == 0


def test_a_refetch_belongs_to_the_newest_update_that_it_brought() -> None:
    updates = frame("updates", [update(0, 1.0, version=4), update(1, 2.0, version=1, resource_id=2), update(2, 3.0, version=5)])
    got = [
        refetch(7, 3.5, 5),
        refetch(7, 1.5, 4),
        refetch(8, 3.6, 2, resource="dashboard", resource_id=0),
        refetch(8, 2.5, -1, outcome="failed"),
        refetch(9, 0.5, 0),
    ]
    assert freshness.newest_update(frame("refetches", got), updates).tolist() == [2, 0, 1, 1, 0]
