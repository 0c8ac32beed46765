"""The application's HTTP edge without a network: what a request becomes, however it is cut, and what no request may do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from sim.brokeforge.http import Request, Response
from sim.live.application.edge import MAX_PIPELINED, OpenConnections, ServedConnection

HOST = b"Host: x\r\n"
CHUNKED = b"PUT /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"


class Echo:
    """An application and its station in one: each answer says what was asked. With *held*, answers wait for `release`."""

    def __init__(self, held: bool = False) -> None:
        self.requests: list[Request] = []
        self.held: list[Callable[[], None]] | None = [] if held else None

    def arrive(self, request: Request) -> Request:
        self.requests.append(request)
        return request

    def submit(self, request: Request, done: Callable[[Response], None]) -> None:
        response = Response(200, f"{request.method} {request.path}".encode())
        if self.held is None:
            done(response)
        else:
            self.held.append(lambda: done(response))

    def release(self) -> None:
        assert self.held
        self.held.pop(0)()


class Wire(asyncio.Transport):
    """What was written, and how it ended."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.ended = self.paused = False

    def write(self, data: Any) -> None:
        assert not self.ended
        self.written += data

    def write_eof(self) -> None:
        self.ended = True

    close = abort = write_eof

    def can_write_eof(self) -> bool:
        return True

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None: ...


def connection(echo: Echo) -> tuple[ServedConnection, Wire]:
    served, wire = ServedConnection(cast(Any, echo), cast(Any, echo), OpenConnections(10)), Wire()
    served.connection_made(wire)
    return served, wire


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def statuses(written: bytes) -> list[int]:
    return [int(part.split(b" ", 1)[0]) for part in written.split(b"HTTP/1.1 ")[1:]]


READ = {
    "absolute form": (b"GET http://other:80/a?b=c HTTP/1.1\r\n" + HOST + b"\r\n", ("GET", "/a", "b=c", b"")),
    "absolute form, no path": (b"GET HTTP://other?b HTTP/1.1\r\n" + HOST + b"\r\n", ("GET", "/", "b", b"")),
    "chunks and trailers": (CHUNKED + b"1;x=y\r\na\r\n1\r\nb\r\n0\r\nHost: evil\r\n\r\n", ("PUT", "/a", "", b"ab")),
    "zeros before a length": (
        b"PUT /a HTTP/1.1\r\nHost: x\r\nContent-Length: " + b"0" * 5000 + b"2\r\n\r\nab",
        ("PUT", "/a", "", b"ab"),
    ),
    "upgrade": (b"GET /a HTTP/1.1\r\n" + HOST + UPGRADE + b"\r\n", ("GET", "/a", "", b"")),
    "upgrade with a body": (b"PUT /a HTTP/1.1\r\n" + HOST + UPGRADE + b"Content-Length: 2\r\n\r\nab", ("PUT", "/a", "", b"ab")),
    "upgrade with chunks": (CHUNKED[:-2] + UPGRADE + b"\r\n2\r\nab\r\n0\r\n\r\n", ("PUT", "/a", "", b"ab")),
    "empty lines before": (b"\r\n\r\nGET /a HTTP/1.1\r\n" + HOST + b"\r\n", ("GET", "/a", "", b"")),
    "a NUL, encoded": (b"GET /a%00 HTTP/1.1\r\n" + HOST + b"\r\n", ("GET", "/a\0", "", b"")),
    "HTTP/1.0 without a host": (b"GET /a HTTP/1.0\r\n\r\n", ("GET", "/a", "", b"")),
}


@pytest.mark.parametrize(("sent", "expected"), READ.values(), ids=READ)
@pytest.mark.parametrize("piece", [1, 7, 100_000])
def test_what_is_read(sent: bytes, expected: tuple[str, str, str, bytes], piece: int) -> None:
    async def play() -> None:
        echo = Echo()
        served, wire = connection(echo)
        for start in range(0, len(sent), piece):
            served.data_received(sent[start : start + piece])
        await settled()
        (request,) = echo.requests
        assert (request.method, request.path, request.query, request.body) == expected
        assert request.headers.get("host", "x") == "x"
        assert statuses(wire.written) == [200]

    asyncio.run(play())


