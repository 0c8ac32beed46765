"""An `Advice` on one page: the same sections as text for a terminal, as Markdown for a pull request, and for a notebook."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from sim.experiments.advice import GROWTHS, TIMES, Advice, records
from sim.results import fronts, text
from sim.results.answers import choices
from sim.results.answers.choices import describe
from sim.results.answers.sections import Section
from sim.results.run import Run
from sim.study import COLUMNS
from sim.virtual.sweep import COST, Objective, interval


def page(advice: Advice, source: str, unknown: Sequence[str] = ()) -> list[Section]:
    """The whole page. *source*: what the advice is about, and its costs, in words; *unknown*: further unknown things."""
    sections = [Section("Advice", (f"**{headline(advice)}**", source))]
    if advice.recommended is not None:
        sections.append(Section("To paste", code=choices.snippet(advice.recommended, advice.scenario)))
    return [
        *sections,
        Section("What it costs and gains", (gain(advice),), costs(advice)),
        Section("Head-room", (reach(advice),), headroom(advice)),
        Section("What breaks first", (breaks(advice),), remedies(advice) if len(advice.remedies) else None),
        Section("What is not known", (*not_known(advice), *unknown), listed=True),
    ]


def objective(goal: Objective) -> str:
    """The objective with its unit: `time_to_fresh.p99 < 2 s`."""
    return f"{goal.metric} {goal.op} {text.unit_of(goal.metric)(goal.limit)}"


def _value(advice: Advice, row: Mapping[str, Any]) -> str:
    """The objective's figure; where it is a mean of several simulations, with half of its 95 % interval: `962 ms ± 8.1 ms`."""
    unit = text.unit_of(advice.objective.metric)
    half = interval(row["values"])[1] if "values" in row else None
    return unit(row["value"]) + (f" ± {unit(float(f'{half:.2g}'))}" if half else "")


def headline(advice: Advice) -> str:
    """The answer in one or two sentences."""
    there = describe(advice.scenario.policy)
    has = f"{_value(advice, advice.now)} with {text.number(advice.now[COST])} refetches per update"
    if advice.best is None:
        nearest = advice.nearest
        other = f"{describe(nearest['choice'].policy)} comes nearest with {_value(advice, nearest)}"
        return f"No policy meets {objective(advice.objective)} here: {there} has {has}, and {other}."
    policy, cost = advice.recommended, text.number(advice.best[COST])
    met = "meets" if advice.best["met"] == "yes" else "perhaps meets"
    if policy == advice.scenario.policy:
        return f"Keep {there}: it {met} {objective(advice.objective)} ({has}), and no cheaper setting that was tried does."
    verdict = {"yes": "meets it as well", "no": "misses it", "unsure": "meets it perhaps"}[advice.now["met"]]
    return (
        f"Set {describe(policy)}: it {met} {objective(advice.objective)} ({_value(advice, advice.best)}) with {cost} refetches "
        f"per update. {text.capital(there)}, the present policy, {verdict}: {has}."
    )


def gain(advice: Advice) -> str:
    """The recommended policy against the present one, as differences; and what polling would take."""
    sentences = []
    if advice.best is not None and advice.recommended != advice.scenario.policy:
        before, after = advice.now, advice.best
        figures = {COST: "Refetches per update", "fresh_p95": "p95 of the time to fresh", "peak": "highest refetch rate"}
        sentences.append(
            ", ".join(f"{words}: {_change(name, before[name], after[name])}" for name, words in figures.items()) + "."
        )
    polls = advice.tried[advice.tried["polling"] & (advice.tried["met"] == "yes")].sort_values(COST)
    if len(polls):
        first = records(polls)[0]
        cost = text.number(first[COST])
        sentences.append(
            f"Without events {describe(first['choice'].policy)} would meet the objective with {cost} refetches per update."
        )
    else:
        sentences.append("No polling interval that was tried meets the objective.")
    return " ".join(sentences)


def _change(column: str, before: float, after: float) -> str:
    """`1.87 s → 962 ms (−48.7 %)`."""
    unit = SHOWN[column][1]
    relative = f" ({text.change(after / before - 1)})" if before > 0 and math.isfinite(before) and math.isfinite(after) else ""
    return f"{unit(before)} → {unit(after)}{relative}"


