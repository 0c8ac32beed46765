"""Two runs of one scenario: what differs, by how much, how sure, and whether it matters.

A difference is relative to the first run, with a 95 % interval. Against an equivalence band (5 % unless told) it is

    same        the whole interval lies inside the band
    better      the whole interval lies beyond the band, towards less
    worse       the same, towards more
    undecided   neither: more updates are needed, and the verdict says how many

Runs are refused whose scenario, window or harness differ, except in the keys that the comparison is about.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from sim.errors import BadInput
from sim.results import statistics
from sim.results.ledger import freshness
from sim.results.ledger.staleness import staleness
from sim.results.run import Run
from sim.results.summary import per_update, sampled_share, sent_refetches, window, within
from sim.results.text import NONE, markdown, number, percent, unit_of

Array = np.ndarray[Any, Any]

BAND = 0.05

# What tells two scenarios apart by name only, or says how the load was produced rather than what it was.
COSMETIC = ("name", "description", "thresholds", "ignore")

LATENCIES = (
    "time_to_notified.p50",
    "time_to_notified.p99",
    "time_to_fresh.mean",
    "time_to_fresh.p50",
    "time_to_fresh.p95",
    "time_to_fresh.p99",
)

STRICT = {"delivery_ratio": 0.001}
"""Bands of their own: five per cent of lost deliveries are not "the same"."""

MORE_IS_BETTER = ("delivery_ratio",)


@dataclass(frozen=True, slots=True)
class Measured:
    """One figure of one run: value (None: none, inf: never), n updates, and its logarithm in each batch of the run."""

    value: float | None
    n: int
    logs: Array
    per_batch: int = statistics.EVENTS_PER_BATCH
    """Updates that a batch needs to have such a figure."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One metric in both runs. `relative` is b / a - 1 with its 95 % interval; None where one of them has no finite figure."""

    metric: str
    a: float | None
    b: float | None
    n: int
    relative: float | None
    low: float | None
    high: float | None
    verdict: str


def compare(a: Run, b: Run, band: float = BAND, varied: Collection[str] = ()) -> list[Difference]:
    """Differences of b against a, one per metric. Raises `BadInput` when they cannot be compared (see `refuse`).

    Runs that met the same updates (same seed and workload) are compared batch by batch, so that what both share cancels.
    """
    refuse(a, b, varied)
    paired = a.manifest.seed == b.manifest.seed and a.scenario.workload == b.scenario.workload
    ours, theirs = measured(a), measured(b)
    return [judge(metric, ours[metric], theirs[metric], band, paired) for metric in ours]


def refuse(a: Run, b: Run, varied: Collection[str] = ()) -> None:
    """Raise `BadInput` when the runs cannot be compared: the message names what differs. *varied*: dotted keys that may."""
    differing = [
        key
        for key in differing_keys(a.manifest.scenario, b.manifest.scenario)
        if not any(_below(key, allowed) for allowed in varied)
    ]
    if differing:
        keys = ", ".join(differing[:4]) + (f" and {len(differing) - 4} more" if len(differing) > 4 else "")
        raise BadInput(f"{a.name} and {b.name} are not runs of one scenario: {keys} differ (name what you vary: --vary KEY)")
    if a.manifest.source != b.manifest.source and "source" not in varied:
        raise BadInput(
            f"{a.name} is {a.manifest.source} and {b.name} {b.manifest.source}: to compare them all the same --vary source"
        )
    for run in (a, b):
        if run.manifest.partial:
            raise BadInput(f"{run.name} was interrupted: an incomplete run is not compared")
    (start_a, end_a), (start_b, end_b) = (window(run, run.scenario) for run in (a, b))
    if not math.isclose(end_a - start_a, end_b - start_b, rel_tol=0.02) and "duration" not in varied:
        raise BadInput(
            f"windows differ: {a.name} counts {end_a - start_a:.1f} s, {b.name} {end_b - start_b:.1f} s (--vary duration)"
        )
    stamps = [run.manifest.harness.get("receive_stamp") for run in (a, b)]
    if stamps[0] != stamps[1] and "source" not in varied and "harness" not in varied:
        raise BadInput(
            f"harnesses differ: arrivals are stamped by {stamps[0]} in {a.name}, by {stamps[1]} in {b.name} (--vary harness)"
        )


def _below(key: str, allowed: str) -> bool:
    return key == allowed or key.startswith(allowed + ".")


