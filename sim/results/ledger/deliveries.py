"""Where every delivery went: one number for each fate, so that nothing is dropped from a figure without being said.

    received        arrived
    missing.target  expected, on a connection that was there, and never came
    missing.harness the same, at a load process that did not hand in all its rows: nobody knows
    not_connected   the page was open, but not subscribed just then: refused, dropped, or not back yet
    duplicate       arrived once more
    out_of_order    arrived after a later one

received + missing is what the broadcaster had to deliver; with not_connected it is what the pages wanted.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from sim.results.ledger import freshness
from sim.results.ledger.freshness import Tables
from sim.scenario import Scenario

LOST = ("dropped", "refused")
"""Ends of a subscription after which the page still wants to hear."""


def account(tables: Tables, scenario: Scenario, unfinished: Sequence[tuple[int, int]] = ()) -> dict[str, int]:
    """The fates above over the whole run. *unfinished*: first and last subscriber of each load process that was lost."""
    expected = freshness.deliveries(tables, scenario)
    missing = expected[expected["received_at"].isna()]
    lost = np.zeros(len(missing), dtype=bool)
    for first, last in unfinished:
        lost |= missing["subscriber"].between(first, last).to_numpy()
    notifications = freshness.attribute(tables, scenario)
    return {
        "received": int(expected["received_at"].notna().sum()),
        "missing.target": int((~lost).sum()),
        "missing.harness": int(lost.sum()),
        "not_connected": not_connected(tables, scenario, expected),
        "duplicate": freshness.duplicates(notifications),
        "out_of_order": freshness.out_of_order(tables, notifications),
    }


def not_connected(tables: Tables, scenario: Scenario, expected: pd.DataFrame) -> int:
    """Deliveries that open pages missed because they were not subscribed when the update was published."""
    spans = _wanted(tables.subscriptions)
    published = tables.updates.dropna(subset=["published_at"])
    instants: dict[str, list[float]] = {}
    for resource, id, at in zip(published["resource"], published["resource_id"], published["published_at"], strict=True):
        for name in freshness.channels_of(str(resource), int(id), scenario):
            instants.setdefault(name, []).append(float(at))
    counted = expected.groupby("channel", observed=True).size()
    total = 0
    for channel, mine in spans.groupby("channel"):
        at = np.array(instants.get(str(channel), []))
        began, ended = np.sort(mine["since"].to_numpy()), np.sort(mine["until"].to_numpy())
        open_pages = np.searchsorted(began, at, side="right") - np.searchsorted(ended, at, side="right")
        total += max(0, int(open_pages.sum()) - int(counted.get(channel, 0)))
    return total


def _wanted(subscriptions: pd.DataFrame) -> pd.DataFrame:
    """One row per page and channel: since when and until when it wanted to hear. A page that lost it wants to until the end."""
    rows = subscriptions.assign(channel=subscriptions["channel"].astype(str), reason=subscriptions["reason"].astype(str))
    rows = rows[~rows["channel"].isin(["", "nan"])].sort_values("subscribed_at", kind="stable")
    rows["ended_at"] = rows["ended_at"].where(~rows["reason"].isin(LOST), np.inf).fillna(np.inf)
    grouped = rows.groupby(["channel", "subscriber"], sort=False)
    return pd.DataFrame({"since": grouped["subscribed_at"].first(), "until": grouped["ended_at"].last()}).reset_index()
