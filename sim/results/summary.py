"""What a run amounts to: one flat table, metric -> {value, ci_low, ci_high, n}, for JSON; made here and nowhere else.

`DESCRIPTIONS` says what each metric is and in which unit; the ledger (`sim.results.ledger`) says how it is counted. A figure is
one of three things: a number; *never* (`value` null and `never` true): it falls on updates that were not shown, so it is longer
than the run, and a threshold on it fails; or undefined (`value` null): there is nothing to make it from, or more than
`UNKNOWN_ALLOWED` of it is unknown. n is the number of independent observations behind a figure (updates), intervals are those
of `sim.results.statistics`. `source` is "sample" where rows of a share of the pages were scaled to all; without it the figure
is of all pages.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sim.arrays import Array
from sim.results.ledger import costs, matching
from sim.results.ledger.book import Ledger, RunTables, ledger_of
from sim.results.ledger.pairs import settled, too_unknown
from sim.results.ledger.staleness import at_end, regressions
from sim.results.ledger.views import weight_of
from sim.results.statistics import Estimate, batch_mean, batch_ratio, quantiles
from sim.scenario import Scenario

Summary = dict[str, dict[str, Any]]
Figures = Iterator[tuple[str, Estimate]]

LEVELS = (0.5, 0.95, 0.99)
SHARE = (0.0, 1.0)

HERD = 0.1
"""Seconds: refetches that start within one such window are one herd."""


class Metric(NamedTuple):
    """What a metric is. *figures*: it is a family, `name.p50`, `name.mean` and so on; else the name alone is the figure."""

    unit: str
    """count, s, share, bytes, 1/s, or empty for a plain number."""
    meaning: str
    figures: tuple[str, ...] = ()
    more_is_better: bool = False


LATENCY = (*(f"p{level * 100:g}" for level in LEVELS), "mean", "max")
SPREAD = ("p50", "p99", "mean")

DESCRIPTIONS: dict[str, Metric] = {
    "updates": Metric("count", "changes intended inside the window"),
    "updates.failed": Metric("count", "of them, not in the database when the run was over"),
    "updates.unknown": Metric("count", "of them, not known whether they were committed"),
    "updates.not_broadcast": Metric("count", "of them, committed, but the broadcaster never accepted the event"),
    "pairs.owed": Metric(
        "count", "pairs of an update committed in the window and a page that shows its resource and was open then"
    ),
    "pairs.shown": Metric("count", "of them, the page showed it"),
    "pairs.never": Metric("count", "of them, the page was open when the run was over and never showed it"),
    "pairs.left": Metric("count", "of them, the page closed before it showed it"),
    "pairs.unknown": Metric("count", "of them, not known: a version, or the instant of the commit, is missing"),
    "left_before_fresh": Metric("count", "pairs whose page closed first: pairs.left under its old name"),
    "starved_updates": Metric("count", "updates that at least one page never showed"),
    "starved_ratio": Metric("share", "never / (shown + never) pairs"),
    "time_to_fresh": Metric("s", "update intended -> first state of the page that contains it", (*LATENCY, "mean_of_shown")),
    "deliveries.expected": Metric("count", "confirmed subscriptions x accepted events of the updates committed in the window"),
    "deliveries.received": Metric("count", "of them, arrived"),
    "deliveries.missing": Metric("count", "of them, not arrived"),
    "deliveries.missing.target": Metric("count", "of these, lost by the target"),
    "deliveries.missing.connection": Metric("count", "of these, the subscription ended while the event was being sent"),
    "deliveries.missing.on_its_way": Metric("count", "of these, the run was over while the event was being sent"),
    "deliveries.duplicate": Metric("count", "arrivals beyond the first of one delivery"),
    "deliveries.unexpected": Metric("count", "arrivals for which there was no subscription, or no accepted event"),
    "deliveries.out_of_order": Metric("count", "arrivals after one of a later update, same channel and subscriber"),
    "deliveries.missed_while_away": Metric("count", "owed pairs whose event was accepted while the page had no subscription"),
    "deliveries.not_broadcast": Metric("count", "owed pairs whose event was never accepted"),
    "delivery_ratio": Metric("share", "received / expected", more_is_better=True),
    "notifications.heard": Metric("count", "arrivals at pages, in the whole run"),
    "notifications.unanswered": Metric("count", "of them, answered by no refetch"),
    "time_to_notified": Metric("s", "update intended -> notification arrived, of those that arrived", LATENCY),
    "fan_out.first": Metric("s", "update committed -> first subscriber reached", SPREAD),
    "fan_out.last": Metric("s", "update committed -> last subscriber reached", SPREAD),
    "fan_out.spread": Metric("s", "first -> last subscriber of one update", SPREAD),
    "stale_ratio": Metric("share", "share of the pages' time in which they did not show the newest committed update of theirs"),
    "pages.stale_at_end": Metric("count", "pages that show an old state when the run ends"),
    "pages.stale_at_end_ratio": Metric("share", "of the pages open then, the share that show an old state"),
    "pages.open_at_end": Metric("count", "pages open when the run ends"),
    "pages.regressions": Metric("count", "answers that were applied over a newer one"),
    "age_of_information.mean": Metric("s", "mean age of the newest update shown, since its commit, over page time"),
    "age_of_information.peak": Metric("s", "mean age just before a newer one was shown"),
    "age_of_synchronisation.mean": Metric("s", "mean age of the oldest update not shown (0 while there is none)"),
    "refetches": Metric("count", "refetches sent in the window, the cool-down or the drain (polls: in the window)"),
    "refetches.applied": Metric("count", "of them, shown"),
    "refetches.not_newer": Metric("count", "of them, the page showed that version already"),
    "refetches.superseded": Metric("count", "of them, given up for a newer one"),
    "refetches.cancelled": Metric("count", "of them, given up because the page left"),
    "refetches.failed": Metric("count", "of them, refused, timed out or broken"),
    "refetches.running": Metric("count", "of them, without an end when the run ended"),
    "refetches.wasted": Metric("count", "not newer, superseded or cancelled"),
    "refetches_per_update": Metric(
        "", "amplification: refetches / updates, over all pages; those of the cool-down and the drain count, their updates do not"
    ),
    "refetches_per_notification": Metric("", "refetches / deliveries received: what the policy lets through"),
    "refetch_time": Metric("s", "request sent -> answer complete", LATENCY),
    "refetch_delay": Metric("s", "due (in single flight: and the one before at its end) -> sent, in visible tabs", LATENCY),
    "refetch_rate.mean": Metric("1/s", "refetches started per second of the window"),
    "refetch_rate.peak": Metric("1/s", "refetches started per second, in the fullest 100 ms"),
    "bytes_per_update": Metric("bytes", "bytes of refetch answers per update"),
    "publisher_lateness": Metric("s", "update sent later than intended", LATENCY),
    "reader_lag": Metric("s", "frame arrived -> read by the load client", LATENCY),
    "cpu": Metric("cores", "processor time of a kind of process per second", ("<process>",)),
    "memory": Metric("bytes", "largest resident size of a kind of process", ("<process>",)),
    "cpu_per_delivery": Metric("s", "the broadcaster's processor time per delivery"),
    "cpu_per_refetch": Metric("s", "the application's processor time per refetch, its share of changes included"),
    "cpu_per_notification": Metric("s", "the load client's processor time per notification received, refetches included"),
}

SIMULATOR: dict[str, Metric] = {
    "utilisation": Metric("share", "share of the workers' time in the window that is work"),
    "queue_wait.mean": Metric("s", "arrival of a request -> a worker takes it, in the window"),
    "queue_wait.max": Metric("s", "the longest of them"),
    "pages.timeouts": Metric("count", "requests given up"),
    "pages.retries": Metric("count", "requests sent again"),
    "application.busy_ratio": Metric("share", "share of the workers' time that is work, mean over the window"),
    "application.queue_peak": Metric("count", "most requests that waited for a worker"),
    "application.in_flight_peak": Metric("count", "most requests at the application at once"),
    "application.refused": Metric("count", "requests refused, by the queue's limit or by the limiter"),
    "application.from_cache": Metric("count", "requests that shared another's answer"),
    "broadcaster.utilisation": Metric("share", "share of the window in which the busiest node writes"),
    "broadcaster.frames": Metric("count", "frames written"),
    "broadcaster.bytes": Metric("bytes", "bytes written"),
}
"""What only a simulator can count; its own samples of the `metrics` table say it."""

DESCRIPTIONS |= SIMULATOR

OUTCOMES = ("applied", "not_newer", "superseded", "cancelled", "failed", "running")
WASTED = ("not_newer", "superseded", "cancelled")

FIGURE = re.compile(r"^(?P<stem>.+)\.(?P<figure>p\d+(?:\.\d+)?|mean|max|mean_of_shown)$")
PERCENTILE = re.compile(r"\bp\(\s*(\d+(?:\.\d+)?)\s*\)")
KINDS = ("detail", "firewall", "provision", "site", "task", "dashboard")


def metric_of(name: str) -> Metric | None:
    """The description of a figure by its full name, as `time_to_fresh.dashboard.p99.9`; None: there is no such figure."""
    plain = DESCRIPTIONS.get(name)
    if plain is not None:
        return None if plain.figures else plain
    found = FIGURE.match(name)
    if found is None:
        stem, _, process = name.rpartition(".")
        return DESCRIPTIONS[stem] if stem in ("cpu", "memory") and process else None
    stem, figure = found["stem"], found["figure"]
    family, _, kind = stem.rpartition(".")
    if family == "time_to_fresh" and kind in KINDS:
        stem = family
    metric = DESCRIPTIONS.get(stem)
    if metric is None or not metric.figures:
        return None
    if not figure.startswith("p"):
        return metric if figure in metric.figures else None
    return metric if 0 < float(figure[1:]) < 100 else None


def level_of(metric: str) -> float | None:
    """The quantile that a figure's name asks for, as 0.999 for `time_to_fresh.p99.9`; None: it is no quantile."""
    found = FIGURE.match(metric)
    return float(found["figure"][1:]) / 100 if found and found["figure"].startswith("p") else None


