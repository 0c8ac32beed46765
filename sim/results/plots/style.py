"""One look for every figure: colours that stay apart for colour-blind readers and in grey print, direct labels, units, n.

A plot function of `sim.results.plots` takes frames and returns the axes. It gets its axes from `axes` or `panels`, names them and
gives them units by `dress`, writes beside what it draws by `note`, states its claim by `claim`, and shows in the corner by
`corner` what the figure stands on.
"""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from sim.results.text import number, percent, seconds

Unit = Literal["time", "count", "share"]
FORMATS: dict[str, Callable[[float | None], str]] = {"time": seconds, "count": number, "share": percent}

# Okabe and Ito, "Color Universal Design" (2008), ordered so that neighbours differ in lightness as well.
BLUE, ORANGE, GREEN, VERMILION, SKY, PURPLE, BLACK, GREY = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#56B4E9",
    "#CC79A7",
    "#222222",
    "#8A8A8A",
)
CYCLE = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY, BLACK)
ROLES = {"measured": BLUE, "simulated": VERMILION, "theory": BLACK}
MAP = "cividis"
HALO = [withStroke(linewidth=3, foreground="white")]

WIDTH, HEIGHT, DPI = 8.2, 4.3, 110
"""Inches and dots per inch: figures of one size, so that their text representation is stable."""

SETTINGS: dict[Any, Any] = {
    "figure.figsize": (WIDTH, HEIGHT),
    "figure.dpi": DPI,
    "savefig.dpi": DPI,
    "savefig.bbox": "standard",
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555555",
    "axes.labelcolor": "#222222",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.7,
    "lines.linewidth": 1.9,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "legend.frameon": False,
    "image.cmap": MAP,
    "axes.prop_cycle": cycler(color=CYCLE),
    "hatch.linewidth": 0.6,
}


def axes(ax: Axes | None = None, height: float = HEIGHT) -> Axes:
    """The given axes, or new ones in the house's look."""
    return ax if ax is not None else panels(1, 1, height)[0]


def panels(rows: int, columns: int, height: float = HEIGHT, **shared: Any) -> list[Axes]:
    """A grid of axes on one new figure, in reading order. Constrained layout: labels and titles never overlap."""
    with look():
        _, grid = plt.subplots(rows, columns, figsize=(WIDTH, height), dpi=DPI, layout="constrained", squeeze=False, **shared)
    return list(np.ravel(grid))


@contextmanager
def look() -> Iterator[None]:
    """The settings above while a figure is made. Not `rc_context`: leaving that undoes a notebook's interactive mode as well."""
    before = {name: mpl.rcParams[name] for name in SETTINGS}
    mpl.rcParams.update(SETTINGS)
    try:
        yield
    finally:
        mpl.rcParams.update(before)


def figure_of(ax: Axes) -> Figure:
    figure = ax.get_figure(root=True)
    assert figure is not None
    return figure


def claim(ax: Axes, text: str, width: float | None = None, pad: float = 10) -> None:
    """The figure's one claim as its title, wrapped to the width of the axes (inches), *pad* points above them."""
    if width is None:
        # One axes may let its title run over a colour bar; one of several may not.
        figure = figure_of(ax)
        single = len([other for other in figure.axes if other.get_label() != "<colorbar>"]) == 1
        width = figure.get_size_inches()[0] * (0.86 if single else ax.get_position().width)
    ax.set_title(_wrapped(text, max(24, int(width * 11.5))), loc="left", fontsize=11, fontweight="bold", color=BLACK, pad=pad)


def _wrapped(words: str, width: int) -> str:
    """In lines of *width* letters; a figure stays with its unit."""
    kept = re.sub(r"(?<=\d) (?=(s|ms|µs|min|h|%|[kMGT]?B)\b|%)", "\N{NO-BREAK SPACE}", words)
    return textwrap.fill(kept, width).replace("\N{NO-BREAK SPACE}", " ")


def claim_above(axes: Sequence[Axes], words: str) -> None:
    """The claim of several panels, above them all: as a panel's own title it would push the others aside."""
    figure_of(axes[0]).suptitle(
        _wrapped(words, int(WIDTH * 11.5)), x=0.01, ha="left", fontsize=11, fontweight="bold", color=BLACK
    )


def note(ax: Axes, words: str, at: tuple[Any, Any], offset: tuple[float, float] = (0, 0), on: Any = "data", **look: Any) -> None:
    """Small words at *at*, moved by *offset* points. *on*: the coordinates of *at*, as Matplotlib names them."""
    ax.annotate(words, at, xycoords=on, xytext=offset, textcoords="offset points", **{"fontsize": 8.5} | look)


def corner(ax: Axes, *parts: str) -> None:
    """What the figure stands on (n, window, run), small, below the right end of the x axis."""
    words = "  ·  ".join(part for part in parts if part)
    note(ax, words, (1, 0), (0, -34), "axes fraction", ha="right", va="top", fontsize=7.5, color=GREY)


def nothing(ax: Axes, what: str) -> Axes:
    """An empty figure that says why it is empty."""
    ax.text(0.5, 0.5, f"no {what}", transform=ax.transAxes, ha="center", va="center", color=GREY, fontsize=12)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.grid(visible=False)
    return ax


def colour(name: str, position: int = 0) -> str:
    """The colour of a series: fixed for measured, simulated and theory, else by position."""
    return ROLES.get(name, CYCLE[position % len(CYCLE)])


LINES = {"measured": "-", "simulated": "--", "theory": ":"}


