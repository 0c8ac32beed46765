"""Distributions of a latency: its tail on a percentile axis, the whole of it as an ECDF, and heat maps of it over time."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from sim.arrays import Array
from sim.results.plots import style
from sim.results.statistics import quantile
from sim.results.text import seconds

TICKS = (0.0, 0.5, 0.9, 0.99, 0.999, 0.9999)


def _finite_top(series: Mapping[str, Array]) -> float:
    known = [values[np.isfinite(values)].max(initial=0) for values in series.values() if len(values)]
    return max(known, default=0.0)


def plot_percentiles(
    series: Mapping[str, Array],
    events: int,
    ax: Axes | None = None,
    *,
    floor: float | None = None,
) -> Axes:
    """Latency (s) over the percentile on a log(1/(1-p)) axis, one line per series: the tail gets the room.

    *events*: independent observations; the part of the axis that fewer than ten of them decide is hatched. *floor*: the harness's
    own latency (s), below which nothing is known. Infinite values (never) end a line at the top.
    """
    ax = style.axes(ax)
    series = {name: np.sort(np.asarray(values, float)) for name, values in series.items() if len(values)}
    if not series:
        return style.nothing(ax, "samples")
    most = max(map(len, series.values()))
    right = min(max(1.0, np.log10(most)), 4.0)
    top = _finite_top(series) * 1.08 or 1.0
    looks = style.looks(series)
    for name, values in series.items():
        p = 1 - np.logspace(0, -min(right, np.log10(len(values)) if len(values) > 1 else 0), 300)
        found = np.array([quantile(values, float(q)) for q in p], dtype=float)
        label, ink, line = looks[name]
        ax.plot(-np.log10(1 - p), np.minimum(found, top * 10), color=ink, ls=line, label=label)
    ax.set_xlim(0, right)
    _latency_axis(ax, series, top)
    ticks = {-np.log10(1 - p): f"{p * 100:g}" for p in TICKS if -np.log10(1 - p) <= right + 1e-9}
    ax.set_xticks(list(ticks), list(ticks.values()))
    ax.set_xlabel("percentile")
    few = 10 / events > 10.0**-right
    if few:
        ax.axvspan(max(0.0, np.log10(events / 10)), right, facecolor="none", edgecolor="#C8C8C8", hatch="//", lw=0, zorder=0)
    if floor:
        ax.axhline(floor, color=style.GREY, lw=1, ls=":")
        low, high = ax.get_ylim()
        place = (0.02, min(max(floor, low), high))
        words = f"harness floor p99: {seconds(floor)}"
        style.note(ax, words, place, on=("axes fraction", "data"), fontsize=8, color=style.GREY, va="bottom")
    ends: dict[str, tuple[float, float, str, str]] = {}
    for drawn in ax.get_lines()[: len(series)]:
        x, y = float(np.asarray(drawn.get_xdata())[-1]), float(np.asarray(drawn.get_ydata())[-1])
        ends.setdefault(str(drawn.get_label()), (x, min(y, top), str(drawn.get_label()), str(drawn.get_color())))
    style.label_ends(ax, list(ends.values()))
    style.line_legend(ax, series, loc="upper left")
    style.corner(ax, f"n = {events} updates", "hatched: decided by fewer than ten of them" if few else "")
    first, values = next(iter(series.items()))
    style.claim(ax, f"{first}: half within {seconds(quantile(values, 0.5))}, 99 % within {seconds(quantile(values, 0.99))}")
    return ax


def _latency_axis(ax: Axes, series: Mapping[str, Array], top: float) -> None:
    """Latency on y: from zero, or logarithmic where the values spread widely."""
    spread = np.concatenate([values[np.isfinite(values)] for values in series.values()])
    low = float(np.quantile(spread[spread > 0], 0.01)) if (spread > 0).any() else 0.0
    log = low > 0 and top > 30 * low
    style.dress(ax.yaxis, "latency", "time", log)
    ax.set_ylim(low * 0.7 if log else 0, top * (1.3 if log else 1.0))


def plot_ecdf(series: Mapping[str, Array], ax: Axes | None = None, *, x: str = "time to fresh", n: str = "") -> Axes:
    """Share of values (s) up to each latency, one line per series, labelled. What never happened is missing at the top."""
    ax = style.axes(ax)
    series = {name: np.sort(np.asarray(values, float)) for name, values in series.items() if len(values)}
    if not series:
        return style.nothing(ax, "samples")
    everything = np.concatenate(list(series.values()))
    known = everything[np.isfinite(everything)]
    low, high = np.quantile(known[known > 0], [0.05, 0.99]) if (known > 0).any() else (0.0, 0.0)
    # A few that are far above the rest would press all others to the edge of a linear axis.
    log = bool(style.wide([low, high]) or known.max(initial=0) > 5 * high)
    style.dress(ax.xaxis, x, "time", log)
    if log:
        ax.set_xlim(max(np.quantile(known[known > 0], 0.001), 1e-6), known.max() * 1.1)
    else:
        ax.set_xlim(0, (known.max(initial=0) or 1.0) * 1.05)
    looks = style.looks(series)
    for name, values in series.items():
        reached = values[np.isfinite(values)]
        # 2,000 steps are more than a figure can show; the first and last are kept.
        pick = np.unique(np.linspace(0, max(len(reached) - 1, 0), min(2000, len(reached))).astype(int))
        label, ink, line = looks[name]
        ax.step(reached[pick], (pick + 1) / len(values), where="post", color=ink, ls=line, label=label)
    ax.set_ylim(0, 1.02)
    style.dress(ax.yaxis, "share", "share")
    _label_inside(ax, series, looks)
    style.line_legend(ax, series, loc="lower right")
    style.corner(ax, n)
    style.claim(ax, _slowest_median(series, looks, x))
    return ax


def _slowest_median(series: Mapping[str, Array], looks: Mapping[str, tuple[str, str, str]], x: str) -> str:
    """`Median time to fresh: 0.7 s (detail) to 0.9 s (dashboard)`: the first source's medians, lowest and highest."""
    medians: dict[str, float] = {}
    for name, values in series.items():
        medians.setdefault(looks[name][0], quantile(values, 0.5) or 0.0)
    low, high = min(medians, key=lambda k: medians[k]), max(medians, key=lambda k: medians[k])
    if low == high:
        return f"Median {x}: {seconds(medians[low])} ({low})"
    return f"Median {x}: {seconds(medians[low])} ({low}) to {seconds(medians[high])} ({high})"