def levels_of(scenario: Scenario) -> tuple[float, ...]:
    """The quantiles that a summary has: `LEVELS`, and those for which the scenario's thresholds ask."""
    asked = {float(p) / 100 for text in scenario.thresholds.values() for p in PERCENTILE.findall(text)}
    return (*LEVELS, *sorted(level for level in asked - set(LEVELS) if 0 < level < 1))


def summarise(run: RunTables, scenario: Scenario | None = None, levels: tuple[float, ...] | None = None) -> Summary:
    """The summary of a bundle, or of tables in memory (then with their *scenario*). *levels*: quantiles of latencies
    (`levels_of`)."""
    return summary_of(ledger_of(run) if scenario is None else Ledger(run, scenario), levels)


def summary_of(ledger: Ledger, levels: tuple[float, ...] | None = None) -> Summary:
    """`summarise` of a ledger that there is already."""
    asked = levels_of(ledger.scenario) if levels is None else levels
    figures: dict[str, Estimate] = {}
    for part in (
        _updates(ledger),
        _deliveries(ledger, asked),
        _pairs(ledger, asked),
        _staleness(ledger),
        _refetches(ledger, asked),
        _harness(ledger, asked),
        _processes(ledger),
        _simulator(ledger),
    ):
        figures |= dict(part)
    received = figures["deliveries.received"].value
    if received:
        fetched = figures["refetches"].value or 0
        figures["refetches_per_notification"] = Estimate(fetched / received, n=len(ledger.counted))
    source = {"source": "sample"} if ledger.sampled else {}
    return {name: estimate.row() | source for name, estimate in figures.items()}


