"""What one more subscriber costs, which channel reaches whom, and where a node of the broadcaster ends."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from sim.prediction import fit
from sim.results import statistics
from sim.results.ledger import costs
from sim.results.ledger.book import ledger_of
from sim.results.run import Run
from sim.results.statistics import Estimate
from sim.scenario import Fleet, Pages, Scenario
from sim.study import summary
from sim.virtual import fleet
from sim.virtual.theory import fanout_delay_last, fanout_subscribers_max
from sim.workload import Poisson

NODES = (1, 2, 4, 8)


def sizes(runs: Iterable[Run]) -> pd.DataFrame:
    """One row per run: subscribers (receivers per event), first, median, last, spread (means over events, s), and `costs`."""
    rows = {}
    for run in runs:
        events = costs.arrivals(run)
        means = events[["first", "median", "last", "spread"]].mean()
        rows[run.name] = {"subscribers": float(events["receivers"].mean())} | means.to_dict() | costs.costs(run)
        rows[run.name] |= {"subscriptions": float(len(run.subscriptions["subscriber"].unique())), "source": run.manifest.source}
    return pd.DataFrame.from_dict(rows, orient="index").sort_values("subscribers")


def per_subscriber(runs: Iterable[Run]) -> Estimate:
    """Seconds by which one more subscriber delays the last one: spread over the receivers between, bootstrapped by events."""
    events = pd.concat([costs.arrivals(run) for run in runs])
    broad = events[events["receivers"] >= fit.BREADTH]
    return statistics.ratio(broad["spread"].to_numpy(), broad["ranks"].to_numpy(dtype=float))


def slope(frame: pd.DataFrame, y: str, x: str = "subscribers") -> tuple[float, float]:
    """(increase of *y* for one of *x*, value at none), least squares; the latter is at least 0, as costs are."""
    known = frame[np.isfinite(frame[x]) & np.isfinite(frame[y])]
    if known[x].nunique() < 2:
        return (float((known[y] / known[x]).mean()) if len(known) else float("nan")), 0.0
    across, up = known[x].to_numpy(dtype=float), known[y].to_numpy(dtype=float)
    each, none = np.polyfit(across, up, 1)
    return (float(each), float(none)) if none >= 0 else (float(across @ up / (across @ across)), 0.0)


def fitted(run: Run) -> Scenario:
    """The run's scenario with the broadcaster and its way fitted to the run; the rest as it says."""
    return fit.fitted(run, "broadcaster.", "network.")


def line(frame: pd.DataFrame, y: str) -> pd.DataFrame:
    """The measured points of *y* over subscribers, and the straight line through them: subscribers, *y*, group, source."""
    each, none = slope(frame, y)
    points = frame[["subscribers", y]].assign(source="measured")
    ends = np.linspace(frame["subscribers"].min(), frame["subscribers"].max(), 20)
    through = pd.DataFrame({"subscribers": ends, y: none + each * ends, "source": "fit"})
    return pd.concat([through, points], ignore_index=True).assign(group="broadcaster")


def largest(runs: Iterable[Run]) -> Run:
    """The run with the most subscribers: the one to fit the delay of each to."""
    return max(runs, key=lambda run: run.scenario.subscribers)


def with_memory(frame: pd.DataFrame) -> pd.DataFrame:
    """`sizes` with memory_per_connection (bytes of the broadcaster): the slope over runs, NaN for one run alone."""
    known = frame[np.isfinite(frame["memory"])]
    each = slope(known, "memory", "subscriptions")[0] if known["subscriptions"].nunique() > 1 else np.nan
    return frame.assign(memory_per_connection=each)


def apart(nodes: pd.DataFrame) -> float:
    """Largest relative difference between simulated and theoretical time to the last receiver (`nodes`)."""
    drawn = nodes[nodes["source"] == "simulated"]
    return float((drawn["last"] / drawn["theory"] - 1).abs().max())


def simulated(scenario: Scenario, subscribers: Iterable[float]) -> pd.DataFrame:
    """The model's curve: mean time to the first, the median and the last receiver (s) of each size, since the commit."""
    rows = []
    way = scenario.broadcaster.costs.fixed + scenario.network.to_broadcaster.mean() + scenario.network.to_subscriber.mean()
    for size in subscribers:
        each = scenario.broadcaster.costs.per_subscriber
        rows.append(
            {"subscribers": size} | {k: way + each * s for k, s in (("first", 1), ("median", (size + 1) / 2), ("last", size))}
        )
    return pd.DataFrame(rows).assign(source="simulated")


CHANNELS: dict[str, dict[str, Any]] = {
    "specific: a page per server": {"pages": [{"page": "detail"}]},
    "per user: a dashboard each": {"pages": [{"page": "dashboard"}], "broadcast.channels": "per_user"},
    "generic: a dashboard each": {"pages": [{"page": "dashboard"}]},
}
"""Which pages, on which channel; the same number of them each time."""


