"""The answers of the reports on size and alternatives: figures in, sentences out, the first paragraph being the answer.

No number is written here; words are chosen by what the figures say. The other reports' are in `sim.results.answers.sentences`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from sim.experiments.alternatives import Prices, break_even, cost, least, overtakes
from sim.experiments.fan_out import UTILISATION, Capacity
from sim.experiments.remedies import AS_IT_IS
from sim.results.statistics import Estimate
from sim.results.text import capital, digits, interval, number, percent, seconds


def _with_interval(estimate: Estimate) -> str:
    if estimate.low is None:
        return f"{seconds(estimate.value)} (n = {estimate.n}, too few for an interval)"
    return f"{seconds(estimate.value)} (95 % interval {interval(estimate.low, estimate.high)}, n = {estimate.n})"


def _of(frame: pd.DataFrame, row: Any, column: str) -> float:
    return float(frame[column].to_dict()[row])


def _least(frame: pd.DataFrame, column: str) -> str:
    return str(frame[column].idxmin())


# --- fan-out -------------------------------------------------------------------------------------------------------------


def fan_out(
    sizes: pd.DataFrame, each: Estimate, cpu: float, node: Capacity, limits: pd.DataFrame, rate: float, channels: pd.DataFrame
) -> tuple[str, ...]:
    """What a subscriber takes, what a delivery costs by load, how many a node carries, and which pages a channel reaches.

    *each*, *cpu*: what one more subscriber took in the runs, receivers' share included. Frames: `fan_out.sizes`, `limits`,
    `channels`.
    """
    largest = sizes.iloc[-1]
    ends = number(_two(limits.loc[rate].iloc[0]))
    taken = f", and {seconds(cpu)} of the broadcaster's CPU" if np.isfinite(cpu) else ""
    first = (
        f"On this machine, the receivers' share included, one more subscriber takes {seconds(each.value)} until the last "
        f"receiver has an event{taken}; at {number(rate)} events a second one node that is busy for {percent(UTILISATION)} of "
        f"its time carries {'some' if node.full else 'at least'} {ends} subscribers of one channel, by what a delivery costs a "
        f"{'full' if node.full else 'busy'} node."
    )
    size = (
        f"The delay is {_with_interval(each)}, n being events. An event to {number(largest['subscribers'])} subscribers "
        f"reaches the first after {seconds(largest['first'])}, half of them after {seconds(largest['median'])} and the last "
        f"after {seconds(largest['last'])}, as a mean over {number(largest['events'])} events; each frame has "
        f"{number(largest['bytes_per_delivery'])} bytes."
    )
    ordered = channels.sort_values("messages")
    generic, own = ordered.iloc[-1], ordered.iloc[0]
    where = (
        f"Which channel decides more than which broadcaster: with as many pages, an update costs {number(generic['messages'])} "
        f"messages and {number(generic['refetches'])} refetches on the generic channel, {number(own['messages'])} and "
        f"{number(own['refetches'])} on the specific one (simulated, same updates)."
    )
    return first, size, capacity(node), where


def capacity(node: Capacity) -> str:
    """What a delivery costs an idle node and a full one, beside a bare sender, and what follows for a node."""
    each = node.each.value or float("nan")
    state = (
        f"a full node ({percent(node.busy)} of a core)"
        if node.full
        else f"a node that the load client kept busy for {percent(node.busy)} only, which bounds it from below"
    )
    low, high = node.each.low, node.each.high
    sure = f" ({interval(_two(1 / high), _two(1 / low), number)})" if low and high else ""
    return (
        f"A delivery's CPU depends on the load: of {number(node.subscribers)} subscribers each costs an idle node "
        f"{seconds(node.idle)}, and {state} {_with_interval(node.each)} with one event after the other, n being rounds. A bare "
        f"sender, one call for each subscriber, took {seconds(node.bare_idle)} and {seconds(node.bare.value)} in the same run: "
        f"what wakes the receivers is part of all four. So a node makes {'' if node.full else 'at least '}"
        f"{number(_two(1 / each))}{sure} deliveries a second one event at a time, and {number(_two(node.merged))} with "
        f"{number(node.in_flight)} events in flight, because events that wait leave in one write for each subscriber."
    )


def _two(value: Any) -> float:
    """Two significant digits: what a capacity is known to."""
    return float(f"{value:.2g}")


def load_claim(node: Capacity) -> str:
    return (
        f"A delivery costs {seconds(node.idle)} of CPU on an idle node and {seconds(node.each.value)} on a "
        f"{'full' if node.full else 'busy'} one; the bare sender {seconds(node.bare_idle)} and {seconds(node.bare.value)}"
    )


def delays(each: Estimate) -> str:
    return f"Each further subscriber delays the last receiver by {seconds(each.value)}, the receivers' share included"


def event_cost(each: float, none: float) -> str:
    fixed = f", on top of {seconds(none)}" if none > 0 else ""
    return f"An event takes {seconds(each)} of the broadcaster's CPU for each subscriber{fixed}, the receivers' share included"


def spread_claim(sizes: pd.DataFrame) -> str:
    """When half of the receivers have heard (`fan_out.sizes`)."""
    last = sizes.iloc[-1]
    return (
        f"Receivers stand in a queue: of {number(last['subscribers'])}, half have heard after {seconds(last['median'])}, the "
        f"last after {seconds(last['last'])}"
    )


def channel_claim(channels: pd.DataFrame) -> str:
    """How much dearer the generic channel is than a channel per user."""
    ratio = channels["messages"].max() / channels["messages"].sort_values().iloc[1]
    return f"The generic channel costs {digits(ratio)} times the messages of a channel per user, for the same pages"


def node_claim(limits: pd.DataFrame, rate: float, node: Capacity) -> str:
    one, last = limits.loc[rate].iloc[0], limits.loc[rate].iloc[-1]
    return (
        f"At {number(rate)} events a second one node carries {'' if node.full else 'at least '}{number(_two(one))} subscribers, "
        f"{limits.columns[-1]} carry {number(_two(last))}"
    )


# --- herds ---------------------------------------------------------------------------------------------------------------


def herds(
    cpu: float, found: pd.DataFrame, drain: Estimate, jittered: pd.DataFrame, pages: float, limit: float, tamed: pd.DataFrame
) -> tuple[str, ...]:
    """How long a herd is, when the application collapses, and what tames it. Frames: `herd.of` twice, `herd.tamed`."""
    usual, work = tamed.to_dict("index")[AS_IT_IS], "worked"
    fewest = _fewest(tamed)
    first = (
        f"One event to {number(found['size'].mean())} pages makes a herd that the application needs {seconds(drain.value)} "
        f"for; with {number(float(f'{pages:.3g}'))} pages or more of this kind it never catches up."
    )
    own = float(found["size"].mean()) / cpu if cpu > 0 else float("nan")
    measured = (
        f"That time is {_with_interval(drain)}, n being herds; the limit is where the workers would be busy all the time, "
        f"{number(limit)} refetches a second on a machine that also runs the pages. Of its own CPU the application needs "
        f"{seconds(cpu)} for a herd: a core of its own would answer up to {number(own)} refetches a second."
    )
    gentler = (
        f"With jitter, a herd's refetches start over {seconds(float(jittered['span'].mean()))} in place of "
        f"{seconds(float(found['span'].mean()))}, and their p99 is {seconds(float(jittered['p99'].mean()))} in place of "
        f"{seconds(float(found['p99'].mean()))} (both measured). "
        if len(jittered)
        else ""
    )
    running, left = (_of(tamed, _row(tamed, "jitter"), column) for column in ("running", work))
    remedies = (
        f"{gentler}Fewer requests are what helps: in a simulation of the herd in small, {fewest} brings "
        f"{number(_of(tamed, fewest, work))} requests per update to the workers in place of {number(float(usual[work]))}. There "
        f"jitter lowers the queue ({number(running)} running at most, against {number(float(usual['running']))}) and leaves "
        f"{percent(left / float(usual[work]))} of the work."
    )
    return first, measured, remedies


def _fewest(tamed: pd.DataFrame) -> str:
    """The remedy with the fewest requests, of those with which pages still refetch."""
    return _least(tamed[tamed["worked"] > 0], "worked")


def _row(frame: pd.DataFrame, word: str) -> str:
    return next(str(name) for name in frame.index if str(name).startswith(word))


def cpu_claim(cpu: float, drain: Estimate) -> str:
    return f"A herd costs the application {seconds(cpu)} of CPU; the {seconds(drain.value)} that it lasts are the whole machine's"


def flight_claim(flights: Mapping[str, pd.DataFrame]) -> str:
    """The most refetches in flight at once, first and last run (`herd.flights`)."""
    tops = {name: float(frame["running"].max()) for name, frame in flights.items() if len(frame)}
    first, *others = tops
    words = f"In {first} {number(round(tops[first]))} refetches wait for an answer at once"
    return f"{words}, in {others[-1]} {number(round(tops[others[-1]]))}" if others else words


def jitter_claim(frame: pd.DataFrame, free: float) -> str:
    """What jitter costs at the free amount and beyond it (`herd.jitters`)."""
    drawn = frame[frame["source"] == "simulated"].set_index("jitter")["mean"]
    spans = drawn.index.to_numpy(dtype=float)
    at, last = spans[np.abs(spans - free).argmin()], float(spans.max())
    return (
        f"Jitter up to {seconds(free)} is nearly free ({percent(drawn[at] / drawn.iloc[0] - 1)} later on average); "
        f"{seconds(last)} of it makes pages {digits(float(drawn[last] / drawn.iloc[0]), 2)} times as late"
    )


def collapse_claim(loads: pd.DataFrame, pages: float) -> str:
    """Where the tail leaves the median, and where it never ends (`herd.loads`)."""
    stable = loads[loads["subscribers"] < pages]
    shown = stable[np.isfinite(stable["p99"])]
    last = (shown if len(shown) else stable).iloc[-1]
    return (
        f"At {percent(last['utilisation'])} of the workers' time the p99 is {seconds(last['p99'])}; from "
        f"{number(float(f'{pages:.3g}'))} pages on the queue only grows"
    )


def boundary_claim(boundary: pd.DataFrame) -> str:
    """How many of the simulated points lie on the theory's side of the step (`herd.boundary`)."""
    drawn = boundary[boundary["source"] == "simulated"]
    alive = boundary[(boundary["source"] == "theory") & (boundary["goodput"] > 0.5)]
    edges = alive.groupby("group")["utilisation"].max()
    above = drawn["utilisation"].to_numpy() > edges.reindex(drawn["group"]).to_numpy()
    right = int(((drawn["goodput"].to_numpy() < 0.5) == above).sum())
    return f"Goodput after an outage is all or nothing: {right} of {len(drawn)} runs fall as utilisation × (1 + retries) = 1 says"


