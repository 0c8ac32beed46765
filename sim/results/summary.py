"""What a run amounts to: one flat table, metric -> {value, ci_low, ci_high, n}, in seconds, for JSON (None: undefined).

Latencies count from the intended instant of the update, over the updates intended inside the window. What was never shown counts
as an infinite time to fresh: a quantile that falls on it is None, and `starved_*` says how many there were. Times to notified are
those of the deliveries that arrived; the others are `deliveries.missing`. n is the number of independent observations behind a
figure (updates), and intervals are those of `sim.results.statistics`. `DESCRIPTIONS` says what each metric is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from sim.results.ledger import freshness
from sim.results.ledger.freshness import Tables
from sim.results.ledger.staleness import staleness
from sim.results.statistics import Estimate, batch_ratio, quantiles
from sim.scenario import Scenario

Array = np.ndarray[Any, Any]
Summary = dict[str, dict[str, Any]]
Figures = Iterator[tuple[str, Estimate]]

LEVELS = (0.5, 0.95, 0.99)
SHARE = (0.0, 1.0)

HERD = 0.1
"""Seconds: refetches that start within one such window are one herd."""

WASTED = ("superseded", "cancelled", "not_newer")

DESCRIPTIONS = {
    "updates": "changes intended inside the window",
    "updates.failed": "of them, never committed",
    "deliveries.expected": "open subscriptions x published updates",
    "deliveries.received": "of them, arrived at least once",
    "deliveries.missing": "of them, never arrived",
    "deliveries.duplicate": "arrivals beyond the first of one delivery",
    "deliveries.out_of_order": "arrivals after one of a later update, same channel and subscriber",
    "delivery_ratio": "received / expected",
    "time_to_notified": "update intended -> notification arrived, s",
    "time_to_fresh": "update intended -> first applied refetch that contains it, s",
    "fan_out.first": "update committed -> first subscriber reached, s",
    "fan_out.last": "update committed -> last subscriber reached, s",
    "fan_out.spread": "first -> last subscriber of one update, s",
    "starved_updates": "updates that at least one open page never showed",
    "starved_ratio": "share of (update, page) pairs never shown",
    "left_before_fresh": "pairs whose page closed first (not counted as starved)",
    "stale_ratio": "share of time in which a page showed an old state",
    "age_of_information.mean": "mean age of the newest update shown, s",
    "age_of_information.peak": "mean age just before a newer one was shown, s",
    "age_of_synchronisation.mean": "mean age of the oldest update not shown, s (0 while there is none)",
    "refetches": "refetches sent in the window, or in its drain for notifications",
    "refetches_per_update": "amplification: refetches / updates, over all pages",
    "refetches_per_notification": "refetches / deliveries received: what the policy lets through",
    "refetches.wasted": "superseded, cancelled or not newer",
    "refetches.failed": "refused, timed out or broken",
    "refetch_time": "request sent -> answer complete, s",
    "refetch_delay": "due -> sent, s",
    "refetch_rate.mean": "refetches started per second of the window",
    "refetch_rate.peak": "refetches started per second, in the fullest 100 ms",
    "bytes_per_update": "bytes of refetch answers per update",
    "publisher_lateness": "update sent later than intended, s",
    "cpu": "processor time of a process, s per second (1: a whole core)",
    "memory": "largest resident size of a process, bytes",
    "cpu_per_delivery": "the broadcaster's processor time per delivery, s",
    "cpu_per_refetch": "the application's processor time per refetch, its share of changes included, s",
    "cpu_per_notification": "the load client's processor time per notification received, refetches included, s",
    "reader_lag": "frame arrived -> read by the load client, s",
}


def summarise(run: Tables, scenario: Scenario | None = None) -> Summary:
    """The summary of a bundle, or of a simulator's frames in memory (then with its *scenario*)."""
    scenario = scenario if scenario is not None else run.scenario  # type: ignore[attr-defined]
    start, end = window(run, scenario)
    counted = within(run.updates, start, end)
    figures: dict[str, Estimate] = {}
    for part in (
        _deliveries(run, scenario, counted),
        _freshness(run, scenario, counted, start, end),
        _refetches(run, counted, start, end),
        _harness(run, start, end),
        _processes(run, start, end),
        _simulator(run, len(counted)),
    ):
        figures |= dict(part)
    received = figures["deliveries.received"].value
    if received:
        # Refetches are those of all pages, deliveries those of the pages that are recorded.
        fetched = (figures["refetches"].value or 0) * sampled_share(run)
        figures["refetches_per_notification"] = Estimate(fetched / received, n=len(counted))
    return {name: estimate.row() for name, estimate in figures.items()}


