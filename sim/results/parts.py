"""Raw parts: what each process of a load test leaves behind while it runs, and how parts become the tables of a bundle.

A parts directory holds, for each worker process `<pid>` (directories below it count as well, one per machine):

    header-<pid>.json              the process: clock, counts, lags; rewritten each two seconds, `finished` at the end
    <table>-<pid>-<n>.arrows       rows of `PARTS[<table>]`, a `sim.results.journal`: whole at every moment; <n> grows where a
                                   disk refused to take more

A process that makes several tests (Locust's web interface) puts the second into the directory `test-2` below, and so on: a test
is read from its own directory. A part's tables are those of `sim.results.run.TABLES` with times as whole nanoseconds since 1970
(`received_at_ns` for `received_at`; -1: it did not happen), by the clock of the machine that wrote. Tables of parts only:

    notifications  also has `event` (`event_keys`: the same at every subscriber, in all processes), `sent_at_ns` (intended
                   time as the payload says; -1: it does not) and `stamp` (see `STAMPS`)
    counts         deliveries to subscribers that are counted rather than recorded row by row
    events         one row per different frame heard, with what its payload says: resource_id (null: nothing), instants

Subscriptions and pages have a row when they begin, so that a process that dies leaves it, and another when they end; `read_table`
gives the last row of each (`LASTING`). Members of a header: `HEADER`. Nothing here reads a clock; the caller gives a worker's
clock offset.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sim.clock import SECOND
from sim.errors import BadInput
from sim.files import replace_text
from sim.results import journal
from sim.results.run import TABLES

PART_VERSION = 3
NEVER = -1
"""An instant that did not happen."""

STAMPS = ("read", "kernel", "coalesced")
"""Whose time `received_at_ns` is: the reading process's own (late by its queue); the kernel's; or the kernel's for a frame
that was read together with a later one, whose arrival it is then, hence an upper bound."""

HEADER = {
    "part_version": "PART_VERSION",
    "pid": "process id",
    "worker": "index given by Locust's master; 0 without one",
    "process": "name in the metrics table: harness-<worker>",
    "versions": "of Python, locust, gevent, websockets",
    "started_at_ns": "when the process began to record",
    "written_at_ns": "when this header was written",
    "refusals": "what was said most often in place of a connection, a subscription, a page, and how often",
    "strangers": "names of events that their page does not listen to, and how often they came; the most frequent",
    "finished": "whether the worker ended in order: every row is in a part",
    "clock": "{wall_ns, monotonic_ns: the pair at the start; steps_ns: largest disagreement since; on another machine "
    "than the master's also offset_ns: to add for the master's time, error_ns, round_trips}",
    "subscribers": "{first, last: ids, inclusive; -1 without any; opened: users that have a page now; lives: pages so far; "
    "wanted: of those with a page, those whose page subscribes; subscribed: of these, those that have been subscribed, with the "
    "first page or a later; listening: pages that are subscribed now}",
    "share": "of the pages, those that are recorded row by row: 1.0 is all; drawn by a hash of seed and subscriber",
    "receive_stamp": "kernel or read",
    "waits_by": "io_uring, epoll, or poll: then arrivals are late by up to 2 ms",
    "counters": "name -> count, see loadtests.recording.recorder.COUNTERS",
    "histograms": "name -> sim.results.histogram, nanoseconds, see loadtests.recording.recorder.HISTOGRAMS",
    "version_kinds": "what is shown (as server) -> kinds of versions that its answers had: counter, time (microseconds since "
    "1970), or text, which has no order; without any, the answers have no version",
    "rows": "table -> rows in parts so far",
    "fault": "what went wrong last with the recording; empty: nothing",
}


def _part_schema(schema: pa.Schema, *more: pa.Field) -> pa.Schema:
    fields = [
        pa.field(f"{f.name}_ns", pa.int64(), metadata=f.metadata) if pa.types.is_floating(f.type) and f.name.endswith("at") else f
        for f in schema
    ]
    return pa.schema([*fields, *more])


def event_keys(contents: Iterable[bytes]) -> np.ndarray:
    """The identities of events that do not say which ones they are, from the name, channel and payload that all subscribers hear.

    Two events of the same content (one resource, twice within the resolution of its time stamp) share it.
    """
    texts = list(contents)
    keys, lengths = np.empty(len(texts), np.int64), np.array([len(text) for text in texts], int)
    for length in np.unique(lengths).tolist():
        which = np.flatnonzero(lengths == length)
        rows = np.frombuffer(b"".join(texts[i] for i in which), np.uint8)
        keys[which] = keys_of(rows.reshape(len(which), length))
    return keys


def keys_of(rows: np.ndarray) -> np.ndarray:
    """`event_keys` of contents of one length, a row of bytes each: word after word is multiplied in, which no two contents that
    differ in one word survive alike, and the finaliser of SplitMix64 (Steele et al., OOPSLA 2014) ends it. At a tenth of the cost
    of a digest for each."""
    count, length = rows.shape
    padded = np.zeros((count, -(-length // 8) * 8), np.uint8)
    padded[:, :length] = rows
    key = np.full(count, length, np.uint64)
    for word in np.ascontiguousarray(padded.view("<u8").T):
        key = (key ^ word) * np.uint64(0x9E3779B97F4A7C15)
        key ^= key >> np.uint64(32)
    key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (key ^ (key >> np.uint64(31))).view(np.int64)


_EVENT = [
    pa.field("update", pa.int64()),
    pa.field("event", pa.int64()),
    TABLES["notifications"].field("channel").remove_metadata(),
]
PARTS: dict[str, pa.Schema] = {
    "notifications": _part_schema(
        TABLES["notifications"], pa.field("event", pa.int64()), pa.field("sent_at_ns", pa.int64()), pa.field("stamp", pa.int8())
    ),
    "refetches": _part_schema(TABLES["refetches"]),
    "subscriptions": _part_schema(TABLES["subscriptions"]),
    "pages": _part_schema(TABLES["pages"]),
    "metrics": _part_schema(TABLES["metrics"]),
    "counts": pa.schema(
        [
            *_EVENT,
            pa.field("received", pa.int64()),
            pa.field("first_at_ns", pa.int64()),
            pa.field("last_at_ns", pa.int64()),
        ]
    ),
    "events": pa.schema(
        [
            *_EVENT,
            pa.field("resource_id", pa.int64()),
            pa.field("sent_at_ns", pa.int64()),
            pa.field("published_at_ns", pa.int64()),
        ]
    ),
}


LASTING = {"subscriptions": ("subscriber", "channel", "subscribed_at_ns"), "pages": ("subscriber",)}
"""Table -> the columns that identify what a row is of: of several rows of one thing the last counts."""


def part_path(directory: Path, table: str, pid: int, serial: int) -> Path:
    return directory / f"{table}-{pid}-{serial}.arrows"


def to_part(table: str, columns: Mapping[str, Any]) -> pa.Table:
    """*columns*: column name -> array, all of `PARTS[table]`."""
    schema = PARTS[table]
    return pa.Table.from_arrays([as_array(columns[f.name], f.type) for f in schema], schema=schema)


def as_array(values: Any, kind: pa.DataType) -> pa.Array:
    """A column of a part, from an array or a sequence."""
    if isinstance(values, pa.Array):
        return values.cast(kind)
    if pa.types.is_dictionary(kind):
        return pa.array(values, pa.string()).dictionary_encode().cast(kind)
    return pa.array(values, kind)


def write_header(directory: Path, header: Mapping[str, Any]) -> None:
    """Replace `header-<pid>.json` in one step."""
    replace_text(directory / f"header-{header['pid']}.json", json.dumps(header))


LATER = re.compile(r"test-\d+")
"""Name of the directory of a process's second test, third, ..."""


