"""Deliveries: which were expected, which arrived, matched one to one, and what became of the others.

Expected is, for each accepted event and each of its channels, each subscription that was confirmed at or before the acceptance
and had not ended at it. The acceptance of a measured event lies between its commit (where that is not known: its intended
instant) and the end of the publish request. A subscription that began or ended in between was expected to hear exactly when it
did. No grace period hides losses.

Arrivals are matched by the update's serial; where the payload has none, in order of arrival with what was accepted on the
channel, first in first out. An arrival is never matched twice. An arrival that is left is a duplicate (its update had arrived) or
unexpected.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sim.arrays import Array
from sim.results.ledger.order import SortedGroups, place_of, ranges, whole
from sim.results.ledger.views import weight_of
from sim.scenario import Scenario

REASONS = {
    "target": "none of the other reasons: it was lost by the target, which a simulated one never does",
    "connection": "the subscription ended while the event was being sent: if measured, within its slowest arrival's time",
    "harness": "at a load process that did not hand in all its rows",
    "on_its_way": "the run was over while the event was being sent",
}
"""Why an expected delivery did not arrive."""


@dataclass(frozen=True, eq=False)
class Deliveries:
    """What had to be delivered, and what came beyond it."""

    expected: pd.DataFrame
    """One row per expected delivery, in order of the updates: update (serial), subscriber, channel, accepted_at, received_at
    (NaN: it did not arrive), ended_at (of the subscription; inf: open at the end), weight."""
    beyond: pd.DataFrame
    """One row per arrival beyond: update (nullable serial), subscriber, received_at, kind (duplicate, unexpected), weight."""


def channels_of(resource: str, resource_id: int, scenario: Scenario) -> list[str]:
    """Names on the wire of the channels on which a change of this resource is broadcast, as `Broadcast.channels` says."""
    specific, generic = f"private-{resource}s.{resource_id}", f"private-{resource}s"
    match scenario.broadcast.channels if resource != "task" else "specific":
        case "specific":
            return [specific]
        case "generic":
            return [generic]
        case "per_user":
            # Users own equal runs of ids, as the fleet is seeded.
            each = max(scenario.fleet.each(resource), 1)
            return [specific, f"private-users.{(resource_id - 1) // each + 1}.{resource}s"]
        case _:
            return [specific, generic]


KEY = ["update", "channel", "subscriber"]
"""What makes a delivery one of its own."""


def deliveries(tables: Any, scenario: Scenario, measured: bool) -> Deliveries:
    """All deliveries of a run. *measured*: acceptances are known as intervals only."""
    updates, heard, names = tables.updates, tables.notifications, _Names()
    passive = scenario.publisher.via == "none"
    place, channel = _heard_events(updates, heard, names) if passive else _events(updates, scenario, names)
    candidates = _candidates(_accepted(updates, place, channel, measured), tables.subscriptions, names)
    received, kind = _match(candidates, heard, names.codes(heard["channel"]), passive)
    kept = np.flatnonzero(candidates["certain"] | ~np.isnan(received))
    kept = kept[np.lexsort((candidates["subscriber"][kept], place_of(updates["update"], candidates["update"][kept])))]
    columns: dict[str, Any] = {name: column[kept] for name, column in (candidates | {"received_at": received}).items()}
    channels = pd.Categorical.from_codes(columns["channel"], categories=pd.Index(names.texts, dtype=object))
    columns |= {"channel": channels, "weight": weight_of(columns["subscriber"], tables.pages)}
    order = ("update", "subscriber", "channel", "accepted_at", "received_at", "ended_at", "weight")
    beyond = heard.loc[kind != "", ["update", "subscriber", "received_at"]].reset_index(drop=True)
    beyond = beyond.assign(kind=kind[kind != ""], weight=weight_of(beyond["subscriber"], tables.pages))
    return Deliveries(pd.DataFrame({name: columns[name] for name in order}), beyond)


Columns = dict[str, Array]
"""A table by its columns. Frames take longer to make than most runs have rows."""


def _accepted(updates: pd.DataFrame, place: Array, channel: Array, measured: bool) -> Columns:
    """One row per event and channel: update (serial), channel, accepted_at, earliest_at. The acceptance lies between the two."""
    accepted = updates["published_at"].to_numpy(float)[place]
    begun = updates["committed_at"].fillna(updates["intended_at"]).to_numpy(float)[place]
    serial = updates["update"].to_numpy(np.int64)[place]
    earliest = np.fmin(begun, accepted) if measured else accepted
    return {"update": serial, "channel": channel, "accepted_at": accepted, "earliest_at": earliest}


def _candidates(events: Columns, subscriptions: pd.DataFrame, names: _Names) -> Columns:
    """Deliveries that may have been expected, one for each `KEY`, in its order.

    Columns: those of *events*, subscriber, ended_at (of the subscription), and whether it was certain: open during the whole
    interval of the acceptance. Of one that was not it is known only when it arrives.
    """
    channel = names.codes(subscriptions["channel"])
    since = subscriptions["subscribed_at"].to_numpy(float)
    ended = subscriptions["ended_at"].fillna(np.inf).to_numpy(float)
    confirmed = np.flatnonzero((channel >= 0) & ~np.isnan(since) & (subscriptions["reason"] != "refused").to_numpy(bool))
    row, place = _open_at(events, channel[confirmed], since[confirmed], ended[confirmed])
    row = confirmed[row]
    found = {name: column[place] for name, column in events.items()}
    found |= {"subscriber": subscriptions["subscriber"].to_numpy(np.int64)[row], "ended_at": ended[row]}
    found["certain"] = (since[row] <= found["earliest_at"]) & (ended[row] > found["accepted_at"])
    # Where a subscription ended and another began within the interval, the certain one counts.
    order = np.lexsort((~found["certain"], found["accepted_at"], *(found[name] for name in reversed(KEY))))
    keys = np.stack([found[name][order] for name in KEY])
    first = np.r_[True, (keys[:, 1:] != keys[:, :-1]).any(axis=0)] if len(order) else np.zeros(0, bool)
    return {name: column[order[first]] for name, column in found.items()}


class _Names:
    """Texts as whole numbers, the same in all columns."""

    def __init__(self) -> None:
        self._number: dict[str, int] = {}

    @property
    def texts(self) -> list[str]:
        return list(self._number)

    def code(self, text: str) -> int:
        return self._number.setdefault(text, len(self._number))

    def codes(self, column: pd.Series) -> Array:
        """-1: nothing, or an empty text."""
        kinds = column.astype("category").cat
        number = [self.code(str(name)) if name != "" else -1 for name in kinds.categories]
        return np.array([*number, -1], dtype=np.int64)[kinds.codes.to_numpy()]


def _events(updates: pd.DataFrame, scenario: Scenario, names: _Names) -> tuple[Array, Array]:
    """(position of the update, channel) of each accepted event on each of its channels."""
    rows = np.flatnonzero(updates["published_at"].notna().to_numpy(bool))
    kinds, numbers = updates["resource"].to_numpy(object)[rows].tolist(), updates["resource_id"].to_numpy()[rows].tolist()
    on = [[names.code(name) for name in channels_of(*resource, scenario)] for resource in zip(kinds, numbers, strict=True)]
    return np.repeat(rows, [len(some) for some in on]), np.array([code for some in on for code in some], np.int64)


def _heard_events(updates: pd.DataFrame, heard: pd.DataFrame, names: _Names) -> tuple[Array, Array]:
    """The same where another program published: the channels on which an event was heard, and there may be others."""
    rows = heard[["update", "channel"]].dropna().drop_duplicates()
    place = place_of(updates["update"], rows["update"])
    return place[place >= 0], names.codes(rows["channel"])[place >= 0]


def _open_at(events: Columns, channel: Array, since: Array, ended: Array) -> tuple[Array, Array]:
    """Pairs (subscription, event on its channel) that overlap; an event is an interval from `earliest_at` to `accepted_at`."""
    on, earliest = events["channel"], events["earliest_at"]
    order = SortedGroups(on, events["accepted_at"])
    place = order.order
    # The earliest possible acceptance of an event or any after it on its channel: it only grows, so it can be searched.
    floor = _least_from_here(on[place], earliest[place])
    low = order.before(channel, since)
    high = SortedGroups(on[place], floor).before(channel, ended) if len(place) else low
    row, k = ranges(low, high)
    k = place[k]
    kept = earliest[k] < ended[row]
    return row[kept], k[kept]


def _least_from_here(group: Array, value: Array) -> Array:
    """The least value of each row's group from the row on. Groups one after the other, in their order."""
    distinct, rank = np.unique(value, return_inverse=True)
    ranks = len(distinct)
    return distinct[np.minimum.accumulate((group * ranks + rank)[::-1])[::-1] - group * ranks]


