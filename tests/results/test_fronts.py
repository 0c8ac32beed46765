from __future__ import annotations

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from sim.results.fronts import cheapest_within, dominated, front, knee

points = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=40)


@given(points)
def test_a_setting_is_dominated_when_another_is_no_worse_in_both_and_better_in_one(some: list[tuple[int, int]]) -> None:
    load, stale = np.array(some, float).T
    expected = [any((x <= a and y <= b) and (x < a or y < b) for x, y in some) for a, b in some]
    assert dominated(load, stale).tolist() == expected


def test_what_never_refreshes_is_dominated() -> None:
    assert dominated(np.array([0.0, 1.0]), np.array([np.inf, 2.0])).tolist() == [True, False]
    assert dominated(np.array([0.0, 1.0]), np.array([np.nan, 2.0])).tolist() == [True, False]


def test_the_knee_is_where_the_curve_bends() -> None:
    x = np.arange(1.0, 11.0)
    assert knee(x, np.r_[np.full(7, 1.0), 2.0, 8.0, 30.0]) == 6
    assert knee(x[:2], x[:2]) is None
    assert knee(x, np.full(10, 2.0)) is None
    assert knee(x, x) is None


def test_an_objective_chooses_from_the_front() -> None:
    frame = front(pd.DataFrame({"load": [1.0, 2.0, 3.0], "late": [9.0, 4.0, 1.0]}), "load", "late")
    assert cheapest_within(frame, "load", "late", 5.0)["load"] == 2.0
    assert cheapest_within(frame, "load", "late", 0.5) is None