def differing_keys(a: Any, b: Any, at: str = "") -> list[str]:
    """Dotted keys in which two scenario trees differ; not those that are names only."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        found = []
        for key in sorted(a.keys() | b.keys()):
            if at or key not in COSMETIC:
                found += differing_keys(a.get(key), b.get(key), f"{at}.{key}" if at else key)
        return found
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return [key for i, (x, y) in enumerate(zip(a, b, strict=True)) for key in differing_keys(x, y, f"{at}.{i}")]
    return [] if a == b else [at]


def measured(run: Run) -> dict[str, Measured]:
    """The figures of one run that a comparison looks at, each with its batches."""
    start, end = window(run, run.scenario)
    counted = within(run.updates, start, end)
    pairs = freshness.journeys(run, run.scenario)
    mine = pairs[np.isin(pairs["update"].to_numpy(), counted["update"].to_numpy())]
    found = dict(_latencies(mine, end))
    sent = sent_refetches(run, start, end)
    for metric, amount in (
        ("refetches_per_update", np.ones(len(sent))),
        ("bytes_per_update", sent["bytes"].to_numpy(dtype=float)),
    ):
        cost = per_update(amount / sampled_share(run), sent, counted)
        found[metric] = _sum_per(cost, np.ones(len(counted)))
    found["age_of_synchronisation.mean"] = _ages(pairs, np.linspace(start, end, statistics.BATCHES + 1), len(counted))
    owed = freshness.deliveries(run, run.scenario)
    owed = owed[np.isin(owed["update"].to_numpy(), counted["update"].to_numpy())]
    _, event = np.unique(owed["update"].to_numpy(), return_inverse=True)
    found["delivery_ratio"] = _sum_per(np.bincount(event, owed["received_at"].notna()), np.bincount(event).astype(float))
    return found


def _latencies(mine: pd.DataFrame, end: float) -> Iterator[tuple[str, Measured]]:
    intended, serial = mine["intended_at"].to_numpy(), mine["update"].to_numpy()
    heard = mine["received_at"].notna().to_numpy()
    stayed = mine["fresh_at"].notna().to_numpy() | (mine["ended_at"].to_numpy() >= end)
    latencies = {
        "time_to_notified": (mine["received_at"].to_numpy() - intended, heard),
        "time_to_fresh": (mine["fresh_at"].fillna(np.inf).to_numpy() - intended, stayed),
    }
    for metric in LATENCIES:
        stem, _, figure = metric.rpartition(".")
        values, rows = latencies[stem]
        values, events = values[rows], serial[rows]
        if figure == "mean":
            _, event = np.unique(events, return_inverse=True)
            yield metric, _sum_per(np.bincount(event, values), np.bincount(event).astype(float))
            continue
        p = float(figure.removeprefix("p")) / 100
        logs = _logs(statistics.batch_quantiles(values, events, p))
        yield metric, Measured(statistics.quantile(values, p), len(np.unique(events)), logs, statistics.events_per_batch(p))


def _sum_per(numerator: Array, denominator: Array) -> Measured:
    """A ratio of two sums, both given per event, and its logarithm linearised over batches of events."""
    n, total = len(numerator), float(denominator.sum())
    if not total:
        return Measured(None, n, np.array([]))
    value = float(numerator.sum()) / total
    cuts = statistics.batches(np.arange(n))
    if not cuts or not math.isfinite(value) or value <= 0:
        return Measured(value, n, np.array([]))
    top, bottom = (np.array([column[rows].sum() for rows in cuts], dtype=float) for column in (numerator, denominator))
    return Measured(value, n, math.log(value) + top / top.mean() - bottom / bottom.mean())


def _logs(parts: Iterable[float]) -> Array:
    """Logarithms; not finite where a batch has nothing to take one of."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(np.array(list(parts), dtype=float))


def _ages(pairs: pd.DataFrame, edges: Array, n: int) -> Measured:
    parts = []
    for low, high in pairwise(edges):
        pages = staleness(pairs, low, high)
        observed = pages["observed"].to_numpy(dtype=float)
        if observed.sum() > 0:
            ages = pages["age_of_synchronisation"].fillna(0).to_numpy(dtype=float)
            parts.append(float(np.average(ages, weights=observed)))
    return Measured(float(np.mean(parts)) if parts else None, n, _logs(parts))


def judge(metric: str, a: Measured, b: Measured, band: float = BAND, paired: bool = False) -> Difference:
    """The verdict on one metric. Less is better, except for `MORE_IS_BETTER`."""
    n = min(a.n, b.n)
    band = STRICT.get(metric, band)
    if a.value is None or b.value is None:
        return Difference(metric, a.value, b.value, n, None, None, None, "undecided: no figure")
    if math.isinf(a.value) or math.isinf(b.value):
        verdict = "same: never" if a.value == b.value else "worse: never" if math.isinf(b.value) else "better: was never"
        return Difference(metric, a.value, b.value, n, None, None, None, verdict)
    if a.value == b.value == 0:
        return Difference(metric, 0.0, 0.0, n, 0.0, 0.0, 0.0, "same")
    if a.value <= 0 or b.value <= 0:
        return Difference(metric, a.value, b.value, n, None, None, None, "undecided: no ratio to zero")
    relative = b.value / a.value - 1
    low, high = _interval(a, b, paired)
    if low is None or high is None:
        verdict = f"undecided: need n ≥ {number(statistics.MIN_BATCHES * a.per_batch)} for an interval"
        return Difference(metric, a.value, b.value, n, relative, None, None, verdict)
    if -band <= low and high <= band:
        verdict = "same"
    elif low > band or high < -band:
        verdict = "better" if (high < 0) != (metric in MORE_IS_BETTER) else "worse"
    else:
        verdict = f"undecided: need n ≈ {number(needed(n, relative, low, high, band))}"
    return Difference(metric, a.value, b.value, n, relative, low, high, verdict)