def channels(scenario: Scenario) -> pd.DataFrame:
    """The same updates and as many pages, on each kind of channel: what an update costs, and how fresh the pages are.

    Columns: messages, refetches (per update), fresh_p50, fresh_p95 (s), refetches_per_second.
    """
    rows = {}
    count = scenario.subscribers
    for name, changes in CHANNELS.items():
        pages = [page | {"subscribers": count} for page in changes["pages"]]
        figures = summary(scenario.replace(changes | {"pages": pages}))
        updates = figures["updates"]["value"]
        rows[name] = {
            "messages": figures["deliveries.received"]["value"] / updates,
            "refetches": figures["refetches_per_update"]["value"],
            "fresh_p50": figures["time_to_fresh.p50"]["value"],
            "fresh_p95": figures["time_to_fresh.p95"]["value"],
            "refetches_per_second": figures["refetch_rate.mean"]["value"],
        }
    return pd.DataFrame.from_dict(rows, orient="index", dtype=float)


def nodes(per_subscriber: float, rate: float, counts: Iterable[int] = NODES, points: int = 24) -> pd.DataFrame:
    """Mean time to the last receiver (s) over subscribers of one channel, by number of nodes: theory, and the fleet engine.

    Updates are Poisson at *rate*; nothing but the fan-out takes time. Columns: subscribers, last, group (nodes), source.
    """
    rows = []
    for count in counts:
        end = fanout_subscribers_max(rate, per_subscriber) * count
        group = f"{count} node{'s' if count > 1 else ''}"
        for share in np.r_[np.geomspace(0.01, 0.9, points), np.linspace(0.91, 0.99, 9)]:
            size = int(end * share // count * count)
            last = fanout_delay_last(size, per_subscriber, rate, count)
            rows.append({"subscribers": size, "last": last, "group": group, "source": "theory"})
        for share in (0.2, 0.5, 0.8):
            size = int(end * share // count * count)
            last, exact = _last(per_subscriber, rate, size, count), fanout_delay_last(size, per_subscriber, rate, count)
            rows.append({"subscribers": size, "last": last, "theory": exact, "group": group, "source": "simulated"})
    return pd.DataFrame(rows)


def _last(per_subscriber: float, rate: float, size: int, nodes: int, events: int = 4000) -> float:
    """Simulated mean time to the last receiver: from the mean over all of them, which lies half a fan-out earlier."""
    scenario = Scenario(
        name="nodes",
        warmup=20 / rate,
        duration=events / rate,
        drain=60.0,
        fleet=Fleet(users=1),
        workload=Poisson(rate=rate),
        pages=(Pages("dashboard", size),),
    ).replace(
        {
            "policy": {"kind": "full_payload"},
            "broadcast.payload": "full",
            "broadcaster.per_byte": 0.0,
            "broadcaster.fixed": 0.0,
            "broadcaster.per_subscriber": per_subscriber,
            "broadcaster.nodes": nodes,
            "network.to_broadcaster": 0.0,
            "network.to_subscriber": 0.0,
        }
    )
    mean = fleet.run(scenario).time_to_notified.mean
    return float(mean + (size / nodes - 1) * per_subscriber / 2)


def limits(
    per_subscriber: float, rates: Iterable[float], counts: Iterable[int] = NODES, utilisation: float = 0.7
) -> pd.DataFrame:
    """Most subscribers of one channel (columns: nodes) by events per second (rows), with each node busy for *utilisation*."""
    counts = tuple(counts)
    rows = {
        rate: {f"{m} node{'s' if m > 1 else ''}": m * utilisation * fanout_subscribers_max(rate, per_subscriber) for m in counts}
        for rate in rates
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("events/s")


def curve(sizes: pd.DataFrame, scenario: Scenario) -> pd.DataFrame:
    """The measured `sizes` and the model's curve through the same numbers of subscribers (`simulated`), for one figure."""
    return pd.concat([sizes, simulated(scenario, sizes["subscribers"])], ignore_index=True)


def spreads(runs: Iterable[Run], points: int = 400) -> pd.DataFrame:
    """Who has heard of a typical event of each run, since the first did: since (s), heard (share), group, source."""
    parts = []
    for run in sorted(runs, key=lambda run: run.scenario.subscribers):
        events = costs.arrivals(run)
        one = (events["spread"] - events["spread"].median()).abs().idxmin()
        arrived = ledger_of(run).expected
        at = np.sort(arrived.loc[arrived["update"] == one, "received_at"].dropna().to_numpy())
        # One in so many is enough to draw.
        kept = np.unique(np.linspace(0, len(at) - 1, min(points, len(at))).astype(int))
        part = pd.DataFrame({"since": at[kept] - at[0], "heard": (kept + 1) / len(at)})
        parts.append(part.assign(group=f"{len(at):,}", source="curve"))
    return pd.concat(parts, ignore_index=True)