def _label_inside(ax: Axes, series: Mapping[str, Array], looks: Mapping[str, tuple[str, str, str]]) -> None:
    """Names beside the lines, each at a height of its own so that close lines do not share a label's place."""
    firsts = {looks[name][0]: (values, looks[name][1]) for name, values in reversed(list(series.items()))}
    ordered = sorted(firsts, key=lambda label: quantile(firsts[label][0], 0.5) or 0.0)
    heights = np.linspace(0.75, 0.3, len(ordered)) if len(ordered) > 1 else [0.5]
    for label, height in zip(ordered, heights, strict=True):
        values, ink = firsts[label]
        at = quantile(values, float(height))
        if at is not None and np.isfinite(at):
            style.note(ax, label, (at, height), (7, -3), color=ink, fontsize=9.5, va="top")


def plot_drift(frame: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Heat map of a latency over time: columns `at` and `latency` (s), brightness the number of rows in each second.

    Shows modes, warm-up and drift. Infinite latencies are left out (counted elsewhere).
    """
    ax = style.axes(ax)
    frame = frame[np.isfinite(frame["latency"]) & (frame["latency"] > 0)]
    if frame.empty:
        return style.nothing(ax, "samples")
    at, latency = frame["at"].to_numpy(), frame["latency"].to_numpy()
    low, high = float(np.quantile(latency, 0.001)), float(latency.max())
    log = style.wide([low, high], 20)
    rows = np.geomspace(low * 0.95, high * 1.05, 45) if log else np.linspace(0, high * 1.05, 45)
    columns = np.arange(np.floor(at.min()), at.max() + 2)
    counts, _, _ = np.histogram2d(at, latency, bins=(columns, rows))
    style.density(ax, columns, rows, counts.T, "pairs of update and page")
    style.dress(ax.yaxis, "latency", "time", log)
    ax.set_xlabel("time since the run's start, s")
    halves = [quantile(latency[part], 0.95) for part in (at < np.median(at), at >= np.median(at))]
    style.corner(ax, f"n = {len(frame):,} pairs of update and page")
    style.claim(ax, f"p95 is {seconds(halves[0])} in the first half of the run and {seconds(halves[1])} in the second")
    return ax


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
