"""Searches in many sorted lists at once, against one list at a time."""

from __future__ import annotations

from bisect import bisect_left, bisect_right

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sim.results.ledger.order import SortedGroups, place_of, ranges

SMALL, LARGE = st.integers(-3, 9), st.integers(10**17, 10**17 + 5)
MEMBERS = st.lists(st.tuples(st.integers(0, 4), SMALL | LARGE), max_size=30)


@given(MEMBERS, st.lists(st.tuples(st.integers(0, 5), SMALL | LARGE), min_size=1, max_size=10))
def test_places_are_those_of_each_list_alone(members: list[tuple[int, int]], asked: list[tuple[int, int]]) -> None:
    groups, values = (np.array(column, np.int64) for column in (zip(*members, strict=True) if members else ((), ())))
    order = SortedGroups(groups, values)
    assert [members[i] for i in order.order] == sorted(members)
    lists = [sorted(value for group, value in members if group == g) for g in range(6)]
    starts = np.r_[0, np.cumsum([len(one) for one in lists])]
    group, value = (np.array(column, np.int64) for column in zip(*asked, strict=True))
    assert order.start(group).tolist() == [starts[g] for g, _ in asked]
    assert order.before(group, value).tolist() == [starts[g] + bisect_left(lists[g], v) for g, v in asked]
    assert order.through(group, value).tolist() == [starts[g] + bisect_right(lists[g], v) for g, v in asked]


def test_ranges_join_each_range_with_what_it_holds() -> None:
    i, k = ranges(np.array([3, 5, 9]), np.array([5, 5, 10]))
    assert list(zip(i, k, strict=True)) == [(0, 3), (0, 4), (2, 9)]


def test_what_is_not_there_has_no_place() -> None:
    assert place_of(np.array([2, 5]), np.array([5, 3, 2, 9])).tolist() == [1, -1, 0, -1]
    assert place_of(np.array([], np.int64), np.array([1])).tolist() == [-1]
