"""How old is what the pages show, averaged over time: share of time stale, age of information, age of synchronisation.

Latencies ask every update how long it took; these ask every moment what was on the screen then. A page is stale at an instant
when what it shows does not contain the newest committed update of what it shows: an older answer that comes late makes it stale
again. Time without a connection counts, time before the page opened does not, and pages that owe nothing count too.
Definitions: S. Kaul, R. Yates, M. Gruteser, "Real-time status: how often should one update?", INFOCOM 2012 (age of
information); J. Cho, H. Garcia-Molina, SIGMOD 2000 and J. Zhong, R. Yates, E. Soljanin, ISIT 2018 (age of synchronisation).
Every integral is exact: ages are straight lines between the instants at which something happens.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from sim.arrays import Array
from sim.results.ledger.order import ranges
from sim.results.ledger.views import UNKNOWN, Views, until


@dataclass(frozen=True, eq=False)
class States:
    """What each view showed, as pieces of time in which nothing changes: sorted by view and instant."""

    views: Views
    view: Array
    low: Array
    high: Array
    """Until the view's next piece; inf for its last one."""
    shown: Array
    """Rank of what is shown; `UNKNOWN`: an answer that named no version."""
    newest: Array
    """Highest rank committed."""
    doubtful: Array
    """Whether the newest committed update is one whose version is not known."""

    @property
    def stale(self) -> Array:
        return (self.shown != UNKNOWN) & (self.shown < self.newest)

    @property
    def unknown(self) -> Array:
        """It is not known whether it is stale."""
        lines, line = self.views.timelines, self.views.timeline[self.view]
        begun = lines.commits.through(line, self.low) > lines.commits.start(line)
        return ((self.shown == UNKNOWN) & begun) | (self.doubtful & ~self.stale)


def states(view: Views) -> States:
    """The pieces of all views, over the whole run."""
    lines = view.timelines
    low = lines.commits.before(view.timeline, view.opened)
    high = lines.commits.before(view.timeline, view.closed)
    number, entry = ranges(low, high)
    base = lines.rank_at(view.timeline, view.opened)
    answers = len(view.answer_at)
    where = np.r_[view.answer_view, number]
    at = np.r_[view.answer_at, lines.committed[entry]]
    order = np.lexsort((at, where))
    where, at = where[order], at[order]
    is_answer = order < answers
    # Each view begins with the load, so what is carried forward is always of the same view.
    shown_at = np.maximum.accumulate(np.where(is_answer, np.arange(len(order)), 0))
    rank = np.r_[view.answer_rank, lines.rank[entry]][order]
    first = np.r_[True, where[1:] != where[:-1]] if len(where) else np.zeros(0, bool)
    committed = np.where(is_answer, UNKNOWN, rank)
    committed[first] = base[where[first]]
    span = int(committed.max(initial=0)) + 2
    newest = np.maximum.accumulate(where * span + committed + 1) - where * span - 1 if len(where) else committed
    # Whether the latest commit so far is one of an unknown version.
    commit_at = np.maximum.accumulate(np.where(is_answer & ~first, 0, np.arange(len(order))))
    doubtful = ~is_answer[commit_at] & (rank[commit_at] == UNKNOWN) if len(where) else first
    high_at = np.where(np.r_[where[1:] != where[:-1], True], np.inf, np.r_[at[1:], np.inf]) if len(where) else at
    return States(view, where, at, high_at, rank[shown_at], newest, doubtful)


COLUMNS = ("observed", "stale", "unknown", "behind", "shown", "age", "peaks", "peak")


def staleness(state: States, pages: pd.DataFrame, start: float, end: float, over: float) -> pd.DataFrame:
    """One row per page that was open within [start, end).

    Columns: subscriber, weight; observed, stale, unknown (s: open, stale, and where that is not known); behind (integral over
    time of the age of the oldest update not shown, s^2); shown and age (s in which an update of the run is shown, integral of the
    age of the newest one); peaks and peak (how often a newer update replaced one, sum of the ages just before it, s). *over*:
    when the run ended, s.
    """
    opened, closed, count = pages["opened_at"].to_numpy(float), until(pages, over), len(pages)
    observed = np.maximum(np.minimum(closed, end) - np.maximum(opened, start), 0.0)
    # The part of each piece that lies in the window.
    page = state.views.page[state.view]
    stop = np.minimum(state.views.closed, end)[state.view]
    low = np.minimum(np.maximum(state.low, start), stop)
    high = np.maximum(np.minimum(state.high, stop), low)
    stale, either = (_covered(page[rows], low[rows], high[rows], count) for rows in (state.stale, state.stale | state.unknown))
    missing, newest = _ages_from(state)
    several = np.bincount(state.views.page, minlength=count) > 1
    sums = _integrals(page, low, high, missing, newest, count)
    for number in np.flatnonzero(several):
        sums[:, number] = _of_several(state, np.flatnonzero(page == number), low, high, missing, newest)
    counts = ~several[page] & (state.high >= start) & (state.high < stop)
    peaks, peak = _peaks(state, page, newest, counts, count)
    columns = {"subscriber": pages["subscriber"].to_numpy(), "weight": pages["weight"].to_numpy(float)}
    columns |= dict(zip(COLUMNS, (observed, stale, either - stale, *sums, peaks, peak), strict=True))
    return pd.DataFrame({name: column[observed > 0] for name, column in columns.items()})


