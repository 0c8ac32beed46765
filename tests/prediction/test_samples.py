"""What one run contributes to a fit, and what a resample of it keeps together."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sim.distributions import Constant
from sim.prediction.samples import BLOCK, BREADTH, MIN_WAITING, RunSample, _blocks, apart, sample_of
from sim.scenario import Api, Network, Scenario
from tests.results.frames import frame, refetch, update

NAN = float("nan")


def sample(events: int = 0, answers: int = 0, **service: Any) -> RunSample:
    """Columns that are multiples of the row's number, so that a row that was torn apart shows."""
    row, answer = np.arange(events), np.arange(answers)
    columns = {"own": answer * 1.0, "board": answer % 2 == 0, "waited": answer % 3 == 0, "alone": answer % 5 == 0} | service
    of_events = {"first": row * 1.0, "spread": row * 2.0}
    return RunSample(None, of_events, columns, np.column_stack([row * 1.0, row * 3.0]), 4, {})  # type: ignore[arg-type]


def test_a_resample_has_as_many_rows_and_tears_none_apart() -> None:
    rng = np.random.default_rng(1)
    whole = sample(50, 100)
    again = whole.resampled(rng)
    assert {name: len(column) for name, column in (again.events | again.service).items()} == {
        **dict.fromkeys(whole.events, 50),
        **dict.fromkeys(whole.service, 100),
    }
    assert again.events["spread"].tolist() == (2 * again.events["first"]).tolist()
    assert again.save[:, 1].tolist() == (3 * again.save[:, 0]).tolist()
    assert again.service["board"].tolist() == (again.service["own"] % 2 == 0).tolist()
    assert len(set(again.events["first"])) < 50, "drawn with replacement"
    sizes = replace(whole, sizes={"page": np.arange(50)}).resampled(rng).sizes["page"]
    assert len(sizes) == 50 > len(set(sizes))
    nothing = sample().resampled(rng)
    assert not len(nothing.events["first"])
    assert nothing.save.shape == (0, 2)


def observed(refetches: list[Any], updates: list[Any], events: list[Any], sampled: bool = False, opened: Any = ()) -> Any:
    """A run with one worker and no way to it, whose window begins at 5 s."""
    columns = ["committed", "before", "first", "last", "ranks", "answered"]
    table = pd.DataFrame(events, columns=columns, dtype=float).assign(first_rank=0, receivers=BREADTH, alone=True)
    answers = pd.DataFrame({"status": [200, 200, 304], "board": [True, False, False], "bytes": [30, 20, 10]})
    tables = SimpleNamespace(refetches=frame("refetches", refetches))
    return SimpleNamespace(
        scenario=Scenario(network=Network(to_api=Constant(0.0)), api=Api(workers=1)),
        events=table,
        answers=answers,
        answered=pd.Series(dtype=float),
        ledger=SimpleNamespace(sampled=sampled, window=SimpleNamespace(start=5.0), tables=tables),
        run=SimpleNamespace(
            updates=frame("updates", updates), pages=pd.DataFrame({"opened_at": opened}), subscriptions=frame("subscriptions", [])
        ),
    )


def test_jobs_of_the_window_are_read_off_the_queue_and_what_has_no_answer_is_none() -> None:
    refetches = [
        refetch(1, 1.0, 1),
        refetch(1, 6.0, 1, took=0.2),
        refetch(2, 6.1, 1, took=0.4),
        refetch(1, 8.0, None, status=None),
    ]
    changes = [update(0, 2.0), update(1, 9.0, committed_at=9.04), update(2, 9.5, committed_at=9.55)]
    found = sample_of(observed(refetches, changes, []))
    assert found.service["own"] == pytest.approx([0.2, 0.3])
    assert found.service["waited"].tolist() == [False, True]
    assert found.service["alone"].tolist() == [True, False]
    assert found.save == pytest.approx(np.array([[0.05, 0.5]])), "the first one came behind what has no answer"
    assert (found.workers, found.own_workers) == (1, False)
    assert {kind: sizes.tolist() for kind, sizes in found.sizes.items()} == {
        "page": [20],
        "dashboard": [30],
        "not_modified": [10],
    }
    part = sample_of(observed(refetches, [update(1, 9.0)], [], sampled=True))
    assert not len(part.service["own"]), "a sample tells nothing of a queue"
    assert part.save.shape == (0, 2)


