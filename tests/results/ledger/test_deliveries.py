"""Every delivery has one fate."""

from __future__ import annotations

import math

from sim.results.ledger.deliveries import account
from sim.scenario import Scenario
from tests.results.frames import Frames, frame, notification, update

SCENARIO = Scenario().replace({"broadcast.channels": "generic"})
CHANNEL = "private-servers"


def tables(
    published: list[float], subscriptions: list[tuple[int, float, float, str]], heard: list[tuple[int, int, float]]
) -> Frames:
    """*subscriptions*: subscriber, since, until, reason; *heard*: update, subscriber, at."""
    board = {"page": "dashboard", "resource": "dashboard", "resource_id": 0, "channel": CHANNEL}
    return Frames(
        frame("updates", [update(i, at, published_at=at, committed_at=at) for i, at in enumerate(published)]),
        frame("notifications", [notification(serial, subscriber, at, channel=CHANNEL) for serial, subscriber, at in heard]),
        subscriptions=frame(
            "subscriptions",
            [
                board | {"subscriber": s, "subscribed_at": since, "ended_at": until, "reason": reason}
                for s, since, until, reason in subscriptions
            ],
        ),
    )


def test_all_came() -> None:
    found = account(tables([1, 2], [(0, 0, math.nan, "end")], [(0, 0, 1.1), (1, 0, 2.1)]), SCENARIO)
    assert found == {
        "received": 2,
        "missing.target": 0,
        "missing.connection": 0,
        "missing.harness": 0,
        "missing.on_its_way": 0,
        "not_connected": 0,
        "duplicate": 0,
        "unexpected": 0,
        "out_of_order": 0,
    }


def test_only_updates_that_count_do_as_in_the_summary() -> None:
    scenario = SCENARIO.replace({"warmup": 1.5, "duration": 2.0})
    heard = [(0, 0, 1.1), (0, 0, 1.2), (1, 0, 2.1), (1, 0, 2.2), (3, 0, 4.1)]
    found = account(tables([1, 2, 3, 4, 5], [(0, 0, math.nan, "end")], heard), scenario)
    assert (found["received"], found["missing.target"], found["duplicate"]) == (1, 1, 1)


def test_missing_at_a_lost_process_is_the_harness_s() -> None:
    run = tables([1, 2], [(0, 0, math.nan, "end"), (7, 0, math.nan, "end")], [(0, 0, 1.1), (0, 7, 1.1)])
    assert account(run, SCENARIO)["missing.target"] == 2
    found = account(run, SCENARIO, unfinished=[(5, 9)])
    assert (found["received"], found["missing.target"], found["missing.harness"]) == (2, 1, 1)


def test_a_page_between_two_connections_is_not_connected() -> None:
    run = tables([1, 5, 9], [(0, 0, 3, "dropped"), (0, 7, math.nan, "end")], [(0, 0, 1.1), (2, 0, 9.1)])
    found = account(run, SCENARIO)
    assert (found["received"], found["missing.target"], found["not_connected"]) == (2, 0, 1)


def test_a_page_that_was_refused_wants_to_hear_until_the_end() -> None:
    found = account(tables([1, 5], [(0, 0.5, 0.5, "refused")], []), SCENARIO)
    assert (found["received"], found["missing.target"], found["not_connected"]) == (0, 0, 2)


def test_a_page_that_was_closed_misses_nothing() -> None:
    found = account(tables([1, 5], [(0, 0, 3, "closed")], [(0, 0, 1.1)]), SCENARIO)
    assert (found["received"], found["missing.target"], found["not_connected"]) == (1, 0, 0)


def test_twice_and_out_of_order() -> None:
    found = account(tables([1, 2], [(0, 0, math.nan, "end")], [(1, 0, 2.1), (0, 0, 2.2), (0, 0, 2.3)]), SCENARIO)
    assert (found["received"], found["duplicate"], found["out_of_order"]) == (2, 1, 2)
