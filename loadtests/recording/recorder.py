"""Samples of one worker process: to Locust's statistics, to histograms, to parts (the format is `sim.results.parts`).

The hot path packs a row of four numbers into a buffer (0.1 us). Each two seconds, or when it is full, a buffer is drained as a
NumPy array, and everything else is derived from that in batches. Locust's rows are

    WS      connect, subscribe         opening handshake to `connection_established`; subscribe frame to its answer
    POST    /broadcasting/auth         channel authorisations
    GET     /servers/{id}              refetches, from when they were *due*
    NOTIFY  DetailPage                 intended time of the update -> arrival of its event (kernel's time)
    FRESH   DetailPage                 intended time of the oldest update waited for -> refetch that shows it applied

Where a payload does not say when its update was intended (without `serve --members`, or of somebody else's application), the two
rows count from what is known, and say so: `NOTIFY DetailPage (after the first page)` from the first arrival of the event at any
page of the process, `FRESH DetailPage (since notified)` from the arrival of the oldest notification waited for.

Only HTTP counts in Locust's "Aggregated" row. Requests without an answer are requests and failures, as everywhere in Locust.

Row by row are recorded all pages or a random share (`rows.Sample`); the others are counted per event and in the histograms, so a
soak of days needs no more memory than a minute.
"""

from __future__ import annotations

import logging
import math
import os
import platform
from array import array
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from loadtests.client.mux import Mux
from loadtests.client.reader import Event, EventReader, EventSeries, facts_of
from loadtests.recording import clocks
from loadtests.recording.listeners import Listeners
from loadtests.recording.rows import Rows, Sample
from loadtests.recording.statistics import merge_samples
from loadtests.recording.writer import PartWriter
from sim.refetch import Refetch
from sim.results import parts
from sim.results.histogram import Histogram

logger = logging.getLogger(__name__)

REFUSALS = 50
"""Different texts of refusals that are counted: a target may send any number of them."""

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
    "untimed": "notifications whose payload does not say when their update was intended",
    "unsent": "refetches that waited for a connection when their page or the run ended",
    "retries": "requests sent again after no answer, 429 or 503",
    "recording_faults": "times that samples could not be counted or written (the header's `fault` says why)",
    "rows_lost": "rows that are in no part because of that",
    "callback_errors": "exceptions in code that runs in the hub: ours or a page's",
    "gc_collections": "full collections of the garbage collector while recording",
    "hub_gaps": "times that the hub went round more than 50 ms late",
}
"""Names and meanings of a header's counters."""

HISTOGRAMS = {
    "time_to_notified": "intended time of the update to arrival of its event",
    "time_to_fresh": "intended time of the oldest update waited for to end of the refetch applied",
    "since_notified": "arrival of the oldest notification waited for to end of the refetch applied",
    "reader_lag": "arrival of a frame (kernel) to this process reading it: the harness's own queue",
    "start_lag": "refetch due to request sent: the harness's own queue",
    "refetch": "refetch due to answer complete",
    "service": "request sent to answer complete: what the target took",
    "hub_gap": "lateness of a timer on the hub, four times a second",
    "gc_pause": "duration of a full garbage collection",
}
"""Names and meanings of a header's histograms, all in nanoseconds."""

VERSIONS = {"python": platform.python_version()} | {name: version(name) for name in ("locust", "gevent", "websockets")}

OUTCOMES = ("applied", "superseded", "cancelled", "failed", "not_newer", "running")
_CODE = {name: code for code, name in enumerate(OUTCOMES)}
FACTS = np.dtype(
    [(name, "<i8") for name in ("update", "sent_at", "published_at", "key")] + [("channel", "<i4"), ("first_at", "<i8")]
)
"""What is known of an event: see `Event`; `first_at`, its first arrival in this process."""
_LATER = int(np.iinfo(np.int64).max)
_UNKNOWN = int(np.iinfo(np.int64).min)
"""A version that is not known, in packed rows only."""


@dataclass(slots=True, eq=False)
class Kind:
    """What all pages of one class have in common: its names in Locust's table and in the bundle."""

    code: int
    label: str
    page: str
    resource: str
    refetch: str
    versions: set[str] = field(default_factory=set)
    """Kinds that its answers had: counter, time, text."""