def _match(candidates: Columns, heard: pd.DataFrame, channel: Array, passive: bool) -> tuple[Array, Array]:
    """(received_at of each candidate, NaN: not received; for each arrival "", "duplicate" or "unexpected")."""
    serial, named = whole(heard["update"])
    arrivals = {"update": serial, "channel": channel, "subscriber": heard["subscriber"].to_numpy(np.int64)}
    at = heard["received_at"].to_numpy(float)
    received = np.full(len(candidates["update"]), np.nan)
    kind = np.full(len(heard), "", dtype=object)
    in_order = np.argsort(at, kind="stable")
    _by_serial(received, kind, candidates, arrivals, at, in_order[named[in_order]])
    if not named.all():
        unnamed = pd.DataFrame(arrivals | {"at": at}).iloc[in_order[~named[in_order]]]
        _first_in_first_out(received, kind, pd.DataFrame(candidates), unnamed)
        if passive:
            kind[~named & (kind == "unexpected")] = ""
    return received, kind


def _by_serial(received: Array, kind: Array, candidates: Columns, arrivals: Columns, at: Array, rows: Array) -> None:
    """Match the arrivals that name their update, *rows* in order of time: the first of each delivery is it, the others are
    duplicates."""
    keys = _same_keys([np.r_[candidates[name], arrivals[name][rows]] for name in KEY])
    mine, theirs = keys[: len(received)], keys[len(received) :]
    first = np.unique(theirs, return_index=True)[1]
    kind[rows] = "duplicate"
    place = place_of(mine, theirs[first])
    kind[rows[first]] = np.where(place < 0, "unexpected", "")
    received[place[place >= 0]] = at[rows[first[place >= 0]]]


