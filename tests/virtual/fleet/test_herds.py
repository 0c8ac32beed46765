"""Instants in order, with the members that they belong to."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.virtual.fleet.herds import in_order


@settings(deadline=None)
@given(st.lists(st.integers(-(10**9), 10**9), max_size=200))
def test_in_order_is_a_stable_sort(values):
    instants = np.array(values, np.int64)
    at, places = in_order(instants)
    expected = np.argsort(instants, kind="stable")
    np.testing.assert_array_equal(places, expected)
    np.testing.assert_array_equal(at, instants[expected])


def test_instants_too_far_apart_to_be_packed_are_sorted_all_the_same():
    instants = np.array([1 << 61, 5, 5, 0])
    at, places = in_order(instants)
    assert at.tolist() == [0, 5, 5, 1 << 61]
    assert places.tolist() == [3, 1, 2, 0]
