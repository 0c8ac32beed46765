"""Which update is this notification of? For targets whose payload does not say.

Every page that hears a broadcast gets the same bytes. So the question is asked once per event and not once per page: what was
heard on a channel, in the order in which it was first heard, and what was published there, in the order of publication, are
matched one to one, first in first out:

    published on private-servers.5    u7 at 1.0000   u9 at 1.0035              (two changes of one server, 3.5 ms apart)
    first heard there                      e at 1.0080       f at 1.0081       -> e is u7, f is u9: nothing is lost

    published                         u7 at 1.0      u9 at 2.0      u12 at 3.0
    first heard                            e at 1.01                     f at 3.01
                                      -> f is u12 (the latest that was sent before it came), e is u7; u9 was heard by nobody

Where the payload names the resource (`server_id`), each resource has a row of its own. The same bytes may come twice: two changes
of one resource within the resolution of its time stamp, or one event that was delivered twice. Then the second arrival at a page
is taken for the second change where there was one, and for a duplicate of the first where there was not.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

UNKNOWN = -1

Published = pd.DataFrame
"""One row per update and channel, in the order of publication: update, channel, resource_id, started_at (ns)."""


def attribute(notifications: pd.DataFrame, events: pd.DataFrame, published: Published) -> pd.Series:
    """The update of each notification (nullable, by the index of *notifications*); null where none fits.

    *notifications*: update (kept where it is not `UNKNOWN`), event, subscriber, channel, received_at_ns. *events*: event,
    resource_id (null: its payload does not say).
    """
    known = notifications["update"].where(notifications["update"] != UNKNOWN).astype("Int64")
    asked = notifications[known.isna()].sort_values("received_at_ns", kind="stable")
    if asked.empty:
        return known
    asked = asked.assign(repeat=asked.groupby(["event", "channel", "subscriber"], observed=True, sort=False).cumcount())
    key = ["channel", "event", "repeat"]
    heard = asked.groupby(key, observed=True)["received_at_ns"].min().rename("first_at").reset_index()
    heard["resource_id"] = heard["event"].map(events.groupby("event")["resource_id"].first()).astype("Int64")
    heard = heard.sort_values("first_at", kind="stable").reset_index(drop=True)
    heard["update"] = pd.array([pd.NA] * len(heard), dtype="Int64")
    for broadcasts, queue in _queues(heard, published):
        position = match(broadcasts["first_at"].to_numpy(), broadcasts["repeat"].to_numpy() > 0, queue["started_at"].to_numpy())
        matched = position >= 0
        heard.loc[broadcasts.index[matched], "update"] = queue["update"].to_numpy()[position[matched]]
    # What repeats and found no update of its own is the same event once more.
    heard = heard.sort_values(key, kind="stable")
    heard["update"] = heard.groupby(["channel", "event"], observed=True)["update"].ffill()
    found = asked.reset_index().merge(heard[[*key, "update"]], on=key, suffixes=("_", "")).set_index("index")["update"]
    return known.fillna(found)


def tell_apart(notifications: pd.DataFrame, events: pd.DataFrame) -> pd.Series:
    """The update of each notification where nobody of ours published: the different events, numbered as they were first heard.
    The same bytes once more at one page are another event."""
    rows = notifications.sort_values("received_at_ns", kind="stable")
    repeat = rows.groupby(["event", "channel", "subscriber"], observed=True, sort=False).cumcount()
    return (
        rows.assign(repeat=repeat).groupby(["event", "repeat"], sort=False).ngroup().astype("Int64").reindex(notifications.index)
    )


def _queues(heard: pd.DataFrame, published: Published) -> Iterator[tuple[pd.DataFrame, Published]]:
    """What was heard with what was published, channel by channel, and resource by resource where the events say which."""
    by_channel = dict(tuple(published.groupby("channel", sort=False)))
    for channel, broadcasts in heard.groupby("channel", sort=False, observed=True):
        queue = by_channel.get(channel)
        if queue is None:
            continue
        if broadcasts["resource_id"].isin(set(queue["resource_id"])).all():
            of_resource = dict(tuple(queue.groupby("resource_id", sort=False)))
            yield from ((mine, of_resource[id]) for id, mine in broadcasts.groupby("resource_id", sort=False))
        else:
            yield broadcasts, queue


def match(first_at: np.ndarray, repeats: np.ndarray, started_at: np.ndarray) -> np.ndarray:
    """Position of the update of each broadcast, or -1. Both rows are in order; no update is given twice; order is kept.

    *repeats*: whether the same bytes were heard before, so that this may be the same event. Where as many were heard as were
    published, the n-th is the n-th. Where there are fewer or more, each is taken, from the last backwards, for the latest update
    that was sent before it was heard.
    """
    found = np.full(len(first_at), -1)
    taken = np.arange(len(first_at))
    spare = len(first_at) - len(started_at)
    if spare > 0:
        taken = np.setdiff1d(taken, np.flatnonzero(repeats)[-spare:])
    if len(taken) == len(started_at) and (started_at <= first_at[taken]).all():
        found[taken] = np.arange(len(started_at))
        return found
    latest = len(started_at)
    before = np.searchsorted(np.maximum.accumulate(started_at), first_at, side="right")
    for i in taken[::-1]:
        latest = min(latest, int(before[i])) - 1
        if latest < 0:
            break
        found[i] = latest
    return found


def per_channel(rows: pd.DataFrame) -> Published:
    """In the order of publication: by sequence where the target counts, else by the answer.

    *rows*: update, resource_id, channels, sequence (null: not told), status, started_at, finished_at. What failed or changed
    nothing was not published; what nobody knows may have been.
    """
    sent = rows[rows["status"].isin(("committed", "unknown"))].explode("channels").rename(columns={"channels": "channel"})
    by = "sequence" if sent["sequence"].notna().all() else "finished_at"
    sent = sent.dropna(subset="channel").sort_values(by, kind="stable")
    return sent[["update", "channel", "resource_id", "started_at"]].reset_index(drop=True)
