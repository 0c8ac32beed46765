"""What each rule takes, up to its limits, and what it makes of it."""

from __future__ import annotations

from typing import Any

import pytest

from sim.brokeforge.handlers.validation import (
    Rule,
    address,
    boolean,
    instant,
    number,
    one_of,
    port,
    status,
    text,
    validate,
    whole,
)
from sim.brokeforge.http import HttpError

TAKEN: list[tuple[Rule, Any, Any]] = [
    (text(3), " ab ", "ab"),
    (text(3), "abc", "abc"),
    (text(3), "ä", "ä"),
    (status, None, ""),
    (status, "x" * 20, "x" * 20),
    (one_of("a", "b"), "b", "b"),
    (boolean, False, False),
    (number(0.5, 2), 0.5, 0.5),
    (number(0.5, 2), 2, 2.0),
    (whole(1, 3), 1, 1),
    (whole(1, 3), 3, 3),
    (port, 1, "1"),
    (port, "65535", "65535"),
    (port, "80:80", "80:80"),
    (port, "1:65535", "1:65535"),
    (address, None, ""),
    (address, "", ""),
    (address, "10.1.2.3", "10.1.2.3"),
    (address, "10.1.2.3/8", "10.0.0.0/8"),
    (address, "::1", "::1"),
    (instant, None, None),
    (instant, "1970-01-01T00:00:01.5", 1_500_000),
    (instant, "1970-01-01T01:00:00+01:00", 0),
    (instant, "9999-12-31T23:59:59.999999", 253_402_300_799_999_999),
    (instant, "0001-01-01T00:00:00Z", -62_135_596_800_000_000),
]
REFUSED: list[tuple[Rule, list[Any], str]] = [
    (text(3), [5, None, ["a"]], "must be a text"),
    (text(3), ["", "  ", "abcd"], "must have 1 to 3 characters"),
    (text(3), ["a\x00b", "a\nb"], "must not have control characters"),
    (status, [5, "x" * 21, ["active"]], "must be a status"),
    (one_of("a", "b"), ["c", 1, None], "must be one of a, b"),
    (boolean, [1, 0, "true", None], "must be true or false"),
    (number(0.5, 2), [0.49, 2.01, True, "1", None, float("nan")], "must be a number between 0.5 and 2"),
    (whole(1, 3), [0, 4, 2.0, True, "2"], "must be a whole number between 1 and 3"),
    (port, [True, None, 1.5, "", "a", "80:", "1:2:3", "123456", "80:123456", -1], "must be a port or a range"),
    (port, [0, 65536, "0:80", "80:65536", "81:80"], "must be between 1 and 65535"),
    (address, [5, "1.2.3", "10.0.0.0/33", "here"], "must be an IP address or a network"),
    (instant, ["yesterday", 5, ["2026"]], "must be a time in ISO 8601"),
    (instant, ["9999-12-31T23:59:59-00:01", "0001-01-01T00:00:00+00:01"], "must be a time in ISO 8601"),
]


@pytest.mark.parametrize(("rule", "value", "clean"), TAKEN)
def test_what_is_taken(rule: Rule, value: Any, clean: Any) -> None:
    assert rule(value) == clean
    assert type(rule(value)) is type(clean)


@pytest.mark.parametrize(("rule", "values", "complaint"), REFUSED, ids=[words for _, _, words in REFUSED])
def test_what_is_refused(rule: Rule, values: list[Any], complaint: str) -> None:
    for value in values:
        with pytest.raises(ValueError, match=complaint):
            rule(value)


def test_every_field_that_is_wrong_is_named_at_once() -> None:
    rules = {"name": text(3), "port": port}
    assert validate({"name": " a"}, rules) == {"name": "a"}
    with pytest.raises(HttpError) as refused:
        validate({"nam": "a", "port": 0}, rules, required=("name",))
    assert refused.value.status == 422
    assert refused.value.errors == {
        "nam": ["There is no field nam - did you mean 'name'?"],
        "port": ["The port field must be between 1 and 65535, the lower one first."],
        "name": ["The name field is required."],
    }
    with pytest.raises(HttpError) as refused:
        validate({}, rules)
    assert refused.value.errors == {"body": ["There is nothing to change (known fields: name, port)."]}
