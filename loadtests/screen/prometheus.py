"""Figures for Prometheus: at `/metrics` of Locust's web interface, and at the port that WORKBENCH_PROMETHEUS names.

    locust_...      Locust's own table, by method and name
    workbench_...   pages, connections, notifications, refetches; time to notified, time to fresh

Durations are histograms in seconds. Locust rounds its response times to milliseconds (above 100 ms to two digits); the
workbench's own are those of `sim.results.histogram`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate

import numpy as np
from flask import Response
from gevent.pywsgi import WSGIServer
from locust.env import Environment
from locust.stats import StatsEntry
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from loadtests.recording.recorder import COUNTERS, HISTOGRAMS
from loadtests.screen.figures import Figures
from sim.clock import SECOND
from sim.errors import BadInput
from sim.results.histogram import Histogram

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds, seconds."""


class Collector:
    """Reads the figures at each scrape."""

    def __init__(self, figures: Figures) -> None:
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        sums, environment = self._figures.sums(), self._figures.environment
        for name, value in sums.gauges.items():
            yield GaugeMetricFamily(f"workbench_{name}", f"{name.replace('_', ' ')} now, over all processes", value)
        for name, meaning in COUNTERS.items():
            yield CounterMetricFamily(f"workbench_{name}", meaning, sums.counters[name])
        for name, histogram in sums.histograms.items():
            total = histogram.total / SECOND
            yield HistogramMetricFamily(f"workbench_{name}_seconds", HISTOGRAMS[name], buckets=bounds(histogram), sum_value=total)
        if environment.runner is not None:
            yield GaugeMetricFamily("locust_users", "users that run now", environment.runner.user_count)
        yield from _table(environment)


def _table(environment: Environment) -> Iterable[Metric]:
    labels = ("method", "name")
    requests = CounterMetricFamily("locust_requests", "requests, failed ones among them", labels=labels)
    failures = CounterMetricFamily("locust_failures", "requests that failed", labels=labels)
    times = HistogramMetricFamily("locust_response_time_seconds", "response times", labels=labels)
    for entry in environment.stats.entries.values():
        row = (entry.method or "", entry.name)
        requests.add_metric(row, entry.num_requests)
        failures.add_metric(row, entry.num_failures)
        times.add_metric(row, _of_entry(entry), entry.total_response_time / 1000)
    return requests, failures, times


def _of_entry(entry: StatsEntry) -> list[tuple[str, float]]:
    counts = [0] * (len(BUCKETS) + 1)
    for milliseconds, count in entry.response_times.items():
        counts[int(np.searchsorted(BUCKETS, milliseconds / 1000))] += count
    return _cumulative(counts)


def bounds(histogram: Histogram) -> list[tuple[str, float]]:
    """(upper bound in seconds, number of values up to it), the last for all values."""
    seconds, counts = histogram.held()
    return _cumulative(np.bincount(np.searchsorted(BUCKETS, seconds), counts, len(BUCKETS) + 1).tolist())


def _cumulative(counts: list[int]) -> list[tuple[str, float]]:
    return list(zip([*map(str, BUCKETS), "+Inf"], accumulate(counts), strict=True))


def register(figures: Figures, address: str) -> None:
    """Serve at the web interface, if there is one, and at *address* (`PORT` or `HOST:PORT`), if not empty. Raises `BadInput`."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Collector(figures))
    web_ui = figures.environment.web_ui
    if web_ui is not None and web_ui.app is not None:

        @web_ui.app.route("/metrics")
        def metrics() -> Response:
            return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)

    if address:
        host, _, port = address.rpartition(":")
        try:
            WSGIServer((host.strip("[]") or "127.0.0.1", int(port)), make_wsgi_app(registry), log=None).start()
        except (OSError, OverflowError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "not PORT or HOST:PORT"
            raise BadInput(f"WORKBENCH_PROMETHEUS={address}: {reason.lower()}") from error
