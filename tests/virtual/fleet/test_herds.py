"""Instants in order, with the members that they belong to, and what was read by an instant."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.virtual.fleet import compiled
from sim.virtual.fleet.herds import Reading, in_order


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


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=30),
    st.lists(st.integers(0, 9), max_size=4),
    st.randoms(use_true_random=False),
)
def test_each_page_has_read_what_was_committed_by_its_instant(begun, commits, random):
    """In the order of members, and in that of another herd."""
    read, committed = np.array(begun), np.sort(np.array(commits, np.int64))
    order = np.array(random.sample(range(read.size), read.size), np.int32)
    expected = np.searchsorted(committed, read, side="right")
    for available in {compiled.INSTALLED, False}:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(compiled, "ENABLED", available)
            np.testing.assert_array_equal(Reading.of_members(read).reached(committed, None), expected)
            np.testing.assert_array_equal(Reading.of_members(read).reached(committed, order), expected[order])
