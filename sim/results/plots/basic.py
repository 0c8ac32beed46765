"""Lines, bars, regions and series over time: figures for the frames of any experiment, in the house's look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.patheffects import withStroke

from sim.results.plots import style
from sim.results.text import number, percent, seconds

Array = np.ndarray[Any, Any]
Unit = Literal["time", "count", "share"]

HALO = [withStroke(linewidth=3, foreground="white")]
FORMATS = {"time": seconds, "count": number, "share": percent}


def _axis(axis: Any, unit: Unit, log: bool) -> None:
    if unit == "share":
        axis.set_major_formatter(lambda value, _: percent(round(value, 4)))
    else:
        (style.time_axis if unit == "time" else style.count_axis)(axis, log)


def plot_lines(
    frame: pd.DataFrame,
    ax: Axes | None = None,
    *,
    x: str,
    y: str,
    group: str = "group",
    x_label: str = "",
    y_label: str = "",
    x_unit: Unit = "count",
    y_unit: Unit = "time",
    marks: Mapping[str, float] | None = None,
    levels: Mapping[str, float] | None = None,
    band: float | None = None,
    linear: bool = False,
    n: str = "",
    title: str | None = None,
) -> Axes:
    """One line per *group* of *y* over *x*, named at its end; axes are logarithmic where values spread far, if not *linear*.

    *frame*: a column `source` draws `theory` as a thin line, `fit` as a dashed one, `curve` as a line of many points,
    `simulated` as dots, `measured` as diamonds (default: a line with dots); columns `low`, `high` draw intervals.
    *marks*: text -> x, vertical lines; *levels*: text -> y, horizontal ones; *band*: a grey band of +- *band* around 0.
    """
    ax = style.axes(ax)
    drawn = frame[np.isfinite(frame[x].astype(float)) & np.isfinite(frame[y].astype(float))] if len(frame) else frame
    if drawn.empty:
        return style.nothing(ax, "point")
    inks = {key: style.colour(str(key), i) for i, key in enumerate(dict.fromkeys(drawn[group]))}
    ends = _lines(ax, drawn, x, y, group, inks)
    across, up = drawn[x].to_numpy(dtype=float), drawn[y].to_numpy(dtype=float)
    log_x, log_y = (
        not linear and unit != "share" and bool((v > 0).all()) and style.wide(v, 20)
        for v, unit in ((across, x_unit), (up, y_unit))
    )
    if log_x:
        ax.set_xscale("log")
    if log_y:
        ax.set_yscale("log")
        ax.set_ylim(top=float(up.max()) * 2.5)
    elif (up >= 0).all():
        ax.set_ylim(0, max(float(up.max()), max((levels or {}).values(), default=0.0)) * 1.08 or 1)
    _axis(ax.xaxis, x_unit, log_x)
    _axis(ax.yaxis, y_unit, log_y)
    ax.set_xlabel(x_label or x.replace("_", " "))
    ax.set_ylabel(y_label or y.replace("_", " "))
    if band is not None:
        ax.axhspan(-band, band, color=style.GREY, alpha=0.15, lw=0)
    _marks(ax, marks or {}, levels or {})
    _kinds(ax, drawn)
    if len(inks) > 1:
        ax.get_xlim(), ax.get_ylim()  # limits are settled when asked for
        style.label_ends(ax, ends)
    style.corner(ax, n)
    last = drawn.loc[drawn[x] == across.max()].sort_values(y)
    place, lowest = FORMATS[x_unit](float(across.max())), FORMATS[y_unit](float(last[y].iloc[0]))
    style.claim(ax, title or f"At {place} {last[group].iloc[0]} is lowest: {lowest}")
    return ax


LOOKS: dict[str, dict[str, Any]] = {
    "theory": {"ls": "-", "lw": 1.3},
    "fit": {"ls": "--", "lw": 1.2},
    "curve": {"ls": "-", "lw": 1.6},
    "simulated": {"ls": "none", "marker": "o", "ms": 5.5},
    "measured": {"ls": "none", "marker": "D", "ms": 8, "mfc": "none", "mew": 1.8},
}
"""How the rows of each source are drawn; those of none as a line with dots."""


def _lines(
    ax: Axes, drawn: pd.DataFrame, x: str, y: str, group: str, inks: Mapping[Any, str]
) -> list[tuple[float, float, str, str]]:
    """Draw each group, source by source; where to name it: the point furthest to the right."""
    source = drawn["source"] if "source" in drawn else pd.Series("", index=drawn.index)
    ends: dict[Any, tuple[float, float, str, str]] = {}
    for (key, kind), part in drawn.groupby([group, source.rename("kind")], sort=False):
        part = part.sort_values(x)
        ax.plot(part[x], part[y], color=inks[key], **LOOKS.get(str(kind), {"ls": "-", "lw": 1.6, "marker": "o", "ms": 4.5}))
        if {"low", "high"} <= set(part):
            known = part[np.isfinite(part["low"].astype(float)) & np.isfinite(part["high"].astype(float))]
            ax.vlines(known[x], known["low"], known["high"], color=inks[key], lw=1.1, alpha=0.7)
        end = (float(part[x].iloc[-1]), float(part[y].iloc[-1]), str(key), inks[key])
        if key not in ends or end[0] > ends[key][0]:
            ends[key] = end
    return list(ends.values())


def _kinds(ax: Axes, drawn: pd.DataFrame) -> None:
    """A legend of the sources, where there are several."""
    kinds = [kind for kind in LOOKS if "source" in drawn and (drawn["source"] == kind).any()]
    if len(kinds) > 1:
        for kind in kinds:
            ax.plot([], [], color=style.BLACK, label=kind, **LOOKS[kind])
        style.legend(ax, loc="best")


def _marks(ax: Axes, marks: Mapping[str, float], levels: Mapping[str, float]) -> None:
    low, high = ax.get_xlim()
    to_axes = ax.transData + ax.transAxes.inverted()
    drawn = [to_axes.transform(np.column_stack([line.get_xdata(), line.get_ydata()])) for line in ax.get_lines()]
    points = np.concatenate(drawn) if drawn else np.empty((0, 2))
    for i, (words, at) in enumerate(marks.items()):
        ax.axvline(at, color=style.BLACK, lw=1.1, ls="--", zorder=1)
        # On the side where there is room for it: beside, and above or below what is drawn there.
        place = to_axes.transform((at, ax.get_ylim()[1]))[0]
        left = place > 0.6
        beside = points[(np.abs(points[:, 0] - place + (0.15 if left else -0.15)) < 0.2)]
        below = bool((beside[:, 1] > 0.8).any()) and not bool((beside[:, 1] < 0.2).any())
        ax.annotate(
            words,
            (at, 0.03 + 0.07 * (i % 3) if below else 0.97 - 0.07 * (i % 3)),
            xycoords=("data", "axes fraction"),
            xytext=(-4 if left else 4, 0),
            textcoords="offset points",
            ha="right" if left else "left",
            fontsize=8.5,
            va="bottom" if below else "top",
            path_effects=HALO,
        )
    ax.set_xlim(min([low, *marks.values()]), max([high, *marks.values()]))
    for words, at in levels.items():
        ax.axhline(at, color=style.BLACK, lw=1.1, ls=":", zorder=1)
        ax.annotate(
            words,
            (0.01, at),
            xycoords=("axes fraction", "data"),
            xytext=(0, 3),
            textcoords="offset points",
            fontsize=8.5,
            path_effects=HALO,
        )


def plot_bars(
    frame: pd.DataFrame,
    columns: Mapping[str, Unit],
    *,
    labels: Mapping[str, str] | None = None,
    best: str | None = None,
    n: str = "",
    title: str | None = None,
) -> list[Axes]:
    """One small panel of horizontal bars per column, one bar per row of *frame*, its figure written at its end.

    *columns*: column -> unit; *labels*: column -> what to call it; *best*: a row to draw in another colour. A value that is not
    finite is written, without a bar. Returns the axes.
    """
    axes = style.panels(1, max(1, len(columns)), height=1.5 + 0.34 * max(2, len(frame)), sharey=True)
    if frame.empty or not columns:
        return [style.nothing(ax, "row") for ax in axes]
    names, places = [str(name) for name in frame.index], np.arange(len(frame))
    for ax, (column, unit) in zip(axes, columns.items(), strict=True):
        values = frame[column].to_numpy(dtype=float)
        drawn = np.where(np.isfinite(values), values, 0.0)
        inks = [style.VERMILION if name == best else style.BLUE for name in names]
        ax.barh(places, drawn, color=inks, height=0.62)
        top = float(drawn.max()) or 1.0
        for place, value in zip(places, values, strict=True):
            ax.annotate(
                FORMATS[unit](value),
                (value if np.isfinite(value) else 0, place),
                xytext=(3, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
            )
        ax.set_xlim(0, top * 1.38)
        ax.set_xticks([])
        ax.grid(visible=False)
        ax.spines["bottom"].set_visible(False)
        ax.set_xlabel((labels or {}).get(column, column.replace("_", " ")), fontsize=9)
    axes[0].set_yticks(places, names, fontsize=9)
    axes[0].set_ylim(len(frame) - 0.5, -0.5)
    first = next(iter(columns))
    low, high = frame[first].min(), frame[first].max()
    style.corner(axes[-1], n)
    times = f"{number(float(f'{high / low:.2g}'))} times" if low > 0 and np.isfinite(high) else "more than"
    style.claim_above(axes, title or f"{(labels or {}).get(first, first.replace('_', ' '))}: the most is {times} the least")
    return axes


def plot_regions(
    table: pd.DataFrame,
    ax: Axes | None = None,
    *,
    names: Sequence[str],
    x_label: str,
    y_label: str,
    x_unit: Unit = "count",
    y_unit: Unit = "count",
    points: Mapping[str, tuple[float, float]] | None = None,
    n: str = "",
    title: str | None = None,
) -> Axes:
    """Map of who wins: *table* holds names (index: y, columns: x, both increasing, positive); each region is named in its middle.

    *names*: all possible names, which fixes their colours. *points*: label -> (x, y), marked. Axes are logarithmic.
    """
    ax = style.axes(ax, height=4.7)
    if table.empty:
        return style.nothing(ax, "point")
    across, up = table.columns.to_numpy(dtype=float), table.index.to_numpy(dtype=float)
    codes = table.map(list(names).index).to_numpy(dtype=float)
    inks = [style.SKY, style.ORANGE, style.GREEN, style.PURPLE, style.VERMILION][: len(names)]
    norm = BoundaryNorm(np.arange(len(names) + 1) - 0.5, len(names))
    ax.pcolormesh(_edges(across), _edges(up), codes, cmap=ListedColormap(inks), norm=norm, alpha=0.75)
    ax.set_xscale("log")
    ax.set_yscale("log")
    _axis(ax.xaxis, x_unit, True)
    _axis(ax.yaxis, y_unit, True)
    ax.set_xlabel(x_label)
    ax.set_ylabel(y_label)
    ax.grid(visible=False)
    shares = {}
    for code, name in enumerate(names):
        shares[name] = float((codes == code).mean())
        if shares[name] > 0.02:
            # The cell of the region that is deepest inside it: furthest from what is not its own.
            row, column = _deepest(codes == code)
            ax.text(across[column], up[row], name, ha="center", va="center", fontsize=10, fontweight="bold", path_effects=HALO)
    for label, (px, py) in (points or {}).items():
        ax.plot(px, py, "o", color=style.BLACK, ms=7, mfc="white", mew=1.6, zorder=5)
        ax.annotate(label, (px, py), xytext=(8, 6), textcoords="offset points", fontsize=8.5, path_effects=HALO, zorder=6)
    style.corner(ax, n)
    widest = max(shares, key=lambda name: shares[name])
    style.claim(ax, title or f"{widest} is the cheapest in {percent(shares[widest])} of what is drawn")
    return ax


def _deepest(inside: Array) -> tuple[int, int]:
    """The cell of a mask that survives the most erosions by its four neighbours; outside the map counts as outside."""
    left, found = inside.copy(), (int(np.argwhere(inside)[0][0]), int(np.argwhere(inside)[0][1]))
    while left.any():
        cells = np.argwhere(left)
        found = tuple(map(int, cells[len(cells) // 2]))  # type: ignore[assignment]
        padded = np.pad(left, 1)
        left = left & padded[2:, 1:-1] & padded[:-2, 1:-1] & padded[1:-1, 2:] & padded[1:-1, :-2]
    return found


def _edges(centres: Array) -> Array:
    """Edges between logarithmically spaced centres."""
    if len(centres) == 1:
        return centres[0] * np.array([0.9, 1.1])
    logs = np.log(centres)
    middles = (logs[1:] + logs[:-1]) / 2
    return np.exp(np.r_[2 * logs[0] - middles[0], middles, 2 * logs[-1] - middles[-1]])


def plot_over_time(
    series: Mapping[str, pd.DataFrame],
    *,
    y: str,
    y_label: str,
    y_unit: Unit = "count",
    levels: Mapping[str, float] | None = None,
    spans: Sequence[tuple[float, float]] = (),
    n: str = "",
    title: str | None = None,
) -> list[Axes]:
    """One small panel per series (columns at, *y*) as a filled staircase on common axes, its largest value named.

    *levels*: text -> y, horizontal lines; *spans*: (from, to) in grey, what went wrong meanwhile. Returns the axes.
    """
    count = max(1, len(series))
    axes = style.panels(count, 1, height=1.3 + 1.25 * count, sharex=True, sharey=True)
    known = {name: part for name, part in series.items() if len(part)}
    if not known:
        return [style.nothing(ax, "series") for ax in axes]
    for i, (ax, (name, part)) in enumerate(zip(axes, series.items(), strict=False)):
        ink = style.CYCLE[i % len(style.CYCLE)]
        top = float(part[y].max()) if len(part) else 0.0
        ax.fill_between(part["at"], part[y], step="post", color=ink, alpha=0.75, lw=0)
        words = f"{name}  ·  at most {FORMATS[y_unit](top)}"
        ax.set_title(words, loc="right", fontsize=9, fontweight="bold", color=ink, pad=3)
        for begin, end in spans:
            ax.axvspan(begin, end, color=style.GREY, alpha=0.25, lw=0)
        for words, at in (levels or {}).items():
            ax.axhline(at, color=style.BLACK, lw=1, ls="--")
            if i == 0:
                ax.annotate(
                    words, (0.005, at), xycoords=("axes fraction", "data"), xytext=(0, 3), textcoords="offset points", fontsize=8
                )
        _axis(ax.yaxis, y_unit, False)
    axes[0].set_ylim(0)
    axes[-1].set_xlabel("time since the run's start, s")
    axes[len(axes) // 2].set_ylabel(y_label)
    style.corner(axes[-1], n)
    tops = {name: float(part[y].max()) for name, part in known.items()}
    highest = max(tops, key=lambda name: tops[name])
    style.claim_above(axes, title or f"{highest} reaches {FORMATS[y_unit](tops[highest])}")
    return axes
