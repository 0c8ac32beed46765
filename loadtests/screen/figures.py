"""The run as it is now, over all processes: gauges, counters and histograms of each plant, added up where Locust is the master.

Workers send theirs with Locust's own report to the master (each 3 s). A difference of two sums is what happened in between, from
which the series of the charts are made.
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
"""Seconds between two points: Locust's own charts have one each two seconds."""

POINTS = 900
"""Of a series: the last half hour."""

SHOWN = ("time_to_notified", "time_to_fresh", "since_notified", "refetch")
"""Histograms, see `loadtests.recording.recorder.HISTOGRAMS`."""


@dataclass
class Sums:
    """Gauges are of now; counters and histograms (ns) since the test began."""

    gauges: Counter[str] = field(default_factory=Counter)
    counters: Counter[str] = field(default_factory=Counter)
    histograms: dict[str, Histogram] = field(default_factory=lambda: {name: Histogram() for name in SHOWN})

    def add(self, tree: dict[str, Any]) -> None:
        """*tree*: figures of one process, see `of_plant`."""
        self.gauges.update(tree["gauges"])
        self.counters.update(tree["counters"])
        for name in SHOWN:
            self.histograms[name] += Histogram.from_dict(tree["histograms"][name])


def of_plant(plant: Plant) -> dict[str, Any]:
    """One process, as JSON and msgpack take it."""
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
    """The figures of a process whose pages are gone."""
    return tree | {"gauges": dict.fromkeys(tree["gauges"], 0)}


class Figures:
    """Of one master, or of the only process."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.series: deque[dict[str, float | None]] = deque(maxlen=POINTS)
        """Points: `at` (s since 1970), gauges, rates (per second) and quantiles (ms) of the interval; None: nothing happened."""
        self._workers: dict[str, dict[str, Any]] = {}
        self._plant: Plant | None = None
        """The latest of this process: of a test that is over, the counters stay."""
        self._before = Sums()
        self._at = time.monotonic()

    def hear(self, worker: str, tree: dict[str, Any]) -> None:
        self._workers[worker] = tree

    def begin(self, **_: Any) -> None:
        """A test begins: what workers did in the one before is forgotten."""
        self._workers.clear()

    def sums(self) -> Sums:
        """Over all processes of the test: what those did that are gone was done. (At its end each worker leaves its master.)"""
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
        """A worker's, with Locust's own report to the master; the last one is sent when the test is over."""
        if (tree := self.of_this_process()) is not None:
            data[REPORT] = tree

    def tick(self) -> None:
        """One more point of the series."""
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
        """For ever, in a greenlet of its own."""
        while True:
            gevent.sleep(EVERY)
            self.tick()


def register(environment: Environment) -> Figures | None:
    """Listen to Locust's events. None on a worker, which only reports."""
    figures = Figures(environment)
    if isinstance(environment.runner, WorkerRunner):
        environment.events.report_to_master.add_listener(figures.report)
        return None

    def hear(client_id: str, data: dict[str, Any], **_: Any) -> None:
        if REPORT in data:
            figures.hear(client_id, data[REPORT])

    environment.events.worker_report.add_listener(hear)
    environment.events.test_start.add_listener(figures.begin)
    return figures
