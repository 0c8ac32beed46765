"""Whether a fit at small sizes predicts larger ones: measured runs beside predictions that were made without them.

`data/proof.py` measures, fits and predicts; what it found is in `data/proof.json`, which `read` and notebook 06 show, and the
fits themselves are in `data/fits`. The bundles are too large to keep.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from sim.prediction import Fit
from sim.prediction.predict import DRAWS, Figure, predict
from sim.results import text
from sim.results.answers.report import record
from sim.scenario import Scenario
from sim.shipped import shipped
from sim.workload import streams

PLACE = shipped("data") / "proof.json"
FITS = shipped("data") / "fits"

BANDS: Mapping[str, float] = {
    "time_to_notified.p50": 0.10,
    "fan_out.first.p50": 0.10,
    "fan_out.last.p50": 0.10,
    "time_to_fresh.p50": 0.10,
    "time_to_notified.p99": 0.25,
    "time_to_fresh.p99": 0.25,
    "refetches_per_update": 0.03,
    "cpu.broadcaster": 0.15,
    "cpu.application": 0.15,
}
"""How close a figure was asked to be (issue 14), relative."""


def predicted(fit: Fit, scenario: Scenario) -> dict[str, Figure]:
    """Metric -> its figure, where it is finite."""
    # The fitted times are those of one worker; their number is the run's.
    found = predict(fit, scenario, DRAWS, scenario.draw_updates(streams(scenario.seed)), BANDS, kept=["api.workers"])
    return {metric: figure for metric, figure in found.figures.items() if np.isfinite(figure.value)}


def read() -> tuple[pd.DataFrame, dict[str, str]]:
    """(rows of `rows`, with off (predicted / measured - 1), band, close (off within the band) and covered (measured within the
    interval); runs that were left out, and why)."""
    tree = record(PLACE, "python data/proof.py")
    found = pd.DataFrame(tree["rows"])
    off = found["predicted"] / found["measured"] - 1
    band = found["metric"].map(BANDS)
    # Equal but for the order of a sum is equal.
    slack = 1e-9 * found["measured"]
    covered = found["measured"].between(found["low"] - slack, found["high"] + slack)
    return found.assign(off=off, band=band, close=off.abs() <= band, covered=covered), tree["left_out"]


def by_metric(found: pd.DataFrame) -> pd.DataFrame:
    """By metric: figures, close, covered, worst (the largest difference), and what was asked."""
    grouped = found.assign(size=found["off"].abs()).groupby("metric", sort=False)
    table = grouped.agg(figures=("off", "size"), close=("close", "sum"), covered=("covered", "sum"), worst=("size", "max"))
    return table.assign(asked=table.index.map(BANDS))


def readable(found: pd.DataFrame) -> pd.DataFrame:
    """The rows as texts, each figure in its unit."""
    words = np.select([~found["covered"], ~found["close"]], ["outside the interval", "beyond the band"], default="")
    rows = text.predictions(found, map(text.unit_of, found["metric"]), "95 % of runs").assign(**{"": words})
    return found[["target", "run", "metric"]].set_axis(["broadcaster", "run", "figure"], axis=1).join(rows)


def claim(found: pd.DataFrame, left_out: Mapping[str, str]) -> list[str]:
    """What the proof comes to, in words: how many figures are close, how many are covered, which are not, what was left out."""
    held = found[found["held_out"]]
    missed = found[~found["close"]]
    of = found["metric"].value_counts().to_dict()
    worst = ", ".join(f"{name} ({number} of {of[name]})" for name, number in missed["metric"].value_counts().items())
    sizes = " and ".join(text.number(float(size)) for size in sorted(found["subscribers"].unique()))
    close, covered = (text.number(int(found[column].sum())) for column in ("close", "covered"))
    sentences = [
        f"{close} of {text.number(len(found))} figures of runs at {sizes} subscribers, predicted from smaller ones, are as close "
        f"as was asked, and {covered} lie inside their 95 % interval ({text.percent(float(found['covered'].mean()))}).",
        f"Of the {text.number(len(held))} that were measured when the model was settled, {text.number(int(held['close'].sum()))} "
        f"are close and {text.number(int(held['covered'].sum()))} covered.",
    ]
    if len(missed):
        sentences.append(f"Beyond what was asked: {worst}.")
    sentences += [f"Left out: {name}, {why}." for name, why in left_out.items()]
    return sentences
