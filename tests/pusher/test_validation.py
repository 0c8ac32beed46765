"""The short way of the usual event says what the rules say."""

from __future__ import annotations

from typing import Any

import pytest

from sim.pusher.validation import EVENT, errors, event_errors

BODY = {"name": "E", "channel": "c", "data": "{}"}


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        (BODY, set()),
        *((BODY | {name: value}, {name}) for name in ("name", "data") for value in ("", " ", None, 5, [])),
        ({"name": "E", "channel": "c"}, {"data"}),
        (BODY | {"channels": ["a"]}, set()),
    ],
)
def test_an_event_that_is_plain_and_one_that_is_not(body: dict[str, Any], wrong: set[str]) -> None:
    assert event_errors(body) == errors(EVENT, [("", body)])
    assert set(event_errors(body)) == wrong
