"""General figures draw what they are given, and say so where there is nothing: empty frames, one row, all equal, never."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from sim.results import plots
from sim.results.plots import Axis
from sim.results.plots.basic import _deepest

X, Y = Axis("x"), Axis("y", unit="time")


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    plt.close("all")


def lines(xs: list[float], ys: list[float], **more: object) -> pd.DataFrame:
    return pd.DataFrame({"x": xs, "y": ys, "group": "a"} | more)


FRAMES = {
    "empty": lines([], []),
    "one row": lines([1.0], [2.0]),
    "all equal": lines([1.0] * 4, [2.0] * 4),
    "zeros": lines([0.0, 0.0], [0.0, 0.0]),
    "never": lines([1.0, 2.0], [np.inf, np.nan]),
    "wide": lines([0.001, 1000.0], [1e-6, 1e6]),
    "negative": lines([1.0, 2.0, 3.0], [-0.2, 0.0, 0.2]),
    "sources": pd.concat(
        [lines([1.0, 2.0], [1.0, 2.0], source=kind) for kind in ("theory", "simulated", "measured", "fit", "curve")]
    ),
    "intervals": lines([1.0, 2.0], [1.0, 2.0], low=[0.5, np.nan], high=[1.5, 3.0]),
}


def drawn(ax: Axes) -> str:
    """Everything that is written on a figure; drawing it must not fail."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    figure.canvas.draw()
    written = [text.get_text() for one in figure.axes for text in one.texts]
    written += [one.get_title(loc=side) for one in figure.axes for side in ("left", "center", "right")]
    return " | ".join([*written, figure.get_suptitle()])


@pytest.mark.parametrize("name", FRAMES)
def test_lines_of_any_frame(name: str) -> None:
    ax = plots.plot_lines(FRAMES[name], Axis("x", marks={"here": 1.5}), Axis("y", unit="time", marks={"limit": 1.0}, band=0.1))
    assert drawn(ax)
    for line in ax.lines:
        assert np.isfinite(np.asarray(line.get_ydata(), float)).all()


def test_lines_say_what_is_missing_and_what_they_show() -> None:
    assert "no point" in drawn(plots.plot_lines(FRAMES["empty"], X, Y))
    assert "no point" in drawn(plots.plot_lines(FRAMES["never"], X, Y))
    assert "what it shows" in drawn(plots.plot_lines(FRAMES["wide"], X, Y, title="what it shows"))


def test_a_label_stands_where_its_line_ends_although_a_band_moves_the_limits() -> None:
    two = pd.concat([lines([1.0, 2.0], [0.0, 0.1]), lines([1.0, 2.0], [0.0, -0.1]).assign(group="b")])
    ax = plots.plot_lines(two, X, Axis("y", unit="share", band=1.0))
    heights = {text.get_text(): text.xy[1] for text in ax.texts}
    assert heights["a"] > heights["b"]
    assert 0.4 < heights["b"] < heights["a"] < 0.6


@pytest.mark.parametrize(("rows", "value"), [(0, 0.0), (1, 2.0), (3, 0.0), (3, np.inf), (3, np.nan)])
def test_bars_of_any_frame(rows: int, value: float) -> None:
    frame = pd.DataFrame({"a": [value] * rows, "b": np.arange(rows, dtype=float)}, index=[f"row {i}" for i in range(rows)])
    axes = plots.plot_bars(frame, [Axis("a", unit="time"), Axis("b")], best="row 0")
    assert len(axes) == 2
    assert ("never" in drawn(axes[0])) == (rows > 0 and value == np.inf)


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (4, 3)])
def test_regions_are_named_inside(size: tuple[int, int]) -> None:
    rows, columns = size
    table = pd.DataFrame("left", index=np.geomspace(1, 10, rows), columns=np.geomspace(1, 10, columns))
    for rate in table.columns[columns // 2 + 1 :]:
        table[rate] = "right"
    written = drawn(plots.plot_regions(table, X, Y, names=["left", "right"], points={"here": (1.0, 1.0)}))
    assert "left" in written
    assert "here" in written
    assert ("| right |" in f"| {written} |") == (columns > 1)


def test_regions_of_nothing() -> None:
    assert "no point" in drawn(plots.plot_regions(pd.DataFrame(), X, Y, names=["a"]))


def test_the_deepest_cell_of_a_region_is_inside_and_away_from_its_edge() -> None:
    inside = np.zeros((9, 9), dtype=bool)
    inside[1:8, 1:8] = True
    assert _deepest(inside) == (4, 4)
    thin = np.zeros((5, 5), dtype=bool)
    thin[0, 3] = True
    assert _deepest(thin) == (0, 3)


SERIES: dict[str, Callable[[], dict[str, pd.DataFrame]]] = {
    "none": dict,
    "empty": lambda: {"a": pd.DataFrame({"at": [], "y": []})},
    "one of two": lambda: {"a": pd.DataFrame({"at": [0.0, 1.0], "y": [1.0, 3.0]}), "b": pd.DataFrame({"at": [], "y": []})},
    "zero": lambda: {"a": pd.DataFrame({"at": [0.0, 1.0], "y": [0.0, 0.0]})},
}


@pytest.mark.parametrize("name", SERIES)
def test_series_over_time(name: str) -> None:
    axes = plots.plot_over_time(SERIES[name](), Axis("y", "running", marks={"limit": 2.0}), spans=[(0.2, 0.4)])
    written = drawn(axes[0])
    assert ("no series" in written) == (name in ("none", "empty"))
