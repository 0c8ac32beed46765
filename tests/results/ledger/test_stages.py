"""Stages, windows, worst updates: they add up, and nothing is hidden."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import sim
from sim.results.answers.explain import explain
from sim.results.answers.sections import to_markdown, to_text
from sim.results.ledger import herds, stages
from sim.results.ledger.book import Ledger
from sim.scenario import Fleet, Pages, Scenario
from sim.workload import Poisson
from tests.results.frames import Frames, frame, notification, random_run, refetch, update

SCENARIO = Scenario(pages=(Pages(subscribers=1),))


def one_page() -> Frames:
    return Frames(
        frame("updates", [update(0, 1.0), update(1, 3.0), update(2, 5.0)]),
        frame("notifications", [notification(i, 7, 1.1 + 2 * i) for i in range(3)]),
        frame("refetches", [refetch(7, 1.6, 1), refetch(7, 3.6, 2, took=0.4)]),
        frame("subscriptions", [{"subscriber": 7}]),
    )


def test_stages_of_a_journey_counted_by_hand() -> None:
    steps = stages.durations(Ledger(one_page(), SCENARIO).journeys)
    assert steps[list(stages.STAGES)].iloc[0].tolist() == pytest.approx([0.01, 0.01, 0.08, 0.5, 0.0, 0.1])
    assert steps["total"].tolist() == pytest.approx([0.7, 1.0])


def test_a_refetch_that_was_due_already_waits_from_the_commit() -> None:
    run = Frames(
        frame("updates", [update(0, 1.0), update(1, 1.3)]),
        frame("notifications", [notification(0, 7, 1.02), notification(1, 7, 1.35)]),
        frame("refetches", [refetch(7, 1.32, 2, due_at=1.1)]),
        frame("subscriptions", [{"subscriber": 7}]),
    )
    journeys = Ledger(run, SCENARIO).journeys
    steps = stages.durations(journeys)
    assert steps[list(stages.STAGES)].iloc[1].tolist() == pytest.approx([0.01, 0.0, 0.0, 0.0, 0.01, 0.1])
    assert stages.stations(journeys[journeys["update"] == 1])["first"]["committed"] == pytest.approx(0.01)


@pytest.mark.parametrize("seed", range(4))
def test_stages_are_not_negative_and_add_up(seed: int) -> None:
    journeys = Ledger(random_run(seed), SCENARIO).journeys
    steps = stages.durations(journeys)
    assert (steps[list(stages.STAGES)].to_numpy() >= 0).all()
    done = journeys[journeys["fate"] == "shown"]
    assert steps["total"].to_numpy() == pytest.approx((done["fresh_at"] - done["intended_at"]).to_numpy())
    table = stages.stage_table(journeys)
    assert table["mean"][list(stages.STAGES)].sum() == pytest.approx(table["mean"]["total"])
    assert table["share"][list(stages.STAGES)].sum() == pytest.approx(1.0)


def test_the_worst_come_first_and_the_never_shown_are_listed() -> None:
    journeys = Ledger(one_page(), SCENARIO).journeys
    assert stages.worst(journeys, 1).index.tolist() == [1]
    assert stages.never_shown(journeys)["pages"].to_dict() == {2: 1}


def test_the_typical_update_is_the_one_whose_slowest_page_takes_the_median() -> None:
    """1, 3 and 0.5 s; of the first a quicker page too."""
    run = Frames(
        frame("updates", [update(0, 1.0), update(1, 3.0), update(2, 7.0)]),
        refetches=frame("refetches", [*(refetch(7, at, v) for v, at in ((1, 1.9), (2, 5.9), (3, 7.4))), refetch(8, 1.1, 1)]),
        pages=frame("pages", [{"subscriber": 7}, {"subscriber": 8, "closed_at": 2.5}]),
    )
    assert stages.typical_update(Ledger(run, SCENARIO).journeys) == 0


def test_stations_are_passed_by_a_first_a_median_and_a_last_page() -> None:
    pages = [{"subscriber": s} for s in (1, 2, 3)]
    heard = [notification(0, s, 1.1 + s / 10) for s in (1, 2, 3)]
    got = [refetch(s, 1.5 + s / 10, 1) for s in (1, 2, 3)]
    run = Frames(
        frame("updates", [update(0, 1.0)]),
        frame("notifications", heard),
        frame("refetches", got),
        frame("subscriptions", pages),
    )
    table = stages.stations(Ledger(run, SCENARIO).journeys)
    assert table.index.tolist() == ["committed", "published", "received", "due", "started", "fresh"]
    assert table.loc["received"].tolist() == pytest.approx([0.2, 0.3, 0.4])
    assert table.loc["fresh"].tolist() == pytest.approx([0.7, 0.8, 0.9])


def test_quantiles_of_several_series_and_the_slowest_of_several_tables() -> None:
    table = stages.percentiles({"a": np.array([1.0, 2.0]), "none": np.array([])}, (0.5, 0.99))
    assert table.loc["a"].tolist() == [1.0, 2.0, 2]
    assert table.loc["none"].isna().tolist() == [True, True, False]
    fast = stages.stage_table(Ledger(one_page(), SCENARIO).journeys)
    assert stages.slowest_kind({"a": fast, "b": fast * 2, "c": fast}) == "b"


def test_empty_journeys_have_empty_tables() -> None:
    journeys = Ledger(Frames(), SCENARIO).journeys
    assert stages.durations(journeys).empty
    assert stages.stage_table(journeys)["mean"].isna().all()
    assert stages.worst(journeys).empty
    assert stages.never_shown(journeys).empty
    assert stages.typical_update(journeys) is None


def test_what_was_not_measured_is_no_stage() -> None:
    run = one_page()
    run.updates["published_at"] = np.nan
    table = stages.stage_table(Ledger(run, SCENARIO).journeys)
    assert table["mean"].isna()[["broadcast", "fan-out"]].all(), "neither is known without the acceptance"
    assert table["mean"][list(stages.STAGES)].sum() == pytest.approx(table["mean"]["total"])


def test_offsets_count_from_the_notification_before() -> None:
    offsets = herds.offsets(one_page())
    assert offsets["offset"].tolist() == pytest.approx([0.5, 0.5])


def test_a_herd_ends_where_nothing_starts() -> None:
    got = [refetch(i, 1.0 + i / 100, 1, took=0.2) for i in range(5)] + [refetch(9, 1.2, 2)]
    table = herds.herds(frame("refetches", got))
    assert table["size"].tolist() == [5, 1]
    assert table["drain"].tolist() == pytest.approx([0.24, 0.1])
    assert herds.herds(frame("refetches", [])).empty


def test_an_explanation_names_the_stage_and_is_json(tmp_path: Path) -> None:
    scenario = Scenario(duration=20.0, fleet=Fleet(users=2), workload=Poisson(rate=2.0), pages=(Pages("dashboard", 5),))
    found = explain(sim.simulate(scenario, output=tmp_path / "run"))
    assert "is debounce" in found.sentences[0]
    json.dumps(found.to_dict(), allow_nan=False)
    assert "nan" not in to_text(found.sections())
    assert to_markdown(found.sections()).startswith("### run: no thresholds are set; the run is valid")


def test_a_run_without_updates_has_nothing_to_explain(tmp_path: Path) -> None:
    quiet = sim.simulate(Scenario(duration=5.0, workload=Poisson(rate=0.0)), output=tmp_path / "quiet")
    found = explain(quiet)
    assert found.sentences == ("Nothing changed in this run, so it says nothing about freshness.",)
    assert "never shown\n  none\n" in to_text(found.sections())


def test_a_run_that_starves_has_shown_nothing_and_lists_the_first_of_what_it_owes(tmp_path: Path) -> None:
    pages, workload = (Pages("dashboard", 2),), Poisson(rate=20.0)
    scenario = Scenario(duration=5.0, cooldown=0.0, drain=0.0, fleet=Fleet(users=1), workload=workload, pages=pages)
    found = explain(sim.simulate(scenario, {"policy.wait": 30.0}, output=tmp_path / "starved"))
    assert found.sentences[0] == "No update was shown on any page."
    *_, last = found.sections()
    assert last.table is not None
    assert (len(last.table), last.sentences) == (20, (f"The first 20 of {len(found.never)}:",))
    assert len(found.to_dict()["never"]) == len(found.never) > 20
