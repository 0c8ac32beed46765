"""From what the processes left behind to the tables of the bundle: parts, the publisher's rows, the sampler's rows.

All instants become seconds since the run's start (the publisher's epoch), by the master's clock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from sim.results import parts
from sim.results.run import RunWriter

Offset = Callable[[dict[str, Any]], int]
"""Header of a worker -> nanoseconds to add to its instants."""

Attribute = Callable[[pd.DataFrame, pd.DataFrame], pd.Series]


@dataclass(frozen=True)
class Notifications:
    """What all subscribers heard, each notification with its update where that is known. Instants in ns since 1970."""

    notifications: pa.Table
    """As in the parts, with `update` null where it is not known."""
    counts: pd.DataFrame
    """Of the subscribers that are not recorded row by row."""
    events: pd.DataFrame

    @classmethod
    def read(cls, directory: Path, offset: Offset | None, attribute: Attribute) -> Notifications:
        """*attribute*(notifications, events): the update of each notification (`attribution`)."""
        rows = parts.read_table(directory, "notifications", offset)
        counts = parts.read_table(directory, "counts", offset).to_pandas().astype({"channel": str})
        # The instants in a payload are by the publisher's clock, not by the subscriber's.
        events = parts.read_table(directory, "events").to_pandas(integer_object_nulls=True)
        events = events.astype({"channel": str, "resource_id": "Int64"})
        frame = rows.select(["update", "event", "subscriber", "channel", "received_at_ns"]).to_pandas().astype({"channel": str})
        column = pa.array(attribute(frame, events), pa.int64(), from_pandas=True)
        return cls(rows.set_column(rows.column_names.index("update"), "update", column), counts, events)

    @cached_property
    def first_at(self) -> pd.Series:
        """Update -> first arrival at any page."""
        columns = {"update": self.notifications["update"].to_numpy(), "at": self.notifications["received_at_ns"].to_numpy()}
        rows = pd.concat([pd.DataFrame(columns).dropna(), self.counts.rename(columns={"first_at_ns": "at"})[["update", "at"]]])
        return rows[rows["update"] >= 0].astype("int64").groupby("update")["at"].min()

    @cached_property
    def posted_at(self) -> pd.Series:
        """Update -> published_at, as the payload says: just before the event was posted. (Only of payloads that say.)"""
        known = self.events[(self.events["update"] >= 0) & (self.events["published_at_ns"] >= 0)]
        return known.groupby("update")["published_at_ns"].min()


def append_parts(run: RunWriter, directory: Path, epoch: int, heard: Notifications, offset: Offset | None = None) -> None:
    """Notifications, refetches, subscriptions and the harness's own metrics of all workers. Where only some subscribers are
    recorded row by row, the tables hold these alone, and the manifest says so."""
    run.append("notifications", parts.run_columns("notifications", heard.notifications, epoch))
    for table in ("subscriptions", "refetches", "metrics"):
        run.append(table, parts.run_columns(table, parts.read_table(directory, table, offset), epoch))
    pages = parts.run_columns("pages", parts.read_table(directory, "pages", offset), epoch)
    recorded = len(pages["subscriber"])
    share = share_recorded(parts.read_headers(directory), recorded)
    if share < 1:
        # By the share that was drawn, and not by the chance of it: then the rows add up to all pages.
        pages = dict(pages) | {"weight": np.full(recorded, 1 / share)}
    run.append("pages", pages)
    if share < 1:
        run.manifest.sampling = {"method": "subscribers", "share": share, "counted": int(heard.counts["received"].sum())}


def share_recorded(headers: Sequence[Mapping[str, Any]], recorded: int) -> float:
    """Share of the pages of which *recorded* have rows; 1: all of them. The chance of being drawn, where no page has rows."""
    lives = [header["subscribers"]["lives"] for header in headers]
    if not sum(lives) or all(header["share"] >= 1 for header in headers):
        return 1.0
    if recorded:
        return recorded / sum(lives)
    return float(np.average([header["share"] for header in headers], weights=lives))


def append_passive(run: RunWriter, heard: Notifications, epoch: int) -> None:
    """The workbench published nothing, so the updates are the different events that were heard (`attribution.tell_apart`).

    Their intended time is known only from the payload, the time of their commit never. The time of their publication is that in
    the payload, else that of the first arrival.
    """
    rows = heard.notifications.select(["update", "event", "channel", "received_at_ns"]).to_pandas().astype({"channel": str})
    first = rows.sort_values("received_at_ns").groupby("update").first()
    payloads = heard.events.groupby("event").first().reindex(first["event"])
    sent_at, published_at = (payloads[name].fillna(parts.NEVER).to_numpy("int64") for name in ("sent_at_ns", "published_at_ns"))
    named = [resource_named(channel) for channel in first["channel"]]
    ids = [id if pd.isna(given) else int(given) for (_, id), given in zip(named, payloads["resource_id"], strict=True)]
    nothing = pa.nulls(len(first), pa.int64())
    columns = {"update": first.index.to_numpy(), "resource": [name for name, _ in named], "resource_id": ids}
    columns |= {"version": nothing, "sequence": nothing, "status": ["committed"] * len(first)}
    columns["intended_at"] = parts.seconds(sent_at, epoch)
    columns["committed_at"] = np.full(len(first), np.nan)
    columns["published_at"] = parts.seconds(np.where(published_at > 0, published_at, first["received_at_ns"]), epoch)
    run.append("updates", columns)


def resource_named(channel: str) -> tuple[str, int]:
    """Resource and id by a channel's name: `private-servers.5` -> server, 5; `private-users.3.servers` -> server, 0 (none)."""
    words = channel.removeprefix("private-").split(".")
    names = [word for word in words if not word.isdecimal()] or words
    # Tables hold whole numbers of 64 bits.
    return names[-1].removesuffix("s"), int(words[-1]) if words[-1].isdecimal() and len(words[-1]) < 19 else 0