def sampled_share(run: RunTables) -> float:
    """Share of the pages whose rows the tables hold; 1 where all are."""
    weight = run.pages["weight"].to_numpy(float)
    return len(weight) / float(weight.sum()) if len(weight) else 1.0


def _name(level: float) -> str:
    return f"p{level * 100:g}"


def _latency(name: str, values: Array, events: Array, levels: tuple[float, ...], weights: Array | None = None) -> Figures:
    """The figures of a latency; rows ordered by event. inf: never."""
    weights = np.ones(len(values)) if weights is None else weights
    for level, estimate in zip(levels, quantiles(values, events, levels, weights), strict=True):
        yield f"{name}.{_name(level)}", estimate
    if not len(values):
        yield f"{name}.mean", Estimate(None)
        yield f"{name}.max", Estimate(None)
        return
    event = np.cumsum(np.r_[False, events[1:] != events[:-1]])
    n = int(event[-1]) + 1
    never = bool(np.isinf(values).any())
    mean = batch_mean(np.bincount(event, values * weights), np.bincount(event, weights)) if not never else Estimate(np.inf, n=n)
    yield f"{name}.mean", mean
    yield f"{name}.max", Estimate(float(values.max()), n=n)


def _updates(ledger: Ledger) -> Figures:
    counted, n = ledger.counted, len(ledger.counted)
    uncommitted = counted["committed_at"].isna().to_numpy(bool)
    silent = counted["published_at"].isna().to_numpy(bool)
    status = counted["status"].astype(str).to_numpy()
    failed = status == "failed"
    yield "updates", Estimate(n, n=n)
    yield "updates.failed", Estimate(int((uncommitted & failed).sum()), n=n)
    # What was broadcast was committed, whether or not the application says when.
    yield "updates.unknown", Estimate(int((uncommitted & ~failed & silent).sum()), n=n)
    yield "updates.not_broadcast", Estimate(int((~uncommitted & silent).sum()), n=n)


