"""Theory, both engines and the load test on the same scenarios: how far they are apart, and where that begins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from sim.errors import BadInput
from sim.policy import Debounce, Policy
from sim.results import text
from sim.results.answers.report import updates_of
from sim.results.run import Run
from sim.results.summary import summarise
from sim.results.text import Summary
from sim.scenario import Scenario, to_dict
from sim.study import FAMILIES, NO_TIME, dashboards
from sim.virtual import fleet, reference
from sim.virtual.theory import herd_fresh_mean, herd_response_mean, predict, trailing_delay_mean
from sim.workload import Poisson

METRICS = {
    "fan_out.last.p50": "last receiver, p50",
    "time_to_fresh.p50": "fresh, p50",
    "time_to_fresh.p95": "fresh, p95",
    "time_to_fresh.mean": "fresh, mean",
    "refetches_per_update": "refetches per update",
}


def split(runs: Iterable[Run]) -> tuple[list[Run], list[Run]]:
    """(measured, simulated). Raises `BadInput` where nothing was measured."""
    found = list(runs)
    measured = [run for run in found if run.manifest.source == "measured"]
    if not measured:
        raise BadInput("no measured run among these (workbench loadtest makes one; workbench report SIMULATED MEASURED)")
    return measured, [run for run in found if run.manifest.source == "simulated"]


def simulate(runs: Iterable[Run], fitted: Mapping[str, Any]) -> dict[str, dict[str, Summary]]:
    """By run its summaries with the *fitted* parameters: `reference`; and of the same without a save that waits, where the fleet
    engine is exact then, `fleet` and `event by event`.

    Each simulation meets the very updates that the run committed.
    """
    found = {}
    for run in runs:
        scenario, updates = run.scenario.replace(fitted), updates_of(run)
        engines: dict[str, Summary] = {"reference": summarise(reference.run(scenario, updates=updates), scenario)}
        # What waits for a worker to be saved feeds back; without that both engines can be asked.
        plain = scenario.replace({"api.save": 0.0})
        if not fleet.supports(plain):
            engines["fleet"] = fleet.run(plain, updates=updates).summary()
            engines["event by event"] = (
                engines["reference"] if plain == scenario else summarise(reference.run(plain, updates=updates), plain)
            )
        found[run.name] = engines
    return found


def predictions(
    made: Mapping[str, Mapping[str, Summary]], measured: Iterable[Run], given: Iterable[Run] = ()
) -> dict[str, Summary]:
    """By measured run what is predicted of it: by the *given* simulated run of the same scenario, else as `simulate` made it."""
    own = {run.scenario.name: run.summary for run in given}
    return {run.name: own.get(run.scenario.name, made[run.name]["reference"]) for run in measured}


def table(measured: Iterable[Run], predicted: Mapping[str, Summary], metrics: Mapping[str, str] = METRICS) -> pd.DataFrame:
    """Measured (with interval) and predicted, one row per run and metric: measured, low, high, predicted, off, group, run."""
    rows = {}
    for run in measured:
        for metric, words in metrics.items():
            ours, theirs = run.summary.get(metric, {}), predicted[run.name].get(metric, {})
            value, expected = ours.get("value"), theirs.get("value")
            if value is None or not expected:
                continue
            rows[f"{run.name}: {words}"] = {
                "measured": value,
                "low": np.nan if ours.get("ci_low") is None else ours["ci_low"],
                "high": np.nan if ours.get("ci_high") is None else ours["ci_high"],
                "predicted": expected,
                "off": value / expected - 1,
                "group": words,
                "run": run.name,
                "unit": "1" if metric.startswith("refetches") else "s",
            }
    return pd.DataFrame.from_dict(rows, orient="index")


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """`table` as texts: measured, predicted, the interval of what was measured, off; each in its unit."""
    return text.predictions(table, [text.seconds if unit == "s" else text.number for unit in table["unit"]], "95 % interval")


def readable_sources(found: pd.DataFrame) -> pd.DataFrame:
    """`sources` as texts, each row in its unit."""
    return found.apply(lambda row: row.map(text.number if str(row.name).startswith("refetches") else text.seconds), axis=1)


def clearest(runs: Iterable[Run]) -> Run:
    """A run that every means can say something about: one with a closed form, the first otherwise."""
    some = list(runs)
    return next((run for run in some if closed_form(run.scenario)), some[0])


def apart(engines: pd.DataFrame) -> pd.DataFrame:
    """`engines` in order of the difference, to plot: figure (place), off, engine."""
    ordered = engines.sort_values("off")
    return pd.DataFrame({"figure": np.arange(1, len(ordered) + 1), "off": ordered["off"].to_numpy(), "engine": "difference"})


def sources(run: Run, made: Mapping[str, Mapping[str, Summary]]) -> pd.DataFrame:
    """One run's figures by every means there is: theory (where it has a closed form), both engines, and measured.

    Index: metric in words; columns: theory, reference, fleet, measured. Theory knows the policy only; NaN where one says nothing.
    """
    exact = closed_form(run.scenario)
    columns = {"reference": made[run.name]["reference"], "fleet": made[run.name].get("fleet", {}), "measured": run.summary}
    rows = {}
    for metric, words in METRICS.items():
        rows[words] = {"theory": exact.get(metric, np.nan)} | {name: text.value(made, metric) for name, made in columns.items()}
    return pd.DataFrame.from_dict(rows, orient="index")


def closed_form(scenario: Scenario) -> dict[str, float]:
    """`theory.predict` for a scenario of dashboards under independent updates, per page brought to all pages; empty elsewhere."""
    only = [pages for pages in scenario.pages if pages.subscribers]
    if not isinstance(scenario.workload, Poisson) or any(pages.page != "dashboard" for pages in only):
        return {}
    try:
        exact = predict(scenario.policy, scenario.workload.rate)
    except BadInput:
        return {}
    return exact | {"refetches_per_update": exact["refetches_per_update"] * scenario.subscribers}


# --- theory and the fleet engine -----------------------------------------------------------------------------------------


def exactness(loads: Iterable[float]) -> pd.DataFrame:
    """Fleet engine against closed form, over updates per wait (x = rate x wait): mean time to fresh.

    Columns: x, off (simulated / theory - 1), low, high (95 % interval), group, theory, simulated (s). Only the policy takes time.
    """
    rate, updates, rows = 10.0, 4_000, []
    for x in loads:
        for name, make in FAMILIES.items():
            policy = make(x / rate)
            exact = predict(policy, rate)["time_to_fresh.mean"]
            # A poll's delay is uniform over the interval: fewer updates say as much, and polls cost time however few those are.
            count = updates // 3 if name == "polling" else updates
            figures = fleet.run(_policy_alone(policy, rate, count)).summary()["time_to_fresh.mean"]
            value, low, high = (figures[key] for key in ("value", "ci_low", "ci_high"))
            if value is None:
                continue
            rows.append(
                {"x": x, "group": name, "theory": exact, "simulated": value, "off": value / exact - 1}
                | {"low": (low or np.nan) / exact - 1, "high": (high or np.nan) / exact - 1}
            )
    return pd.DataFrame(rows)


def _policy_alone(policy: Policy, rate: float, updates: int) -> Scenario:
    alone = dashboards("policy alone", 1, rate, updates / rate, 600.0)
    return alone.replace(NO_TIME | {"policy": to_dict(policy), "api.service": 1e-6})


def engines(made: Mapping[str, Mapping[str, Summary]]) -> pd.DataFrame:
    """Both engines on the same updates: by run and metric, reference, fleet, how far they are apart (off, relative), and the
    reference's own interval, relative to it (low, high; NaN: it has none)."""
    rows = {}
    for name, both in made.items():
        for metric, words in METRICS.items():
            mine, theirs = (both.get(engine, {}).get(metric, {}) for engine in ("event by event", "fleet"))
            one, other = mine.get("value"), theirs.get("value")
            if one and other:
                low, high = ((mine.get(end) or np.nan) / one - 1 for end in ("ci_low", "ci_high"))
                # Equal but for the order of a sum is equal.
                rows[f"{name}: {words}"] = {"reference": one, "fleet": other, "off": round(other / one - 1, 9)} | {
                    "low": low,
                    "high": high,
                }
    return pd.DataFrame.from_dict(rows, orient="index", columns=["reference", "fleet", "off", "low", "high"])


