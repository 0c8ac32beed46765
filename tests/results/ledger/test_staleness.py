"""Ages integrated exactly, against a sum over many small steps of time."""

from __future__ import annotations

import numpy as np
import pytest

from sim.results.ledger.book import Ledger
from sim.results.ledger.staleness import at_end, mean_age, regressions, saw_tooth
from sim.scenario import Pages, Scenario
from tests.results.frames import NAN, Frames, frame, refetch, update

SCENARIO = Scenario(duration=10.0, drain=0.0, pages=(Pages(subscribers=1),))


def ledger(commits: list[float], answers: list[tuple[float, int | None]], closed: float = NAN) -> Ledger:
    """One page of server 1; *answers*: instant, version. Update i is version i + 1."""
    run = Frames(
        frame("updates", [update(i, at, committed_at=at) for i, at in enumerate(commits)]),
        refetches=frame("refetches", [refetch(1, at, version, took=0.0) for at, version in answers]),
        pages=frame("pages", [{"subscriber": 1, "closed_at": closed}]),
    )
    return Ledger(run, SCENARIO)


def page(found: Ledger, start: float = 0.0, end: float = 10.0) -> dict[str, float]:
    (row,) = found.staleness(start, end).to_dict("records")
    return row


def test_a_page_is_stale_from_the_commit_until_the_answer() -> None:
    found = page(ledger([1.0, 5.0], [(3.0, 1), (6.0, 2)]))
    assert found["stale"] == pytest.approx(3.0)
    assert found["behind"] / found["observed"] == pytest.approx((2.0 + 0.5) / 10)
    # Shown: the first from 3 to 6 (ages 2 to 5), the second from 6 to 10 (ages 1 to 5).
    assert found["age"] / found["shown"] == pytest.approx((3 * 3.5 + 4 * 3.0) / 7)
    assert (found["peaks"], found["peak"]) == (1, pytest.approx(5.0))
    assert page(ledger([1.0, 5.0], [(3.0, 1), (6.0, 2)]), 7.0)["peaks"] == 0, "it was before the window"


def test_an_older_answer_that_comes_late_makes_it_stale_again() -> None:
    found = page(ledger([1.0, 2.0], [(3.0, 2), (4.0, 1), (6.0, 2)]))
    assert found["stale"] == pytest.approx(2.0 + 2.0)


def test_an_update_never_shown_is_stale_to_the_end() -> None:
    found = ledger([4.0], [])
    assert page(found)["stale"] == pytest.approx(6.0)
    assert page(found)["shown"] == 0
    assert [column.tolist() for column in at_end(found.states, found.tables.pages, 10.0)] == [[True], [True], [False]]


def test_an_answer_at_the_very_end_comes_too_late_and_a_page_that_opens_then_is_not_open() -> None:
    run = ledger([4.0], [(10.0, 1)]).tables
    pages = frame("pages", [{"subscriber": 1}, {"subscriber": 2, "opened_at": 10.0}, {"subscriber": 3, "opened_at": 9.0}])
    found = Ledger(Frames(run.updates, refetches=run.refetches, pages=pages), SCENARIO)
    still, stale, _ = at_end(found.states, pages, 10.0)
    assert (still.tolist(), stale.tolist()) == ([True, False, True], [True, False, False])


def test_an_older_answer_over_a_newer_one_is_a_regression_page_by_page() -> None:
    answers = [(1, 3.0, 2), (1, 4.0, 1), (1, 5.0, None), (2, 3.0, 2), (2, 4.0, 2), (3, 3.0, 2), (3, 4.0, 1), (4, 4.0, 1)]
    run = Frames(
        frame("updates", [update(0, 1.0), update(1, 2.0)]),
        refetches=frame("refetches", [refetch(page, at, version, took=0.0) for page, at, version in answers]),
        pages=frame("pages", [{"subscriber": page, "loaded_version": 2 if page == 4 else None} for page in (1, 2, 3, 4)]),
    )
    assert regressions(Ledger(run, SCENARIO).views).tolist() == [0, 2, 3]


