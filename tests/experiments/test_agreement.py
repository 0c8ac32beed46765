"""Agreement: what is compared, that both engines and the closed forms meet, and from where on they do not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sim.errors import BadInput
from sim.experiments import agreement
from sim.policy import Window
from sim.prediction import fit
from sim.results.run import Run
from sim.scenario import Fleet, Pages, Scenario
from sim.study import FAMILIES, misses_allowed
from sim.workload import Poisson
from tests.experiments.bundles import bundle

SCENARIO = Scenario(
    name="boards",
    duration=30.0,
    fleet=Fleet(users=1),
    workload=Poisson(rate=4.0),
    pages=(Pages("dashboard", 12),),
    policy=Window(wait=0.3),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A simulated run that passes for a measured one: then what is predicted of it must come true."""
    return bundle(tmp_path_factory.mktemp("run") / "boards", SCENARIO, "measured")


def test_nothing_measured_is_refused() -> None:
    with pytest.raises(BadInput, match="no measured run"):
        agreement.split([])


def test_a_run_of_the_model_is_predicted_by_the_model(run: Run) -> None:
    measured, simulated = agreement.split([run])
    made = agreement.simulate(measured, {})
    table = agreement.table(measured, agreement.predictions(made, measured, simulated))
    assert len(table) == len(agreement.METRICS)
    assert table["off"].abs().max() < 0.05
    engines = agreement.engines(made)
    assert np.isfinite(engines["low"]).sum() >= 3
    assert agreement.beyond(engines["off"], engines["low"], engines["high"]).empty
    assert agreement.readable(table)["off"].str.endswith("%").all()
    sources = agreement.sources(agreement.clearest(measured), made)
    assert np.isfinite(sources.loc["fresh, mean"].to_numpy(dtype=float)).all()
    assert agreement.readable_sources(sources).shape == sources.shape


def test_a_given_prediction_goes_before_one_made_here(run: Run) -> None:
    made = agreement.simulate([run], {"policy.wait": 1.0})
    assert agreement.predictions(made, [run], given=[run])[run.name] == run.summary


def test_parameters_name_the_workers_that_they_belong_to(run: Run) -> None:
    found = fit.point(run, "broadcaster.", "network.", "api.")
    assert found["api.workers"] == SCENARIO.api.workers
    assert "api.service" in found


def test_closed_forms_are_for_dashboards_under_independent_updates() -> None:
    assert agreement.closed_form(SCENARIO)["refetches_per_update"] == pytest.approx(12 / 2.2)
    assert agreement.closed_form(SCENARIO.replace({"pages": [{"page": "detail", "subscribers": 3}]})) == {}
    assert agreement.closed_form(SCENARIO.replace({"policy": {"kind": "full_payload"}})) == {}


def test_closed_forms_and_simulation_meet() -> None:
    exact = agreement.exactness((1.0,))
    assert set(exact["group"]) == set(FAMILIES)
    assert exact["off"].abs().max() < 0.08
    assert (exact["low"] < exact["high"]).all()


def test_what_lies_beyond_its_interval_is_judged_and_only_that() -> None:
    off = pd.Series([0.0, 0.2, -0.2, 0.1, 9.0])
    low, high = pd.Series([0.0, -0.1, -0.1, -0.1, np.nan]), pd.Series([0.0, 0.1, 0.1, 0.1, np.nan])
    assert agreement.beyond(off, low, high).tolist() == [0.2, -0.2]
    assert misses_allowed(0) == 0
    assert 1 <= misses_allowed(20, 0.95) < 7
    assert misses_allowed(20, 0.5) > misses_allowed(20, 0.95)


def test_the_closed_form_needs_the_herd_and_its_reading_times() -> None:
    reach = agreement.reach((0.2, 0.9, 1.3))
    late = reach[reach["drain"] == 0.9].set_index("group")["off"]
    assert late["policy only"] > 0.1
    assert late["policy and herd"] < -0.02
    assert abs(late["and when each page reads"]) < 0.03
    assert set(reach.loc[reach["drain"] == 1.3, "group"]) == {"policy only"}


def test_how_far_a_residual_stays_inside_its_band() -> None:
    frame = pd.DataFrame({"drain": [1.0, 2.0, 3.0, 4.0], "off": [0.0, -0.05, 0.2, 0.0], "group": "a"})
    assert agreement.holds_until(frame, "a", 0.1) == 2.0
    assert agreement.holds_until(frame, "a", 0.5) == 4.0
    assert np.isnan(agreement.holds_until(frame.tail(2), "a", 0.1))