SHOWN: dict[str, tuple[str, Any]] = {
    COST: ("refetches per update", text.three),
    "fresh_p50": ("fresh p50", text.seconds),
    "fresh_p95": ("fresh p95", text.seconds),
    "fresh_p99": ("fresh p99", text.seconds),
    "peak": ("peak", lambda rate: f"{text.three(rate)}/s"),
    "node": ("node busy", text.percent),
    "workers": ("workers busy", text.percent),
}
"""Columns of `advice.trial` that a page shows: heading and unit."""


def _cells(row: Mapping[str, Any], advice: Advice, columns: Sequence[str] = tuple(SHOWN)) -> dict[str, str]:
    """The figures of a trial, the objective's first where it is none of them, and whether it meets."""
    metric = advice.objective.metric
    own = {} if metric in [COLUMNS.get(name) for name in columns] else {_short(metric): _value(advice, row)}
    return own | {SHOWN[name][0]: SHOWN[name][1](row[name]) for name in columns} | {"meets": row["met"]}


def _short(metric: str) -> str:
    return metric.removeprefix("time_to_").replace(".", " ").replace("_", " ")


def costs(advice: Advice) -> pd.DataFrame:
    """What is there now beside what is recommended and not to wait at all: a row per figure."""
    columns = {"now": _cells(advice.now, advice)}
    if advice.best is not None and advice.recommended != advice.scenario.policy:
        columns["recommended"] = _cells(advice.best, advice)
    return pd.DataFrame(columns | {"no wait": _cells(records(advice.tried)[0], advice)})


def reach(advice: Advice) -> str:
    """The load up to which the recommended policy meets the objective."""
    if not advice.limits:
        return "The objective is missed already; below, what comes nearest to it."
    parts = []
    for growth, limit in advice.limits.items():
        most = float(limit.trail["times"].max())
        if math.isinf(limit.times) or limit.times >= most:
            parts.append(f"{text.digits(most)} times the {growth} at least")
        else:
            pages = f" ({text.number(round(limit.times * advice.scenario.subscribers))})" if growth == "pages" else ""
            rows = advice.headroom[(advice.headroom["growth"] == growth) & (advice.headroom["policy"] == "best")]
            again = rows.loc[(rows["times"] > limit.missed) & (rows["met"] == "yes"), "times"]
            words = f" (and again at {' and '.join(map(text.digits, again))} times)" if len(again) else ""
            parts.append(f"{text.digits(limit.times)} times the {growth}{pages}{words}")
    return f"The objective is met for up to {', '.join(parts[:-1])}, and {parts[-1]} with their pages, servers and updates."


def headroom(advice: Advice) -> pd.DataFrame:
    """By growth and times: pages, the objective's figure now and recommended, stations, met."""
    rows = {}
    for growth in GROWTHS:
        for times in TIMES:
            part = advice.headroom[(advice.headroom["growth"] == growth) & (advice.headroom["times"] == times)]
            if part.empty:
                continue
            now, best = (records(part[part["policy"] == policy])[0] for policy in ("now", "best"))
            rows[f"{times} × {growth}"] = {
                "pages": text.number(best["subscribers"]),
                "now": _value(advice, now),
                "recommended": _value(advice, best),
                "refetches per update": text.three(best[COST]),
                "node busy": text.percent(best["node"]),
                "workers busy": text.percent(best["workers"]),
                "meets": best["met"],
            }
    return pd.DataFrame.from_dict(rows, orient="index")


def breaks(advice: Advice) -> str:
    """What breaks first, at which growth, and the remedies that are enough."""
    if advice.breaking is None:
        return f"Nothing breaks up to {TIMES[-1]} times the users, pages or updates."
    times, growth = advice.breaking["times"], advice.breaking["growth"]
    where = "As it is" if times == 1 else f"With {times} times the {GROWTHS[growth]}"
    helps = advice.remedies[advice.remedies["met"] == "yes"]
    first = (
        f" What helps then, cheapest first: {'; '.join(helps['remedy'])}."
        if len(helps)
        else " No remedy that was tried is enough alone."
    )
    return f"{where}, the limit is {advice.breaking['cause']}.{first}"


