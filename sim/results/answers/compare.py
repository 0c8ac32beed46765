"""Runs of one scenario, before and after: what differs, by how much, how sure that is, and whether it matters.

A difference is relative to the first side, with a 95 % interval; that of a share is in points. It is judged against a band of
equivalence: 5 % unless another is given; for shares a point, or a tenth of one where losses are counted.

    same        the whole interval lies inside the band
    better      the whole interval lies beyond the band, towards the better
    worse       the same, towards the worse
    undecided   neither: more updates are needed, and the verdict says how many

Each side is one run, or several of one scenario with different seeds. Runs that met the same updates (same seed and workload) are
compared batch by batch, so that what both share cancels. Else the batches of each side count as independent; with at least `RUNS`
runs on both sides, the runs do. Runs whose scenario, window or harness differ are refused, except in the keys that the comparison
is about.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from sim.arrays import Array
from sim.errors import BadInput
from sim.results import statistics
from sim.results.answers.sections import Section, to_markdown
from sim.results.ledger.book import Ledger, ledger_of
from sim.results.ledger.pairs import settled, too_unknown
from sim.results.run import Run
from sim.results.summary import metric_of, per_update
from sim.results.text import change, interval, number, percent, unit_of

BAND = 0.05
SHARE_BAND = 0.01
RUNS = 4
"""Runs of each side from which runs, and not batches of their updates, are the observations."""

# Keys in which scenarios may differ and still be one: they change nothing in a run.
COSMETIC = ("name", "description", "thresholds")

LATENCIES = (
    "time_to_notified.p50",
    "time_to_notified.p99",
    "time_to_fresh.mean",
    "time_to_fresh.p50",
    "time_to_fresh.p95",
    "time_to_fresh.p99",
)

STRICT = {"delivery_ratio": 0.001, "updates.failed_ratio": 0.001, "refetches.failed_ratio": 0.001}
"""Bands of their own: one per cent of lost deliveries is not "the same"."""

EVENTS_BEYOND = 10
"""Updates of a batch that must lie beyond a quantile (on its thinner side) for the batch to have one."""

TINY = 1e-12
"""Relative: figures that differ by less differ by rounding."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One figure of one run: value (None: none, inf: never), n updates, and what each batch of the run says of it."""

    value: float | None
    n: int
    parts: Array
    """Logarithms; of a share the share itself. Not finite where a batch has none."""
    per_batch: int = statistics.EVENTS_PER_BATCH
    """Updates that a batch needs to have such a figure."""
    share: bool = False
    """Differences are in points, not relative."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One metric on both sides. `relative` is b / a - 1, of a share b - a, with its 95 % interval; None where a side has no
    finite figure."""

    metric: str
    a: float | None
    b: float | None
    n: int
    relative: float | None
    low: float | None
    high: float | None
    verdict: str
    share: bool = False


def compare(a: Run | Sequence[Run], b: Run | Sequence[Run], band: float = BAND, varied: Collection[str] = ()) -> list[Difference]:
    """Differences of b against a, one per metric. Raises `BadInput` when they cannot be compared (see `refuse`)."""
    before, after = ([side] if isinstance(side, Run) else sorted(side, key=lambda run: run.manifest.seed) for side in (a, b))
    first = before[0]
    for other in (*before[1:], *after):
        # Runs of one side differ in their seeds only.
        refuse(first, other, (*(varied if other in after else ()), "seed"))
    seeds = [[run.manifest.seed for run in side] for side in (before, after)]
    paired = seeds[0] == seeds[1] and all(
        ours.scenario.workload == theirs.scenario.workload for ours, theirs in zip(before, after, strict=True)
    )
    same = paired and [run.manifest.run_id for run in before] == [run.manifest.run_id for run in after]
    ours, theirs = ([measured(run) for run in side] for side in (before, after))
    return [
        judge(metric, [run[metric] for run in ours], [run[metric] for run in theirs], band, paired, same)
        for metric in ours[0]
        if all(metric in run for run in (*ours, *theirs))
    ]


def where_comparable(a: Run, b: Run, varied: Collection[str] = ()) -> tuple[list[Difference], str]:
    """`compare`, and an empty text; or no differences, and why they cannot be compared. A run is not compared with itself."""
    if a.manifest.run_id == b.manifest.run_id:
        return [], ""
    try:
        return compare(a, b, varied=varied), ""
    except BadInput as error:
        return [], f"not compared: {str(error).partition(' (')[0]}"


