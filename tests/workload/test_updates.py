"""The columns, the walk, and the streams."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.workload import ASPECTS, NEXT, RESOURCES, SITE_STATUS, STATUSES, Update, Updates, encode, streams, walk
from tests.workload.kinds import illegal_moves

rows = st.builds(
    Update,
    st.integers(0, 10**13),
    st.sampled_from(["server", "site"]),
    st.integers(1, 10**9),
    st.integers(0, 300),
    st.sampled_from(STATUSES),
)


@given(st.lists(rows))
def test_rows_come_back_sorted_by_time_and_otherwise_in_their_order(given_rows: list[Update]) -> None:
    at, resource, number, step, status, aspect = zip(*given_rows, strict=True) if given_rows else ((),) * 6
    made = Updates.of(
        at,
        [RESOURCES.index(name) for name in resource],
        number,
        [encode(*both) for both in zip(step, status, strict=True)],
        [ASPECTS.index(name) for name in aspect],
    )
    assert list(made) == sorted(given_rows, key=lambda row: row.at_ns)


def test_columns_have_the_types_that_engines_count_on() -> None:
    updates = Updates.of([2, 1], 0, [7, 8], [encode(3, "failed"), encode(1, "pending")])
    assert [c.dtype for c in (updates.at, updates.resource, updates.resource_id, updates.change)] == ["i8", "i1", "i8", "i4"]
    assert updates.at.tolist() == [1, 2]
    assert updates.step.tolist() == [1, 3]
    assert [STATUSES[s] for s in updates.status] == ["pending", "failed"]


def test_a_part_by_slice_or_mask_keeps_its_rows_together() -> None:
    updates = Updates.of([1, 2, 3], 0, [1, 2, 3], 0)
    assert updates[1:].resource_id.tolist() == [2, 3]
    assert updates[updates.at == 2].resource_id.tolist() == [2]


def test_merging_keeps_the_earlier_part_first_at_equal_instants() -> None:
    first, second = Updates.of([1, 5], 0, 1, 0), Updates.of([1, 3], 0, 2, 0)
    assert Updates.merge([first, second]).resource_id.tolist() == [1, 2, 2, 1]
    assert len(Updates.merge([])) == 0


@given(st.lists(st.tuples(st.integers(0, 50), st.booleans(), st.integers(1, 3)), max_size=200))
def test_a_walk_changes_something_every_time(hits: list[tuple[int, bool, int]]) -> None:
    at, site, who = (np.array([hit[i] for hit in hits], dtype=np.int64) for i in range(3))
    updates = walk(at, site, who)
    assert not illegal_moves(updates)
    assert len(updates) == len(hits)


def test_a_walk_goes_through_the_steps_in_turn() -> None:
    updates = list(walk(np.arange(7), np.zeros(1), np.ones(1)))
    assert [(u.step, u.status) for u in updates] == [
        (1, "pending"),
        (1, "installing"),
        (1, "completed"),
        (2, "pending"),
        (2, "installing"),
        (2, "completed"),
        (3, "pending"),
    ]


def test_every_status_a_site_can_get_has_a_name_in_the_application() -> None:
    at = np.arange(9)
    assert {u.status for u in walk(at, np.ones(1), np.ones(1))} <= set(SITE_STATUS)


def test_every_status_can_be_reached_and_left() -> None:
    assert set(NEXT) == {None, *STATUSES}
    assert set().union(*NEXT.values()) == set(STATUSES)
    assert all(NEXT.values())


def test_streams_repeat_by_seed_and_differ_by_purpose() -> None:
    draw = streams(7)["workload"].random(4).tolist()
    assert streams(7)["workload"].random(4).tolist() == draw
    assert streams(8)["workload"].random(4).tolist() != draw
    assert streams(7)["service"].random(4).tolist() != draw


def test_a_stream_goes_on_where_it_stopped_and_leaves_the_others_alone() -> None:
    ours, alone = streams(7), streams(7)
    ours["workload"].random(100)
    assert ours["service"].random() == alone["service"].random()
    assert ours["workload"].random() == alone["workload"].random(101)[100]


def test_the_numbers_of_a_purpose_are_the_same_in_every_version() -> None:
    # A change here changes every stored run: it must be meant.
    assert streams(1)["workload"].integers(0, 1000, 5).tolist() == [694, 351, 549, 814, 240]


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(ValueError, match="seed must be >= 0"):
        streams(-1)
