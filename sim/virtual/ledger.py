"""What a simulation writes down, and the tables that come of it.

While time passes, a row is a few packed integers; frames by the schemas of `sim.results.run.TABLES` are made once, at
the end. Nothing here decides anything.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

import numpy as np
import pandas as pd

from sim.arrays import Array
from sim.clock import SECOND, Listener
from sim.policy import Policy
from sim.results.frames import columns_of, typed
from sim.scenario import Scenario
from sim.virtual.database import Commits
from sim.workload import RESOURCES as CHANGED

OUTCOMES = ("applied", "superseded", "cancelled", "failed", "not_newer", "running")
RESOURCES = ("server", "site", "task", "dashboard")
PAGES = ("detail", "firewall", "provision", "site", "task", "dashboard")
REASONS = ("end", "closed", "dropped", "refused")
POLICIES = tuple(policy.kind for policy in get_args(Policy))
STATUSES = ("committed", "failed", "not_broadcast")

OUTCOME = {name: code for code, name in enumerate(OUTCOMES)}
RESOURCE = {name: code for code, name in enumerate(RESOURCES)}

NOT_YET = -1

REFETCH_WIDTH = 9
refetch_row = struct.Struct(f"={REFETCH_WIDTH}q").pack
"""The integers of one refetch, in the order of the table's columns but for what its page shows. Packing takes 0.24 us, an `array`
0.60 us."""


@dataclass(frozen=True, eq=False)
class Tables:
    """The tables of a run in memory: pandas frames by the schemas of `sim.results.run.TABLES` (seconds, float64)."""

    scenario: Scenario
    updates: pd.DataFrame
    notifications: pd.DataFrame
    refetches: pd.DataFrame
    subscriptions: pd.DataFrame
    metrics: pd.DataFrame
    pages: pd.DataFrame

    @property
    def name(self) -> str:
        return self.scenario.name

    def columns(self, table: str) -> dict[str, Any]:
        """The columns of one table as `RunWriter.append` takes them."""
        return columns_of(getattr(self, table))


def seconds(instants: Array) -> Array:
    """int64 ns to float64 s; -1 (never) to NaN."""
    return np.where(instants == NOT_YET, np.nan, instants / SECOND)


def text(codes: Array, names: Sequence[str]) -> pd.Categorical:
    """A text column from codes into *names*, without making the texts."""
    return pd.Categorical.from_codes(codes, categories=pd.Index(list(names), dtype=object))


def frame(table: str, columns: dict[str, Any]) -> pd.DataFrame:
    """A frame with the columns of *table*, in its order and types."""
    return typed(table, columns)


def nulls(numbers: Array) -> pd.arrays.IntegerArray:
    """Whole numbers with a null where there is -1 (none, unknown)."""
    return pd.arrays.IntegerArray(numbers.astype(np.int64), numbers == NOT_YET)


def update_frame(database: Commits, published: Array, end: int) -> pd.DataFrame:
    """The `updates` table. *published*: instant (ns) at which the broadcaster had each event; -1: not within the run, which was
    over at *end*: a change that was not done then is not in the database."""
    done = (database.committed_at != NOT_YET) & (database.committed_at <= end)
    version, sequence, committed = (
        np.where(done, column, NOT_YET) for column in (database.version, database.sequence, database.committed_at)
    )
    return frame(
        "updates",
        {
            "update": np.arange(len(published)),
            "resource": text(database.updates.resource, CHANGED),
            "resource_id": database.updates.resource_id,
            "version": nulls(version),
            "sequence": nulls(sequence),
            "intended_at": seconds(database.intended_at),
            "committed_at": seconds(committed),
            "published_at": seconds(published),
            "status": text(
                np.select([~done, published < 0], [STATUSES.index("failed"), STATUSES.index("not_broadcast")]), STATUSES
            ),
        },
    )


def notification_frame(update: Array, subscriber: Array, channel: Array, at: Array, names: Sequence[str]) -> pd.DataFrame:
    """The `notifications` table. *channel*: codes into *names*; *at*: instants (ns)."""
    received = seconds(at)
    columns = {"update": update, "subscriber": subscriber, "channel": text(channel, names)}
    return frame("notifications", columns | {"received_at": received, "read_at": received})


def refetch_frame(rows: Array, pages: Array) -> pd.DataFrame:
    """The `refetches` table. Columns of *rows*: subscriber, due, started, finished, version, status, bytes, answered, outcome;
    *pages* as in `page_frame`."""
    shows = np.zeros((pages[:, 0].max(initial=-1) + 1, 2), np.int64)
    shows[pages[:, 0]] = pages[:, 3:5]
    return frame(
        "refetches",
        {
            "subscriber": rows[:, 0],
            "resource": text(shows[rows[:, 0], 0], RESOURCES),
            "resource_id": shows[rows[:, 0], 1],
            "due_at": seconds(rows[:, 1]),
            "started_at": seconds(rows[:, 2]),
            "finished_at": seconds(rows[:, 3]),
            "version": nulls(rows[:, 4]),
            "status": nulls(rows[:, 5]),
            "bytes": rows[:, 6],
            "answered": rows[:, 7],
            "outcome": text(rows[:, 8], OUTCOMES),
        },
    )


def _page(rows: Array) -> dict[str, Any]:
    """Columns that say of which page a row is, of the first five."""
    return {
        "subscriber": rows[:, 0],
        "page": text(rows[:, 1], PAGES),
        "user": rows[:, 2],
        "resource": text(rows[:, 3], RESOURCES),
        "resource_id": rows[:, 4],
    }


def subscription_frame(rows: Array, names: Sequence[str]) -> pd.DataFrame:
    """The `subscriptions` table. Columns: subscriber, page, user, resource, id, channel (a code into *names*; -1: a page that
    polls, which listens to nothing), subscribed, ended, reason, policy."""
    return frame(
        "subscriptions",
        _page(rows)
        | {
            "channel": text(rows[:, 5] + 1, ["", *names]),
            "subscribed_at": seconds(rows[:, 6]),
            "ended_at": seconds(rows[:, 7]),
            "reason": text(rows[:, 8], REASONS),
            "policy": text(rows[:, 9], POLICIES),
        },
    )


def page_frame(rows: Array, weight: float = 1.0) -> pd.DataFrame:
    """The `pages` table. Columns: subscriber, page, user, resource, id, opened, closed, loaded version, policy, hidden."""
    return frame(
        "pages",
        _page(rows)
        | {
            "opened_at": seconds(rows[:, 5]),
            "closed_at": seconds(rows[:, 6]),
            "reason": text(np.where(rows[:, 6] == NOT_YET, REASONS.index("end"), REASONS.index("closed")), REASONS),
            "loaded_version": nulls(rows[:, 7]),
            "policy": text(rows[:, 8], POLICIES),
            "hidden": rows[:, 9] == 1,
            "weight": np.full(len(rows), weight),
        },
    )


def metric_frame(rows: Sequence[tuple[float, str, str, float]]) -> pd.DataFrame:
    """The `metrics` table of rows (at, s; process, metric, value)."""
    at, process, metric, value = zip(*rows, strict=True) if rows else ((), (), (), ())
    return frame("metrics", {"at": at, "process": pd.Categorical(process), "metric": pd.Categorical(metric), "value": value})


class PageConnection:
    """One WebSocket of one page. A reconnect is another connection."""

    __slots__ = ("channels", "listener", "subscriber")

    def __init__(self, subscriber: int, listener: Listener) -> None:
        self.subscriber = subscriber
        self.listener = listener
        self.channels: list[str] = []


class Delivery:
    """One event on its way to the members of one channel on one node."""

    __slots__ = ("channel", "frames", "lost", "subscribers", "update", "whens")

    def __init__(self, update: int, channel: int, subscribers: Array, whens: Sequence[int]) -> None:
        self.update = update
        self.channel = channel
        self.subscribers = subscribers
        self.whens = whens
        self.frames = len(subscribers)
        """How many of them are written: all, unless the node goes down before."""
        self.lost: list[int] | None = None

    def lose(self, subscriber: int) -> None:
        """Its connection has gone meanwhile."""
        if self.lost is None:
            self.lost = []
        self.lost.append(subscriber)

    def arrived(self) -> tuple[Array, Array]:
        """(subscriber, instant) of those that were heard."""
        whens = self.whens
        at = np.arange(whens.start, whens.stop, whens.step) if isinstance(whens, range) else np.array(whens, np.int64)
        if self.lost is None:
            return self.subscribers, at
        heard = ~np.isin(self.subscribers, self.lost)
        return self.subscribers[heard], at[heard]


@dataclass
class RunRows:
    """Rows as they come; what their integers are say the functions that make frames of them."""

    channels: dict[str, int] = field(default_factory=dict)
    """Name on the wire -> code."""
    deliveries: list[Delivery] = field(default_factory=list)
    refetch_rows: bytearray = field(default_factory=bytearray)
    """Packed by `refetch_row`."""
    subscription_rows: list[list[int]] = field(default_factory=list)
    page_rows: list[list[int]] = field(default_factory=list)
    samples: list[tuple[float, str, str, float]] = field(default_factory=list)
    """Rows of `metrics`: at (s), process, metric, value."""
    _arrivals: tuple[Array, Array, Array] | None = None

    def channel(self, name: str) -> int:
        return self.channels.setdefault(name, len(self.channels))

    def arrivals(self) -> tuple[Array, Array, Array]:
        """(number of the delivery, subscriber, instant) of what was heard, or will be, in the order of arrival. For the end, when
        all deliveries are known."""
        if self._arrivals is None:
            arrived = [delivery.arrived() for delivery in self.deliveries]
            at = np.concatenate([np.empty(0, np.int64), *(at for _, at in arrived)])
            order = np.argsort(at, kind="stable")
            delivery = np.repeat(np.arange(len(arrived)), [len(at) for _, at in arrived])
            subscriber = np.concatenate([np.empty(0, np.int32), *(members for members, _ in arrived)])
            self._arrivals = delivery[order], subscriber[order], at[order]
        return self._arrivals

    def notifications(self) -> pd.DataFrame:
        """In the order of arrival."""
        delivery, subscriber, at = self.arrivals()
        channel = np.array([delivery.channel for delivery in self.deliveries], np.int32)
        update = np.array([delivery.update for delivery in self.deliveries], np.int64)
        return notification_frame(update[delivery], subscriber, channel[delivery], at, list(self.channels))

    def refetches(self) -> pd.DataFrame:
        """In the order in which they ended."""
        return refetch_frame(np.frombuffer(self.refetch_rows, np.int64).reshape(-1, REFETCH_WIDTH), _rows(self.page_rows))

    def subscriptions(self) -> pd.DataFrame:
        return subscription_frame(_rows(self.subscription_rows), list(self.channels))

    def pages(self) -> pd.DataFrame:
        """In the order in which they opened."""
        return page_frame(_rows(self.page_rows))

    def metrics(self) -> pd.DataFrame:
        return metric_frame(self.samples)


def _rows(rows: list[list[int]]) -> Array:
    return np.array(rows, np.int64).reshape(-1, 10)
