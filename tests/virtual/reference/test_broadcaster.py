"""A fan-out in time: composed before it is written, written one after the other, held back by Nagle, ended by a restart."""

from __future__ import annotations

from typing import Any

import pytest

from sim.clock import EventList
from sim.virtual import engines
from sim.virtual.ledger import PageConnection
from sim.virtual.reference.broadcaster import Members, Unheard
from tests.virtual.scenes import metric, ms, play, scene


def test_all_frames_are_composed_before_the_first_is_written() -> None:
    tables = play([1.0], pages__0__subscribers=4, broadcaster__compose_per_subscriber=0.01)
    assert ms(tables.notifications["received_at"]) == [1002 + 1 + 40 + 3 + 0.1 * k for k in (1, 2, 3, 4)]


def test_an_event_at_the_first_instant_is_taken_up_at_once() -> None:
    assert ms(play([0.0], network__to_broadcaster=0.0).notifications["received_at"]) == [1 + 0.1 + 3]


def test_who_comes_between_two_events_is_written_to_after_those_that_were_there() -> None:
    members, told = Members(), list[list[int]]()
    one, other = (PageConnection(subscriber, Unheard(EventList(), subscriber)) for subscriber in (4, 2))
    for step in (lambda: members.join(one), lambda: members.join(other), lambda: members.leave(one)):
        step()
        told.append(members.columns()[1].tolist())
    assert told == [[4], [4, 2], [2]]


def test_a_nanosecond_between_two_frames_is_time_too() -> None:
    tables = play([1.0], pages__0__subscribers=3, broadcaster__per_subscriber=1e-9)
    assert ms(tables.notifications["received_at"]) == [1006.000001, 1006.000002, 1006.000003]


def test_a_payload_costs_time_between_writes() -> None:
    full = {"broadcast__payload": "full", "broadcast__payload_bytes": 98_500, "broadcaster__per_byte": 1e-8}
    tables = play([1.0], pages__0__subscribers=3, **full)
    assert ms(tables.notifications["received_at"]) == [1006.0 + 1.1 * k for k in (1, 2, 3)]


def test_a_publish_that_opens_a_connection_goes_there_and_back_before() -> None:
    assert ms(play([1.0], broadcaster__keep_alive=False).updates["published_at"]) == [1006.0]


def test_nagle_holds_back_what_follows_until_the_first_is_acknowledged() -> None:
    """Written at 1003.1, arrived at 1006.1, acknowledged 40 ms later, which takes 3 ms back: 1049.1. Two that wait for that leave
    together; the next one then is acknowledged at 1095.1."""
    tables = play([1.0, 1.01, 1.02, 1.06, 1.2], broadcaster__nagle=True)
    assert ms(tables.notifications["received_at"]) == [1006.1, 1052.1, 1052.1, 1098.1, 1206.1]
    assert tables.notifications["update"].tolist() == [0, 1, 2, 3, 4]


def test_nagle_lets_a_frame_leave_with_those_that_leave_at_the_instant_at_which_it_is_written() -> None:
    tables = play([1.0, 1.01, 1.046], broadcaster__nagle=True)
    assert ms(tables.notifications["received_at"]) == [1006.1, 1052.1, 1052.1]


def test_nagle_holds_back_the_second_of_two_frames_that_are_written_at_one_instant() -> None:
    tables = play([1.0, 1.0], broadcaster__nagle=True, broadcaster__fixed=0.0, broadcaster__per_subscriber=0.0)
    assert ms(tables.notifications["received_at"]) == [1005.0, 1051.0]


def test_nagle_is_per_connection() -> None:
    tables = play([1.0], pages=[{"page": "detail", "subscribers": 3}], broadcaster__nagle=True)
    assert ms(tables.notifications["received_at"]) == [1006.1, 1006.2, 1006.3]


