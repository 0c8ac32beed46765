"""Fan-out: the delay for each subscriber, the cost of a delivery by load, the pages that a channel reaches, a node's capacity."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sim.errors import BadInput
from sim.prediction import fit
from sim.results import statistics, text
from sim.results.answers import report
from sim.results.ledger import costs
from sim.results.ledger.book import ledger_of
from sim.results.run import Run
from sim.results.statistics import Estimate
from sim.scenario import Scenario
from sim.shipped import shipped
from sim.study import NO_TIME, dashboards, summary
from sim.virtual import fleet
from sim.virtual.theory import fanout_delay_last, fanout_subscribers_max

NODES = (1, 2, 4, 8)
UTILISATION = 0.7
"""Share of its time for which a node of `limits` is busy."""
FULL = 0.9
"""Share of a core from which a node counts as full: the rest is the wait for the next event to come."""
SATURATION = shipped("data") / "saturation.json"
OURS, BARE = "broadcaster", "bare sender"


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
    """Seconds by which one more subscriber delays the last one: spread over the receivers between, by events."""
    events = pd.concat([costs.arrivals(run) for run in runs])
    broad = events[events["receivers"] >= fit.BREADTH]
    return statistics.ratio(broad["spread"].to_numpy(), broad["ranks"].to_numpy(dtype=float))


def saturation(path: str | Path = SATURATION) -> dict[str, Any]:
    """What `python -m benchmarks.fanout --only saturation --record FILE` found: {command, created_at, host, rows}.

    Raises `BadInput`.
    """
    return report.record(path, "python -m benchmarks.fanout --only saturation")


def loads(record: Mapping[str, Any]) -> pd.DataFrame:
    """CPU of a delivery by load, one row per server, subscribers, and load; of a `saturation` record.

    Columns: server, subscribers, in_flight (events that the publisher keeps under way; 0: events at a fixed rate), load (that
    in words), events (per second), deliveries (per second), busy (share of a core), cpu, low, high (s per delivery, and the
    interval over its rounds; NaN where there are too few), rounds.
    """
    rows = pd.DataFrame(record["rows"]).assign(in_flight=lambda found: found["in_flight"].fillna(0).astype(int))
    # Rounds of the same number in flight are one load; each fixed rate is its own.
    rate = rows["events_per_s"].where(rows["in_flight"] == 0, 0.0)
    found = []
    for (server, size, flying, _), part in rows.groupby(["server", "subscribers", "in_flight", rate], sort=False):
        cpu = part["cpu"].to_numpy(dtype=float) / 1e6
        mean = statistics.mean_of(cpu)
        means = part[["events_per_s", "deliveries_per_s", "busy"]].mean().tolist()
        words = f"{flying} in flight" if flying else f"{means[0]:.0f} events/s"
        found.append((server, size, flying, words, *means, mean.value, mean.low, mean.high, mean.n))
    names = ["server", "subscribers", "in_flight", "load", "events", "deliveries", "busy", "cpu", "low", "high", "rounds"]
    table = pd.DataFrame(found, columns=names).astype({"low": float, "high": float})
    idle = table.groupby(["server", "subscribers"])["busy"].transform("min") == table["busy"]
    table["load"] = table["load"].where(~idle, "idle, " + table["load"])
    return table.sort_values(["server", "subscribers", "in_flight", "events"], ignore_index=True)


class Capacity(NamedTuple):
    """What one node delivers where it has nothing but that to do, at the most subscribers that were measured."""

    subscribers: float
    each: Estimate
    """CPU (s) of a delivery, one event after the other: its inverse is a node's deliveries per second."""
    busy: float
    """Share of a core that the node then took."""
    idle: float
    """CPU (s) of a delivery of the idle node: not what its capacity follows from."""
    merged: float
    """Deliveries per second with the most events in flight: events that wait leave in one write for each subscriber."""
    in_flight: int
    bare: Estimate
    """As `each`, of the bare sender of the same run."""
    bare_idle: float
    full: bool
    """Whether the node was the limit; else `each` is a bound: a node carries at least what follows from it."""


