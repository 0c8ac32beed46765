"""Parameters of a target from measured runs, with intervals: what can be told apart is fitted, what cannot is named.

`samples` says what is read of a run, `estimates` how a value is made of it. Intervals and joint draws: bootstrap of events within
each run, and of blocks of successive answers and of samples of the processors' time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from sim.arrays import Array
from sim.distributions import Distribution
from sim.errors import BadInput
from sim.prediction import estimates
from sim.prediction.estimates import COMPOSE, MEMORY, MIN_ANSWERS, MIN_EVENTS, Estimates, estimate
from sim.prediction.observations import Observed
from sim.prediction.parameters import PROCESSES, REST, Fit, Parameter
from sim.prediction.predict import residuals
from sim.prediction.samples import BREADTH, RunSample, sample_of
from sim.results.answers.report import updates_of
from sim.results.run import Run
from sim.scenario import Scenario, to_dict

DRAWS = 100
KEPT = 30
"""Of the draws, as many are kept in the fit: a prediction takes some twenty."""
SURE = (0.025, 0.975)
MORE = 4
"""A run that is to tell a slope has this many times the subscribers."""


def fit(observed: Sequence[Observed], draws: int = DRAWS, seed: int = 0) -> Fit:
    """Everything that the runs identify, and by name what they do not. Raises `BadInput` where they have too little of all.

    *draws*: joint draws that the intervals are made from.
    """
    rng = np.random.default_rng(seed)
    samples, workers = _by_workers([sample_of(one) for one in observed], draws, rng)
    best = estimate(samples, resting=estimates.RESTING)
    if not best.values:
        names = ", ".join(one.name for one in observed)
        raise BadInput(
            f"{names}: too few events alone and too few answers to fit anything to (at least {MIN_EVENTS} or {MIN_ANSWERS})"
        )
    windows = estimates.windows_of(observed)
    drawn = _draws(samples, windows, best, draws, rng)

    def least(key: str) -> float:
        return float(np.quantile([row[key] for row in drawn], SURE[0]))

    # What cannot be told from none is none, which is the better guess; the draws of a slope go from none upwards.
    slope = best.values.get(COMPOSE, 0.0)
    less = slope if slope > 0 and best.slope_known and least(COMPOSE) <= 0 else 0.0
    resting = [key for key in estimates.RESTING if REST + key in best.values and least(REST + key) > 0]
    best = estimate(samples, less=less, resting=resting)
    drawn = _draws(samples, windows, best, draws, rng, less)
    values = best.values | estimates.processors(windows)
    counts = best.n | {f"cpu.{process}": len(rows) for process, rows in windows.items()}
    parameters = [_parameter(key, value, drawn, counts, observed) for key, value in values.items()]
    parameters += workers + _memory(observed)
    parameters += _unidentified({parameter.key for parameter in parameters}, best, drawn, observed)
    found = Fit(
        parameters=tuple(sorted(parameters, key=lambda p: (not p.identified, p.key.startswith(PROCESSES)))),
        scenario=to_dict(observed[0].scenario),
        draws=tuple({key: _toml(value) for key, value in row.items()} for row in drawn[:KEPT]),
        ranges=_ranges(observed),
        runs=tuple(_card(one) for one in observed),
        target=_target(observed[0]),
    )
    runs = [(one.name, one.scenario, updates_of(one.run), one.summary) for one in observed]
    return replace(found, residuals=residuals(found, runs))


def _by_workers(samples: list[RunSample], draws: int, rng: np.random.Generator) -> tuple[list[RunSample], list[Parameter]]:
    """The samples, and `api.workers`: the scenario's, or where the runs contradict it, the most that they allow.

    Own times are read again with each number. Only fewer can be told: the bound is too high where requests share a processor, or
    where an application that was idle is cold.
    """
    n = sum(len(sample.service["own"]) for sample in samples)
    given = {sample.workers for sample in samples if len(sample.service["own"])}
    if n < MIN_ANSWERS or len(given) != 1:
        return samples, []
    value = stated = given.pop()
    while value > 1 and (bound := estimates.workers_at_most(samples)) is not None and bound < value - 0.5:
        again = [estimates.workers_at_most([sample.resampled(rng) for sample in samples]) for _ in range(draws)]
        known = [one for one in again if one is not None]
        if not known or np.quantile(known, SURE[1]) >= value - 0.5:
            break
        value -= 1
        samples = [sample_of(sample.observed, value) for sample in samples]
    made_from = "the scenario: own times are those of this many workers"
    if value < stated:
        made_from = f"what is done at once where jobs wait (the scenario has {stated})"
    return samples, [Parameter("api.workers", value, made_from=made_from, n=n)]


def _draws(
    samples: Sequence[RunSample],
    windows: dict[str, Array],
    best: Estimates,
    draws: int,
    rng: np.random.Generator,
    less: float = 0.0,
) -> list[dict[str, Any]]:
    """Estimates of resampled runs: key -> value, joint."""
    drawn = []
    for _ in range(draws):
        share = None if best.slope_known else float(rng.random())
        again = estimate([sample.resampled(rng) for sample in samples], best, share, less).values
        resampled = {process: rows[rng.integers(len(rows), size=len(rows))] for process, rows in windows.items()}
        drawn.append(again | estimates.processors(resampled))
    return drawn


def _toml(value: Any) -> Any:
    """As TOML holds it."""
    return to_dict(value) if isinstance(value, Distribution) else value


def _number(value: Any) -> float:
    return value.mean() if isinstance(value, Distribution) else float(value)


CHOICES = ("broadcaster.answer", "broadcaster.nagle", "network.to_subscriber", "api.save_workers", "api.save_lock")
"""What has no interval: choices, and what the runs were given."""

MADE_FROM = {
    "broadcaster.per_subscriber": "first to last receiver, over the writes between them",
    "broadcaster.compose_per_subscriber": "commit to first receiver, slope over the size of the fan-out",
    "broadcaster.fixed": "last receiver of an event to the first of one that waited for it",
    "broadcaster.nagle": "whether events soon after another waited for an acknowledgement",
    "broadcaster.answer": "place of the publish's answer between first and last receiver",
    "network.to_subscriber": "floor of the calibration: both ends are on one machine",
    "network.to_broadcaster": "commit to first receiver, less what the broadcaster takes",
    "api.service": "arrivals and departures of the queue",
    "api.service_per_row": "own times of pages of different lengths",
    "api.save": "commits, from when a worker was free",
    "api.save_workers": "changes that were committed while refetches from before them still waited",
    "api.save_lock": "as changes with workers of their own are read: one after another",
    "api.answer_bytes": "mean of pages of one resource",
    "api.dashboard_bytes": "mean of dashboards, less their rows",
    "api.answer_bytes_per_row": "dashboards of different lengths",
    "api.not_modified_bytes": "mean of answers that nothing has changed",
}


def unit_of(key: str) -> str:
    if key.startswith(REST):
        return ""
    if "bytes" in key or key.startswith("memory"):
        return "bytes"
    return "" if key in ("api.workers", *CHOICES) and key != "network.to_subscriber" else "s"


def _parameter(
    key: str, value: Any, drawn: list[dict[str, Any]], counts: dict[str, int], observed: Sequence[Observed]
) -> Parameter:
    low = high = None
    if found := [_number(row[key]) for row in drawn if key in row and key not in CHOICES]:
        # The value is possible whatever the draws are: where nothing tells how it is divided, it lies at their end.
        low, high = np.quantile(found, SURE).tolist()
        low, high = min(low, _number(value)), max(high, _number(value))
    made_from = MADE_FROM.get(key, "")
    if key.startswith(REST):
        made_from = "power of the time since the change before, with which it grows: caches cool, cores sleep"
    if key.startswith(PROCESSES):
        local = observed[0].floor is not None
        made_from = "samples of its processor time" + (" (on loopback: the receivers' share is in it)" if local else "")
    n = counts.get(key, counts.get(key.rpartition(".")[0], 0))
    return Parameter(key, _toml(value), low, high, unit_of(key), made_from=made_from, n=n)


def _memory(observed: Sequence[Observed]) -> list[Parameter]:
    """Of the broadcaster's processes, by the most that they held."""
    found, n = estimates.memory(observed, SURE[1]), len(observed)
    return [Parameter(key, *ends, "bytes", made_from="most memory of each run, by its pages", n=n) for key, ends in found.items()]