def beyond(off: pd.Series, low: pd.Series, high: pd.Series) -> pd.Series:
    """The differences *off* that lie outside their intervals, equal numbers inside; those without an interval are not judged."""
    slack = 1e-9
    return off[(off < low - slack) | (off > high + slack)]


# --- the range of the closed forms ---------------------------------------------------------------------------------------


def reach(drains: Iterable[float]) -> pd.DataFrame:
    """How far the closed forms are off as the herd grows: mean time to fresh over drain (herd's time / wait), one worker.

    `policy only` knows nothing of the application; `policy and herd` adds each page's place in the herd, as if all read at the
    fire; `and when each page reads` knows that what is answered later is read later, so shows more. Both hold until herds meet.
    Columns: drain, off (simulated / theory - 1), group, utilisation, subscribers.
    """
    rate, wait, service, updates = 0.5, 0.5, 0.001, 2500
    rows = []
    for drain in drains:
        pages = max(1, round(drain * wait / service))
        scenario = _policy_alone(Debounce(wait=wait), rate, updates).with_subscribers(pages).replace({"api.service": service})
        result = fleet.run(scenario)
        mean = result.summary()["time_to_fresh.mean"]["value"]
        forms = {"policy only": trailing_delay_mean(rate, wait)}
        if service * pages <= wait:
            forms["policy and herd"] = trailing_delay_mean(rate, wait) + herd_response_mean(pages, 1, service)
            forms["and when each page reads"] = herd_fresh_mean(rate, wait, pages, 1, service)
        for name, exact in forms.items():
            rows.append(
                {"drain": drain, "off": mean / exact - 1, "group": name, "utilisation": result.utilisation, "subscribers": pages}
            )
    return pd.DataFrame(rows)


def holds_until(frame: pd.DataFrame, group: str, band: float) -> float:
    """The largest drain up to which every residual of the group stays inside the band; NaN where not even the first does."""
    rows = frame[frame["group"] == group].sort_values("drain")
    inside = (rows["off"].abs() <= band).to_numpy()
    count = len(inside) if inside.all() else int(np.argmin(inside))
    return float(rows["drain"].iloc[count - 1]) if count else float("nan")