def _deliveries(ledger: Ledger, levels: tuple[float, ...]) -> Figures:
    expected, beyond = ledger.expected, ledger.beyond
    n = len(ledger.counted)
    weight = expected["weight"].to_numpy(float)
    arrived = expected["received_at"].notna().to_numpy(bool)
    yield "deliveries.expected", _count(weight, n)
    yield "deliveries.received", _count(weight[arrived], n)
    yield "deliveries.missing", _count(weight[~arrived], n)
    for reason in ("target", "connection", "on_its_way"):
        yield f"deliveries.missing.{reason}", _count(weight[(expected["reason"] == reason).to_numpy(bool)], n)
    for kind in ("duplicate", "unexpected"):
        yield f"deliveries.{kind}", _count(beyond["weight"].to_numpy(float)[(beyond["kind"] == kind).to_numpy(bool)], n)
    heard = ledger.tables.notifications
    weights = weight_of(heard["subscriber"], ledger.tables.pages)
    late = matching.out_of_order(ledger.tables) & heard["update"].isin(ledger.window_serials).to_numpy(bool)
    yield "deliveries.out_of_order", _count(weights[late], n)
    yield "notifications.heard", _count(weights, n)
    sent = ledger.tables.refetches
    answered = sent["answered"].to_numpy(float) * weight_of(sent["subscriber"], ledger.tables.pages)
    yield "notifications.unanswered", _count(np.r_[weights, -answered], n)
    _, event = np.unique(expected["update"].to_numpy(), return_inverse=True)
    yield "delivery_ratio", batch_ratio(np.bincount(event, arrived * weight), np.bincount(event, weight), SHARE)

    known = expected[expected["delay"].notna()]
    delay, each = known["delay"].to_numpy(float), known["weight"].to_numpy(float)
    yield from _latency("time_to_notified", delay, known["update"].to_numpy(), levels, each)
    for name in ("first", "last", "spread"):
        delays = ledger.fan_outs[name].dropna()
        values = delays.to_numpy(float)
        for level, estimate in zip((0.5, 0.99), quantiles(values, delays.index.to_numpy(), (0.5, 0.99)), strict=True):
            yield f"fan_out.{name}.{_name(level)}", estimate
        yield f"fan_out.{name}.mean", batch_mean(values, np.ones(len(values)))


def _pairs(ledger: Ledger, levels: tuple[float, ...]) -> Figures:
    pairs, n = ledger.pairs, len(ledger.counted)
    weight = pairs["weight"].to_numpy(float)
    fate = pairs["fate"].astype(object).to_numpy()
    yield "pairs.owed", _count(weight, n)
    for name in ("shown", "never", "left", "unknown"):
        yield f"pairs.{name}", _count(weight[fate == name], n)
    yield "left_before_fresh", _count(weight[fate == "left"], n)
    for name in ("missed_while_away", "not_broadcast"):
        yield f"deliveries.{name}", _count(weight[pairs[name].to_numpy(bool)], n)

    kinds = pairs["kind"].cat
    present = [name for name in kinds.categories if (pairs["kind"] == name).any()]
    yield from _freshness("time_to_fresh", pairs, levels)
    if len(present) > 1:
        for name in present:
            yield from _freshness(f"time_to_fresh.{name}", pairs[pairs["kind"] == name], levels)
    known = settled(pairs)
    starved = (known["fate"] == "never").to_numpy(bool)
    each, update = known["weight"].to_numpy(float), known["update"].to_numpy()
    figures = not too_unknown(weight[fate == "unknown"].sum(), weight.sum())
    yield "starved_updates", Estimate(len(np.unique(update[starved])) if figures else None, n=n)
    _, event = np.unique(update, return_inverse=True)
    yield "starved_ratio", batch_ratio(np.bincount(event, starved * each), np.bincount(event, each), SHARE)


