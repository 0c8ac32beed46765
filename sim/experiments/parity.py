"""The same scenarios in virtual time and on sockets, and how far their figures are apart.

`python -m tests.parity` measures and simulates; what it found is in `data/parity.json`, which `read` and the notebook show. A
load test is run several times, and so is the simulator, with the very updates of the load test and other random numbers for
everything else. A figure agrees when the means of both are no further apart than one more run of each may be (`joint`): what a
machine adds that no scenario says, the repeats have measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sim.arrays import Array
from sim.results import text
from sim.results.answers.report import record
from sim.results.statistics import student, welch
from sim.scenario import Key, keys, to_text
from sim.shipped import shipped

LEVEL = 0.99
"""Of the interval for one more run: with some two hundred figures one in a hundred may lie outside by chance."""

PLACE = shipped("data") / "parity.json"
"""What `python -m tests.parity` found."""

NAMED = 4
"""Cases that a table names of many."""

IDLE = {"name", "description", "ignore", "seed", "thresholds"}
"""Keys that do not change what happens in a run (the seed: only its random numbers)."""


def joint(measured: Array, simulated: Array) -> tuple[float, float]:
    """Where one more measured run lies with a probability of `LEVEL` if it is like a simulated one: around the mean of the
    simulated runs, by the scatter of one more run of either (Welch's t: B. L. Welch, Biometrika 34, 1947).

    Up to infinity where one of the simulated runs is never.
    """
    if not np.isfinite(simulated).all():
        return float(np.min(simulated)), float("inf")
    mean = float(simulated.mean())
    known = [values[np.isfinite(values)] for values in (measured, simulated)]
    variance, freedom = welch(*((float(v.var(ddof=1)) * (1 + 1 / len(v)), len(v)) for v in known if len(v) > 1))
    if not variance:
        return mean, mean
    half = student(freedom, (1 + LEVEL) / 2) * math.sqrt(variance)
    return mean - half, mean + half


def read(path: str | Path = PLACE) -> dict[str, Any]:
    """What was found: {provenance, fit, paces, cases: [{name, why, tables, keys, others, figures}]}. Raises `BadInput`."""
    return record(path, "python -m tests.parity")


def table(found: Mapping[str, Any]) -> pd.DataFrame:
    """A row per case and figure: case, figure, runs (measured), measured, predicted (means), low, high (`joint`), off (measured /
    predicted - 1), inside (within the joint interval)."""
    rows = []
    for case in found["cases"]:
        for row in case["figures"]:
            name, measured, simulated = row["figure"], _numbers(row["measured"]), _numbers(row["simulated"])
            low, high = joint(measured, simulated)
            judged = {"case": case["name"], "figure": name, "runs": len(measured), "measured": measured.mean()}
            rows.append(judged | {"predicted": simulated.mean(), "low": low, "high": high})
    frame = pd.DataFrame(rows)
    value, predicted = frame["measured"], frame["predicted"]
    frame["off"] = np.where(value == predicted, 0.0, value / predicted.where(predicted != 0) - 1)
    # Sums of the same numbers in another order differ in the last digit.
    tiny = 1e-9 * value.abs().where(np.isfinite(value), 0)
    frame["inside"] = (value >= frame["low"] - tiny) & (value <= frame["high"] + tiny)
    return frame


def _numbers(values: Sequence[float | None]) -> Array:
    """JSON has no infinity: null is never."""
    return np.array([np.inf if value is None else value for value in values], float)


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
    them, outside their intervals). The index is the key, with its kind where there are kinds. Without a case `cases` is empty."""
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
    found_by_case = {}
    for case in found["cases"]:
        mine = rows[rows["case"] == case["name"]].set_index("figure")
        found_by_case[case["name"]] = {"why": case["why"], "figures": len(mine), "outside": int((~mine["inside"]).sum())} | {
            column: _off(mine, figure)
            for column, figure in (
                ("notified", "time_to_notified.p50"),
                ("fresh", "time_to_fresh.p50"),
                ("refetches", "refetches_per_update"),
            )
        }
    return pd.DataFrame.from_dict(found_by_case, orient="index")


def _off(rows: pd.DataFrame, figure: str) -> float:
    return float(rows["off"].to_dict().get(figure, np.nan))


def by_figure(found: Mapping[str, Any]) -> pd.DataFrame:
    """A row per figure: cases, inside (the joint interval), off (median of the size), interval (half of the joint interval over
    the mean: median)."""
    rows = table(found)
    half = (rows["high"] - rows["low"]) / 2 / rows["predicted"].abs()
    rows = rows.assign(size=rows["off"].abs().where(np.isfinite(rows["off"])), half=half.where(np.isfinite(half)))
    return rows.groupby("figure", sort=False).agg(
        cases=("case", "count"), inside=("inside", "sum"), off=("size", "median"), interval=("half", "median")
    )


def beyond(found: Mapping[str, Any]) -> pd.DataFrame:
    """The figures outside their joint interval, as `readable`."""
    rows = table(found)
    return readable(rows[~rows["inside"]])


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
    outside = [f"{row['figure']} of {row['case']}" for row in rows[~rows["inside"]].to_dict("records")]
    listed, runs = ", ".join(outside), sorted({*rows["runs"]})
    first = (
        f"{len(rows) - len(outside)} of {len(rows)} figures of {len(found['cases'])} scenarios agree: they lie where one more "
        f"run would. {f'Outside: {listed}.' if outside else 'None is outside.'}"
    )
    off = rows["off"].abs()[np.isfinite(rows["off"])]
    second = (
        f"Half of the figures are within {text.percent(float(off.median()))} of the simulation's mean, nine in ten within "
        f"{text.percent(float(off.quantile(0.9)))}. Each scenario was measured {' or '.join(map(str, runs))} times, while other "
        "programs took "
        f"{text.number(float(np.median([others for case in found['cases'] for others in case['others']])))} processors (median)."
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
    """`table` as texts, one row per case and figure: measured, predicted, the joint interval, off, and what it says."""
    found = text.predictions(rows, map(_unit, rows["figure"]), "joint interval")
    return rows[["case", "figure"]].join(found).assign(agrees=np.where(rows["inside"], "yes", "no")).reset_index(drop=True)


def _unit(figure: str) -> Any:
    # The shares are made here and in no summary.
    return text.percent if figure.endswith("_share") else text.unit_of(figure)
