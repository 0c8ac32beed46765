"""Ids of any kind, and the numbers that stand for them in tables."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.target.keys import Key, Keys, key_of, renamed

UUID = "0193ab4e-7b1c-7000-8000-000000000001"


@pytest.mark.parametrize(
    ("value", "key"),
    [
        (5, 5),
        ("5", 5),
        ("7303141234567", 7303141234567),
        (2**53, str(2**53)),
        (2**70, str(2**70)),
        (str(2**70), str(2**70)),
        (UUID, UUID),
        ("007", "007"),
        (-1, "-1"),
        ("٣", "٣"),
        (10**400, str(10**400)),
    ],
)
def test_an_id_is_a_number_that_every_table_holds_or_a_text(value: Any, key: Key) -> None:
    assert key_of(value) == key


@pytest.mark.parametrize("value", [None, True, 1.5, "", [1], {}])
def test_what_is_no_id(value: Any) -> None:
    with pytest.raises(ValueError, match="id must be"):
        key_of(value)


def test_texts_get_the_numbers_that_are_free() -> None:
    keys = Keys([1, "a", 3, "b", "a"])
    assert [keys.number(key) for key in (1, "a", 3, "b")] == [1, 2, 3, 4]
    assert keys.to_dict() == {"2": "a", "4": "b"}
    assert keys.count == 4
    assert [keys.key(number) for number in (1, 2, 9)] == [1, "a", 9]


@given(st.lists(st.one_of(st.integers(0, 30), st.text(max_size=2))))
def test_numbers_are_distinct_and_lead_back(given_keys: list[Key]) -> None:
    keys = Keys(given_keys)
    distinct = set(given_keys)
    numbers = {keys.number(key) for key in distinct}
    assert len(numbers) == len(distinct)
    assert all(keys.key(keys.number(key)) == key for key in distinct)


def test_channels_in_tables_have_numbers() -> None:
    keys = {"servers": Keys([UUID, 7]), "users": Keys(["ada"])}
    assert renamed(f"private-servers.{UUID}", keys) == "private-servers.1"
    assert renamed(f"private-servers.{UUID}.provision", keys) == "private-servers.1.provision"
    assert renamed("private-users.ada.servers", keys) == "private-users.1.servers"
    for same in ("private-servers", "private-servers.7", f"private-orders.{UUID}", "servers"):
        assert renamed(same, keys) == same