def _freshness(name: str, pairs: pd.DataFrame, levels: tuple[float, ...]) -> Figures:
    """The figures of the time to fresh of some pairs."""
    known = settled(pairs)
    update, delay, weight = known["update"].to_numpy(), known["delay"].to_numpy(float), known["weight"].to_numpy(float)
    yield from _latency(name, delay, update, levels, weight)
    shown = ~np.isinf(delay)
    _, event = np.unique(update[shown], return_inverse=True)
    yield f"{name}.mean_of_shown", batch_mean(np.bincount(event, (delay * weight)[shown]), np.bincount(event, weight[shown]))


def _count(weights: Array, n: int) -> Estimate:
    """A count of rows, each standing for its weight; whole where all are."""
    total = float(weights.sum())
    return Estimate(int(total) if total.is_integer() else total, n=n)


def _staleness(ledger: Ledger) -> Figures:
    pages, n = ledger.staleness(), len(ledger.counted)
    weight = pages["weight"].to_numpy(float)

    def total(column: str) -> float:
        return float((pages[column].to_numpy(float) * weight).sum())

    observed, unknown = total("observed"), total("unknown")
    known = observed - unknown
    figures = known > 0 and not too_unknown(unknown, observed)
    yield "stale_ratio", Estimate(total("stale") / known if figures else None, n=n)
    for name, sums, over in (("mean", "age", "shown"), ("peak", "peak", "peaks")):
        there = figures and total(over)
        yield f"age_of_information.{name}", Estimate(total(sums) / total(over) if there else None, n=n)
    yield "age_of_synchronisation.mean", Estimate(total("behind") / known if figures else None, n=n)
    still, stale, doubtful = at_end(ledger.states, ledger.tables.pages, ledger.window.over)
    every = ledger.tables.pages["weight"].to_numpy(float)
    known_pages = float(every[still & ~doubtful].sum())
    figures = not too_unknown(every[doubtful].sum(), every[still].sum())
    yield "pages.stale_at_end", _count(every[stale], n) if figures else Estimate(None, n=n)
    yield (
        "pages.stale_at_end_ratio",
        Estimate(float(every[stale].sum()) / known_pages if figures and known_pages else None, n=n),
    )
    yield "pages.open_at_end", _count(every[still], n)
    yield "pages.regressions", _count(every[regressions(ledger.views)], n)


def _could_start(sent: pd.DataFrame, scenario: Scenario) -> Array:
    """When each refetch was due, and in single flight the one before of its page had ended."""
    due = sent["due_at"].to_numpy(float)
    if not any(scenario.in_flight_of(pages) == "single_flight" for pages in scenario.pages if pages.subscribers):
        return due
    page, started, ended = (sent[name].to_numpy(float) for name in ("subscriber", "started_at", "finished_at"))
    order = np.lexsort((started, page))
    before = np.full(len(sent), np.nan)
    same = page[order][1:] == page[order][:-1]
    before[order[1:][same]] = ended[order[:-1][same]]
    return np.fmax(due, np.where(before <= started, before, np.nan))


def _refetches(ledger: Ledger, levels: tuple[float, ...]) -> Figures:
    """Load on the application, and the identity of outcomes."""
    sent, counted = ledger.refetches, ledger.counted
    start, end, _ = ledger.window
    updates, weight = len(counted), sent["weight"].to_numpy(float)
    outcome = sent["outcome"].astype(str).to_numpy()
    at = sent["started_at"].to_numpy(float)
    yield "refetches", _count(weight, updates)
    for name in OUTCOMES:
        yield f"refetches.{name}", _count(weight[outcome == name], updates)
    yield "refetches.wasted", _count(weight[np.isin(outcome, WASTED)], updates)
    size = sent["bytes"].to_numpy(float)
    yield "refetches_per_update", batch_ratio(per_update(weight, sent, counted), np.ones(updates))
    yield "bytes_per_update", batch_ratio(per_update(weight * size, sent, counted), np.ones(updates))
    done = sent["finished_at"].notna().to_numpy(bool)
    # Refetches of one herd queue behind one another: the herd is the observation.
    herd = np.floor(at / HERD).astype(np.int64)
    yield from _latency("refetch_time", (sent["finished_at"].to_numpy(float) - at)[done], herd[done], levels, weight[done])
    # Browsers hold the timers of a hidden tab back: that is not lateness.
    pages = ledger.tables.pages
    seen = ~sent["subscriber"].isin(pages.loc[pages["hidden"].astype(bool), "subscriber"]).to_numpy(bool)
    late = (at - _could_start(sent, ledger.scenario))[seen]
    yield from _latency("refetch_delay", late, herd[seen], levels, weight[seen])
    inside = at < end
    peak = np.bincount(((at[inside] - start) / HERD).astype(np.int64), weight[inside]).max(initial=0) / HERD
    yield "refetch_rate.mean", Estimate(float(weight[inside].sum()) / (end - start) if end > start else None, n=updates)
    yield "refetch_rate.peak", Estimate(float(peak), n=updates)


