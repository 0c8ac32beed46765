"""A run over time: rates, latencies and failures part by part, and its incidents."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from sim.incidents import Disconnect, Outage, Restart
from sim.results.ledger.book import Ledger
from sim.results.ledger.timeline import PARTS, SHORTEST, incidents, over_time, times_to_notified, windows
from sim.scenario import Pages, Scenario
from tests.results.frames import NAN, Frames, frame, notification, random_run, refetch, update

SCENARIO = Scenario(duration=9.0, drain=1.0, cooldown=0.0, pages=(Pages(subscribers=1),))


def test_each_part_has_its_own() -> None:
    run = Frames(
        frame("updates", [update(0, 1.0), update(1, 6.0)]),
        frame("notifications", [notification(0, 7, 1.1)]),
        frame("refetches", [refetch(7, 1.6, 1), refetch(7, 7.0, 1) | {"outcome": "failed"}]),
        frame("subscriptions", [{"subscriber": 7}]),
    )
    found = over_time(Ledger(run, SCENARIO), parts=2)
    assert found["at"].tolist() == [0.0, 5.0]
    assert found["updates"].tolist() == [0.2, 0.2]
    assert found["refetches"].tolist() == [0.2, 0.2]
    assert found["refetches_failed"].tolist() == [0.0, 0.2]
    assert found["notified_p50"].to_numpy() == pytest.approx([0.1, np.nan], nan_ok=True)
    assert found["refetch_p50"].to_numpy() == pytest.approx([0.1, 0.1])
    assert found["fresh_p95"].iloc[0] < 1
    assert np.isinf(found["fresh_p95"].iloc[1]), "the second update was never shown"


def test_a_part_has_what_happens_in_it_and_the_last_also_the_very_end() -> None:
    untold = update(2, 6.0, committed_at=NAN)  # As by an application that does not say when.
    run = Frames(
        frame(
            "updates",
            [update(0, 1.0, **dict.fromkeys(("committed_at", "published_at"), NAN)), update(1, 2.0, published_at=NAN), untold],
        ),
        frame("notifications", [notification(2, 7, 6.25)]),
        frame("refetches", [refetch(7, at, 1) for at in (-0.1, 0.0, 5.0, 10.0)]),
        frame("subscriptions", [{"subscriber": 7}]),
    )
    ledger = Ledger(run, SCENARIO)
    found = over_time(ledger, parts=2)
    assert found["updates_failed"].tolist() == [0.4, 0.0], "one is not in the database, one was not broadcast"
    assert found["refetches"].tolist() == [0.2, 0.4]
    assert times_to_notified(ledger).tolist() == [0.25]
    assert len(over_time(ledger)) == 10.0 / SHORTEST
    assert len(over_time(Ledger(run, SCENARIO.replace({"duration": 89.0})))) == PARTS == 60


@pytest.mark.parametrize("seed", range(3))
def test_counts_add_up(seed: int) -> None:
    run = random_run(seed)
    found = over_time(Ledger(run, Scenario(duration=200.0, pages=(Pages(subscribers=1),))))
    for column, rows in (("updates", run.updates), ("refetches", run.refetches[run.refetches["started_at"] >= 0])):
        assert (found[column] * found["width"]).sum() == pytest.approx(len(rows))


def test_a_part_is_not_shorter_than_can_be_seen() -> None:
    for duration, parts, width in ((9.0, 20, 0.5), (9.4, 20, 0.52), (0.75, 1, 0.75), (0.2, 1, 0.2)):
        found = over_time(Ledger(Frames(), SCENARIO.replace({"duration": duration, "drain": 1.0 if duration > 1 else 0.0})))
        assert (len(found), found["width"].iloc[0]) == (parts, pytest.approx(width))
    nothing = over_time(Ledger(Frames(), SCENARIO.replace({"duration": 0.0, "drain": 0.0})))
    assert nothing[["at", "width"]].to_numpy().tolist() == [[0.0, SHORTEST]]


def test_windows_cut_what_is_counted_and_an_update_never_shown_is_infinitely_late() -> None:
    run = Frames(
        frame("updates", [update(n, at) for n, at in enumerate((1.9, 2.0, 4.1, 7.0, 9.0))]),
        frame("notifications", [notification(1, 7, 2.1), notification(2, 7, 4.3), notification(4, 7, 9.1)]),
        frame("refetches", [refetch(7, 2.5, 2), refetch(7, 4.5, 3), refetch(7, 9.0, 3)]),
        frame("subscriptions", [{"subscriber": 7}]),
    )
    book = Ledger(run, SCENARIO.replace({"warmup": 2.0, "duration": 7.0}))
    found = windows(book, 3)
    assert found.index.tolist() == pytest.approx([2.0, 2 + 7 / 3, 2 + 14 / 3])
    assert found["updates"].tolist() == [2, 0, 1], "neither what came before the window, nor what came at its end"
    assert found["refetches"].tolist() == [1, 1, 0]
    assert found["notified_p95"].tolist() == pytest.approx([0.2, np.nan, np.nan], nan_ok=True)
    assert found["fresh_p95"].tolist()[2] == np.inf
    assert found["refetch_p95"].notna().tolist() == [True, True, False]
    nothing = windows(Ledger(run, SCENARIO.replace({"duration": 0.0})), 8)
    assert nothing.empty
    assert nothing.columns.tolist() == found.columns.tolist()


def test_incidents_as_planned_and_as_they_were() -> None:
    faults = (Restart(at=2.0, down=1.0), Outage(at=5.0, duration=2.0), Disconnect(at=8.0))
    planned = Scenario(duration=9.0, drain=1.0, incidents=faults)
    assert incidents(Ledger(Frames(), planned)) == [("restart", 2.0, 3.0), ("outage", 5.0, 7.0), ("disconnect", 8.0, 8.0)]
    book = Ledger(Frames(), SCENARIO)
    rows = [{"kind": "restart", "began_at": 2.1, "ended_at": 3.4}, {"kind": "outage", "began_at": 5.0, "ended_at": None}]
    book.measured, book.tables.manifest = True, SimpleNamespace(extra={"incidents": rows})  # type: ignore[attr-defined]
    assert incidents(book) == [("restart", 2.1, 3.4), ("outage", 5.0, book.window.over)]