def needed(n: int, relative: float, low: float, high: float, band: float) -> int:
    """Updates for which the interval would leave the edge of the band: its width shrinks with the root of their number.

    Rounded up to two digits; at most a thousand times what there is (a difference that sits on the edge is never decided).
    """
    room = max(abs(abs(relative) - band), 1e-9)
    factor = min(((high - low) / 2 / room) ** 2, 1000.0)
    wanted = n * max(factor, 1.1)
    unit = 10 ** max(0, math.floor(math.log10(wanted)) - 1)
    return math.ceil(wanted / unit) * unit


def _interval(a: Measured, b: Measured, paired: bool) -> statistics.Interval:
    """Interval of b / a - 1 around the pooled ratio, from the batches' logarithms; a batch without a finite one leaves none."""
    assert a.value
    assert b.value
    if not all(np.isfinite(one.logs).all() and len(one.logs) >= statistics.MIN_BATCHES for one in (a, b)):
        return statistics.UNDEFINED
    if paired and len(a.logs) == len(b.logs):
        variance, freedom = float(np.var(b.logs - a.logs, ddof=1)) / len(a.logs), len(a.logs) - 1.0
    else:
        variance, freedom = welch(a.logs, b.logs)
    half = float(stats.t.ppf(0.975, freedom)) * math.sqrt(variance)
    centre = math.log(b.value / a.value)
    return math.expm1(centre - half), math.expm1(centre + half)


def welch(a: Array, b: Array) -> tuple[float, float]:
    """Variance of the difference of two means, and its degrees of freedom (B. L. Welch, Biometrika 34, 1947)."""
    part_a, part_b = float(a.var(ddof=1)) / len(a), float(b.var(ddof=1)) / len(b)
    total = part_a + part_b
    if total == 0:
        return 0.0, float(len(a) + len(b) - 2)
    return total, total**2 / (part_a**2 / (len(a) - 1) + part_b**2 / (len(b) - 1))


def table(differences: Iterable[Difference]) -> pd.DataFrame:
    """The comparison as `plots.plot_forest` wants it: by metric difference, low, high, verdict, a, b (as texts), n."""
    rows = {}
    for found in differences:
        unit = unit_of(found.metric)
        rows[found.metric] = {
            "difference": _or_nan(found.relative),
            "low": _or_nan(found.low),
            "high": _or_nan(found.high),
            "verdict": found.verdict,
            "a": unit(found.a),
            "b": unit(found.b),
            "n": found.n,
        }
    columns = ["difference", "low", "high", "verdict", "a", "b", "n"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("metric")


def readable(frame: pd.DataFrame, a: str, b: str) -> pd.DataFrame:
    """`table` with texts only: both figures, difference, interval, n, verdict."""
    return pd.DataFrame(
        {
            a: frame["a"],
            b: frame["b"],
            "difference": [signed(value) for value in frame["difference"]],
            "95 % interval": [
                NONE if math.isnan(low) else f"{signed(low)} to {signed(high)}"
                for low, high in zip(frame["low"], frame["high"], strict=True)
            ],
            "n": frame["n"].astype(str),
            "verdict": frame["verdict"],
        }
    )


def signed(share: float) -> str:
    """A relative difference: `+4.2 %`, `−12 %`, `±0 %`."""
    if math.isnan(share):
        return NONE
    return ("+" if share > 0 else "−" if share < 0 else "±") + percent(abs(share))


def headline(differences: Iterable[Difference]) -> str:
    """One line: how many metrics are worse, better, the same, undecided."""
    counts = Counter(found.verdict.partition(":")[0] for found in differences)
    return ", ".join(f"{counts[word]} {word}" for word in ("worse", "better", "same", "undecided") if counts[word])


def to_markdown(differences: list[Difference], a: str, b: str, band: float = BAND) -> str:
    """For a pull request: heading with the verdict, table, and what the words mean."""
    body = markdown(readable(table(differences), a, b))
    note = f"Less is better (delivery_ratio: more). Within ± {percent(band)} counts as the same; intervals by batches of updates."
    return f"### `{b}` against `{a}`: {headline(differences)}\n\n{body}\n\n{note}\n"


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def jsonable(difference: Difference) -> dict[str, Any]:
    """A difference for JSON: what is not finite becomes None."""
    return {
        name: statistics.finite(value) if isinstance(value, float) else value
        for name, value in dataclasses.asdict(difference).items()
    }
