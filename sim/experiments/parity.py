"""Does the simulation say what the sockets do? The same scenarios in virtual time and on sockets, and how far they are apart.

`python -m tests.parity` measures and simulates; what it found is in `data/parity.json`, which `read` and the notebook show. A
load test's figure is one run; the simulator is run several times with the very updates of that run and other random numbers
for everything else, so its runs say what one more run may show. A figure agrees when it lies inside the interval for one more
run, widened by the figure's `BANDS`: what a machine adds that no scenario says.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sim.distributions import Distribution, Lognormal, fit_best
from sim.errors import BadInput
from sim.prediction import fit
from sim.results import text
from sim.results.run import Run
from sim.results.statistics import half_width_of_next
from sim.results.summary import Summary, summarise
from sim.scenario import Key, Scenario, build, keys, to_dict, to_text
from sim.shipped import shipped
from sim.virtual import reference
from sim.workload import streams

LEVEL = 0.99
"""Of the interval for one more run: with some two hundred figures one in a hundred may lie outside by chance."""

RUNS = 10
"""Simulated runs of a case."""

PACE = 0.11
"""How much the pace of a machine varies from one run to the next: standard deviation of its logarithm. Each case says its own."""


class Band(NamedTuple):
    """How far a measured figure may lie beyond the interval: a share of it, and an amount in its unit; and why."""

    share: float
    amount: float
    because: str


PATH = "each event takes its own way through two processes of Python and the scheduler of a machine with two cores"
LATE = (
    "the slowest of some hundred: one pause decides it (three runs each of two cases had 14, 26 and 32 ms, and 15, 21 and 38 ms)"
)
COUNT = "a timer that rings late lets one more notification in, or one less"

BANDS: dict[str, Band] = {
    "updates": Band(0.0, 0.0, "the same updates"),
    "deliveries.received": Band(0.0, 0.0, "the same subscriptions"),
    "time_to_notified.p50": Band(0.15, 0.001, PATH),
    "time_to_notified.p99": Band(0.25, 0.03, LATE),
    "time_to_fresh.p50": Band(0.02, 0.005, PATH),
    "time_to_fresh.p99": Band(0.05, 0.03, LATE),
    "refetches_per_update": Band(0.02, 0.0, COUNT),
    "wasted_share": Band(0.02, 0.01, COUNT),
    "failed_share": Band(0.02, 0.01, COUNT),
    "stale_ratio": Band(0.03, 0.002, PATH),
    "refetch_time.p50": Band(0.1, 0.001, PATH),
}
"""The figures that are compared."""

PLACE = shipped("data") / "parity.json"
"""What `python -m tests.parity` found."""

NAMED = 4
"""Cases that a table names of many."""

IDLE = {"name", "description", "ignore", "seed", "thresholds"}
"""Keys that say nothing of what happens in a run (the seed: which random numbers)."""


# --- made by `python -m tests.parity` ---------------------------------------------------------------------------------------


def figures(summary: Summary) -> dict[str, float]:
    """The compared figures of one run; never is infinite, and what there is nothing to make from is NaN."""
    found = {}
    for name in BANDS:
        figure = summary.get(name, {})
        value = np.inf if text.is_never(figure) else figure.get("value")
        found[name] = np.nan if value is None else float(value)
    sent = summary["refetches"]["value"] or np.nan
    for name in ("wasted", "failed"):
        found[f"{name}_share"] = float(summary[f"refetches.{name}"]["value"] or 0) / sent
    return found


def costs_of(run: Run) -> dict[str, Any]:
    """What a machine adds to every scenario, from one measured run with the default service time: keys for `Scenario.replace`.

    The way to the broadcaster and the time between two of its writes as `fit` has them; the time from a change's request to its
    commit; and the service time, longer by as much as the run's refetches are (the embedded application waits for what is left
    of a service time, so one as short as the default is in part its own work).
    """
    costs = fit.point(run, "broadcaster.per_subscriber", "network.to_")
    # The embedded application has one lock for everything that is changed.
    costs |= {"api.save": to_dict(fit_best(_saves(run)).distribution), "api.save_workers": "own", "api.save_lock": "database"}
    longer = figures(run.summary)["refetch_time.p50"] / float(np.median(simulate(run.scenario, costs)["refetch_time.p50"]))
    service = run.scenario.api.service
    assert isinstance(service, Lognormal)
    return costs | {"api.service": to_dict(replace(service, scale=service.scale * longer))}


def _saves(run: Run) -> np.ndarray[Any, Any]:
    """Seconds from a change's request to its commit, of those that waited for nothing and have an instant of their own."""
    samples = run.metrics[run.metrics["process"] == "publisher"]
    by_name = {
        name: samples[samples["metric"] == name].drop_duplicates("at", keep=False).set_index("at")["value"]
        for name in ("lateness", "waited_seconds")
    }
    updates = run.updates.drop_duplicates("intended_at", keep=False).set_index("intended_at")
    late, waited = (by_name[name].reindex(updates.index) for name in ("lateness", "waited_seconds"))
    saves = updates["committed_at"] - updates.index.to_numpy() - late
    found: np.ndarray[Any, Any] = saves[(waited == 0) & (saves > 0)].to_numpy()
    return found


