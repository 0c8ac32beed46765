"""Notifications that do not say which update they are of."""

from __future__ import annotations

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from sim.live.measure.attribution import UNKNOWN, Published, attribute, match, per_channel

CHANNEL = "private-servers"
MS = 1_000_000


def published(started: list[int], resources: list[int] | None = None, channel: str = CHANNEL) -> Published:
    rows = pd.DataFrame(
        {"update": range(len(started)), "sequence": range(1, len(started) + 1), "status": "committed", "http_status": 200}
    )
    rows["resource_id"] = resources or [1] * len(started)
    rows["started_at"], rows["finished_at"] = started, [at + 5 for at in started]
    return per_channel(rows.assign(channels=[[channel]] * len(rows)))


def heard(*rows: tuple[int, int, int], update: int = UNKNOWN, channel: str = CHANNEL) -> pd.DataFrame:
    """(event, subscriber, received_at)."""
    frame = pd.DataFrame(list(rows), columns=["event", "subscriber", "received_at_ns"])
    return frame.assign(update=update, channel=channel)


def events(**resources: int) -> pd.DataFrame:
    """e<event>=<resource id>."""
    rows = [(int(name[1:]), id) for name, id in resources.items()]
    return pd.DataFrame(rows, columns=["event", "resource_id"]).astype({"resource_id": "Int64"})


def found(notifications: pd.DataFrame, sent: Published, **resources: int) -> list[int | None]:
    return [None if pd.isna(update) else int(update) for update in attribute(notifications, events(**resources), sent)]


def test_two_changes_of_one_server_in_quick_succession_are_both_found_at_every_page() -> None:
    # Of truth.md: 3.5 ms apart, nothing lost, by eight pages that hear both after both were sent.
    pages = [row for page in range(8) for row in ((70, page, 8 * MS + page), (71, page, 8 * MS + 10 + page))]
    assert found(heard(*pages), published([0, 3_500_000])) == [0, 1] * 8


def test_rows_may_come_in_any_order() -> None:
    assert found(heard((3, 0, 40), (1, 0, 13), (2, 0, 14)), published([10, 12, 35])) == [2, 0, 1]


def test_what_nobody_heard_is_left_over() -> None:
    assert found(heard((1, 0, 13), (3, 0, 55)), published([10, 30, 50])) == [0, 2]


def test_a_page_that_missed_one_does_not_shift_the_others() -> None:
    rows = heard((1, 0, 13), (2, 0, 33), (3, 0, 53), (1, 1, 13), (3, 1, 53))
    assert found(rows, published([10, 30, 50])) == [0, 1, 2, 0, 2]


def test_each_resource_has_a_row_of_its_own_where_the_payload_names_it() -> None:
    # Server 2's event overtakes server 1's: by order alone they would be exchanged.
    sent = published([10, 12], resources=[1, 2])
    assert found(heard((8, 0, 15), (9, 0, 20)), sent, e8=2, e9=1) == [1, 0]
    assert found(heard((8, 0, 15), (9, 0, 20)), sent) == [0, 1]
    # Numbers that are no resource of ours name something else.
    assert found(heard((8, 0, 15), (9, 0, 20)), sent, e8=500, e9=501) == [0, 1]


def test_the_same_bytes_twice_are_two_updates_where_there_were_two_and_else_a_duplicate() -> None:
    twice = heard((7, 0, 13), (7, 0, 14), (7, 1, 13), (7, 1, 14))
    assert found(twice, published([10, 11])) == [0, 1, 0, 1]
    assert found(twice, published([10])) == [0, 0, 0, 0]
    assert found(heard((7, 0, 13), (7, 0, 14), (8, 0, 33)), published([10, 30])) == [0, 0, 1]


