"""Where the time went: the stations of an update on its way to a page, stage by stage, and worst first.

    intended -> committed -> published -> received -> due -> started -> fresh
        save       broadcast    fan-out    debounce   wait    refetch

Everything here is frame -> frame over `sim.results.ledger.book.Ledger.journeys`, so it serves simulated and measured runs
alike. Rows count by their weight.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from sim.arrays import Array
from sim.results.ledger.book import INSTANTS
from sim.results.statistics import or_nan, quantile

STAGES = ("save", "broadcast", "fan-out", "debounce", "wait", "refetch")
"""What lies between two successive stations of `INSTANTS`."""

MEANING = {
    "save": "intended -> committed in the database",
    "broadcast": "committed -> accepted by the broadcaster",
    "fan-out": "accepted -> received by the page",
    "debounce": "received -> refetch due by the policy",
    "wait": "due -> request sent",
    "refetch": "request sent -> answer applied",
}


def on_the_way(journeys: pd.DataFrame) -> pd.DataFrame:
    """The journeys that ended, with the instants of the path that the update really took, in order.

    A station that was passed only after the next one does not lie on the path: the broadcaster's answer may come after the first
    subscriber has the event, and a refetch on its way may bring an update whose notification comes later. Such a station is taken
    to be passed with the next one, so that stages are not negative and sum to the time to fresh. Missing stations likewise; a
    station that is missing everywhere was not measured, and stays NaN.

    No way begins before the commit. A refetch that was due already, for an earlier update, takes this one along: of intended
    at 0, committed at 4 ms, due at -300 ms, sent at 8 ms, fresh at 20 ms, the save is 4 ms, the wait 4 ms, the refetch 12 ms.
    """
    done = journeys[(journeys["fate"] == "shown").to_numpy(bool)]
    given = done[INSTANTS].to_numpy(dtype=float)
    instants = np.where(np.isnan(given), np.inf, given)
    begun = np.fmin(np.fmax(given[:, :1], given[:, 1:2]), given[:, -1:])
    instants[:, 1:] = np.maximum(instants[:, 1:], begun)
    path = np.minimum.accumulate(instants[:, ::-1], axis=1)[:, ::-1]
    path[:, np.isnan(given).all(axis=0)] = np.nan
    return done.assign(**dict(zip(INSTANTS, path.T, strict=True)))


def durations(journeys: pd.DataFrame) -> pd.DataFrame:
    """One row per finished journey: update, subscriber, page, weight, one column per stage (s; NaN: its end was not measured, it
    lies in the next), total (s)."""
    path = on_the_way(journeys)
    instants = path[INSTANTS].to_numpy(dtype=float)
    # From the last station before that was measured.
    before = pd.DataFrame(instants).ffill(axis=1).to_numpy()[:, :-1]
    steps = instants[:, 1:] - before
    frame = path[["update", "subscriber", "page", "weight"]].assign(**dict(zip(STAGES, steps.T, strict=True)))
    return frame.assign(total=np.nansum(steps, axis=1)).reset_index(drop=True)


def stage_table(journeys: pd.DataFrame) -> pd.DataFrame:
    """One row per stage and one for the total: mean, p50, p95, p99 (s), share (of the mean total). Only means add up.

    NaN: the stage was not measured.
    """
    steps = durations(journeys)
    weight = steps["weight"].to_numpy(dtype=float)
    rows = []
    for name in (*STAGES, "total"):
        values = steps[name].to_numpy(dtype=float)
        if np.isnan(values).all():
            rows.append([name, *[np.nan] * 4])
            continue
        levels = [quantile(values, p, weight) for p in (0.5, 0.95, 0.99)]
        rows.append([name, float(np.average(values, weights=weight)), *levels])
    table = pd.DataFrame(rows, columns=["stage", "mean", "p50", "p95", "p99"]).set_index("stage")
    return table.assign(share=table["mean"] / table["mean"]["total"])


def largest(table: pd.DataFrame) -> tuple[str, float] | None:
    """The stage with the largest share of the mean (`stage_table`), and the share; None where nothing was shown."""
    shares = table["share"][list(STAGES)].dropna()
    return None if shares.empty else (str(shares.idxmax()), float(shares.max()))


def slowest_kind(tables: Mapping[str, pd.DataFrame]) -> str:
    """The name whose `stage_table` has the largest p95 of the total."""
    return max(tables, key=lambda name: float(tables[name]["p95"]["total"]))


def stations(journeys: pd.DataFrame) -> pd.DataFrame:
    """One row per station: first, median and last page to pass it, in seconds since the intended instant (means over updates)."""
    path = on_the_way(journeys)
    since = path[INSTANTS].sub(path["intended_at"], axis=0).assign(update=path["update"])
    spread = since.groupby("update").agg(["min", "median", "max"]).mean()
    table = spread.unstack().reindex(INSTANTS)[["min", "median", "max"]]
    return table.set_axis(["first", "median", "last"], axis=1).rename(index=lambda name: name.removesuffix("_at")).iloc[1:]


def times_to_fresh(journeys: pd.DataFrame, page: str | None = None) -> Array:
    """Seconds from intended to fresh, of one kind of page or of all; inf: never shown. Without pairs whose page left
    before, or whose fate is not known."""
    rows = journeys if page is None else journeys[(journeys["page"] == page).to_numpy()]
    return _to_fresh(rows[rows["fate"].isin(["shown", "never"]).to_numpy(bool)])


def _to_fresh(journeys: pd.DataFrame) -> Array:
    """Seconds; inf: never, NaN: it left, or its fate is not known."""
    delay = journeys["fresh_at"].to_numpy(dtype=float) - journeys["intended_at"].to_numpy(dtype=float)
    return np.where((journeys["fate"] == "never").to_numpy(bool), np.inf, delay)


def percentiles(series: Mapping[str, Array], levels: tuple[float, ...] = (0.5, 0.9, 0.95, 0.99)) -> pd.DataFrame:
    """One row per series: its quantiles (s; inf: never), and rows, how many values they are of."""
    table = {
        name: {f"p{p * 100:g}": or_nan(quantile(values, p)) for p in levels} | {"rows": len(values)}
        for name, values in series.items()
    }
    return pd.DataFrame.from_dict(table, orient="index")


def typical_update(journeys: pd.DataFrame) -> int | None:
    """The update whose slowest page is nearest to the median of all updates' slowest pages; None of nothing."""
    slowest = _slowest(journeys)
    if slowest.empty:
        return None
    return int(slowest.index[int((slowest - slowest.median()).abs().argmin())])


