"""Answers as bytes: HTTP/1.1 with a length, and as Reverb writes them."""

from __future__ import annotations

import pytest

from sim.pusher.http import HttpResponse
from sim.pusher.upgrade import refuse


@pytest.mark.parametrize(
    ("answer", "how", "expected"),
    [
        (
            HttpResponse(200, "{}", headers=(("X-A", "b"),)),
            {"keep_alive": True},
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\nX-A: b\r\n\r\n{}",
        ),
        (
            HttpResponse(413, "é", json=False),
            {"keep_alive": False},
            b"HTTP/1.1 413 Request Entity Too Large\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 2\r\n"
            b"Connection: close\r\n\r\n\xc3\xa9",
        ),
        (
            HttpResponse(200, "abc", media_type="text/x"),
            {"keep_alive": True, "head": True},
            b"HTTP/1.1 200 OK\r\nContent-Type: text/x\r\nContent-Length: 3\r\n\r\n",
        ),
        (
            refuse(426, "why", (("Sec-WebSocket-Version", "13"),)),
            {"keep_alive": False},
            b"HTTP/1.1 426 Upgrade Required\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 3\r\n"
            b"Sec-WebSocket-Version: 13\r\nConnection: close\r\n\r\nwhy",
        ),
    ],
)
def test_an_answer_has_its_length_and_its_headers(answer: HttpResponse, how: dict[str, bool], expected: bytes) -> None:
    assert answer.encode(**how) == expected  # type: ignore[arg-type]


def test_as_reverb_writes_them() -> None:
    assert HttpResponse(404, "Not there", json=False, headers=(("A", "b"),)).encode_as_reverb("now") == (
        b"HTTP/1.1 404 Not Found\r\nA: b\r\n\r\nNot there"
    )
    assert HttpResponse(200, "{}").encode_as_reverb("now") == (
        b"HTTP/1.0 200 OK\r\nCache-Control:  no-cache, private\r\nContent-Length: 2\r\n"
        b"Content-Type:   application/json\r\nDate:           now\r\n\r\n{}"
    )
