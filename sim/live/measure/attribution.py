"""The update of each notification, for targets whose payload does not name it.

Every page that hears a broadcast gets the same bytes, so events are matched and not notifications: what was heard on a channel,
in the order in which it was first heard, with what was published there, in the order of publication, one to one and first in
first out:

    published on private-servers.5    u7 at 1.0000   u9 at 1.0035              (two changes of one server, 3.5 ms apart)
    first heard there                      e at 1.0080       f at 1.0081       -> e is u7, f is u9: nothing is lost

    published                         u7 at 1.0      u9 at 2.0      u12 at 3.0
    first heard                            e at 1.01                     f at 3.01
                                      -> f is u12 (the latest that was sent before it came), e is u7; u9 was heard by nobody

Where the payload names the resource (`server_id`), each resource is matched by itself. The same bytes may come twice: two changes
of one resource within the resolution of its time stamp, or one event that was delivered twice. The number of broadcasts of such
bytes is the number of updates after each of which they came and before the next was sent, or the number that most pages heard, or
the largest number that a page heard, or one: the first of these with which as many were heard as were published. At each page an
arrival then belongs to the latest of these broadcasts that was sent before it, and each broadcast has one arrival at most, while
there are enough of them; further arrivals are duplicates. So a page that missed the first of two broadcasts, or received it
twice, still has the right update for the second.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from sim.arrays import Array

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
    key = ["channel", "event"]
    of_page = asked.groupby([*key, "subscriber"], observed=True, sort=False)["received_at_ns"].agg(["min", "size"])
    heard = of_page.groupby(key, observed=True, sort=False).agg(
        first_at=("min", "min"), usual=("size", "median"), most=("size", "max")
    )
    heard = heard.sort_values("first_at", kind="stable").reset_index()
    heard["resource_id"] = heard["event"].map(events.groupby("event")["resource_id"].first()).astype("Int64")
    rows = asked.reset_index().merge(heard.reset_index(names="broadcast")[[*key, "broadcast"]], on=key)
    single = np.full(len(heard), UNKNOWN)
    found = np.full(len(rows), UNKNOWN)
    arrivals: Any = rows.groupby("broadcast").indices
    for broadcasts, queue in _queues(heard, published):
        updates, started_at = queue["update"].to_numpy(), queue["started_at"].to_numpy()
        places, most = broadcasts.index.to_numpy(), broadcasts["most"].to_numpy()
        counts = [broadcasts["usual"].to_numpy().astype(int), most]
        if (most > 1).any():
            at = (rows["received_at_ns"].to_numpy()[arrivals[place]] for place in places)
            latest = np.maximum.accumulate(started_at)
            by_time = np.array([len(np.unique(np.searchsorted(latest, came, side="right"))) for came in at])
            if (by_time <= most).all():
                counts.insert(0, by_time)
        first = match(broadcasts["first_at"].to_numpy(), started_at, counts)
        single[places[first >= 0]] = updates[first[first >= 0]]
        count = np.minimum(np.diff(np.r_[first, len(updates)]), most)
        for place in np.flatnonzero((first >= 0) & (count > 1)):
            mine = arrivals[places[place]]
            several = slice(first[place], first[place] + count[place])
            page, at = (rows[name].to_numpy()[mine] for name in ("subscriber", "received_at_ns"))
            found[mine] = updates[several][one_each(page, at, started_at[several])]
    update = np.where(found == UNKNOWN, single[rows["broadcast"].to_numpy()], found)
    named = pd.Series(update, rows["index"].to_numpy()).astype("Int64")
    return known.fillna(named[named != UNKNOWN])


def one_each(page: Array, at: Array, started_at: Array) -> Array:
    """For arrivals of the same bytes, sent several times: the place of the sending that each belongs to. Rows in any order."""
    order = np.lexsort((at, page))
    serial = np.arange(len(order))
    latest = np.searchsorted(np.maximum.accumulate(started_at), at[order], side="right") - 1
    # An arrival leaves a sending for each later arrival at its page.
    left = pd.Series((latest - serial)[::-1]).groupby(page[order][::-1]).cummin().to_numpy()[::-1]
    place = np.empty(len(order), int)
    place[order] = np.maximum(left + serial, 0)
    return place


def tell_apart(notifications: pd.DataFrame, events: pd.DataFrame) -> pd.Series:
    """The update of each notification where the workbench published nothing: different events, numbered as they were first heard.
    The same bytes once more at one page are another event."""
    rows = notifications.sort_values("received_at_ns", kind="stable")
    repeat = rows.groupby(["event", "channel", "subscriber"], observed=True, sort=False).cumcount()
    return (
        rows.assign(repeat=repeat).groupby(["event", "repeat"], sort=False).ngroup().astype("Int64").reindex(notifications.index)
    )


def _queues(heard: pd.DataFrame, published: Published) -> Iterator[tuple[pd.DataFrame, Published]]:
    """What was heard with what was published, channel by channel, and resource by resource where the events name one."""
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


def match(first_at: Array, started_at: Array, counts: Sequence[Array] = ()) -> Array:
    """Position of the (first) update of each event, or -1. Both rows are in order; no update is given twice; order is kept.

    *counts*: possible numbers of broadcasts of each event, the likeliest first; at last each event is taken for one broadcast.
    With the first of these whose sum is the number of updates, the n-th broadcast is of the n-th update. Where none fits, each
    event, from the last backwards, is of the latest update that was sent before it was heard.
    """
    for count in (*counts, np.ones(len(first_at), int)):
        first = np.cumsum(count) - count
        if count.sum() == len(started_at) and (started_at[first] <= first_at).all():
            return np.asarray(first)
    found = np.full(len(first_at), -1)
    latest = len(started_at)
    before = np.searchsorted(np.maximum.accumulate(started_at), first_at, side="right")
    for i in range(len(first_at) - 1, -1, -1):
        latest = min(latest, int(before[i])) - 1
        if latest < 0:
            break
        found[i] = latest
    return found


def per_channel(rows: pd.DataFrame) -> Published:
    """In the order of publication: by sequence where the target counts, else by the answer (where none came, by the request: the
    instant at which the publisher gave up says nothing).

    *rows*: update, resource_id, channels, sequence (null: not known), status, http_status (null: no answer), started_at,
    finished_at. What failed or changed nothing was not published; what is unknown may have been.
    """
    rows = rows.assign(answered_at=rows["finished_at"].where(rows["http_status"].notna(), rows["started_at"]))
    sent = rows[rows["status"].isin(("committed", "unknown"))].explode("channels").rename(columns={"channels": "channel"})
    by = "sequence" if sent["sequence"].notna().all() else "answered_at"
    sent = sent.dropna(subset="channel").sort_values(by, kind="stable")
    return sent[["update", "channel", "resource_id", "started_at"]].reset_index(drop=True)
