"""Samples of one worker process: to Locust's statistics, to histograms, to parts (the format is `sim.results.parts`).

The hot path packs a row into a buffer (0.1 us). Twice a second the buffers are drained as NumPy arrays and everything else is
done in batches: an `events.request.fire` for each message would cost as much as reading it. Locust's rows are

    WS      connect, subscribe         opening handshake to `connection_established`; subscribe frame to its answer
    POST    /broadcasting/auth         channel authorisations
    GET     /servers/{id}              refetches, from when they were *due*
    NOTIFY  DetailPage                 intended time of the update -> arrival of its event (kernel's time)
    FRESH   DetailPage                 intended time of the oldest update waited for -> refetch that shows it applied

Only HTTP counts in Locust's "Aggregated" row. NOTIFY rows of a target whose payload does not say when are counted without times.

Row by row are recorded the first `probes` subscribers of the process, or all; the others are counted per event and in the
histograms, so a soak of days needs no more memory than a minute.
"""

from __future__ import annotations

import os
import platform
import struct
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from loadtests.client.echo import Event
from loadtests.client.mux import Mux
from loadtests.recording import clocks
from loadtests.recording.statistics import merge_samples
from sim.results import parts
from sim.results.histogram import Histogram

COUNTERS = {
    "notifications": "events heard on channels of their page",
    "coalesced": "of these, read together with a later frame: arrival is an upper bound",
    "unstamped": "of these, without the kernel's time: arrival is when they were read",
    "unexpected": "events of a name that their page does not listen to",
    "malformed": "frames that were no JSON object with an event name",
    "complaints": "pusher:error frames",
    "connects": "connections established",
    "connect_failures": "attempts that ended before that",
    "drops": "established connections lost other than by the page's will",
    "subscribed": "subscriptions that succeeded",
    "refused": "subscriptions refused, by the application or the broadcaster",
    "refetches": "refetches done, whatever their outcome",
    "answered": "notifications that refetches answer which came to an end by themselves",
    "failed_refetches": "of these refetches, without a usable answer",
    "negative": "latencies below zero: a clock that cannot be trusted",
    "callback_errors": "exceptions in code that runs in the hub: ours or a page's",
    "gc_collections": "full collections of the garbage collector while recording",
    "hub_gaps": "times that the hub went round more than 50 ms late",
}
"""Names and meanings of a header's counters."""

HISTOGRAMS = {
    "time_to_notified": "intended time of the update to arrival of its event",
    "time_to_fresh": "intended time of the oldest update waited for to end of the refetch applied",
    "reader_lag": "arrival of a frame (kernel) to this process reading it: the harness's own queue",
    "start_lag": "refetch due to request sent: the harness's own queue",
    "refetch": "refetch due to answer complete",
    "service": "request sent to answer complete: what the target took",
    "hub_gap": "lateness of a 50 ms timer on the hub",
    "gc_pause": "duration of a full garbage collection",
}
"""Names and meanings of a header's histograms, all in nanoseconds."""

VERSIONS = {"python": platform.python_version()} | {name: version(name) for name in ("locust", "gevent", "websockets")}

OUTCOMES = ("applied", "superseded", "cancelled", "failed", "not_newer")
_CODE = {name: code for code, name in enumerate(OUTCOMES)}
PART_ROWS = 1 << 16
PART_SECONDS = 5.0


class Rows:
    """Fixed-size records appended to a buffer, taken out as one structured array."""

    __slots__ = ("_buffer", "_count", "_dtype", "_pack", "_room", "_size")

    def __init__(self, **columns: str) -> None:
        """Column name -> struct code (q: int64, i: int32, h: int16)."""
        self._dtype = np.dtype([(name, {"q": "<i8", "i": "<i4", "h": "<i2"}[code]) for name, code in columns.items()])
        layout = struct.Struct("<" + "".join(columns.values()))
        self._pack, self._size = layout.pack_into, layout.size
        self._new(4096)

    def _new(self, room: int) -> None:
        self._buffer, self._room, self._count = bytearray(room * self._size), room, 0

    def add(self, *values: int) -> None:
        count = self._count
        if count == self._room:
            self._buffer.extend(bytes(len(self._buffer)))
            self._room *= 2
        self._pack(self._buffer, count * self._size, *values)
        self._count = count + 1

    def take(self) -> np.ndarray:
        rows = np.frombuffer(self._buffer, self._dtype, self._count)
        self._new(self._room)
        return rows


