"""phpdotenv's grammar: every value here is what version 5 makes of the line."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.target.dotenv import MalformedDotenv, lost, parse
from tests.target.phpdotenv import VECTORS


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("K=value", "value"),
        ("K = value ", "value"),
        ("export KK=value\nK=${KK}", "value"),
        ("'K'=value", "value"),
        ("K=", ""),
        ('K=""', ""),
        ("K=a#b", "a"),
        ("K=a #b", "a"),
        ("K=#b", ""),
        ('K="a#b" # said', "a#b"),
        ("K='a#b'# said", "a#b"),
        ("K=a=b==", "a=b=="),
        ('K=a"b', 'a"b'),
        ("K=a\\nb", "a\\nb"),
        ('K="a\\nb\\"c\\\\d\\$e"', 'a\nb"c\\d$e'),
        ("K='a\\n$b'", "a\\n$b"),
        ("K=${X}/y", "x/y"),
        ('K="${X}"', "x"),
        ("K='${X}'", "${X}"),
        ('K="\\${X}"', "${X}"),
        ("K=${UNKNOWN}", "${UNKNOWN}"),
        ("K=$X", "$X"),
        ("K=${X}${X}", "xx"),
        ('K="a\nb"', "a\nb"),
        ("K=a\r\n", "a"),
        ("\ufeffK=a", "a"),
        ("K=a\nK=b", "b"),
        ("# K=a\n\n  # K=b\nK=c", "c"),
    ],
)
def test_values(line: str, value: str) -> None:
    assert parse(line, {"X": "x"})["K"] == value


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('A=1\nKEY="v";', "2: unexpected text after .* KEY"),
        ("K=two words", "1: unexpected text after a blank"),
        ("K='a", "1: a missing closing quote"),
        ('K="\\q"', "1: an unexpected escape"),
        ("export K=value", "1: an invalid name at .export K"),  # Names of one letter cannot be exported.
        ("=v", "1: an unexpected equals"),
        ('{"ws": 1}', "1: an invalid name"),
        ("A B=1", "1: an invalid name at .A B"),
    ],
)
def test_what_laravel_refuses_is_refused_with_its_line(text: str, complaint: str) -> None:
    with pytest.raises(MalformedDotenv, match=complaint):
        parse(text)


def test_the_real_library_says_the_same() -> None:
    def read(text: str) -> dict[str, str] | None:
        try:
            return parse(text)
        except MalformedDotenv:
            return None

    vectors = json.loads(VECTORS.read_text(encoding="utf-8"))
    assert {text: read(text) for text, _ in vectors} == dict(vectors)


def test_a_quote_that_is_never_closed_loses_the_rest() -> None:
    text = 'A=1\nK="a\nB=2'
    assert parse(text) == {"A": "1"}
    assert lost(text) == (2, 'K="a\nB=2')
    assert lost('K="a\nb"') is None


def test_the_value_is_not_repeated_in_the_error() -> None:
    with pytest.raises(MalformedDotenv) as error:
        parse('SECRET="hunter2";')
    assert "hunter2" not in str(error.value)


def test_names_without_equals_are_taken_back_and_the_environment_wins_in_variables() -> None:
    assert parse("A=1\nA\nB=2") == {"B": "2"}
    assert parse("A=file\nB=${A}", {"A": "outside"})["B"] == "outside"


@given(st.text(alphabet=st.characters(exclude_characters="\r", exclude_categories=("Cs",)), max_size=40))
def test_any_text_survives_single_or_double_quotes(value: str) -> None:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$")
    assert parse(f'K="{escaped}"')["K"] == value
    if "'" not in value and "\n" not in value and '="' not in f"K='{value}'":
        assert parse(f"K='{value}'")["K"] == value


@given(st.text(max_size=60))
def test_any_text_at_all_is_read_or_refused(text: str) -> None:
    try:
        found = parse(text)
    except MalformedDotenv:
        return
    assert "=" in text or not found