def window(run: Tables, scenario: Scenario) -> tuple[float, float]:
    """[start, end) of what is counted, seconds since the run's start."""
    manifest = getattr(run, "manifest", None)
    if manifest is not None and manifest.window:
        return manifest.window["start"], manifest.window["end"]
    return scenario.warmup, scenario.warmup + scenario.duration


def within(updates: pd.DataFrame, start: float, end: float) -> pd.DataFrame:
    """The updates that count: intended inside the window."""
    return updates[(updates["intended_at"] >= start) & (updates["intended_at"] < end)]


def counted_journeys(run: Tables, scenario: Scenario | None = None) -> pd.DataFrame:
    """`freshness.journeys` of the updates that count."""
    scenario = scenario if scenario is not None else run.scenario  # type: ignore[attr-defined]
    pairs = freshness.journeys(run, scenario)
    start, end = window(run, scenario)
    return pairs[(pairs["intended_at"] >= start) & (pairs["intended_at"] < end)].reset_index(drop=True)


def _latency(name: str, values: Array, events: Array, infinite: bool = False) -> Figures:
    """The five figures of a latency; rows ordered by event."""
    for level, estimate in zip(LEVELS, quantiles(values, events, LEVELS), strict=True):
        yield f"{name}.p{level * 100:.0f}", estimate
    if not len(values):
        yield f"{name}.mean", Estimate(None)
        yield f"{name}.max", Estimate(None)
        return
    event = np.cumsum(np.r_[False, events[1:] != events[:-1]])
    yield f"{name}.mean", batch_ratio(np.bincount(event, values), np.bincount(event).astype(float))
    yield f"{name}.max", Estimate(float(values.max()), n=int(event[-1]) + 1)


def _deliveries(run: Tables, scenario: Scenario, counted: pd.DataFrame) -> Figures:
    expected = freshness.deliveries(run, scenario)
    expected = expected[np.isin(expected["update"].to_numpy(), counted["update"].to_numpy())]
    notifications = freshness.attribute(run, scenario)
    notifications = notifications[np.isin(freshness.whole(notifications["update"]), counted["update"].to_numpy())]
    n = len(counted)
    arrived = expected["received_at"].notna().to_numpy()
    yield "updates", Estimate(n, n=n)
    yield "updates.failed", Estimate(int(counted["committed_at"].isna().sum()), n=n)
    yield "deliveries.expected", Estimate(len(expected), n=n)
    yield "deliveries.received", Estimate(int(arrived.sum()), n=n)
    yield "deliveries.missing", Estimate(int((~arrived).sum()), n=n)
    yield "deliveries.duplicate", Estimate(freshness.duplicates(notifications), n=n)
    yield "deliveries.out_of_order", Estimate(freshness.out_of_order(run, notifications), n=n)
    _, event = np.unique(expected["update"].to_numpy(), return_inverse=True)
    yield "delivery_ratio", batch_ratio(np.bincount(event, arrived), np.bincount(event), SHARE)

    came = expected[arrived]
    serial = came["update"].to_numpy()
    since = counted.set_index("update")[["intended_at", "committed_at"]].reindex(serial).to_numpy()
    yield from _latency("time_to_notified", came["received_at"].to_numpy() - since[:, 0], serial)
    yield from _fan_out(came["received_at"].to_numpy() - since[:, 1], serial)


def _fan_out(delay: Array, update: Array) -> Figures:
    """Per update the delay to its first and last subscriber, and what lies between."""
    starts = np.flatnonzero(np.r_[True, update[1:] != update[:-1]]) if len(update) else np.array([], int)
    first = np.minimum.reduceat(delay, starts) if len(starts) else delay
    last = np.maximum.reduceat(delay, starts) if len(starts) else delay
    for name, values in (("first", first), ("last", last), ("spread", last - first)):
        for level, estimate in zip((0.5, 0.99), quantiles(values, update[starts], (0.5, 0.99)), strict=True):
            yield f"fan_out.{name}.p{level * 100:.0f}", estimate