def per_update(amount: Array, sent: pd.DataFrame, counted: pd.DataFrame) -> Array:
    """Sums of *amount* (one per refetch) by update: a refetch belongs to the latest update intended before it was sent."""
    if counted.empty:
        return np.array([])
    intended = np.sort(counted["intended_at"].to_numpy(float))
    latest = np.searchsorted(intended, sent["started_at"].to_numpy(float), side="right") - 1
    return np.bincount(np.maximum(latest, 0), weights=amount, minlength=len(counted))


def _harness(ledger: Ledger, levels: tuple[float, ...]) -> Figures:
    """What the measuring side added: how late it sent, how late it read."""
    start, end, _ = ledger.window
    notifications = ledger.tables.notifications
    received = notifications["received_at"].to_numpy(float)
    inside = notifications[(received >= start) & (received < end)].sort_values("update", kind="stable")
    lag = inside["read_at"].to_numpy(float) - inside["received_at"].to_numpy(float)
    known = np.isfinite(lag)
    event = inside["update"].fillna(-1).to_numpy(np.int64)
    yield from _latency(
        "reader_lag", lag[known], event[known], levels, weight_of(inside["subscriber"], ledger.tables.pages)[known]
    )
    metrics = ledger.tables.metrics
    late = metrics[(metrics["metric"] == "lateness") & (metrics["at"] >= start) & (metrics["at"] < end)]
    if len(late):
        yield from _latency("publisher_lateness", late["value"].to_numpy(float), np.arange(len(late)), levels)


COSTS = {
    "cpu_per_delivery": ("broadcaster", "deliveries"),
    "cpu_per_refetch": ("application", "refetches"),
    "cpu_per_notification": ("harness", "deliveries"),
}
"""Metric -> whose processor time, and by the number of what it is divided (`costs.spent`)."""


def _processes(ledger: Ledger) -> Figures:
    """Processor time and memory of each kind of process while updates came, and what one delivery or refetch cost of it."""
    kinds = {re.sub(r"-\d+$", "", process) for process, _ in ledger.samples}
    spent = {kind: rows for kind in sorted(kinds) if len(rows := costs.spent(ledger, kind))}
    total = {kind: rows.sum() for kind, rows in spent.items()}
    for kind, rows in spent.items():
        yield f"cpu.{kind}", Estimate(float(total[kind]["used"] / total[kind]["seconds"]), n=len(rows))
    for kind in sorted(kinds):
        held = costs.level(ledger, kind, "rss_bytes")
        if not np.isnan(held):
            yield f"memory.{kind}", Estimate(held, n=1)
    for metric, (kind, work) in COSTS.items():
        if kind in total and total[kind]["used"] and total[kind][work]:
            yield metric, Estimate(float(total[kind]["used"] / total[kind][work]), n=round(total[kind][work]))


def _simulator(ledger: Ledger) -> Figures:
    start, end, _ = ledger.window
    named = {f"{process}.{metric}": one for (process, metric), one in ledger.samples.items()}
    for full, every in sorted(named.items()):
        metric = full.removeprefix("application.") if full.removeprefix("application.") in SIMULATOR else full
        if metric not in SIMULATOR:
            continue
        # Samples per second are of the window where there are any in it; what is counted once is said at the end of the run.
        inside = (every.at > start) & (every.at <= end)
        rows = np.argsort(every.at, kind="stable")
        rows = rows[inside[rows]] if inside.any() and len(rows) > 1 else rows
        at, values = every.at[rows], every.value[rows]
        value = values.max() if metric.endswith("peak") else every.value[-1]
        if metric.endswith("busy_ratio"):  # each is of the time since the one before
            since = np.diff(at, prepend=start)
            value = np.average(values, weights=since) if (since > 0).all() else values.mean()
        yield metric, Estimate(float(value), n=len(ledger.counted))
    nodes = [one.value.max() for full, one in named.items() if full.startswith("broadcaster.busy_ratio.")]
    if nodes:
        yield "broadcaster.utilisation", Estimate(float(max(nodes)), n=len(ledger.counted))
