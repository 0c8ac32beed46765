"""Journeys of updates: the stations of one, the stages of all, and the worst as timelines."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from sim.results.ledger.stages import STAGES
from sim.results.plots import style
from sim.results.text import percent, seconds

INKS = dict(zip(STAGES, (style.GREY, style.PURPLE, style.SKY, style.ORANGE, style.BLACK, style.GREEN), strict=True))
"""One colour per stage, in every figure."""


def plot_stations(tables: Mapping[str, pd.DataFrame], ax: Axes | None = None, *, n: str = "", title: str | None = None) -> Axes:
    """`stages.stations` of one or two runs: for each station a bar from the first page to the last, with the median marked.

    Logarithmic in time, because the first stations take microseconds and the last ones half a second.
    """
    ax = style.axes(ax)
    tables = {name: table.dropna() for name, table in tables.items() if len(table.dropna())}
    if not tables:
        return style.nothing(ax, "finished journeys")
    names = list(dict.fromkeys(station for table in tables.values() for station in table.index))
    known = np.concatenate([table.to_numpy().ravel() for table in tables.values()])
    left = max(float(known[known > 0].min(initial=1.0)) * 0.7, 1e-6)
    offset = np.linspace(-0.17, 0.17, len(tables)) if len(tables) > 1 else [0.0]
    for i, ((name, table), shift) in enumerate(zip(tables.items(), offset, strict=True)):
        y = np.array([names.index(station) for station in table.index]) + shift
        first, median, last = (np.maximum(table[column].to_numpy(), left) for column in ("first", "median", "last"))
        ink = style.colour(name, i)
        ax.hlines(y, first, last, color=ink, lw=7, alpha=0.45)
        ax.plot(median, y, "o", color=ink, ms=6, label=name)
        if i == 0:
            for place, value in zip(y, table["median"], strict=True):
                # A station at 0 stands at the edge, since the axis is logarithmic.
                style.note(
                    ax, seconds(value), (max(value, left), place), (0, 9), ha="center" if value > left else "left", fontsize=8
                )
    style.dress(ax.xaxis, "since the update was intended", "time", log=True)
    ax.set_xlim(left, known.max() * 1.6)
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.65)
    ax.grid(visible=False, axis="y")
    if len(tables) > 1:
        style.legend(ax, loc="lower left", fontsize=9)
    style.corner(ax, "dot: median page; bar: first to last page", n)
    median = next(iter(tables.values()))["median"]
    heard = f"Heard after {seconds(median['received'])}, o" if "received" in median else "O"
    style.claim(ax, title or f"{heard}n the screen after {seconds(median['fresh'])}")
    return ax


def plot_stages(tables: Mapping[str, pd.DataFrame], ax: Axes | None = None, *, n: str = "") -> Axes:
    """`stages.stage_table` of one or more runs: mean time to fresh as a bar per run, cut into its stages (means add up)."""
    ax = style.axes(ax, height=1.5 + 0.75 * max(1, len(tables)))
    tables = {name: table for name, table in tables.items() if table["mean"].notna().all()}
    if not tables:
        return style.nothing(ax, "finished journeys")
    longest = max(float(table["mean"]["total"]) for table in tables.values())
    for y, table in enumerate(tables.values()):
        left = 0.0
        for stage in STAGES:
            mean = float(table["mean"][stage])
            ax.barh(y, mean, left=left, color=INKS[stage], height=0.62, label=stage if y == 0 else None)
            if mean > 0.09 * longest:
                ink = "white" if stage in ("save", "refetch", "wait") else style.BLACK
                ax.text(left + mean / 2, y, f"{stage}\n{seconds(mean)}", ha="center", va="center", fontsize=8, color=ink)
            left += mean
        ax.text(left + 0.008 * longest, y, f"{seconds(left)}", va="center", fontsize=9)
    ax.set_yticks(range(len(tables)), list(tables))
    _time_of_stages(ax, longest, "mean time to fresh, of what was shown")
    style.corner(ax, n)
    style.claim(ax, _largest(tables), pad=26)
    return ax


def _time_of_stages(ax: Axes, longest: float, label: str) -> None:
    """The axes of bars that are cut into stages, first bar on top; the stages' names above, where no bar can be."""
    ax.invert_yaxis()
    ax.set_xlim(0, (longest or 1.0) * 1.12)
    style.dress(ax.xaxis, label, "time")
    ax.grid(visible=False, axis="y")
    style.legend(ax, ncols=len(STAGES), loc="lower left", bbox_to_anchor=(0, 1.0), fontsize=8, handlelength=1, columnspacing=1.2)


def _largest(tables: Mapping[str, pd.DataFrame]) -> str:
    """`81.9 % of the time to fresh is debounce`, from the least share to the largest where there are several tables."""
    means = pd.concat([table["mean"][list(STAGES)] for table in tables.values()], axis=1).mean(axis=1)
    stage = str(means.idxmax())
    shares = sorted(float(table["share"][stage]) for table in tables.values())
    low, high = percent(shares[0]), percent(shares[-1])
    span = low if low == high else f"{low} to {high}"
    return f"{span} of the time to fresh is {stage}"


def plot_worst(frame: pd.DataFrame, ax: Axes | None = None, *, n: str = "") -> Axes:
    """`stages.worst`: the slowest page of each of the worst updates as one timeline of its stages, worst on top."""
    ax = style.axes(ax, height=1.6 + 0.3 * max(3, len(frame)))
    if frame.empty:
        return style.nothing(ax, "finished journeys")
    left = np.zeros(len(frame))
    for stage in STAGES:
        width = np.nan_to_num(frame[stage].to_numpy(dtype=float))  # not measured: it lies in the next
        ax.barh(range(len(frame)), width, left=left, color=INKS[stage], height=0.7, label=stage)
        left = left + width
    for y, total in enumerate(left):
        style.note(ax, seconds(total), (total, y), (4, 0), va="center", fontsize=8)
    names = zip(frame.index, frame["intended_at"], strict=True)
    ax.set_yticks(range(len(frame)), [f"update {serial} at {at:.1f} s" for serial, at in names], fontsize=8)
    _time_of_stages(ax, left.max(), "since the update was intended")
    style.corner(ax, n)
    means = frame[list(STAGES)].mean()
    style.claim(ax, f"In the worst updates, {percent(means.max() / means.sum())} of the time is {means.idxmax()}", pad=26)
    return ax