def _freshness(run: Tables, scenario: Scenario, counted: pd.DataFrame, start: float, end: float) -> Figures:
    pairs = freshness.journeys(run, scenario)
    mine = pairs[np.isin(pairs["update"].to_numpy(), counted["update"].to_numpy())]
    never = mine["fresh_at"].isna().to_numpy()
    left = never & np.isfinite(mine["ended_at"].to_numpy()) & (mine["ended_at"].to_numpy() < end)
    asked = mine[~left]
    serial = asked["update"].to_numpy()
    delay = asked["fresh_at"].fillna(np.inf).to_numpy() - asked["intended_at"].to_numpy()
    yield from _latency("time_to_fresh", delay, serial)
    kinds = asked["page"].cat
    if len(kinds.categories) > 1:
        for code, name in enumerate(kinds.categories):
            of_kind = (kinds.codes == code).to_numpy()
            yield from _latency(f"time_to_fresh.{name}", delay[of_kind], serial[of_kind])
    starved = np.isinf(delay)
    _, event = np.unique(serial, return_inverse=True)
    yield "starved_updates", Estimate(len(np.unique(serial[starved])), n=len(counted))
    yield "starved_ratio", batch_ratio(np.bincount(event, starved), np.bincount(event), SHARE)
    yield "left_before_fresh", Estimate(int(left.sum()), n=len(counted))

    pages = staleness(pairs, start, end)
    observed = pages["observed"].to_numpy()
    total, n = observed.sum(), len(counted)
    yield "stale_ratio", Estimate(pages["stale"].sum() / total if total else None, n=n)
    for name, column in (
        ("age_of_information.mean", "age_of_information"),
        ("age_of_information.peak", "peak_age"),
        ("age_of_synchronisation.mean", "age_of_synchronisation"),
    ):
        known = pages[column].notna().to_numpy() & (observed > 0)
        weight = observed[known]
        value = np.average(pages[column].to_numpy(dtype=float)[known], weights=weight) if known.any() else None
        yield name, Estimate(value, n=n)


def _refetches(run: Tables, counted: pd.DataFrame, start: float, end: float) -> Figures:
    """Load on the application: refetches that were sent, from the window's start to the end of its drain."""
    share, updates = sampled_share(run), len(counted)
    sent = sent_refetches(run, start, end).sort_values("started_at", kind="stable")
    outcome = sent["outcome"]
    at = sent["started_at"].to_numpy()

    def scaled(count: float) -> float | int:
        return count / share if share < 1 else int(count)

    yield "refetches", Estimate(scaled(len(sent)), n=updates)
    newest = freshness.newest_update(sent, counted) if updates else np.zeros(0, np.int64)
    answers, size = (
        np.bincount(newest, weights, updates) if updates else np.array([])
        for weights in (np.full(len(sent), 1 / share), sent["bytes"].to_numpy(dtype=float) / share)
    )
    yield "refetches_per_update", batch_ratio(answers, np.ones(updates))
    yield "refetches.applied", Estimate(scaled((outcome == "applied").sum()), n=updates)
    yield "refetches.wasted", Estimate(scaled(outcome.isin(WASTED).sum()), n=updates)
    yield "refetches.failed", Estimate(scaled((outcome == "failed").sum()), n=updates)
    done = sent["finished_at"].notna().to_numpy()
    # Refetches of one herd queue behind one another: the herd is the observation.
    herd = np.floor(at / HERD).astype(np.int64)
    yield from _latency("refetch_time", (sent["finished_at"].to_numpy() - at)[done], herd[done])
    yield from _latency("refetch_delay", at - sent["due_at"].to_numpy(), herd)
    inside = at[at < end]
    peak = np.bincount(((inside - start) / HERD).astype(np.int64)).max(initial=0) / HERD / share
    yield "refetch_rate.mean", Estimate(len(inside) / share / (end - start) if end > start else None, n=updates)
    yield "refetch_rate.peak", Estimate(float(peak), n=updates)
    yield "bytes_per_update", batch_ratio(size, np.ones(updates))


def sent_refetches(run: Tables, start: float, end: float) -> pd.DataFrame:
    """The refetches that count: sent inside the window, or in its drain for notifications (a poll there answers none)."""
    at = run.refetches["started_at"]
    return run.refetches[(at >= start) & ((at < end) | (run.refetches["answered"] > 0))]