def test_of_an_answer_read_before_its_update_is_known_the_newest_before_it_that_it_contains_counts() -> None:
    """Three updates, committed out of order; the answer of version 2 is there before the commit of version 2."""
    run = Frames(
        frame("updates", [update(i, at, v, committed_at=at) for i, (at, v) in enumerate(((1.0, 1), (2.0, 3), (5.0, 2)))]),
        refetches=frame("refetches", [refetch(1, 3.0, 2, took=0.0)]),
        pages=frame("pages", [{"subscriber": 1}]),
    )
    teeth = saw_tooth(Ledger(run, SCENARIO).states, 0, 0.0, 10.0).drop_duplicates()
    assert teeth.to_numpy().tolist() == [[3.0, 2.0], [5.0, 4.0], [5.0, 0.0], [10.0, 5.0]]


def test_a_dashboard_of_payloads_is_as_old_as_the_oldest_that_it_lacks() -> None:
    """Two servers of its user; one payload arrives, the other never. The second dashboard left before the window."""
    board = {"resource": "dashboard", "page": "dashboard", "resource_id": 0, "policy": "full_payload"}
    run = Frames(
        frame("updates", [update(i, at, 1, resource_id=i + 1, committed_at=at) for i, at in enumerate((1.0, 2.0))]),
        frame("notifications", [{"update": 0, "subscriber": 1, "received_at": 3.0, "read_at": 3.0}]),
        pages=frame("pages", [{"subscriber": 1} | board, {"subscriber": 2, "closed_at": 4.5} | board]),
    )
    (found,) = Ledger(run, SCENARIO.replace({"fleet.servers_per_user": 2})).staleness(5.0, 10.0).to_dict("records")
    assert (found["subscriber"], found["observed"], found["stale"]) == (1, 5.0, 5.0)
    assert found["behind"] == pytest.approx(5 * 5.5), "the second server's change is missing since 2 s"
    assert (found["shown"], found["age"]) == (5.0, pytest.approx(5 * 6.5))


def test_only_the_window_and_the_time_that_a_page_was_open_count() -> None:
    found = page(ledger([1.0], [(9.0, 1)], closed=6.0), 2.0)
    assert (found["observed"], found["stale"]) == (pytest.approx(4.0), pytest.approx(4.0))


def test_a_page_that_owes_nothing_is_observed_all_the_same() -> None:
    assert page(ledger([], []))["observed"] == pytest.approx(10.0)


def test_after_an_answer_without_a_version_nobody_knows() -> None:
    found = page(ledger([1.0], [(3.0, None), (7.0, 1)]))
    assert (found["stale"], found["unknown"]) == (pytest.approx(2.0), pytest.approx(4.0))


@pytest.mark.parametrize("seed", range(4))
def test_integrals_equal_sums_over_small_steps(seed: int) -> None:
    rng = np.random.default_rng(seed)
    committed = np.sort(rng.uniform(0, 10, 12))
    answers = np.sort(rng.uniform(0, 10, 5))
    versions = [int((committed <= at).sum()) for at in answers]
    found = page(ledger(committed.tolist(), list(zip(answers.tolist(), versions, strict=True))), 1.0, 9.0)
    steps = np.arange(1.0, 9.0, 0.001) + 0.0005
    behind, age = [], []
    for t in steps:
        shown = max((v for at, v in zip(answers, versions, strict=True) if at <= t), default=0)
        pending = committed[shown : int((committed <= t).sum())]
        behind.append(t - pending.min() if len(pending) else 0.0)
        age.append(t - committed[shown - 1] if shown else np.nan)
    assert found["stale"] == pytest.approx(np.mean(np.array(behind) > 0) * 8, abs=0.02)
    assert found["behind"] / found["observed"] == pytest.approx(np.mean(behind), abs=0.02)
    assert found["age"] / found["shown"] == pytest.approx(np.nanmean(age), abs=0.02)


def test_a_saw_tooth_rises_one_second_per_second_and_falls_when_something_is_shown() -> None:
    teeth = saw_tooth(ledger([1.0, 5.0], [(3.0, 1), (6.0, 2)]).states, 0, 0.0, 10.0)
    corners = teeth.drop_duplicates()
    assert corners["at"].tolist() == [3.0, 5.0, 6.0, 6.0, 10.0]
    assert corners["age"].tolist() == [2.0, 4.0, 5.0, 1.0, 5.0]
    assert mean_age(teeth) == pytest.approx((10.5 + 12) / 7)
    assert np.isnan(mean_age(teeth[:0]))
