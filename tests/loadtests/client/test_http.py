"""HTTP on the mux against servers that behave, and servers that do not."""

from __future__ import annotations

import gc
import gzip
import shutil
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest
from gevent.event import AsyncResult

from loadtests.client import http
from loadtests.client.http import Answer, Pool, PooledConnection, Traffic, split_url
from loadtests.client.mux import Mux
from loadtests.client.streams import Origin
from tests.loadtests.peer import Script, certificate, listening, request, until

pytestmark = pytest.mark.loopback

OK = b'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nETag: "a"\r\n\r\nok'


@pytest.fixture
def mux() -> Iterator[Mux]:
    mux = Mux()
    yield mux
    assert mux.errors == 0
    mux.close()


def pool_of(mux: Mux, port: int, limit: int = 1, scheme: str = "http", host: str = "127.0.0.1", verify: bool = True) -> Pool:
    return Pool(Traffic(mux), Origin(f"{scheme}://{host}:{port}", verify=verify), limit)


def saying(*pieces: bytes, pause: float = 0.0) -> Script:
    """Answer each request of a connection with these pieces, and keep the connection."""

    def script(connection: socket.socket, number: int) -> None:
        while request(connection):
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(pause)

    return script


def once(answer: bytes) -> Script:
    """Answer one request, then close."""

    def script(connection: socket.socket, number: int) -> None:
        if request(connection):
            connection.sendall(answer)

    return script


