"""The answers of the report notebooks: figures in, sentences out. The first paragraph is the answer, the others its support.

No number is written here; words are chosen by what the figures say.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from sim.results.answers import choices
from sim.results.answers.choices import describe
from sim.results.fronts import cheapest_within
from sim.results.ledger.pairs import MISSING
from sim.results.ledger.stages import largest, slowest_kind
from sim.results.ledger.staleness import mean_age
from sim.results.statistics import events_needed
from sim.results.summary import level_of
from sim.results.text import Summary, capital, digits, figure, interval, is_never, number, percent, seconds, unit_of
from sim.scenario import Scenario

ON_PURPOSE = {"debounce": "the debounce (the policy's own waiting, on purpose)", "refetch": "the refetch itself"}


def start_here(run: Summary, model: Summary | None, steps: pd.DataFrame) -> tuple[str, ...]:
    """One update's journey: how long, where the time goes, what it costs, and whether the simulator agrees.

    *model*: the same updates simulated; None where the run is a simulation itself.
    """
    half, most = "time_to_fresh.p50", "time_to_fresh.p95"
    if not _known(run, half):
        return nothing_to_say(run), _delivered(run)
    where = ""
    if found := largest(steps):
        shown = " of those that were shown" if run["pairs.never"]["value"] else ""
        where = f" {percent(found[1])} of the mean time{shown} is {ON_PURPOSE.get(found[0], f'the {found[0]}')}."
    sentence = (
        "More than half of the changes were not on a page when the run ended"
        if is_never(run[half])
        else f"Half of all changes are on a page {_within(run, half)}, nineteen in twenty {_within(run, most)}"
    )
    few = ", too few to say how sure" if run[half]["n"] < events_needed(0.5) else ""
    first = f"{sentence} ({_updates(run, half)}{few}).{_failed(run)}{where}"
    cost = f"An update costs {figure(run, 'refetches_per_update')} refetches over all pages"
    let = let_through(run)
    support = " ".join(
        (
            _sureness(run, half, most),
            _delivered(run),
            f"{cost}; {percent(let)} of the notifications lead to one." if let is not None else f"{cost}.",
        )
    )
    if model is None:
        return first, support
    if not _known(model, half):
        return first, support, "The simulator, given the same updates, has no such figures."
    agreement = (
        f"The simulator, given the same updates and not fitted to this run, says {figure(model, half)} and {figure(model, most)} "
        f"for the same two figures, and {figure(model, 'refetches_per_update')} refetches per update{_apart(run, model)}."
    )
    return first, support, agreement


def _known(run: Summary, metric: str) -> bool:
    """Whether there is such a figure; *never* is one."""
    row = run.get(metric)
    return row is not None and (row["value"] is not None or is_never(row))


def _within(run: Summary, metric: str) -> str:
    """`within 936 ms`; a figure that is never has no end in the run."""
    return "not before the run ends" if is_never(run[metric]) else f"within {figure(run, metric)}"


def _updates(run: Summary, metric: str = "") -> str:
    """How many updates there were, and how many of them a figure is of."""
    count = run["updates"]["value"] or 0
    n = run[metric]["n"] if metric else count
    return f"{number(n)} of {number(count)} updates" if n != count else "one update" if count == 1 else f"{number(count)} updates"


def _failed(run: Summary) -> str:
    """A sentence on failed updates, since they are in no latency; empty without any."""
    failed = run["updates.failed"]["value"] or 0
    return f" {number(failed)} of {_updates(run)} failed and {'is' if failed == 1 else 'are'} in no time." if failed else ""


def nothing_to_say(run: Summary) -> str:
    """Why there is no figure of freshness."""
    if not run["updates"]["value"]:
        return "Nothing changed in this run, so it says nothing about freshness."
    owed, unknown, left = (run[f"pairs.{name}"]["value"] or 0 for name in ("owed", "unknown", "left"))
    if not owed:
        failed = run["updates.failed"]["value"] or 0
        why = f"{number(failed)} of {_updates(run)} failed" if failed else "no page shows what changed"
        return f"No page had a change to show ({why}), so this run says nothing about freshness."
    if unknown:
        untold = run["deliveries.received"]["value"] and run["fan_out.last.mean"]["value"] is None
        why = "nobody says when a change was committed" if untold else f"{MISSING} is missing"
        return (
            f"Of {percent(unknown / owed)} of the pairs of update and page it is not known when the page showed the update, "
            f"because {why}. This run says nothing about freshness."
        )
    why = "all pages left before" if left == owed else "none is known"
    return f"No page is known to have shown a change ({why}), so this run says nothing about freshness."


def _delivered(run: Summary) -> str:
    """What of the deliveries arrived, and when."""
    if not run["deliveries.expected"]["value"]:
        return "No delivery was expected."
    words = f"{figure(run, 'deliveries.expected')} deliveries were expected, of which {figure(run, 'delivery_ratio')} arrived"
    if not _known(run, "time_to_notified.p50"):
        return f"{words}."
    return (
        f"{words}: half within {figure(run, 'time_to_notified.p50')}, all but a hundredth within "
        f"{figure(run, 'time_to_notified.p99')}."
    )


def _sureness(run: Summary, *metrics: str) -> str:
    """The 95 % intervals of some figures of one answer, in their order, or what they need to have one."""
    words = []
    for metric, place in zip(metrics, ("first", "second", "third"), strict=False):
        row = run[metric]
        if is_never(row):
            words.append(f"the {place} figure is longer than the run")
        elif row["ci_low"] is not None:
            words.append(f"the {place} figure lies in {interval(row['ci_low'], row['ci_high'], unit_of(metric))} (95 % interval)")
        else:
            words.append(f"the {place} figure needs {number(events_needed(level_of(metric)))} updates to have an interval")
    return f"{capital('; '.join(words))}."


def _apart(run: Summary, model: Summary) -> str:
    """How far the model's slow end lies from the run's, in words."""
    ours, theirs = (one["time_to_fresh.p95"]["value"] for one in (run, model))
    if not ours or not theirs:
        return ""
    off = theirs / ours - 1
    if abs(off) < 0.01:
        return "; at the slow end the two agree within one per cent"
    return f"; its slow end is {digits(abs(off) * 100, 2)} % too {'pessimistic' if off > 0 else 'optimistic'}"


def let_through(run: Summary) -> float | None:
    """Refetches per notification: what the policy lets through; None without notifications."""
    row = run.get("refetches_per_notification")
    return row["value"] if row else None


def steady(theory: pd.DataFrame, rate: float, wait: float) -> str:
    """What a debounce of *wait* does to independent updates at *rate*, and a window of the same wait (`study.steady`)."""
    exact = theory[(theory["source"] == "theory") & np.isclose(theory["wait"], wait)].set_index("policy")
    window = next(str(policy) for policy in exact.index if str(policy).startswith("window"))
    mean, p95 = ({policy: seconds(float(exact[name][policy])) for policy in exact.index} for name in ("mean", "p95"))
    return (
        f"Where updates come independently, {number(rate)} a second on one channel, a debounce of {seconds(wait)} shows a change "
        f"{mean['debounce']} late on average, and the slowest twentieth {p95['debounce']} late or more: it waits for a silence "
        f"that hardly ever comes. A window of the same {seconds(wait)} is {mean[window]} late on average, {p95[window]} at most."
    )


def youngest(teeth: Mapping[str, pd.DataFrame]) -> str:
    """The setting of `study.saw_teeth` whose page shows the youngest state on average."""
    ages = {name: mean_age(rows) for name, rows in teeth.items()}
    best = min(ages, key=lambda name: ages[name])
    return f"{capital(best.partition(', mean')[0])} shows the youngest state: {seconds(ages[best])} old on average"


def latest(theory: pd.DataFrame) -> str:
    """The setting of `study.steady` that is latest, and what it saves."""
    row = theory.sort_values("mean").iloc[-1]
    return f"A {row['setting']} is {seconds(row['mean'])} late on average, at {number(row['load'])} refetches per update"


def choose(front: pd.DataFrame, objective: float, customary: pd.Series, page: str) -> tuple[str, ...]:
    """Which setting: the cheapest that meets the objective on these updates, against the customary one; or that none does.

    *front*: `fronts.front` over a study's choices; *customary*: the row of `study.presets` to compare with.
    """
    best = cheapest_within(front, "refetches_per_update", "fresh_p95", objective)
    usual = (
        f"The customary {customary['policy']} keeps the slowest twentieth waiting {seconds(customary['fresh_p95'])} or longer, "
        f"at {number(customary['refetches_per_update'])} refetches per update."
    )
    if best is None:
        freshest = front.iloc[int(front["fresh_p95"].argmin())]
        return (
            f"No setting shows 95 % of the changes on a {page} within {seconds(objective)}: the freshest, {freshest['policy']}, "
            f"{freshest['setting']}, needs {seconds(freshest['fresh_p95'])}. The application is the limit, not the debounce.",
            usual,
        )
    saved = 1 - best["refetches_per_update"] / customary["refetches_per_update"]
    against = f"{percent(abs(saved))} {'fewer' if saved > 0 else 'more'} refetches than the customary {customary['policy']}"
    fresher = customary["fresh_p95"] / best["fresh_p95"]
    return (
        f"For the {page}, set {describe(best['choice'].policy)}: 95 % of changes are shown within {seconds(best['fresh_p95'])} "
        f"(objective {seconds(objective)}), at {number(best['refetches_per_update'])} refetches per update. Of the "
        f"{number(len(front))} settings tried none meets the objective with fewer.",
        f"That is {digits(fresher, 2)} times fresher at the slow end, with {against}. {usual}",
    )


def snippet(best: pd.Series | None, scenario: Scenario) -> str:
    """The chosen setting as code (`choices.snippet`); empty where none meets the objective."""
    return "" if best is None else choices.snippet(best["choice"].policy, scenario)


def held(drawn: pd.DataFrame, loaded: pd.DataFrame) -> str:
    """How many intervals of simulated and measured means meet the closed form (`study.agreement`)."""
    words = [
        f"{int(rows['holds'].sum())} of {len(rows)} {source}"
        for rows, source in ((drawn, "simulated"), (loaded, "measured"))
        if len(rows)
    ]
    return f"{' and '.join(words)} means have the closed form in their interval"


def latency(run: Summary, steps: Mapping[str, pd.DataFrame], ways: pd.DataFrame) -> tuple[str, ...]:
    """How long and where the time goes, by kind of page; and what a queue between save and broadcast adds.

    *steps*: `stages.stage_table` by kind of page; *ways*: `stages.percentiles` of the times to notified, by way of dispatch, the
    first row being what the run did.
    """
    heard = _known(run, "time_to_notified.p50")
    first = (
        f"A change is heard after {figure(run, 'time_to_notified.p50')} (all but a hundredth within "
        f"{figure(run, 'time_to_notified.p99')})"
        if heard
        else "No notification arrived"
    )
    if not _known(run, "time_to_fresh.p50"):
        return f"{first}. {nothing_to_say(run)}", _delivered(run)
    first += (
        f"{' and' if heard else '; a change'} is on the screen {_within(run, 'time_to_fresh.p50').replace('within', 'after')} "
        f"(all but a twentieth {_within(run, 'time_to_fresh.p95')}; {_updates(run, 'time_to_fresh.p50')}).{_failed(run)}"
    )
    paragraphs = [first, _by_kind(steps)]
    known = ways[ways["rows"] > 0]
    if len(known) > 1:
        slowest = known["p95"].idxmax()
        other = (
            f"{slowest}, within {seconds(float(known['p95'].max()))}" if slowest != known.index[0] else "no other way is slower"
        )
        paragraphs.append(
            f"Dispatched as in this run, nineteen in twenty notifications arrive within {seconds(float(known['p95'].iloc[0]))}; "
            f"{other} (all simulated, of the same updates and with the costs of this run)."
        )
    return tuple(words for words in paragraphs if words)


def _by_kind(steps: Mapping[str, pd.DataFrame]) -> str:
    """Where the time goes on the slowest kind of page; empty where no kind showed anything."""
    shown = {kind: table for kind, table in steps.items() if table["mean"].notna()["total"]}
    if not shown:
        return ""
    slowest = slowest_kind(shown)
    mean = shown[slowest]["mean"]
    way, own = (float(mean[list(names)].sum()) for names in (("save", "broadcast", "fan-out"), ("debounce", "wait")))
    return (
        f"On the slowest kind of page, the {slowest}, {seconds(way)} of the mean {seconds(float(mean['total']))} pass on the way "
        f"from save to arrival, {seconds(own)} are the page's own waiting, and {seconds(float(mean['refetch']))} are the refetch."
    )


def on_average(stations: Mapping[str, pd.DataFrame]) -> str:
    """When the median page of each kind hears of a change and shows it, as a mean over updates (`stages.stations`)."""
    known = {kind: table["median"] for kind, table in stations.items() if len(table.dropna())}
    words = (
        f"{kind} {seconds(float(median['received']))} and {seconds(float(median['fresh']))}" for kind, median in known.items()
    )
    return f"Heard and on the screen on average after: {'; '.join(words)}" if known else "Nothing was shown"


def explained(name: str, standing: str, findings: tuple[str, ...], comparison: str) -> tuple[str, ...]:
    """One run's standing (`report.state`) and what stands out in it; *comparison* is the headline against another run, empty
    without one."""
    against = [f"Against the other run: {comparison}."] if comparison else []
    return f"{name}: {standing.replace('**', '')}.", " ".join(findings), *against
