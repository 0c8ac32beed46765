"""Figures draw what they are given, and say so where there is nothing: empty frames, one row, all rows equal."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

mpl.use("Agg")

import matplotlib.pyplot as plt

from sim.results import plots
from sim.results.ledger import herds, stages, timeline
from sim.results.ledger.book import Ledger
from sim.results.ledger.staleness import saw_tooth
from sim.results.plots import style
from sim.scenario import Pages, Scenario
from tests.results.frames import Frames, frame, notification, random_run, refetch, update

SCENARIO = Scenario(pages=(Pages(subscribers=1),))

ONE = Frames(
    frame("updates", [update(0, 1.0)]),
    frame("notifications", [notification(0, 7, 1.1)]),
    frame("refetches", [refetch(7, 1.6, 1)]),
    frame("subscriptions", [{"subscriber": 7}]),
)
EQUAL = Frames(
    frame("updates", [update(i, 1.0 + i) for i in range(30)]),
    frame("notifications", [notification(i, 7, 1.1 + i) for i in range(30)]),
    frame("refetches", [refetch(7, 1.6 + i, i + 1) for i in range(30)]),
    frame("subscriptions", [{"subscriber": 7}]),
)
RUNS = {"empty": Frames(), "one row": ONE, "all equal": EQUAL, "mixed": random_run(3)}


def grid(rows: int, *, equal: bool = False) -> np.ndarray:
    return np.full(rows, 2.0) if equal else np.arange(1, rows + 1, dtype=float)


def table(rows: int, equal: bool, **columns: object) -> pd.DataFrame:
    return pd.DataFrame({name: made if made is not None else grid(rows, equal=equal) for name, made in columns.items()})


def journeys(run: Frames) -> pd.DataFrame:
    return Ledger(run, SCENARIO).journeys


def fresh(run: Frames) -> np.ndarray:
    return stages.times_to_fresh(journeys(run))


OF_RUNS: dict[str, Callable[[Frames], object]] = {
    "percentiles": lambda run: plots.plot_percentiles({"measured": fresh(run)}, 30, floor=1e-4),
    "ecdf": lambda run: plots.plot_ecdf({"detail, measured": fresh(run), "detail, simulated": fresh(run)}),
    "drift": lambda run: plots.plot_drift(
        journeys(run).assign(at=lambda j: j["intended_at"], latency=lambda j: j["fresh_at"] - j["intended_at"])
    ),
    "stations": lambda run: plots.plot_stations({"measured": stages.stations(journeys(run))}),
    "stages": lambda run: plots.plot_stages({"measured": stages.stage_table(journeys(run))}),
    "worst": lambda run: plots.plot_worst(stages.worst(journeys(run))),
    "saw teeth": lambda run: plots.plot_over_time(
        {"page": saw_tooth(Ledger(run, SCENARIO).states, 0, 0.0, 10.0)}, plots.Axis("age", unit="time"), stairs=False
    ),
    "offsets": lambda run: plots.plot_offsets(herds.offsets(run)),
    "run": lambda run: plots.plot_run(
        timeline.over_time(Ledger(run, SCENARIO)), [("restart", 1.0, 2.0), ("deploy", 3.0, 3.0)], window=(0.5, 20.0)
    ),
}

OF_TABLES: dict[str, Callable[[int, bool], object]] = {
    "pareto": lambda n, same: plots.plot_pareto(
        table(
            n, same, refetches_per_update=None, fresh_p95=None, policy=["debounce"] * n, setting=["x"] * n, dominated=[False] * n
        ),
        objective=1.0,
    ),
    "starvation": lambda n, same: plots.plot_starvation(
        pd.DataFrame(np.full((n, n), 2.0) if same else np.outer(grid(n), grid(n)), index=grid(n), columns=grid(n)), limit=3.0
    ),
    "agreement": lambda n, same: plots.plot_agreement(table(n, same, measured=None, low=None, high=None, predicted=None)),
    "forest": lambda n, same: plots.plot_forest(
        table(n, same, difference=None, low=None, high=None, verdict=["same"] * n, a=["1"] * n, b=["2"] * n), band=0.05
    ),
}


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ResourceWarning)  # of another test's objects, collected just now
        yield
    plt.close("all")


def drawn(result: object) -> mpl.figure.Figure:
    ax = result[0] if isinstance(result, list) else result
    figure = style.figure_of(ax)
    figure.canvas.draw()
    return figure


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
@pytest.mark.parametrize("plot", OF_RUNS.values(), ids=OF_RUNS)
def test_figures_of_runs(plot: Callable[[Frames], object], run: Frames) -> None:
    drawn(plot(run))


@pytest.mark.parametrize(
    ("rows", "equal"), [(0, False), (1, False), (6, True), (6, False)], ids=["empty", "one", "equal", "many"]
)
@pytest.mark.parametrize("plot", OF_TABLES.values(), ids=OF_TABLES)
def test_figures_of_tables(plot: Callable[[int, bool], object], rows: int, equal: bool) -> None:
    drawn(plot(rows, equal))


def test_every_figure_is_drawn_by_a_test() -> None:
    drawn_here = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_plots*.py"))
    assert [name for name in vars(plots) if name.startswith("plot_") and f"plots.{name}(" not in drawn_here] == []


def test_what_never_happened_does_not_break_a_figure() -> None:
    drawn(plots.plot_percentiles({"measured": np.array([0.1, 0.2, np.inf])}, 3))
    drawn(plots.plot_ecdf({"measured": np.array([0.1, 0.2, np.inf])}))
    drawn(plots.plot_ecdf({"measured": np.full(3, np.inf)}))


def test_an_empty_figure_says_why() -> None:
    ax = plots.plot_ecdf({})
    assert [text.get_text() for text in ax.texts] == ["no samples"]


def test_a_figure_states_its_claim_and_its_n() -> None:
    ax = plots.plot_ecdf({"detail": np.linspace(0.1, 1, 101)}, n="n = 101 updates")
    assert "550 ms" in ax.get_title(loc="left")
    assert any("n = 101 updates" in text.get_text() for text in ax.texts)


def test_given_axes_are_used() -> None:
    _, ax = plt.subplots()
    assert plots.plot_ecdf({"a": np.linspace(0.1, 1, 10)}, ax) is ax


def test_the_look_leaves_nothing_behind() -> None:
    before = dict(mpl.rcParams)
    plots.plot_ecdf({"a": np.linspace(0.1, 1, 10)})
    assert {k: v for k, v in mpl.rcParams.items() if before[k] != v} == {}


@pytest.mark.parametrize("heights", [[0.5, 0.5, 0.5], [0.98, 0.99, 1.0], [0.0, 0.01], [0.3]])
def test_labels_keep_their_order_and_their_distance(heights: list[float]) -> None:
    placed = style.spread(heights, 0.05)
    assert sorted(range(len(heights)), key=lambda i: heights[i]) == sorted(range(len(heights)), key=lambda i: placed[i])
    ordered = sorted(placed)
    assert all(b - a >= 0.05 - 1e-9 for a, b in pairwise(ordered))
    assert max(placed) <= 1.0


def test_a_front_of_one_policy_names_the_setting_alone() -> None:
    frame = pd.DataFrame(
        {
            "refetches_per_update": [10.0, 20.0, 90.0],
            "fresh_p95": [7.0, 3.0, 2.5],
            "setting": ["wait 1 s", "wait 0.5 s", "wait 0 s"],
        }
    ).assign(policy="policy.wait", dominated=False)
    ax = plots.plot_pareto(frame)
    assert ax.get_title(loc="left") == "No other setting beats 3 of the 3 that are drawn"
    assert ax.get_legend() is None
    assert any(words.get_text() == "knee: wait 0.5 s" for words in ax.texts)


def test_a_title_is_not_broken_between_a_figure_and_its_unit() -> None:
    ax = plots.plot_ecdf({"detail": np.linspace(0.1, 1, 101)})
    for width in np.linspace(1.0, 4.0, 31):
        style.claim(ax, "The p95 of the time to fresh: 1.13 s in the median part, at most 3.33 s (at 10.5 s), 12 % more", width)
        lines = ax.get_title(loc="left").splitlines()
        assert not [line for line in lines if line.startswith(("s ", "s)", "s,", "%"))]
