"""The codes of the Pusher protocol, as pusher-js takes them: 4000-4099 never again, 4100-4199 later, 4200-4299 at once."""

from __future__ import annotations

import pytest

from sim.pusher import errors
from sim.pusher.http import HttpRequest, phrase

CODES = {
    errors.UnknownApp: 4001,
    errors.OverQuota: 4004,
    errors.Unauthorized: 4009,
    errors.OriginNotAllowed: 4009,
    errors.NotAMember: 4009,
    errors.TooManyChannels: 4100,
    errors.InvalidMessage: 4200,
    errors.PongMissing: 4201,
    errors.RateLimited: 4301,
    errors.ClientEventsOff: 4301,
}


@pytest.mark.parametrize("error", CODES)
def test_a_code(error: type[errors.PusherError]) -> None:
    assert error.code == CODES[error]
    assert f'\\"code\\":{CODES[error]},'.encode() in error.frame


def test_phrases_do_not_depend_on_the_python() -> None:
    assert [phrase(status) for status in (200, 404, 413, 422)] == [
        "OK",
        "Not Found",
        "Request Entity Too Large",
        "Unprocessable Content",
    ]


def test_a_query_is_decoded() -> None:
    assert HttpRequest("GET", "/x?a=b+c&d=%20&e[]=1&e[]=2&f=g&&=").query() == {"a": "b c", "d": " ", "e": "1,2", "f": "g", "": ""}