def looks(names: Iterable[str]) -> dict[str, tuple[str, str, str]]:
    """name -> (label, colour, line style). Of `detail, simulated` the first part decides the colour, the second the line where
    there are several."""
    split = {name: name.rpartition(", ") for name in names}
    paired = {name: head for name, (head, _, tail) in split.items() if head and tail in LINES}
    several = len({split[name][2] for name in paired}) > 1
    labels = {name: paired.get(name, name) for name in split}
    inks = {label: colour(label, i) for i, label in enumerate(dict.fromkeys(labels.values()))}
    return {
        name: (labels[name], inks[labels[name]], LINES[split[name][2]] if name in paired and several else "-") for name in split
    }


def legend(ax: Axes, **options: Any) -> None:
    """A legend without a frame."""
    ax.legend(**{"frameon": False, "fontsize": 8.5} | options)


def line_legend(ax: Axes, names: Iterable[str], **options: Any) -> None:
    """What solid, dashed and dotted mean, where several sources are drawn."""
    sources = [source for source in LINES if any(name.endswith(f", {source}") for name in names)]
    if len(sources) > 1:
        handles = [Line2D([], [], color=BLACK, ls=LINES[source], label=source) for source in sources]
        legend(ax, handles=handles, **options)


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a figure: the column of the frame that it shows, its name, its unit, and what is drawn across it."""

    column: str = ""
    label: str = ""
    """Empty: the column's name."""
    unit: Unit = "count"
    linear: bool = False
    """False: logarithmic where all values are positive and spread far (never for shares)."""
    marks: Mapping[str, float] = field(default_factory=dict)
    """Text -> value: lines across the figure."""
    band: float | None = None
    """Half the width of a grey band around 0."""

    @property
    def name(self) -> str:
        return self.label or self.column.replace("_", " ")

    def is_log(self, values: np.ndarray[Any, Any]) -> bool:
        """Whether these values want a logarithmic axis."""
        return not self.linear and self.unit != "share" and bool((values > 0).all()) and wide(values, 20)


def dress(axis: Any, label: str, unit: Unit, log: bool = False) -> None:
    """Name an axis, and give it ticks in the unit that fits each; *log*: make it logarithmic."""
    if log:
        (axis.axes.set_xscale if axis.axis_name == "x" else axis.axes.set_yscale)("log")
    ticks(axis, unit, log)
    axis.set_label_text(label)


def ticks(axis: Any, unit: Unit, log: bool = False) -> None:
    """Ticks in the unit that fits each, of three digits."""
    if log:
        axis.set_major_locator(LogLocator(numticks=8))
        axis.set_minor_formatter(NullFormatter())
    axis.set_major_formatter(
        FuncFormatter(lambda value, _: FORMATS[unit](round(value, 4) if unit == "share" else float(f"{value:.3g}")))
    )


def density(ax: Axes, columns: np.ndarray[Any, Any], rows: np.ndarray[Any, Any], amount: Any, label: str) -> None:
    """A heat map of the amounts (> 0) in the cells between the edges, with a logarithmic colour bar: 1, 2, 5 of each decade."""
    shown = np.ma.masked_equal(amount, 0)
    norm = LogNorm(vmin=float(shown.min()), vmax=max(float(shown.max()), float(shown.min()) * 2))
    mesh = ax.pcolormesh(columns, rows, shown, norm=norm, cmap=MAP)
    ax.grid(visible=False)
    bar = figure_of(ax).colorbar(mesh, ax=ax, pad=0.01)
    bar.set_label(label)
    bar.ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    bar.ax.yaxis.set_minor_locator(NullLocator())
    ticks(bar.ax.yaxis, "count")


def edges(centres: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Edges of the cells around logarithmically spaced centres."""
    if len(centres) == 1:
        return centres[0] * np.array([0.7, 1.4])
    middle = np.sqrt(centres[:-1] * centres[1:])
    return np.r_[centres[0] ** 2 / middle[0], middle, centres[-1] ** 2 / middle[-1]]


def wide(values: np.ndarray[Any, Any] | Sequence[float], times: float = 30) -> bool:
    """Whether positive values spread so far that a logarithmic axis is the honest one."""
    known = np.asarray(values, float)
    known = known[np.isfinite(known) & (known > 0)]
    return len(known) > 1 and bool(known.max() > times * known.min())


def label_ends(ax: Axes, labels: Sequence[tuple[float, float, str, str]], gap: float = 0.055) -> None:
    """Direct labels at (x, y, text, colour), moved apart vertically so that none covers another; room is made on the right.

    Call when the limits of the axes are final. Overlaps are judged in axes coordinates, so logarithmic axes work too.
    """
    if not labels:
        return
    to_axes = ax.transData + ax.transAxes.inverted()
    places = [to_axes.transform((x, y)) for x, y, _, _ in labels]
    heights = spread([float(up) if math.isfinite(up) else 1.0 for _, up in places], gap)
    for (across, _), up, (_, _, text, ink) in zip(places, heights, labels, strict=True):
        place = (min(float(across), 1.0), up)
        note(ax, text, place, (5, 0), "axes fraction", va="center", color=ink, fontsize=9, annotation_clip=False)


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """The heights (0..1) in their order, moved to be *gap* apart by one pass upwards and one downwards."""
    order = sorted(range(len(heights)), key=lambda i: heights[i])
    placed = [min(max(heights[i], 0.02), 0.98) for i in order]
    for k in range(1, len(placed)):
        placed[k] = max(placed[k], placed[k - 1] + gap)
    placed[-1:] = [min(height, 1.0) for height in placed[-1:]]
    for k in range(len(placed) - 2, -1, -1):
        placed[k] = min(placed[k], placed[k + 1] - gap)
    return [height for _, height in sorted(zip(order, placed, strict=True))]