def pace(run: Run, costs: Mapping[str, Any]) -> float | None:
    """How many times as long as in *costs* a change took on its way to the commit in this run (medians); None: nobody knows."""
    usual: Distribution = build(Scenario, {"api": {"save": costs["api.save"]}}, where="costs").api.save
    saves = _saves(run)
    return float(np.median(saves) / np.median(usual.sample(np.random.default_rng(1), 10_000))) if saves.size else None


def simulate(scenario: Scenario, costs: Mapping[str, Any], runs: int = RUNS) -> pd.DataFrame:
    """The figures of *runs* simulated runs with the *scenario*'s own updates; a row each. *costs* of the machine do not take the
    place of what the scenario says itself."""
    updates, rows = scenario.draw_updates(streams(scenario.seed)), []
    pace = np.random.default_rng(scenario.seed)
    for seed in range(1, runs + 1):
        mine = slower(added(scenario, costs), float(np.exp(PACE * pace.standard_normal())) if runs > 1 else 1.0)
        one = replace(scenario.replace(mine), seed=1000 * scenario.seed + seed)
        rows.append(figures(summarise(reference.run(one, updates=updates), one)))
    return pd.DataFrame(rows)


def slower(costs: Mapping[str, Any], times: float) -> dict[str, Any]:
    """*costs* that are this many times as high."""
    found: dict[str, Any] = {}
    for key, value in costs.items():
        if isinstance(value, Mapping):
            found[key] = dict(value) | {name: value[name] * times for name in ("scale", "value") if name in value}
        else:
            found[key] = value * times if isinstance(value, float) else value
    return found


def added(scenario: Scenario, costs: Mapping[str, Any]) -> dict[str, Any]:
    """Of *costs* those of which the scenario says nothing itself: the others it takes the time to keep."""
    default = Scenario()

    def said(table: str, prefix: str) -> bool:
        mine, usual = getattr(scenario, table), getattr(default, table)
        return any(getattr(mine, f.name) != getattr(usual, f.name) for f in fields(mine) if f.name.startswith(prefix))

    # What the embedded database locks is a fact, whatever a save takes.
    silent = {"api.save_lock": True} if scenario.api.save_lock == default.api.save_lock else {}
    silent |= {
        "api.save": not said("api", "save"),
        "api.service": scenario.api.service == default.api.service,
        "broadcaster.": replace(scenario.broadcaster, nodes=1) == default.broadcaster,
        "network.": True,
    }
    return {key: value for key, value in costs.items() if any(key.startswith(name) and free for name, free in silent.items())}


def as_it_happened(scenario: Scenario, rows: Sequence[Mapping[str, Any]]) -> Scenario:
    """The scenario with its incidents as they were (*rows* of the run's manifest): a process that starts again takes its time."""
    incidents = []
    for incident in scenario.incidents:
        row = next(row for row in rows if row["kind"] == incident.kind and row["at"] == incident.at)
        lasted = row["ended_at"] - row["began_at"]
        length = {name: lasted for name in ("down", "duration") if hasattr(incident, name)}
        incidents.append(replace(incident, at=row["began_at"], **length))
    return replace(scenario, incidents=tuple(incidents))


def compare(measured: Mapping[str, float], simulated: pd.DataFrame) -> list[dict[str, Any]]:
    """A row per figure: measured, predicted (mean of the simulated runs), low and high (of one more run)."""
    rows = []
    for name in BANDS:
        values, value = simulated[name].to_numpy(float), measured[name]
        if not np.isnan(value) or not np.isnan(values).all():
            low, high = one_more(values)
            rows.append({"figure": name, "measured": value, "predicted": float(values.mean()), "low": low, "high": high})
    return rows


