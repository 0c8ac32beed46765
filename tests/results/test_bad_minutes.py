"""The minutes in which figures were rosy once: restarts, refetches that stop, old answers, backlogs. Each is told as it was."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sim.clock import SECOND
from sim.results.answers import compare
from sim.results.answers.explain import explain
from sim.results.answers.sections import to_text
from sim.results.ledger import costs, stages
from sim.results.ledger.book import Ledger
from sim.results.ledger.timeline import over_time
from sim.results.run import RunWriter
from sim.results.summary import summarise
from sim.scenario import Fleet, Pages, Scenario
from sim.virtual import reference
from sim.workload import Updates
from tests.results.frames import NAN, Frames, frame, notification, refetch, update


def figures(found: dict[str, Any], *names: str) -> list[Any]:
    return ["never" if found[name].get("never") else found[name]["value"] for name in names]


def test_a_restart_without_a_refetch_on_reconnect_starves_and_says_so() -> None:
    """Five updates, a broadcaster that is away from 10 to 15 s, dashboards that do not refetch when they are back."""
    scenario = Scenario(
        duration=26.0, drain=3.0, fleet=Fleet(users=1, servers_per_user=5), pages=(Pages("dashboard", 20),)
    ).replace({"incidents": [{"kind": "restart", "at": 10.0, "down": 5.0}], "cooldown": 0.0})
    at = np.array([5, 11, 13, 16, 18]) * SECOND
    found = summarise(reference.run(scenario, updates=Updates.of(at, np.zeros(5), np.arange(1, 6), 0)), scenario)
    away, silent = figures(found, "deliveries.missed_while_away", "deliveries.not_broadcast")
    assert away + silent == found["pairs.never"]["value"]
    assert silent == 20, "the event of 11 s was given up after three tries"
    assert figures(found, "starved_ratio", "starved_updates") == [0.8, 4]
    assert figures(found, "time_to_fresh.p50", "time_to_fresh.mean") == ["never", "never"]
    assert found["stale_ratio"]["value"] > 0.3
    assert found["delivery_ratio"]["value"] == 1.0, "what nobody was subscribed for was not owed on the wire"


def stopped() -> Frames:
    """Updates each second to 20 s, refetched half a second later, until refetches stop at 14 s. Ends as a load test's."""
    at = [float(i) for i in range(20)]
    return Frames(
        frame("updates", [update(i, t, committed_at=t) for i, t in enumerate(at)]),
        frame("notifications", [notification(i, 7, t + 0.1) for i, t in enumerate(at)]),
        frame("refetches", [refetch(7, t + 0.5, i + 1) for i, t in enumerate(at) if t < 14]),
        frame("subscriptions", [{"subscriber": 7}]),
    )


def test_explain_and_the_summary_see_the_same_updates_that_were_never_shown() -> None:
    scenario = Scenario(duration=20.0, pages=(Pages(subscribers=1),))
    found, ledger = summarise(stopped(), scenario), Ledger(stopped(), scenario)
    assert figures(found, "starved_ratio", "time_to_fresh.p95") == [0.3, "never"]
    assert stages.never_shown(ledger.journeys)["pages"].sum() == found["pairs.never"]["value"] == 6
    assert np.isinf(stages.times_to_fresh(ledger.journeys)).sum() == 6


def test_answers_of_unknown_age_make_no_negative_time_to_fresh() -> None:
    """Answers three seconds old, and changes that name no version: nothing is known of freshness, so nothing passes."""
    run = stopped()
    run.updates["version"] = None
    run.updates = frame("updates", run.updates.astype(object).to_dict("records"))
    found = summarise(run, Scenario(duration=20.0, pages=(Pages(subscribers=1),)))
    assert figures(found, "time_to_fresh.p50", "stale_ratio", "starved_ratio") == [None, None, None]
    assert figures(found, "pairs.owed", "pairs.unknown") == [20, 20]


def test_overlapping_answers_out_of_order_are_stale_again() -> None:
    answers = [refetch(7, 2.0, 2, took=0.5), refetch(7, 1.0, 1, took=3.0), refetch(7, 6.0, 2, took=0.5)]
    run = Frames(
        frame("updates", [update(0, 0.5, committed_at=0.5), update(1, 1.5, committed_at=1.5)]),
        refetches=frame("refetches", answers),
        pages=frame("pages", [{"subscriber": 7}]),
    )
    found = summarise(run, Scenario(duration=10.0, pages=(Pages(subscribers=1),)))
    assert found["stale_ratio"]["value"] == pytest.approx((2.0 + 2.5) / 10)
    assert found["pages.regressions"]["value"] == 1


def test_pages_that_left_owe_nothing_and_are_not_stale_before_they_opened() -> None:
    run = Frames(
        frame("updates", [update(0, 9.5, committed_at=9.5)]),
        pages=frame("pages", [{"subscriber": 1, "opened_at": 5.0, "closed_at": 11.0}, {"subscriber": 2, "opened_at": 9.8}]),
    )
    found = summarise(run, Scenario(duration=10.0, drain=3.0, cooldown=0.0, pages=(Pages(subscribers=1),)))
    assert figures(found, "pairs.left", "pairs.never", "time_to_fresh.p99") == [1, 0, None]
    assert found["stale_ratio"]["value"] == pytest.approx(0.5 / 5.2)


def test_a_backlog_at_the_end_is_running_and_not_wasted() -> None:
    late = [refetch(7, 9.0 + i / 100, None, outcome="running", finished_at=NAN, status=None) for i in range(30)]
    run = Frames(refetches=frame("refetches", [refetch(7, 8.0, 1), *late]), pages=frame("pages", [{"subscriber": 7}]))
    found = summarise(run, Scenario(duration=10.0, pages=(Pages(subscribers=1),)))
    assert figures(found, "refetches", "refetches.running", "refetches.wasted") == [31, 30, 0]