def recovery_claim(series: Mapping[str, pd.DataFrame]) -> str:
    """Which variants are back at the end (`herd.recoveries`)."""
    ends = {name: float(part["share"].tail(10).mean()) for name, part in series.items()}
    lost = [name for name, share in ends.items() if share < 0.5]
    back = [name for name, share in ends.items() if share >= 0.5]
    if not lost:
        return "Every variant recovers after the outage"
    fate = "never recovers" if len(lost) == 1 else "never recover"
    return f"The outage ends; {' and '.join(lost)} {fate}{', unlike ' + ' and '.join(back) if back else ''}"


def tame_claim(tamed: pd.DataFrame) -> str:
    """What helps, in requests (`herd.tamed`)."""
    best = _fewest(tamed)
    share, jitter = (_of(tamed, name, "worked") / _of(tamed, AS_IT_IS, "worked") for name in (best, _row(tamed, "jitter")))
    return f"Of what still refetches, {best} takes {percent(share)} of the requests, jitter {percent(jitter)}"


# --- alternatives --------------------------------------------------------------------------------------------------------


def alternatives(
    rate: float, payload: float, target: float, price: Prices, rests: Mapping[str, float], measured: pd.DataFrame
) -> tuple[str, ...]:
    """Which way at one working point (updates/s, bytes, s), and where another takes over. *rests*, *measured*:
    `alternatives.rests`, `alternatives.beside`."""
    costs = cost(rate, payload, target, price)
    cheapest, size, turn = least(costs), float(break_even(rate, [target], price)["size"].iloc[0]), overtakes(target, price)
    off = measured["off"].abs()
    fewest, dearest = cheapest["bytes"], max(costs, key=lambda way: float(costs[way]["bytes"]))
    saving = float(costs[dearest]["bytes"]) / float(costs[fewest]["bytes"])
    first = (
        f"For a resource of {number(payload)} bytes that changes at a rate of {number(rate)}/s and must be fresh within "
        f"{seconds(target)}, {fewest} sends the fewest bytes ({digits(saving, 2)} times fewer than {dearest}) and "
        f"{cheapest['cpu']} takes the least CPU."
    )
    broken = (
        f"Below {number(round(size))} bytes a full payload sends fewer bytes than notify and refetch"
        if np.isfinite(size)
        else "A full payload sends fewer bytes than notify and refetch whatever the size"
    )
    polled = (
        f"polling takes less CPU than notify and refetch from {number(float(f'{turn:.2g}'))} updates/s on"
        if turn is not None
        else "polling never takes less CPU than notify and refetch in the range drawn"
    )
    second = (
        f"{broken} at that rate and target; {polled}. Subscribers move none of these limits, they multiply both sides: they "
        "decide when a core is full."
    )
    third = (
        f"Prices stand on {number(rests['deliveries'])} deliveries and {number(rests['refetches'])} refetches of measured "
        f"runs. The bytes that {number(len(measured))} measured runs moved differ from the closed form by "
        f"{percent(float(off.median()))} in the median, {percent(float(off.max()))} at most (n = "
        f"{number(float(measured['updates'].sum()))} updates)."
        if len(measured)
        else ""
    )
    return tuple(words for words in (first, second, third) if words)