REFUSED = {
    "a length and chunks": (CHUNKED[:-2] + b"Content-Length: 3\r\n\r\n1\r\na\r\n0\r\n\r\n", 400),
    "two lengths": (b"PUT /a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nab", 400),
    "a list of lengths": (b"PUT /a HTTP/1.1\r\nHost: x\r\nContent-Length: 2, 2\r\n\r\nab", 400),
    "a length beyond any": (b"PUT /a HTTP/1.1\r\nHost: x\r\nContent-Length: " + b"9" * 19 + b"\r\n\r\n", 413),
    "another coding": (CHUNKED.replace(b"chunked", b"gzip, chunked") + b"0\r\n\r\n", 501),
    "chunks in HTTP/1.0": (CHUNKED.replace(b"1.1", b"1.0") + b"0\r\n\r\n", 400),
    "a folded line": (b"GET /a HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\n\r\n", 400),
    "a NUL in the path": (b"GET /a\0 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "a NUL in a header": (b"GET /a HTTP/1.1\r\nHost: x\r\nX: a\0\r\n\r\n", 400),
    "a space before the colon": (b"GET /a HTTP/1.1\r\nHost : x\r\n\r\n", 400),
    "bare line feeds": (b"GET /a HTTP/1.1\nHost: x\n\n", 400),
    "a chunk of negative size": (CHUNKED + b"-1\r\na\r\n0\r\n\r\n", 400),
    "a chunk beyond 64 bits": (CHUNKED + b"f" * 17 + b"\r\n", 400),
    "a tunnel": (b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\nmore", 400),
    "a tunnel to a path": (b"CONNECT /a HTTP/1.1\r\nHost: x\r\n\r\nmore", 400),
    "the whole server": (b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "another scheme": (b"GET ftp://x/a HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "a megabyte of header": (b"GET /a HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 1_000_000 + b"\r\n\r\n", 431),
    "trailers without an end": (CHUNKED + b"0\r\n" + b"a: b\r\n" * 10_000, 431),
}


@pytest.mark.parametrize(("sent", "status"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("piece", [1, 65_536])
def test_what_is_refused(sent: bytes, status: int, piece: int) -> None:
    async def play() -> None:
        echo = Echo()
        served, wire = connection(echo)
        for start in range(0, min(len(sent), 20_000 * piece), piece):
            served.data_received(sent[start : start + piece])
        await settled()
        assert echo.requests == []
        assert statuses(wire.written) == [status]
        assert wire.ended

    asyncio.run(play())


def test_lines_of_one_header_are_one_list() -> None:
    async def play() -> None:
        echo = Echo()
        served, _ = connection(echo)
        lines = b'If-None-Match: "1"\r\nIf-None-Match: "2"\r\n'
        served.data_received(b"GET /a HTTP/1.1\r\n" + HOST + lines + b"\r\n")
        assert echo.requests[0].headers["if-none-match"] == '"1", "2"'

    asyncio.run(play())


@pytest.mark.parametrize(
    ("head", "asked"),
    [
        (b"PUT /b HTTP/1.1\r\nHost: x\r\nExpect: 100-Continue\r\nContent-Length: 2\r\n\r\n", True),
        (b"PUT /b HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n", False),
        (b"PUT /b HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n", False),  # It would not understand.
    ],
)
def test_a_body_is_asked_for_after_the_answers_before_it(head: bytes, asked: bool) -> None:
    async def play() -> None:
        echo = Echo(held=True)
        served, wire = connection(echo)
        served.data_received(b"GET /a HTTP/1.1\r\n" + HOST + b"\r\n" + head)
        await settled()
        assert wire.written == b"", "what it would take for the answer to its first request"
        echo.release()
        assert statuses(wire.written) == [200, 100][: 1 + asked]
        served.data_received(b"ab")
        echo.release()
        assert statuses(wire.written)[-1] == 200
        assert [(request.path, request.body) for request in echo.requests] == [("/a", b""), ("/b", b"ab")]

    asyncio.run(play())


def test_who_closes_its_direction_still_gets_what_it_asked_for() -> None:
    async def play() -> None:
        echo = Echo(held=True)
        served, wire = connection(echo)
        served.data_received((b"GET /a HTTP/1.1\r\n" + HOST + b"\r\n") * 3)
        assert served.eof_received()
        for answered in (1, 2, 3):
            assert not wire.ended
            echo.release()
            await settled()
            assert statuses(wire.written) == [200] * answered
        assert wire.ended
        idle, other = connection(Echo())
        assert not idle.eof_received()
        assert other.ended

    asyncio.run(play())


def test_a_flood_of_requests_is_served_in_turns() -> None:
    """However many come in one segment, the loop's other connections have their turn in between."""

    async def play() -> None:
        echo = Echo()
        served, wire = connection(echo)
        served.data_received((b"GET /a HTTP/1.1\r\n" + HOST + b"\r\n") * 10 * MAX_PIPELINED)
        assert wire.paused
        for turn in range(1, 11):
            assert len(echo.requests) == turn * MAX_PIPELINED
            await asyncio.sleep(0)
        assert statuses(wire.written) == [200] * 10 * MAX_PIPELINED
        assert not wire.paused

    asyncio.run(play())
