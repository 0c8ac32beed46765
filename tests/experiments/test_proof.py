"""The proof is what its fit predicts: rows are made anew, and counted as they stand."""

from __future__ import annotations

import json

import pytest

from sim.experiments import proof
from sim.prediction import read as read_fit
from sim.scenario import Scenario, build


def test_a_stored_prediction_is_what_its_fit_says() -> None:
    found, _ = proof.read()
    rows = found[(found["run"] == "herd-reverb-2000") & (found["target"] == "reverb")].set_index("metric")["predicted"]
    scenario = build(Scenario, json.loads(proof.PLACE.read_text())["scenarios"]["herd-reverb-2000"], where="kept")
    again = proof.predicted(read_fit(proof.FITS / "reverb.fit.json"), scenario)
    assert len(rows) >= 5
    for metric, value in rows.items():
        assert again[str(metric)].value == pytest.approx(value, rel=1e-6), metric


def test_no_run_that_was_predicted_was_fitted_to() -> None:
    found, _ = proof.read()
    for target, rows in found.groupby("target"):
        fit = read_fit(proof.FITS / f"{target}.fit.json")
        assert not {run["name"] for run in fit.runs} & set(rows["run"])
        assert rows["subscribers"].min() > fit.ranges["subscribers"][1]


def test_counts_and_words_follow_from_the_rows() -> None:
    found, left_out = proof.read()
    words = " ".join(proof.claim(found, left_out))
    assert f"{int(found['close'].sum())} of {len(found)} figures" in words
    table = proof.by_metric(found)
    assert int(table["figures"].sum()) == len(found) == len(proof.readable(found))
    assert (table["close"] <= table["figures"]).all()
    worse = found.assign(close=False, covered=False)
    assert proof.claim(worse, {"x": "invalid"})[0].startswith("0 of ")
    assert proof.claim(worse, {"x": "invalid"})[-1] == "Left out: x, invalid."