def region_claim(regions: pd.DataFrame, what: str) -> str:
    """Shares of a map, widest first."""
    shares = pd.Series(regions.to_numpy().ravel()).value_counts(normalize=True)
    parts = [f"{name} in {percent(float(f'{share:.2g}'))}" for name, share in shares.items()]
    return f"Fewest {what}: {', '.join(parts)} of what is drawn"


def capacity_claim(frame: pd.DataFrame, rate: float) -> str:
    """Pages that one core each serves at the rate nearest to *rate* (`alternatives.capacity`)."""
    at = frame.iloc[(frame["rate"] - rate).abs().argsort(kind="stable")].groupby("group", sort=False).first()["subscribers"]
    order = at.sort_values()
    most, least = (number(float(f"{pages:.2g}")) for pages in (order.iloc[-1], order.iloc[0]))
    return f"At a rate of {number(rate)}/s two cores serve {most} pages by {order.index[-1]}, {least} by {order.index[0]}"


def target_claim(frame: pd.DataFrame) -> str:
    """How far simulation and measurement are from the closed forms, and which way is cheapest at the ends of the range."""
    theory = frame[frame["source"] == "theory"]
    edges = (theory["target"].min(), theory["target"].max())
    tight, loose = (_least(theory[theory["target"] == edge].set_index("group"), "cost") for edge in edges)
    if tight == loose:
        return f"{capital(tight)} sends the fewest bytes at every target drawn"
    return f"{capital(tight)} sends the fewest bytes when freshness is urgent, {loose} when it is not"


