"""Notifications that do not say which update they are of."""

from __future__ import annotations

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from sim.live.measure.attribution import UNKNOWN, attribute, per_channel

CHANNEL = "private-servers"


def updates(started: list[int], took: int = 5) -> pd.DataFrame:
    rows = pd.DataFrame({"update": range(len(started)), "sequence": range(1, len(started) + 1), "status": "committed"})
    rows["started_at"], rows["finished_at"] = started, [at + took for at in started]
    return per_channel(rows, [[CHANNEL]] * len(rows))


def heard(*received: int, update: int = UNKNOWN, subscriber: int = 0) -> pd.DataFrame:
    return pd.DataFrame({"update": update, "subscriber": subscriber, "channel": CHANNEL, "received_at_ns": received})


def subscribed(since: int = 0, until: int = -1, subscriber: int = 0) -> pd.DataFrame:
    return pd.DataFrame({"subscriber": [subscriber], "channel": [CHANNEL], "subscribed_at_ns": [since], "ended_at_ns": [until]})


def test_as_many_as_were_sent_are_each_the_next_one() -> None:
    # Overlapping requests: the second was sent before the first was heard of.
    assert attribute(heard(13, 14, 40), updates([10, 12, 35]), subscribed()).tolist() == [0, 1, 2]


def test_rows_may_come_in_any_order() -> None:
    assert attribute(heard(40, 13, 14), updates([10, 12, 35]), subscribed()).tolist() == [2, 0, 1]


def test_what_is_left_over_was_lost() -> None:
    assert attribute(heard(13, 55), updates([10, 30, 50]), subscribed()).tolist() == [0, 2]


def test_only_what_was_sent_while_subscribed_counts() -> None:
    assert attribute(heard(32, 52), updates([10, 30, 50]), subscribed(since=20)).tolist() == [1, 2]
    assert attribute(heard(12, 32), updates([10, 30, 50]), subscribed(until=40)).tolist() == [0, 1]


def test_a_known_update_is_kept_and_a_stranger_stays_unknown() -> None:
    both = pd.concat([heard(13, update=7), heard(5, subscriber=1)], ignore_index=True)
    assert attribute(both, updates([10]), subscribed()).tolist() == [7, UNKNOWN]
    elsewhere = heard(13).assign(channel="private-sites")
    assert attribute(elsewhere, updates([10]), subscribed()).tolist() == [UNKNOWN]


def test_publication_order_is_the_sequence_and_what_failed_was_not_published() -> None:
    rows = pd.DataFrame(
        {
            "update": [0, 1, 2],
            "sequence": [2, 1, -1],
            "status": ["committed", "committed", "failed"],
            "started_at": [10, 11, 12],
            "finished_at": [20, 20, 20],
        }
    )
    assert per_channel(rows, [["a"], ["a", "b"], ["a"]])[["update", "channel"]].to_numpy().tolist() == [
        [1, "a"],
        [1, "b"],
        [0, "a"],
    ]


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=20), st.data())
def test_order_is_kept_and_no_update_is_used_twice(gaps: list[int], data: st.DataObject) -> None:
    started = np.cumsum(gaps).tolist()
    kept = data.draw(st.lists(st.booleans(), min_size=len(started), max_size=len(started)))
    received = [at + 3 for at, keep in zip(started, kept, strict=True) if keep]
    found = attribute(heard(*received), updates(started), subscribed())
    used = found[found >= 0]
    assert len(used) == len(received)
    assert (np.diff(used) > 0).all()
    assert all(started[update] <= at for update, at in zip(found, received, strict=True))