@pytest.mark.parametrize("share", [1, 16])
def test_the_cost_per_subscriber_is_that_of_all_whatever_share_of_the_pages_has_rows(share: int, tmp_path: Any) -> None:
    each, pages = 4.5e-6, 1600
    rng = np.random.default_rng(3)
    members = np.sort(rng.choice(pages, pages // share, replace=False))
    board = {"page": "dashboard", "resource": "dashboard", "resource_id": 0, "channel": "private-servers", "user": 1}
    scenario = Scenario(duration=10.0, fleet=Fleet(users=1), pages=(Pages("dashboard", pages),))
    tables = {
        "updates": frame("updates", [update(0, 1.0), update(1, 2.0)]),
        "notifications": frame(
            "notifications",
            [notification(i, s, 1.02 + i + each * (s + 1), channel="private-servers") for i in range(2) for s in members],
        ),
        "subscriptions": frame("subscriptions", [{"subscriber": s} | board for s in members]),
        "pages": frame(
            "pages", [{"subscriber": s, "weight": float(share), "page": "dashboard", "resource": "dashboard"} for s in members]
        ),
    }
    with RunWriter(tmp_path / "run", scenario, source="measured") as writer:
        for name, rows in tables.items():
            writer.append(name, {column: rows[column] for column in rows.columns})
        run = writer.close()
    events = costs.arrivals(run)
    assert events["receivers"].tolist() == [pages, pages]
    assert (events["spread"] / events["ranks"]).tolist() == pytest.approx([each, each], rel=0.05)
    assert summarise(run)["fan_out.last.p50"]["value"] == pytest.approx(0.01 + each * pages, rel=0.05)


def test_a_target_that_tells_neither_commit_nor_version_has_deliveries_and_no_freshness() -> None:
    run = stopped()
    told = run.updates.astype(object).to_dict("records")
    run.updates = frame("updates", [row | {"version": None, "sequence": None, "committed_at": NAN} for row in told])
    scenario = Scenario(duration=20.0, pages=(Pages(subscribers=1),))
    found = summarise(run, scenario)
    assert figures(found, "deliveries.expected", "deliveries.received", "pairs.owed", "pairs.unknown") == [20, 20, 20, 20]
    assert figures(found, "fan_out.spread.p50", "fan_out.last.p50", "time_to_fresh.p50") == [0.0, None, None]
    # Nobody knows what of it the pages owe.
    assert figures(found, "stale_ratio", "pages.stale_at_end", "pages.stale_at_end_ratio") == [None] * 3
    assert figures(found, "starved_updates", "age_of_synchronisation.mean") == [None] * 2


@pytest.mark.parametrize(("every", "known"), [(1, False), (2, False), (50, False), (250, True)])
def test_an_application_that_tells_some_commits_has_figures_where_hardly_any_is_missing(every: int, known: bool) -> None:
    """One commit in *every* is not told, or all but one in 50: unknown are the pairs of the pages that would owe them."""
    run = many(500)
    rows = run.updates.astype(object).to_dict("records")
    untold = [(row["update"] % every == 0) if every != 50 else row["update"] % 50 != 0 for row in rows]
    run.updates = frame(
        "updates", [row | ({"committed_at": NAN} if not told else {}) for row, told in zip(rows, ~np.array(untold), strict=True)]
    )
    run.scenario = Scenario(duration=501.0, pages=(Pages(subscribers=2),))  # type: ignore[attr-defined]
    found = summarise(run)
    assert figures(found, "pairs.owed", "pairs.unknown") == [1000, 2 * sum(untold)]
    names = ("time_to_fresh.p50", "starved_ratio", "stale_ratio", "age_of_information.mean", "age_of_synchronisation.mean")
    assert [value is not None for value in figures(found, *names)] == [known] * len(names)
    compared = compare.measured(run)  # type: ignore[arg-type]
    assert {compared[name].value is not None for name in ("time_to_fresh.p50", "starved_ratio", "stale_ratio")} == {known}
    assert (over_time(Ledger(run))["fresh_p50"].notna().any()) == known


def many(count: int) -> Frames:
    """An update a second, shown at once by two pages of its resource."""
    return Frames(
        updates=frame("updates", [update(i, 0.5 + i) for i in range(count)]),
        refetches=frame("refetches", [refetch(p, 0.6 + i, i + 1) for i in range(count) for p in (0, 1)]),
        pages=frame("pages", [{"subscriber": p} for p in (0, 1)]),
    )


def test_explain_has_no_stage_that_nobody_measured(tmp_path: Any) -> None:
    rows = stopped()
    told = rows.updates.astype(object).to_dict("records")
    rows.updates = frame("updates", [row | {"version": None, "sequence": None, "committed_at": NAN} for row in told])
    with RunWriter(tmp_path / "run", Scenario(duration=20.0, pages=(Pages(subscribers=1),)), source="measured") as writer:
        for name in ("updates", "notifications", "refetches", "subscriptions", "pages"):
            table = getattr(rows, name)
            writer.append(name, {column: table[column] for column in table.columns})
        run = writer.close()
    found = explain(run)
    assert found.stages["mean"].isna().all()
    assert found.windows["notified_p95"].notna().any(), "what arrived is explained all the same"
    assert "save" not in to_text(found.sections())
    assert "nobody says when a change was committed" in found.sentences[0]
    compared = compare.measured(run)
    assert [compared[name].value for name in ("stale_ratio", "age_of_synchronisation.mean", "starved_ratio")] == [None] * 3