def knee_claim(knee: float, capacity: float, factor: float) -> str:
    """The knee and what the application can answer (both per second); *factor*: of the p99 at the knee to that when idle."""
    return (
        f"At {percent(knee / capacity)} of what can be answered ({number(round(knee))}/s) "
        f"the p99 is {number(factor)} times what it is when idle"
    )


# --- agreement -----------------------------------------------------------------------------------------------------------


def agreement(
    table: pd.DataFrame, band: float, exact: pd.DataFrame, engines: pd.DataFrame, alone: float, herd: float, trained: str
) -> tuple[str, ...]:
    """How far a prediction may be trusted. Frames: `agreement.table`, `exactness`, `engines`; *alone*, *herd*: `holds_until`."""
    # What the parameters come from is no prediction, and stands in for one where there is nothing else.
    others = table["run"] != trained
    table = table[others] if others.any() else table
    off = table["off"].abs()
    inside = int((off <= band).sum())
    worst = str(off.idxmax())
    covered = int(((exact["low"] <= 0) & (exact["high"] >= 0)).sum())
    first = (
        f"Fitted to one run, the simulator predicts {inside} of {len(table)} measured figures within {percent(band)}; half of "
        f"them within {percent(float(off.median()))}. The furthest is {worst}: {_off(_of(table, worst, 'off'))}."
    )
    second = (
        f"The fit is to {trained}; {number(table['run'].nunique())} runs are compared. On the same updates both engines differ "
        f"by at most {percent(float(engines['off'].abs().max()))}. Of {len(exact)} simulated means {covered} have the closed "
        f"form inside their 95 % interval, and none is further off than {percent(float(exact['off'].abs().max()))}."
    )
    by_figure = (f"{name} {percent(share)}" for name, share in off.groupby(table["group"]).median().sort_values().items())
    by_run = off.groupby(table["run"]).median().sort_values()
    range_ = (
        f"The median difference by figure: {', '.join(by_figure)}. By run it is least for {by_run.index[0]} "
        f"({percent(float(by_run.iloc[0]))}) and most for {by_run.index[-1]} ({percent(float(by_run.iloc[-1]))})."
    )
    third = (
        f"The policy's closed form alone stays within {percent(band)} up to a herd that takes {percent(alone)} of the wait; "
        f"with the herd and its reading times in it, as far as herds do not meet ({percent(herd)} of the wait)."
    )
    return first, range_, second, third


