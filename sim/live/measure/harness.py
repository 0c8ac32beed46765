"""The load processes by their own account: headers and CPU, summed for manifest and verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sim.clock import SECOND
from sim.live.measure.sampling import MetricSample
from sim.results.histogram import Histogram
from sim.scenario import Scenario

Header = Mapping[str, Any]

LATENCIES = {"time_to_notified": "time_to_notified", "time_to_fresh": "time_to_fresh", "refetch_time": "service"}
"""Latency of a summary -> histogram of a header, for a look at a run that still goes on."""


@dataclass(frozen=True, slots=True)
class Harness:
    """Sums over the workers of one run."""

    headers: Sequence[Header]

    @property
    def counters(self) -> Counter[str]:
        total: Counter[str] = Counter()
        for header in self.headers:
            total.update(header["counters"])
        return total

    def histogram(self, name: str) -> Histogram:
        """All workers' samples, ns."""
        some = (Histogram.from_dict(header["histograms"][name]) for header in self.headers if name in header["histograms"])
        return sum(some, Histogram())

    @property
    def kernel_stamps(self) -> bool:
        return not self.counters["unstamped"]

    @property
    def coalesced(self) -> float:
        """Share of the notifications whose arrival is an upper bound."""
        heard = self.counters["notifications"]
        return self.counters["coalesced"] / heard if heard else 0.0

    @property
    def clock_step(self) -> float:
        """Seconds by which wall and monotonic clock parted, in the worst worker."""
        return max((abs(header["clock"].get("steps_ns", 0)) for header in self.headers), default=0) / SECOND

    @property
    def clock_error(self) -> float:
        """Bound of the error of the offsets between machines, seconds; 0 on one machine, inf where a worker has no estimate."""
        bounds = [header["clock"]["error_ns"] for header in self.headers if "error_ns" in header["clock"]]
        return float("inf") if min(bounds, default=0) < 0 else max(bounds, default=0) / SECOND

    def clock(self) -> dict[str, Any]:
        """The bundle's `clock` block: the largest offset that was applied, and the bound of the error."""
        offsets = [offset_of(header) for header in self.headers if "offset_ns" in header["clock"]]
        if not offsets:
            return {"offset": 0.0, "error": 0.0, "method": "one clock: all processes on one machine"}
        error = self.clock_error
        return {
            "offset": max(offsets, key=abs) / SECOND,
            "error": error if error < float("inf") else None,
            "method": "fastest round trip between master and worker, the best of every half minute",
        }

    @property
    def finished(self) -> int:
        """Workers that handed in all their rows."""
        return sum(bool(header["finished"]) for header in self.headers)

    def heard_until(self, at: int) -> int:
        """*at*, or when the first load process had ended, where that was earlier: its pages heard nothing more. ns since 1970."""
        return min([at, *(header["written_at_ns"] + offset_of(header) for header in self.headers if header["finished"])])

    @property
    def unfinished(self) -> list[tuple[int, int]]:
        """First and last subscriber of each worker that did not hand in all its rows."""
        ranges = [
            (header["subscribers"]["first"], header["subscribers"]["last"]) for header in self.headers if not header["finished"]
        ]
        return [(first, last) for first, last in ranges if first >= 0]

    def live_summary(self, levels: Iterable[float] = (0.5, 0.95, 0.99)) -> dict[str, dict[str, Any]]:
        """Quantiles of the latencies so far under the summary's names, from the histograms: for abort on fail."""
        found = {}
        for metric, name in LATENCIES.items():
            histogram = self.histogram(name)
            for p in levels:
                value = histogram.quantile(p) if histogram.count else None
                found[f"{metric}.p{p * 100:g}"] = {"value": value, "n": histogram.count}
        return found

    def manifest(self) -> dict[str, Any]:
        """The bundle's `harness` block; durations in seconds."""

        def at(name: str, p: float) -> float | None:
            histogram = self.histogram(name)
            return histogram.quantile(p) if histogram.count else None

        return {
            "workers": len(self.headers),
            "receive_stamp": "kernel" if self.kernel_stamps else "read",
            "lag_p50": at("reader_lag", 0.5),
            "lag_p99": at("reader_lag", 0.99),
            "start_lag_p99": at("start_lag", 0.99),
            "hub_gap_max": at("hub_gap", 1.0),
            "gc_pause_max": at("gc_pause", 1.0),
            "coalesced": self.coalesced,
            "clock_step": self.clock_step,
            "counters": {name: count for name, count in sorted(self.counters.items()) if count},
        }

    @property
    def complaints(self) -> list[str]:
        """What went wrong inside the load client, as reasons for the verdict."""
        errors, lost = self.counters["callback_errors"], self.counters["rows_lost"]
        found = [f"{errors} exceptions inside the load client (see its log)"] if errors else []
        if lost:
            why = next(header["fault"] for header in self.headers if header["counters"].get("rows_lost"))
            found.append(f"{lost} rows of samples could not be recorded ({why})")
        return found