def _peaks(state: States, page: Array, newest: Array, counts: Array, count: int) -> tuple[Array, Array]:
    """By page: how often a newer update replaced the *newest* shown at the end of a piece that *counts*, and the sum of the ages
    just before."""
    same_view = np.r_[state.view[1:] == state.view[:-1], np.zeros(min(len(state.view), 1), bool)]
    replaced = same_view & counts & (np.r_[newest[1:], np.full(min(len(newest), 1), -np.inf)] > newest)
    return np.bincount(page, replaced, count), np.bincount(page[replaced], (state.high - newest)[replaced], count)


def _ages_from(state: States) -> tuple[Array, Array]:
    """Of each piece the commits of the oldest update that is not shown (inf: none) and of the newest that is (NaN: none)."""
    lines, line = state.views.timelines, state.views.timeline[state.view]
    rank = np.maximum(state.shown, 0)
    missing = np.where(state.stale, lines.oldest_missing(line, rank), np.inf)
    newest = np.where(state.shown == UNKNOWN, np.nan, lines.newest_contained(line, rank))
    # An answer may be read before the commit that it contains is known: until then the newest before it counts.
    early = np.flatnonzero(newest > state.low)
    newest[early] = lines.newest_contained_at(line[early], rank[early], state.low[early])
    return missing, newest


def _integrals(page: Array, low: Array, high: Array, missing: Array, newest: Array, count: int) -> Array:
    """By page: integral of the age of the oldest update not shown, time with one shown, integral of the age of the newest
    shown."""
    stale, has = np.isfinite(missing), ~np.isnan(newest)
    return np.stack(
        [
            np.bincount(page, _area(low, high, np.where(stale, np.minimum(missing, low), low)) * stale, count),
            np.bincount(page, (high - low) * has, count),
            np.bincount(page, _area(low, high, np.where(has, newest, low)) * has, count),
        ]
    )


def _of_several(state: States, rows: Array, low: Array, high: Array, missing: Array, newest: Array) -> Array:
    """`_integrals` of a page with several views, of which the oldest missing and the newest shown over all views count."""
    edges = np.unique(np.r_[low[rows], high[rows]])
    oldest, latest = np.full(len(edges) - 1, np.inf), np.full(len(edges) - 1, np.nan)
    for row in rows:
        inside = slice(*np.searchsorted(edges, [low[row], high[row]]))
        oldest[inside] = np.minimum(oldest[inside], missing[row])
        latest[inside] = np.fmax(latest[inside], newest[row])
    return _integrals(np.zeros(len(oldest), np.int64), edges[:-1], edges[1:], oldest, latest, 1)[:, 0]


def at_end(state: States, pages: pd.DataFrame, over: float) -> tuple[Array, Array, Array]:
    """(open, stale, unknown) of each page when the run was over."""
    view = state.views
    still = np.isinf(until(pages, over)) & (pages["opened_at"].to_numpy(float) < over)
    last = (state.low < over) & (state.high >= over)
    stale, unknown = (
        np.bincount(view.page[state.view[rows]], minlength=len(pages)) > 0 for rows in (last & state.stale, last & state.unknown)
    )
    return still, stale & still, unknown & still & ~stale


def regressions(view: Views) -> Array:
    """The page (position in the table) of each answer that was applied over a newer one."""
    both = (view.answer_rank[1:] != UNKNOWN) & (view.answer_view[1:] == view.answer_view[:-1])
    older = np.flatnonzero(both & (view.answer_rank[1:] < view.answer_rank[:-1])) + 1
    return view.page[view.answer_view[older]]


def _covered(page: Array, low: Array, high: Array, count: int) -> Array:
    """Length of the union of the intervals of each page."""
    order = np.lexsort((low, page))
    page, low, high = page[order], low[order], high[order]
    distinct, rank = np.unique(high, return_inverse=True)
    so_far = distinct[np.maximum.accumulate(page * len(distinct) + rank) - page * len(distinct)] if len(page) else high
    reach = np.where(page[1:] == page[:-1], so_far[:-1], -np.inf)
    reach = np.r_[-np.inf, reach][: len(page)]
    return np.bincount(page, np.maximum(high - np.maximum(low, reach), 0.0), count)


def _area(low: Array, high: Array, since: Array) -> Array:
    """Integral of (t - since) over [low, high)."""
    return (high - low) * ((high + low) / 2 - since)


def saw_tooth(state: States, page: int, start: float, end: float) -> pd.DataFrame:
    """Age of what one page (position in the table) showed, as the corners of its saw-tooth: at, age (s). Empty where it never
    showed an update of the run."""
    mine = np.flatnonzero(state.views.page[state.view] == page)
    newest = _ages_from(state)[1][mine]
    low, high = np.maximum(state.low[mine], start), np.minimum(state.high[mine], end)
    kept = ~np.isnan(newest) & (high >= low)
    at = np.column_stack([low, high])[kept].ravel()
    return pd.DataFrame({"at": at, "age": at - np.repeat(newest[kept], 2)})


def mean_age(teeth: pd.DataFrame) -> float:
    """Mean over time of a `saw_tooth`, s; NaN where there is none."""
    at = teeth["at"].to_numpy(float)
    span = at[-1] - at[0] if len(at) else 0.0
    return float(np.trapezoid(teeth["age"], at) / span) if span else float("nan")
