"""Workers, queue, service time and what refuses before them, in virtual time."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.brokeforge.application import Visit
from sim.brokeforge.handlers.routes import Router
from sim.brokeforge.http import Request, Response
from sim.clock import SECOND, EventList, ns
from sim.distributions import Constant
from sim.live.application.station import Done, Station
from sim.scenario import Api

ROUTER = Router()


@dataclass
class FakeApplication:
    """Answers at once with the instant at which it was asked; a change takes `save` seconds of virtual time."""

    clock: EventList
    api: Api
    save: float = 0.0
    factor: float = 1.0
    rows: int = 0
    status: int = 200
    asked: list[tuple[str, float]] = field(default_factory=list)

    def blocks(self, visit: Visit) -> bool:
        return visit.changes

    def answer(self, visit: Visit) -> Response:
        self.asked.append((visit.request.path, self.clock.now() / SECOND))
        return Response(self.status, b"%d" % self.clock.now(), (), self.rows)

    def leave(self, visit: Visit, response: Response) -> Response:
        return response


class Rig:
    """A station in virtual time; each request's answer is noted as (name, seconds, status)."""

    def __init__(self, services: Iterator[int] | list[float], save: float = 0.0, **api: Any) -> None:
        self.clock = EventList()
        self.app = FakeApplication(self.clock, Api(save=Constant(save), **api), save)
        draw = iter(ns(s) for s in services) if isinstance(services, list) else services
        self.station = Station(self.app, self.clock, self._in_thread, draw.__next__)  # type: ignore[arg-type]
        self.answers: list[tuple[str, float, int]] = []
        self.bodies: dict[str, bytes] = {}

    def _in_thread(self, work: Callable[[], Response], done: Done) -> None:
        self.clock.call_at(self.clock.now() + ns(self.app.save), lambda: done(work()))

    def ask(self, at: float, name: str = "", method: str = "GET", path: str = "/servers/1", user: str = "u") -> None:
        self.clock.call_at(ns(at), self._submit, name, method, path, user)

    def at(self, seconds: float, action: Callable[[], None]) -> None:
        self.clock.call_at(ns(seconds), action)

    def _submit(self, name: str, method: str, path: str, user: str) -> None:
        route, arguments = ROUTER.find(method, path)
        visit = Visit(Request(method, path, headers={"authorization": user}), self.clock.now(), route, arguments)

        def done(response: Response) -> None:
            self.answers.append((name, self.clock.now() / SECOND, response.status))
            self.bodies[name] = response.body

        self.station.submit(visit, done)

    def run(self) -> list[tuple[str, float, int]]:
        self.clock.run()
        return self.answers


def test_a_worker_serves_one_after_the_other() -> None:
    rig = Rig([1.0, 2.0, 0.5])
    for name, at in (("a", 0.0), ("b", 0.5), ("c", 4.0)):
        rig.ask(at, name)
    assert rig.run() == [("a", 1.0, 200), ("b", 3.0, 200), ("c", 4.5, 200)]
    assert [at for _, at in rig.app.asked] == [0.0, 1.0, 4.0], "the state is read when the worker begins"


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2_000), st.integers(0, 3_000)), min_size=1, max_size=40),
    st.integers(1, 4),
)
def test_answers_leave_when_a_queue_with_so_many_workers_says(requests: list[tuple[int, int]], workers: int) -> None:
    """J. Kiefer, J. Wolfowitz 1955: a request begins when the first worker is free, in order of arrival."""
    requests = sorted(requests, key=lambda r: r[0])
    rig = Rig(iter([service * 1_000_000 for _, service in requests]), workers=workers)
    free = [0] * workers
    expected = []
    for number, (at, service) in enumerate(requests):
        rig.ask(at / 1000, str(number))
        end = max(at, free[0]) + service
        heapq.heapreplace(free, end)
        expected.append((str(number), end))
    assert sorted((name, round(at * 1000)) for name, at, _ in rig.run()) == sorted(expected)


def test_a_full_queue_refuses_at_once() -> None:
    rig = Rig([1.0] * 9, workers=2, queue_limit=1)
    for number in range(5):
        rig.ask(0.0, str(number))
    rig.ask(1.5, "later")
    assert rig.run() == [
        ("3", 0.0, 503),
        ("4", 0.0, 503),
        ("0", 1.0, 200),
        ("1", 1.0, 200),
        ("2", 2.0, 200),
        ("later", 2.5, 200),
    ]


