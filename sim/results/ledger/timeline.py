"""A run over time: what was asked of it, how fresh its pages were, and what failed, part by part; and its incidents."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from sim.results.ledger.book import Ledger
from sim.results.ledger.views import weight_of
from sim.results.statistics import or_nan, quantile

Array = np.ndarray[Any, Any]

PARTS, SHORTEST = 60, 0.5
"""Into how many parts a run is cut, and how short a part may be (s)."""


def over_time(ledger: Ledger, parts: int = PARTS) -> pd.DataFrame:
    """The whole run, drain and what came after a run that was cut short included, in at most *parts* equal parts: one row each,
    that starts `at` (s since the run's start).

    Columns: width (s); updates, refetches, and of them updates_failed (not committed, or their event never accepted),
    refetches_failed, per second; notified_p50, notified_p95, fresh_p50, fresh_p95 (s, of the updates of the window that were
    intended in the part; inf: never shown, NaN: none).
    """
    updates, sent = ledger.tables.updates, ledger.tables.refetches
    intended = updates["intended_at"].fillna(updates["published_at"])
    over = float(np.nanmax(np.r_[ledger.window.over, intended.to_numpy(float), sent["started_at"].to_numpy(float)]))
    parts = max(1, min(parts, math.ceil(over / SHORTEST)))
    width = over / parts if over > 0 else SHORTEST

    def part_of(at: Any) -> Array:
        place = np.floor(np.asarray(at, float) / width)
        # What happens at the very end belongs to the last part.
        return np.where((place >= 0) & (place <= parts), np.minimum(place, parts - 1), parts).astype(np.int64)

    def rate(at: Any, weight: Array) -> Array:
        return np.bincount(part_of(at), weight, minlength=parts + 1)[:parts] / width

    amiss = (updates["committed_at"].isna() | updates["published_at"].isna()).to_numpy(float)
    weight = weight_of(sent["subscriber"], ledger.tables.pages)
    broken = weight * (sent["outcome"].astype(str) == "failed").to_numpy(float)
    pairs, expected = ledger.pairs[ledger.pairs["settled"]], ledger.expected[ledger.expected["received_at"].notna()]
    frame = pd.DataFrame(
        {
            "at": np.arange(parts) * width,
            "width": width,
            "updates": rate(intended, np.ones(len(updates))),
            "updates_failed": rate(intended, amiss),
            "refetches": rate(sent["started_at"], weight),
            "refetches_failed": rate(sent["started_at"], broken),
        }
    )
    for name, rows in (("notified", expected), ("fresh", pairs)):
        part, delay, each = part_of(rows["intended_at"]), rows["delay"].to_numpy(float), rows["weight"].to_numpy(float)
        for level in (0.5, 0.95):
            found = [or_nan(quantile(delay[mine], level, each[mine])) for mine in (part == i for i in range(parts))]
            frame[f"{name}_p{level * 100:g}"] = np.array(found)
    return frame


def times_to_notified(ledger: Ledger) -> Array:
    """Seconds from intended to arrival, of the deliveries that count and arrived: what the summary's quantiles are of."""
    return ledger.expected["delay"].dropna().to_numpy(float)


def incidents(ledger: Ledger) -> list[tuple[str, float, float]]:
    """What went wrong on purpose: (kind, from, to), s since the run's start. As it happened, where the run was measured."""
    over = ledger.window.over
    if ledger.measured:
        rows = ledger.tables.manifest.extra.get("incidents", [])  # type: ignore[attr-defined]
        return [(row["kind"], row["began_at"], over if row["ended_at"] is None else row["ended_at"]) for row in rows]
    return [
        (incident.kind, incident.at, incident.at + getattr(incident, "down", getattr(incident, "duration", 0.0)))
        for incident in ledger.scenario.incidents
    ]
