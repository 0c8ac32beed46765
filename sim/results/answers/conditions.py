"""What must hold for a report's answer to be believed: conditions, each with whether it does and what was found."""

from __future__ import annotations

import pandas as pd

from sim.results import text
from sim.results.answers.standing import verdict
from sim.results.ledger.pairs import too_unknown
from sim.results.run import Run
from sim.results.statistics import Estimate, events_needed
from sim.results.summary import level_of
from sim.results.text import Summary


def conditions(**held: tuple[bool, str]) -> pd.DataFrame:
    """What must hold for an answer to be believed: condition -> (whether it does, what was found), as a table.

    `assert report.hold(table), report.broken(table)` is the test of it.
    """
    rows = {name.replace("_", " "): {"found": found, "verdict": "holds" if ok else "FAILS"} for name, (ok, found) in held.items()}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["found", "verdict"])


def hold(table: pd.DataFrame) -> bool:
    """Whether all `conditions` hold."""
    return bool((table["verdict"] == "holds").all())


def broken(table: pd.DataFrame) -> str:
    """Those that do not, in words."""
    return "; ".join(f"{name}: {row['found']}" for name, row in table.iterrows() if row["verdict"] != "holds")


def is_valid(*some: Run) -> tuple[bool, str]:
    """Whether all runs are valid and complete."""
    states = [verdict(found) for found in some]
    return all(words == "valid" for words in states), "; ".join(dict.fromkeys(states))


def of_updates(summary: Summary) -> str:
    """`n = 193 updates`, for the corner of a figure."""
    return f"n = {text.number(summary['updates']['n'])} updates"


def enough(summary: Summary, metric: str) -> tuple[bool, str]:
    """Whether a quantile rests on as many updates as its interval needs."""
    row, least = summary[metric], events_needed(level_of(metric))
    words = f"{metric} {text.figure(summary, metric)}, n = {text.number(row['n'])} of {text.number(least)} needed"
    return row["n"] >= least, words


def same(a: Summary, b: Summary, metric: str) -> tuple[bool, str]:
    """Whether a count of pairs is the same in two summaries.

    What was scaled from a sample of the pages cannot be, to the last one. Where pages come and go, opening one takes its time
    in one world and not in the other, so an update at that instant is owed in one of them only: a hundredth of them may be.
    """
    scaled = any("source" in summary[metric] for summary in (a, b))
    leave = any(summary["pairs.left"]["value"] for summary in (a, b))
    one, other = (summary[metric]["value"] for summary in (a, b))
    why = ", scaled from a sample" if scaled else ", pages come and go" if leave else ""
    words = f"{text.figure(a, metric)} and {text.figure(b, metric)}{why}"
    return scaled or abs(one - other) <= (0.01 * max(one, other) if leave else 0), words


def small(summary: Summary, metric: str, against: str) -> tuple[bool, str]:
    """Whether what the harness adds is at most a tenth of a figure that it is part of. What was not measured adds nothing."""
    added, whole = (summary.get(name, {"value": None})["value"] for name in (metric, against))
    words = f"{metric} {text.figure(summary, metric)}, {against} {text.figure(summary, against)}"
    return added is None or whole is None or added <= 0.1 * whole, words


def below(a: Estimate, b: Estimate) -> bool:
    """Whether the whole interval of *a* lies below that of *b*."""
    return a.high is not None and b.low is not None and a.high < b.low


def mostly_known(summary: Summary) -> tuple[bool, str]:
    """Whether the fate of nearly all pairs is known."""
    unknown, owed = (summary[f"pairs.{name}"]["value"] or 0 for name in ("unknown", "owed"))
    words = f"{text.number(unknown)} of {text.number(owed)} pairs unknown"
    return not too_unknown(unknown, owed), words
