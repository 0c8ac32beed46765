"""A change as a request: it waits for a worker and for its lock, is saved, and keeps its worker until the broadcaster answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sim.clock import EventList
from sim.scenario import Scenario
from sim.virtual import fleet
from sim.virtual.database import NOTHING
from sim.virtual.reference import run
from sim.virtual.reference.api import Answer, ApiStation, View
from tests.virtual.scenes import metric, ms, play, scene

SAVE: dict[str, Any] = {"api__save": 0.05, "api__workers": 8}


def test_a_save_of_no_time_is_there_at_once_and_takes_nobody() -> None:
    tables = play([1.0])
    assert ms(tables.updates["committed_at"]) == [1000.0]
    assert metric(tables, "requests") == 1


def test_a_change_takes_its_time_and_then_is_told_of() -> None:
    tables = play([1.0], **SAVE)
    assert ms(tables.updates["committed_at"]) == [1050.0]
    assert ms(tables.updates["published_at"]) == [1052.0]
    assert tables.refetches["version"].tolist() == [1]
    assert metric(tables, "requests") == 2


@pytest.mark.parametrize(("save", "committed"), [(0.05, 50.0), ({"kind": "uniform", "low": 0.0, "high": 1e-10}, 0.0)])
def test_a_change_at_the_first_instant_is_a_change_like_any_other(save: Any, committed: float) -> None:
    tables = play([0.0], api__save=save, api__workers=8)
    assert ms(tables.updates["committed_at"]) == [committed]
    assert ms(tables.updates["published_at"]) == [committed + 2]


@pytest.mark.parametrize("lock", ["resource", "database"])
@pytest.mark.parametrize("workers", ["shared", "own"])
def test_changes_of_one_resource_come_one_after_the_other(lock: str, workers: str) -> None:
    """So updates that are intended at one instant wait for the save, and for the broadcaster's answer where the change does."""
    tables = play([1.0, 1.0, 1.0], api__save_lock=lock, api__save_workers=workers, **SAVE)
    assert ms(tables.updates["committed_at"]) == [1050.0, 1103.0, 1156.0]
    assert tables.updates["version"].tolist() == tables.updates["sequence"].tolist() == [1, 2, 3]
    queued = play([1.0, 1.0, 1.0], api__save_lock=lock, api__save_workers=workers, broadcast__dispatch="queued", **SAVE)
    assert ms(queued.updates["committed_at"]) == [1050.0, 1100.0, 1150.0]


@pytest.mark.parametrize("workers", ["shared", "own"])
def test_a_save_that_begins_in_a_slowdown_takes_longer(workers: str) -> None:
    slow = {"incidents": [{"kind": "slowdown", "at": 2.0, "duration": 1.0, "factor": 4}]}
    tables = play([1.0, 2.9, 3.5], api__save_workers=workers, **slow, **SAVE)
    assert ms(tables.updates["committed_at"]) == [1050.0, 3100.0, 3550.0]


@pytest.mark.parametrize("workers", ["shared", "own"])
def test_who_waits_for_the_answer_before_comes_to_the_lock_after_those_that_came_meanwhile(workers: str) -> None:
    """One lock for everything; servers 1, 1, 2 and 3 at one instant: the second of server 1 is last."""
    parts = [{"kind": "instants", "at": [1.0] * count, "server": server} for server, count in ((1, 2), (2, 1), (3, 1))]
    scenario = scene(fleet__servers_per_user=3, api__save_lock="database", api__save_workers=workers, **SAVE)
    tables = run(scenario.replace({"workload": {"kind": "mixture", "parts": parts}}))
    committed = tables.updates.sort_values("committed_at")
    assert committed["resource_id"].tolist() == [1, 2, 3, 1]
    assert ms(committed["committed_at"]) == [1050.0, 1100.0, 1150.0, 1200.0]


@pytest.mark.parametrize("workers", ["shared", "own"])
def test_a_change_waits_a_second_at_most_for_the_answer_to_the_one_before(workers: str) -> None:
    """The broadcaster takes two seconds to answer; the second change is sent at 2 s, when the first has left its lock."""
    slow: dict[str, Any] = {"broadcaster__fixed": 2.0, "api__save_workers": workers}
    assert ms(play([1.0, 1.0], **slow, **SAVE).updates["committed_at"]) == [1050.0, 2050.0]


