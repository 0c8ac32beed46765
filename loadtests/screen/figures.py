"""The run as it is now, over all processes: the gauges, counters and histograms of each plant, added up in Locust's master.

Workers send theirs with Locust's own report to the master (every 3 s). The difference of two sums is what happened between them;
the series of the charts are made of such differences.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

import gevent
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner

from loadtests.client.plant import Plant
from sim.results.histogram import Histogram

REPORT = "workbench"
"""Member of Locust's report that holds a worker's figures."""

EVERY = 2.0
"""Seconds between two points, as in Locust's own charts."""

POINTS = 900
"""Points of a series: the last half hour."""

SHOWN = ("time_to_notified", "time_to_fresh", "since_notified", "refetch")
"""Histograms, see `loadtests.recording.recorder.HISTOGRAMS`."""


@dataclass
class Sums:
    """Gauges are of now; counters and histograms (ns) go from the beginning of the test."""

    gauges: Counter[str] = field(default_factory=Counter)
    counters: Counter[str] = field(default_factory=Counter)
    histograms: dict[str, Histogram] = field(default_factory=lambda: {name: Histogram() for name in SHOWN})

    def add(self, tree: dict[str, Any]) -> None:
        """*tree*: the figures of one process, from `of_plant`."""
        self.gauges.update(tree["gauges"])
        self.counters.update(tree["counters"])
        for name in SHOWN:
            self.histograms[name] += Histogram.from_dict(tree["histograms"][name])


def of_plant(plant: Plant) -> dict[str, Any]:
    """The figures of one process, in types that JSON and msgpack have."""
    recorder = plant.recorder
    recorder.drain()
    return {
        "gauges": {
            "users": recorder.opened,
            "listening": recorder.listening,
            "connections": plant.mux.watched,
            "requests_running": len(plant.traffic.running),
            "requests_waiting": plant.requests_waiting,
        },
        "counters": dict(recorder.counters),
        "histograms": {name: recorder.histograms[name].to_dict() for name in SHOWN},
    }


def _over(tree: dict[str, Any]) -> dict[str, Any]:
    """*tree* of a process whose pages are gone: all gauges 0."""
    return tree | {"gauges": dict.fromkeys(tree["gauges"], 0)}


class Figures:
    """The figures that a master shows, or the only process of a test."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.series: deque[dict[str, float | None]] = deque(maxlen=POINTS)
        """Points: `at` (s since 1970), gauges, the interval's rates (1/s) and quantiles (ms; None: nothing happened)."""
        self._workers: dict[str, dict[str, Any]] = {}
        self._plant: Plant | None = None
        """This process's latest plant; after a test its counters stay."""
        self._before = Sums()
        self._at = time.monotonic()

    def hear(self, client_id: str, data: dict[str, Any], **_: Any) -> None:
        """On a master: take a worker's figures from its report."""
        if REPORT in data:
            self._workers[client_id] = data[REPORT]

    def begin(self, **_: Any) -> None:
        """A test begins: forget what the workers did in the test before."""
        self._workers.clear()

    def sums(self) -> Sums:
        """Over all processes of the test, also those that have gone: at the end of a test each worker leaves its master."""
        sums, runner = Sums(), self.environment.runner
        if isinstance(runner, MasterRunner):
            for worker, tree in self._workers.items():
                sums.add(tree if worker in runner.clients else _over(tree))
            return sums
        if (own := self.of_this_process()) is not None:
            sums.add(own)
        return sums

    def of_this_process(self) -> dict[str, Any] | None:
        """None: no test has begun."""
        self._plant = Plant.current or self._plant
        if self._plant is None:
            return None
        tree = of_plant(self._plant)
        return tree if Plant.current else _over(tree)

    def report(self, client_id: str, data: dict[str, Any], **_: Any) -> None:
        """On a worker: put its figures into Locust's report to the master. The last report is sent when the test is over."""
        if (tree := self.of_this_process()) is not None:
            data[REPORT] = tree

    def tick(self) -> None:
        """Add a point to the series."""
        now, sums = time.monotonic(), self.sums()
        took, self._at = max(now - self._at, 1e-9), now
        point: dict[str, float | None] = {"at": time.time()}
        point |= {name: sums.gauges[name] for name in ("users", "listening", "connections")}
        for name in ("notifications", "refetches", "failed_refetches"):
            point[name] = max(sums.counters[name] - self._before.counters[name], 0) / took
        for name in SHOWN:
            between = sums.histograms[name].since(self._before.histograms[name])
            for p in (0.5, 0.95, 0.99):
                point[f"{name}_p{p * 100:.0f}"] = between.quantile(p) * 1e3 if between.count else None
        self._before = sums
        self.series.append(point)

    def run(self) -> None:
        """Add points for ever. Run it in a greenlet of its own."""
        while True:
            gevent.sleep(EVERY)
            self.tick()


def register(environment: Environment) -> Figures | None:
    """Listen to Locust's events. Returns None on a worker, which shows nothing and only reports."""
    figures = Figures(environment)
    if isinstance(environment.runner, WorkerRunner):
        environment.events.report_to_master.add_listener(figures.report)
        return None
    environment.events.worker_report.add_listener(figures.hear)
    environment.events.test_start.add_listener(figures.begin)
    return figures
