"""What a user sees of an error is one line, whatever it quotes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.errors import BadInput, Unreachable, one_line


@given(st.text())
def test_an_error_is_one_printable_line(quoted: str) -> None:
    assert str(BadInput(f"a member {quoted} of it")).isprintable()


@pytest.mark.parametrize(
    ("quoted", "shown"),
    [
        ("tok\n", r"tok\n"),
        ("a\u2028b\r", r"a\u2028b\r"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("caf\xe9 \U0001f600", "caf\xe9 \U0001f600"),
        (r"C:\new", r"C:\new"),
    ],
)
def test_what_is_not_printable_is_escaped_and_nothing_else(quoted: str, shown: str) -> None:
    assert one_line(quoted) == shown == str(Unreachable(quoted))