@pytest.mark.parametrize(("lock", "apart"), [("resource", False), ("database", True)])
def test_changes_of_different_resources_wait_for_each_other_in_one_database_only(lock: str, apart: bool) -> None:
    workload = {"kind": "constant", "rate": 100.0}  # one server after the other
    tables = run(scene(fleet__servers_per_user=4, api__save_lock=lock, duration=0.05, **SAVE).replace({"workload": workload}))
    waited = (tables.updates["committed_at"] - tables.updates["intended_at"]).round(6)
    assert len(waited) == 4
    assert (waited.max() > 0.051) == apart


def test_the_lock_is_held_to_the_commit() -> None:
    tables = play([1.0, 1.0], broadcast__commit_delay=0.1, broadcast__dispatch="queued", **SAVE)
    assert ms(tables.updates["committed_at"]) == [1150.0, 1300.0]


def test_on_save_the_event_leaves_before_the_commit() -> None:
    tables = play([1.0], broadcast__commit_delay=0.1, broadcast__moment="on_save", **SAVE)
    assert ms(tables.updates["published_at"]) == [1052.0]
    assert ms(tables.updates["committed_at"]) == [1150.0]


@pytest.mark.parametrize(("answer", "second"), [("before", 1050 + 2 + 1), ("after", 1050 + 2 + 1 + 100)])
def test_a_worker_that_tells_the_broadcaster_waits_for_its_answer(answer: str, second: float) -> None:
    """One worker, fan-out of 100 ms: the next change is begun when the broadcaster has answered for the first."""
    tables = play(
        [1.0, 1.0],
        api__save=0.05,
        broadcaster__answer=answer,
        broadcaster__per_subscriber=0.1,
    )
    assert ms(tables.updates["committed_at"]) == [1050.0, second + 50]
    queued = play([1.0, 1.0], api__save=0.05, broadcast__dispatch="queued", broadcaster__answer=answer)
    assert ms(queued.updates["committed_at"]) == [1050.0, 1100.0]


def test_a_worker_that_tells_the_broadcaster_as_it_saves_is_free_at_the_commit() -> None:
    """One worker. The answer comes 3 ms after the save, and 400 ms after it: the commit is 100 ms after it in either case."""
    told: dict[str, Any] = {"api__save": 0.05, "broadcast__commit_delay": 0.1, "broadcast__moment": "on_save"}
    assert ms(play([1.0, 1.0], **told).updates["committed_at"]) == [1150.0, 1300.0]
    late = play([1.0, 1.0], broadcaster__fixed=0.398, **told)
    assert ms(late.updates["committed_at"]) == [1150.0, 1050 + 400 + 150]


def test_what_holds_a_worker_when_the_run_ends_is_work_and_what_waits_for_it_waits() -> None:
    """The broadcaster's answer does not come; ten seconds of window."""
    held = play([1.0, 1.1, 1.2, 1.3], drain=0, api__save=0.05, broadcaster__fixed=20.0)
    assert metric(held, "utilisation") == pytest.approx(0.9)
    assert metric(held, "in_flight_peak") == 4
    assert held.metrics.loc[held.metrics["metric"] == "queue_peak", "value"].max() == 3


def test_who_asks_for_what_waits_for_a_held_worker_shares_its_answer() -> None:
    clock, heard = EventList(), list[Answer]()
    api = ApiStation(Scenario().replace({"api.workers": 1, "api.cache": 1.0}), lambda: 1000, clock)
    view = View(1, "server", 1, NOTHING, 1500)
    clock.call_at(0, api.change, 0, lambda begin: None)
    for at in (10, 20):
        clock.call_at(at, api.request, view, 0, at, heard.append)
    clock.call_at(50, api.release, 0, 0)
    clock.run()
    assert heard == [(1050, 50, 200, 1500)] * 2
    assert api.from_cache == 1