def refuse(a: Run, b: Run, varied: Collection[str] = ()) -> None:
    """Raise `BadInput` when the runs cannot be compared: the message names what differs. *varied*: dotted keys that may."""
    differing = [
        key
        for key in differing_keys(a.manifest.scenario, b.manifest.scenario)
        if not any(f"{key}.".startswith(f"{allowed}.") for allowed in varied)
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
    (start_a, end_a, _), (start_b, end_b, _) = (ledger_of(run).window for run in (a, b))
    if not math.isclose(end_a - start_a, end_b - start_b, rel_tol=0.02) and "duration" not in varied:
        raise BadInput(
            f"windows differ: {a.name} counts {end_a - start_a:.1f} s, {b.name} {end_b - start_b:.1f} s (--vary duration)"
        )
    stamps = [run.manifest.harness.get("receive_stamp") for run in (a, b)]
    if stamps[0] != stamps[1] and "source" not in varied and "harness" not in varied:
        raise BadInput(
            f"harnesses differ: arrivals are stamped by {stamps[0]} in {a.name}, by {stamps[1]} in {b.name} (--vary harness)"
        )


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
    ledger = ledger_of(run)
    counted = ledger.counted
    found = dict(_latencies(ledger))
    sent = ledger.refetches
    weight = sent["weight"].to_numpy(dtype=float)
    each = np.ones(len(counted))
    for metric, amount in (
        ("refetches_per_update", weight),
        ("bytes_per_update", weight * sent["bytes"].to_numpy(dtype=float)),
    ):
        found[metric] = _sum_per(per_update(amount, sent, counted), each)
    found["age_of_synchronisation.mean"], found["stale_ratio"] = _over_time(ledger)
    pairs, expected = settled(ledger.pairs), ledger.expected
    found["starved_ratio"] = _share(pairs["update"], pairs["weight"], (pairs["fate"] == "never").to_numpy(bool))
    found["delivery_ratio"] = _share(expected["update"], expected["weight"], expected["received_at"].notna().to_numpy(bool))
    failed = per_update(weight * (sent["outcome"] == "failed").to_numpy(bool), sent, counted)
    found["refetches.failed_ratio"] = _sum_per(failed, per_update(weight, sent, counted), share=True)
    found["updates.failed_ratio"] = _sum_per((counted["status"].astype(str) == "failed").to_numpy(dtype=float), each, share=True)
    return found


def _latencies(ledger: Ledger) -> Iterator[tuple[str, Measured]]:
    pairs, expected = settled(ledger.pairs), ledger.expected
    rows = {"time_to_notified": expected[expected["received_at"].notna()], "time_to_fresh": pairs}
    for metric in LATENCIES:
        stem, _, figure = metric.rpartition(".")
        values, events, weight = (rows[stem][column].to_numpy() for column in ("delay", "update", "weight"))
        if figure == "mean":
            _, event = np.unique(events, return_inverse=True)
            yield metric, _sum_per(np.bincount(event, values * weight), np.bincount(event, weight))
            continue
        p = float(figure.removeprefix("p")) / 100
        need = max(statistics.EVENTS_PER_BATCH, round(EVENTS_BEYOND / min(p, 1 - p)))
        cuts = statistics.batches(events, min(statistics.BATCHES, len(np.unique(events)) // need))
        logs = _logs(statistics.quantile(values[batch], p, weight[batch]) for batch in cuts)
        yield metric, Measured(statistics.quantile(values, p, weight), len(np.unique(events)), logs, need)


def _sum_per(numerator: Array, denominator: Array, share: bool = False) -> Measured:
    """A ratio of two sums, both given per event, and its logarithm (of a *share* itself) linearised over batches of events."""
    n, total = len(numerator), float(denominator.sum())
    if not total:
        return Measured(None, n, np.array([]), share=share)
    value = float(numerator.sum()) / total
    cuts = statistics.batches(np.arange(n))
    if not cuts or not math.isfinite(value) or (value <= 0 and not share):
        return Measured(value, n, np.array([]), share=share)
    top, bottom = (np.array([column[rows].sum() for rows in cuts], dtype=float) for column in (numerator, denominator))
    if share:
        return Measured(value, n, statistics.linearised(top, bottom), share=True)
    return Measured(value, n, math.log(value) + top / top.mean() - bottom / bottom.mean())


def _share(event: pd.Series, weight: pd.Series, counts: Array) -> Measured:
    """The weighted share of rows that count, by batches of events."""
    _, number = np.unique(event.to_numpy(), return_inverse=True)
    each = weight.to_numpy(dtype=float)
    return _sum_per(np.bincount(number, each * counts), np.bincount(number, each), share=True)


def _logs(parts: Iterable[float | None]) -> Array:
    """Logarithms; not finite where a batch has nothing to take one of."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(np.array([np.nan if part is None else part for part in parts], dtype=float))


def _over_time(ledger: Ledger) -> tuple[Measured, Measured]:
    """Age of synchronisation and share of time stale, by equal parts of the window."""
    start, end, _ = ledger.window
    n = len(ledger.counted)
    behind, stale, observed, unknown = [], [], [], 0.0
    for low, high in pairwise(np.linspace(start, end, statistics.BATCHES + 1)):
        pages = ledger.staleness(low, high)
        weight = pages["weight"].to_numpy(dtype=float)
        known = float(((pages["observed"] - pages["unknown"]) * weight).sum())
        unknown += float((pages["unknown"] * weight).sum())
        if known > 0:
            behind.append(float((pages["behind"] * weight).sum()))
            stale.append(float((pages["stale"] * weight).sum()))
            observed.append(known)
    if not observed or too_unknown(unknown, sum(observed) + unknown):
        return Measured(None, n, np.array([])), Measured(None, n, np.array([]), share=True)
    total = sum(observed)
    ages = _logs(part / of for part, of in zip(behind, observed, strict=True))
    shares = statistics.linearised(np.array(stale), np.array(observed))
    return Measured(sum(behind) / total, n, ages), Measured(sum(stale) / total, n, shares, share=True)


def judge(
    metric: str, a: Sequence[Measured], b: Sequence[Measured], band: float = BAND, paired: bool = False, same: bool = False
) -> Difference:
    """The verdict on one metric of the runs of both sides. *paired*: run by run the same updates; *same*: the very same runs.

    In a band of 5 %, an interval from -3 % to +2 % is the same, one from +6 % to +9 % is worse, and one from +1 % to +9 % is
    undecided.
    """
    share = a[0].share
    ours, theirs = _value(a), _value(b)
    n = min(sum(run.n for run in side) for side in (a, b))
    found = Difference(metric, ours, theirs, n, relative=None, low=None, high=None, verdict="", share=share)
    if ours is None or theirs is None:
        return replace(found, verdict="same: no figure in either" if same else "undecided: no figure")
    if math.isinf(ours) or math.isinf(theirs):
        verdict = "same: never" if ours == theirs else "worse: never" if math.isinf(theirs) else "better: was never"
        return replace(found, verdict=verdict)
    if same or ours == theirs == 0:
        return replace(found, verdict="same", relative=0.0, low=0.0, high=0.0)
    if not share and (ours <= 0 or theirs <= 0):
        return replace(found, verdict="undecided: no ratio to zero")
    found = replace(found, relative=theirs - ours if share else theirs / ours - 1)
    low, high = _interval(a, b, found.relative or 0.0, paired)
    if low is None or high is None:
        least = statistics.MIN_BATCHES * a[0].per_batch
        return replace(found, verdict=f"undecided: need n ≥ {number(least)} for an interval")
    found = replace(found, low=low, high=high)
    return replace(found, verdict=_verdict(found, STRICT.get(metric, SHARE_BAND if share else band)))


def _verdict(found: Difference, band: float) -> str:
    """Where the interval of a difference lies: inside the *band*, beyond it, or across its edge."""
    relative, low, high = found.relative or 0.0, found.low or 0.0, found.high or 0.0
    if -band <= low and high <= band:
        return "same"
    if low > band or high < -band:
        return "better" if (high < 0) != more_is_better(found.metric) else "worse"
    return f"undecided: need n ≈ {number(needed(found.n, relative, low, high, band))}"


def _value(side: Sequence[Measured]) -> float | None:
    """Mean over the runs; None where one has none."""
    values = [run.value for run in side]
    return None if any(value is None for value in values) else float(np.mean([value for value in values if value is not None]))


def more_is_better(metric: str) -> bool:
    known = metric_of(metric)
    return known is not None and known.more_is_better


def needed(n: int, relative: float, low: float, high: float, band: float) -> int:
    """Updates for which the interval would leave the edge of the band: its width shrinks with the root of their number.

    Rounded up to two digits; at most a thousand times what there is (a difference that sits on the edge is never decided).
    """
    room = max(abs(abs(relative) - band), 1e-9)
    factor = min(((high - low) / 2 / room) ** 2, 1000.0)
    wanted = n * max(factor, 1.1)
    unit = 10 ** max(0, math.floor(math.log10(wanted)) - 1)
    return math.ceil(wanted / unit) * unit


def _interval(a: Sequence[Measured], b: Sequence[Measured], difference: float, paired: bool) -> statistics.Interval:
    """Interval around the pooled *difference*, from the batches of both sides, or from their runs where there are `RUNS`."""
    by_runs = len(a) >= RUNS and len(b) >= RUNS
    ours, theirs = (_of_runs(side) if by_runs else np.concatenate([run.parts for run in side]) for side in (a, b))
    least = RUNS if by_runs else statistics.MIN_BATCHES
    if not all(np.isfinite(side).all() and len(side) >= least for side in (ours, theirs)):
        return statistics.UNDEFINED
    if paired and [len(run.parts) for run in a] == [len(run.parts) for run in b]:
        variance, freedom = float(np.var(theirs - ours, ddof=1)) / len(ours), len(ours) - 1.0
    else:
        variance, freedom = statistics.welch(*((float(side.var(ddof=1)) / len(side), len(side)) for side in (ours, theirs)))
    half = statistics.student(freedom) * math.sqrt(variance)
    half = 0.0 if half < TINY else half
    if a[0].share:
        return difference - half, difference + half
    # Observations are logarithms: their difference is that of a ratio.
    centre = math.log1p(difference)
    return math.expm1(centre - half), math.expm1(centre + half)


def _of_runs(side: Sequence[Measured]) -> Array:
    """The figure of each run as an observation: its logarithm, or the share itself."""
    values = [run.value for run in side]
    return np.array(values, dtype=float) if side[0].share else _logs(values)


def table(differences: Iterable[Difference]) -> pd.DataFrame:
    """The comparison as `plots.plot_forest` wants it: by metric difference, low, high, verdict, a, b (as texts), n, share."""
    columns = [field.name for field in dataclasses.fields(Difference)]
    frame = pd.DataFrame(map(dataclasses.astuple, differences), columns=columns).set_index("metric")
    texts = {side: [unit_of(str(metric))(value) for metric, value in frame[side].items()] for side in ("a", "b")}
    numbers = dict.fromkeys(("difference", "low", "high"), float)
    return frame.assign(**texts).rename(columns={"relative": "difference"}).astype(numbers)


def readable(frame: pd.DataFrame, a: str, b: str) -> pd.DataFrame:
    """`table` with texts only: both figures, difference, interval, n, verdict."""
    units = [partial(change, share=share) for share in frame["share"]]
    ends = zip(frame["low"], frame["high"], units, strict=True)
    return pd.DataFrame(
        {
            a: frame["a"],
            b: frame["b"],
            "difference": [unit(value) for unit, value in zip(units, frame["difference"], strict=True)],
            "95 % interval": [interval(low, high, unit) for low, high, unit in ends],
            "n": frame["n"].astype(str),
            "verdict": frame["verdict"],
        }
    )


NAMED = 3
"""Metrics that the headline names, of those that became worse and of those that became better."""


def headline(differences: Iterable[Difference]) -> str:
    """One sentence: what changed and by how much, worse first, largest first; and how many metrics did not, or are undecided."""
    by: dict[str, list[Difference]] = {"worse": [], "better": [], "same": [], "undecided": []}
    for found in differences:
        by[found.verdict.partition(":")[0]].append(found)
    parts = []
    for word in ("worse", "better"):
        ranked = sorted(by[word], key=lambda found: -abs(found.relative) if found.relative is not None else -math.inf)
        named = ", ".join(_change(found) for found in ranked[:NAMED])
        more = f" and {len(ranked) - NAMED} more" if len(ranked) > NAMED else ""
        if named:
            parts.append(f"{word}: {named}{more}")
    parts += [f"{len(by[word])} {word}" for word in ("same", "undecided") if by[word]]
    return ("; " if by["worse"] or by["better"] else ", ").join(parts)


def _change(found: Difference) -> str:
    unit = unit_of(found.metric)
    step = "" if found.relative is None else f" {change(found.relative, found.share)}"
    return f"{found.metric}{step} ({unit(found.a)} → {unit(found.b)})"


OF_BOTH_SOURCES = (
    "A simulated run has the costs of the machines and the sizes of the answers that its scenario names, a measured run those of "
    "its target: until `workbench fit` has taken them from the measured run, what differs can be these alone."
)


def written(differences: list[Difference], a: str, b: str, band: float = BAND, *, of_both_sources: bool = False) -> str:
    """Markdown for a pull request: the verdict in one sentence, what its words mean, and the table. *of_both_sources*: simulated
    runs are compared with measured ones."""
    note = (
        f"Less is better (delivery_ratio: more). A difference within ± {percent(band)} counts as the same; that of a share "
        "within a point, or a tenth of one where losses are counted. Intervals are from batches of updates, or from runs."
    )
    notes = (note, OF_BOTH_SOURCES) if of_both_sources else (note,)
    return to_markdown([Section(f"`{b}` against `{a}`: {headline(differences)}", notes, readable(table(differences), a, b))])


def jsonable(difference: Difference) -> dict[str, Any]:
    """A difference for JSON: what is not finite becomes None."""
    return {
        name: statistics.finite(value) if isinstance(value, float) else value
        for name, value in dataclasses.asdict(difference).items()
    }
