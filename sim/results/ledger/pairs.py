"""Pairs of an update and a page that owes it, each with one fate. See `FATES`.

Owed is an update that was committed in the window, is shown by the page, and was committed while the page was open, whether or
not the page was subscribed then; not what the page's first load already contained. An update of which it is not known when it was
committed counts as committed when it was intended, and is unknown.

A page opens at 0 s with version 3. Versions 4, 5 and 6 are committed at 1, 2 and 3 s; an answer of version 5 is applied at 2.5 s,
and none after it. The page owes three pairs: two are shown, 1.5 s and 0.5 s after their commits; the third is never shown. If the
page closes at 4 s, the third is left.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from sim.arrays import Array
from sim.results.ledger.order import SortedGroups, ranges
from sim.results.ledger.views import UNKNOWN, Views

MISSING = "a version, or the instant of a commit,"
"""What has to be known of an update and of an answer."""

FATES = {
    "shown": "the page showed a state that contains it, before it closed and before the run was over",
    "never": "the page was still open when the run was over, and at no instant showed it",
    "left": "the page closed before it showed it",
    "unknown": "its version, or when it was committed, is not known, or an answer without a version was applied before the first "
    "that contains it",
}


UNKNOWN_ALLOWED = 0.01
"""Share of what is counted (pairs, page time, open pages) that may be unknown; with more there is no figure."""


def too_unknown(unknown: float, total: float) -> bool:
    return bool(unknown > UNKNOWN_ALLOWED * total)


def settled(found: pd.DataFrame) -> pd.DataFrame:
    """The pairs (with weight) that figures are of: shown and never; none where too many are unknown."""
    unknown = found["weight"][found["fate"] == "unknown"].sum()
    return found[:0] if too_unknown(unknown, found["weight"].sum()) else found[found["fate"].isin(["shown", "never"])]


def pairs(view: Views, start: float, end: float, over: float) -> pd.DataFrame:
    """One row per owed pair: update, page (positions in their tables), fate, fresh_at (NaN: not shown), due_at, started_at (of
    the refetch that showed it), in order of update and page."""
    lines = view.timelines
    low = lines.commits.before(view.timeline, np.maximum(view.opened, start))
    high = lines.commits.before(view.timeline, np.minimum(view.closed, end))
    number, entry = ranges(low, high)
    rank, committed = lines.rank[entry], lines.committed[entry]
    owed = ~(view.load_known[number] & (rank != UNKNOWN) & (view.load_rank[number] >= rank))
    number, entry, rank, committed = number[owed], entry[owed], rank[owed], committed[owed]
    fresh, answer = _first_containing(view, number, rank, committed)
    limit = np.minimum(view.closed[number], over)
    shown = fresh < limit
    # An answer that names no version may have contained it: since when it was shown is not known.
    unnamed = view.answer_rank == UNKNOWN
    doubtful = SortedGroups(view.answer_view[unnamed], view.answer_at[unnamed])
    until = np.where(shown, fresh, limit)
    blind = doubtful.before(number, until) > doubtful.through(number, committed)
    fate = np.select(
        [(rank == UNKNOWN) | blind, shown, np.isfinite(view.closed[number])], ["unknown", "shown", "left"], default="never"
    )
    known = fate == "shown"
    columns = {
        "update": lines.update[entry],
        "page": view.page[number],
        "fate": pd.Categorical(fate, categories=list(FATES)),
        "fresh_at": np.where(known, fresh, np.nan),
        "due_at": np.where(known, view.answer_due[answer], np.nan),
        "started_at": np.where(known, view.answer_started[answer], np.nan),
    }
    order = np.lexsort((columns["page"], columns["update"]))
    return pd.DataFrame({name: column[order] for name, column in columns.items()})


def _first_containing(view: Views, number: Array, rank: Array, committed: Array) -> tuple[Array, Array]:
    """(first instant from *committed* on at which view *number* shows a state of at least *rank*, inf: never; its answer)."""
    count = len(view.answer_at)
    after = view.answers.through(number, committed)
    # Contained already by what it showed at the commit; else by the first answer after it that is as new.
    at_commit = view.answer_rank[after - 1] >= rank
    answer = np.where(at_commit, after - 1, count)
    waiting = np.flatnonzero(~at_commit)
    place = after[waiting]
    while len(waiting):
        mine = place < count
        mine[mine] = view.answer_view[place[mine]] == number[waiting[mine]]
        waiting, place = waiting[mine], place[mine]
        found = view.answer_rank[place] >= rank[waiting]
        answer[waiting[found]] = place[found]
        waiting, place = waiting[~found], place[~found] + 1
    there = answer < count
    fresh = np.full(len(number), np.inf)
    fresh[there] = np.maximum(view.answer_at[answer[there]], committed[there])
    return fresh, np.where(there, answer, -1)
