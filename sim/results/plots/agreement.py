"""Two runs side by side: what was measured against what was predicted, and differences with their intervals."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from sim.results.plots import style
from sim.results.text import percent


def plot_agreement(frame: pd.DataFrame, *, band: float = 0.1, n: str = "") -> list[Axes]:
    """Measured (with interval) against predicted, on the diagonal, and beside it the residual (measured / predicted - 1).

    *frame*: index what, columns measured, low, high, predicted (s); a column `group` colours. *band*: residuals inside it are
    called agreement. Returns both axes.
    """
    left, right = style.panels(1, 2, height=max(3.8, 1.4 + 0.27 * len(frame)))
    frame = frame[((frame[["measured", "predicted"]] > 0) & np.isfinite(frame[["measured", "predicted"]])).all(axis=1)]
    if frame.empty:
        return [style.nothing(left, "common figure"), style.nothing(right, "common figure")]
    groups = frame["group"] if "group" in frame else pd.Series("all", index=frame.index)
    inks = {key: style.CYCLE[i % len(style.CYCLE)] for i, key in enumerate(dict.fromkeys(groups))}
    measured, predicted = frame["measured"].to_numpy(dtype=float), frame["predicted"].to_numpy(dtype=float)
    low = np.where(np.isfinite(frame["low"].astype(float)), frame["low"].astype(float), measured)
    high = np.where(np.isfinite(frame["high"].astype(float)), frame["high"].astype(float), measured)
    ends = np.array([min(measured.min(), predicted.min()) * 0.7, max(measured.max(), predicted.max()) * 1.4])
    left.plot(ends, ends, color=style.GREY, lw=1)
    left.fill_between(ends, ends * (1 - band), ends * (1 + band), color=style.GREY, alpha=0.15, lw=0)
    residual = measured / predicted - 1
    for key, ink in inks.items():
        rows = (groups == key).to_numpy()
        errors = np.maximum(np.vstack([measured - low, high - measured])[:, rows], 0)
        left.errorbar(predicted[rows], measured[rows], errors, fmt="o", color=ink, ms=5, lw=1, label=str(key))
        right.errorbar(residual[rows], np.flatnonzero(rows), xerr=errors / predicted[rows], fmt="o", color=ink, ms=5, lw=1)
    style.dress(left.xaxis, "predicted", "time", log=True)
    style.dress(left.yaxis, "measured", "time", log=True)
    left.set_xlim(*ends)
    left.set_ylim(*ends)
    if len(inks) > 1:
        style.legend(left, fontsize=8, loc="upper left")
    right.axvspan(-band, band, color=style.GREY, alpha=0.15, lw=0)
    right.axvline(0, color=style.GREY, lw=1)
    reach = max(float(np.abs(residual).max()) * 1.25, band * 1.5)
    right.set_xlim(-reach, reach)
    style.dress(right.xaxis, "measured / predicted − 1", "share")
    right.set_yticks(range(len(frame)), [str(name) for name in frame.index], fontsize=8)
    right.set_ylim(len(frame) - 0.5, -0.5)
    style.corner(right, f"band: ± {percent(band)}", n)
    inside = int((np.abs(residual) <= band).sum())
    style.claim(left, f"{inside} of {len(frame)} predictions are within {percent(band)} of what was measured", width=style.WIDTH)
    return [left, right]


WIDE = 20
"""How many times the band a difference is for the axis to be logarithmic beyond some bands: else the others have no room."""

VERDICTS = {"better": style.GREEN, "worse": style.VERMILION, "same": style.BLUE}


def plot_forest(frame: pd.DataFrame, ax: Axes | None = None, *, band: float, n: str = "") -> Axes:
    """Relative differences with their intervals around an equivalence band: better, worse, same, or undecided.

    *frame*: index metric, columns difference, low, high (relative to the first run), verdict, and a, b (figures as text).
    """
    ax = style.axes(ax, height=1.5 + 0.36 * max(3, len(frame)))
    known = frame[np.isfinite(frame["difference"].astype(float))]
    if known.empty:
        return style.nothing(ax, "common figure")
    ax.axvspan(-band, band, color=style.GREY, alpha=0.18, lw=0)
    ax.axvline(0, color=style.GREY, lw=1)
    values = known[["difference", "low", "high"]].astype(float).to_numpy()
    reach = float(np.nanmax(np.abs(values[np.isfinite(values)]), initial=band)) * 1.15
    for y, ((_, row), (difference, low, high)) in enumerate(zip(known.iterrows(), values, strict=True)):
        verdict = str(row["verdict"]).partition(":")[0]
        ink = VERDICTS.get(verdict, style.GREY)
        low, high = (side if np.isfinite(side) else difference for side in (low, high))
        ax.hlines(y, max(low, -reach), min(high, reach), color=ink, lw=2.4)
        ax.plot(difference, y, "o", color=ink, ms=7)
        words = f"{row['a']} → {row['b']}   {verdict}"
        style.note(ax, words, (1.01, y), on=("axes fraction", "data"), va="center", color=ink, annotation_clip=False)
    if reach > WIDE * band:
        ax.set_xscale("symlog", linthresh=4 * band)
        marks = [4 * band, *(10.0**decade for decade in range(6))]
        ax.set_xticks([0.0, *(sign * mark for mark in marks if mark <= reach for sign in (-1, 1))])
    else:
        ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.set_xlim(-reach, reach)
    style.dress(ax.xaxis, "difference, relative to the first run (less is better)", "share")
    ax.set_yticks(range(len(known)), list(known.index))
    ax.set_ylim(len(known) - 0.5, -0.5)
    ax.grid(visible=False, axis="y")
    style.corner(ax, f"band: ± {percent(band)} counts as the same", n)
    counts = known["verdict"].str.partition(":")[0].value_counts()
    style.claim(ax, ", ".join(f"{count} {verdict}" for verdict, count in counts.items()).capitalize())
    return ax