def capacity(table: pd.DataFrame) -> Capacity:
    """From `loads`: of the cost near saturation, never of an idle node's. Raises `BadInput` where no load was back to back."""

    def of(server: str) -> tuple[list[dict[Any, Any]], dict[Any, Any]]:
        """Its loads with events in flight, fewest first, and the idle one."""
        mine = table[(table["server"] == server) & (table["subscribers"] == table["subscribers"].max())]
        flying = mine[mine["in_flight"] > 0].sort_values("in_flight").to_dict("records")
        if not flying:
            raise BadInput(f"the record of saturation has no rows of a {server} with events in flight")
        return flying, mine.sort_values("busy").to_dict("records")[0]

    def estimate(row: Mapping[Any, Any]) -> Estimate:
        return Estimate(row["cpu"], statistics.finite(row["low"]), statistics.finite(row["high"]), row["rounds"])

    ours, idle = of(OURS)
    near, most = ours[0], ours[-1]
    (bare, *_), bare_idle = of(BARE)
    return Capacity(
        subscribers=near["subscribers"],
        each=estimate(near),
        busy=near["busy"],
        idle=idle["cpu"],
        merged=most["deliveries"],
        in_flight=most["in_flight"],
        bare=estimate(bare),
        bare_idle=bare_idle["cpu"],
        full=near["busy"] >= FULL,
    )


def beside(table: pd.DataFrame) -> pd.DataFrame:
    """`loads` to read: idle and by events in flight, the broadcaster beside the bare sender, CPU of a delivery as texts."""
    kept = table[(table["in_flight"] > 0) | table["load"].str.startswith("idle")]
    cells: dict[str, dict[str, str]] = {}
    for row in kept.to_dict("records"):
        place = cells.setdefault(f"{text.number(row['subscribers'])} subscribers, {row['load']}", {})
        place[row["server"]] = text.with_interval(row["cpu"], row["low"], row["high"])
        if row["server"] == OURS:
            place |= {
                "broadcaster busy": text.percent(row["busy"]),
                "its deliveries": text.per_second(round(row["deliveries"], -3)),
            }
    return pd.DataFrame.from_dict(cells, orient="index", columns=[OURS, BARE, "broadcaster busy", "its deliveries"])


def by_deliveries(table: pd.DataFrame) -> pd.DataFrame:
    """`loads` at the most subscribers, with a group (server) for each line of a figure: deliveries, cpu, low, high, group."""
    return table[table["subscribers"] == table["subscribers"].max()].assign(group=table["server"]).sort_values("deliveries")


def listening(sizes: pd.DataFrame) -> pd.DataFrame:
    """Those of `sizes` whose pages fetched nothing, or all where each did. Where pages refetch, what a node does between two
    rare events (pings, and what the application's load leaves of its caches) counts to the events."""
    alone = sizes[sizes["refetches"] == 0]
    return alone if len(alone) else sizes


def slope(frame: pd.DataFrame, y: str, x: str = "subscribers") -> tuple[float, float]:
    """(increase of *y* for one of *x*, value at none), least squares; the latter is at least 0, as costs are."""
    known = frame[np.isfinite(frame[x]) & np.isfinite(frame[y])]
    if known[x].nunique() < 2:
        return (float((known[y] / known[x]).mean()) if len(known) else float("nan")), 0.0
    across, up = known[x].to_numpy(dtype=float), known[y].to_numpy(dtype=float)
    each, none = np.polyfit(across, up, 1)
    return (float(each), float(none)) if none >= 0 else (float(across @ up / (across @ across)), 0.0)


def line(frame: pd.DataFrame, y: str, x: str = "subscribers") -> pd.DataFrame:
    """The measured points of *y* over *x*, and the straight line through them: *x*, *y*, group, source."""
    each, none = slope(frame, y, x)
    points = frame[[x, y]].assign(source="measured")
    ends = np.linspace(frame[x].min(), frame[x].max(), 20)
    through = pd.DataFrame({x: ends, y: none + each * ends, "source": "fit"})
    return pd.concat([through, points], ignore_index=True).assign(group="broadcaster")


def largest(runs: Iterable[Run]) -> Run:
    """The run with the most subscribers, of those with events enough to fit the delay of each to, where there are any."""
    return max(runs, key=lambda run: (len(run.updates) >= fit.MIN_EVENTS, run.scenario.subscribers))


def with_memory(frame: pd.DataFrame) -> pd.DataFrame:
    """`sizes` with memory_per_connection (bytes of the broadcaster): the slope over runs, NaN for one run alone."""
    known = frame[np.isfinite(frame["memory"])]
    each = slope(known, "memory", "subscriptions")[0] if known["subscriptions"].nunique() > 1 else np.nan
    return frame.assign(memory_per_connection=each)


