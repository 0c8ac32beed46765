"""Choosing between settings: which are dominated, and where the front bends. Frame -> frame."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sim.arrays import Array


def dominated(load: Array, staleness: Array) -> Array:
    """Whether another setting is at least as good in both and better in one; less is better, NaN is worst."""
    load, staleness = (np.where(np.isnan(x), np.inf, x) for x in (np.asarray(load, float), np.asarray(staleness, float)))
    order = np.lexsort((staleness, load))
    result = np.zeros(len(order), dtype=bool)
    best, best_load = np.inf, -np.inf
    for i in order:
        same = staleness[i] == best and load[i] == best_load
        result[i] = np.isinf(staleness[i]) or not (staleness[i] < best or same)
        if staleness[i] < best:
            best, best_load = staleness[i], load[i]
    return result


def knee(x: Array, y: Array) -> int | None:
    """Position of the point where a monotone curve bends most: the one furthest from the chord between its ends.

    Both axes are taken in logarithms where all values are positive, then scaled to 0..1, so that units do not matter (the idea of
    V. Satopaa et al., "Finding a Kneedle in a haystack", ICDCSW 2011). None with fewer than three different points.
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    known = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    if len(known) < 3:
        return None
    across, up = (np.log(v[known]) if (v[known] > 0).all() else v[known] for v in (x, y))
    if np.ptp(across) == 0 or np.ptp(up) == 0:
        return None
    order = np.argsort(across, kind="stable")
    across, up = (across - across.min()) / np.ptp(across), (up - up.min()) / np.ptp(up)
    first, last = order[0], order[-1]
    chord = up[first] + (up[last] - up[first]) * (across - across[first]) / (across[last] - across[first] or 1.0)
    distance = np.abs(up - chord)
    return int(known[int(np.argmax(distance))]) if distance.max() > 1e-9 else None


def front(frame: pd.DataFrame, load: str, staleness: str) -> pd.DataFrame:
    """The frame with a column `dominated`, ordered by *load*; what never refreshes (NaN or inf) is dominated."""
    flags = dominated(frame[load].to_numpy(dtype=float), frame[staleness].to_numpy(dtype=float))
    return frame.assign(dominated=flags).sort_values([load, staleness], kind="stable")


def cheapest_within(frame: pd.DataFrame, load: str, staleness: str, objective: float) -> pd.Series | None:
    """The setting of least *load* whose *staleness* meets the *objective*; None where none does."""
    meeting = frame[frame[staleness] <= objective]
    return None if meeting.empty else meeting.iloc[int(meeting[load].argmin())]
