"""Counters and histograms of one application process, as Prometheus text (`prometheus_client`)."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
"""Upper bounds, seconds."""

COUNTERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "http_requests_total": ("Requests answered, by route and status.", ("route", "method", "status")),
    "broadcast_dispatched_total": ("Events that models raised.", ("event",)),
    "broadcast_published_total": ("Events that the broadcaster accepted.", ("event",)),
    "broadcast_failures_total": ("Attempts that the broadcaster refused or did not answer in time.", ("event",)),
    "broadcast_retries_total": ("Attempts put back into the queue.", ("event",)),
    "broadcast_lost_total": ("Events given up after all tries; the change itself is committed.", ("event",)),
    "broadcast_dropped_total": ("Events not sent on purpose: unique, debounced, or the row is gone.", ("event", "reason")),
    "changes_total": ("Committed changes, by resource.", ("resource",)),
    "changes_quiet_total": ("Committed changes that no field list found worth a broadcast.", ("resource",)),
    "throttled_total": ("Requests refused by the rate limiter.", ()),
}
HISTOGRAMS: dict[str, tuple[str, tuple[str, ...]]] = {
    "http_request_seconds": ("Seconds from a request's arrival to its answer, by route.", ("route",)),
    "broadcast_lead_seconds": (
        "Seconds by which an event was out before its commit (on_save): a refetch may read the old row.",
        (),
    ),
    "broadcast_publish_seconds": ("Seconds of one publish, all its requests.", ()),
    "broadcast_wait_seconds": ("Seconds between dispatch and publish: the queue.", ()),
}
GAUGES = {
    "queue_depth": "Jobs waiting.",
    "workers_busy": "Workers that hold a request.",
    "requests_waiting": "Requests that wait for a worker.",
}


class Metrics:
    """Thread-safe; `render` gives the text."""

    def __init__(self) -> None:
        disable_created_metrics()
        self._registry = CollectorRegistry()
        self._counters = {name: Counter(name, text, labels, registry=self._registry) for name, (text, labels) in COUNTERS.items()}
        self._histograms = {
            name: Histogram(name, text, labels, buckets=BUCKETS, registry=self._registry)
            for name, (text, labels) in HISTOGRAMS.items()
        }

    def count(self, name: str, **labels: str) -> None:
        counter = self._counters[name]
        (counter.labels(**labels) if labels else counter).inc()

    def observe(self, name: str, seconds: float, **labels: str) -> None:
        """Add one duration. (Negative ones land in the first bucket: a clock was set back.)"""
        histogram = self._histograms[name]
        (histogram.labels(**labels) if labels else histogram).observe(seconds)

    def watch(self, name: str, value: Callable[[], float]) -> None:
        """Ask *value* for the gauge *name* at each `render`."""
        Gauge(name, GAUGES[name], registry=self._registry).set_function(value)

    def value(self, name: str, **labels: str) -> float:
        """The sum of a counter over all label sets that have *labels*."""
        wanted = labels.items()
        return sum(
            sample.value
            for metric in self._counters[name].collect()
            for sample in metric.samples
            if sample.name == name and wanted <= sample.labels.items()
        )

    def render(self) -> str:
        return generate_latest(self._registry).decode()