def _off(share: float) -> str:
    return f"measured {percent(abs(share))} {'more' if share > 0 else 'less'} than predicted"


def sources_claim(sources: pd.DataFrame) -> str:
    """How far each means is from the measured mean (`agreement.sources`)."""
    means = sources.to_dict("index")["fresh, mean"]
    real = float(means["measured"])
    known = {name: float(value) / real - 1 for name, value in means.items() if name != "measured" and np.isfinite(value)}
    words = ", ".join(f"{name} {percent(abs(off))} {'above' if off > 0 else 'below'}" for name, off in known.items())
    return f"Mean time to fresh: measured {seconds(real)}; {words}"


def engines_claim(engines: pd.DataFrame) -> str:
    return f"Two engines, one answer: {len(engines)} figures, at most {percent(float(engines['off'].abs().max()))} apart"


def exact_claim(exact: pd.DataFrame) -> str:
    covered = int(((exact["low"] <= 0) & (exact["high"] >= 0)).sum())
    return f"{covered} of {len(exact)} simulated means have the closed form inside their 95 % interval"


def reach_claim(reach: pd.DataFrame, band: float) -> str:
    last = float(reach.loc[reach["group"] == "policy only", "off"].abs().max())
    within = f"with it, within {percent(band)} until herds meet"
    return f"Without the application in it a closed form is up to {percent(last)} off; {within}"
