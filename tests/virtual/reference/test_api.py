"""The application in virtual time: workers, queue, refusals, cache; and the client that gives up and tries again."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.results.summary import summarise
from sim.scenario import Scenario
from sim.virtual.database import NOTHING, History
from sim.virtual.measures import load, peak
from sim.virtual.reference.api import Answer, ApiStation, View
from tests.virtual.scenes import metric, ms, play

S = 1_000_000_000


def api(service: int = 10, incidents: list[dict[str, Any]] | None = None, **keys: Any) -> ApiStation:
    keys = {f"api.{name}": value for name, value in keys.items()}
    scenario = Scenario(duration=997.0, drain=3.0).replace({"incidents": incidents or [], **keys})
    return ApiStation(scenario, lambda: service)


def view(user: int = 1, resource_id: int = 1, commits: list[int] | None = None, resource: str = "server") -> View:
    instants = commits or []
    return View(user, resource, resource_id, History(instants, list(range(1, len(instants) + 1))), size=1500)


def ask(api: ApiStation, *arrivals: int, of: View | None = None) -> list[Answer]:
    return [api.answer(of or view(), 0, at) for at in arrivals]


def leaves(answers: list[Answer]) -> list[int]:
    return [at for at, *_ in answers]


def statuses(answers: list[Answer]) -> list[int]:
    return [status for _, _, status, _ in answers]


def test_one_worker_serves_in_the_order_of_arrival() -> None:
    assert leaves(ask(api(), 0, 0, 5, 100)) == [10, 20, 30, 110]


def test_workers_serve_side_by_side() -> None:
    assert leaves(ask(api(workers=2), 0, 0, 0, 0)) == [10, 10, 20, 20]


def test_the_version_is_that_of_the_beginning_of_the_work() -> None:
    seen = view(commits=[0, 10, 11])
    assert [read_at for _, read_at, _, _ in ask(api(), 0, 0, 0, of=seen)] == [0, 10, 20]
    assert [seen.history.at(at) for at in (-1, 0, 9, 10, 20)] == [0, 1, 1, 2, 3]


def test_the_queue_refuses_who_finds_it_full() -> None:
    answers = ask(api(queue_limit=1), 0, 1, 2, 12, 25)
    assert statuses(answers) == [200, 200, 503, 200, 200]
    assert leaves(answers) == [10, 20, 2, 30, 40]


def test_without_a_place_to_wait_only_an_idle_worker_serves() -> None:
    assert statuses(ask(api(queue_limit=0), 0, 9, 10)) == [200, 503, 200]


def test_in_an_outage_no_worker_is_free() -> None:
    outage = [{"kind": "outage", "at": 0.0, "duration": 100e-9}]
    assert statuses(ask(api(workers=3, queue_limit=2, incidents=outage), 0, 1, 2, 100)) == [200, 200, 503, 200]


def test_the_limiter_counts_a_users_minute_from_the_first_request() -> None:
    limited = api(rate_limit=2, workers=10)
    assert statuses(ask(limited, 0, 1, 2, 60 * S - 1, 60 * S)) == [200, 200, 429, 429, 200]
    assert statuses(ask(limited, 60 * S, of=view(user=2))) == [200]
    assert limited.refused == 2
    assert statuses(ask(api(rate_limit=1), 30 * S, 90 * S - 1, 90 * S)) == [200, 429, 200]


def test_identical_refetches_share_an_answer_while_it_is_made_and_after() -> None:
    cached = api(cache=20e-9)
    answers = ask(cached, 0, 5, 30, of=view(commits=[0, 3]))
    assert leaves(answers) == [10, 10, 30]
    assert [read_at for _, read_at, _, _ in answers] == [0, 0, 0]
    assert ask(cached, 31, of=view(commits=[0, 3])) == [(41, 31, 200, 1500)]
    assert cached.work().tolist() == [[0, 0, 10], [31, 31, 41]]
    assert cached.from_cache == 2


def test_that_a_page_has_to_load_anew_is_not_remembered_and_no_answer_to_newer_pages() -> None:
    """A release at 100; pages of 50 and of 150."""
    cached = api(cache=1.0, workers=9, incidents=[{"kind": "deploy", "at": 100e-9}])
    asked = [(50, 200), (50, 205), (150, 206), (50, 211), (150, 300)]
    answers = [cached.answer(view(), made_at, at) for made_at, at in asked]
    assert statuses(answers) == [409, 409, 200, 409, 200]
    assert leaves(answers) == [210, 210, 216, 221, 300]


def test_a_dashboard_is_shared_by_one_users_pages_only() -> None:
    cached = api(cache=1.0)
    board = [View(user, "dashboard", 0, NOTHING, 1500) for user in (1, 1, 2)]
    assert [cached.answer(one, 0, 0)[0] for one in board] == [10, 10, 20]


def test_nothing_is_begun_in_an_outage() -> None:
    assert leaves(ask(api(incidents=[{"kind": "outage", "at": 5e-9, "duration": 95e-9}]), 0, 4, 50, 99, 200)) == [
        10,
        110,
        120,
        130,
        210,
    ]


def test_a_slowdown_stretches_what_begins_in_it() -> None:
    assert leaves(ask(api(incidents=[{"kind": "slowdown", "at": 1e-9, "duration": 1e-8, "factor": 3}]), 0, 1, 50)) == [10, 40, 60]


def test_a_release_answers_old_pages_by_409_after_the_work() -> None:
    released = api(incidents=[{"kind": "deploy", "at": 100e-9}])
    assert [released.answer(view(), made, at)[2] for made, at in ((0, 50), (0, 150), (120, 200))] == [200, 409, 200]
    assert len(released.work()) == 3


def test_of_several_releases_the_last_before_the_work_decides() -> None:
    released = api(incidents=[{"kind": "deploy", "at": at} for at in (100e-9, 300e-9)])
    assert [released.answer(view(), made, at)[2] for made, at in ((150, 200), (150, 290), (150, 400), (300, 500))] == [
        200,
        200,
        409,
        200,
    ]


@given(
    st.lists(st.integers(0, 300), min_size=1, max_size=40).map(sorted),
    st.lists(st.integers(0, 40), min_size=1, max_size=40),
    st.integers(1, 5),
)
def test_workers_are_never_idle_while_somebody_waits_and_never_too_many(
    arrivals: list[int], services: list[int], workers: int
) -> None:
    drawn = iter(services * len(arrivals))
    station = ApiStation(Scenario().replace({"api.workers": workers}), lambda: next(drawn))
    ask(station, *arrivals)
    work = station.work()
    assert all(a <= b for a, b in pairwise(work[:, 1].tolist()))
    assert ((work[:, 1] >= work[:, 0]) & (work[:, 2] >= work[:, 1])).all()
    for arrival, begin, _ in work.tolist():
        busy = ((work[:, 1] <= begin) & (work[:, 2] > begin)).sum()
        assert busy <= workers
        if begin > arrival:  # waited: all workers were busy just before it was begun
            assert ((work[:, 1] < begin) & (work[:, 2] >= begin)).sum() >= workers


# --- what it amounts to ------------------------------------------------------------------------------------------------


def test_busy_share_and_queue_per_second() -> None:
    work = np.array([[0, 0, S], [0, S, S + S // 2], [S // 2, S + S // 2, 2 * S]])
    rows = load(work, 3 * S, workers=1)
    assert [(at, value) for at, _, name, value in rows if name == "busy_ratio"] == [(1.0, 1.0), (2.0, 1.0), (3.0, 0.0)]
    assert [(at, value) for at, _, name, value in rows if name == "queue_peak"] == [(1.0, 2.0), (2.0, 0.0), (3.0, 0.0)]


def test_parts_of_a_second_are_apart_where_the_window_cuts_it_and_at_the_end() -> None:
    """Busy from 0.5 to 1.5 s; the window begins at 1.25 s, the run ends at 1.75 s."""
    rows = load(np.array([[S // 2, S // 2, 3 * S // 2], [S + 1, 3 * S // 2, 2 * S]]), 7 * S // 4, 1, (5 * S // 4, 3 * S))
    assert [(at, value) for at, _, name, value in rows if name == "busy_ratio"] == [(1.0, 0.5), (1.25, 1.0), (1.75, 1.0)]
    assert [(at, value) for at, _, name, value in rows if name == "queue_peak"] == [(1.0, 0.0), (1.25, 1.0), (1.75, 0.0)]


@pytest.mark.parametrize(("warmup", "duration"), [(0.0, 0.6), (0.3, 1.5), (0.0, 2.0)])
def test_the_busy_share_is_that_of_the_window(warmup: float, duration: float) -> None:
    keys = {"policy": {"kind": "immediate"}, "api__service": 0.13, "warmup": warmup, "duration": duration, "drain": 0.2}
    found = summarise(play([0.1, 0.4, 0.5, 0.9, 1.8], pages__0__subscribers=2, **keys))
    assert found["application.busy_ratio"]["value"] == pytest.approx(found["utilisation"]["value"])
    assert found["application.queue_peak"]["value"] >= 1


def test_most_at_once() -> None:
    assert peak(np.array([0, 1, 2, 10]), np.array([5, 5, 3, 11])) == 3
    assert peak(np.array([0, 5]), np.array([5, 6])) == 1
    assert peak(np.array([]), np.array([])) == 0


# --- the client --------------------------------------------------------------------------------------------------------

BUSY = {"policy": {"kind": "immediate"}, "network__to_api": 0.0, "network__to_subscriber": 0.0, "network__to_broadcaster": 0.0}
"""Three refetches at once at one worker that takes a second each."""


def three(**keys: Any) -> Any:
    at = [1.0, 1.1, 1.2]
    return play(
        at,
        broadcaster__fixed=0.0,
        broadcaster__per_subscriber=0.0,
        api__service={"kind": "constant", "value": 1.0},
        **BUSY,
        **keys,
    )


def test_a_page_gives_up_and_the_work_is_done_all_the_same() -> None:
    tables = three(api__timeout=1.5)
    assert tables.refetches["outcome"].tolist() == ["applied", "failed", "failed"]
    assert ms(tables.refetches["finished_at"]) == [2000.0, 2600.0, 2700.0]
    assert [None if pd.isna(status) else status for status in tables.refetches["status"]] == [200, None, None]
    assert tables.refetches["bytes"].tolist() == [1500, 0, 0]
    assert metric(tables, "requests") == 3
    assert metric(tables, "timeouts") == 2


def test_an_answer_at_the_instant_of_the_time_out_is_too_late() -> None:
    assert play([1.0], api__timeout=0.018).refetches["outcome"].tolist() == ["failed"]
    assert play([1.0], api__timeout=0.018001).refetches["outcome"].tolist() == ["applied"]


def test_retries_at_once_are_more_work_and_one_refetch() -> None:
    tables = three(api__timeout=1.5, api__retries=1)
    assert len(tables.refetches) == 3
    assert metric(tables, "retries") == 2
    assert metric(tables, "requests") == 5


def test_back_off_doubles() -> None:
    """Refused at once, and again after 100 ms; after 200 ms more nobody is in the way."""
    tables = play(
        [1.0, 1.05],
        api__queue_limit=0,
        api__retries=4,
        api__retry_backoff=0.1,
        api__service={"kind": "constant", "value": 0.3},
        broadcaster__fixed=0.0,
        broadcaster__per_subscriber=0.0,
        **BUSY,
    )
    # 1.05 refused, 1.15 refused, 1.35 served until 1.65.
    assert ms(tables.refetches["finished_at"]) == [1300.0, 1650.0]
    assert metric(tables, "refused") == 2


def test_a_refused_request_whose_pause_outlasts_its_time_out_is_tried_again_once() -> None:
    """Changes are worked on as well. One of two refetches has the worker for 300 ms; the other is refused, and begins anew 0.5 s
    later: its first attempt does not time out in the pause."""
    tables = play(
        [1.0],
        pages__0__subscribers=2,
        api__queue_limit=0,
        api__retries=3,
        api__retry_backoff=0.5,
        api__timeout=0.4,
        api__save=1e-6,
        api__service={"kind": "constant", "value": 0.3},
        broadcast__dispatch="queued",
        **BUSY,
    )
    assert (metric(tables, "retries"), metric(tables, "timeouts")) == (1, 0)
    assert tables.refetches["outcome"].tolist() == ["applied", "applied"]


@pytest.mark.parametrize(("budget", "retries"), [(0.5, 1), (1 / 3, 1), (0.3, 0)])
def test_a_budget_bounds_the_retries_of_all_pages(budget: float, retries: int) -> None:
    tables = three(api__queue_limit=0, api__retries=50, api__retry_budget=budget)
    assert metric(tables, "retries") == retries
    assert tables.refetches["status"].tolist() == [503, 503, 200]


def test_an_aborted_request_is_not_tried_again() -> None:
    """The second would time out at 2.9 s, while it waits, and is aborted at 1.2 s. The third waits for the work of both, times
    out at 3.0 and 4.8 s, and is answered at 6.0 s."""
    tables = three(in_flight="cancel", api__timeout=1.8, api__retries=2)
    assert tables.refetches["outcome"].tolist() == ["superseded", "superseded", "applied"]
    assert metric(tables, "retries") == 2
    assert metric(tables, "requests") == 5


@pytest.mark.parametrize(("retries", "recovers"), [(0, True), (2, False)])
def test_retries_keep_a_collapse_alive_after_its_trigger_is_gone(retries: int, recovers: bool) -> None:
    """Half of the capacity is asked for, ten seconds of outage, then four minutes to recover: rho (1 + k) > 1 never does."""
    tables = play(
        [],
        duration=250,
        drain=0,
        fleet__users=20,
        workload={"kind": "poisson", "rate": 40.0},
        policy={"kind": "immediate"},
        pages__0__subscribers=20,
        api__workers=8,
        api__service={"kind": "exponential", "scale": 0.1},
        api__timeout=1.0,
        api__retries=retries,
        incidents=[{"kind": "outage", "at": 20, "duration": 10}],
    )
    late = tables.refetches[tables.refetches["started_at"] > 190]
    good = (late["outcome"] != "failed").mean()
    assert good > 0.99 if recovers else good < 0.05


def test_what_arrives_when_the_run_is_over_is_not_counted() -> None:
    refusing = api(rate_limit=0)
    assert statuses(ask(refusing, 1000 * S, 1000 * S + 1)) == [429, 429]
    assert refusing.refused == 1
