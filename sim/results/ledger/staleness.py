"""How old is what the pages show, averaged over time: age of information, age of synchronisation, share of time stale.

Latencies ask every update how long it took; these ask every moment what was on the screen then. Definitions: S. Kaul, R. Yates,
M. Gruteser, "Real-time status: how often should one update?", INFOCOM 2012 (age of information); J. Cho, H. Garcia-Molina,
SIGMOD 2000 and J. Zhong, R. Yates, E. Soljanin, ISIT 2018 (age of synchronisation). Every integral is exact: ages are straight
lines between the instants at which something happens.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

Array = np.ndarray[Any, Any]


def staleness(journeys: pd.DataFrame, start: float, end: float) -> pd.DataFrame:
    """One row per page that had an update to show, over [start, end) as long as it was open.

    Columns: subscriber, observed (s), stale (s in which a committed update was not shown), age_of_synchronisation (s, mean age
    of the oldest update not shown, 0 while there is none), age_of_information (s, mean age of the newest update shown, from the
    first one on; NaN: none was), peak_age (s, mean age just before a newer one was shown; NaN: never two).
    """
    rows = journeys.dropna(subset=["committed_at"]).sort_values(["subscriber", "committed_at"], kind="stable")
    who = rows["subscriber"].to_numpy()
    if not len(who):
        return pd.DataFrame(columns=COLUMNS, dtype=float)
    first = np.r_[True, who[1:] != who[:-1]]
    last = np.r_[first[1:], True]
    page = np.cumsum(first) - 1
    committed, intended = rows["committed_at"].to_numpy(), rows["intended_at"].to_numpy()
    # A newer state contains the older ones, so within a page fresh instants never go down.
    fresh = rows["fresh_at"].fillna(np.inf).to_numpy()
    stop = np.minimum(rows["ended_at"].to_numpy(), end)

    before = np.where(first, -np.inf, np.r_[-np.inf, fresh[:-1]])
    low, high = _clip(np.maximum(committed, before), fresh, start, stop)
    stale = np.bincount(page, high - low)
    behind = np.bincount(page, _area(low, high, committed))

    after = np.where(last, np.inf, np.r_[fresh[1:], np.inf])
    low, high = _clip(fresh, after, start, stop)
    shown = np.bincount(page, high - low)
    age = np.bincount(page, _area(low, high, intended))
    peaked = ~last & (after > fresh) & (after >= start) & (after < stop)
    peaks = np.bincount(page, peaked)
    peak = np.bincount(page, np.where(peaked, np.where(np.isfinite(after), after, 0.0) - intended, 0.0))

    observed = np.maximum(stop[last] - start, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return pd.DataFrame(
            {
                "subscriber": who[first],
                "observed": observed,
                "stale": stale,
                "age_of_synchronisation": np.where(observed > 0, behind / observed, np.nan),
                "age_of_information": np.where(shown > 0, age / shown, np.nan),
                "peak_age": np.where(peaks > 0, peak / peaks, np.nan),
            }
        )


COLUMNS = ["subscriber", "observed", "stale", "age_of_synchronisation", "age_of_information", "peak_age"]


def _clip(low: Array, high: Array, start: float, stop: Array) -> tuple[Array, Array]:
    """The part of [low, high) inside [start, stop); empty intervals get equal ends."""
    low = np.minimum(np.maximum(low, start), stop)
    return low, np.maximum(np.minimum(high, stop), low)


def _area(low: Array, high: Array, since: Array) -> Array:
    """Integral of (t - since) over [low, high)."""
    return (high - low) * ((high + low) / 2 - since)


def saw_tooth(journeys: pd.DataFrame, subscriber: int, start: float, end: float) -> pd.DataFrame:
    """Age of what one page showed, as the corners of its saw-tooth: at, age (s). Empty where it never showed an update."""
    rows = journeys[(journeys["subscriber"] == subscriber) & journeys["fresh_at"].notna()]
    rows = rows.sort_values(["fresh_at", "intended_at"]).drop_duplicates("fresh_at", keep="last")
    fresh, intended = rows["fresh_at"].to_numpy(), rows["intended_at"].to_numpy()
    if not len(rows):
        return pd.DataFrame({"at": [], "age": []}, dtype=float)
    until = np.r_[fresh[1:], max(end, fresh[-1])]
    at = np.column_stack([fresh, until]).ravel()
    age = np.column_stack([fresh - intended, until - intended]).ravel()
    kept = (at >= start) & (at <= end)
    return pd.DataFrame({"at": at[kept], "age": age[kept]})
