"""What a run of the fleet engine came to, and its figures under the names of a run's summary."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from sim.clock import SECOND
from sim.results.statistics import Estimate, batch_ratio, quantiles
from sim.virtual.fleet.herds import Outcomes
from sim.virtual.fleet.histogram import Histogram
from sim.virtual.fleet.refetching import LOAD_STEP

Array = np.ndarray[Any, Any]
Figures = Iterator[tuple[str, Estimate]]

LEVELS = (0.5, 0.95, 0.99)


@dataclass(frozen=True, eq=False, slots=True)
class FleetResult:
    """What a run came to: exact counts and means, histograms that merge by addition. Durations in `Histogram` are seconds when
    read. What counts is what a run's summary counts: deliveries and pairs of the updates committed in the window, refetches sent
    from its start on."""

    updates: int
    """Intended in the window."""
    subscribers: int
    notifications: int
    """Arrivals, of counted updates."""
    expected: int
    """Notifications that had to arrive: subscriptions x published updates, of counted ones."""
    frames: int
    """Frames that the broadcaster wrote in the whole run."""
    frame_bytes: int
    outcomes: Outcomes
    answer_bytes: int
    """Of all refetches that count."""
    notified: list[Histogram]
    """Times to notified, of batches of successive updates."""
    fresh: list[Histogram]
    """Times to fresh, likewise."""
    never: Array
    """Per counted update: pages that owed it and did not show it before the end of the run."""
    owed: Array
    """Per counted update: pages that owed it."""
    fresh_sums: Array
    """Per counted update: sum of the times to fresh over the pages that showed it, s."""
    fan_out: Array
    """float64 (n, 2): from commit to the first and to the last arrival, s; of the counted updates that came to anybody."""
    load: Array
    """Refetches started in each 100 ms of the window."""
    utilisation: float
    """Share of the window in which the application's workers were busy."""
    wait_mean: float
    """Seconds from the arrival of a refetch to its begin, over those that arrive in the window; NaN: none."""
    wait_max: float
    broadcaster_busy: list[float]
    """Per node: share of the window in which it was writing."""
    window: float
    """Seconds."""

    @property
    def refetches(self) -> int:
        return self.outcomes.refetches

    @property
    def never_fresh(self) -> int:
        """Pairs (counted update, page) that were not shown before the end of the run."""
        return int(self.never.sum())

    @property
    def time_to_notified(self) -> Histogram:
        return merged(self.notified)

    @property
    def time_to_fresh(self) -> Histogram:
        return merged(self.fresh)

    def summary(self) -> dict[str, dict[str, Any]]:
        """Metric -> {value, ci_low, ci_high, n}, by the names of a run's `summary.json`: what is known of all pages exactly.

        The unit of an interval is a batch of successive updates (pages see the same updates, and updates wait for the same
        silence). None: not known.
        """
        figures = dict(self._counts()) | dict(self._loads()) | dict(self._fan_out())
        figures |= dict(self._latency("time_to_notified", self.notified, 0))
        figures |= dict(self._latency("time_to_fresh", self.fresh, self.never_fresh))
        return {name: estimate.row() for name, estimate in figures.items()}

    def _counts(self) -> Figures:
        outcomes, n = self.outcomes, self.updates
        counts = {
            "updates": self.updates,
            "updates.failed": 0,
            "deliveries.expected": self.expected,
            "deliveries.received": self.notifications,
            "deliveries.missing": self.expected - self.notifications,
            "deliveries.duplicate": 0,
            "refetches": outcomes.refetches,
            "refetches.applied": outcomes.applied,
            "refetches.not_newer": outcomes.not_newer,
            "refetches.superseded": outcomes.superseded,
            "refetches.cancelled": 0,
            "refetches.failed": outcomes.failed,
            "refetches.running": outcomes.running,
            "refetches.wasted": outcomes.not_newer + outcomes.superseded,
            "starved_updates": int(np.count_nonzero(self.never)),
            "left_before_fresh": 0,
            "broadcaster.frames": self.frames,
            "broadcaster.bytes": self.frame_bytes,
        }
        for name, count in counts.items():
            yield name, Estimate(count, n=n)
        yield "delivery_ratio", Estimate(self.notifications / self.expected if self.expected else None, n=n)
        yield "starved_ratio", batch_ratio(self.never.astype(float), self.owed.astype(float), (0.0, 1.0))
        yield "refetches_per_update", Estimate(outcomes.refetches / n if n else None, n=n)
        per_notification = outcomes.refetches / self.notifications if self.notifications else None
        yield "refetches_per_notification", Estimate(per_notification, n=n)
        yield "bytes_per_update", Estimate(self.answer_bytes / n if n else None, n=n)

    def _loads(self) -> Figures:
        n = self.updates
        yield "refetch_rate.mean", Estimate(float(self.load.sum()) / self.window if self.window else None, n=n)
        yield "refetch_rate.peak", Estimate(float(self.load.max(initial=0)) / (LOAD_STEP / SECOND), n=n)
        yield "utilisation", Estimate(self.utilisation, n=n)
        yield "queue_wait.mean", Estimate(self.wait_mean, n=n)
        yield "queue_wait.max", Estimate(self.wait_max, n=n)

    def _fan_out(self) -> Figures:
        first, last = self.fan_out.T
        event = np.arange(len(first))
        for name, values in (("first", first), ("last", last), ("spread", last - first)):
            for level, estimate in zip((0.5, 0.99), quantiles(values, event, (0.5, 0.99)), strict=True):
                yield f"fan_out.{name}.p{level * 100:.0f}", estimate
            yield f"fan_out.{name}.mean", batch_ratio(values, np.ones(len(values)))

    def _latency(self, name: str, parts: list[Histogram], lost: int) -> Figures:
        """*lost*: pairs that never came to be; they took infinitely long."""
        whole, n = merged(parts), self.updates
        for level in LEVELS:
            yield f"{name}.p{level * 100:.0f}", Estimate(whole.quantile_with(lost, level), n=n)
        mean = whole.mean if len(whole) else None
        yield f"{name}.max", Estimate(float("inf") if lost else whole.max if len(whole) else None, n=n)
        if name == "time_to_fresh":
            shown = batch_ratio(self.fresh_sums, (self.owed - self.never).astype(float))
            yield f"{name}.mean_of_shown", shown
            yield f"{name}.mean", Estimate(float("inf"), n=n) if lost else shown
        else:
            yield f"{name}.mean", Estimate(mean, n=n)


def merged(parts: list[Histogram]) -> Histogram:
    return reduce(Histogram.__add__, parts, Histogram())
