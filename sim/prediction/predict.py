"""The simulator with fitted parameters: every figure with an interval, and how far outside the measured range it lies.

A figure is the median of some runs, each with a joint draw of the parameters (`Fit.drawn`) and random numbers of its own. Its
interval is that of *one further run on the target*, so three things are in it, on a scale of logarithms:

    the draws     their spread: parameters that are not known better, and what differs from run to run
    the misfit    how far the simulator, with the point values, is from the fitted runs themselves (`Fit.residuals`)
    the reach     the misfit is taken to grow by itself with each doubling beyond the sizes that were measured: an assumption,
                  which `sim.experiments.agreement` holds against larger runs

Processor time and memory are not simulated: they are the fitted costs times what the simulation counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sim.arrays import Array
from sim.prediction.parameters import PROCESSES, Fit, Residual
from sim.results.statistics import half_width_of_next
from sim.results.summary import Summary
from sim.results.text import value
from sim.scenario import Scenario
from sim.virtual import engines
from sim.workload import Updates

DRAWS = 20
LEVEL = 0.95

METRICS = (
    "time_to_notified.p50",
    "time_to_notified.p99",
    "fan_out.first.p50",
    "fan_out.last.p50",
    "fan_out.last.p99",
    "time_to_fresh.p50",
    "time_to_fresh.p95",
    "time_to_fresh.p99",
    "refetches_per_update",
    "bytes_per_update",
    "refetch_rate.peak",
    "refetch_time.p50",
    "refetch_time.p99",
    "starved_ratio",
    "cpu.broadcaster",
    "cpu.application",
    "cpu.harness",
    "memory.broadcaster",
)
"""What a prediction shows, where the scenario has it."""

NORMAL = 1.4826
"""Standard deviation of a normal distribution over the median of its absolute values."""


NO_MISFIT = "no fitted run has a figure of this kind: how far the model is from one is not in the interval"
RANGE = "the range of the draws: how far the model is from a run is not in it"


@dataclass(frozen=True, slots=True)
class Figure:
    """One predicted figure; inf: never."""

    value: float
    low: float
    high: float
    lacks: str = ""
    """What the interval leaves out, in words; empty: nothing that is known of."""


@dataclass(frozen=True)
class Prediction:
    """By metric its figure; *outside*: by what was measured (`Fit.ranges`) how many times beyond its end the scenario lies;
    *missing*: metrics that only some of the simulations had, and how many."""

    figures: Mapping[str, Figure]
    outside: Mapping[str, float]
    missing: Mapping[str, int]
    engine: str
    draws: int

    def mark(self, metric: str) -> str:
        """How far outside the measured range a figure lies, in words; empty: inside."""
        far = {what: factor for what, factor in self.outside.items() if what in concerns(metric)}
        if not far:
            return ""
        what, factor = max(far.items(), key=lambda item: abs(math.log(item[1])))
        return f"{factor:.3g} x the measured {WORDS[what]}"


WORDS = {
    "subscribers": "subscribers",
    "rate": "updates/s",
    "receivers": "receivers of an event",
    "refetch_rate": "refetches/s",
}


def concerns(metric: str) -> tuple[str, ...]:
    """The ranges that matter to a figure."""
    if metric.startswith(("time_to_notified", "fan_out", "cpu.broadcaster")):
        return ("receivers", "rate")
    return tuple(WORDS)


def predict(
    fit: Fit,
    scenario: Scenario,
    draws: int = DRAWS,
    updates: Updates | None = None,
    metrics: Iterable[str] = METRICS,
    kept: Collection[str] = (),
    progress: Callable[[float], None] | None = None,
) -> Prediction:
    """*scenario* (the fit's costs and delays in place of its own), *draws* times. Raises `BadInput`.

    *updates*: the very ones of a run; None: each draw has its own. *kept*: dotted keys in which the scenario is right and not the
    fit. Seeds follow from the scenario's, so that variants meet the same random numbers.
    """
    rng = np.random.default_rng(scenario.seed)
    rows: list[dict[str, float]] = []
    engine = ""
    for number in range(draws):
        values = fit.drawn(rng)
        changes = {key: value for key, value in fit.overrides(values, scenario).items() if not _is_kept(key, kept)}
        made = replace(scenario.replace(changes), seed=scenario.seed + number)
        engine, _, summary, _ = engines.run(made, updates=updates)
        rows.append(figures_of(summary, made, values))
        if progress is not None:
            progress((number + 1) / draws)
    outside = _outside(fit, rows, scenario)
    columns = {metric: np.array([row[metric] for row in rows if metric in row]) for metric in metrics}
    found = {
        metric: _figure(column, _misfit(fit, metric, scenario.subscribers))
        for metric, column in columns.items()
        if len(column) == draws
    }
    missing = {metric: len(column) for metric, column in columns.items() if 0 < len(column) < draws}
    return Prediction(found, outside, missing, engine, draws)


def _is_kept(key: str, kept: Collection[str]) -> bool:
    return any(key == name or key.startswith(f"{name}.") or name.startswith(f"{key}.") for name in kept)


def figures_of(summary: Summary, scenario: Scenario, values: Mapping[str, Any]) -> dict[str, float]:
    """Metric -> value (inf: never; without what has none), and processors' time and memory by the costs among *values*."""
    found = {metric: known for metric in summary if not math.isnan(known := value(summary, metric))}
    seconds = max(scenario.duration, 1e-9)
    counts = {
        "second": seconds,
        "event": found.get("updates", 0.0),
        "delivery": found.get("deliveries.received", 0.0),
        "refetch": found.get("refetch_rate.mean", 0.0) * seconds,
        "process": scenario.broadcaster.nodes,
        "subscriber": scenario.subscribers,
    }
    for key, cost in values.items():
        if key.startswith(PROCESSES):
            figure, _, per = key.rpartition(".per_")
            share = 1 / seconds if key.startswith("cpu.") else 1.0
            found[figure] = found.get(figure, 0.0) + float(cost) * counts[per] * share
    return found


def residuals(fit: Fit, runs: Sequence[tuple[str, Scenario, Updates, Summary]]) -> tuple[Residual, ...]:
    """Each fitted run (name, scenario, updates, summary) again with the point values: what the model does not say of it."""
    found = []
    for name, scenario, updates, measured in runs:
        made = fit.apply(scenario)
        again = figures_of(engines.run(made, updates=updates).summary, made, fit.identified)
        for metric in METRICS:
            seen, fitted = value(measured, metric), again.get(metric, math.nan)
            if seen and fitted and math.isfinite(seen) and math.isfinite(fitted):
                found.append(Residual(name, metric, seen, fitted, scenario.subscribers))
    return tuple(found)


def _family(metric: str) -> str:
    """Metrics whose misfits are pooled: those of one part of the model (fan-out, application, processors), and of the middle or
    the tail; counts each for itself."""
    if metric.startswith(PROCESSES):
        return metric.partition(".")[0]
    figure = metric.rpartition(".")[2]
    if figure not in ("p50", "mean", "p95", "p99", "max"):
        return metric
    part = "fan-out" if metric.startswith(("time_to_notified", "fan_out")) else "application"
    return f"{part}, {'middle' if figure in ('p50', 'mean') else 'tail'}"


def _misfit(fit: Fit, metric: str, subscribers: int) -> float | None:
    """Standard error, of the logarithm, of what the model leaves out, at a size; None where nothing is known of it."""
    alike = [row for row in fit.residuals if _family(row.metric) == _family(metric)]
    if not alike:
        return None
    # The median, not the mean square: one bad minute of one run is not the model's.
    error = NORMAL * float(np.median([abs(math.log(row.fitted / row.measured)) for row in alike]))
    sizes = [max(row.subscribers, 1) for row in alike]
    away = math.log2(max(subscribers / max(sizes), min(sizes) / max(subscribers, 1), 1.0))
    return error * math.sqrt(1 + 1 / len(set(sizes)) + away**2)


def _figure(column: Array, misfit: float | None) -> Figure:
    middle = float(np.median(column))
    if not np.isfinite(column).all() or (column <= 0).any():
        return Figure(middle, float(column.min()), float(column.max()), RANGE)
    half = half_width_of_next(np.log(column), LEVEL, misfit or 0.0)
    return Figure(middle, middle * math.exp(-half), middle * math.exp(half), NO_MISFIT if misfit is None else "")


def _outside(fit: Fit, rows: Sequence[Mapping[str, float]], scenario: Scenario) -> dict[str, float]:
    """What was measured -> how many times beyond the most (or, below 1, of the least) that was."""

    def mean(of: Callable[[Mapping[str, float]], float]) -> float:
        return float(np.mean([of(row) for row in rows]))

    here = {
        "subscribers": float(scenario.subscribers),
        "rate": mean(lambda row: row["updates"]) / max(scenario.duration, 1e-9),
        "receivers": mean(lambda row: row["deliveries.received"] / max(row["updates"], 1.0)) / scenario.broadcaster.nodes,
        "refetch_rate": mean(lambda row: row.get("refetch_rate.peak", 0.0)),
    }
    found = {}
    for what, (low, high) in fit.ranges.items():
        there = here.get(what, 0.0)
        if there > high * (1 + SLACK) and high > 0:
            found[what] = there / high
        elif 0 < there < low / (1 + SLACK):
            found[what] = there / low
    return found


SLACK = 0.1
"""By how much a scenario may lie beyond what was measured and count as inside: rates differ this much from run to run."""
