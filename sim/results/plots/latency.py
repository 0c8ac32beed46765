"""Distributions of a latency: its tail on a percentile axis, the whole of it as an ECDF, and its drift over time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm

from sim.results.plots import style
from sim.results.statistics import quantile
from sim.results.text import percent, seconds

Array = np.ndarray[Any, Any]

TICKS = (0.0, 0.5, 0.9, 0.99, 0.999, 0.9999)


def _finite_top(series: Mapping[str, Array]) -> float:
    known = [values[np.isfinite(values)].max(initial=0) for values in series.values() if len(values)]
    return max(known, default=0.0)


def plot_percentiles(
    series: Mapping[str, Array],
    events: int,
    ax: Axes | None = None,
    *,
    objective: tuple[float, float] | None = None,
    floor: float | None = None,
    title: str | None = None,
) -> Axes:
    """Latency (s) over the percentile on a log(1/(1-p)) axis, one line per series: the tail gets the room.

    *events*: independent observations; the part of the axis that fewer than ten of them decide is hatched. *objective*: (p, s),
    drawn as the step that a passing line stays below. *floor*: the harness's own latency (s), below which nothing can be told.
    Infinite values (never) end a line at the top.
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
    ax.set_xticks([-np.log10(1 - p) for p in TICKS if -np.log10(1 - p) <= right + 1e-9])
    ax.set_xticklabels([f"{p * 100:g}" for p in TICKS if -np.log10(1 - p) <= right + 1e-9])
    ax.set_xlabel("percentile")
    if 10 / events > 10.0**-right:
        ax.axvspan(max(0.0, np.log10(events / 10)), right, facecolor="none", edgecolor="#C8C8C8", hatch="//", lw=0, zorder=0)
    if objective is not None:
        at = -np.log10(1 - objective[0])
        ax.plot([0, at, at], [objective[1], objective[1], top * 10], color=style.BLACK, lw=1.1, ls="--")
    if floor:
        ax.axhline(floor, color=style.GREY, lw=1, ls=":")
        low, high = ax.get_ylim()
        place = (0.02, min(max(floor, low), high))
        words = f"harness floor p99: {seconds(floor)}"
        ax.annotate(words, place, xycoords=("axes fraction", "data"), fontsize=8, color=style.GREY, va="bottom")
    ends: dict[str, tuple[float, float, str, str]] = {}
    for drawn in ax.get_lines()[: len(series)]:
        x, y = float(np.asarray(drawn.get_xdata())[-1]), float(np.asarray(drawn.get_ydata())[-1])
        ends.setdefault(str(drawn.get_label()), (x, min(y, top), str(drawn.get_label()), str(drawn.get_color())))
    style.label_ends(ax, list(ends.values()))
    style.line_legend(ax, series, loc="upper left")
    style.corner(ax, f"n = {events} updates", "hatched: decided by fewer than ten of them" if 10 / events > 10.0**-right else "")
    first, values = next(iter(series.items()))
    style.claim(
        ax, title or f"{first}: half within {seconds(quantile(values, 0.5))}, 99 % within {seconds(quantile(values, 0.99))}"
    )
    return ax


def _latency_axis(ax: Axes, series: Mapping[str, Array], top: float) -> None:
    """Latency on y: from zero, or logarithmic where the values spread widely."""
    spread = np.concatenate([values[np.isfinite(values)] for values in series.values()])
    low = float(np.quantile(spread[spread > 0], 0.01)) if (spread > 0).any() else 0.0
    log = low > 0 and top > 30 * low
    if log:
        ax.set_yscale("log")
    ax.set_ylim(low * 0.7 if log else 0, top * (1.3 if log else 1.0))
    style.time_axis(ax.yaxis, log)
    ax.set_ylabel("latency")


def plot_ecdf(
    series: Mapping[str, Array], ax: Axes | None = None, *, x: str = "time to fresh", n: str = "", title: str | None = None
) -> Axes:
    """Share of values (s) up to each latency, one line per series, labelled. What never happened is missing at the top."""
    ax = style.axes(ax)
    series = {name: np.sort(np.asarray(values, float)) for name, values in series.items() if len(values)}
    if not series:
        return style.nothing(ax, "samples")
    everything = np.concatenate(list(series.values()))
    known = everything[np.isfinite(everything)]
    if style.wide(np.quantile(known[known > 0], [0.05, 0.99]) if (known > 0).any() else known):
        ax.set_xscale("log")
        ax.set_xlim(max(np.quantile(known[known > 0], 0.001), 1e-6), known.max() * 1.1)
        style.time_axis(ax.xaxis, log=True)
    else:
        ax.set_xlim(0, (known.max(initial=0) or 1.0) * 1.05)
        style.time_axis(ax.xaxis)
    looks = style.looks(series)
    for name, values in series.items():
        reached = values[np.isfinite(values)]
        # 2,000 steps are more than a figure can show; the first and last are kept.
        pick = np.unique(np.linspace(0, max(len(reached) - 1, 0), min(2000, len(reached))).astype(int))
        label, ink, line = looks[name]
        ax.step(reached[pick], (pick + 1) / len(values), where="post", color=ink, ls=line, label=label)
    ax.set_ylim(0, 1.02)
    ax.yaxis.set_major_formatter(lambda value, _: percent(round(value, 3)))
    ax.set_xlabel(x)
    ax.set_ylabel("share")
    _label_inside(ax, series, looks)
    style.line_legend(ax, series, loc="lower right")
    style.corner(ax, n)
    style.claim(ax, title or _slowest_median(series, looks, x))
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
            ax.annotate(label, (at, height), xytext=(7, -3), textcoords="offset points", color=ink, fontsize=9.5, va="top")


def plot_drift(frame: pd.DataFrame, ax: Axes | None = None, *, width: float = 1.0, title: str | None = None) -> Axes:
    """Heat map of a latency over time: columns `at` and `latency` (s), brightness the number of rows.

    Shows modes, warm-up and drift. *width*: seconds per column of the map. Infinite latencies are left out (counted elsewhere).
    """
    ax = style.axes(ax)
    frame = frame[np.isfinite(frame["latency"]) & (frame["latency"] > 0)]
    if frame.empty:
        return style.nothing(ax, "samples")
    at, latency = frame["at"].to_numpy(), frame["latency"].to_numpy()
    low, high = float(np.quantile(latency, 0.001)), float(latency.max())
    log = style.wide([low, high], 20)
    rows = np.geomspace(low * 0.95, high * 1.05, 45) if log else np.linspace(0, high * 1.05, 45)
    columns = np.arange(np.floor(at.min()), at.max() + 2 * width, width)
    counts, _, _ = np.histogram2d(at, latency, bins=(columns, rows))
    shown = np.ma.masked_equal(counts.T, 0)
    mesh = ax.pcolormesh(columns, rows, shown, norm=LogNorm(vmin=1, vmax=max(2.0, float(counts.max()))), cmap=style.MAP)
    if log:
        ax.set_yscale("log")
    style.time_axis(ax.yaxis, log)
    ax.set_xlabel("time since the run's start, s")
    ax.set_ylabel("latency")
    ax.grid(visible=False)
    bar = style.figure_of(ax).colorbar(mesh, ax=ax, pad=0.01)
    bar.set_label("pairs of update and page")
    style.count_bar(bar)
    halves = [quantile(latency[part], 0.95) for part in (at < np.median(at), at >= np.median(at))]
    style.corner(ax, f"n = {len(frame):,} pairs of update and page")
    style.claim(ax, title or f"p95 is {seconds(halves[0])} in the first half of the run and {seconds(halves[1])} in the second")
    return ax