def test_a_limit_of_none_waiting_still_serves_who_finds_a_worker() -> None:
    rig = Rig([1.0] * 3, queue_limit=0)
    for at, name in ((0.0, "a"), (0.5, "b"), (1.5, "c")):
        rig.ask(at, name)
    assert rig.run() == [("b", 0.5, 503), ("a", 1.0, 200), ("c", 2.5, 200)]


def test_a_change_holds_a_worker_until_its_answer_and_refetches_wait() -> None:
    rig = Rig([1.0], save=2.0)
    rig.ask(0.0, "change", "PUT", "/servers/1/provision/x")
    rig.ask(0.1, "page")
    assert rig.run() == [("change", 2.0, 200), ("page", 3.0, 200)]


def test_changes_made_elsewhere_hold_no_worker() -> None:
    rig = Rig([1.0], save=2.0, save_workers="own")
    rig.ask(0.0, "change", "PUT", "/servers/1/provision/x")
    rig.ask(0.1, "page")
    assert rig.run() == [("page", 1.1, 200), ("change", 2.0, 200)]


def test_health_needs_no_worker() -> None:
    rig = Rig([5.0])
    rig.ask(0.0, "page")
    rig.ask(1.0, "up", path="/up")
    assert rig.run() == [("up", 1.0, 200), ("page", 5.0, 200)]


def test_a_dashboard_takes_longer_for_each_server() -> None:
    rig = Rig([1.0], service_per_row=0.25)
    rig.app.rows = 4
    rig.ask(0.0, "a", path="/dashboard")
    assert rig.run() == [("a", 2.0, 200)]


def test_an_answer_is_shared_while_it_is_made_and_kept_afterwards() -> None:
    rig = Rig([1.0] * 9, cache=0.5)
    for at, name, user in ((0.0, "a", "u"), (0.5, "b", "u"), (0.6, "other", "v"), (1.5, "c", "u"), (1.6, "d", "u")):
        rig.ask(at, name, user=user)
    assert rig.run() == [("b", 1.0, 200), ("a", 1.0, 200), ("c", 1.5, 200), ("other", 2.0, 200), ("d", 3.0, 200)]
    assert rig.bodies["a"] == rig.bodies["b"] == rig.bodies["c"] != rig.bodies["d"]


def test_a_failure_is_not_kept() -> None:
    rig = Rig([1.0] * 9, cache=10.0)
    rig.app.status = 500
    rig.ask(0.0, "a")
    rig.ask(2.0, "b")
    assert rig.run() == [("a", 1.0, 500), ("b", 3.0, 500)]


def test_in_an_outage_nothing_begins_and_what_waits_is_served_afterwards() -> None:
    rig = Rig([1.0] * 9, queue_limit=2)
    rig.ask(0.0, "before")
    rig.at(0.5, rig.station.stop_beginning)
    for number in range(3):
        rig.ask(2.0, str(number))
    rig.at(10.0, rig.station.begin_again)
    assert rig.run() == [("before", 1.0, 200), ("2", 2.0, 503), ("0", 11.0, 200), ("1", 12.0, 200)]


def test_what_begins_in_a_slowdown_takes_longer() -> None:
    rig = Rig([1.0] * 3)
    for at, factor in ((0.5, 3.0), (3.0, 1.0)):
        rig.at(at, lambda factor=factor: setattr(rig.app, "factor", factor))  # type: ignore[misc]
    for number in range(3):
        rig.ask(0.0, str(number))
    assert rig.run() == [("0", 1.0, 200), ("1", 4.0, 200), ("2", 5.0, 200)]


def test_thousands_that_take_no_time_are_served_without_recursion() -> None:
    rig = Rig([0.0] * 5_000)
    rig.station.stop_beginning()
    for _ in range(5_000):
        rig.ask(0.0)
    rig.at(1.0, rig.station.begin_again)
    assert {(at, status) for _, at, status in rig.run()} == {(1.0, 200)}


@pytest.mark.parametrize("workers", [1, 3])
def test_what_is_busy_and_what_waits_is_known(workers: int) -> None:
    rig = Rig([1.0] * 9, workers=workers)
    for _ in range(5):
        rig.ask(0.0)
    seen: list[tuple[int, int]] = []
    for at in (0.5, 10.0):
        rig.at(at, lambda: seen.append((rig.station.busy, rig.station.waiting)))
    rig.run()
    assert seen == [(workers, 5 - workers), (0, 0)]
