"""Choosing a policy: the front of load against freshness, and the map of where pages starve."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from sim.arrays import Array
from sim.results.fronts import knee
from sim.results.plots import style
from sim.results.plots.style import HALO, Unit
from sim.results.text import digits, number, seconds

OTHERS: dict[str, Any] = {"color": style.GREY, "lw": 1, "ms": 2.5, "alpha": 0.6}


def plot_pareto(
    frame: pd.DataFrame,
    ax: Axes | None = None,
    *,
    load: str = "refetches_per_update",
    staleness: str = "fresh_p95",
    objective: float | None = None,
    chosen: pd.Series | None = None,
    n: str = "",
) -> Axes:
    """Load against staleness (s), one line per policy; dominated settings grey, the *chosen* row (else the knee) named.

    *frame*: columns *load*, *staleness*, policy, setting, and `dominated` (`fronts.front`). What never refreshes is not drawn.
    """
    ax = style.axes(ax, height=4.9)
    drawn = frame[np.isfinite(frame[load]) & np.isfinite(frame[staleness])]
    if drawn.empty:
        return style.nothing(ax, "setting that refreshes")
    for i, (key, part) in enumerate(drawn.groupby("policy", sort=False)):
        part, ink = part.sort_values(load), style.colour(str(key), i)
        ax.plot(part[load], part[staleness], color=ink, lw=1.2, alpha=0.55, zorder=2)
        ax.plot([], [], "o-", color=ink, label=str(key), ms=5, lw=1.2)
        grey = part["dominated"].to_numpy()
        ax.scatter(part[load][~grey], part[staleness][~grey], color=ink, s=34, zorder=4)
        ax.scatter(part[load][grey], part[staleness][grey], color="white", edgecolor=style.GREY, s=20, zorder=3, lw=0.9)
    _pareto_axes(ax, drawn, load, staleness)
    if objective is not None:
        ax.axhline(objective, color=style.BLACK, lw=1.1, ls="--")
        style.note(ax, f"objective {seconds(objective)}", (1, objective), (-4, 4), ("axes fraction", "data"), ha="right")
    best = drawn[~drawn["dominated"]].sort_values(load)
    bend = knee(best[load].to_numpy(), best[staleness].to_numpy())
    several = drawn["policy"].nunique() > 1
    row = chosen if chosen is not None else best.iloc[bend] if bend is not None else None
    if row is not None:
        name = f"{row['policy']}, {row['setting']}" if several else str(row["setting"])
        _point_out(ax, row, load, staleness, name if chosen is not None else f"knee: {name}")
    if several:
        # Below the axes: the lines may go anywhere in them.
        style.legend(ax, ncols=3, loc="upper left", bbox_to_anchor=(0, -0.19), fontsize=8.5)
    style.corner(ax, "grey: dominated", n)
    counts = best["policy"].value_counts()
    if several and len(best):
        style.claim(ax, f"{counts.index[0]} makes {counts.iloc[0]} of the {len(best)} settings that no other beats")
    else:
        style.claim(ax, f"No other setting beats {len(best)} of the {len(drawn)} that are drawn")
    return ax


def _point_out(ax: Axes, row: pd.Series, load: str, staleness: str, words: str) -> None:
    """Name one setting, on the side of a falling curve that is empty: below to the left, or above to the right."""
    place = (row[load], row[staleness])
    across, up = (ax.transData + ax.transAxes.inverted()).transform(place)
    ax.plot(*place, "o", mfc="none", mec=style.BLACK, ms=12, mew=1.4, zorder=6)
    side, offset = ("right", (-22, -30)) if across > 0.5 and up > 0.15 else ("left", (26, -3))
    arrow = {"arrowstyle": "-", "color": style.BLACK, "lw": 0.8}
    style.note(ax, words, place, offset, ha=side, fontsize=9, fontweight="bold", arrowprops=arrow, path_effects=HALO)


def _pareto_axes(ax: Axes, drawn: pd.DataFrame, load: str, staleness: str) -> None:
    sides: tuple[tuple[Any, str, Unit], ...] = ((ax.xaxis, load, "count"), (ax.yaxis, staleness, "time"))
    for axis, column, unit in sides:
        log = style.wide(drawn[column].to_numpy(), 8)
        style.dress(axis, column.replace("_", " ").replace(".", ", "), unit, log)
        if log and np.divide(*axis.get_view_interval()[::-1]) < 100:
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))


def plot_starvation(
    table: pd.DataFrame,
    ax: Axes | None = None,
    *,
    limit: float,
    rule: tuple[Array, Array, str] | None = None,
    n: str = "",
) -> Axes:
    """Map of the p95 time to fresh (s) over wait (rows) and update rate (columns): bright is late, bold is beyond *limit* (s).

    *table*: index wait (s), columns updates/s, both increasing; inf: never. *rule*: (rates, waits, text), a line to draw on it.
    """
    ax = style.axes(ax, height=4.8)
    if table.empty or not np.isfinite(table.to_numpy(dtype=float)).any():
        return style.nothing(ax, "setting that refreshes")
    values = table.to_numpy(dtype=float)
    rates, waits = table.columns.to_numpy(dtype=float), table.index.to_numpy(dtype=float)
    shown = np.ma.masked_invalid(np.minimum(values, 1e9))
    norm = LogNorm(vmin=float(values[np.isfinite(values)].min()), vmax=max(limit * 10, float(np.nanmin(values)) * 2), clip=True)
    mesh = ax.pcolormesh(style.edges(rates), style.edges(waits), shown, norm=norm, cmap=style.MAP)
    ax.set_xscale("log")
    ax.set_yscale("log")
    _write_cells(ax, rates, waits, values, norm, limit)
    if rule is not None:
        _rule(ax, style.edges(rates), style.edges(waits), *rule)
    ax.set_xticks(rates, [digits(rate) for rate in rates])
    ax.set_yticks(waits, [seconds(wait) for wait in waits])
    ax.minorticks_off()
    ax.set_xlabel("updates per second on the channel")
    ax.set_ylabel("wait")
    ax.grid(visible=False)
    bar = style.figure_of(ax).colorbar(mesh, ax=ax, pad=0.01)
    bar.set_label("p95 time to fresh")
    style.ticks(bar.ax.yaxis, "time")
    bar.ax.minorticks_off()
    bad = int((values > limit).sum())
    style.corner(ax, f"bold: above {seconds(limit)}", n)
    style.claim(ax, f"{number(bad)} of {number(values.size)} settings keep a page waiting longer than {seconds(limit)}")
    return ax


def _write_cells(ax: Axes, across: Any, up: Any, values: Array, norm: LogNorm, limit: float) -> None:
    """The times (s) of a map's cells, in an ink that can be read on them; bold beyond *limit*."""
    for (i, j), value in np.ndenumerate(values):
        label = "never" if np.isinf(value) else "> 1 h" if value > 3600 else seconds(float(f"{value:.2g}"))
        ink, weight = "black" if norm(min(value, 1e9)) > 0.55 else "white", "bold" if value > limit else "normal"
        ax.text(across[j], up[i], label, ha="center", va="center", fontsize=8, color=ink, fontweight=weight)


