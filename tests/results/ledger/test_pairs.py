"""Which page owes which update, and its fate: one rule at a time (`tests/results/test_oracle.py` holds all of them together)."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sim.policy import FullPayload
from sim.results.ledger.book import Ledger
from sim.scenario import Fleet, Pages, Scenario
from tests.results.frames import NAN, Frames, frame, notification, refetch, update

SCENARIO = Scenario(pages=(Pages(page="detail", subscribers=1),))


def one_page(
    refetches: list[Any], notifications: list[Any] | None = None, updates: list[Any] | None = None, **page: object
) -> Frames:
    updates = updates or [update(0, 1.0), update(1, 2.0)]
    notifications = [notification(0, 7, 1.1), notification(1, 7, 2.1)] if notifications is None else notifications
    return Frames(
        frame("updates", updates),
        frame("notifications", notifications),
        frame("refetches", refetches),
        frame("subscriptions", [{"subscriber": 7} | page]),
    )


def fresh(run: Frames, scenario: Scenario = SCENARIO) -> list[float]:
    return list(Ledger(run, scenario).journeys["fresh_at"])


def fates(run: Frames, scenario: Scenario = SCENARIO) -> list[str]:
    return list(Ledger(run, scenario).pairs["fate"])


def test_an_update_is_fresh_at_the_first_answer_that_contains_it() -> None:
    journeys = Ledger(one_page([refetch(7, 1.5, 1), refetch(7, 2.5, 2)]), SCENARIO).journeys
    assert journeys["fresh_at"].tolist() == pytest.approx([1.6, 2.6])
    assert journeys["received_at"].tolist() == pytest.approx([1.1, 2.1])
    assert journeys["due_at"].tolist() == pytest.approx([1.5, 2.5])


def test_a_later_version_brings_all_that_came_before_it() -> None:
    assert fresh(one_page([refetch(7, 2.5, 2)])) == pytest.approx([2.6, 2.6])


def test_an_older_answer_that_comes_late_takes_nothing_from_what_was_shown() -> None:
    assert fresh(one_page([refetch(7, 2.5, 2), refetch(7, 2.6, 1, took=0.5)])) == pytest.approx([2.6, 2.6])


@pytest.mark.parametrize("outcome", ["superseded", "cancelled", "failed", "not_newer", "running"])
def test_what_was_not_applied_shows_nothing(outcome: str) -> None:
    assert fates(one_page([refetch(7, 1.5, 2, outcome=outcome)])) == ["never", "never"]


def test_refetches_of_another_page_do_not_count() -> None:
    assert fates(one_page([refetch(8, 1.5, 2), refetch(6, 1.5, 2)])) == ["never", "never"]


def test_an_answer_that_comes_before_its_commit_is_known_shows_it_from_the_commit_on() -> None:
    run = one_page([refetch(7, 0.5, 1)])
    assert fates(run) == ["shown", "never"]
    assert fresh(run)[0] == pytest.approx(1.01)


def test_a_dashboard_is_fresh_by_the_sequence_of_what_it_shows() -> None:
    updates = [
        update(0, 1.0, version=5, resource_id=1),
        update(1, 2.0, version=1, resource_id=2),
        update(2, 3.0, 1, resource_id=3),
    ]
    page = {"page": "dashboard", "resource": "dashboard", "resource_id": 0, "channel": "private-servers"}
    run = one_page([refetch(7, 1.5, 1, resource="dashboard"), refetch(7, 2.5, 2, resource="dashboard")], [], updates, **page)
    scenario = Scenario(fleet=Fleet(users=2, servers_per_user=2))
    assert fresh(run, scenario) == pytest.approx([1.6, 2.6]), "server 3 is another user's"
    everyone = scenario.replace({"api.dashboard_of": "everyone"})
    assert fates(run, everyone) == ["shown", "shown", "never"]


def test_versions_in_microseconds_since_1970_are_versions() -> None:
    stamp = 1_765_000_000_000_000
    updates = [update(0, 1.0, version=stamp), update(1, 2.0, version=stamp + 1), update(2, 3.0, version=stamp + 1)]
    run = one_page([refetch(7, 1.5, stamp), refetch(7, 3.5, stamp + 1)], [], updates)
    assert fresh(run) == pytest.approx([1.6, 3.6, 3.6]), "two that share a stamp are fresh together"


def test_an_answer_without_a_version_leaves_what_it_may_have_shown_unknown() -> None:
    assert fates(one_page([refetch(7, 1.5, None), refetch(7, 2.5, 2)])) == ["unknown", "shown"]
    assert fates(one_page([refetch(7, 1.5, None)])) == ["unknown", "never"]


def test_an_update_of_unknown_version_is_unknown() -> None:
    updates = [update(0, 1.0) | {"version": None}, update(1, 2.0)]
    assert fates(one_page([refetch(7, 2.5, 2)], updates=updates)) == ["unknown", "shown"]


def test_a_polling_page_without_a_channel_has_to_show_its_resource() -> None:
    run = one_page([refetch(7, 3.0, 2)], [], channel="", policy="polling")
    ledger = Ledger(run, SCENARIO)
    assert ledger.journeys["fresh_at"].tolist() == pytest.approx([3.1, 3.1])
    assert not ledger.pairs["missed_while_away"].any()
    assert ledger.expected.empty


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
    journeys = Ledger(run, scenario).journeys
    assert journeys["subscriber"].tolist() == [7, 9]
    assert journeys["fresh_at"].tolist() == pytest.approx([1.6, 1.1])


@pytest.mark.parametrize("unknown", [None, ""])
def test_a_run_that_did_not_record_policies_goes_by_the_kind_of_page(unknown: str | None) -> None:
    scenario = Scenario(pages=(Pages(page="detail", policy=FullPayload()),))
    assert fresh(one_page([], policy=unknown), scenario) == pytest.approx([1.1, 2.1])


def test_a_page_owes_what_was_committed_while_it_was_open_whether_subscribed_or_not() -> None:
    run = one_page(
        [refetch(7, 2.5, 2)], updates=[update(0, 1.0, published_at=NAN), update(1, 2.0)], ended_at=1.5, reason="dropped"
    )
    pairs = Ledger(run, SCENARIO).pairs
    assert pairs["fate"].tolist() == ["shown", "shown"]
    assert pairs["not_broadcast"].tolist() == [True, False]
    assert pairs["missed_while_away"].tolist() == [False, True]


def test_a_page_that_closed_first_left_and_owes_nothing_after() -> None:
    run = one_page([], ended_at=1.5, reason="closed")
    assert fates(run) == ["left"]


def test_a_detail_page_on_the_generic_channel_has_nothing_to_show_for_other_servers() -> None:
    updates = [update(0, 1.0, version=1), update(1, 2.0, version=9, resource_id=2)]
    heard = [notification(i, 7, 1.1 + i, channel="private-servers") for i in range(2)]
    run = one_page([refetch(7, 1.5, 1)], heard, updates, channel="private-servers")
    ledger = Ledger(run, SCENARIO)
    assert ledger.expected["received_at"].notna().sum() == 2
    assert ledger.journeys["update"].tolist() == [0]


def test_empty_tables_owe_nothing() -> None:
    ledger = Ledger(Frames(), SCENARIO)
    assert ledger.pairs.empty
    assert ledger.journeys.empty
    assert ledger.expected.empty
    assert ledger.staleness().empty


def test_what_comes_at_the_instant_at_which_a_page_closes_is_not_shown() -> None:
    run = one_page([refetch(7, 1.5, 1), refetch(7, 2.5, 2)], [])
    run.pages = frame("pages", [{"subscriber": 7, "closed_at": float(run.refetches["finished_at"].iloc[1]), "reason": "closed"}])
    assert fates(run) == ["shown", "left"]


LEAVES = 5.0
"""When the last of the three pages closes."""

answers_of = st.lists(st.tuples(st.integers(4, 40), st.integers(0, 6), st.sampled_from([0.05, 1.3])), max_size=6)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 5), st.lists(answers_of, min_size=3, max_size=3))
# What was shown ahead of its commit is overwritten, and comes again with the last answer of all.
@example(2, [[], [], [(4, 3, 0.05), (6, 0, 0.05), (16, 5, 0.05)]])
@example(2, [[(4, 3, 0.05), (6, 0, 0.05), (16, 1, 0.05), (20, 2, 0.05)], [(4, 0, 0.05)], []])
def test_fresh_is_the_first_instant_at_which_the_page_shows_it(count: int, drawn: list[list[tuple[int, int, float]]]) -> None:
    """By walking through the states of each page: answers are shown in the order in which they come, also an older one."""
    updates = [update(i, 1.0 + 1.7 * i) for i in range(count)]
    closed = {6: math.inf, 7: math.inf, 8: LEAVES}
    shown: dict[int, list[tuple[float, int]]] = {subscriber: [] for subscriber in closed}
    rows, distinct = [], 0.0
    for subscriber, answers in zip(closed, drawn, strict=True):
        for quarter, version, took in answers:
            distinct += 1e-3
            rows.append(refetch(subscriber, quarter / 4 + distinct, version, took=took))
            shown[subscriber].append((quarter / 4 + distinct + took, version))
    run = Frames(
        frame("updates", updates),
        refetches=frame("refetches", rows),
        subscriptions=frame("subscriptions", [{"subscriber": subscriber} for subscriber in closed]),
        pages=frame("pages", [{"subscriber": 6}, {"subscriber": 7}, {"subscriber": 8, "closed_at": LEAVES, "reason": "closed"}]),
    )
    found = Ledger(run, SCENARIO).pairs
    commits = run.updates["committed_at"]
    assert len(found) == sum(commits.lt(at).sum() for at in closed.values())
    for row in found.itertuples():
        committed, version = float(commits.iloc[row.update]), row.update + 1
        subscriber = int(run.pages["subscriber"].iloc[row.page])
        states = sorted(shown[subscriber])
        at_commit = [state for at, state in states if at <= committed][-1:]
        later = [at for at, state in states if at > committed and state >= version]
        fresh = committed if at_commit and at_commit[0] >= version else min(later, default=math.inf)
        expected = "shown" if fresh < closed[subscriber] else "left" if subscriber == 8 else "never"
        assert row.fate == expected
        assert (row.fresh_at if expected == "shown" else fresh) == pytest.approx(fresh)
        assert (math.isnan(row.due_at) and math.isnan(row.started_at)) or expected == "shown"
