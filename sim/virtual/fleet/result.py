"""What a run of the fleet engine came to, and its figures under the names of a run's summary."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import numpy as np

from sim.arrays import Array
from sim.clock import SECOND
from sim.results.histogram import FineHistogram
from sim.results.statistics import (
    SURE,
    Estimate,
    batch_mean,
    batch_ratio,
    events_needed,
    linearised,
    quantiles,
    share_interval,
)
from sim.virtual.fleet.refetching import LOAD_STEP
from sim.virtual.fleet.tally import Outcomes

Figures = Iterator[tuple[str, Estimate]]

LEVELS = (0.5, 0.95, 0.99)
"""Of the quantiles of a latency, by default."""


@dataclass(frozen=True, eq=False, slots=True)
class Latency:
    """A duration of each pair (or delivery) of the updates that count: what is known of it without rows."""

    parts: list[FineHistogram]
    """Of batches of successive updates (`statistics.batches`); a single one where they are too few for an interval."""
    batch: Array
    """Per update: number of its part."""
    sums: Array
    """Per update, s."""
    counts: Array
    """Per update: durations."""
    never: Array
    """Per update: pairs whose duration has no end."""

    @property
    def whole(self) -> FineHistogram:
        return reduce(FineHistogram.__add__, self.parts, FineHistogram())

    def __add__(self, other: Latency) -> Latency:
        parts = [mine + theirs for mine, theirs in zip(self.parts, other.parts, strict=True)]
        added = (getattr(self, name) + getattr(other, name) for name in ("sums", "counts", "never"))
        return Latency(parts, self.batch, *added)

    def figures(self, name: str, levels: Sequence[float]) -> Figures:
        whole, lost = self.whole, int(self.never.sum())
        n = int(np.count_nonzero(self.counts + self.never))
        for level in levels:
            yield f"{name}.p{level * 100:g}", self._quantile(whole, lost, level, n)
        shown = replace(batch_mean(self.sums, self.counts), n=int(np.count_nonzero(self.counts)))
        yield f"{name}.mean", Estimate(math.inf, n=n) if lost else shown
        yield f"{name}.max", Estimate(math.inf if lost else whole.max if whole.count else None, n=n)
        if name.startswith("time_to_fresh"):
            yield f"{name}.mean_of_shown", shown

    def _quantile(self, whole: FineHistogram, lost: int, p: float, n: int) -> Estimate:
        """As `statistics.quantiles`, from histograms."""
        centre = whole.quantile_with(lost, p)
        if centre is None or n < events_needed(p) or len(self.parts) == 1:
            return Estimate(centre, n=n)
        never = np.bincount(self.batch, self.never, len(self.parts))
        totals = np.array([part.count for part in self.parts]) + never
        beyond = np.array([part.count_above(centre) for part in self.parts]) + (never if math.isfinite(centre) else 0.0)
        low, high = share_interval(float(beyond.sum() / totals.sum()), linearised(beyond, totals), n, SURE)
        # Fewer than one update beyond: the upper end lies above all that was seen.
        upper = whole.quantile_with(lost, 1 - low) if low * n >= 1 else math.inf
        return Estimate(centre, whole.quantile_with(lost, max(1 - high, 0.0)), upper, n)


@dataclass(frozen=True, eq=False, slots=True)
class FleetResult:
    """What a run came to: exact counts and means, histograms that merge by addition. Durations in `FineHistogram` are
    seconds when read. What counts is what a run's summary counts: deliveries and pairs of the updates committed in the
    window, refetches sent from its start on."""

    updates: int
    """Intended in the window."""
    failed: int
    """Of them, not in the database when the run is over."""
    subscribers: int
    notifications: int
    """Arrivals, of counted updates."""
    expected: Array
    """Per counted update: notifications that had to arrive, that is subscriptions where it was published."""
    frames: int
    """Frames that the broadcaster wrote in the whole run."""
    frame_bytes: int
    outcomes: Outcomes
    """Of the refetches that count."""
    answer_bytes: int
    """Of their answers."""
    regressions: int | None
    """Answers of the whole run that replaced a newer state; None: full payloads are not looked at for it."""
    timeouts: int
    """Refetches of the whole run that were given up."""
    notified: Latency
    fresh: dict[str, Latency]
    """By kind of page."""
    intended: Array
    """Of the updates intended in the window, s."""
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
    def time_to_notified(self) -> FineHistogram:
        return self.notified.whole

    @property
    def all_fresh(self) -> Latency:
        return reduce(Latency.__add__, self.fresh.values())

    @property
    def time_to_fresh(self) -> FineHistogram:
        return self.all_fresh.whole

    @property
    def never_fresh(self) -> int:
        """Pairs (counted update, page) that were not shown before the end of the run."""
        return int(self.all_fresh.never.sum())

    def summary(self, levels: Sequence[float] = LEVELS) -> dict[str, dict[str, Any]]:
        """Metric -> {value, ci_low, ci_high, n}, by the names of a run's `summary.json`: what is known of all pages exactly.

        The unit of an interval is a batch of successive updates (pages see the same updates, and updates wait for the same
        silence). *levels*: quantiles of latencies.
        """
        figures = dict(self._counts()) | dict(self._loads()) | dict(self._fan_out())
        figures |= dict(self.notified.figures("time_to_notified", levels))
        figures |= dict(self.all_fresh.figures("time_to_fresh", levels))
        present = {kind: found for kind, found in self.fresh.items() if (found.counts + found.never).any()}
        if len(present) > 1:
            for kind, found in present.items():
                figures |= dict(found.figures(f"time_to_fresh.{kind}", levels))
        return {name: estimate.row() for name, estimate in figures.items()}

    def _counts(self) -> Figures:
        outcomes, n, fresh = self.outcomes, self.updates, self.all_fresh
        shown, never, expected = int(fresh.counts.sum()), int(fresh.never.sum()), int(self.expected.sum())
        counts = {
            "updates": self.updates,
            "updates.failed": self.failed,
            "deliveries.expected": expected,
            "deliveries.received": self.notifications,
            "deliveries.missing": expected - self.notifications,
            "deliveries.missing.target": 0,
            "deliveries.missing.connection": 0,
            "deliveries.missing.on_its_way": expected - self.notifications,
            "deliveries.duplicate": 0,
            "deliveries.unexpected": 0,
            "pairs.owed": shown + never,
            "pairs.shown": shown,
            "pairs.never": never,
            "pairs.left": 0,
            "pairs.unknown": 0,
            "refetches": outcomes.refetches,
            "refetches.applied": outcomes.applied,
            "refetches.not_newer": outcomes.not_newer,
            "refetches.superseded": outcomes.superseded,
            "refetches.cancelled": 0,
            "refetches.failed": outcomes.failed,
            "refetches.running": outcomes.running,
            "refetches.wasted": outcomes.not_newer + outcomes.superseded,
            "pages.timeouts": self.timeouts,
            "starved_updates": int(np.count_nonzero(fresh.never)),
            "left_before_fresh": 0,
            "broadcaster.frames": self.frames,
            "broadcaster.bytes": self.frame_bytes,
        }
        for name, count in counts.items():
            yield name, Estimate(count, n=n)
        if self.regressions is not None:
            yield "pages.regressions", Estimate(self.regressions, n=n)
        yield "delivery_ratio", batch_ratio(self.notified.counts.astype(float), self.expected.astype(float), (0.0, 1.0))
        yield "starved_ratio", batch_ratio(fresh.never.astype(float), (fresh.counts + fresh.never).astype(float), (0.0, 1.0))
        yield "refetches_per_update", self._per_update(outcomes.refetches)
        per_notification = outcomes.refetches / self.notifications if self.notifications else None
        yield "refetches_per_notification", Estimate(per_notification, n=n)
        yield "bytes_per_update", self._per_update(self.answer_bytes)

    def _per_update(self, total: int) -> Estimate:
        """Its interval is, relatively, that of the refetches which the window saw after each update."""
        n = self.updates
        if not n:
            return Estimate(None, n=n)
        starts = (np.arange(self.load.size) + 0.5) * LOAD_STEP / SECOND
        latest = np.maximum(np.searchsorted(self.intended, starts, side="right") - 1, 0)
        seen = batch_ratio(np.bincount(latest, self.load, n), np.ones(n))
        if not seen.value or seen.low is None or seen.high is None:
            return Estimate(total / n, n=n)
        return Estimate(total / n, total / n * seen.low / seen.value, total / n * seen.high / seen.value, n)

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
                yield f"fan_out.{name}.p{level * 100:g}", estimate
            yield f"fan_out.{name}.mean", batch_mean(values, np.ones(len(values)))
