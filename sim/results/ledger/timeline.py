"""A run over time: what was asked of it, how fresh its pages were, and what failed, part by part; and its incidents."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from sim.arrays import Array
from sim.results.ledger.book import Ledger
from sim.results.ledger.pairs import settled
from sim.results.ledger.views import weight_of
from sim.results.statistics import or_nan, quantile

PARTS, SHORTEST = 60, 0.5
"""Into how many parts a run is cut, and how short a part may be (s)."""


def over_time(ledger: Ledger, parts: int = PARTS) -> pd.DataFrame:
    """The whole run, with its drain and with what came after a run that was cut short, in at most *parts* equal parts.

    One row each, as `_cut` makes it; updates, refetches and those of them that failed are rates (1/s).
    """
    updates, refetches = ledger.tables.updates, ledger.tables.refetches
    instants = np.r_[_intended(updates), refetches["started_at"].to_numpy(float)]
    over = float(np.nanmax(np.r_[ledger.window.over, instants]))
    parts = max(1, min(parts, int(over / SHORTEST)))
    found = _cut(ledger, 0.0, over / parts if over > 0 else SHORTEST, parts, closed=True)
    return found.assign(**{name: found[name] / found["width"] for name in COUNTS})


def windows(ledger: Ledger, parts: int) -> pd.DataFrame:
    """The window in *parts* equal parts: updates, notified_p95, fresh_p50, fresh_p95, refetches, refetch_p95 (`_cut`).

    Indexed by where a part starts, s since the run's start. Empty where an interrupted run has no window.
    """
    start, end, _ = ledger.window
    found = _cut(ledger, start, (end - start) / parts, parts if end > start else 0)
    columns = ["updates", "notified_p95", "fresh_p50", "fresh_p95", "refetches", "refetch_p95"]
    return found.set_index(found["at"].rename("from"))[columns]


COUNTS = ("updates", "updates_failed", "refetches", "refetches_failed")


def _cut(ledger: Ledger, start: float, width: float, parts: int, closed: bool = False) -> pd.DataFrame:
    """One row for each part of *width* seconds from *start* on. *closed*: what happens at the very end belongs to the last part.

    Columns: at, width (s); updates, refetches, and of them updates_failed (not committed, or their event never accepted),
    refetches_failed; notified_p50, notified_p95, fresh_p50, fresh_p95 (s, of the updates of the window that were intended in the
    part; inf: never shown, NaN: none), refetch_p50, refetch_p95 (s, of the refetches that count).
    """

    def part_of(at: Any) -> Array:
        place = np.floor((np.asarray(at, float) - start) / (width or 1.0))
        return np.where((place >= 0) & (place < parts + closed), np.minimum(place, parts - 1), parts).astype(np.int64)

    def count(at: Any, weight: Array) -> Array:
        return np.bincount(part_of(at), weight, minlength=parts + 1)[:parts]

    updates, sent = ledger.tables.updates, ledger.tables.refetches
    # Not by its commit, which some applications do not tell; what was accepted was committed.
    amiss = updates["published_at"].isna().to_numpy(float)
    weight = weight_of(sent["subscriber"], ledger.tables.pages)
    broken = weight * (sent["outcome"].astype(str) == "failed").to_numpy(float)
    counts = (
        count(_intended(updates), np.ones(len(updates))),
        count(_intended(updates), amiss),
        count(sent["started_at"], weight),
        count(sent["started_at"], broken),
    )
    frame = pd.DataFrame({"at": start + np.arange(parts) * width, "width": width} | dict(zip(COUNTS, counts, strict=True)))
    counted = ledger.refetches
    pairs, expected = settled(ledger.pairs), ledger.expected[ledger.expected["received_at"].notna()]
    for name, at, delay, each in (
        ("notified", expected["intended_at"], expected["delay"], expected["weight"]),
        ("fresh", pairs["intended_at"], pairs["delay"], pairs["weight"]),
        ("refetch", counted["started_at"], counted["finished_at"] - counted["started_at"], counted["weight"]),
    ):
        known = delay.notna().to_numpy(bool)
        part, values, weights = part_of(at)[known], delay.to_numpy(float)[known], each.to_numpy(float)[known]
        for level in (0.5, 0.95):
            found = [or_nan(quantile(values[mine], level, weights[mine])) for mine in (part == i for i in range(parts))]
            frame[f"{name}_p{level * 100:g}"] = np.array(found, dtype=float)
    return frame


def _intended(updates: pd.DataFrame) -> Array:
    """When each update was intended; where that is not known, when its event was accepted."""
    return updates["intended_at"].fillna(updates["published_at"]).to_numpy(float)


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
