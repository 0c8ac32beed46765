"""The tables of a run bundle: columns, types and what each means. Version 2.

A null is what is unknown or did not happen: NaN for an instant, Parquet's null (pandas `Int64`) for the whole numbers that are
marked nullable. No row holds -1, 0 or "" for it.
"""

from __future__ import annotations

import pyarrow as pa

SCHEMA_VERSION = 2

_text = pa.dictionary(pa.int32(), pa.string())


def _column(name: str, kind: pa.DataType, meaning: str, unit: str = "", null: str = "") -> pa.Field:
    return pa.field(
        name, kind, metadata={"meaning": meaning, **({"unit": unit} if unit else {}), **({"null": null} if null else {})}
    )


def _instant(name: str, meaning: str, null: str = "") -> pa.Field:
    return _column(name, pa.float64(), meaning, "s since the run's start", null)


_PAGE = [
    _column("page", _text, "detail, firewall, provision, site, task, dashboard"),
    _column("user", pa.int64(), "id of the user whose page it is"),
    _column("resource", _text, "what the page shows: server, site, task or dashboard"),
    _column("resource_id", pa.int64(), "id of what it shows; 0 for a dashboard"),
]
_POLICY = _column("policy", _text, "kind of the page's policy, as debounce; empty where it is not known")

TABLES: dict[str, pa.Schema] = {
    "updates": pa.schema(
        [
            _column("update", pa.int64(), "serial of the update within the run"),
            _column("resource", _text, "server, site or task"),
            _column("resource_id", pa.int64(), "id of the changed resource"),
            _column("version", pa.int64(), "version of the resource that holds this change", null="unknown, or never committed"),
            _column(
                "sequence",
                pa.int64(),
                "version of the dashboards that hold this change: serial over all changes",
                null="unknown, or never committed",
            ),
            _instant("intended_at", "when the workload wanted it; latencies count from here"),
            _instant("committed_at", "when the change was in the database", null="never, or not known"),
            _instant("published_at", "when the broadcaster had accepted the event", null="never"),
            _column(
                "status",
                _text,
                "committed; failed: certainly not in the database when the run was over; not_broadcast: committed, its event was "
                "never accepted; unknown: it may or may not have been committed",
            ),
        ]
    ),
    "notifications": pa.schema(
        [
            _column("update", pa.int64(), "which update", null="a foreign target does not say"),
            _column("subscriber", pa.int32(), "which subscriber"),
            _column("channel", _text, "name on the wire"),
            _instant("received_at", "arrival (kernel's receive time where the platform has one)"),
            _instant("read_at", "when the subscriber's process read it; minus received_at: the reader's lag"),
        ]
    ),
    "refetches": pa.schema(
        [
            _column("subscriber", pa.int32(), "which subscriber"),
            _column("resource", _text, "server, site, task or dashboard"),
            _column("resource_id", pa.int64(), "id of the resource; 0 for a dashboard"),
            _instant("due_at", "when its policy wanted it"),
            _instant("started_at", "when the request was sent"),
            _instant("finished_at", "when the answer was complete", null="no answer yet, or never"),
            _column("version", pa.int64(), "version got", null="none, or not known"),
            _column("status", pa.int32(), "HTTP status", null="no answer"),
            _column("bytes", pa.int64(), "size of the answer, head and body", "byte"),
            _column("answered", pa.int32(), "notifications that it answers"),
            _column(
                "outcome",
                _text,
                "applied, not_newer, superseded (by a newer one), cancelled (its page left), failed, "
                "running (no end yet when the run ended on an open page)",
            ),
        ]
    ),
    "subscriptions": pa.schema(
        [
            _column("subscriber", pa.int32(), "which subscriber"),
            *_PAGE,
            _column("channel", _text, "name on the wire"),
            _instant("subscribed_at", "when the broadcaster confirmed it: from when events are expected"),
            _instant("ended_at", "until when", null="still open at the end of the run"),
            _column("reason", _text, "why it ended: end (of the run), closed, dropped, refused"),
            _POLICY,
        ]
    ),
    "pages": pa.schema(
        [
            _column("subscriber", pa.int32(), "number of this life of a page; a session that is replaced has another one"),
            *_PAGE,
            _instant("opened_at", "when its first load was applied"),
            _instant("closed_at", "when its user left", null="still open at the end of the run"),
            _column("reason", _text, "end (of the run) or closed"),
            _column("loaded_version", pa.int64(), "version of the first load", null="all that was committed before it opened"),
            _POLICY,
            _column("hidden", pa.bool_(), "in a hidden tab"),
            _column("weight", pa.float64(), "how many pages the row stands for; 1 where all are recorded"),
        ]
    ),
    "metrics": pa.schema(
        [
            _instant("at", "when the sample was taken"),
            _column("process", _text, "application, broadcaster, publisher, harness-<n>"),
            _column("metric", _text, "name with unit, as cpu_seconds, rss_bytes"),
            _column("value", pa.float64(), "value"),
        ]
    ),
}


def nullable(field: pa.Field) -> bool:
    """Whether a column of whole numbers has nulls: pandas `Int64` in a frame."""
    return pa.types.is_integer(field.type) and b"null" in (field.metadata or {})