def test_a_refetch_waits_behind_changes_and_a_change_behind_refetches() -> None:
    """One worker. The refetch of the first change arrives at 1.0651 s, while the second is saved until 1.15 s and told of until
    1.153 s."""
    at = [1.0, 1.06]
    tables = play(at, policy={"kind": "immediate"}, api__save=0.05)
    assert ms(tables.updates["committed_at"]) == [1050.0, 1110.0]
    first = tables.refetches.iloc[0]
    assert ms(tables.refetches["started_at"])[0] == 1056.1
    assert round(first["finished_at"] * 1000, 6) == 1113 + 10 + 4  # the second change has its worker until 1113
    assert first["version"] == 2, "read when it was begun"
    slow = play([1.0, 1.0561], policy={"kind": "immediate"}, api__save=0.001, api__service={"kind": "constant", "value": 0.2})
    assert ms(slow.updates["committed_at"])[1] > 1200, "behind the refetch of the first"


def test_a_change_that_finds_the_queue_full_fails() -> None:
    workload = {"kind": "constant", "rate": 100.0}  # one server after the other
    scenario = scene(fleet__servers_per_user=4, duration=0.04, api__save=0.05, api__queue_limit=1)
    tables = run(scenario.replace({"workload": workload}))
    assert tables.updates["status"].tolist() == ["committed", "committed", "failed", "failed"][: len(tables.updates)]
    assert tables.updates["version"].isna().tolist() == [False, False, True]
    assert metric(tables, "refused") == 1


def test_a_change_that_is_refused_is_answered_and_the_next_of_its_resource_is_sent_at_once() -> None:
    """The only worker saves server 2 until 1.05 s."""
    parts = [{"kind": "instants", "at": at, "server": server} for server, at in ((1, [1.01, 1.06]), (2, [1.0]))]
    scenario = scene(fleet__servers_per_user=2, api__save=0.05, api__queue_limit=0, broadcast__dispatch="queued")
    tables = run(scenario.replace({"workload": {"kind": "mixture", "parts": parts}}))
    assert tables.updates["status"].tolist() == ["committed", "failed", "committed"]
    assert ms(tables.updates["committed_at"]) == [1050.0, None, 1110.0]


@pytest.mark.parametrize(
    "slow", [{"api__save": 0.5}, {"api__save": 0.5, "api__save_workers": "own"}, {"broadcast__commit_delay": 0.5}]
)
def test_a_change_that_is_not_committed_when_the_run_ends_is_not_in_the_database(slow: dict[str, Any]) -> None:
    scenario = scene([9.0, 9.9], drain=0, **slow)
    made = [run(scenario)]
    if not fleet.supports(scenario):
        result, tables, _ = fleet.sample(scenario, probes=1)
        assert result.summary()["updates.failed"]["value"] == 1
        made.append(tables)
    for tables in made:
        assert tables.updates["status"].tolist() == ["committed", "failed"]
        assert np.isnan(tables.updates["committed_at"]).tolist() == [False, True]
        assert tables.updates["version"].isna().tolist() == tables.updates["sequence"].isna().tolist() == [False, True]
    assert len(made) == (1 if "api__save" in slow and "api__save_workers" not in slow else 2)


def test_a_change_finishes_although_the_broadcaster_is_away() -> None:
    down = {"incidents": [{"kind": "restart", "at": 1.0, "down": 5.0}]}
    tables = play([1.1, 1.2], api__save=0.05, broadcast__tries=1, **down)
    assert ms(tables.updates["committed_at"]) == [1150.0, 1250.0]
    assert tables.updates["status"].tolist() == ["not_broadcast"] * 2


def test_changes_that_are_made_elsewhere_wait_for_no_worker() -> None:
    tables = play([1.0, 1.0], policy={"kind": "immediate"}, api__save=0.05, api__save_workers="own")
    assert ms(tables.updates["committed_at"]) == [1050.0, 1103.0]
    assert metric(tables, "requests") == 2, "the refetches"


