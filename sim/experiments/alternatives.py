"""Notify and refetch, full payload, or polling: what each costs for the same freshness, and where one overtakes another.

A page hears *rate* updates a second, shows a resource of *payload* bytes, and must be fresh within *target* seconds (p95). Each
way is set as loosely as the target allows:

    notify   window of the target: nothing is later than it; rate / (1 + rate target) refetches a second
    full     each event carries the resource; nothing is fetched
    polling  an interval of target / 0.95, whether anything changed or not
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from sim.results.answers.choices import describe
from sim.results.ledger import costs
from sim.results.ledger.book import ledger_of
from sim.results.run import Run
from sim.results.text import number
from sim.study import dashboards, explained_by_chance, summary
from sim.virtual.measures import frame_bytes
from sim.virtual.theory import break_even_payload, polling_refetch_rate, window_refetch_rate

WAYS = ("notify", "full payload", "polling")
LEVEL = 0.95
"""Share of the updates that must be shown within the target."""

BODY = len('{"server_id":1,"timestamp":"2026-01-01T00:00:00+00:00"}')
"""Bytes of a notification that a full payload does not need."""


PRICED = ("fan-out-1000", "fan-out-1000-4kB", "herd", "steady-debounce-100ms")
"""Sample runs that `prices` and `rests` take, in their order."""


@dataclass(frozen=True, slots=True)
class Prices:
    """What one of each costs: bytes towards the page, and seconds of CPU of the server that does it."""

    envelope: float
    """Bytes of a frame around what it carries: event name, channel, header."""
    head: float
    """Bytes of an answer around the resource."""
    delivery: float
    """CPU of the broadcaster for one small frame."""
    per_byte: float
    """CPU of the broadcaster for each further byte of a frame."""
    refetch: float
    """CPU of the application for one refetch."""

    def table(self) -> pd.DataFrame:
        rows = {
            "frame around a payload, bytes": self.envelope,
            "answer around a resource, bytes": self.head,
            "a delivery, µs of the broadcaster": self.delivery * 1e6,
            "a refetch, µs of the application": self.refetch * 1e6,
            "a further kB in a delivery, µs of the broadcaster": self.per_byte * 1e9,
        }
        return pd.DataFrame({"price": rows})


def prices(small: Run, large: Run, refetching: Run, conditional: Run) -> Prices:
    """Measured prices: of a fan-out of small frames and one of large ones, of many refetches, and of answers 304."""
    little, much, asked = costs.costs(small), costs.costs(large), costs.costs(refetching)
    per_event = little["cpu_per_event"], much["cpu_per_event"]
    bytes_more = much["bytes_per_delivery"] - little["bytes_per_delivery"]
    per_byte = max(0.0, (per_event[1] / much["receivers"] - per_event[0] / little["receivers"]) / bytes_more)
    empty = conditional.refetches[conditional.refetches["status"] == 304]["bytes"]
    return Prices(
        envelope=float(frame_bytes("server", 1, "private-servers") - BODY),
        head=float(empty.mean()) if len(empty) else 0.0,
        delivery=little["cpu_per_delivery"],
        per_byte=per_byte,
        refetch=asked["cpu_per_refetch"],
    )


def known(price: Prices) -> tuple[bool, str]:
    """Whether each price that must cost something was measured. That of a further byte may be too small to be seen."""
    table = price.table()["price"]
    free = "" if price.per_byte > 0 else ": none was seen, a full payload's CPU is a lower bound"
    return min(price.delivery, price.refetch, price.head) > 0, "; ".join(f"{key}: {number(x)}" for key, x in table.items()) + free


def rests(small: Run, large: Run, refetching: Run) -> dict[str, float]:
    """On how many deliveries and refetches the `prices` stand."""
    little, much, asked = costs.costs(small), costs.costs(large), costs.costs(refetching)
    return {"deliveries": little["deliveries"] + much["deliveries"], "refetches": asked["refetches"]}


def rates(rate: Any, target: Any) -> dict[str, tuple[Any, Any]]:
    """By way: (frames, refetches) per page and second."""
    return {
        "notify": (rate, window_refetch_rate(rate, target)),
        "full payload": (rate, 0.0 * np.asarray(target, float)),
        "polling": (0.0 * np.asarray(rate, float), polling_refetch_rate(np.asarray(target, float) / LEVEL)),
    }


def cost(rate: Any, payload: Any, target: Any, price: Prices) -> dict[str, dict[str, Any]]:
    """By way, per page and second: bytes, cpu (s), of it broadcaster and application. Arrays broadcast."""
    found = {}
    for way, (frames, refetches) in rates(rate, target).items():
        carried = payload if way == "full payload" else BODY
        broadcaster = frames * (price.delivery + (carried - BODY) * price.per_byte)
        application = refetches * price.refetch
        found[way] = {
            "bytes": frames * (price.envelope + carried) + refetches * (price.head + payload),
            "broadcaster": broadcaster,
            "application": application,
            "cpu": broadcaster + application,
        }
    return found


def least(found: dict[str, dict[str, Any]]) -> dict[str, str]:
    """The cheapest way in `bytes` and in `cpu`, of one `cost` in scalars."""
    return {what: min(found, key=lambda way: float(found[way][what])) for what in ("bytes", "cpu")}


def overtakes(target: float, price: Prices) -> float | None:
    """Updates per second from which polling takes less CPU than notify and refetch; None: up to a thousand it does not."""
    some = np.geomspace(1e-3, 1e3, 1200)
    found = cost(some, 0.0, target, price)
    ahead = np.flatnonzero(found["polling"]["cpu"] < found["notify"]["cpu"])
    return float(some[ahead[0]]) if len(ahead) else None


def shares(*maps: pd.DataFrame) -> pd.DataFrame:
    """Share of each map (`cheapest`) that each way wins; one row per map, in order: bytes by payload, CPU by target."""
    names = ("bytes, payload against rate", "CPU, freshness against rate")
    rows = {
        name: {way: float((table == way).to_numpy().mean()) for way in WAYS} for name, table in zip(names, maps, strict=False)
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def cheapest(
    rates: Iterable[float],
    others: Iterable[float],
    price: Prices,
    *,
    what: str,
    vary: str,
    payload: float = 4096,
    target: float = 1.0,
) -> pd.DataFrame:
    """Map of the cheapest way in *what* (`bytes`, `cpu`): columns rates, rows the values of *vary* (`payload` or `target`)."""
    across, up = np.array(tuple(rates)), np.array(tuple(others))
    grid = {"payload": payload, "target": target} | {vary: up[:, None]}
    found = cost(across[None, :] + 0 * up[:, None], grid["payload"], grid["target"], price)
    stacked = np.stack([np.broadcast_to(found[way][what], (len(up), len(across))) for way in WAYS])
    return pd.DataFrame(np.array(WAYS, dtype=object)[stacked.argmin(axis=0)], index=up, columns=across)


def over_targets(rate: float, payload: float | Mapping[str, float], targets: Iterable[float], price: Prices) -> pd.DataFrame:
    """Bytes per page and second over the freshness target, theory and simulated: target (s), cost, low, high, group, source.

    *payload*: bytes of the resource, or by way what it moves of it. The simulated rows are runs of the fleet engine with each
    way's setting; their frames and refetches have the same prices.
    """
    carried = payload if isinstance(payload, Mapping) else dict.fromkeys(WAYS, payload)
    rows = []
    for target in targets:
        for way in WAYS:
            found = cost(rate, carried[way], target, price)[way]
            rows.append({"target": target, "cost": float(found["bytes"]), "group": way, "source": "theory"})
    for target in tuple(targets)[::4]:
        for way in ("notify", "polling"):
            rows.append(_simulated(rate, carried[way], target, price, way) | {"target": target})
    return pd.DataFrame(rows)


def _simulated(rate: float, payload: float, target: float, price: Prices, way: str) -> dict[str, Any]:
    policy = {"notify": {"kind": "window", "wait": target}, "polling": {"kind": "polling", "interval": target / LEVEL}}[way]
    pages, duration = 20, max(600.0, 20 * target)
    scenario = dashboards(way, pages, rate, duration, 2 * target + 1).replace({"policy": policy, "api.service": 1e-6})
    figures = summary(scenario)
    each, asked = price.envelope + BODY, price.head + payload
    if way == "polling":
        frames, refetches = 0.0, figures["refetch_rate.mean"]["value"] / pages
        one = 1 / duration  # a page's polls begin at a random instant: one more or less fits into the run
        low, high = refetches - one, refetches + one
    else:
        # By update, and then at the rate asked for: how many updates this run happened to have is no property of the way.
        per, updates = figures["refetches_per_update"], figures["updates"]["value"]
        frames = rate * figures["deliveries.received"]["value"] / updates / pages
        refetches, low, high = (rate * per[name] / pages for name in ("value", "ci_low", "ci_high"))
    found = {name: frames * each + many * asked for name, many in (("cost", refetches), ("low", low), ("high", high))}
    return found | {"p95": figures["time_to_fresh.p95"]["value"], "group": way, "source": "simulated"}


def measured(runs: Iterable[Run], price: Prices) -> pd.DataFrame:
    """Bytes per page and second that runs moved, over the p95 (s) that they reached.

    Columns: target, cost with low and high (the interval of the refetches per update; frames are counted), group, source,
    setting, updates, rate (updates/s), payload (bytes in an answer or a frame without what the *price* has around them).
    """
    rows = []
    for run in runs:
        ledger = ledger_of(run)
        start, over, _ = ledger.window
        pages, kind, found = run.scenario.subscribers, run.scenario.policy.kind, costs.costs(run)
        sent = float((ledger.refetches["bytes"] * ledger.refetches["weight"]).sum())
        heard = 0.0 if kind == "polling" else found["deliveries"] * found["bytes_per_delivery"]
        way = {"polling": "polling", "full_payload": "full payload"}.get(kind, "notify")
        full = way == "full payload"
        per = run.summary["refetches_per_update"]
        shares = {name: (per[end] or np.nan) / (per["value"] or np.nan) for name, end in (("low", "ci_low"), ("high", "ci_high"))}
        row = {
            "target": run.summary["time_to_fresh.p95"]["value"],
            "group": way,
            "source": "measured",
            "setting": describe(run.scenario.policy),
            "updates": len(run.updates),
            "rate": found["events"] / run.scenario.duration,
            "payload": found["bytes_per_delivery"] - price.envelope if full else found["bytes_per_refetch"] - price.head,
        }
        for name, share in ({"cost": 1.0} | shares).items():
            row[name] = (heard + (0.0 if full else sent * share)) / pages / (over - start)
        rows.append(row)
    names = ("target", "cost", "low", "high", "group", "source", "setting", "updates", "rate", "payload")
    return pd.DataFrame(rows, columns=pd.Index(names))


def break_even(rate: float, targets: Iterable[float], price: Prices) -> pd.DataFrame:
    """The resource size (bytes) above which notify sends fewer bytes than a full payload, by freshness target; inf: never."""
    rows = {}
    for target in targets:
        per_update = float(window_refetch_rate(rate, target)) / rate
        rows[target] = {"refetches_per_update": per_update, "size": break_even_payload(per_update, float(BODY), price.head)}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("fresh within, s")


def whole(size: float) -> str:
    """A number of bytes as text; `∞` where there is none."""
    return number(round(size) if np.isfinite(size) else size)


def capacity(rates: Iterable[float], payload: float, target: float, price: Prices) -> pd.DataFrame:
    """Pages that a core of broadcaster and one of application serve until one is full: rate, subscribers, group, limited_by."""
    rows = []
    for rate in rates:
        for way, found in cost(rate, payload, target, price).items():
            busiest = max(("broadcaster", "application"), key=lambda name: found[name])
            rows.append({"rate": rate, "subscribers": 1 / found[busiest], "group": way, "limited_by": busiest})
    return pd.DataFrame(rows)


def at_rates(frame: pd.DataFrame, some: Iterable[float]) -> pd.DataFrame:
    """`capacity` as a table: pages by way (columns), at the drawn rates nearest to *some*, and what is full in each case."""
    drawn = np.sort(frame["rate"].unique())
    chosen = [drawn[np.abs(np.log(drawn / rate)).argmin()] for rate in some]
    part = frame[frame["rate"].isin(chosen)]
    table = part.pivot(index="rate", columns="group", values="subscribers")[list(WAYS)]
    full = part.pivot(index="rate", columns="group", values="limited_by")
    found = table.assign(**{f"{way}: full is": full[way] for way in WAYS})
    return found.set_index(pd.Index([float(f"{rate:.2g}") for rate in found.index], name="updates per second"))


# --- beside what was measured --------------------------------------------------------------------------------------------


def marked(runs: Iterable[Run], price: Prices) -> Prices:
    """The prices with the frames of these runs, which are larger: they carry members to measure by."""
    frames = [
        costs.costs(run)["bytes_per_delivery"] for run in runs if run.scenario.policy.kind not in ("polling", "full_payload")
    ]
    known = [size for size in frames if np.isfinite(size)]
    return replace(price, envelope=float(np.mean(known)) - BODY) if known else price


def working_point(points: pd.DataFrame) -> tuple[float, dict[str, float]]:
    """(rate, bytes of the resource by way) of what was `measured`. A way that no run took moves what the others do."""
    sizes = points.groupby("group")["payload"].mean()
    return float(points["rate"].mean()), {way: float(sizes.get(way, sizes.mean())) for way in WAYS}


def together(curves: pd.DataFrame, points: pd.DataFrame) -> pd.DataFrame:
    """Closed forms, simulation and measurement in one frame, to plot. A full payload costs the same at every target, so that its
    line may begin where it was measured."""
    full = curves[(curves["group"] == "full payload") & (curves["source"] == "theory")].head(1)
    there = points.loc[points["group"] == "full payload", "target"].to_numpy()
    begins = [full.assign(target=there.min())] if len(there) and len(full) and there.min() < curves["target"].min() else []
    return pd.concat([*begins, curves.drop(columns=["low", "high"]), points.drop(columns=["low", "high"])], ignore_index=True)


def beside(points: pd.DataFrame, price: Prices) -> pd.DataFrame:
    """Measured bytes per page and second (`measured`) beside the closed form: at the rate and the size of the resource that each
    run had, and the p95 that it reached."""
    exact = [
        float(cost(row["rate"], row["payload"], row["target"], price)[row["group"]]["bytes"]) for row in points.to_dict("records")
    ]
    found = points.set_index("setting")[["group", "target", "payload", "updates", "cost", "low", "high"]].assign(theory=exact)
    found["off"] = found["cost"] / found["theory"] - 1
    return found.rename(columns={"group": "way", "cost": "bytes", "theory": "bytes, closed form"})


def ordered(table: pd.DataFrame) -> tuple[bool, str]:
    """Whether the closed form orders all runs of `beside` as measured, where their intervals lie apart; of several, some must."""
    apart, wrong = 0, []
    rows = [row | {"setting": str(setting)} for setting, row in zip(table.index, table.to_dict("records"), strict=True)]
    for one in rows:
        for other in rows:
            if np.nan_to_num(one["high"], nan=one["bytes"]) < np.nan_to_num(other["low"], nan=other["bytes"]):
                apart += 1
                if one["bytes, closed form"] >= other["bytes, closed form"]:
                    wrong.append(f"{one['setting']} before {other['setting']}")
    words = "; ".join(wrong) or f"{apart} pairs of runs have intervals apart, all in the order of the closed form"
    return not wrong and (apart > 0 or len(rows) < 2), words


def agree(curves: pd.DataFrame) -> tuple[bool, str]:
    """Whether no more simulated intervals (`over_targets`) miss the closed form than chance explains."""
    both = curves[curves["source"] == "simulated"].merge(
        curves[curves["source"] == "theory"][["target", "group", "cost"]], on=["target", "group"], suffixes=("", "_theory")
    )
    missed = int((~both["cost_theory"].between(both["low"], both["high"])).sum())
    return explained_by_chance(missed, len(both))
