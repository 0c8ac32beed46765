"""What may follow what."""

from __future__ import annotations

from itertools import pairwise

import pytest

from sim.brokeforge.domain.statuses import TRANSITIONS, IllegalMove, move
from sim.workload import NEXT, STATUSES


@pytest.mark.parametrize("field", TRANSITIONS)
def test_every_status_that_can_be_reached_can_be_left_or_is_an_end(field: str) -> None:
    table = TRANSITIONS[field]
    for present, following in table.items():
        assert following <= table.keys(), f"{field}: {present} leads to a status without a row"
    for present, following in table.items():
        for wanted in table:
            if wanted == present or wanted in following:
                assert move(field, present, wanted) == wanted
            else:
                with pytest.raises(IllegalMove, match=f"cannot go from '{present}' to '{wanted}'"):
                    move(field, present, wanted)


def test_whatever_a_workload_does_to_a_step_is_legal() -> None:
    for status in STATUSES:
        assert NEXT[status] <= TRANSITIONS["provision"][status]
        # And only one that was interrupted may be taken back.
        assert TRANSITIONS["provision"][status] - NEXT[status] == ({"pending"} if status == "installing" else set())


def test_a_rule_lives_as_the_pattern_says() -> None:
    for path in (("pending", "installing", "active", "deleting"), ("pending", "installing", "failed", "deleting")):
        for present, wanted in pairwise(path):
            assert move("rule status", present, wanted) == wanted
    with pytest.raises(IllegalMove):
        move("rule status", "pending", "active")


def test_an_unknown_status_is_told_with_the_known_ones() -> None:
    with pytest.raises(IllegalMove, match=r"must be one of 'completed', 'failed', 'installing', 'pending', got 'done'"):
        move("provision", "pending", "done")
