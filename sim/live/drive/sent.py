"""What the publisher leaves behind: one row per update, with instants in whole ns since 1970 (null: never, or not known).

The publisher is a process of its own. Its rows reach the run bundle by a journal that is written while it goes on, so that they
are there whatever happens to it; `workbench drive -o` makes a Parquet file of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from sim.clock import SECOND
from sim.errors import BadInput, one_line
from sim.live.drive.publisher import Sent
from sim.results import journal
from sim.results.journal import Journal

if TYPE_CHECKING:  # a publisher need not wait for it
    import pandas as pd

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
        ("changed", pa.bool_()),
        ("tells", pa.bool_()),
        ("channels", pa.list_(pa.string())),
        ("status", pa.string()),
        ("http_status", pa.int32()),
        ("failure", pa.string()),
    ]
)


OF_RECEIPT = ("version", "sequence", "committed_at", "published_at", "changed", "tells")


def to_table(rows: Sequence[Sent]) -> pa.Table:
    """The rows as columns of `SCHEMA`."""

    def value(row: Sent, name: str) -> Any:
        return getattr(row.receipt if name in OF_RECEIPT else row, name)

    return pa.table({name: [value(row, name) for row in rows] for name in SCHEMA.names}, schema=SCHEMA)


def open_journal(path: Path) -> Journal:
    """Where the rows for *path* go while they come. Raises `BadInput`."""
    to_table([])  # With its first list pyarrow imports pandas: the first update would be late by a fifth of a second.
    return Journal(_partial(path), SCHEMA)


def write(path: Path, table: pa.Table) -> None:
    """All rows as Parquet, in one step; the journal is not needed any more."""
    import pyarrow.parquet as pq

    finished = path.with_name(path.name + ".finished")
    pq.write_table(table, finished)
    finished.replace(path)
    _partial(path).unlink(missing_ok=True)


def read(path: Path) -> tuple[pa.Table, bool]:
    """The rows, and whether these are all: a publisher that died has left its journal. Raises `BadInput` for neither."""
    if not path.exists() and _partial(path).exists():
        return _last_of_each(journal.read(_partial(path), SCHEMA)), False
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path, schema=SCHEMA), True
    except (OSError, pa.ArrowInvalid) as error:
        raise BadInput(f"{path}: cannot be read: {error}") from error


def begun(path: Path) -> bool:
    """Whether a publisher has ever written there."""
    return path.exists() or _partial(path).exists()


def count(path: Path) -> int:
    """How many updates a publisher has written so far."""
    return len(read(path)[0]) if begun(path) else 0


def _last_of_each(table: pa.Table) -> pa.Table:
    """An update has a row when it was sent, and another when it was answered."""
    last = {update: i for i, update in enumerate(table["update"].to_pylist())}
    return table.take(pa.array(sorted(last.values()), pa.int64())).sort_by("update")


def _partial(path: Path) -> Path:
    return path.with_name(path.name + ".partial")


def frame(table: pa.Table) -> pd.DataFrame:
    """The rows for pandas, whole numbers staying whole (Int64 where they can be null)."""
    import pandas as pd

    whole = {pa.int64(): pd.Int64Dtype(), pa.int32(): pd.Int32Dtype()}
    return table.to_pandas(types_mapper=whole.get)


def metric_columns(table: pa.Table, epoch: int) -> dict[str, Any]:
    """Columns of the bundle's `metrics`: for each update the publisher's lateness, how long it waited for its predecessor,
    the answer time and the HTTP status (none where no answer came)."""
    rows: list[tuple[float, str, float]] = []
    for row in table.to_pylist():
        at = (row["intended_at"] - epoch) / SECOND
        spans = {"lateness": ("ready_at", "started_at"), "waited_seconds": ("intended_at", "ready_at")}
        spans |= {"answer_seconds": ("started_at", "finished_at")} if row["finished_at"] is not None else {}
        rows += [(at, name, (row[until] - row[since]) / SECOND) for name, (since, until) in spans.items()]
        if row["http_status"] is not None:
            rows.append((at, "http_status", float(row["http_status"])))
    at, metric, value = (list(column) for column in zip(*rows, strict=True)) if rows else ([], [], [])
    return {"at": at, "process": ["publisher"] * len(at), "metric": metric, "value": value}


def failures(table: pa.Table) -> Counter[str]:
    """Why changes were not answered by a success, and how many each."""
    return Counter(reason for reason in table["failure"].to_pylist() if reason)


def trouble(table: pa.Table) -> list[str]:
    """The same in one line; none where all were answered well."""
    failed = failures(table)
    said = ", ".join(f"{count} x {one_line(reason[:100])}" for reason, count in failed.most_common(3))
    return [f"{failed.total()} of {len(table)} changes were not answered by a success ({said})"] if failed else []


def summary(table: pa.Table) -> dict[str, Any]:
    """What `workbench drive` prints: counts, failures by reason, lateness and answer times in seconds.

    *unknown*: updates of which nobody knows whether they were committed; no answer came, or one that does not tell."""
    intended, ready, started, finished = (
        table[name].to_numpy() for name in ("intended_at", "ready_at", "started_at", "finished_at")
    )
    status = Counter(table["status"].to_pylist())
    result: dict[str, Any] = {"updates": len(table), "failed": status["failed"], "unknown": status["unknown"]}
    result["failures"] = dict(failures(table))
    for name, values in (("lateness", started - ready), ("waited", ready - intended), ("answer", finished - started)):
        values = values[~np.isnan(values)]  # What was never sent has no answer.
        for label, p in (("p50", 50), ("p99", 99), ("max", 100)):
            result[f"{name}_{label}"] = float(np.percentile(values, p)) / SECOND if len(values) else None
    return result