def test_what_came_twice_is_two_updates_where_two_were_sent_meanwhile() -> None:
    """Event 5 is two updates, of which pages 0 and 1 missed the first. Event 6 is one, which two pages got twice. One page heard
    event 5 twice, and most heard event 6 twice: by these counts the fourth update would be the third and the fourth."""
    rows = [
        (4, 0, 13),
        (5, 2, 33),
        (5, 0, 53),
        (5, 1, 53),
        (5, 2, 54),
        (6, 0, 93),
        (6, 0, 94),
        (6, 1, 93),
        (6, 2, 93),
        (6, 2, 94),
    ]
    assert found(heard(*rows), published([10, 30, 50, 90])) == [0, 1, 2, 2, 2, 3, 3, 3, 3, 3]


def test_the_same_bytes_are_told_apart_at_each_page_by_when_they_came() -> None:
    # Two changes in one second, at 10 and 410: the second page missed the first, the third heard it twice, the fourth the second.
    pages = [(0, 13), (0, 414), (1, 413), (2, 14), (2, 15), (2, 415), (3, 13), (3, 416), (3, 417)]
    same = heard(*((7, page, at) for page, at in pages))
    assert found(same, published([10, 410])) == [0, 1, 1, 0, 0, 1, 0, 0, 1]
    # One of many is heard twice by some, and another was lost: nothing moves.
    rows = heard((7, 0, 13), (7, 0, 14), (7, 1, 13), (8, 0, 53), (8, 1, 53), (8, 1, 54), (9, 0, 73), (9, 1, 73))
    assert found(rows, published([10, 30, 50, 70])) == [0, 0, 0, 2, 2, 2, 3, 3]


def test_a_slow_page_does_not_take_what_was_lost() -> None:
    assert found(heard((1, 0, 13), (1, 1, 45), (3, 0, 53), (3, 1, 54)), published([10, 30, 50])) == [0, 0, 2, 2]


def test_a_known_update_is_kept_and_a_stranger_stays_unknown() -> None:
    both = pd.concat([heard((1, 0, 13), update=7), heard((2, 1, 5))], ignore_index=True)
    assert found(both, published([10])) == [7, None]
    assert found(heard((1, 0, 13), channel="private-sites"), published([10])) == [None]


def test_publication_order_is_the_sequence_and_what_failed_was_not_published() -> None:
    rows = pd.DataFrame(
        {
            "update": [0, 1, 2, 3],
            "channels": [["a"], ["a", "b"], ["a"], []],
            "resource_id": 1,
            "sequence": [2, 1, pd.NA, pd.NA],
            "status": ["committed", "committed", "failed", "unchanged"],
            "started_at": [10, 11, 12, 13],
            "finished_at": [20, 20, 20, 20],
            "http_status": pd.array([200, 200, 500, 200], dtype="Int32"),
        }
    )
    assert per_channel(rows)[["update", "channel"]].to_numpy().tolist() == [[1, "a"], [1, "b"], [0, "a"]]
    # Where one has no number, the answers' order decides for all: they are not compared with numbers.
    unknown = rows.assign(status=["committed", "committed", "unknown", "failed"], finished_at=[20, 21, 22, 23])
    assert per_channel(unknown)["update"].tolist() == [0, 1, 1, 2]
    # Those that were given up together, in whatever order, come by their requests.
    silent = unknown.assign(status="unknown", http_status=pd.array([None] * 4, dtype="Int32"), finished_at=[23, 22, 21, 20])
    assert per_channel(silent)["update"].tolist() == [0, 1, 1, 2]


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=20), st.data())
def test_order_is_kept_and_no_update_is_given_twice(gaps: list[int], data: st.DataObject) -> None:
    started = np.cumsum(gaps)
    kept = np.array(data.draw(st.lists(st.booleans(), min_size=len(started), max_size=len(started))))
    count = int(kept.sum())
    first_at = np.sort(started[kept] + np.array(data.draw(st.lists(st.integers(0, 500), min_size=count, max_size=count)), int))
    positions = match(first_at, started)
    used = positions[positions >= 0]
    assert len(used) == len(first_at)
    assert (np.diff(used) > 0).all()
    assert (started[used] <= first_at).all()
    if kept.all():
        assert positions.tolist() == list(range(len(started)))