def offset_of(header: Header) -> int:
    """Nanoseconds to add to a worker's instants, to have the master's."""
    return int(header["clock"].get("offset_ns", 0))


def publisher_added(frames: Any) -> float:
    """Seconds by which the publisher's lateness lifts the p99 of the time to notified: with it, minus without it.

    *frames*: a bundle's tables. An update that left late but was not among the slowest changes nothing.
    """
    metrics, updates, notifications = frames.metrics, frames.updates, frames.notifications
    late = metrics[metrics["metric"].astype(str) == "lateness"].groupby("at")["value"].max()
    updates = updates.assign(late=late.reindex(updates["intended_at"]).fillna(0.0).to_numpy()).set_index("update")
    heard = notifications[notifications["update"].isin(updates.index)]
    if not len(heard):
        return 0.0
    mine = updates.loc[heard["update"]]
    took = heard["received_at"].to_numpy() - mine["intended_at"].to_numpy()
    return float(np.percentile(took, 99) - np.percentile(took - mine["late"].to_numpy(), 99))


def pages_waiting(frames: Any, start: float, end: float, wanted: int) -> float:
    """Share of the *wanted* pages that were not there because the load client had not come to open them: the mean between two
    instants (seconds of the run).

    *frames*: a bundle's tables. Pages that leave are replaced at once, as far as the client has handshakes to spare."""
    rows = frames.metrics
    rows = rows[(rows["metric"].astype(str) == "pages_waiting") & rows["at"].between(start, end)]
    return float(rows.groupby("process", observed=True)["value"].mean().sum()) / wanted if wanted else 0.0


def requests_queued(frames: Any, start: float, end: float) -> int:
    """The most requests at a time that waited for a connection of the load client's pools, between two instants. *frames*: a
    bundle's tables."""
    rows = frames.metrics
    process, metric = rows["process"].astype(str), rows["metric"].astype(str)
    rows = rows[process.str.startswith("harness") & (metric == "requests_waiting") & rows["at"].between(start, end)]
    return int(rows.groupby("process", observed=True)["value"].max().sum())


def polled(frames: Any, scenario: Scenario) -> int | None:
    """Refetches finished inside the window, where no page subscribes to anything; None where one does."""
    if any(scenario.policy_of(pages).kind != "polling" and pages.behaviour != "never_subscribe" for pages in scenario.pages):
        return None
    finished = frames.refetches["finished_at"]
    return int(finished.between(scenario.warmup, scenario.warmup + scenario.duration, inclusive="left").sum())


def cpu_shares(samples: Sequence[MetricSample], start: int, end: int) -> dict[str, float]:
    """Share of one core that each process used between two instants (ns since 1970), from its CPU seconds."""
    first: dict[str, int] = {}
    last: dict[str, tuple[int, float]] = {}
    used: dict[str, float] = {}
    for at, process, metric, value in samples:
        if metric == "cpu_seconds" and start <= at <= end:
            first.setdefault(process, at)
            if process in last:
                before = last[process][1]
                # A process that was restarted counts from zero again.
                used[process] = used.get(process, 0.0) + (value - before if value >= before else value)
            last[process] = (at, value)
    return {name: seconds / ((last[name][0] - first[name]) / SECOND) for name, seconds in used.items()}