def remedies(advice: Advice) -> pd.DataFrame:
    """Each remedy where it breaks, ranked."""
    columns = (COST, "fresh_p95", "peak", "node", "workers")
    return pd.DataFrame.from_dict(
        {row["remedy"]: _cells(row, advice, columns) for row in records(advice.remedies)}, orient="index"
    )


def not_known(advice: Advice) -> Iterator[str]:
    """What is not known, and what the figures leave out."""
    values = [value for value in (advice.now["values"]) if value is not None]
    yield (
        f"Figures are simulated: for the present policy and the recommended one {len(values)} times, with updates of their own; "
        "for the rest once, all on the same updates. The grid has no waits between its own."
    )
    if advice.searched < advice.scenario.duration:
        first = records(advice.headroom)[0]
        yield (
            f"Head-room, limits, remedies and the search take the first {text.seconds(advice.searched)} of "
            f"{text.seconds(advice.scenario.duration)} of updates. In that part the present policy has {advice.objective.metric} "
            f"{_value(advice, first)}, in the whole run {_value(advice, advice.now)}: what grows through a run is underestimated."
        )
    if advice.left_out:
        yield f"{'Head-room and remedies' if advice.whole else 'All simulations'} leave out {', '.join(advice.left_out)}."
    pages = {pages.page for pages in advice.scenario.pages if pages.subscribers}
    if len(pages) > 1:
        yield f"One policy was sought for all pages ({', '.join(sorted(pages))}): each kind may do with a cheaper one of its own."
    if not any(pages.hidden for pages in advice.scenario.pages):
        yield "No page is in a hidden tab, where browsers round each wait up to a whole second."
    yield "A restart, and pages that come back all at once, are another question (workbench simulate reconnect)."


# --- as figures ----------------------------------------------------------------------------------------------------------


def front(advice: Advice) -> pd.DataFrame:
    """Load against the objective's figure, for `plots.plot_pareto`: every setting once; `never` is left out."""
    return fronts.front(advice.tried.rename(columns={"value": advice.objective.metric}), COST, advice.objective.metric)


def chosen(advice: Advice) -> pd.Series | None:
    """The row of `front` that is recommended."""
    rows = front(advice)
    rows = rows[[choice.policy == advice.recommended for choice in rows["choice"]]]
    return None if rows.empty else rows.iloc[0]


def growth(advice: Advice) -> pd.DataFrame:
    """The objective's figure over times of the load as far as it has one, for `plots.plot_lines`: times, value, group."""
    parts = [limit.trail[["times", "value"]].assign(group=name) for name, limit in advice.limits.items()]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["times", "value", "group"])


def growth_claim(advice: Advice) -> str:
    """The growth at which the objective is missed first."""
    if not advice.limits:
        return "The objective is missed as it is"
    name, limit = min(advice.limits.items(), key=lambda item: item[1].times)
    if math.isinf(limit.times):
        return f"The objective is met at {TIMES[-1]} times any of these"
    return f"More {name} break it first: at {text.digits(limit.times)} times as many the objective is still met"


def bars(advice: Advice) -> pd.DataFrame:
    """Remedies where it breaks, for `plots.plot_bars`: value, refetches per update, workers, node."""
    return advice.remedies.set_index("remedy")[["value", COST, "workers", "node"]]


def bars_claim(advice: Advice) -> str:
    helps = advice.remedies[advice.remedies["met"] == "yes"]["remedy"].tolist()
    return f"{text.capital(helps[0])} is the cheapest that is enough" if helps else "Nothing that was tried is enough alone"


def beside(advice: Advice, run: Run) -> str:
    """The objective's figure as the run has it beside the simulation of the run as it is: how far to trust the figures."""
    value, unit = text.value(run.summary, advice.objective.metric), text.unit_of(advice.objective.metric)
    return (
        f"{run.manifest.source.capitalize()}, the run has {advice.objective.metric} {unit(value)} where its simulation has "
        f"{_value(advice, advice.now)}: differences between policies are surer than the figures."
    )
