"""Counters and histograms of one application process, as Prometheus text."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import defaultdict

BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
"""Upper bounds, seconds."""

HELP = {
    "http_requests_total": "Requests answered, by route and status.",
    "http_request_seconds": "Seconds from a request's head being read to its answer being written, by route.",
    "broadcast_dispatched_total": "Events that models raised.",
    "broadcast_published_total": "Events that the broadcaster accepted.",
    "broadcast_failures_total": "Attempts that the broadcaster refused or did not answer in time.",
    "broadcast_retries_total": "Attempts put back into the queue.",
    "broadcast_lost_total": "Events given up after all tries; the change itself is committed.",
    "broadcast_dropped_total": "Events not sent on purpose: unique, debounced, or the row is gone.",
    "broadcast_lead_seconds": "Seconds by which an event was out before its commit (on_save): a refetch may read the old row.",
    "broadcast_publish_seconds": "Seconds of one publish, all its requests.",
    "broadcast_wait_seconds": "Seconds between dispatch and publish: the queue.",
    "changes_total": "Committed changes, by resource.",
    "changes_quiet_total": "Committed changes that no field list found worth a broadcast.",
    "queue_depth": "Jobs waiting.",
    "throttled_total": "Requests refused by the rate limiter.",
}

Labels = tuple[tuple[str, str], ...]


class Metrics:
    """Thread-safe; `render` gives the text."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, dict[Labels, float]] = defaultdict(lambda: defaultdict(float))
        self._histograms: dict[str, dict[Labels, list[float]]] = defaultdict(dict)
        self._gauges: dict[str, float] = {}

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        key = tuple(labels.items())
        with self._lock:
            self._counts[name][key] += amount

    def observe(self, name: str, seconds: float, **labels: str) -> None:
        """Add one duration. (Negative ones land in the first bucket: a clock was set back.)"""
        key = tuple(labels.items())
        slot = bisect_left(BUCKETS, seconds)
        with self._lock:
            row = self._histograms[name].get(key)
            if row is None:
                # one per bucket, one for the rest, and the sum
                row = self._histograms[name][key] = [0] * (len(BUCKETS) + 2)
            row[slot] += 1
            row[-1] += seconds

    def gauge(self, name: str, value: float) -> None:
        with self._lock:
            self._gauges[name] = value

    def value(self, name: str, **labels: str) -> float:
        """The sum of a counter over all label sets that have *labels*."""
        wanted = set(labels.items())
        with self._lock:
            return sum(v for key, v in self._counts.get(name, {}).items() if wanted <= set(key))

    def render(self) -> str:
        lines: list[str] = []
        with self._lock:
            for name, series in sorted(self._counts.items()):
                lines += _head(name, "counter")
                lines += [f"{name}{_labels(key)} {value:g}" for key, value in sorted(series.items())]
            for name, value in sorted(self._gauges.items()):
                lines += [*_head(name, "gauge"), f"{name} {value:g}"]
            for name, rows in sorted(self._histograms.items()):
                lines += _head(name, "histogram")
                for key, row in sorted(rows.items()):
                    total = 0.0
                    for bound, n in zip((*BUCKETS, "+Inf"), row, strict=False):
                        total += n
                        lines.append(f"{name}_bucket{_labels((*key, ('le', str(bound))))} {total:g}")
                    lines += [f"{name}_sum{_labels(key)} {row[-1]:.9g}", f"{name}_count{_labels(key)} {total:g}"]
        return "\n".join(lines) + "\n"


def _head(name: str, kind: str) -> list[str]:
    return [f"# HELP {name} {HELP.get(name, name)}", f"# TYPE {name} {kind}"]


def _labels(key: Labels) -> str:
    if not key:
        return ""
    return "{" + ",".join(f'{name}="{value}"' for name, value in key) + "}"