def _unidentified(
    known: set[str], point: Estimates, drawn: list[dict[str, Any]], observed: Sequence[Observed]
) -> list[Parameter]:
    """What the runs do not tell, each with the run that would."""
    largest = max(one.subscribers for one in observed)
    sampled = any(one.ledger.sampled for one in observed)
    by_routes = observed[0].scenario.publisher.via == "routes"
    needs = {
        "broadcaster.per_subscriber": f"{MIN_EVENTS} events to {BREADTH} subscribers or more (more updates, more pages)",
        COMPOSE: f"add a run with {MORE * largest:,} subscribers: with one size it cannot be told apart from "
        "network.to_broadcaster",
        "broadcaster.fixed": "a run in which events wait for one another (workload.rate higher); until then it is part of "
        "network.to_broadcaster",
        "broadcaster.answer": f"changes whose answers are noted (broadcast.dispatch = 'now'), to {BREADTH} subscribers or more",
        "api.service": "a run with "
        + ("rows of all pages (load.probes off): a sample tells nothing of a queue" if sampled else f"{MIN_ANSWERS} refetches"),
        "api.save": f"a run with {MIN_ANSWERS} changes"
        if by_routes
        else "a run whose changes the application makes (publisher.via = 'routes')",
        "network.to_api": "no run does: the ways to and from the application are part of what a refetch takes",
        MEMORY[1]: f"three runs or more with the target on this machine, one with {MORE * largest:,} subscribers",
    }
    if "api.dashboard_bytes" in known:
        needs["api.answer_bytes_per_row"] = "a run with more servers on a dashboard (fleet.servers_per_user)"
    found = []
    for key, words in needs.items():
        if key in known and (key != COMPOSE or point.slope_known):
            continue
        bounds = [_number(row[key]) for row in drawn if key in row]
        low, high = (min(bounds), max(bounds)) if bounds else (None, None)
        found.append(Parameter(key, low=low, high=high, unit=unit_of(key), identified=False, needs=words))
    return found