class Kind:
    """What all pages of one class have in common: its names in Locust's table and in the bundle."""

    __slots__ = ("code", "label", "page", "refetch", "resource")

    def __init__(self, code: int, label: str, page: str, resource: str, refetch: str) -> None:
        self.code, self.label, self.page, self.resource, self.refetch = code, label, page, resource, refetch


class Recorder:
    """One per process: told by the pages, drained by a timer, ended by `finish`."""

    def __init__(self, mux: Mux, stats: Any, worker: int, directory: Path | None, probes: int | None, stamp: bool) -> None:
        self.stats, self.worker, self.probes = stats, worker, probes
        self._mux, self._directory, self._stamp = mux, directory, stamp
        self._started_at = mux.now()
        self._notifications = Rows(
            update="q", event="q", sent_at="q", arrived_at="q", read_at="q", subscriber="i", channel="i", kind="h", stamp="h"
        )
        self._refetches = Rows(
            due_at="q", started_at="q", finished_at="q", stale_at="q", resource_id="q", version="q", bytes="q",
            subscriber="i", status="i", answered="i", kind="h", outcome="h",
        )  # fmt: skip
        self.notification: Callable[..., None] = self._notifications.add
        self._kinds: list[Kind] = []
        self._channels: dict[str, int] = {}
        self._other: dict[str, list[tuple[Any, ...]]] = {name: [] for name in ("subscriptions", "metrics", "events")}
        self._timings: dict[tuple[str, str, bool], list[float]] = {}
        self._kept: dict[str, list[dict[str, Any]]] = {name: [] for name in parts.PARTS}
        self._kept_rows = dict.fromkeys(parts.PARTS, 0)
        self._written = dict.fromkeys(parts.PARTS, 0)
        self._serial = dict.fromkeys(parts.PARTS, 0)
        self._last_part = time.monotonic()
        self._steps = 0
        self.counters = dict.fromkeys(COUNTERS, 0)
        self.histograms = {name: Histogram() for name in HISTOGRAMS}
        self.first = self.last = -1
        self.opened = self.subscribed = self.wanted = 0
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True)

    # ---- what pages report

    def kind(self, label: str, page: str, resource: str, refetch: str) -> Kind:
        """The kind of these names, registered once."""
        for known in self._kinds:
            if (known.label, known.page, known.resource, known.refetch) == (label, page, resource, refetch):
                return known
        self._kinds.append(Kind(len(self._kinds), label, page, resource, refetch))
        return self._kinds[-1]

    def channel_code(self, channel: str) -> int:
        return self._channels.setdefault(channel, len(self._channels))

    def refetch(self, kind: Kind, subscriber: int, resource_id: int, refetch: Any, stale_at: int, outcome: str) -> None:
        """*refetch*: a `sim.refetch.Refetch` that is done. *stale_at*: intended time of the oldest update it answers, or -1."""
        self._refetches.add(
            refetch.due_at, refetch.started_at, refetch.finished_at, stale_at, resource_id,
            -1 if refetch.version is None else refetch.version, refetch.bytes,
            subscriber, refetch.status or 0, refetch.answered, kind.code, _CODE[outcome],
        )  # fmt: skip

    def subscription(self, *row: Any) -> None:
        """subscriber, page, user, resource, resource_id, channel, subscribed_at, ended_at, reason, policy."""
        self._other["subscriptions"].append(row)

    def event(self, event: Event) -> None:
        """A frame was heard on a channel for the first time."""
        row = (event.update, event.key, event.channel, event.resource_id, event.sent_at, event.published_at)
        self._other["events"].append(row)

    def metric(self, name: str, value: float) -> None:
        self._other["metrics"].append((self._mux.now(), f"harness-{self.worker}", name, float(value)))

    def timing(self, method: str, name: str, took: int, http: bool = False) -> None:
        """A sample for Locust's table only, *took* in ns."""
        self._timings.setdefault((method, name, http), []).append(took / 1e6)

    def failure(self, method: str, name: str, reason: str, http: bool = False) -> None:
        """A failure for Locust's table, with its reason in Locust's list of errors."""
        merge_samples(self.stats, method, name, failures={reason: 1}, aggregated=http)

    # ---- batches

    def drain(self) -> None:
        """Take what was packed: into statistics, histograms, parts."""
        self._drain_notifications(self._notifications.take())
        self._drain_refetches(self._refetches.take())
        timings, self._timings = self._timings, {}
        for (method, name, http), values in timings.items():
            merge_samples(self.stats, method, name, np.array(values), aggregated=http)
        for table, rows in self._other.items():
            if rows:
                self._other[table] = []
                names = parts.PARTS[table].names
                self._keep(table, len(rows), dict(zip(names, zip(*rows, strict=True), strict=True)))
        overdue = time.monotonic() - self._last_part > PART_SECONDS
        if overdue or max(self._kept_rows.values()) >= PART_ROWS:
            self._write_parts()

    def _drain_notifications(self, rows: np.ndarray) -> None:
        if not len(rows):
            return
        counters, histograms = self.counters, self.histograms
        counters["notifications"] += len(rows)
        stamped = rows["stamp"] > 0
        counters["coalesced"] += int((rows["stamp"] == 2).sum())
        counters["unstamped"] += int(len(rows) - stamped.sum())
        histograms["reader_lag"].add(rows["read_at"] - rows["arrived_at"])
        for kind, mine in self._by_kind(rows):
            known = mine["sent_at"] >= 0
            latency = mine["arrived_at"][known] - mine["sent_at"][known]
            histograms["time_to_notified"].add(latency)
            counters["negative"] += int((latency < 0).sum())
            unknown = len(mine) - len(latency)
            merge_samples(self.stats, "NOTIFY", kind.label, latency / 1e6, untimed=unknown, aggregated=False)
        recorded, counted = self._split(rows)
        self._keep(
            "notifications",
            len(recorded),
            {
                "update": recorded["update"],
                "event": recorded["event"],
                "subscriber": recorded["subscriber"],
                "channel": self._channel_names(recorded["channel"]),
                "received_at_ns": recorded["arrived_at"],
                "read_at_ns": recorded["read_at"],
                "sent_at_ns": recorded["sent_at"],
                "stamp": recorded["stamp"].astype(np.int8),
            },
        )
        if len(counted):
            self._keep_counts(counted)

    def _keep_counts(self, rows: np.ndarray) -> None:
        keys = np.stack([rows["update"], rows["event"], rows["channel"].astype(np.int64)], axis=1)
        different, where, count = np.unique(keys, axis=0, return_inverse=True, return_counts=True)
        first = np.full(len(different), np.iinfo(np.int64).max)
        last = np.full(len(different), -1)
        np.minimum.at(first, where, rows["arrived_at"])
        np.maximum.at(last, where, rows["arrived_at"])
        columns = {"update": different[:, 0], "event": different[:, 1]}
        columns["channel"] = self._channel_names(different[:, 2].astype(np.int32))
        self._keep("counts", len(different), columns | {"received": count, "first_at_ns": first, "last_at_ns": last})

    def _drain_refetches(self, rows: np.ndarray) -> None:
        if not len(rows):
            return
        counters, histograms = self.counters, self.histograms
        counters["refetches"] += len(rows)
        counters["answered"] += int(rows["answered"][rows["finished_at"] >= 0].sum())
        started = rows[rows["started_at"] >= 0]
        histograms["start_lag"].add(started["started_at"] - started["due_at"])
        for kind, mine in self._by_kind(rows):
            answered = mine[(mine["status"] > 0) & (mine["finished_at"] >= 0)]
            took = answered["finished_at"] - answered["due_at"]
            histograms["refetch"].add(took)
            histograms["service"].add(answered["finished_at"] - answered["started_at"])
            failed = mine[mine["outcome"] == _CODE["failed"]]
            counters["failed_refetches"] += len(failed)
            reasons = {f"HTTP {status}" if status else "no answer": count for status, count in _tally(failed["status"])}
            merge_samples(self.stats, "GET", kind.refetch, took / 1e6, size=int(answered["bytes"].sum()), failures=reasons)
            fresh = mine[(mine["outcome"] == _CODE["applied"]) & (mine["stale_at"] >= 0)]
            if len(fresh):
                waited = fresh["finished_at"] - fresh["stale_at"]
                histograms["time_to_fresh"].add(waited)
                merge_samples(self.stats, "FRESH", kind.label, waited / 1e6, aggregated=False)
        recorded, _ = self._split(rows)
        resources = pa.array([kind.resource for kind in self._kinds], pa.string())
        columns = {name: recorded[name] for name in ("subscriber", "resource_id", "version", "status", "bytes", "answered")}
        columns |= {f"{name}_ns": recorded[name] for name in ("due_at", "started_at", "finished_at")}
        columns["resource"] = pa.DictionaryArray.from_arrays(pa.array(recorded["kind"].astype(np.int32)), resources)
        columns["outcome"] = pa.DictionaryArray.from_arrays(pa.array(recorded["outcome"].astype(np.int32)), pa.array(OUTCOMES))
        self._keep("refetches", len(recorded), columns)

    def _by_kind(self, rows: np.ndarray) -> list[tuple[Kind, np.ndarray]]:
        return [(self._kinds[code], rows[rows["kind"] == code]) for code in np.unique(rows["kind"])]

    def _split(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows of probes, rows of the others."""
        if self.probes is None:
            return rows, rows[:0]
        probe = rows["subscriber"] < self.first + self.probes
        return rows[probe], rows[~probe]

    def _channel_names(self, codes: np.ndarray) -> pa.Array:
        return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), pa.array(list(self._channels), pa.string()))

    # ---- parts

    def _keep(self, table: str, rows: int, columns: dict[str, Any]) -> None:
        if self._directory is None or not rows:
            return
        schema = parts.PARTS[table]
        self._kept[table].append({f.name: parts.as_array(columns[f.name], f.type) for f in schema})
        self._kept_rows[table] += rows

    def _write_parts(self) -> None:
        self._last_part = time.monotonic()
        if self._directory is None:
            return
        for table, batches in self._kept.items():
            if batches:
                schema = parts.PARTS[table]
                pieces = [pa.Table.from_arrays([batch[f.name] for f in schema], schema=schema) for batch in batches]
                merged = pa.concat_tables(pieces).unify_dictionaries().combine_chunks()
                self._kept[table] = []
                parts.write_part(self._directory, table, os.getpid(), self._serial[table], merged)
                self._serial[table] += 1
                self._written[table] += self._kept_rows[table]
                self._kept_rows[table] = 0

    def write_header(self, finished: bool = False) -> None:
        step = self._mux.step()
        if abs(step) > abs(self._steps):
            self._steps = step
        self.counters["callback_errors"] = self._mux.errors
        if self._directory is not None:
            parts.write_header(self._directory, self.header(finished))

    def header(self, finished: bool) -> dict[str, Any]:
        """See `sim.results.parts.HEADER`."""
        return {
            "part_version": parts.PART_VERSION,
            "pid": os.getpid(),
            "worker": self.worker,
            "process": f"harness-{self.worker}",
            "versions": VERSIONS,
            "started_at_ns": self._started_at,
            "written_at_ns": self._mux.now(),
            "finished": finished,
            "clock": {
                "wall_ns": self._mux.pair[0],
                "monotonic_ns": self._mux.pair[1],
                "steps_ns": self._steps,
                **clocks.members(),
            },
            "subscribers": {
                "first": self.first,
                "last": self.last,
                "opened": self.opened,
                "subscribed": self.subscribed,
                "wanted": self.wanted,
            },
            "probes": self.probes,
            "receive_stamp": "kernel" if self._stamp else "read",
            "counters": self.counters,
            "histograms": {name: histogram.to_dict() for name, histogram in self.histograms.items()},
            "rows": self._written,
        }

    def finish(self) -> None:
        """The last rows and the last header. Nothing may be recorded afterwards."""
        self.drain()
        self._write_parts()
        self.write_header(finished=True)


def _tally(values: np.ndarray) -> list[tuple[int, int]]:
    different, counts = np.unique(values, return_counts=True)
    return list(zip(different.tolist(), counts.tolist(), strict=True))
