"""Every request ends in an answer; what a peer does wrong becomes its reason."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path

import pytest

from sim.errors import BadInput
from sim.live.client import HttpAnswer, HttpConnection, HttpOrigin
from tests.live.servers import always, answer, self_signed, serving

pytestmark = pytest.mark.loopback


def ask(behave: object, times: int = 1, timeout: float = 2.0) -> list[HttpAnswer]:
    async def main() -> list[HttpAnswer]:
        async with serving(behave) as port:  # type: ignore[arg-type]
            connection = HttpConnection(HttpOrigin("127.0.0.1", port), timeout)
            got = [await connection.request("GET", "/x") for _ in range(times)]
            connection.close()
            return got

    return asyncio.run(main())


def test_answers_of_one_keep_alive_connection() -> None:
    peers = set()

    async def behave(request: bytes, writer: asyncio.StreamWriter) -> None:
        peers.add(writer.get_extra_info("peername"))
        writer.write(answer(b"hello", "201 Created", "X-Kind: a", "x-kind: b"))

    first, second = ask(behave, times=2)
    assert (first.status, first.body, first.headers["x-kind"]) == (201, b"hello", "b")
    assert first.started_at <= first.finished_at <= second.started_at
    assert len(peers) == 1


@pytest.mark.parametrize(
    ("text", "close", "status", "reason"),
    [
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}", True, 200, ""),
        (b"HTTP/1.1 401 Unauthorized\r\n\r\nAuthentication signature invalid.", True, 401, ""),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", False, 200, ""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}", True, 0, "reset"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", False, 0, "garbage"),
        (b"", True, 0, "reset"),
        (b"", False, 0, "timeout"),
    ],
    ids=["closed after each", "no length", "chunked", "cut short", "garbage", "closed", "silent"],
)
def test_what_a_server_may_do(text: bytes, close: bool, status: int, reason: str) -> None:
    # Twice: after a failure the next request starts with a fresh connection.
    for got in ask(always(text, close), times=2, timeout=0.2):
        assert got.status == status
        assert got.reason.startswith(reason)
        assert bool(got.reason) == (status == 0)


def test_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        connection = HttpConnection(HttpOrigin("127.0.0.1", taken.getsockname()[1]))
        assert asyncio.run(connection.request("GET", "/")).reason == "refused"
        assert asyncio.run(connection.connect()) == "refused"


def test_a_server_that_speaks_no_tls() -> None:
    async def main() -> HttpAnswer:
        async with serving(always(answer())) as port:
            return await HttpConnection(HttpOrigin("127.0.0.1", port, tls=True), 1.0).request("GET", "/")

    assert asyncio.run(main()).reason.startswith(("tls", "timeout", "reset"))


def test_a_certificate_that_nobody_trusts_and_its_own_authority(tmp_path: Path) -> None:
    tls = self_signed(tmp_path)

    async def main() -> list[HttpAnswer]:
        async with serving(always(answer()), tls) as port:
            trusting = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
            connections = [
                HttpConnection(HttpOrigin("127.0.0.1", port, tls=True)),
                HttpConnection(HttpOrigin("127.0.0.1", port, tls=True), 5, trusting),
            ]
            answers = [await connection.request("GET", "/") for connection in connections]
            for connection in connections:
                connection.close()
            return answers

    stranger, friend = asyncio.run(main())
    assert (stranger.status, stranger.reason) == (0, "certificate: self-signed certificate")
    assert friend.status == 200


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("http://a.example", HttpOrigin("a.example", 80)),
        ("https://a.example/app/", HttpOrigin("a.example", 443, True, "/app")),
        ("http://[::1]:8000", HttpOrigin("::1", 8000)),
    ],
)
def test_origin(url: str, origin: HttpOrigin) -> None:
    assert HttpOrigin.parse(url) == origin


@pytest.mark.parametrize("url", ["a.example", "ftp://a.example", "http://", "http://a:b"])
def test_not_an_origin(url: str) -> None:
    with pytest.raises(BadInput, match="URL"):
        HttpOrigin.parse(url)


def test_authority_names_the_port_unless_it_is_the_usual_one() -> None:
    assert HttpOrigin("a", 80).authority == "a"
    assert HttpOrigin("::1", 81).authority == "[::1]:81"
    assert HttpOrigin("a", 443, tls=True).authority == "a"