def _ranges(observed: Sequence[Observed]) -> dict[str, tuple[float, float]]:
    """Least and most of what was measured."""
    columns: dict[str, list[float]] = {"subscribers": [], "rate": [], "receivers": [], "refetch_rate": []}
    for one in observed:
        columns["subscribers"].append(float(one.subscribers))
        columns["rate"].append(len(one.ledger.counted) / one.seconds if one.seconds else 0.0)
        columns["receivers"] += one.events["receivers"].tolist()
        peak = one.summary.get("refetch_rate.peak", {}).get("value")
        columns["refetch_rate"].append(float(peak or 0.0))
    return {key: (min(column), max(column)) for key, column in columns.items() if column}


def _card(one: Observed) -> dict[str, Any]:
    return {
        "name": one.name,
        "run_id": one.run.manifest.run_id,
        "subscribers": one.subscribers,
        "updates": len(one.ledger.counted),
        "seconds": one.seconds,
    }


def _target(one: Observed) -> dict[str, Any]:
    host = one.run.manifest.host
    broadcaster = one.scenario.broadcaster
    return {
        "machine": f"{host.get('system', '?')}, {host.get('machine', '?')}, {host.get('cores', '?')} cores",
        "broadcaster": broadcaster.model,
        "nodes": broadcaster.nodes,
        "workers": one.scenario.api.workers,
        "loopback": one.floor is not None,
    }


def point(run: Run, *prefixes: str) -> dict[str, Any]:
    """Key -> value, as TOML holds it, of what one run identifies, without intervals; of keys that begin with one of *prefixes*.

    The run may be simulated, or too short for some: what it does not tell is not among them.
    """
    sample = sample_of(Observed(run))
    found = {"api.workers": sample.workers} if len(sample.service["own"]) >= MIN_ANSWERS else {}
    return {key: _toml(value) for key, value in (found | estimate([sample]).values).items() if key.startswith(prefixes)}


def fitted(run: Run, *prefixes: str) -> Scenario:
    """The run's scenario with `point` in place. Raises `BadInput` where the run identifies none of it."""
    found = point(run, *prefixes)
    if not found:
        raise BadInput(f"{run.name} has too few events and refetches to fit {', '.join(prefixes)} to")
    return run.scenario.replace(found)