def read_headers(directory: str | Path) -> list[dict[str, Any]]:
    """The headers of one test, by worker; each has its own folder added as `directory`. Raises `BadInput`."""
    found = []
    paths = sorted(Path(directory).rglob("header-*.json"))
    for path in (path for path in paths if not any(map(LATER.fullmatch, path.relative_to(directory).parts))):
        try:
            header = json.loads(path.read_text(encoding="utf-8"))
            if header["part_version"] != PART_VERSION:
                raise BadInput(f"{path}: part version {header['part_version']}, this workbench reads {PART_VERSION}")
        except (ValueError, KeyError, TypeError) as error:
            raise BadInput(f"{path}: damaged header: {error}") from error
        found.append(header | {"directory": str(path.parent)})
    return sorted(found, key=lambda header: (header["worker"], header["directory"], header["pid"]))


def read_table(directory: str | Path, table: str, offset_ns: Callable[[dict[str, Any]], int] | None = None) -> pa.Table:
    """All rows of one table from all workers with a header, in the order of workers.

    *offset_ns*(header) is added to the times of that worker: its master's clock minus its own. Raises `BadInput` for a damaged
    part, or for subscribers that two workers both claim.
    """
    headers = read_headers(directory)
    _refuse_shared(headers)
    pieces = []
    for header in headers:
        shift = offset_ns(header) if offset_ns else 0
        paths = Path(header["directory"]).glob(f"{table}-{header['pid']}-*.arrows")
        for path in sorted(paths, key=lambda path: int(path.stem.rpartition("-")[2])):
            piece = journal.read(path, PARTS[table])
            pieces.append(_shifted(piece, shift) if shift else piece)
    rows = pa.concat_tables(pieces).unify_dictionaries() if pieces else PARTS[table].empty_table()
    return _last_of_each(rows, LASTING[table]) if table in LASTING else rows