@pytest.mark.parametrize(("at", "own"), [(6.2, [0.3]), (6.21, [0.2]), (6.5, [0.2]), (6.51, [0.2, 0.3]), (6.0, [0.2, 0.3])])
def test_what_was_worked_on_while_a_first_load_ended_is_left_out(at: float, own: list[float]) -> None:
    refetches = [refetch(1, 6.0, 1, took=0.2), refetch(2, 6.1, 1, took=0.4)]
    found = sample_of(observed(refetches, [], [], opened=[at]))
    assert found.service["own"] == pytest.approx(own)


def test_an_event_found_the_broadcaster_busy_where_it_was_committed_before_the_one_before_was_done() -> None:
    """Committed, end of the event before, first and last receiver, receivers behind the first, answer."""
    rows = [
        (1.0, NAN, 1.1, 1.5, 9, 1.2),
        (2.0, 2.05, 2.2, 2.4, 9, 2.3),
        (3.0, 3.0, 3.1, 3.1, 9, 3.2),
        (4.0, 3.5, 4.1, 4.2, 8, 4.3),
    ]
    found = sample_of(observed([], [], rows)).events
    assert found["gap"] == pytest.approx([NAN, 0.15, NAN, NAN], nan_ok=True)
    assert found["first"] == pytest.approx([0.1, 0.2, 0.1, 0.1])
    assert found["quiet"] == pytest.approx([NAN, -0.05, 0.0, 0.5], nan_ok=True)
    assert found["answered"] == pytest.approx([0.1, 0.1, NAN, NAN], nan_ok=True), "of wide ones, first to last"


@pytest.mark.parametrize(("size", "length"), [(0, 0), (1, 1), (7, 1), (10, 2), (99, 19), (100, 20), (1000, BLOCK)])
def test_answers_are_drawn_in_blocks_of_a_fifth_of_them_at_most(size: int, length: int) -> None:
    rng = np.random.default_rng(2)
    drawn = [_blocks(size, rng) for _ in range(300)]
    for rows in drawn:
        assert len(rows) == size
        for start in range(0, size, max(length, 1)):
            block = rows[start : start + length]
            assert block.tolist() == list(range(block[0], block[0] + len(block)))
    seen = {int(row) for rows in drawn for row in rows}
    assert {0, size - 1} <= seen or not size, "the first and the last as well"
    assert seen <= set(range(size))


def test_changes_had_workers_of_their_own_where_most_that_would_have_waited_did_not() -> None:
    alone = np.arange(MIN_WAITING, dtype=float)
    assert apart(alone, alone + 1.0, alone + 0.1)
    assert not apart(alone[1:], alone[1:] + 1.0, alone[1:] + 0.1), "too few"
    assert not apart(alone, alone + 1.0, alone + 1.1), "they began when it was their turn"
    assert not apart(alone, alone + 0.1, alone + 0.1), "no longer held back than they take"
    assert not apart(alone, np.r_[np.nan, alone[1:] + 1.0], alone + 0.1), "of one nobody knows"
    six, begun = np.arange(6.0), np.arange(6.0) + 1.0
    assert not apart(six, begun, six + np.array([0.1, 0.1, 0.1, 1.1, 1.1, 1.1])), "half of them"
    assert apart(six, begun, six + np.array([0.1, 0.1, 0.1, 0.1, 1.1, 1.1]))
    assert not apart(alone[:0], alone[:0], alone[:0])