def per_update(amount: Array, sent: pd.DataFrame, counted: pd.DataFrame) -> Array:
    """Sums of *amount* (one per refetch) by update: a refetch belongs to the newest update that it brought."""
    if counted.empty:
        return np.array([])
    return np.bincount(freshness.newest_update(sent, counted), weights=amount, minlength=len(counted))


def sampled_share(run: Tables) -> float:
    """Share of the subscribers whose rows the tables hold; 1 where all are."""
    manifest = getattr(run, "manifest", None)
    return float(manifest.sampling.get("share", 1.0)) if manifest is not None else 1.0


def _harness(run: Tables, start: float, end: float) -> Figures:
    """What the measuring side added: how late it sent, how late it read."""
    notifications = run.notifications
    received = notifications["received_at"].to_numpy()
    inside = notifications[(received >= start) & (received < end)].sort_values("update", kind="stable")
    lag = (inside["read_at"] - inside["received_at"]).to_numpy(dtype=float)
    known = np.isfinite(lag)
    yield from _latency("reader_lag", lag[known], inside["update"].to_numpy()[known])
    metrics = getattr(run, "metrics", None)
    if metrics is None:
        return
    late = metrics[(metrics["metric"] == "lateness") & (metrics["at"] >= start) & (metrics["at"] < end)]
    if len(late):
        yield from _latency("publisher_lateness", late["value"].to_numpy(dtype=float), np.arange(len(late)))


SIMULATOR = {
    "pages.stale_at_end": "pages that show an old state when the run ends",
    "pages.stale_at_end_ratio": "of the pages open then, the share that show an old state",
    "pages.regressions": "answers that were applied over a newer one",
    "pages.timeouts": "requests given up",
    "pages.retries": "requests sent again",
    "application.busy_ratio": "share of the workers' time that is work, mean over the run",
    "application.queue_peak": "most requests that waited for a worker",
    "application.in_flight_peak": "most requests at the application at once",
    "application.refused": "requests refused, by the queue's limit or by the limiter",
    "application.from_cache": "requests that shared another's answer",
    "broadcaster.frames": "frames written",
    "broadcaster.bytes": "bytes written",
}
"""What only a simulator can count; its own samples of the `metrics` table say it."""

DESCRIPTIONS |= SIMULATOR


def _simulator(run: Tables, updates: int) -> Figures:
    metrics = getattr(run, "metrics", None)
    if metrics is None or metrics.empty:
        return
    name = metrics["process"].astype(str) + "." + metrics["metric"].astype(str)
    for metric, rows in metrics.groupby(name)["value"]:
        if metric in SIMULATOR:
            value = rows.mean() if metric.endswith("busy_ratio") else rows.max() if metric.endswith("peak") else rows.iloc[-1]
            yield str(metric), Estimate(float(value), n=updates)


COSTS = {"broadcaster": "cpu_per_delivery", "application": "cpu_per_refetch", "harness": "cpu_per_notification"}


def _processes(run: Tables, start: float, end: float) -> Figures:
    """Processor time and memory of each kind of process while updates came, and what one delivery or refetch cost of it."""
    metrics = getattr(run, "metrics", None)
    if metrics is None or metrics.empty:
        return
    metrics = metrics[(metrics["at"] >= start) & (metrics["at"] <= end)]
    kind = metrics["process"].astype(str).str.replace(r"-\d+$", "", regex=True)
    seconds: dict[str, float] = {}
    for name, rows in metrics[metrics["metric"] == "cpu_seconds"].groupby(kind):
        span = float(rows["at"].max() - rows["at"].min())
        if span > 0:
            seconds[str(name)] = float(rows.groupby("process", observed=True)["value"].agg(np.ptp).sum())
            yield f"cpu.{name}", Estimate(seconds[str(name)] / span, n=len(rows))
    for name, rows in metrics[metrics["metric"] == "rss_bytes"].groupby(kind):
        yield f"memory.{name}", Estimate(float(rows.groupby("process", observed=True)["value"].max().sum()), n=len(rows))
    share = sampled_share(run)
    heard = int(run.notifications["received_at"].between(start, end).sum() / share)
    fetched = int(run.refetches["started_at"].between(start, end).sum() / share)
    for name, metric in COSTS.items():
        count = fetched if name == "application" else heard
        if seconds.get(name) and count:
            yield metric, Estimate(seconds[name] / count, n=count)
