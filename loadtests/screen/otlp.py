"""Sends what Prometheus can scrape to the OpenTelemetry collector that WORKBENCH_OTLP names (OTLP over HTTP, protobuf).

Names and buckets are those of `loadtests.screen.prometheus`, so a collector that writes to Prometheus writes the same series. It
needs the extra `otlp`. Headers, time-out, compression, certificates, service name and resource attributes come from the standard
variables (OTEL_EXPORTER_OTLP_HEADERS, OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES ...), which the exporter reads.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import Any
from urllib.parse import urlsplit

import gevent
from prometheus_client.core import Metric

from loadtests.screen.figures import Figures
from loadtests.screen.prometheus import Collector
from sim.clock import SECOND
from sim.errors import BadInput

EVERY = 5.0
"""Seconds between two exports. There are further ones when a test ends."""

SIGNAL = "/v1/metrics"
"""The path after the collector's address (OTLP specification, "Endpoint URLs for OTLP/HTTP")."""


def register(figures: Figures, address: str) -> None:
    """Send to the collector at *address*, as `http://127.0.0.1:4318`; empty: send nothing. Raises `BadInput`."""
    if not address:
        return
    url = urlsplit(address)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise BadInput(f"WORKBENCH_OTLP={address}: must be the address of a collector, as http://127.0.0.1:4318")
    send = exporter(figures, address.rstrip("/") + SIGNAL)
    events = figures.environment.events
    # A master that ends fires test_stop, then receives the last reports of its workers, then fires quitting.
    for event in (events.test_stop, events.quitting):
        event.add_listener(lambda **_: send())

    def run() -> None:
        while True:
            gevent.sleep(EVERY)
            send()

    gevent.spawn(run)


def exporter(figures: Figures, url: str) -> Callable[[], Any]:
    """A function that sends the figures of the moment. A collector that does not answer costs a line in the log, not the run."""
    try:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.sdk.metrics.export import MetricsData, ResourceMetrics, ScopeMetrics
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    except ImportError as error:
        raise BadInput("OTLP needs the extra `otlp`: pip install 'notify-refetch-workbench[otlp]'") from error
    otlp, collector = OTLPMetricExporter(url), Collector(figures)
    resource = Resource.create({"service.name": os.environ.get("OTEL_SERVICE_NAME", "workbench")})
    scope, stats = InstrumentationScope("workbench"), figures.environment.stats

    def send() -> Any:
        metrics = list(converted(collector.collect(), int(stats.start_time * SECOND), time.time_ns()))
        return otlp.export(MetricsData([ResourceMetrics(resource, [ScopeMetrics(scope, metrics, "")], "")]))

    return send


def converted(families: Iterable[Metric], start: int, now: int) -> Iterator[Any]:
    """*families* as metrics of the OpenTelemetry SDK, cumulative since *start*; both instants in ns since 1970."""
    from opentelemetry.sdk.metrics import export as sdk

    since = sdk.AggregationTemporality.CUMULATIVE
    for family in families:
        data: Any
        if family.type == "histogram":
            data = sdk.Histogram(list(_histograms(family, start, now)), since)
        else:
            points = [sdk.NumberDataPoint(sample.labels, start, now, sample.value) for sample in family.samples]
            data = sdk.Gauge(points) if family.type == "gauge" else sdk.Sum(points, since, is_monotonic=True)
        yield sdk.Metric(family.name, family.documentation, "s" if family.name.endswith("_seconds") else "", data)


def _histograms(family: Metric, start: int, now: int) -> Iterator[Any]:
    """A bucket of Prometheus counts all values up to its bound, one of OpenTelemetry those between two bounds."""
    from opentelemetry.sdk.metrics.export import HistogramDataPoint

    def labels(sample: Any) -> dict[str, str]:
        return {name: value for name, value in sample.labels.items() if name != "le"}

    for own, samples in groupby(family.samples, labels):
        row = list(samples)
        below = [(float(sample.labels["le"]), int(sample.value)) for sample in row if "le" in sample.labels]
        total = next(sample.value for sample in row if sample.name.endswith("_sum"))
        counts = [count - before for (_, count), (_, before) in zip(below, [(0.0, 0), *below], strict=False)]
        bounds = [bound for bound, _ in below[:-1]]
        yield HistogramDataPoint(own, start, now, below[-1][1], total, counts, bounds, None, None)