def one_more(values: np.ndarray[Any, Any]) -> tuple[float, float]:
    """Where one more run lies with a probability of `LEVEL` (Student's t); infinite where one of them is never."""
    if not np.isfinite(values).all():
        return float(np.min(values)), float("inf")
    mean, half = float(values.mean()), half_width_of_next(values, LEVEL)
    return mean - half, mean + half


# --- read by the report -----------------------------------------------------------------------------------------------------


def read(path: str | Path | None = None) -> dict[str, Any]:
    """What was found: {provenance, fit, cases: [{name, why, tables, keys, beyond, others, pace, figures}]}.

    Without *path* the one of the repository. Raises `BadInput`.
    """
    place = Path(path) if path is not None else PLACE
    try:
        found: dict[str, Any] = json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{place}: cannot be read: {error} (python -m tests.parity makes it)") from error
    return found


def table(found: Mapping[str, Any]) -> pd.DataFrame:
    """A row per case and figure: case, figure, measured, predicted, low, high, share, amount, because, off, inside, by_chance.

    off: measured / predicted - 1. inside: within the band. by_chance: within the interval of one more run alone.
    """
    rows = []
    for case in found["cases"]:
        beyond = {name: Band(*band) for name, band in case["beyond"].items()}
        rows += [
            {"case": case["name"], **_numbers(row), **beyond.get(row["figure"], BANDS[row["figure"]])._asdict()}
            for row in case["figures"]
        ]
    frame = pd.DataFrame(rows)
    slack = frame["predicted"].abs().where(np.isfinite(frame["predicted"]), 0.0) * frame["share"] + frame["amount"]
    measured = frame["measured"]
    frame["off"] = np.where(measured == frame["predicted"], 0.0, measured / frame["predicted"].where(frame["predicted"] != 0) - 1)
    # Sums of the same numbers in another order differ in the last digit.
    tiny = 1e-9 * measured.abs().where(np.isfinite(measured), 0)
    frame["by_chance"] = (measured >= frame["low"] - tiny) & (measured <= frame["high"] + tiny)
    frame["inside"] = (measured >= frame["low"] - slack - tiny) & (measured <= frame["high"] + slack + tiny)
    return frame


