"""What a large deployment takes: nodes, bus, application workers, memory, bandwidth, and the time after a restart.

Closed forms of mean rates (`theory.Deployment`), with costs of a scenario or a fit: capacities, not latencies. They also hold
at sizes that no engine simulates. `against_fleet` compares them with the fleet engine, `against_runs` with measured runs.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from sim.errors import BadInput
from sim.experiments.advice import EXACT, Limit, Row, cause, limit, records, screened, shortened, trial
from sim.policy import Window
from sim.prediction import read
from sim.results.ledger import costs as ledger_costs
from sim.results.run import Run
from sim.results.text import number, percent, seconds, size, three
from sim.scenario import Fleet, Pages, Scenario
from sim.virtual import theory
from sim.virtual.measures import frame_bytes
from sim.virtual.sweep import Objective
from sim.workload import Poisson

Channels = Literal["generic", "specific", "per_user"]
CHANNELS: tuple[Channels, ...] = ("generic", "specific", "per_user")
Bus = Literal["every node", "by channel"]
"""Nodes that take an event from the bus: all (Reverb's one Redis channel), or those that have a listener of its channel."""

UTILISATION = 0.7
"""Share of its time that a node or a worker may be busy."""

ROOM = {"descriptors": 1 << 20, "memory": 16 * 2**30, "bandwidth": 1.25e9}
"""What one node is assumed to have: sockets, bytes, bytes/s (ten gigabits)."""

CONNECTION = {"workbench": (0.0002, 2_458), "reverb": (0.0006, 20_480)}
"""By model of broadcaster: seconds of a node to connect and subscribe one page, bytes of memory that it then takes; as measured
(medians), one machine with the load on it."""

DRAWN = 60.0
"""Seconds of updates that the engine is given."""

SECONDS_OF_RETRY = 1.0
"""When pusher-js first tries again after a connection was lost."""


@dataclass(frozen=True, slots=True)
class Costs:
    """What one of each takes: seconds of a node or a worker, bytes."""

    delivery: float
    """Of a node, for each page that an event reaches."""
    event: float
    """Of every node, for each event, heard there or not."""
    frame: int
    connection: int
    """Bytes of memory."""
    handshake: float
    """Of a node, to connect and subscribe."""
    request: float
    """Of a worker: a page of one resource, or a channel's authorisation."""
    board: float
    """Of a worker: a dashboard."""
    answer: int
    """Bytes."""
    source: str
    """Where the costs come from, in words."""


def costs_of(scenario: Scenario, source: str = "defaults") -> Costs:
    """The costs that a scenario states, or a fit has put into it."""
    fan_out, api, rows = scenario.broadcaster.costs, scenario.api, scenario.dashboard_rows
    handshake, connection = CONNECTION[scenario.broadcaster.model]
    return Costs(
        delivery=fan_out.compose_per_subscriber + fan_out.between(scenario.extra_payload),
        event=fan_out.fixed,
        frame=frame_bytes("server", 1, "private-servers") + scenario.extra_payload,
        connection=connection,
        handshake=handshake * scenario.broadcaster.cost,
        request=api.service.mean(),
        board=api.service.mean() + api.service_per_row * rows,
        answer=api.answer_bytes + api.answer_bytes_per_row * rows,
        source=source,
    )


def priced(path: str | Path = "") -> tuple[Scenario, str]:
    """The scenario whose costs to take, and their origin: the fit at *path*, else the simulator's defaults."""
    if not path:
        return world(2), "the simulator's defaults (the embedded broadcaster near saturation, an assumed application)"
    return read(path).base(), f"fitted ({Path(path).name})"


def world(subscribers: int, channels: Channels = "per_user", wait: float = 1.0, every: float = 300.0) -> Scenario:
    """An application of this size: each user has a dashboard and one server's page open, and two servers, each of which changes
    once in *every* seconds; pages fetch within a window of *wait*."""
    users = max(1, subscribers // 2)
    return Scenario(
        name=f"{subscribers} subscribers",
        warmup=3 * wait,
        duration=10.0,
        drain=2 * wait,
        fleet=Fleet(users=users, servers_per_user=2, sites_per_user=0),
        workload=Poisson(rate=2 * users / every),
        pages=(Pages("dashboard", subscribers - users), Pages("detail", users)),
        policy=Window(wait=wait),
    ).replace({"broadcast.channels": channels})


def needs(scenario: Scenario, cost: Costs, bus: Bus = "every node") -> dict[str, Any]:
    """What this size takes, rates per second.

    `breaks` says in words what is first short with one node and one worker, `first` how far over each is. With
    `nodes_in_a_minute` and `workers_in_a_minute` all pages are back and fresh a minute after a restart. Nodes are inf where the
    bus alone takes more than `UTILISATION` of every node: more nodes do not help then. On a bus *by channel* each listener is
    taken to be on a node of its own.
    """
    groups, n = scenario.heard(), scenario.subscribers
    horizon = scenario.warmup + scenario.duration
    events = scenario.workload.expected(horizon, scenario.fleet.servers, scenario.fleet.sites) / horizon
    deliveries = sum(pages.subscribers * rate for pages, rate in groups)
    refetches, boards = _refetches(scenario)
    work = boards * cost.board + (refetches - boards) * cost.request
    workers = max(1, math.ceil(work / UTILISATION))
    size = theory.Deployment(n, events, deliveries / (n * events), cost.delivery, cost.event, cost.frame, cost.connection)
    nodes = _nodes(size)
    if bus == "by channel" and scenario.broadcast.channels in ("specific", "per_user"):
        apart = dataclasses.replace(size, per_subscriber=cost.delivery + cost.event, relay=0.0)
        if _nodes(apart) < nodes:
            size, nodes, cost = apart, _nodes(apart), dataclasses.replace(cost, event=0.0)
    room = max(n / ROOM["descriptors"], size.memory / ROOM["memory"], size.bandwidth / ROOM["bandwidth"])
    nodes = max(nodes, math.ceil(room))
    found = {
        "subscribers": n,
        "events": events,
        "deliveries": deliveries,
        "nodes": nodes,
        "bus": size.bus_messages(int(nodes)) if math.isfinite(nodes) else math.inf,
        "refetches": refetches,
        "workers": workers,
        "bandwidth": size.bandwidth + refetches * cost.answer,
        "memory": size.memory,
    }
    first = {
        "fan-out": (deliveries * cost.delivery + events * cost.event) / UTILISATION,
        "bus": events * cost.event / UTILISATION,
        "sockets": n / ROOM["descriptors"],
        "memory": size.memory / ROOM["memory"],
        "bandwidth": size.bandwidth / ROOM["bandwidth"],
        "workers": work / UTILISATION,
    }
    free = 1 - size.utilisation(int(nodes)) if math.isfinite(nodes) else 0.0
    in_a_minute = {
        "nodes_in_a_minute": max(nodes, math.ceil(n * cost.handshake / (free * 60))) if free > 0 else math.inf,
        "workers_in_a_minute": max(workers, math.ceil(n * (cost.request + cost.board) / 60)),
    }
    return found | _restarted(size, nodes, workers, cost) | in_a_minute | {"breaks": breaks(first), "first": first, "size": size}


def _refetches(scenario: Scenario) -> tuple[float, float]:
    """Refetches per second, and those of dashboards among them, by the policies' closed forms."""
    every = boards = 0.0
    for pages, rate in scenario.heard():
        each = theory.predict(scenario.policy_of(pages), rate)["refetch_rate.mean"] * pages.subscribers if rate else 0.0
        every, boards = every + each, boards + each * (pages.page == "dashboard")
    return every, boards


def _nodes(size: theory.Deployment) -> float:
    """inf: no number is enough."""
    try:
        return size.nodes(UTILISATION)
    except BadInput:
        return math.inf


def _restarted(size: theory.Deployment, nodes: float, workers: int, cost: Costs) -> dict[str, float]:
    """After all nodes went at once: requests of the first second, and until all pages are connected and fresh again, s."""
    if not math.isfinite(nodes):
        return {"handshakes": math.inf, "connected": math.inf, "fresh": math.inf}
    back = size.restart(int(nodes), cost.handshake, workers, cost.request, 1, cost.board)
    return {"handshakes": size.subscribers / back.connected, "connected": back.connected, "fresh": SECONDS_OF_RETRY + back.fresh}


WORDS = {
    "bus": "the bus",
    "fan-out": "a node's time",
    "sockets": "a node's sockets",
    "memory": "a node's memory",
    "bandwidth": "a node's network",
    "workers": "a worker's time",
}


def breaks(first: dict[str, float]) -> str:
    """What is short first: the bus, which no further node mends, else what further nodes or workers mend."""
    if first["bus"] > 1:
        return WORDS["bus"]
    name = max((name for name in first if name != "bus"), key=lambda name: first[name])
    return WORDS[name] if first[name] > 1 else "nothing"


def sizes(subscribers: Iterable[int], cost: Costs | None = None, bus: Bus = "every node") -> pd.DataFrame:
    """`needs` of `world` at each size and kind of channel; further columns: channels, group (the same in words)."""
    rows = []
    for count in subscribers:
        for kind in CHANNELS:
            there = world(count, kind)
            label = {"channels": kind, "group": kind.replace("_", "-")}
            rows.append(label | needs(there, costs_of(there) if cost is None else cost, bus=bus))
    return pd.DataFrame(rows).drop(columns=["first", "size"])


def storms(subscribers: Iterable[int], times: Iterable[float], cost: Costs | None = None) -> pd.DataFrame:
    """After a restart of all nodes, with *times* as many nodes and workers as the steady state needs: times, nodes, workers,
    subscribers, connected, fresh (s), handshakes, requests (1/s), group (as text). Per-user channels, on a bus by channel."""
    rows = []
    for count in subscribers:
        there = world(count)
        price = costs_of(there) if cost is None else cost
        found = needs(there, price, bus="by channel")
        for factor in times:
            nodes, workers = (max(1, round(found[name] * factor)) for name in ("nodes", "workers"))
            back = _restarted(found["size"], nodes, workers, price)
            label = {"times": factor, "nodes": nodes, "workers": workers, "subscribers": count}
            label |= {"group": f"{number(count)} subscribers"}
            rows.append(label | back | {"requests": 2 * count / back["fresh"]})
    return pd.DataFrame(rows)


# --- the largest load that holds -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Largest:
    """How many pages hold an objective, and what the largest load then takes. Rates per second."""

    objective: Objective
    subscribers: int
    """With the point values of the costs; 0: not even one."""
    low: int
    high: int
    """The least that holds, and the least that does not (as far as the search goes), over all draws."""
    planned: int
    """With the margin, from `low` (where that is 0 it is no size that the objective is missed by: from `subscribers`)."""
    at: dict[str, Any]
    """`advice.trial` of the planned load."""
    cause: str
    """Why a larger load does not hold."""
    nodes: int
    workers: int
    """With which none is busier than `UTILISATION` at the planned load."""
    bandwidth: float
    """Bytes to pages."""
    memory: int
    """Bytes of the broadcaster's connections."""
    searched: float
    """Seconds of updates that the search took (`advice.shortened`)."""
    beyond: bool
    """More than `advice.MOST` times the scenario's pages would still hold."""


def largest(
    scenario: Scenario, objective: Objective, draws: Sequence[Mapping[str, Any]] = (), margin: float = 0.2, at: int | None = None
) -> Largest:
    """By bisection of simulations, in the scenario's mixture of pages.

    *draws*: dotted keys and values (joint draws of a fit, a seed), a bisection for each; *at*: plan this many subscribers in
    place of the largest load less its margin. Raises `BadInput` for a scenario without pages, or an objective on a figure that
    no run has.
    """
    if not scenario.subscribers:
        raise BadInput(f"scenario {scenario.name}: no pages to plan for (set pages.0.subscribers)")
    quick = shortened(screened(scenario)[0], EXACT)
    limits = [limit(quick.replace(dict(draw)), objective, precision=0.05) for draw in ({}, *draws)]
    most = [_pages(found, found.times, scenario.subscribers) for found in limits]
    planned = max(1, math.floor((min(most) or most[0]) * (1 - margin))) if at is None else at
    there = quick.with_subscribers(planned)
    row = trial(there, objective.metric)
    trail = limits[0].trail
    missed = trail[[objective.met([value]) != "yes" for value in trail["value"]]]
    why = "nothing that was tried"
    if len(missed):
        first = records(missed.sort_values("times"))[0]
        why = cause(quick.with_subscribers(int(first["subscribers"])), first, objective.metric)
    cost = costs_of(scenario)
    deliveries = sum(pages.subscribers * rate for pages, rate in there.heard())
    return Largest(
        objective=objective,
        subscribers=most[0],
        low=min(most),
        high=max(_pages(found, found.missed, scenario.subscribers) for found in limits),
        planned=planned,
        at=row,
        cause=why,
        nodes=max(1, math.ceil(scenario.broadcaster.nodes * row["node"] / UTILISATION)),
        workers=max(1, math.ceil(scenario.api.workers * row["workers"] / UTILISATION)),
        bandwidth=deliveries * cost.frame + row["refetch_rate"] * cost.answer,
        memory=planned * cost.connection,
        searched=quick.duration,
        beyond=math.isinf(limits[0].times),
    )


def _pages(found: Limit, times: float, subscribers: int) -> int:
    return math.floor((found.trail["times"].max() if math.isinf(times) else times) * subscribers)


# --- held beside simulation and measurement --------------------------------------------------------------------------------


def against_fleet(subscribers: Iterable[int]) -> pd.DataFrame:
    """Closed forms beside the fleet engine on the same `world`, with as many nodes and workers as `needs` says: deliveries,
    refetches (1/s), busy share of the workers. Columns: channels, subscribers, figure, closed, simulated, off, heard (updates
    that a page heard, each counted once).

    The engine's workers are a queue and its updates are drawn, so they differ by chance as well.
    """
    rows = []
    for count in subscribers:
        for kind in CHANNELS:
            there = dataclasses.replace(world(count, kind), duration=DRAWN)
            found = needs(there, costs_of(there))
            if not math.isfinite(found["nodes"]):
                continue
            run = there.replace({"broadcaster.nodes": int(found["nodes"]), "api.workers": int(found["workers"])})
            drawn = trial(run, "deliveries.received")
            label = {"channels": kind, "subscribers": count}
            for name, closed, simulated in (
                ("deliveries", found["deliveries"], drawn["value"] / there.duration),
                ("refetches", found["refetches"], drawn["refetch_rate"]),
                ("workers busy", found["first"]["workers"] * UTILISATION / found["workers"], drawn["workers"]),
            ):
                beside = {"figure": name, "closed": closed, "simulated": simulated, "off": simulated / closed - 1}
                rows.append(label | beside | {"heard": min(drawn["updates"], drawn["value"])})
    return pd.DataFrame(rows)


def within_chance(frame: pd.DataFrame) -> bool:
    """Whether all of `against_fleet` differ by no more than four standard deviations of the number of updates that was drawn."""
    return bool((frame["off"].abs() <= 4 / frame["heard"].pow(0.5)).all())


def against_runs(runs: Sequence[Run]) -> pd.DataFrame:
    """What an event took in measured runs beside the closed form: run, nodes, subscribers, figure, closed, measured, off.

    The costs are the straight line through the smallest and the largest run on one node: a part of each event that every node
    has, and one of each delivery. So for these two only deliveries are a prediction, for all others everything is. The nodes of
    one machine are taken to have one core together, as `data/samples.py` runs them: their spread is then that of one node.
    """
    found = [_of_an_event(run) for run in runs]
    one = sorted((row for row in found if row["nodes"] == 1), key=lambda row: row["reached"])
    if len(one) < 2:
        raise BadInput("the costs of an event and of a delivery take two runs on one node, of different sizes")
    rows = []
    for row in found:
        nodes, reached = row["nodes"], row["reached"]
        closed = {"deliveries": reached}
        for name, each in (("bytes", 1), ("processor time of all nodes, s", nodes), ("first to last receiver, s", 1)):
            slope = (one[-1][name] - one[0][name]) / (one[-1]["reached"] - one[0]["reached"])
            closed[name] = each * (one[0][name] - slope * one[0]["reached"]) + slope * reached
        label = {"run": row["run"], "nodes": nodes, "subscribers": row["subscribers"]}
        for name, value in closed.items():
            rows.append(label | {"figure": name, "closed": value, "measured": row[name], "off": round(row[name] / value - 1, 9)})
    return pd.DataFrame(rows)


def _of_an_event(run: Run) -> Row:
    """Measured, per event; `reached` is how many pages the scenario says that it reaches."""
    scenario, found = run.scenario, ledger_costs.costs(run)
    rate = scenario.workload.expected(1.0, scenario.fleet.servers, scenario.fleet.sites)
    return {
        "run": run.name,
        "nodes": scenario.broadcaster.nodes,
        "subscribers": scenario.subscribers,
        "reached": sum(pages.subscribers * each for pages, each in scenario.heard()) / rate,
        "deliveries": found["receivers"],
        "bytes": found["bytes_per_delivery"] * found["receivers"],
        "processor time of all nodes, s": found["cpu_per_event"],
        "first to last receiver, s": run.summary["fan_out.spread.p50"]["value"],
    }


# --- in words --------------------------------------------------------------------------------------------------------------


def answer(frame: pd.DataFrame, by_channel: pd.DataFrame, storm: pd.DataFrame, cost: Costs) -> tuple[str, ...]:
    """What the largest size takes, kind by kind, on either bus, and after a restart. Frames: `sizes` twice, `storms`."""
    most = int(frame["subscribers"].max())
    return (
        f"{number(most)} subscribers, on a bus that brings events to nodes with a listener: {_takes(by_channel, most)}.",
        f"Where every node takes every event, each costs every node {seconds(cost.event)}, and no number of nodes is enough "
        f"{_deaths(frame)}.",
        f"After a restart {storm_claim(storm[storm['subscribers'] == most])}.",
        f"Costs: {cost.source}; {seconds(cost.delivery)} of a node a delivery, {seconds(cost.board)} of a worker a dashboard.",
    )


def _takes(frame: pd.DataFrame, subscribers: int) -> str:
    parts = []
    for row in frame[frame["subscribers"] == subscribers].sort_values("nodes").to_dict("records"):
        if math.isfinite(row["nodes"]):
            machines = f"{three(row['nodes'])} nodes and {three(row['workers'])} application workers"
            parts.append(f"{row['group']} channels take {machines}")
        else:
            parts.append(f"for {row['group']} ones no number of nodes is enough")
    return ", ".join(parts)


def _deaths(frame: pd.DataFrame) -> str:
    lost = frame[frame["nodes"].map(math.isinf)].groupby("group")["subscribers"].min()
    parts = [f"from {number(least)} subscribers on ({', '.join(sorted(kinds.index))})" for least, kinds in lost.groupby(lost)]
    return "; ".join(parts) or "at larger sizes than these"


def nodes_claim(frame: pd.DataFrame) -> str:
    """Nodes at the largest size at which any number is enough, by kind of channel."""
    finite = frame[frame["nodes"].map(math.isfinite)].sort_values("subscribers")
    last = finite.groupby("group").last().sort_values("nodes")
    parts = [f"{kind} {three(row['nodes'])} nodes at {number(row['subscribers'])}" for kind, row in last.iterrows()]
    return "; ".join(parts)


def storm_claim(frame: pd.DataFrame) -> str:
    """How long the largest size takes with the workers of its steady state, and with the most that were tried."""
    part = frame[frame["subscribers"] == frame["subscribers"].max()].sort_values("workers")
    least, most = part.iloc[0], part.iloc[-1]
    pages, soon, late = number(int(least["subscribers"])), seconds(most["fresh"]), seconds(least["fresh"])
    more = f"after {soon} with {number(most['times'])} times as many"
    return f"{pages} pages are fresh again after {late} with the machines of the steady state, {more}"


def off_claim(frame: pd.DataFrame) -> str:
    """How far the closed forms are from the fleet engine."""
    off = frame["off"].abs()
    middle, most = (percent(float(value)) for value in (off.median(), off.max()))
    return f"Closed forms and fleet engine differ by {middle} in the median of {len(frame)} figures, {most} at most."


UNITS: dict[str, tuple[str, Any]] = {
    "events": ("events/s", three),
    "deliveries": ("deliveries/s", three),
    "nodes": ("nodes", three),
    "bus": ("bus messages/s", three),
    "refetches": ("refetches/s", three),
    "workers": ("workers", three),
    "memory": ("memory of nodes", size),
    "bandwidth": ("bytes/s to pages", size),
    "connected": ("all connected", seconds),
    "fresh": ("all fresh", seconds),
    "handshakes": ("connections/s", three),
    "nodes_in_a_minute": ("nodes to be connected in a minute", three),
    "workers_in_a_minute": ("workers to be fresh in a minute", three),
}
"""Columns of `needs`: heading and unit."""

STEADY = ("events", "deliveries", "nodes", "bus", "refetches", "workers", "memory", "bandwidth")
RESTART = ("nodes", "workers", "handshakes", "connected", "fresh", "nodes_in_a_minute", "workers_in_a_minute")


def readable(frame: pd.DataFrame, columns: Sequence[str] = STEADY) -> pd.DataFrame:
    """`sizes` as texts; in steady state with what is first short."""
    found = pd.DataFrame({UNITS[name][0]: [UNITS[name][1](value) for value in frame[name]] for name in columns})
    found.index = pd.Index([f"{number(n)}, {kind}" for n, kind in zip(frame["subscribers"], frame["group"], strict=True)])
    return found.assign(**{"first short": frame["breaks"].to_numpy()}) if columns == STEADY else found
