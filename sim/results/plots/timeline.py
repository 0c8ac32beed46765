"""One run over time: what was asked, how late pages heard and were fresh, and what failed, with its incidents."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from sim.results.plots import style
from sim.results.text import capital, number, seconds

FAILED = style.VERMILION


def plot_run(
    frame: pd.DataFrame,
    incidents: Sequence[tuple[str, float, float]] = (),
    *,
    window: tuple[float, float] | None = None,
    n: str = "",
) -> list[Axes]:
    """Three panels on one time axis: updates, latencies (p50 as a line, up to p95 as a band), refetches; failures in red.

    *frame*: `timeline.over_time`; *incidents*: (kind, from, to), drawn as bands; *window*: what is counted, the rest is grey.
    Returns the axes.
    """
    axes = style.panels(3, 1, height=5.8, sharex=True, height_ratios=(1, 2, 1.2))
    if frame.empty:
        return [style.nothing(ax, "run") for ax in axes]
    edges = np.r_[frame["at"], frame["at"].iloc[-1] + frame["width"].iloc[-1]]
    for ax, what, ink in ((axes[0], "updates", style.BLUE), (axes[2], "refetches", style.GREEN)):
        ax.stairs(frame[what], edges, color=ink, fill=True, alpha=0.6)
        ax.stairs(frame[f"{what}_failed"], edges, color=FAILED, fill=True)
        ax.set_ylim(0, (float(frame[what].max()) or 1.0) * 1.15)
        style.dress(ax.yaxis, f"{what}/s", "count")
    axes[0].set_xlim(0, edges[-1])
    _latencies(axes[1], frame)
    for ax in axes:
        for begin, end in ((0.0, window[0]), (window[1], edges[-1])) if window else ():
            ax.axvspan(begin, end, facecolor="none", edgecolor="#D4D4D4", hatch="//", lw=0, zorder=0)
        for kind, begin, end in incidents:
            # A band that can be seen, however short it was.
            ax.axvspan(begin, max(end, begin + edges[-1] / 200), color=style.ORANGE, alpha=0.35, lw=0, zorder=0.5)
            if ax is axes[0]:
                style.note(ax, kind, (begin, 1), (2, 2), ("data", "axes fraction"))
    axes[-1].set_xlabel("time since the run's start, s")
    failed = bool(frame["updates_failed"].any() or frame["refetches_failed"].any())
    outside = "hatched: not counted" if window and (window[0] > 0 or window[1] < edges[-1] - 1e-6) else ""
    never = "triangle: the p95 is never" if np.isinf(frame["fresh_p95"]).any() else ""
    style.corner(axes[-1], "dot: p50, bar: up to the p95", never, "red: failed" if failed else "", outside, n)
    style.claim(axes[0], claim(frame), width=0.88 * style.WIDTH, pad=16 if incidents else 8)
    return axes


def _latencies(ax: Axes, frame: pd.DataFrame) -> None:
    middle = (frame["at"] + frame["width"] / 2).to_numpy(float)
    levels = frame[["notified_p50", "notified_p95", "fresh_p50", "fresh_p95"]].to_numpy(float)
    known = levels[np.isfinite(levels) & (levels > 0)]
    ax.set_ylabel("latency")
    if not len(known):
        ax.text(0.5, 0.5, "no latency is known", transform=ax.transAxes, ha="center", va="center", color=style.GREY)
        ax.set_yticks([])
        return
    log = style.wide(known, 20)
    top = float(known.max()) * (1.6 if log else 1.1)
    style.dress(ax.yaxis, "latency", "time", log)
    ax.set_ylim(float(known.min()) * 0.7 if log else 0, top)
    ends = []
    for name, ink in (("notified", style.SKY), ("fresh", style.PURPLE)):
        low, high = (frame[f"{name}_{level}"].to_numpy(float) for level in ("p50", "p95"))
        here, never = np.isfinite(low), np.isinf(high)
        ax.vlines(middle[here], low[here], np.minimum(high[here], top), color=ink, lw=2.5, alpha=0.45)
        ax.plot(middle[here], low[here], color=ink, lw=0.8, marker="o", ms=3.5)
        ax.plot(middle[never], np.full(never.sum(), top * (0.85 if log else 0.97)), "v", color=FAILED, ms=6)
        if here.any():
            ends.append((float(middle[here][-1]), float(low[here][-1]), name, ink))
    style.label_ends(ax, ends, gap=0.12)


def claim(frame: pd.DataFrame) -> str:
    """What failed and from when on; else how the time to fresh went."""
    parts = []
    for what in ("updates", "refetches"):
        counts = (frame[f"{what}_failed"] * frame["width"]).to_numpy(float)
        if counts.sum() > 0:
            first = float(frame["at"].iloc[int(np.flatnonzero(counts)[0])])
            parts.append(f"{number(round(float(counts.sum())))} {what} failed from {seconds(first)} on")
    known = frame[frame["fresh_p95"].notna()]
    at, late = known["at"].to_numpy(float), known["fresh_p95"].to_numpy(float)
    if np.isinf(late).any():
        first = float(at[np.isinf(late).argmax()])
        parts.append(f"from {seconds(first)} on some pages never showed what changed")
    elif len(late):
        worst = float(at[late.argmax()])
        middle, most = seconds(float(np.median(late))), seconds(float(late.max()))
        parts.append(f"the p95 of the time to fresh: {middle} in the median part, at most {most} (at {seconds(worst)})")
    return capital("; ".join(parts) or "no update is known to have been shown")
