"""Version 1 as version 2: nulls for sentinels, lives from subscriptions."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sim.results.upgrade import lives, upgraded
from tests.results.frames import NAN, Frames, frame, notification, refetch, update


def as_version_1(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(**{name: frame[name].fillna(-1).astype("int64") for name in frame.select_dtypes(["Int64", "Int32"])})


def test_sentinels_become_nulls_and_an_end_is_open() -> None:
    rows = Frames(
        frame("updates", [update(0, 1.0), update(1, 2.0, version=None) | {"version": None, "sequence": None}]),
        frame("notifications", [notification(None, 0, 1.1)]),
        frame(
            "refetches",
            [
                refetch(0, 1.5, 1),
                refetch(0, 2.5, None, outcome="failed", status=None),
                refetch(0, 3.0, None, outcome="cancelled", finished_at=NAN, status=None),
                refetch(0, 3.0, None, outcome="cancelled", started_at=NAN, finished_at=NAN, status=None),
            ],
        ),
        frame("subscriptions", [{"subscriber": 0, "ended_at": 12.1, "reason": "end"}]),
    )
    old = {name: as_version_1(getattr(rows, name)) for name in ("updates", "notifications", "refetches", "subscriptions")}
    new = upgraded(old | {"metrics": rows.metrics}, weight=4.0)
    assert new["updates"]["version"].isna().tolist() == [False, True]
    assert new["notifications"]["update"].isna().all()
    assert new["refetches"]["status"].isna().tolist() == [False, True, True]
    assert new["refetches"]["outcome"].tolist() == ["applied", "failed", "running"]
    assert np.isnan(new["subscriptions"]["ended_at"][0])
    page = new["pages"].iloc[0]
    assert (page["reason"], page["weight"], page["opened_at"]) == ("end", 4.0, -1.0)
    assert np.isnan(page["closed_at"])


def test_a_seat_that_is_taken_again_after_its_page_left_is_two_lives() -> None:
    rows = [
        {"subscriber": 3, "channel": "a", "subscribed_at": 0.0, "ended_at": 4.0, "reason": "dropped"},
        {"subscriber": 3, "channel": "a", "subscribed_at": 5.0, "ended_at": 10.0, "reason": "closed"},
        {"subscriber": 3, "channel": "b", "subscribed_at": 0.1, "ended_at": 10.0, "reason": "closed"},
        {"subscriber": 3, "channel": "a", "subscribed_at": 10.5, "reason": "end"},
        {"subscriber": 3, "channel": "b", "subscribed_at": 10.6, "reason": "end"},
        {"subscriber": 7, "channel": "a", "subscribed_at": 1.0, "ended_at": 2.0, "reason": "dropped"},
    ]
    pages, number = lives(frame("subscriptions", rows))
    assert pages["subscriber"].tolist() == [3, 8, 7]
    assert pages["opened_at"].tolist() == [0.0, 10.5, 1.0]
    assert pages["closed_at"].fillna(-1).tolist() == [10.0, -1, -1]
    at = np.array([-1.0, 9.0, 10.2, 11.0, 3.0])
    assert number(np.array([3, 3, 3, 3, 7]), at).tolist() == [3, 3, 3, 8, 7]
