"""One run taken apart: what a person would look for first, as tables and as one sentence each."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sim.results.answers import report
from sim.results.answers.sections import Section
from sim.results.answers.sentences import nothing_to_say
from sim.results.ledger import stages, timeline
from sim.results.ledger.book import Ledger, ledger_of
from sim.results.ledger.pairs import MISSING
from sim.results.ledger.stages import STAGES
from sim.results.run import Run
from sim.results.statistics import finite, mser5
from sim.results.summary import summary_of
from sim.results.text import capital, number, percent, seconds


@dataclass(frozen=True, eq=False)
class Explanation:
    """The tables, times in seconds; `sentences` says what stands out in them."""

    name: str
    verdict: str
    standing: str
    """How the run stands (`report.state`): thresholds first."""
    stages: pd.DataFrame
    """By stage: mean, p50, p95, p99, share."""
    windows: pd.DataFrame
    """By start of window: `sim.results.ledger.timeline.windows`."""
    worst: pd.DataFrame
    """By update, worst first: `sim.results.ledger.stages.worst`."""
    never: pd.DataFrame
    """By update: `sim.results.ledger.stages.never_shown`."""
    sentences: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON: tables as {row: {column: value}}, what is not finite as None."""
        tables = {name: getattr(self, name) for name in ("stages", "windows", "worst", "never")}
        return {"run": self.name, "verdict": self.verdict, "findings": list(self.sentences)} | {
            name: {_key(index): {column: _plain(row[column]) for column in table.columns} for index, row in table.iterrows()}
            for name, table in tables.items()
        }

    def sections(self) -> list[Section]:
        """The page, in the order in which it is read."""
        more = (f"The first {MANY} of {number(len(self.never))}:",) if len(self.never) > MANY else ()
        return [
            Section(f"{self.name}: {self.standing}", self.sentences, listed=True),
            Section("stages", table=report.shown(self.stages.dropna(how="all"))),
            Section("windows", table=report.windows(self.windows)),
            Section("worst updates", table=report.shown(self.worst.drop(columns="weight"), subscriber=str)),
            Section("never shown", more, report.shown(self.never.head(MANY))),
        ]


MANY = 20
"""Updates that were never shown, of which a page lists the first."""


def explain(run: Run, worst: int = 5, windows: int = 8) -> Explanation:
    """Take *run* apart. Where no page showed an update, tables are empty, and a sentence says why."""
    ledger = ledger_of(run)
    pairs = ledger.journeys
    steps = stages.stage_table(pairs)
    parts = timeline.windows(ledger, windows)
    slowest, missing = stages.worst(pairs, worst), stages.never_shown(pairs)
    found = (
        _stage(steps, pairs, ledger),
        _window(parts),
        _worst(slowest),
        _never(missing),
        _fates(pairs),
        _warm_up(pairs, ledger.window.start),
    )
    sentences = tuple(sentence for sentence in found if sentence)
    return Explanation(run.name, report.verdict(run), report.state(run), steps, parts, slowest, missing, sentences)


def _stage(steps: pd.DataFrame, pairs: pd.DataFrame, ledger: Ledger) -> str:
    found, never = stages.largest(steps), bool((pairs["fate"] == "never").any())
    if found is None:
        return "No update was shown on any page." if never else nothing_to_say(summary_of(ledger))
    shown = " of what was shown" if never else ""
    return f"{percent(found[1])} of the time to fresh{shown} is {found[0]} ({stages.MEANING[found[0]]})."


def _window(parts: pd.DataFrame) -> str:
    """The window whose updates were slowest, where it is at least twice the median window."""
    known = parts["fresh_p95"].dropna()
    if len(known) < 3:
        return ""
    late, typical = known.to_numpy(dtype=float), float(known.median())
    begins = known.index.to_numpy(dtype=float)
    if never := int(np.isinf(late).sum()):
        first = float(begins[np.isinf(late).argmax()])
        return f"In {never} of {len(late)} windows the p95 of time to fresh is never; the first of them begins at {first:.1f} s."
    if not late.max() > 2 * typical:
        return f"No window stands out: p95 of time to fresh is between {seconds(late.min())} and {seconds(late.max())}."
    where = f"updates from {float(begins[late.argmax()]):.1f} s on were the slowest"
    return f"The {where}: p95 {seconds(late.max())} against {seconds(typical)} in the median window."


def _worst(slowest: pd.DataFrame) -> str:
    if slowest.empty:
        return ""
    means = slowest[list(STAGES)].mean().dropna()
    first = slowest.iloc[0]
    words = f"The worst update ({slowest.index[0]}, at {float(first['intended_at']):.1f} s) took {seconds(float(first['total']))}"
    if means.empty:
        return f"{words}."
    return f"{words}; of the {len(slowest)} worst, {percent(float(means.max() / means.sum()))} is {means.idxmax()}."


def _warm_up(pairs: pd.DataFrame, start: float) -> str:
    """What MSER-5 would cut off the beginning, where that is something."""
    delay = (pairs["fresh_at"] - pairs["intended_at"]).groupby(pairs["update"]).median().dropna()
    cut = mser5(delay.to_numpy())
    if not cut or cut >= len(delay):
        return ""
    until = float(pairs["intended_at"][pairs["update"] == delay.index[cut]].iloc[0])
    return (
        f"The first {number(cut)} updates look like a warm-up (MSER-5): set warmup to {seconds(until - start)} or more "
        f"to leave them out."
    )


def _never(missing: pd.DataFrame) -> str:
    if missing.empty:
        return ""
    most = missing.iloc[int(missing["pages"].argmax())]
    return (
        f"{number(len(missing))} updates were never shown on some page that stayed open, "
        f"one of them on {number(int(most['pages']))} of {number(int(most['of']))} pages."
    )


def _fates(pairs: pd.DataFrame) -> str:
    """What became of the pairs that no figure is made from, where there are any."""
    by = pairs["weight"].groupby(pairs["fate"], observed=False).sum().reindex(["left", "unknown"], fill_value=0.0)
    of = float(pairs["weight"].sum())
    left = f"{percent(float(by['left']) / of)} of the pages left before they showed the update" if by["left"] else ""
    unknown = f"of {percent(float(by['unknown']) / of)} it is not known, because {MISSING} is missing" if by["unknown"] else ""
    words = "; ".join(part for part in (left, unknown) if part)
    return f"{capital(words)}." if words else ""


def _key(index: Any) -> str:
    return f"{index:g}" if isinstance(index, float) else str(index)


def _plain(value: Any) -> Any:
    """A cell for JSON."""
    if isinstance(value, str):
        return value
    as_float = float(value)
    return finite(int(as_float) if math.isfinite(as_float) and as_float == int(as_float) else as_float)
