"""Conditions of an answer: which hold, and what was found."""

from __future__ import annotations

from sim.results.answers import conditions
from sim.results.statistics import Estimate


def test_conditions_that_break_are_named() -> None:
    table = conditions.conditions(it_is_valid=(True, "valid"), there_are_enough=(False, "3 of 100"))
    assert not conditions.hold(table)
    assert conditions.broken(table) == "there are enough: 3 of 100"
    assert conditions.hold(table.head(1))
    counts = [{"pairs.owed": {"value": value} | more} for value, more in ((487.0, {"source": "sample"}), (500, {}), (499, {}))]
    assert not conditions.same(counts[1], counts[2], "pairs.owed")[0]
    assert conditions.same(counts[0], counts[1], "pairs.owed") == (True, "487 and 500, scaled from a sample")
    wide, narrow = Estimate(2.0, 1.0, 3.0, 9), Estimate(2.0, 1.9, 2.1, 9)
    assert conditions.below(narrow, Estimate(4.0, 3.5, 4.5, 9))
    assert not conditions.below(narrow, wide)
    assert not conditions.below(Estimate(1.0), wide)
