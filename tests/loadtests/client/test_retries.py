"""A request and its attempts, in virtual time; the pages' own are in `test_page.py`."""

from __future__ import annotations

from typing import Any

import pytest

from loadtests.client.http import Answer
from loadtests.client.retries import RetriedGet, Retries
from sim.clock import EventList, ns


class Exchange:
    def __init__(self, connected: bool) -> None:
        self.connection: object | None = object() if connected else None
        self.started_at = 7
        self.aborted = False

    def abort(self) -> None:
        self.aborted = True


class Pool:
    """Answers each attempt a second after it was sent with the next of *statuses*."""

    def __init__(self, clock: EventList, *statuses: int, connected: bool = True) -> None:
        self.clock, self.statuses, self.connected = clock, list(statuses), connected
        self.sent: list[tuple[Any, ...]] = []
        self.at: list[int] = []
        self.exchanges: list[Exchange] = []

    def send(self, method: str, path: str, done: Any, headers: bytes, body: bytes, timeout: float) -> Exchange:
        self.sent.append((method, path, headers, body, timeout))
        self.at.append(self.clock.now())
        self.exchanges.append(Exchange(self.connected))
        answer = Answer()
        answer.status, answer.started_at = self.statuses.pop(0), self.clock.now()
        self.clock.call_at(self.clock.now() + ns(1), lambda: self.exchanges[-1].aborted or done(answer))
        return self.exchanges[-1]


def get(clock: EventList, pool: Pool, retries: Retries, failed: Any = None) -> tuple[RetriedGet, list[Answer]]:
    answers: list[Answer] = []
    return RetriedGet(retries, pool, "/x", answers.append, b"H: 1\r\n", 5.0, failed), answers  # type: ignore[arg-type]


def test_pauses_double_and_the_last_answer_counts_from_the_first_attempt() -> None:
    clock = EventList()
    pool, retries, failed = Pool(clock, 503, 429, 0, 200), Retries(clock, 3, ns(2)), []
    request, answers = get(clock, pool, retries, lambda answer: failed.append(answer.status))
    clock.run(ns(60))
    assert pool.at == [ns(at) for at in (0, 3, 8, 17)], "a second each, then 2, 4 and 8 s"
    assert set(pool.sent) == {("GET", "/x", b"H: 1\r\n", b"", 5.0)}
    assert [(answer.status, answer.started_at) for answer in answers] == [(200, 0)]
    assert (failed, request.attempts, retries.first_attempts, retries.again) == ([503, 429, 0], 4, 1, 3)


@pytest.mark.parametrize(("statuses", "most", "attempts"), [((503, 503), 1, 2), ((503,), 0, 1), ((500,), 3, 1), ((404,), 3, 1)])
def test_what_is_not_tried_again_is_the_answer(statuses: tuple[int, ...], most: int, attempts: int) -> None:
    clock = EventList()
    pool = Pool(clock, *statuses)
    request, answers = get(clock, pool, Retries(clock, most))
    clock.run(ns(60))
    assert pool.at == [ns(second) for second in range(attempts)], "at once, where no pause is given"
    assert (request.attempts, [answer.status for answer in answers]) == (attempts, [statuses[-1]])


def test_all_pages_together_make_no_more_retries_than_the_budget_allows() -> None:
    retries = Retries(EventList(), most=9, budget=0.5, first_attempts=4)
    assert [retries.allow(1) for retries.again in range(4)] == [True, True, False, False]
    assert not Retries(EventList(), most=9, budget=0.5, first_attempts=1).allow(1)
    assert Retries(EventList(), most=1, budget=None).allow(1)
    assert not Retries(EventList(), most=1, budget=None).allow(2)


def test_an_aborted_request_is_neither_answered_nor_tried_again() -> None:
    clock = EventList()
    waiting, retries = Pool(clock, 503, 200), Retries(clock, 3, ns(2))
    request, answers = get(clock, waiting, retries)
    clock.run(ns(2))  # in its pause
    request.abort()
    clock.run(ns(60))
    assert (len(waiting.sent), answers, request.started_at) == (1, [], 0)
    for connected, started in ((True, 7), (False, -1)):
        running = Pool(clock, 200, connected=connected)
        request, answers = get(clock, running, retries)
        request.abort()
        clock.run(clock.now() + ns(60))
        assert (running.exchanges[0].aborted, answers, request.started_at) == (True, [], started)