def _last_of_each(rows: pa.Table, keys: tuple[str, ...]) -> pa.Table:
    """In the order of their beginnings."""
    plain = rows.select(keys).to_pandas()
    last = ~plain.duplicated(keep="last")
    began = plain.reset_index().groupby(list(keys), observed=True, sort=False)["index"].transform("min")
    return rows.take(pa.array(began[last].sort_values(kind="stable").index.to_numpy()))


def _refuse_shared(headers: list[dict[str, Any]]) -> None:
    ranges = sorted(
        (h["subscribers"]["first"], h["subscribers"]["last"], h["worker"]) for h in headers if h["subscribers"]["first"] >= 0
    )
    for (_, last, worker), (first, _, other) in itertools.pairwise(ranges):
        if first <= last:
            raise BadInput(f"workers {worker} and {other} both recorded subscriber {first}: parts of different runs are mixed")


def _shifted(table: pa.Table, shift: int) -> pa.Table:
    for i, name in enumerate(table.column_names):
        if name.endswith("_ns"):
            times = table.column(i)
            table = table.set_column(i, table.schema.field(i), pc.if_else(pc.less(times, 0), times, pc.add(times, shift)))
    return table


def run_columns(table: str, rows: pa.Table, epoch_ns: int) -> dict[str, pa.Array]:
    """Columns of the bundle's *table* from part rows: instants as float seconds since *epoch_ns*, NaN for `NEVER`.

    Ready for `RunWriter.append(table, ...)`; what only parts have is left out.
    """
    columns = {}
    for f in TABLES[table]:
        if f.name in rows.column_names:
            column = rows.column(f.name).combine_chunks()
            columns[f.name] = column.cast(pa.string()) if pa.types.is_dictionary(f.type) else column
        else:
            columns[f.name] = pa.array(seconds(rows.column(f"{f.name}_ns").to_numpy(), epoch_ns))
    return columns


def seconds(times_ns: np.ndarray, epoch_ns: int) -> np.ndarray:
    """Float seconds since *epoch_ns*; `NEVER` becomes NaN. Subtracts before it divides, so that nanoseconds survive."""
    return np.where(times_ns < 0, np.nan, (times_ns - epoch_ns) / SECOND)
