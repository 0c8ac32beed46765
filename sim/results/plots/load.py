"""Load: what one more subscriber costs, where an application collapses, and whether refetches come as a herd."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm

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
    ax.set_xscale("log")
    ax.set_yscale("log")
    style.count_axis(ax.xaxis, log=True)
    style.time_axis(ax.yaxis, log=True)
    ax.set_xlabel("subscribers of the event")
    ax.set_ylabel("since the update was committed")
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
    offered = frame["offered"].to_numpy(dtype=float)
    left.plot([0, offered.max()], [0, offered.max()], color=style.GREY, lw=1, ls="--")
    left.annotate("all that is offered", (offered.max() * 0.55, offered.max() * 0.6), color=style.GREY, fontsize=8.5, ha="right")
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
    left.set_xlim(0)
    left.set_ylim(0)
    style.count_axis(left.yaxis)
    left.set_ylabel("answered per second")
    main = frame[source != "theory"] if (source != "theory").any() else frame
    if at is None and (bend := knee(main["offered"].to_numpy(dtype=float), main["p99"].to_numpy(dtype=float))) is not None:
        at = float(main["offered"].iloc[bend])
    log = style.wide(frame[["p50", "p99"]].to_numpy().ravel(), 20)
    if log:
        right.set_yscale("log")
    style.time_axis(right.yaxis, log)
    right.set_ylabel("response")
    for ax in (left, right):
        style.count_axis(ax.xaxis)
        ax.set_xlabel(x)
        for place, words, ink in ((at, "knee", style.ORANGE), (capacity, "all workers busy", style.GREY)):
            if place is not None:
                ax.axvline(place, color=ink, lw=1.4, ls=":")
                where = (place, 0.02 if ax is left else 0.98)
                ax.annotate(
                    words, where, xycoords=("data", "axes fraction"), xytext=(-3, 0), textcoords="offset points", color=ink,
                    fontsize=8.5, rotation=90, ha="right", va="bottom" if ax is left else "top",
                )  # fmt: skip
    style.label_ends(right, list(ends.values()))
    style.corner(right, "lines: closed form, dots: simulated" if (source == "theory").any() else "", n)
    text = f"The curve bends at {number(at)}" if at is not None else "No bend within the loads tried"
    style.claim_above([left, right], title or f"{text} {x.removeprefix('offered ')}")
    return [left, right]


def plot_offsets(
    frame: pd.DataFrame, ax: Axes | None = None, *, width: float | None = None, n: str = "", title: str | None = None
) -> Axes:
    """Window-offset heat map (`herds.offsets`): x time, y time since the page's notification, colour refetch starts.

    A hard line is a herd: everybody at the same offset. Jitter makes a band of it.
    """
    ax = style.axes(ax)
    frame = frame[np.isfinite(frame["offset"])]
    if frame.empty:
        return style.nothing(ax, "refetch after a notification")
    at, offset = frame["at"].to_numpy(), frame["offset"].to_numpy()
    width = width or max((at.max() - at.min()) / 120, 0.02)
    columns = np.arange(at.min(), at.max() + 2 * width, width)
    top = max(float(np.quantile(offset, 0.999)) * 1.15, 1e-3)
    rows = np.linspace(0, top, 60)
    counts, _, _ = np.histogram2d(at, np.minimum(offset, top), bins=(columns, rows))
    rate = np.ma.masked_equal(counts.T / width, 0)
    norm = LogNorm(vmin=float(rate.min()), vmax=max(float(rate.max()), float(rate.min()) * 2))
    mesh = ax.pcolormesh(columns, rows, rate, norm=norm, cmap=style.MAP)
    ax.set_xlabel("time since the run's start, s")
    ax.set_ylabel("since the notification")
    style.time_axis(ax.yaxis)
    ax.grid(visible=False)
    bar = style.figure_of(ax).colorbar(mesh, ax=ax, pad=0.01)
    bar.set_label("refetch starts per second")
    style.count_bar(bar)
    low, high = np.quantile(offset, [0.05, 0.95])
    style.corner(ax, f"{len(frame):,} refetches", n)
    style.claim(ax, title or f"90 % of the refetches start between {seconds(low)} and {seconds(high)} after the notification")
    return ax
