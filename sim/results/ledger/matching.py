"""Deliveries: which were expected, which arrived, matched one to one, and what became of the others.

Expected is, for each accepted event and each of its channels, each subscription that was confirmed at or before the acceptance
and had not ended at it. The acceptance of a measured event is known to lie between its commit (where that is not known: its
intended instant) and the end of the publish
request: a subscription that began or ended between the two was expected to hear exactly when it did. No grace period hides
losses.

Arrivals are matched by the update's serial; where the payload has none, in order of arrival with what was accepted on the
channel, first in first out. An arrival is never matched twice. What arrives beyond is a duplicate (its update had arrived) or
unexpected.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sim.results.ledger.order import Order, place_of, ranges, whole
from sim.results.ledger.views import weight_of
from sim.scenario import Scenario

Array = np.ndarray[Any, Any]

REASONS = {
    "target": "nobody knows a reason but the target",
    "connection": "the subscription ended while the event was being sent: no later than the slowest arrival of the run takes",
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


def deliveries(tables: Any, scenario: Scenario, measured: bool) -> Deliveries:
    """All deliveries of a run. *measured*: acceptances are known as intervals only."""
    updates, subscriptions, heard = tables.updates, tables.subscriptions, tables.notifications
    names = _Names()
    passive = scenario.publisher.via == "none"
    event, on = _heard_events(updates, heard, names) if passive else _events(updates, scenario, names)
    channel = names.codes(subscriptions["channel"])
    accepted = updates["published_at"].to_numpy(float)[event]
    begun = updates["committed_at"].fillna(updates["intended_at"]).to_numpy(float)[event]
    earliest = np.fmin(begun, accepted) if measured else accepted
    since = subscriptions["subscribed_at"].to_numpy(float)
    ended = subscriptions["ended_at"].fillna(np.inf).to_numpy(float)
    confirmed = np.flatnonzero((channel >= 0) & ~np.isnan(since) & (subscriptions["reason"] != "refused").to_numpy(bool))
    row, place = _open_at(on, accepted, earliest, channel[confirmed], since[confirmed], ended[confirmed])
    s = confirmed[row]
    certain = (since[s] <= earliest[place]) & (ended[s] > accepted[place])
    serial = updates["update"].to_numpy(np.int64)[event[place]]
    subscriber = subscriptions["subscriber"].to_numpy(np.int64)[s]
    # One row for each event, page and channel: the certain one, where a subscription ended and began within the interval.
    first = np.lexsort((~certain, accepted[place], subscriber, channel[s], serial))
    key = np.column_stack([serial, channel[s], subscriber])[first]
    fresh = np.r_[True, (key[1:] != key[:-1]).any(axis=1)] if len(key) else np.zeros(0, bool)
    chosen = first[fresh]
    candidates = _Candidates(
        serial[chosen], channel[s][chosen], subscriber[chosen], accepted[place][chosen], earliest[place][chosen], certain[chosen]
    )
    received, kind = candidates.match(heard, names.codes(heard["channel"]), passive=passive)
    kept = certain[chosen] | ~np.isnan(received)
    expected = pd.DataFrame(
        {
            "update": serial[chosen],
            "subscriber": subscriber[chosen],
            "channel": pd.Categorical.from_codes(channel[s][chosen], categories=pd.Index(names.texts, dtype=object)),
            "accepted_at": accepted[place][chosen],
            "received_at": received,
            "ended_at": ended[s][chosen],
        }
    )[kept]
    order = np.lexsort((expected["subscriber"], _rank_of(updates, expected["update"])))
    expected = expected.iloc[order].reset_index(drop=True)
    extra = heard[kind != ""]
    beyond = pd.DataFrame(
        {
            "update": extra["update"].array,
            "subscriber": extra["subscriber"].to_numpy(),
            "received_at": extra["received_at"].to_numpy(),
            "kind": kind[kind != ""],
        }
    )
    return Deliveries(*(rows.assign(weight=weight_of(rows["subscriber"], tables.pages)) for rows in (expected, beyond)))


def _rank_of(updates: pd.DataFrame, serial: pd.Series) -> Array:
    """Position of each serial in the table of updates."""
    order = np.argsort(updates["update"].to_numpy(np.int64), kind="stable")
    return order[place_of(updates["update"].to_numpy(np.int64)[order], serial.to_numpy(np.int64))] if len(order) else order


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
    """The same where nobody of ours published: an event was published where anybody heard it, and who knows where else."""
    rows = heard[["update", "channel"]].dropna().drop_duplicates()
    serial = updates["update"].to_numpy(np.int64)
    order = np.argsort(serial, kind="stable")
    place = place_of(serial[order], rows["update"].to_numpy(np.int64))
    return order[place[place >= 0]], names.codes(rows["channel"])[place >= 0]


def _open_at(on: Array, accepted: Array, earliest: Array, channel: Array, since: Array, ended: Array) -> tuple[Array, Array]:
    """Pairs (subscription, event on its channel) that overlap, the event being an interval from *earliest* to *accepted*."""
    order = Order(on, accepted)
    place = order.order
    # The earliest possible acceptance of an event or any after it on its channel: it only grows, so it can be searched.
    floor = pd.Series(earliest[place])[::-1].groupby(on[place][::-1]).cummin()[::-1].to_numpy()
    low = order.before(channel, since)
    high = Order(on[place], floor).before(channel, ended) if len(place) else low
    row, k = ranges(low, high)
    k = place[k]
    kept = earliest[k] < ended[row]
    return row[kept], k[kept]


class _Candidates:
    """Deliveries that may have been expected, in order of (serial, channel, subscriber); matched with arrivals."""

    def __init__(
        self, serial: Array, channel: Array, subscriber: Array, accepted: Array, earliest: Array, certain: Array
    ) -> None:
        self.serial, self.channel, self.subscriber = serial, channel, subscriber
        self.accepted, self.earliest, self.certain = accepted, earliest, certain

    def match(self, heard: pd.DataFrame, channel: Array, passive: bool) -> tuple[Array, Array]:
        """(received_at of each candidate, NaN: not received; for each arrival "", "duplicate" or "unexpected")."""
        serial, named = whole(heard["update"])
        subscriber, at = heard["subscriber"].to_numpy(np.int64), heard["received_at"].to_numpy(float)
        received = np.full(len(self.serial), np.nan)
        kind = np.full(len(heard), "", dtype=object)
        rows = np.flatnonzero(named)
        both = _same_keys(
            (np.r_[self.serial, serial[rows]], np.r_[self.channel, channel[rows]], np.r_[self.subscriber, subscriber[rows]])
        )
        mine, theirs = both[: len(self.serial)], both[len(self.serial) :]
        in_order = np.lexsort((at[rows], theirs))
        first = np.r_[True, np.diff(theirs[in_order]) > 0] if len(rows) else np.zeros(0, bool)
        kind[rows[in_order[~first]]] = "duplicate"
        sorted_candidates = np.argsort(mine, kind="stable")
        place = place_of(mine[sorted_candidates], theirs[in_order[first]])
        kind[rows[in_order[first][place < 0]]] = "unexpected"
        received[sorted_candidates[place[place >= 0]]] = at[rows[in_order[first][place >= 0]]]
        if not named.all():
            self._first_in_first_out(received, kind, np.flatnonzero(~named), subscriber, channel, at)
            if passive:
                kind[~named & (kind == "unexpected")] = ""
        return received, kind

    def _first_in_first_out(
        self, received: Array, kind: Array, rows: Array, subscriber: Array, channel: Array, at: Array
    ) -> None:
        """Match arrivals that do not say their update, page by page and channel by channel, each with the earliest event left."""
        left = np.flatnonzero(np.isnan(received))
        queues: dict[tuple[int, int], list[int]] = {}
        for k in left[np.argsort(self.accepted[left], kind="stable")].tolist():
            queues.setdefault((int(self.subscriber[k]), int(self.channel[k])), []).append(k)
        arrivals: dict[tuple[int, int], list[int]] = {}
        for row in rows[np.argsort(at[rows], kind="stable")].tolist():
            arrivals.setdefault((int(subscriber[row]), int(channel[row])), []).append(row)
        for key, mine in arrivals.items():
            queue = queues.get(key, [])
            sure = [k for k in queue if self.certain[k]]
            queue = sure if len(mine) <= len(sure) else queue
            next_in = 0
            for row in mine:
                if next_in < len(queue) and self.earliest[queue[next_in]] <= at[row]:
                    received[queue[next_in]] = at[row]
                    next_in += 1
                else:
                    kind[row] = "unexpected"


def _same_keys(columns: Sequence[Array]) -> Array:
    """One whole number for each row, equal where all columns are equal."""
    key = np.zeros(len(columns[0]), np.int64)
    for column in columns:
        distinct, code = np.unique(column, return_inverse=True)
        if len(key) and int(key.max()) > (2**62) // max(len(distinct), 1):
            key = np.unique(key, return_inverse=True)[1]
        key = key * len(distinct) + code
    return key


def missing(found: Deliveries, over: float, unfinished: Sequence[tuple[int, int]] = ()) -> Array:
    """For each expected delivery the reason of `REASONS` for which it did not arrive; "" for what arrived.

    *over*: when the run ended, s. *unfinished*: first and last subscriber of each load process that was lost.
    """
    rows = found.expected
    took = (rows["received_at"] - rows["accepted_at"]).max()
    longest = took if len(rows) and took > 0 else 0.0
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
    order = np.argsort(updates["update"].to_numpy(np.int64), kind="stable")
    place = place_of(updates["update"].to_numpy(np.int64)[order], serial)
    known = named & (place >= 0)
    known[known] = numbered[order[place[known]]]
    rows = np.flatnonzero(known)
    rank = np.unique(sequence[order[place[rows]]], return_inverse=True)[1]
    group = _same_keys((heard["subscriber"].to_numpy(np.int64)[rows], _Names().codes(heard["channel"])[rows] + 1))
    group = np.unique(group, return_inverse=True)[1]
    in_order = np.lexsort((heard["received_at"].to_numpy(float)[rows], group))
    lifted = (group * (rank.max(initial=0) + 1) + rank)[in_order]
    late = np.zeros(len(heard), bool)
    late[rows[in_order]] = lifted < np.maximum.accumulate(lifted) if len(lifted) else False
    return late