def _rule(ax: Axes, rates: Array, waits: Array, across: Array, up: Array, words: str) -> None:
    """A line on the map, named in the middle of what lies within its edges *rates* and *waits*."""
    ax.plot(across, up, color=style.VERMILION, lw=2)
    ax.set_xlim(rates[0], rates[-1])
    ax.set_ylim(waits[0], waits[-1])
    seen = np.flatnonzero((up >= waits[0]) & (up <= waits[-1]))
    if len(seen):
        place = (across[seen[len(seen) // 2]], up[seen[len(seen) // 2]])
        style.note(ax, words, place, (8, 4), color=style.VERMILION, fontsize=9, fontweight="bold", path_effects=HALO)


def empty_choice() -> Figure:
    """What `plot_choice` draws on: all that is the same for every setting."""
    with style.look():
        figure = Figure(figsize=(11.6, 6.6), dpi=80)
        places = (0.065, 0.49, 0.4, 0.45), (0.55, 0.49, 0.43, 0.45), (0.065, 0.08, 0.915, 0.28)
        left, right, below = (figure.add_axes(place) for place in places)
    style.dress(left.xaxis, "refetches per second, all pages", "count", log=True)
    style.dress(left.yaxis, "mean time to fresh", "time", log=True)
    right.grid(visible=False)
    right.set_xlabel("updates per second")
    below.set_xlabel("time, s; red: updates")
    style.dress(below.yaxis, "age of what is shown", "time")
    for ax in figure.axes:
        ax.minorticks_off()
        ax.title.set_fontsize(10)
    return figure


class Chosen(NamedTuple):
    """What is chosen: the policy's name, its wait (s), and the rate of updates (1/s)."""

    policy: str
    wait: float
    rate: float


def plot_choice(
    front: pd.DataFrame,
    late: pd.DataFrame,
    teeth: pd.DataFrame,
    updates: Array,
    chosen: Chosen,
    *,
    limit: float,
    figure: Figure | None = None,
) -> Figure:
    """One setting from three sides, drawn quickly: on the front, on the starvation map, and as the saw-tooth of one page's age.

    *front*: `explorer.front`; *late*: `explorer.late`; *teeth*, *updates*: `explorer.saw_tooth`. The setting's own policy is in
    colour. No layout engine, and a *figure* (`empty_choice`) is used again for the next setting: making axes and laying them out
    takes as long as the drawing.
    """
    figure = figure or empty_choice()
    for ax in figure.axes:
        for artist in (*ax.lines, *ax.texts, *ax.images, *ax.collections):
            artist.remove()
        ax.set_prop_cycle(None)
        ax.relim()
        ax.autoscale(True)
    left, right, below = figure.axes
    _on_the_front(left, front, chosen)
    _on_the_map(right, late, chosen, limit)
    below.plot(teeth["at"], teeth["age"], color=style.BLUE, lw=1.4)
    below.fill_between(teeth["at"], teeth["age"], color=style.BLUE, alpha=0.18, lw=0)
    below.plot(updates, np.zeros(len(updates)), "|", color=style.VERMILION, ms=10, clip_on=False)
    below.set_xlim(0, float(teeth["at"].max()) if len(teeth) else 1)
    below.set_ylim(0)
    below.set_title("What one page in the middle of its herd shows", y=1.0)
    return figure


def _on_the_front(ax: Axes, front: pd.DataFrame, chosen: Chosen) -> None:
    """Lateness over load: a line per policy, that of the setting in colour, the setting itself circled."""
    top = 60.0
    drawn = front[front["late"] < top]
    for name, part in drawn.groupby("policy", sort=False):
        part = part.sort_values("refetches_per_second")
        look: dict[str, Any] = {"color": style.BLUE, "lw": 2, "ms": 4, "zorder": 4} if name == chosen.policy else OTHERS
        ax.plot(part["refetches_per_second"], part["late"], "o-", **look)
    best = drawn[~drawn["dominated"]]
    ax.plot(best["refetches_per_second"], best["late"], "s", mfc="none", mec=style.GREEN, ms=8, mew=1.4, zorder=3)
    here = drawn[(drawn["policy"] == chosen.policy) & np.isclose(drawn["wait"], chosen.wait)]
    ax.plot(here["refetches_per_second"], here["late"], "o", mfc="none", mec=style.VERMILION, ms=13, mew=2.4, zorder=5)
    if drawn.empty:
        ax.set_xlim(1, 1000)
        ax.set_ylim(0.1, top)
    words = "" if len(here) else f" (this setting: beyond {seconds(top)})"
    ax.set_title(f"{chosen.policy}{words}; others grey; green: no other beats it", y=1.0)


def _on_the_map(ax: Axes, late: pd.DataFrame, chosen: Chosen, limit: float) -> None:
    """Lateness by wait and rate as a table of colours, the setting circled."""
    values = late.to_numpy(dtype=float)
    norm = LogNorm(vmin=0.02, vmax=limit * 10, clip=True)
    ax.imshow(np.clip(values, 1e-3, limit * 10), norm=norm, cmap=style.MAP, aspect="auto", origin="lower")
    _write_cells(ax, range(values.shape[1]), range(values.shape[0]), values, norm, limit)
    across, up = (
        np.interp(np.log(value), np.log(axis.to_numpy(dtype=float)), np.arange(len(axis)))
        for value, axis in ((chosen.rate, late.columns), (chosen.wait, late.index))
    )
    ax.plot(across, up, "o", mfc="none", mec=style.VERMILION, ms=24, mew=2.4)
    ax.set_xticks(range(values.shape[1]), [digits(float(value)) for value in late.columns])
    ax.set_yticks(range(values.shape[0]), [seconds(float(value)) for value in late.index])
    ax.set_title(f"Mean time to fresh by wait and rate; bold: above {seconds(limit)}", y=1.0)