def apart(nodes: pd.DataFrame) -> float:
    """Largest relative difference between simulated and theoretical time to the last receiver (`nodes`)."""
    drawn = nodes[nodes["source"] == "simulated"]
    return float((drawn["last"] / drawn["theory"] - 1).abs().max())


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


def nodes(per_subscriber: float, rate: float, counts: Iterable[int] = NODES) -> pd.DataFrame:
    """Mean time to the last receiver (s) over subscribers of one channel, by number of nodes: theory, and the fleet engine.

    Updates are Poisson at *rate*; nothing but the fan-out takes time. Columns: subscribers, last, group (nodes), source.
    """
    rows = []
    for count in counts:
        end = fanout_subscribers_max(rate, per_subscriber) * count
        group = f"{count} node{'s' if count > 1 else ''}"
        for share in np.r_[np.geomspace(0.01, 0.9, 24), np.linspace(0.91, 0.99, 9)]:
            size = int(end * share // count * count)
            last = fanout_delay_last(size, per_subscriber, rate, count)
            rows.append({"subscribers": size, "last": last, "group": group, "source": "theory"})
        for share in (0.2, 0.5, 0.8):
            size = int(end * share // count * count)
            last, exact = _last(per_subscriber, rate, size, count), fanout_delay_last(size, per_subscriber, rate, count)
            rows.append({"subscribers": size, "last": last, "theory": exact, "group": group, "source": "simulated"})
    return pd.DataFrame(rows)


def _last(per_subscriber: float, rate: float, size: int, nodes: int) -> float:
    """Simulated mean time to the last receiver: from the mean over all of them, which lies half a fan-out earlier."""
    scenario = dashboards("nodes", size, rate, 4000 / rate, 60.0, warmup=20 / rate).replace(
        NO_TIME
        | {
            "policy": {"kind": "full_payload"},
            "broadcast.payload": "full",
            "broadcaster.per_byte": 0.0,
            "broadcaster.per_subscriber": per_subscriber,
            "broadcaster.nodes": nodes,
        }
    )
    mean = fleet.run(scenario).time_to_notified.mean
    return float(mean + (size / nodes - 1) * per_subscriber / 2)


def limits(
    per_subscriber: float, rates: Iterable[float], counts: Iterable[int] = NODES, utilisation: float = UTILISATION
) -> pd.DataFrame:
    """Most subscribers of one channel (columns: nodes) by events per second (rows), with each node busy for *utilisation*."""
    counts = tuple(counts)
    rows = {
        rate: {f"{m} node{'s' if m > 1 else ''}": m * utilisation * fanout_subscribers_max(rate, per_subscriber) for m in counts}
        for rate in rates
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("events/s")


def curve(sizes: pd.DataFrame, scenario: Scenario) -> pd.DataFrame:
    """When the first, the median and the last receiver have an event, over the number of subscribers: as measured (`sizes`), and
    by the fitted model at the same sizes. Columns: subscribers, delay (s, since the commit), group (which receiver), source."""
    each, network = scenario.broadcaster.costs.per_subscriber, scenario.network
    way = scenario.broadcaster.costs.fixed + network.to_broadcaster.mean() + network.to_subscriber.mean()
    size, parts = sizes["subscribers"], []
    places: dict[str, Any] = {"first": 1.0, "median": (size + 1) / 2, "last": size}
    for name, place in places.items():
        label = {"subscribers": size, "group": f"{name} receiver"}
        parts.append(pd.DataFrame(label | {"delay": sizes[name], "source": sizes["source"]}))
        parts.append(pd.DataFrame(label | {"delay": way + each * place, "source": "fit"}))
    return pd.concat(parts, ignore_index=True)


def spreads(runs: Iterable[Run], points: int = 400) -> pd.DataFrame:
    """Share of the receivers that have heard of a typical event of each run: since (s, after the first), heard, group, source."""
    parts = []
    for run in sorted(runs, key=lambda run: run.scenario.subscribers):
        events = costs.arrivals(run)
        one = (events["spread"] - events["spread"].median()).abs().idxmin()
        arrived = ledger_of(run).expected
        at = np.sort(arrived.loc[arrived["update"] == one, "received_at"].dropna().to_numpy())
        # One in this many is enough to draw.
        kept = np.unique(np.linspace(0, len(at) - 1, min(points, len(at))).astype(int))
        part = pd.DataFrame({"since": at[kept] - at[0], "heard": (kept + 1) / len(at)})
        parts.append(part.assign(group=f"{len(at):,}", source="curve"))
    return pd.concat(parts, ignore_index=True)