@pytest.mark.parametrize("down", [0.0, 0.05])
def test_a_restart_ends_the_fan_out_that_was_under_way(down: float) -> None:
    """1,000 subscribers at 10 ms each are ten seconds of writing. After the restart at 2 s the node is free at once."""
    tables = play(
        [1.0, 5.0],
        pages__0__subscribers=1000,
        broadcaster__per_subscriber=0.01,
        incidents=[{"kind": "restart", "at": 2.0, "down": down}],
    )
    again = tables.notifications[tables.notifications["update"] == 1]
    assert ms(again["received_at"])[0] == 5000 + 2 + 1 + 10 + 3
    before = tables.notifications[tables.notifications["update"] == 0]
    assert len(before) == 99, "those that were written, and arrived, until 2 s"


def test_busy_is_by_the_window_and_without_what_a_restart_ended() -> None:
    """Ten seconds of window; one event of a second, and one that a restart ends after half of that."""
    slow = {"pages__0__subscribers": 99, "broadcaster__per_subscriber": 0.01, "broadcaster__fixed": 0.01}
    assert metric(play([3.0], **slow), "busy_ratio.0") == pytest.approx(0.1)
    assert metric(play([9.5], **slow), "busy_ratio.0") == pytest.approx(0.0498), "the rest is in the drain"
    ended = play([3.0], incidents=[{"kind": "restart", "at": 3.502}], **slow)
    assert metric(ended, "busy_ratio.0") == pytest.approx(0.05)


def test_a_restart_ends_what_waits_to_be_written_too_and_counts_what_was() -> None:
    """Events of a second each. At 3.5 s the first two are written; of the third, half; the fourth waits."""
    slow = {"pages__0__subscribers": 100, "broadcaster__per_subscriber": 0.01, "broadcaster__fixed": 0.0}
    tables = play([1.0, 1.1, 1.2, 1.3], incidents=[{"kind": "restart", "at": 3.502 + 0.0001}], **slow)
    assert metric(tables, "frames") == 250
    assert metric(tables, "bytes") == pytest.approx(250 * metric(play([1.0]), "bytes"))
    assert len(tables.notifications) == 249, "the last one was on its way"


@pytest.mark.parametrize("channels", ["both", "generic"])
def test_frames_that_are_not_written_when_the_run_ends_are_none(channels: str) -> None:
    """Events of seconds each, over two nodes: both engines count what has left by the end."""
    pages = [{"page": "detail", "subscribers": 7}, {"page": "dashboard", "subscribers": 30}]
    slow: dict[str, Any] = {"pages": pages, "broadcaster__nodes": 2, "broadcaster__per_subscriber": 0.1, "drain": 0}
    crowded = scene([8.0, 8.2, 8.4, 8.6, 9.9], broadcast__channels=channels, network__to_subscriber=0.0, **slow)
    counts = []
    for engine in ("reference", "fleet"):
        made = engines.run(crowded, engine)  # type: ignore[arg-type]
        counts.append([made.summary[f"broadcaster.{name}"]["value"] for name in ("frames", "bytes")])
        assert counts[-1][0] == made.summary["notifications.heard"]["value"] > 0
    assert counts[0] == counts[1]


@pytest.mark.parametrize(("answer", "tries"), [("before", 0), ("after", 1)])
def test_a_publish_that_a_restart_leaves_without_an_answer_is_tried_again(answer: str, tries: int) -> None:
    """Reverb answers after the fan-out: killed within, it has told some, and is told again."""
    slow = {"pages__0__subscribers": 100, "broadcaster__per_subscriber": 0.01, "broadcast__backoff": 3.0}
    tables = play([1.0], broadcaster__answer=answer, incidents=[{"kind": "restart", "at": 1.5}], **slow)
    assert ms(tables.updates["published_at"]) == [1002.0], "first accepted"
    again = tables.notifications[tables.notifications["received_at"] > 2]
    assert len(again) == 100 * tries
    assert len(tables.notifications) - len(again) == 49
