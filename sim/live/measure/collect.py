"""From what the processes left behind to the tables of the bundle: parts, the publisher's rows, the sampler's rows.

All instants become seconds since the run's start (the publisher's epoch), by the master's clock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sim.live.drive.sent import changed, metric_columns, update_columns
from sim.live.measure.attribution import attribute
from sim.results import parts
from sim.results.run import RunWriter

Offset = Callable[[dict[str, Any]], int]
"""Header of a worker -> nanoseconds to add to its instants."""


def append_parts(
    run: RunWriter, directory: Path, epoch: int, offset: Offset | None = None, sent: pd.DataFrame | None = None
) -> None:
    """Notifications, refetches, subscriptions and the harness's own metrics of all workers.

    *sent*: updates by channel (`attribution.per_channel`); notifications that do not say which they are of are matched with
    them. Where only probes are recorded row by row, the tables hold the probes alone, and the manifest says so.
    """
    headers = parts.read_headers(directory)
    subscriptions = parts.read_table(directory, "subscriptions", offset)
    run.append("subscriptions", parts.run_columns("subscriptions", subscriptions, epoch))
    notifications = parts.read_table(directory, "notifications", offset)
    columns = parts.run_columns("notifications", notifications, epoch)
    if sent is not None and len(notifications) and pc.min(notifications["update"]).as_py() < 0:
        frames = [table.to_pandas().astype({"channel": str}) for table in (notifications, subscriptions)]
        columns["update"] = pa.array(attribute(frames[0], sent, frames[1]))
    run.append("notifications", columns)
    for table in ("pages", "refetches", "metrics"):
        run.append(table, parts.run_columns(table, parts.read_table(directory, table, offset), epoch))
    share = share_recorded(headers)
    if share < 1:
        counted = parts.read_table(directory, "counts", offset)["received"].to_numpy()
        run.manifest.sampling = {"method": "subscribers", "share": share, "counted": int(counted.sum())}


def share_recorded(headers: Sequence[Mapping[str, Any]]) -> float:
    """Share of the subscribers that are recorded row by row; 1: all of them."""
    sizes = [h["subscribers"]["last"] - h["subscribers"]["first"] + 1 if h["subscribers"]["first"] >= 0 else 0 for h in headers]
    recorded = sum(size * header["share"] for size, header in zip(sizes, headers, strict=True))
    return recorded / sum(sizes) if sum(sizes) else 1.0


def append_updates(run: RunWriter, rows: pa.Table, directory: Path, epoch: int, offset: Offset | None = None) -> None:
    """The publisher's rows. Where a payload tells when its event was published, that is believed before the answer's end.

    An application that does not tell when it committed has done so before it published (unless it broadcasts on save, where the
    two are as good as one instant for everybody but the race that it is about).
    """
    run.append("metrics", metric_columns(rows, epoch))
    rows = changed(rows)
    columns = update_columns(rows, epoch)
    told = heard_events(directory, offset).groupby("update")["published_at_ns"].min()
    heard = told.reindex(rows["update"].to_numpy(), fill_value=parts.NEVER).to_numpy()
    at = parts.seconds(heard, epoch)
    for name in ("published_at", "committed_at"):
        untold = (rows[name].to_numpy() <= 0) & ~np.isnan(at)
        columns[name] = np.where(untold, at, columns[name])
    run.append("updates", columns)


def append_heard(run: RunWriter, directory: Path, epoch: int, offset: Offset | None = None) -> None:
    """Passive mode: nobody of ours published, so the updates are those whose payload named them."""
    told = heard_events(directory, offset)
    told = (
        told[told["update"] >= 0]
        .groupby("update")
        .agg(sent_at=("sent_at_ns", "min"), published_at=("published_at_ns", "min"), channel=("channel", "min"))
    )
    known = told["published_at"].to_numpy() > 0
    published = parts.seconds(np.where(known, told["published_at"], told["sent_at"]), epoch)
    resource = [("site" if channel.startswith("private-site") else "server") for channel in told["channel"]]
    run.append(
        "updates",
        {
            "update": told.index.to_numpy(),
            "resource": resource,
            "resource_id": [resource_id_of(channel) for channel in told["channel"]],
            "version": np.full(len(told), -1),
            "sequence": np.full(len(told), -1),
            "intended_at": parts.seconds(told["sent_at"].to_numpy(), epoch),
            "committed_at": published,
            "published_at": published,
            "status": ["committed"] * len(told),
        },
    )


def heard_events(directory: Path, offset: Offset | None = None) -> pd.DataFrame:
    """The different events that anybody heard, with the instants in their payloads (ns; -1: not said)."""
    return parts.read_table(directory, "events", offset).to_pandas().astype({"channel": str})


def resource_id_of(channel: str) -> int:
    """`private-servers.5` -> 5; a generic channel has none: 0."""
    digits = channel.rpartition(".")[2]
    return int(digits) if digits.isdigit() else 0
