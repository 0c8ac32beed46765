"""Lines, bars, regions and series over time: figures for the frames of any experiment, in the house's look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap

from sim.arrays import Array
from sim.results.plots import style
from sim.results.plots.style import FORMATS, HALO, Axis

LOOKS: dict[str, dict[str, Any]] = {
    "theory": {"ls": "-", "lw": 1.3},
    "fit": {"ls": "--", "lw": 1.2},
    "curve": {"ls": "-", "lw": 1.6},
    "simulated": {"ls": "none", "marker": "o", "ms": 5.5},
    "measured": {"ls": "none", "marker": "D", "ms": 8, "mfc": "none", "mew": 1.8},
}
"""How the rows of each source are drawn; those of none as a line with dots."""


def plot_lines(frame: pd.DataFrame, x: Axis, y: Axis, *, by: str = "group", n: str = "", title: str = "") -> Axes:
    """One line for each value of the column *by*, named at its end.

    *frame*: the columns of *x*, *y* and *by*; a column `source` draws `theory` as a thin line, `fit` as a dashed one, `curve` as
    a line of many points, `simulated` as dots, `measured` as diamonds (default: a line with dots); columns `low`, `high` draw
    intervals.
    """
    ax = style.axes()
    points = frame.rename(columns={x.column: "x", y.column: "y", by: "name"}).astype({"x": float, "y": float})
    points = points[np.isfinite(points["x"]) & np.isfinite(points["y"])]
    if points.empty:
        return style.nothing(ax, "point")
    inks = {key: style.colour(str(key), i) for i, key in enumerate(dict.fromkeys(points["name"]))}
    ends = _lines(ax, points, inks)
    _scales(ax, points, x, y)
    if y.band is not None:
        ax.axhspan(-y.band, y.band, color=style.GREY, alpha=0.15, lw=0)
    _marks_across(ax, x.marks)
    _marks_up(ax, y.marks)
    _sources(ax, points)
    if len(inks) > 1:
        ax.get_xlim(), ax.get_ylim()  # limits are settled when asked for
        style.label_ends(ax, ends)
    style.corner(ax, n)
    style.claim(ax, title)
    return ax


def _lines(ax: Axes, points: pd.DataFrame, inks: Mapping[Any, str]) -> list[tuple[float, float, str, str]]:
    """Draw each line, source by source; where to name it: the point furthest to the right."""
    source = points["source"] if "source" in points else pd.Series("", index=points.index)
    ends: dict[Any, tuple[float, float, str, str]] = {}
    for (key, kind), part in points.groupby(["name", source.rename("kind")], sort=False):
        part = part.sort_values("x")
        ax.plot(part["x"], part["y"], color=inks[key], **LOOKS.get(str(kind), {"ls": "-", "lw": 1.6, "marker": "o", "ms": 4.5}))
        if {"low", "high"} <= set(part):
            known = part[np.isfinite(part["low"].astype(float)) & np.isfinite(part["high"].astype(float))]
            ax.vlines(known["x"], known["low"], known["high"], color=inks[key], lw=1.1, alpha=0.7)
        end = (float(part["x"].iloc[-1]), float(part["y"].iloc[-1]), str(key), inks[key])
        if key not in ends or end[0] > ends[key][0]:
            ends[key] = end
    return list(ends.values())


def _scales(ax: Axes, points: pd.DataFrame, x: Axis, y: Axis) -> None:
    """Scales, units and names of both axes. *y* begins at 0 where it is linear and nothing is negative."""
    across, up = points["x"].to_numpy(), points["y"].to_numpy()
    style.dress(ax.xaxis, x.name, x.unit, x.is_log(across))
    style.dress(ax.yaxis, y.name, y.unit, y.is_log(up))
    if y.is_log(up):
        ax.set_ylim(top=float(up.max()) * 2.5)
    elif (up >= 0).all():
        ax.set_ylim(0, max(float(up.max()), max(y.marks.values(), default=0.0)) * 1.08 or 1)


def _sources(ax: Axes, points: pd.DataFrame) -> None:
    """A legend of the sources, where there are several."""
    kinds = [kind for kind in LOOKS if "source" in points and (points["source"] == kind).any()]
    if len(kinds) > 1:
        for kind in kinds:
            ax.plot([], [], color=style.BLACK, label=kind, **LOOKS[kind])
        style.legend(ax, loc="best")


def _marks_across(ax: Axes, marks: Mapping[str, float]) -> None:
    """Vertical lines, each named on the side where there is room: beside, and above or below what is drawn there."""
    low, high = ax.get_xlim()
    to_axes = ax.transData + ax.transAxes.inverted()
    lines = [to_axes.transform(np.column_stack([line.get_xdata(), line.get_ydata()])) for line in ax.get_lines()]
    points = np.concatenate(lines) if lines else np.empty((0, 2))
    for i, (words, at) in enumerate(marks.items()):
        ax.axvline(at, color=style.BLACK, lw=1.1, ls="--", zorder=1)
        place = to_axes.transform((at, ax.get_ylim()[1]))[0]
        left = place > 0.6
        beside = points[(np.abs(points[:, 0] - place + (0.15 if left else -0.15)) < 0.2)]
        below = bool((beside[:, 1] > 0.8).any()) and not bool((beside[:, 1] < 0.2).any())
        height, sides = 0.07 * (i % 3), {"ha": "right" if left else "left", "va": "bottom" if below else "top"}
        style.note(
            ax,
            words,
            (at, 0.03 + height if below else 0.97 - height),
            (-4 if left else 4, 0),
            ("data", "axes fraction"),
            path_effects=HALO,
            **sides,
        )
    ax.set_xlim(min([low, *marks.values()]), max([high, *marks.values()]))


def _marks_up(ax: Axes, marks: Mapping[str, float]) -> None:
    """Horizontal lines, each named at its left end."""
    for words, at in marks.items():
        ax.axhline(at, color=style.BLACK, lw=1.1, ls=":", zorder=1)
        style.note(ax, words, (0.01, at), (0, 3), ("axes fraction", "data"), path_effects=HALO)


def plot_bars(
    frame: pd.DataFrame, columns: Sequence[Axis], *, best: str | None = None, n: str = "", title: str = ""
) -> list[Axes]:
    """One small panel of horizontal bars per column, one bar per row of *frame*, its figure written at its end.

    *columns*: column, label and unit of each panel; *best*: a row to draw in another colour. A value that is not finite is
    written, without a bar. Returns the axes.
    """
    axes = style.panels(1, max(1, len(columns)), height=1.5 + 0.34 * max(2, len(frame)), sharey=True)
    if frame.empty or not columns:
        return [style.nothing(ax, "row") for ax in axes]
    names, places = [str(name) for name in frame.index], np.arange(len(frame))
    inks = [style.VERMILION if name == best else style.BLUE for name in names]
    for ax, shown in zip(axes, columns, strict=True):
        values = frame[shown.column].to_numpy(dtype=float)
        lengths = np.where(np.isfinite(values), values, 0.0)
        ax.barh(places, lengths, color=inks, height=0.62)
        for place, value, length in zip(places, values, lengths, strict=True):
            style.note(ax, FORMATS[shown.unit](value), (length, place), (3, 0), va="center", fontsize=8)
        ax.set_xlim(0, (float(lengths.max()) or 1.0) * 1.38)
        ax.set_xticks([])
        ax.grid(visible=False)
        ax.spines["bottom"].set_visible(False)
        ax.set_xlabel(shown.name, fontsize=9)
    axes[0].set_yticks(places, names, fontsize=9)
    axes[0].set_ylim(len(frame) - 0.5, -0.5)
    style.corner(axes[-1], n)
    style.claim_above(axes, title)
    return axes


def plot_regions(
    table: pd.DataFrame,
    x: Axis,
    y: Axis,
    *,
    names: Sequence[str],
    points: Mapping[str, tuple[float, float]] | None = None,
    n: str = "",
    title: str = "",
) -> Axes:
    """Map of what is best where: *table* holds names (index: y, columns: x, both increasing, positive), each written inside its
    region.

    *x*, *y*: label and unit; both axes are logarithmic. *names*: all possible names, which fixes their colours. *points*:
    label -> (x, y), marked.
    """
    ax = style.axes(height=4.7)
    if table.empty:
        return style.nothing(ax, "point")
    across, up = table.columns.to_numpy(dtype=float), table.index.to_numpy(dtype=float)
    codes = table.map(list(names).index).to_numpy(dtype=float)
    inks = [style.SKY, style.ORANGE, style.GREEN, style.PURPLE, style.VERMILION][: len(names)]
    norm = BoundaryNorm(np.arange(len(names) + 1) - 0.5, len(names))
    ax.pcolormesh(style.edges(across), style.edges(up), codes, cmap=ListedColormap(inks), norm=norm, alpha=0.75)
    style.dress(ax.xaxis, x.name, x.unit, log=True)
    style.dress(ax.yaxis, y.name, y.unit, log=True)
    ax.grid(visible=False)
    for code, name in enumerate(names):
        if (codes == code).mean() > 0.02:
            row, column = _deepest(codes == code)
            ax.text(across[column], up[row], name, ha="center", va="center", fontsize=10, fontweight="bold", path_effects=HALO)
    for label, place in (points or {}).items():
        ax.plot(*place, "o", color=style.BLACK, ms=7, mfc="white", mew=1.6, zorder=5)
        style.note(ax, label, place, (8, 6), path_effects=HALO, zorder=6)
    style.corner(ax, n)
    style.claim(ax, title)
    return ax


def _deepest(inside: Array) -> tuple[int, int]:
    """The cell of a mask that survives the most erosions by its four neighbours; outside the map counts as outside."""
    left, found = inside, np.argwhere(inside)[0]
    while left.any():
        cells = np.argwhere(left)
        found = cells[len(cells) // 2]
        padded = np.pad(left, 1)
        left = left & padded[2:, 1:-1] & padded[:-2, 1:-1] & padded[1:-1, 2:] & padded[1:-1, :-2]
    return int(found[0]), int(found[1])


def plot_over_time(
    series: Mapping[str, pd.DataFrame],
    y: Axis,
    *,
    spans: Sequence[tuple[float, float]] = (),
    stairs: bool = True,
    n: str = "",
    title: str = "",
) -> list[Axes]:
    """One small panel per series (columns `at` and that of *y*) as a filled area on common axes, its largest value named.

    *spans*: (from, to) in grey, what went wrong meanwhile. *stairs*: a value holds until the next; else they are joined. Returns
    the axes.
    """
    count = max(1, len(series))
    axes = style.panels(count, 1, height=1.3 + 1.25 * count, sharex=True, sharey=True)
    tops = {name: float(part[y.column].max()) for name, part in series.items() if len(part)}
    if not tops:
        return [style.nothing(ax, "series") for ax in axes]
    for i, (ax, (name, part)) in enumerate(zip(axes, series.items(), strict=True)):
        ink = style.CYCLE[i % len(style.CYCLE)]
        ax.fill_between(part["at"], part[y.column], step="post" if stairs else None, color=ink, alpha=0.75, lw=0)
        words = f"{name}  ·  at most {FORMATS[y.unit](tops.get(name, 0.0))}"
        ax.set_title(words, loc="right", fontsize=9, fontweight="bold", color=ink, pad=3)
        for begin, end in spans:
            ax.axvspan(begin, end, color=style.GREY, alpha=0.25, lw=0)
        _marks_up(ax, y.marks)
        style.ticks(ax.yaxis, y.unit)
    axes[0].set_ylim(0)
    axes[-1].set_xlabel("time since the run's start, s")
    axes[len(axes) // 2].set_ylabel(y.name)
    style.corner(axes[-1], n)
    style.claim_above(axes, title)
    return axes