def _numbers(row: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has no infinity: null is never."""
    return {key: np.inf if value is None else value for key, value in row.items()}


def compared_keys() -> list[Key]:
    """The keys that both programs honour and that decide something in a run."""
    return [key for key in keys() if key.only is None and not (key.table == "" and key.name in IDLE)]


def provenance(found: Mapping[str, Any]) -> pd.DataFrame:
    """Where the figures come from: the run to which the machine's costs were fitted; the others came after it."""
    return pd.DataFrame({"the run that was fitted": found["provenance"]})


def fitted(found: Mapping[str, Any]) -> pd.DataFrame:
    """What was fitted to the machine: key -> value, as TOML holds it."""
    return pd.DataFrame({"fitted to one run": {key: to_text(value) for key, value in found["fit"].items()}})


def by_key(found: Mapping[str, Any]) -> pd.DataFrame:
    """A row per key that both programs honour: cases (in which it is not at its default), figures (compared there), outside (of
    them, outside their bands). The index is the key, with its kind where there are kinds. Without a case `cases` is empty."""
    inside = table(found).groupby("case")["inside"].agg(figures="count", inside="sum")
    uses = {case["name"]: set(case["keys"]) for case in found["cases"]}
    rows = {}
    for name in map(label, compared_keys()):
        cases = [case for case, used in uses.items() if name in used]
        mine = inside.loc[cases]
        total = int(mine["figures"].sum())
        more = f" and {len(cases) - NAMED} more" if len(cases) > NAMED else ""
        rows[name] = {"cases": ", ".join(cases[:NAMED]) + more, "figures": total, "outside": total - int(mine["inside"].sum())}
    return pd.DataFrame.from_dict(rows, orient="index")


def by_case(found: Mapping[str, Any]) -> pd.DataFrame:
    """A row per case: what it is there for, figures compared, outside, and how far off the medians of the times are."""
    rows = table(found)
    said = {}
    for case in found["cases"]:
        mine = rows[rows["case"] == case["name"]].set_index("figure")
        said[case["name"]] = {"why": case["why"], "figures": len(mine), "outside": int((~mine["inside"]).sum())} | {
            column: _off(mine, figure)
            for column, figure in (
                ("notified", "time_to_notified.p50"),
                ("fresh", "time_to_fresh.p50"),
                ("refetches", "refetches_per_update"),
            )
        }
    return pd.DataFrame.from_dict(said, orient="index")


def _off(rows: pd.DataFrame, figure: str) -> float:
    return float(rows["off"].to_dict().get(figure, np.nan))


def by_figure(found: Mapping[str, Any]) -> pd.DataFrame:
    """A row per figure: cases, by_chance (inside the interval of one more run), inside (with its band), off (median of the size),
    and the band with its reason."""
    rows = table(found)
    groups = rows.assign(size=rows["off"].abs().where(np.isfinite(rows["off"]))).groupby("figure", sort=False)
    frame = groups.agg(cases=("case", "count"), by_chance=("by_chance", "sum"), inside=("inside", "sum"), off=("size", "median"))
    units = {name: _unit(name) for name in frame.index}
    frame["band"] = [f"{text.percent(BANDS[name].share)} + {units[name](BANDS[name].amount)}" for name in frame.index]
    return frame.assign(because=[BANDS[name].because for name in frame.index])


def wider(found: Mapping[str, Any]) -> pd.DataFrame:
    """Figures of single cases whose band is wider than the figure's: case, figure, band, because."""
    rows = [row for row in table(found).to_dict("records") if (row["share"], row["amount"]) != BANDS[row["figure"]][:2]]
    said = [
        {"case": row["case"], "figure": row["figure"], "because": row["because"]}
        | {"band": f"{text.percent(row['share'])} + {_unit(row['figure'])(row['amount'])}"}
        for row in rows
    ]
    return pd.DataFrame(said, columns=["case", "figure", "band", "because"])


def points(found: Mapping[str, Any], figure: str) -> pd.DataFrame:
    """One figure of all cases, for `plots.plot_agreement`: index case, columns measured, low, high, predicted."""
    rows = table(found)
    rows = rows[rows["figure"] == figure].set_index("case")
    mine = rows[np.isfinite(rows["measured"]) & np.isfinite(rows["predicted"])]
    # The interval is the simulation's; drawn around what was measured it says the same.
    width = mine[["low", "high"]].sub(mine["predicted"], axis=0).where(np.isfinite(mine["high"]), 0.0, axis=0)
    return mine[["measured", "predicted"]].assign(low=mine["measured"] + width["low"], high=mine["measured"] + width["high"])


def answer(found: Mapping[str, Any]) -> tuple[str, ...]:
    """What the comparison says, as sentences."""
    rows, keyed = table(found), by_key(found)
    inside, chance = int(rows["inside"].sum()), int(rows["by_chance"].sum())
    outside = [f"{row['figure']} of {row['case']}" for row in rows[~rows["inside"]].to_dict("records")]
    first = (
        f"{inside} of {len(rows)} figures of {len(found['cases'])} scenarios agree: {chance} lie where one more simulated run "
        f"would lie, {inside - chance} within the band of what a machine adds. "
        + (f"Outside: {', '.join(outside)}." if outside else "None is outside.")
    )
    off = rows["off"].abs()[np.isfinite(rows["off"])]
    second = (
        f"Half of the figures are within {text.percent(float(off.median()))} of the simulation's mean, nine in ten within "
        f"{text.percent(float(off.quantile(0.9)))}. Each scenario was measured once, while other programs took "
        f"{text.number(float(np.median([case['others'] for case in found['cases']])))} processors (median)."
    )
    used = keyed[keyed["figures"] > 0]
    third = (
        f"Of {len(keyed)} keys that both programs honour, {len(used)} were turned away from their defaults; the others are of "
        "workloads, which both programs draw by the same code."
    )
    return first, second, third


def label(key: Key) -> str:
    """A key's name in `by_key`: `policy.wait (debounce)`."""
    name = f"{key.table}.{key.name}" if key.table else key.name
    return f"{name} ({key.kind})" if key.kind else name


def readable(rows: pd.DataFrame) -> pd.DataFrame:
    """`table` as texts, one row per case and figure: measured, predicted, interval, off, and what it says."""
    said = []
    for row in rows.to_dict("records"):
        unit = _unit(row["figure"])
        said.append(
            {
                "case": row["case"],
                "figure": row["figure"],
                "measured": unit(row["measured"]),
                "simulated": unit(row["predicted"]),
                "one more run": text.interval(row["low"], row["high"], unit),
                "off": text.percent(row["off"]) if np.isfinite(row["off"]) else "",
                "agrees": "by chance" if row["by_chance"] else "within its band" if row["inside"] else "no",
            }
        )
    return pd.DataFrame(said)


def _unit(figure: str) -> Any:
    # The shares are made here and in no summary.
    return text.percent if figure.endswith("_share") else text.unit_of(figure)
