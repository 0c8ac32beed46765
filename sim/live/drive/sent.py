"""What the publisher leaves behind: one row per update, as a Parquet file with instants in whole ns since 1970.

The publisher is a process of its own; this file is how its rows reach the run bundle. It is written in one step, at the end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sim.clock import SECOND
from sim.errors import BadInput
from sim.live.drive.publisher import Sent

SCHEMA = pa.schema(
    [
        ("update", pa.int64()),
        ("resource", pa.string()),
        ("resource_id", pa.int64()),
        ("version", pa.int64()),
        ("sequence", pa.int64()),
        ("intended_at", pa.int64()),
        ("ready_at", pa.int64()),
        ("started_at", pa.int64()),
        ("finished_at", pa.int64()),
        ("committed_at", pa.int64()),
        ("published_at", pa.int64()),
        ("status", pa.string()),
        ("http_status", pa.int32()),
        ("failure", pa.string()),
    ]
)


def to_table(rows: Sequence[Sent]) -> pa.Table:
    """The rows as columns of `SCHEMA`."""

    def value(row: Sent, name: str) -> Any:
        return getattr(row.receipt if name in ("version", "sequence", "committed_at", "published_at") else row, name)

    return pa.table({name: [value(row, name) for row in rows] for name in SCHEMA.names}, schema=SCHEMA)


def write(path: Path, table: pa.Table) -> None:
    partial = path.with_name(path.name + ".partial")
    pq.write_table(table, partial)
    partial.replace(path)


def read(path: Path) -> pa.Table:
    """Raises `BadInput` when the file is missing or damaged; an absent publisher left no file."""
    try:
        return pq.read_table(path, schema=SCHEMA)
    except (OSError, pa.ArrowInvalid) as error:
        raise BadInput(f"{path}: cannot be read: {error}") from error


def update_columns(table: pa.Table, epoch: int) -> dict[str, Any]:
    """Columns of the bundle's `updates`: float seconds since *epoch*.

    A target that does not say when it committed has done so after the request was sent and before the answer was complete; the
    first stands for the commit and the last for the publication, so that no latency comes out below zero and none too short.
    (A queue may publish later; what nobody heard then counts as lost.) What changed nothing is no update, and is left out.
    """
    table = changed(table)
    committed = np.array(table["status"].to_pylist()) != "failed"
    broadcast = np.array(table["status"].to_pylist()) == "committed"
    columns: dict[str, Any] = {
        name: table[name] for name in ("update", "resource", "resource_id", "version", "sequence", "status")
    }
    columns["intended_at"] = (table["intended_at"].to_numpy() - epoch) / SECOND
    for name, happened, otherwise in (("committed_at", committed, "started_at"), ("published_at", broadcast, "finished_at")):
        told = table[name].to_numpy()
        at = np.where(told > 0, told, table[otherwise].to_numpy())
        columns[name] = np.where(happened, (at - epoch) / SECOND, np.nan)
    return columns


def changed(table: pa.Table) -> pa.Table:
    """The rows without those for which the target already was in the state that was asked for."""
    return table.filter(pc.not_equal(table["status"], "unchanged"))


def metric_columns(table: pa.Table, epoch: int) -> dict[str, Any]:
    """Columns of the bundle's `metrics`: for each update the publisher's lateness, how long it waited for its predecessor,
    the answer time and the HTTP status. What was never sent has none."""
    table = table.filter(pc.greater(table["started_at"], 0))
    intended, ready, started, finished = _instants(table)
    at = (intended - epoch) / SECOND
    values = {
        "lateness": (started - ready) / SECOND,
        "waited_seconds": (ready - intended) / SECOND,
        "answer_seconds": (finished - started) / SECOND,
        "http_status": table["http_status"].to_numpy().astype(float),
    }
    return {
        "at": np.tile(at, len(values)),
        "process": ["publisher"] * (len(at) * len(values)),
        "metric": np.repeat(list(values), len(at)).tolist(),
        "value": np.concatenate(list(values.values())),
    }


def _instants(table: pa.Table) -> Iterator[np.ndarray]:
    return (table[name].to_numpy() for name in ("intended_at", "ready_at", "started_at", "finished_at"))


def summary(table: pa.Table) -> dict[str, Any]:
    """What `workbench drive` prints: counts, failures by reason, lateness and answer times in seconds."""
    intended, ready, started, finished = _instants(table.filter(pc.greater(table["started_at"], 0)))
    failures = Counter(reason for reason in table["failure"].to_pylist() if reason)
    result: dict[str, Any] = {"updates": len(table), "failed": sum(failures.values()), "failures": dict(failures)}
    for name, values in (("lateness", started - ready), ("waited", ready - intended), ("answer", finished - started)):
        for label, p in (("p50", 50), ("p99", 99), ("max", 100)):
            result[f"{name}_{label}"] = float(np.percentile(values, p)) / SECOND if len(values) else None
    return result
