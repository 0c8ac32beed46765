"""Conditions of an answer: which hold, and what was found."""

from __future__ import annotations

import pytest

from sim.results.answers import conditions
from sim.results.statistics import Estimate


@pytest.mark.parametrize(
    ("one", "other", "left", "source", "held"),
    [
        (500, 500, 0, {}, (True, "500 and 500")),
        (500, 499, 0, {}, (False, "500 and 499")),
        (487.0, 500, 0, {"source": "sample"}, (True, "487 and 500, scaled from a sample")),
        (500, 495, 1, {}, (True, "500 and 495, pages come and go")),
        (500, 494, 1, {}, (False, "500 and 494, pages come and go")),
    ],
)
def test_both_worlds_owe_the_same_pairs(one: float, other: int, left: int, source: dict, held: tuple[bool, str]) -> None:
    a, b = ({"pairs.owed": {"value": n, **more}, "pairs.left": {"value": left}} for n, more in ((one, source), (other, {})))
    assert conditions.same(a, b, "pairs.owed") == held


def test_conditions_that_break_are_named() -> None:
    table = conditions.conditions(it_is_valid=(True, "valid"), there_are_enough=(False, "3 of 100"))
    assert not conditions.hold(table)
    assert conditions.broken(table) == "there are enough: 3 of 100"
    assert conditions.hold(table.head(1))
    wide, narrow = Estimate(2.0, 1.0, 3.0, 9), Estimate(2.0, 1.9, 2.1, 9)
    assert conditions.below(narrow, Estimate(4.0, 3.5, 4.5, 9))
    assert not conditions.below(narrow, wide)
    assert not conditions.below(Estimate(1.0), wide)