def _first_in_first_out(received: Array, kind: Array, candidates: pd.DataFrame, arrivals: pd.DataFrame) -> None:
    """Match arrivals that do not say their update, page by page and channel by channel, each with the earliest event left.
    *arrivals*: in order of time.

    An arrival cannot be of an event that was accepted after it. With events accepted at 1, 2 and 3 s, of which the second may
    have been missed (it was not certain), arrivals at 1.1 and 3.1 s are of the first and the third; a third arrival at 2.1 s is
    of the second.
    """
    left = candidates[np.isnan(received)]
    left = left.iloc[np.argsort(left["accepted_at"], kind="stable")]
    queues: Any = left.groupby(["subscriber", "channel"]).indices
    certain, earliest = left["certain"].to_numpy(), left["earliest_at"].to_numpy()
    at, rows = arrivals["at"].to_numpy(), arrivals.index.to_numpy()
    pages: Any = arrivals.groupby(["subscriber", "channel"]).indices
    for page, mine in pages.items():
        queue = queues.get(page, np.array([], np.int64))
        sure = queue[certain[queue]]
        waiting = iter((sure if len(mine) <= len(sure) else queue).tolist())
        event = next(waiting, None)
        for arrival in mine.tolist():
            if event is not None and earliest[event] <= at[arrival]:
                received[left.index[event]] = at[arrival]
                event = next(waiting, None)
            else:
                kind[rows[arrival]] = "unexpected"


def _same_keys(columns: Sequence[Array]) -> Array:
    """One whole number for each row, equal where all columns are equal."""
    key = np.zeros(len(columns[0]), np.int64)
    for column in columns:
        distinct, code = np.unique(column, return_inverse=True)
        if len(key) and int(key.max()) > (2**62) // max(len(distinct), 1):
            key = np.unique(key, return_inverse=True)[1]
        key = key * len(distinct) + code
    return key


def missing(found: Deliveries, over: float, measured: bool, unfinished: Sequence[tuple[int, int]] = ()) -> Array:
    """For each expected delivery the reason of `REASONS` for which it did not arrive; "" for what arrived.

    *over*: when the run ended, s. *measured*: whether anything may have been lost, so that what takes longer than all that
    arrived counts as lost. *unfinished*: first and last subscriber of each load process that was lost.
    """
    rows = found.expected
    took = (rows["received_at"] - rows["accepted_at"]).max()
    longest = (took if len(rows) and took > 0 else 0.0) if measured else np.finfo(float).max
    accepted, ended = rows["accepted_at"].to_numpy(float), rows["ended_at"].to_numpy(float)
    lost = np.zeros(len(rows), bool)
    for first, last in unfinished:
        lost |= rows["subscriber"].between(first, last).to_numpy(bool)
    reason = np.select(
        [rows["received_at"].notna().to_numpy(bool), lost, ended - accepted <= longest, over - accepted <= longest],
        ["", "harness", "connection", "on_its_way"],
        default="target",
    )
    return np.asarray(reason)


def out_of_order(tables: Any) -> Array:
    """Which notifications came after one of a later committed update, on the same channel at the same subscriber.

    Two updates whose publications overlap in time may be accepted in either order; the pattern tolerates it (the refetch reads
    the newest state), a client that applies payloads does not.
    """
    updates, heard = tables.updates, tables.notifications
    sequence, numbered = whole(updates["sequence"])
    serial, named = whole(heard["update"])
    place = place_of(updates["update"], serial)
    rows = np.flatnonzero(named & np.r_[numbered, False][place])
    rank = np.unique(sequence[place[rows]], return_inverse=True)[1]
    group = _same_keys((heard["subscriber"].to_numpy(np.int64)[rows], _Names().codes(heard["channel"])[rows]))
    group = np.unique(group, return_inverse=True)[1]
    in_order = np.lexsort((heard["received_at"].to_numpy(float)[rows], group))
    lifted = (group * (rank.max(initial=0) + 1) + rank)[in_order]
    late = np.zeros(len(heard), bool)
    late[rows[in_order]] = lifted < np.maximum.accumulate(lifted) if len(lifted) else False
    return late
