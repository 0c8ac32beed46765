"""Which update is this notification of? For targets whose payload does not say.

A channel is a queue: what is published on it arrives in that order at each of its subscribers. So the notifications of one
subscriber on one channel are matched in order with the updates that were broadcast there while it was subscribed. Where as many
came as were sent, each is the next one. Where some are missing, each is taken, from the last backwards, for the latest update
that was sent before it came; what is left over is what was lost.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import numpy as np
import pandas as pd

UNKNOWN = -1
FOREVER = np.iinfo(np.int64).max


def attribute(notifications: pd.DataFrame, sent: pd.DataFrame, subscriptions: pd.DataFrame) -> np.ndarray:
    """The update of each notification, in the order of the rows; `UNKNOWN` where none fits. Instants in ns.

    *notifications*: update (kept where it is known), subscriber, channel, received_at_ns. *sent*: see `per_channel`.
    *subscriptions*: subscriber, channel, subscribed_at_ns, ended_at_ns (-1: never).
    """
    known = notifications["update"].to_numpy().copy()
    received = notifications["received_at_ns"].to_numpy()
    queues = {str(channel): rows for channel, rows in sent.groupby("channel", sort=False)}
    intervals = _positions(subscriptions)
    since = subscriptions["subscribed_at_ns"].to_numpy()
    until = subscriptions["ended_at_ns"].replace(-1, FOREVER).to_numpy()
    asked = notifications[known < 0].reset_index(drop=True)
    rows = np.flatnonzero(known < 0)
    for (subscriber, channel), group in _positions(asked).items():
        queue = queues.get(channel)
        if queue is None:
            continue
        mine = rows[group]
        mine = mine[np.argsort(received[mine], kind="stable")]
        own = intervals.get((subscriber, channel), np.empty(0, np.int64))
        known[mine] = _match(received[mine], queue, since[own], until[own])
    return known


def _positions(frame: pd.DataFrame) -> dict[tuple[int, str], np.ndarray]:
    """Row numbers by subscriber and channel."""
    return cast(dict[tuple[int, str], np.ndarray], frame.groupby(["subscriber", "channel"], sort=False).indices)


def _match(received: np.ndarray, queue: pd.DataFrame, since: np.ndarray, until: np.ndarray) -> np.ndarray:
    """Updates of one subscriber's notifications on one channel, both in order."""
    updates, started, finished = (queue[name].to_numpy() for name in ("update", "started_at", "finished_at"))
    inside = ((started[:, None] >= since) & (finished[:, None] <= until)).any(axis=1)
    if len(received) == inside.sum() and (started[inside] <= received).all():
        return updates[inside]
    found = np.full(len(received), UNKNOWN)
    latest = len(updates)
    candidates = np.searchsorted(np.maximum.accumulate(started), received, side="right")
    for i in range(len(received) - 1, -1, -1):
        latest = min(latest, int(candidates[i])) - 1
        if latest < 0:
            break
        found[i] = updates[latest]
    return found


def per_channel(rows: pd.DataFrame, channels: Iterable[list[str]]) -> pd.DataFrame:
    """One row per update and channel, in the order of publication: by sequence where the target counts, else by the answer.

    *rows*: update, sequence, status, started_at, finished_at; *channels*: those of each row. What failed was not published.
    """
    names = ("update", "sequence", "status", "started_at", "finished_at")
    listed = []
    for (update, sequence, status, started, finished), on in zip(rows[list(names)].to_numpy().tolist(), channels, strict=True):
        if status == "committed":
            rank = sequence if sequence >= 0 else finished
            listed += [(update, channel, rank, started, finished) for channel in on]
    frame = pd.DataFrame(listed, columns=["update", "channel", "rank", "started_at", "finished_at"])
    return frame.sort_values("rank", kind="stable").reset_index(drop=True)
