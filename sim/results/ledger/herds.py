"""Herds: refetches that start together because one event reached all their pages. Frame -> frame."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sim.results.ledger.book import RunTables
from sim.results.statistics import quantile

GAP = 0.1
"""Seconds without a start that end a herd."""


def offsets(run: RunTables) -> pd.DataFrame:
    """One row per refetch that was sent: at (s since the run's start), offset (s since the page's latest notification before).

    Refetches of pages that have not been notified yet (first load, polling) are left out.
    """
    sent = run.refetches[run.refetches["started_at"].notna()][["subscriber", "due_at", "started_at"]]
    heard = run.notifications[["subscriber", "received_at"]].astype({"subscriber": "int64"})
    # Before it was due, not before it was sent: what arrives during the jitter did not cause it.
    joined = pd.merge_asof(
        sent.astype({"subscriber": "int64"}).sort_values("due_at"),
        heard.sort_values("received_at"),
        left_on="due_at",
        right_on="received_at",
        by="subscriber",
    ).dropna(subset=["received_at"])
    return pd.DataFrame({"at": joined["started_at"], "offset": joined["started_at"] - joined["received_at"]}).sort_values("at")


def herds(refetches: pd.DataFrame, gap: float = GAP) -> pd.DataFrame:
    """One row per herd: at (first start), size, span (first to last start, s), drain (first start to last answer, s), p99 (s).

    A herd ends where no refetch starts for *gap* seconds. The size counts rows by their `weight`, where they have one.
    """
    sent = refetches[refetches["started_at"].notna()].sort_values("started_at", kind="stable")
    at = sent["started_at"].to_numpy()
    if not len(at):
        return pd.DataFrame(columns=["at", "size", "span", "drain", "p99"], dtype=float)
    herd = np.cumsum(np.diff(at, prepend=at[0]) > gap)
    finished = sent["finished_at"].to_numpy()
    weight = sent["weight"].to_numpy() if "weight" in sent else np.ones(len(sent))
    rows = pd.DataFrame({"herd": herd, "at": at, "finished": finished, "took": finished - at, "weight": weight})
    grouped = rows.groupby("herd")
    table = grouped.agg(
        at=("at", "min"),
        size=("weight", "sum"),
        last=("at", "max"),
        done=("finished", "max"),
        p99=("took", lambda took: quantile(took.dropna().to_numpy(), 0.99)),
    )
    table["span"] = table["last"] - table["at"]
    table["drain"] = table["done"] - table["at"]
    return table[["at", "size", "span", "drain", "p99"]]
