"""Load: what one more subscriber costs, where an application collapses, and whether refetches come as a herd."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from sim.results.fronts import knee
from sim.results.plots import style
from sim.results.text import number, seconds


def plot_fan_out(frame: pd.DataFrame, ax: Axes | None = None, *, n: str = "", title: str | None = None) -> Axes:
    """Time to the first, median and last receiver (s) over the number of subscribers, both logarithmic.

    *frame*: columns subscribers, first, median, last; a column `source` separates measured (markers) from simulated (lines).
    """
    ax = style.axes(ax)
    if frame.empty:
        return style.nothing(ax, "run")
    inks = {"first": style.GREEN, "median": style.BLUE, "last": style.VERMILION}
    source = frame["source"] if "source" in frame else pd.Series("measured", index=frame.index)
    ends = []
    for kind, part in frame.groupby(source, sort=False):
        part = part.sort_values("subscribers")
        look: dict[str, Any] = {"ls": "--", "lw": 1.2} if kind == "simulated" else {"marker": "o", "lw": 1.6}
        for name, ink in inks.items():
            ax.plot(part["subscribers"], part[name], color=ink, **look)
            if kind != "simulated" or source.nunique() == 1:
                ends.append((float(part["subscribers"].iloc[-1]), float(part[name].iloc[-1]), f"{name} receiver", ink))
    style.dress(ax.xaxis, "subscribers of the event", "count", log=True)
    style.dress(ax.yaxis, "since the update was committed", "time", log=True)
    style.label_ends(ax, ends)
    style.corner(ax, "dashed: simulated" if source.nunique() > 1 else "", n)
    main = frame[source != "simulated"] if (source != "simulated").any() else frame
    slope = per_subscriber(main)
    style.claim(ax, title or f"One more subscriber delays the last one by {seconds(slope)}")
    return ax


def per_subscriber(frame: pd.DataFrame) -> float:
    """Least-squares slope of the time to the last receiver over the number of subscribers, s; NaN with one size only."""
    sizes = frame["subscribers"].to_numpy(dtype=float)
    if len(np.unique(sizes)) < 2:
        return float("nan")
    return float(np.polyfit(sizes, frame["last"].to_numpy(dtype=float), 1)[0])


def plot_load_latency(
    frame: pd.DataFrame,
    *,
    at: float | None = None,
    capacity: float | None = None,
    x: str = "offered refetches/s",
    n: str = "",
    title: str | None = None,
) -> list[Axes]:
    """Two panels over the offered load: delivered against offered, and p50 and p99 (s), with the knee marked.

    *frame*: columns offered, delivered, p50, p99; `low` and `high` draw the interval of p99; `source` is `theory` (lines) or
    another (dots; without it a line with dots). *at*: the knee; None: where p99 bends most (`fronts.knee`). *capacity*: the
    load at which no worker is ever free. Returns both axes.
    """
    left, right = style.panels(1, 2, height=3.9)
    if frame.empty:
        return [style.nothing(left, "run"), style.nothing(right, "run")]
    frame = frame.sort_values("offered")
    source = frame["source"] if "source" in frame else pd.Series("", index=frame.index)
    ends = _loads(left, right, frame, source)
    left.set_xlim(0)
    left.set_ylim(0)
    style.dress(left.yaxis, "answered per second", "count")
    style.dress(right.yaxis, "response", "time", style.wide(frame[["p50", "p99"]].to_numpy().ravel(), 20))
    main = frame[source != "theory"] if (source != "theory").any() else frame
    if at is None and (bend := knee(main["offered"].to_numpy(dtype=float), main["p99"].to_numpy(dtype=float))) is not None:
        at = float(main["offered"].iloc[bend])
    for ax, height, side in ((left, 0.02, "bottom"), (right, 0.98, "top")):
        style.dress(ax.xaxis, x, "count")
        for place, words, ink in ((at, "knee", style.ORANGE), (capacity, "all workers busy", style.GREY)):
            if place is not None:
                ax.axvline(place, color=ink, lw=1.4, ls=":")
                look = {"color": ink, "rotation": 90, "ha": "right", "va": side}
                style.note(ax, words, (place, height), (-3, 0), ("data", "axes fraction"), **look)
    style.label_ends(right, ends)
    style.corner(right, "lines: closed form, dots: simulated" if (source == "theory").any() else "", n)
    text = f"The curve bends at {number(at)}" if at is not None else "No bend within the loads tried"
    style.claim_above([left, right], title or f"{text} {x.removeprefix('offered ')}")
    return [left, right]


def _loads(left: Axes, right: Axes, frame: pd.DataFrame, source: pd.Series) -> list[tuple[float, float, str, str]]:
    """Draw what was answered and how late; the ends of the lines of p50 and p99, to be named."""
    top = float(frame["offered"].max())
    left.plot([0, top], [0, top], color=style.GREY, lw=1, ls="--")
    style.note(left, "all that is offered", (top * 0.55, top * 0.6), color=style.GREY, ha="right")
    ends: dict[str, tuple[float, float, str, str]] = {}
    for kind, part in frame.groupby(source, sort=False):
        look: dict[str, Any] = {"ls": "-", "lw": 1.3} if kind == "theory" else {"marker": "o", "ls": "none" if kind else "-"}
        over = part["offered"].to_numpy(dtype=float)
        left.plot(over, part["delivered"], color=style.BLUE, **look)
        for name, ink in (("p50", style.GREEN), ("p99", style.VERMILION)):
            right.plot(over, part[name], color=ink, **look)
            last = (float(over[-1]), float(part[name].iloc[-1]), name, ink)
            ends[name] = max(ends.get(name, last), last)
        if {"low", "high"} <= set(part):
            right.vlines(over, part["low"], part["high"], color=style.VERMILION, lw=1.2, alpha=0.7)
    return list(ends.values())


def plot_offsets(frame: pd.DataFrame, ax: Axes | None = None, *, n: str = "") -> Axes:
    """Window-offset heat map (`herds.offsets`): x time, y time since the page's notification, colour refetch starts.

    A hard line is a herd: all pages at the same offset. Jitter makes a band of it.
    """
    ax = style.axes(ax)
    frame = frame[np.isfinite(frame["offset"])]
    if frame.empty:
        return style.nothing(ax, "refetch after a notification")
    at, offset = frame["at"].to_numpy(), frame["offset"].to_numpy()
    width = max((at.max() - at.min()) / 120, 0.02)
    columns = np.arange(at.min(), at.max() + 2 * width, width)
    top = max(float(np.quantile(offset, 0.999)) * 1.15, 1e-3)
    rows = np.linspace(0, top, 60)
    counts, _, _ = np.histogram2d(at, np.minimum(offset, top), bins=(columns, rows))
    style.density(ax, columns, rows, counts.T / width, "refetch starts per second")
    ax.set_xlabel("time since the run's start, s")
    style.dress(ax.yaxis, "since the notification", "time")
    low, high = np.quantile(offset, [0.05, 0.95])
    style.corner(ax, f"{len(frame):,} refetches", n)
    style.claim(ax, f"90 % of the refetches start between {seconds(low)} and {seconds(high)} after the notification")
    return ax