class Recorder:
    """One per process. Pages report to it, a timer drains it, and `finish` ends it."""

    def __init__(
        self,
        mux: Mux,
        stats: Any,
        worker: int,
        directory: Path | None,
        sample: Sample,
        stamp: bool,
        first: int = 0,
        listeners: Listeners | None = None,
    ) -> None:
        """*first*: the first subscriber's number. Raises OSError where *directory* cannot be written."""
        self.stats, self.worker, self.sample = stats, worker, sample
        self._mux, self._stamp, self._listeners = mux, stamp, listeners or Listeners()
        self._started_at = mux.now()
        self._notifications = Rows(self._full, event="q", arrived_at="q", read_at="q", subscriber="i")
        self._refetches = Rows(
            self._full,
            due_at="q", started_at="q", finished_at="q", stale_at="q", heard_at="q", resource_id="q", version="q", bytes="q",
            subscriber="i", status="i", answered="i", reason="i", kind="h", outcome="h",
        )  # fmt: skip
        self.notification: Callable[[int, int, int, int], None] = self._notifications.add
        """(code, arrived_at, read_at, subscriber); *code*: the event's, times four, plus the index of its stamp in `STAMPS`."""
        self._kinds: list[Kind] = []
        self._first, self._kind_of = first, array("h")
        self._events: list[Event | EventSeries] = []
        """Heard since the last drain."""
        self._facts = np.zeros(0, FACTS)
        """Facts of the latest events before these."""
        self._forgotten, self._numbered = 0, -1
        """Events before those of `_facts`; the last number given."""
        self._reasons: dict[str, int] = {"": 0}
        self._channels: dict[str, int] = {}
        self._other: dict[str, list[tuple[Any, ...]]] = {name: [] for name in ("subscriptions", "pages", "metrics")}
        self._timings: dict[tuple[str, str, bool], dict[str, list[float]]] = {}
        self._steps = 0
        self.counters = dict.fromkeys(COUNTERS, 0)
        self._refusals: Counter[str] = Counter()
        self.strangers: Counter[str] = Counter()
        """Names of events that their page does not listen to."""
        self.histograms = {name: Histogram() for name in HISTOGRAMS}
        self.opened = self.wanted = self.subscribed = self.listening = self.lives = 0
        """See the header's `subscribers`."""
        self.named: Callable[[str], str] = str
        """A channel's name in tables: with numbers, where the target's own ids are of another kind."""
        self._fault = ""
        self._writer = PartWriter(directory) if directory is not None else None

    # ---- what pages report

    def kind(self, label: str, page: str, resource: str, refetch: str) -> Kind:
        """The kind of these names, registered once."""
        for known in self._kinds:
            if (known.label, known.page, known.resource, known.refetch) == (label, page, resource, refetch):
                return known
        self._kinds.append(Kind(len(self._kinds), label, page, resource, refetch))
        return self._kinds[-1]

    def subscriber(self, kind: Kind) -> int:
        """The next page's number."""
        self._kind_of.append(kind.code)
        return self._first + len(self._kind_of) - 1

    def event(self, event: Event | EventSeries) -> int:
        """A frame was heard on a channel for the first time, or a series of them; its number, or that of the first."""
        self._events.append(event)
        number = self._numbered + 1
        self._numbered += _count(event)
        return number

    def notifications(self, codes: np.ndarray, arrived_at: np.ndarray, read_at: int, subscribers: np.ndarray) -> None:
        """`notification` for several that were read together."""
        self._notifications.extend(len(codes), event=codes, arrived_at=arrived_at, read_at=read_at, subscriber=subscribers)

    def refetch(
        self, kind: Kind, subscriber: int, resource_id: int, refetch: Refetch, stale_at: int, heard_at: int, reason: str
    ) -> None:
        """*refetch* is over. *stale_at*, *heard_at*: intended time of the oldest update that it answers and arrival of the oldest
        notification, or -1. *reason*: why it failed."""
        version, status = refetch.version, refetch.status
        self._refetches.add(
            refetch.due_at, refetch.started_at, refetch.finished_at, stale_at, heard_at, resource_id,
            _UNKNOWN if version is None else version, refetch.bytes, subscriber, status or 0, refetch.answered,
            self._reasons.setdefault(reason, len(self._reasons)), kind.code, _CODE[refetch.outcome],
        )  # fmt: skip

    def subscription(self, *row: Any) -> None:
        """subscriber, page, user, resource, resource_id, channel, subscribed_at, ended_at, reason, policy; once when it begins
        (`ended_at` -1), once when it ends."""
        self._other["subscriptions"].append((*row[:5], self.named(row[5]), *row[6:]))

    def metric(self, name: str, value: float) -> None:
        self._other["metrics"].append((self._mux.now(), f"harness-{self.worker}", name, float(value)))

    def page(self, row: tuple[Any, ...]) -> None:
        """A page is open, or has closed: a row of `pages`, but for its weight."""
        self._other["pages"].append((*row, self.sample.weight))

    def timing(self, method: str, name: str, took: int | None, http: bool = False, failed: str = "") -> None:
        """A sample for Locust's table only, *took* in ns (None: it has no duration); *failed*: with this reason."""
        row = self._timings.setdefault((method, name, http), {})
        row.setdefault(failed, []).append(math.nan if took is None else took / 1e6)

    def _refused(self, method: str, name: str, reasons: dict[str, int]) -> None:
        """Count the answers that pages got in place of a connection, a subscription, or anything else but a refetch."""
        for reason, count in reasons.items():
            # The status of an authorisation is counted with its request, and again as that of the subscription.
            if len(self._refusals) < REFUSALS and not (method == "WS" and reason.startswith("HTTP ")):
                self._refusals[reason if method == "WS" else f"{method} {name}: {reason}"] += count

    # ---- batches

    def _full(self) -> None:
        """Too many rows wait. Drain them soon, and not from here: the caller is in the middle of a page's work."""
        self._mux.call_at(0, self.drain)

    def drain(self) -> None:
        """Take the packed rows into statistics, histograms and parts. A step that fails is counted, and the others go on."""
        new, self._events = self._events, []
        self._step(self._learn, new)
        self._step(self._drain_notifications, self._notifications.take())
        self._step(self._drain_refetches, self._refetches.take())
        timings, self._timings = self._timings, {}
        for (method, name, http), row in timings.items():
            samples = {reason: np.array(values) for reason, values in row.items()}
            self._refused(method, name, {reason: len(values) for reason, values in row.items() if reason})
            self._step(self._count, row, method, name, samples, aggregated=http)
        for table, rows in self._other.items():
            if rows:
                self._other[table] = []
                self._step(self._keep_rows, rows, table, rows)

    def _step(self, step: Callable[..., None], rows: Any, *arguments: Any, **named: Any) -> None:
        try:
            if len(rows):
                step(*(arguments or (rows,)), **named)
        except Exception as error:
            self.counters["recording_faults"] += 1
            self.counters["rows_lost"] += len(rows)
            self._fault = f"{type(error).__name__}: {error}"
            if self.counters["recording_faults"] <= 10:
                logger.exception("samples could not be recorded (counted; the run goes on)")

    def _count(
        self,
        method: str,
        name: str,
        samples: dict[str, np.ndarray],
        *,
        size: int = 0,
        aggregated: bool = True,
    ) -> None:
        """Samples (ms) by why they failed (empty: they did not) into Locust's table, and to whoever else listens."""
        together = np.concatenate(list(samples.values()))
        failures = {reason: len(values) for reason, values in samples.items() if reason}
        merge_samples(self.stats, method, name, together, size=size, failures=failures, aggregated=aggregated)
        self._listeners.tell(method, name, samples, size)

    def _learn(self, events: list[Event | EventSeries]) -> None:
        """Keep the facts of new events, which their notifications refer to, and write the events' own rows."""
        counts = [_count(event) for event in events]
        facts = np.full(sum(counts), np.array((-1, -1, -1, 0, 0, _LATER), FACTS))
        # An event that the reader has forgotten gets a new number when it comes again.
        self._forgotten += max(len(self._facts) - EventReader.REMEMBERED, 0)
        # First of all: if what follows fails, later events still have their right numbers.
        self._facts = np.concatenate([self._facts[-EventReader.REMEMBERED :], facts])
        facts = self._facts[-len(facts) :]
        (facts["update"], facts["sent_at"], facts["published_at"]), resource_ids, named, facts["key"] = facts_of(events)
        channels = self._channels
        codes = {name: channels.setdefault(self.named(name), len(channels)) for name in {event.channel for event in events}}
        facts["channel"] = np.repeat([codes[event.channel] for event in events], counts)
        # An event that came in several series has one row.
        once = np.sort(np.unique(facts["key"] ^ facts["channel"].astype(np.int64) << 32, return_index=True)[1])
        facts = facts[once]
        columns = {"update": facts["update"], "event": facts["key"], "channel": facts["channel"]}
        columns |= {"sent_at_ns": facts["sent_at"], "published_at_ns": facts["published_at"]}
        self._keep("events", columns | {"resource_id": pa.array(resource_ids[once], mask=~named[once])})

    def _drain_notifications(self, rows: np.ndarray) -> None:
        counters, histograms = self.counters, self.histograms
        event, arrived, read_at, subscriber = (rows[name].copy() for name in rows.dtype.names or ())
        stamp, which = event & 3, (event >> 2) - self._forgotten
        update, key, sent_at, channel = (self._facts[name][which] for name in ("update", "key", "sent_at", "channel"))
        # From when a notification's latency counts: the intended time, else the event's first arrival in this process.
        timed, since = sent_at >= 0, sent_at
        if not timed.all():
            np.minimum.at(self._facts["first_at"], which, arrived)
            since = np.where(timed, sent_at, self._facts["first_at"][which])
        counters["notifications"] += len(rows)
        counters["coalesced"] += int((stamp == 2).sum())
        counters["unstamped"] += int((stamp == 0).sum())
        counters["untimed"] += int((~timed).sum())
        histograms["reader_lag"].add(read_at - arrived)
        kind_of = np.frombuffer(self._kind_of, np.int16)[subscriber - self._first]
        for kind in (self._kinds[code] for code in np.unique(kind_of)):
            for those, label in ((timed, kind.label), (~timed, f"{kind.label} (after the first page)")):
                mine = those & (kind_of == kind.code)
                latency = arrived[mine] - since[mine]
                if len(latency):
                    self._count("NOTIFY", label, {"": latency / 1e6}, aggregated=False)
        latency = (arrived - sent_at)[timed]
        histograms["time_to_notified"].add(latency)
        counters["negative"] += int((latency < 0).sum())
        kept = self.sample.keeps(subscriber)
        columns = {"update": update, "event": key, "subscriber": subscriber, "received_at_ns": arrived}
        columns |= {"read_at_ns": read_at, "sent_at_ns": sent_at, "stamp": stamp.astype(np.int8), "channel": channel}
        self._keep("notifications", {name: column[kept] for name, column in columns.items()})
        if not kept.all():
            self._keep_counts({name: column[~kept] for name, column in columns.items()})

    def _keep_counts(self, columns: dict[str, np.ndarray]) -> None:
        order = np.lexsort([columns[name] for name in ("channel", "event", "update")])
        keys = np.stack([columns[name][order] for name in ("update", "event", "channel")])
        first = np.flatnonzero(np.r_[True, (keys[:, 1:] != keys[:, :-1]).any(axis=0)])
        arrived = columns["received_at_ns"][order]
        of_all = (np.diff(first, append=len(order)), np.minimum.reduceat(arrived, first), np.maximum.reduceat(arrived, first))
        self._keep("counts", dict(zip(parts.PARTS["counts"].names, (*keys[:, first], *of_all), strict=True)))

    def _drain_refetches(self, rows: np.ndarray) -> None:
        counters, histograms = self.counters, self.histograms
        counters["refetches"] += len(rows)
        over = (rows["finished_at"] >= 0) & (rows["started_at"] >= 0)
        counters["answered"] += int(rows["answered"][rows["finished_at"] >= 0].sum())
        started = rows[rows["started_at"] >= 0]
        histograms["start_lag"].add(started["started_at"] - started["due_at"])
        reasons = list(self._reasons)
        for kind, mine in ((kind, rows[over & (rows["kind"] == kind.code)]) for kind in self._kinds):
            took = mine["finished_at"] - mine["due_at"]
            answered = mine["status"] > 0
            histograms["refetch"].add(took[answered])
            histograms["service"].add((mine["finished_at"] - mine["started_at"])[answered])
            failed = mine["outcome"] == _CODE["failed"]
            counters["failed_refetches"] += int(failed.sum())
            if len(mine):
                ends = {reasons[code]: took[mine["reason"] == code] / 1e6 for code in np.unique(mine["reason"])}
                self._count("GET", kind.refetch, ends, size=int(mine["bytes"].sum()))
            applied = mine[mine["outcome"] == _CODE["applied"]]
            timed, heard = applied["stale_at"] >= 0, applied["heard_at"] >= 0
            since = applied["finished_at"] - applied["heard_at"]
            histograms["since_notified"].add(since[heard])
            waited = (applied["finished_at"] - applied["stale_at"])[timed]
            if len(waited):
                histograms["time_to_fresh"].add(waited)
                self._count("FRESH", kind.label, {"": waited / 1e6}, aggregated=False)
            untimed = since[heard & ~timed]
            if len(untimed):
                self._count("FRESH", f"{kind.label} (since notified)", {"": untimed / 1e6}, aggregated=False)
        self._keep_refetches(rows[self.sample.keeps(rows["subscriber"])])

    def _keep_refetches(self, kept: np.ndarray) -> None:
        resources = pa.array([kind.resource for kind in self._kinds], pa.string())
        columns: dict[str, Any] = {name: kept[name] for name in ("subscriber", "resource_id", "bytes", "answered")}
        columns |= {f"{name}_ns": kept[name] for name in ("due_at", "started_at", "finished_at")}
        columns["version"] = pa.array(kept["version"], mask=kept["version"] == _UNKNOWN)
        columns["status"] = pa.array(kept["status"], mask=kept["status"] == 0)
        columns["resource"] = pa.DictionaryArray.from_arrays(pa.array(kept["kind"].astype(np.int32)), resources)
        columns["outcome"] = pa.DictionaryArray.from_arrays(pa.array(kept["outcome"].astype(np.int32)), pa.array(OUTCOMES))
        self._keep("refetches", columns)

    # ---- parts

    def _keep_rows(self, table: str, rows: list[tuple[Any, ...]]) -> None:
        columns: dict[str, Any] = dict(zip(parts.PARTS[table].names, zip(*rows, strict=True), strict=True))
        if "subscriber" in columns:
            kept = self.sample.keeps(columns["subscriber"])
            if not kept.all():
                columns = {name: [v for v, keep in zip(column, kept, strict=True) if keep] for name, column in columns.items()}
        self._keep(table, columns)

    def _keep(self, table: str, columns: dict[str, Any]) -> None:
        rows = len(next(iter(columns.values())))
        if self._writer is None or not rows:
            return
        if "channel" in columns and isinstance(columns["channel"], np.ndarray):
            names = pa.array(list(self._channels), pa.string())
            columns = columns | {"channel": pa.DictionaryArray.from_arrays(pa.array(columns["channel"]), names)}
        self._writer.add(table, columns, rows)

    def write(self) -> None:
        """Write what was drained, with a header."""
        if self._writer is not None:
            self._writer.write(self.header(finished=False))

    def header(self, finished: bool) -> dict[str, Any]:
        """See `sim.results.parts.HEADER`."""
        step = self._mux.step()
        if abs(step) > abs(self._steps):
            self._steps = step
        pages = len(self._kind_of)
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
                "first": self._first if pages else -1,
                "last": self._first + pages - 1 if pages else -1,
                "opened": self.opened,
                "lives": self.lives,
                "wanted": self.wanted,
                "subscribed": self.subscribed,
                "listening": self.listening,
            },
            "share": self.sample.share,
            "receive_stamp": "kernel" if self._stamp else "read",
            "waits_by": self._mux.waits_by,
            "counters": self.counters | {"callback_errors": self._mux.errors},
            "histograms": {name: histogram.to_dict() for name, histogram in self.histograms.items()},
            "refusals": dict(self._refusals.most_common(5)),
            "strangers": dict(self.strangers.most_common(5)),
            "version_kinds": self._version_kinds(),
            "rows": {},
            "fault": self._fault,
        }

    def _version_kinds(self) -> dict[str, list[str]]:
        found: dict[str, set[str]] = {}
        for kind in self._kinds:
            found.setdefault(kind.resource, set()).update(kind.versions)
        return {resource: sorted(kinds) for resource, kinds in found.items() if kinds}

    def finish(self) -> None:
        """Write the last rows and the last header. Nothing may be recorded afterwards."""
        self.drain()
        if self._writer is not None:
            self._writer.finish(self.header(finished=True))


def _count(event: Event | EventSeries) -> int:
    return len(event.frames) if isinstance(event, EventSeries) else 1