def test_a_request_that_waits_for_a_held_worker_may_time_out() -> None:
    """The only worker tells a slow broadcaster from 1.05 to 3.053 s."""
    changes: dict[str, Any] = {"broadcaster__answer": "after", "broadcaster__compose_per_subscriber": 2.0, "api__save": 0.05}
    polls = {"kind": "polling", "interval": 0.4}
    pages = [{"page": "detail", "subscribers": 1}, {"page": "detail", "subscribers": 1, "policy": polls}]
    tables = play([1.0], pages=pages, api__timeout=0.3, **changes)
    lost = tables.refetches[tables.refetches["outcome"] == "failed"]
    assert len(lost) >= 4
    assert ((lost["finished_at"] - lost["started_at"]).round(9) == 0.3).all()
    late = tables.refetches[tables.refetches["started_at"] > 3.2]
    assert set(late["outcome"]) <= {"applied", "not_newer"}


def test_busy_changes_are_the_applications_work() -> None:
    scenario = scene(api__save=0.02).replace({"workload": {"kind": "poisson", "rate": 10.0}, "duration": 60.0})
    tables = run(scenario.replace({"broadcast.dispatch": "queued"}))
    inside = len(tables.updates[tables.updates["intended_at"] < 60])
    refetches = tables.refetches["started_at"].between(0, 60).sum()
    assert metric(tables, "utilisation") == pytest.approx((inside * 0.02 + refetches * 0.01) / 60, rel=0.02)


def test_a_request_takes_the_worker_that_is_free_first_whether_its_end_was_known_or_not() -> None:
    """One worker is held by a change until 50, the other serves until 1,000: what arrives at 10 is begun at 50."""
    clock, heard = EventList(), list[Answer]()
    api = ApiStation(Scenario().replace({"api.workers": 2}), lambda: 1000, clock)
    view = View(1, "server", 1, NOTHING, 1500)
    clock.call_at(0, api.change, 0, lambda begin: None)
    clock.call_at(0, api.request, view, 0, 0, heard.append)
    clock.call_at(10, api.request, view, 0, 10, heard.append)
    clock.call_at(20, api.request, view, 0, 20, heard.append)
    clock.call_at(50, api.release, 0, 0)
    clock.run()
    assert heard == [(1000, 0, 200, 1500), (1050, 50, 200, 1500), (2000, 1000, 200, 1500)]
    assert sorted(api.work().tolist()) == [[0, 0, 50], [0, 0, 1000], [10, 50, 1050], [20, 1000, 2000]]


def test_who_arrives_as_a_worker_takes_the_one_that_waits_finds_its_place_free() -> None:
    clock, heard = EventList(), list[Answer]()
    api = ApiStation(Scenario().replace({"api.workers": 1, "api.queue_limit": 1}), lambda: 1000, clock)
    view = View(1, "server", 1, NOTHING, 1500)
    for at in (0, 10, 20, 1000):
        clock.call_at(at, api.request, view, 0, at, heard.append)
    clock.run()
    assert heard == [(1000, 0, 200, 1500), (2000, 1000, 200, 1500), (20, None, 503, 300), (3000, 2000, 200, 1500)]


def test_a_change_that_waits_takes_a_place_in_the_queue() -> None:
    clock, heard = EventList(), list[Answer]()
    api = ApiStation(Scenario().replace({"api.workers": 1, "api.queue_limit": 1}), lambda: 1000, clock)
    view = View(1, "server", 1, NOTHING, 1500)
    clock.call_at(0, api.request, view, 0, 0, heard.append)
    clock.call_at(10, api.change, 10, lambda begin: begin + 50)
    for at in (20, 1000):
        clock.call_at(at, api.request, view, 0, at, heard.append)
    clock.run()
    assert heard == [(1000, 0, 200, 1500), (20, None, 503, 300), (2050, 1050, 200, 1500)]


def test_a_request_that_was_answered_does_not_time_out_any_more() -> None:
    tables = play([1.0], policy={"kind": "immediate"}, api__save=0.01, api__timeout=0.5, api__retries=3)
    assert metric(tables, "timeouts") == metric(tables, "retries") == 0
    assert tables.refetches["outcome"].tolist() == ["applied"]