def _slowest(journeys: pd.DataFrame) -> pd.Series:
    done = journeys[(journeys["fate"] == "shown").to_numpy(bool)]
    return (done["fresh_at"] - done["intended_at"]).groupby(done["update"]).max()


def worst(journeys: pd.DataFrame, count: int = 10) -> pd.DataFrame:
    """The *count* updates that took longest to reach their slowest page, that page's stages (s): by update, worst first.

    Columns: subscriber, page, the stages, total, intended_at (s since the run's start).
    """
    steps = durations(journeys)
    slowest = steps.sort_values(["total", "update"], ascending=[False, True], kind="stable").drop_duplicates("update").head(count)
    intended = journeys.drop_duplicates("update").set_index("update")["intended_at"]
    return slowest.set_index("update").assign(intended_at=intended.reindex(slowest["update"]).to_numpy())


def never_shown(journeys: pd.DataFrame) -> pd.DataFrame:
    """One row per update that pages open to the end never showed: pages (how many), of (how many owed it), intended_at."""
    weight = journeys["weight"].to_numpy(dtype=float)
    missing = np.where((journeys["fate"] == "never").to_numpy(bool), weight, 0.0)
    by_update = pd.DataFrame(
        {"update": journeys["update"], "pages": missing, "of": weight, "intended_at": journeys["intended_at"]}
    )
    table = by_update.groupby("update").agg(pages=("pages", "sum"), of=("of", "sum"), intended_at=("intended_at", "first"))
    return table[table["pages"] > 0]