@pytest.mark.parametrize(
    ("script", "body"),
    [
        (saying(OK), b"ok"),
        (saying(*[bytes([b]) for b in OK]), b"ok"),
        (
            saying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", b"2\r\nde\r\n0\r\n\r\n", pause=0.02),
            b"abcde",
        ),
        (saying(b"HTTP/1.1 100 Continue\r\n\r\n", OK, pause=0.02), b"ok"),
        (saying(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK), b"ok"),
        (once(b"HTTP/1.0 200 OK\r\n\r\nuntil the end"), b"until the end"),
        (once(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"), b"ok"),
        (once(b"HTTP/1.0 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + gzip.compress(b"ok")), b"ok"),
        (once(b"HTTP/1.0 200 OK\r\nContent-Encoding: gzip\r\n\r\nnone"), b"none"),
    ],
    ids=["whole", "bytes", "chunked", "continue", "hints", "until-close", "close", "unasked-for gzip", "no gzip"],
)
def test_answers_however_they_come(mux: Mux, script: Script, body: bytes) -> None:
    with listening(script) as port:
        pool = pool_of(mux, port)
        for _ in range(3):
            answer = pool.fetch("GET", "/servers/1")
            assert (answer.status, answer.body, answer.error) == (200, body, "")
            assert answer.size > len(body)
            assert 0 < answer.started_at <= answer.finished_at <= mux.now()


def test_not_modified_and_no_content_have_no_body_to_wait_for(mux: Mux) -> None:
    with listening(saying(b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\n\r\n')) as port:
        pool = pool_of(mux, port)
        assert [pool.fetch("GET", "/x").status for _ in range(3)] == [304] * 3


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (once(b"SSH-2.0-OpenSSH\r\n"), "not HTTP"),
        (once(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\ntoo short"), "closed by the peer"),
        (once(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), "not HTTP"),
        (once(b""), "closed by the peer"),
        (once(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 5000), "more than 4096 bytes"),
    ],
    ids=["ssh", "short", "chunk", "nothing", "endless"],
)
def test_what_is_no_answer_is_an_answer_with_a_reason(
    mux: Mux, script: Script, error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "MAX_SIZE", 4096)
    with listening(script) as port:
        answer = pool_of(mux, port).fetch("GET", "/x")
        assert answer.status == 0
        assert answer.error.startswith(error)


def test_nobody_listens(mux: Mux) -> None:
    with listening(saying(OK)) as port:
        pass
    answer = pool_of(mux, port).fetch("GET", "/x")
    assert (answer.status, answer.error) == (0, "connect: connection refused")


def test_a_silent_server_is_given_up_in_time(mux: Mux) -> None:
    def silent(connection: socket.socket, number: int) -> None:
        request(connection)
        time.sleep(3)

    with listening(silent) as port:
        pool = pool_of(mux, port)
        answer = pool.fetch("GET", "/x", timeout=0.2)
        assert (answer.status, answer.error) == (0, "no answer in 0.2 s")
        assert not pool.traffic.running


def test_what_is_tried_again_as_it_is_given_up_is_given_up_in_time_as_well(mux: Mux) -> None:
    """The next attempt starts while the alarm of the first rings. (`mux` sees to it that no callback failed.)"""

    def silent(connection: socket.socket, number: int) -> None:
        connection.settimeout(5)
        while connection.recv(1024):
            pass

    errors: list[str] = []

    with listening(silent) as port:
        pool = pool_of(mux, port, limit=9)

        def again(answer: Answer) -> None:
            errors.append(answer.error)
            if len(errors) <= 6:
                pool.send("GET", "/x", again, timeout=0.05)

        for _ in range(3):
            pool.send("GET", "/x", again, timeout=0.05)
        with gevent.Timeout(10):
            while len(errors) < 9:
                gevent.sleep(0.02)
        gevent.sleep(0.1)
    assert errors == ["no answer in 0.05 s"] * 9


def test_a_keep_alive_connection_closed_under_a_request_is_no_failure(mux: Mux) -> None:
    def closes_after_one(connection: socket.socket, number: int) -> None:
        request(connection)
        connection.sendall(OK)
        request(connection)  # Reads the next, and goes without an answer.

    with listening(closes_after_one) as port:
        pool = pool_of(mux, port)
        assert [pool.fetch("GET", f"/{i}").status for i in range(4)] == [200] * 4
        assert pool.fetch("POST", "/x").status == 0  # Not repeated: it may have been done.
        assert pool.fetch("GET", "/x").status == 200
        result = AsyncResult()
        pool.send("POST", "/broadcasting/auth", result.set, repeatable=True)
        assert result.get(timeout=10).status == 200


def test_requests_beyond_the_limit_wait_in_line(mux: Mux) -> None:
    connections: list[int] = []

    def slow(connection: socket.socket, number: int) -> None:
        connections.append(number)
        while request(connection):
            time.sleep(0.02)
            connection.sendall(OK)

    with listening(slow) as port:
        pool, answers = pool_of(mux, port, limit=2), []
        for _ in range(8):
            pool.send("GET", "/x", answers.append)
        assert pool.waiting == 6
        until(lambda: len(answers) == 8)
        assert [a.status for a in answers] == [200] * 8
        assert len(connections) == 2 + 1  # and the probe of the origin
        first, last = answers[0], answers[-1]
        assert last.started_at >= first.finished_at


def test_an_aborted_request_costs_its_connection_and_nothing_else(mux: Mux) -> None:
    def slow(connection: socket.socket, number: int) -> None:
        while request(connection):
            time.sleep(0.1)
            connection.sendall(OK)

    with listening(slow) as port:
        pool, answers = pool_of(mux, port), []
        running = pool.send("GET", "/running", answers.append)
        waiting = pool.send("GET", "/waiting", answers.append)
        pool.send("GET", "/wanted", answers.append)
        gevent.sleep(0.02)
        assert pool.waiting == 2
        waiting.abort()
        assert pool.waiting == 1
        running.abort()
        gevent.sleep(0.4)
        assert [a.status for a in answers] == [200]


def test_whoever_asked_for_what_is_aborted_sees_its_connection_end(mux: Mux) -> None:
    """As a browser does: an application that looks stops its work."""
    asked, ended = threading.Event(), threading.Event()

    def script(connection: socket.socket, number: int) -> None:
        if request(connection):
            asked.set()
            if not connection.recv(1):
                ended.set()

    with listening(script) as port:
        pool = pool_of(mux, port)
        exchange = pool.send("GET", "/", pytest.fail)
        until(asked.is_set)
        assert pool.traffic.running == {exchange}
        exchange.abort()
        assert not pool.traffic.running
        until(ended.is_set)


def test_a_closed_pool_keeps_no_connection_for_later(mux: Mux) -> None:
    """A page that has left: one request was idle, one under way (its channel's authorisation, which nobody aborts)."""
    left, heard, ended = threading.Event(), list[int](), list[int]()

    def script(connection: socket.socket, number: int) -> None:
        while request(connection):
            heard.append(number)
            if heard[0] != number:
                left.wait()
            connection.sendall(OK)
        ended.append(number)

    with listening(script) as port:
        pool, answers = pool_of(mux, port, limit=2), list[Answer]()
        for _ in range(2):
            pool.send("GET", "/", answers.append)
        until(lambda: len(answers) == 1)
        pool.close()
        left.set()
        until(lambda: set(heard) <= set(ended) and len(heard) == 2)
    assert [answer.status for answer in answers] == [200, 200]


def test_connections_that_are_over_are_freed_at_once(mux: Mux) -> None:
    """A run whose pages have connections of their own opens and closes hundreds a second, and its garbage collector comes once in
    minutes."""

    def left() -> int:
        return sum(isinstance(one, PooledConnection) for one in gc.get_objects())

    with listening(once(OK)) as port, listening(saying(OK)) as other, listening(once(b"no HTTP")) as odd:
        gc.collect()
        gc.disable()
        try:
            before = left()
            for place, aborted in ((port, False), (other, False), (odd, False), (other, True)):
                pool, answers = pool_of(mux, place), list[Answer]()
                exchange = pool.send("GET", "/", answers.append)
                if aborted:
                    exchange.abort()
                else:
                    until(lambda answers=answers: bool(answers))  # type: ignore[misc]
                pool.close()
            del pool, exchange
            until(lambda: left() == before)
        finally:
            gc.enable()


def test_what_is_sent(mux: Mux) -> None:
    seen: list[bytes] = []

    def keep(connection: socket.socket, number: int) -> None:
        while data := request(connection):
            seen.append(data)
            connection.sendall(OK)

    with listening(keep) as port:
        pool = pool_of(mux, port)
        pool.fetch("GET", "/a?b=1", b"Accept: application/json\r\n")
        pool.fetch("POST", "/c", b"X: y\r\n", b"z" * 300_000)
        pool.fetch("POST", "/empty")
    host = f"Host: 127.0.0.1:{port}\r\n".encode()
    assert seen[0] == b"GET /a?b=1 HTTP/1.1\r\n" + host + b"Accept: application/json\r\n\r\n"
    assert seen[1] == b"POST /c HTTP/1.1\r\n" + host + b"X: y\r\nContent-Length: 300000\r\n\r\n" + b"z" * 300_000
    assert b"Content-Length: 0\r\n" in seen[2]


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_tls_and_its_refusal(mux: Mux, tmp_path: Path) -> None:
    context = certificate(tmp_path)
    with listening(saying(OK[:20], OK[20:], pause=0.01), context) as port:
        trusting = pool_of(mux, port, scheme="https", host="localhost")
        assert trusting.origin.tls is not None
        trusting.origin.tls.load_verify_locations(tmp_path / "cert.pem")
        big = trusting.fetch("POST", "/x", b"", b"z" * 200_000)
        assert (big.status, big.body) == (200, b"ok")
        assert trusting.fetch("GET", "/x").status == 200
        suspicious = pool_of(mux, port, scheme="https", host="localhost")
        assert suspicious.fetch("GET", "/x").error.startswith("certificate: self-signed certificate")
        careless = pool_of(mux, port, scheme="https", host="localhost", verify=False)
        assert careless.fetch("GET", "/x").status == 200
        plain = pool_of(mux, port)
        assert plain.fetch("GET", "/x").status == 0

    def goodbye(connection: socket.socket, number: int) -> None:
        assert isinstance(connection, ssl.SSLSocket)
        if request(connection):
            connection.sendall(b"HTTP/1.0 200 OK\r\n\r\nuntil the end")
            connection.unwrap()

    with listening(goodbye, context) as port:
        answer = pool_of(mux, port, scheme="https", host="localhost", verify=False).fetch("GET", "/x")
        assert (answer.status, answer.body) == (200, b"until the end")
    with listening(lambda connection, number: connection.sendall(b"220 mail ready\r\n")) as port:
        assert pool_of(mux, port, scheme="https", host="localhost").fetch("GET", "/x", timeout=2).error.startswith("TLS: ")


def test_urls() -> None:
    assert split_url("https://shop.example/api/") == ("https://shop.example", "/api")
    assert split_url("http://127.0.0.1:8000") == ("http://127.0.0.1:8000", "")
