"""What one run contributes to a fit, and what a resample of it keeps together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sim.prediction.samples import BLOCK, MIN_WAITING, RunSample, _blocks, apart


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
    nothing = sample().resampled(rng)
    assert not len(nothing.events["first"])
    assert nothing.save.shape == (0, 2)


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
