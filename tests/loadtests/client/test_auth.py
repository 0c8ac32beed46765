"""Ways to authorise, against an application of a few lines; the pattern's own is met in test_locust."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from urllib.parse import parse_qs

import gevent
import pytest

from loadtests.client.auth import Bearer, Cookie, Signed
from loadtests.client.http import Answer, Pool, Traffic
from loadtests.client.mux import Mux
from loadtests.client.streams import Origin
from sim.pusher.auth import channel_auth, verify_channel
from tests.loadtests.peer import listening, request

pytestmark = pytest.mark.loopback


class Page:
    """As much of a page as a way needs."""

    def __init__(self, pool: Pool, headers: bytes = b"") -> None:
        self.pool, self.prefix, self.headers = pool, "", headers
        self.login: tuple[tuple[str, str], ...] = ()
        self.timings: list[tuple[str, str, int, str]] = []

    def timed(self, method: str, path: str, answer: Answer, error: str) -> None:
        self.timings.append((method, path, answer.status, error))


@pytest.fixture
def mux() -> Iterator[Mux]:
    mux = Mux()
    with gevent.Timeout(30):  # What nobody answers is waited for without an end.
        yield mux
    assert mux.errors == 0
    mux.close()


def page_of(mux: Mux, port: int, headers: bytes = b"") -> Page:
    return Page(Pool(Traffic(mux), Origin(f"http://127.0.0.1:{port}"), 4), headers)


def answer(status: str, body: str = "", *headers: str) -> bytes:
    lines = "".join(f"{line}\r\n" for line in headers)
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{lines}\r\n{body}".encode()


def authorized(way: Bearer | Signed, page: Page, channel: str = "private-servers.1") -> tuple[str | None, str | None, str]:
    said: list[tuple[str | None, str | None, str]] = []
    way.authorize(page, channel, "1.2", lambda *answer: said.append(answer))
    with gevent.Timeout(5):
        while not said:
            gevent.sleep(0.005)
    return said[0]


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (answer("200 OK", '{"auth":"key:abc"}'), ("key:abc", None, "")),
        (answer("200 OK", '{"auth":"key:abc","channel_data":"{}"}'), ("key:abc", "{}", "")),
        (answer("403 Forbidden", "{}"), (None, None, "HTTP 403")),
        (answer("302 Found", "", "Location: /login"), (None, None, "HTTP 302")),
        (answer("200 OK", "<html>log in</html>"), (None, None, "HTTP 200 without JSON member auth")),
        (answer("200 OK", "[]"), (None, None, "HTTP 200 without JSON member auth")),
        (b"nonsense\r\n\r\n", None),
    ],
)
def test_what_the_endpoint_may_say(mux: Mux, reply: bytes, expected: tuple[str | None, str | None, str] | None) -> None:
    seen: list[bytes] = []

    def application(connection: socket.socket, number: int) -> None:
        while data := request(connection):
            seen.append(data)
            connection.sendall(reply)

    with listening(application) as port:
        page = page_of(mux, port, b"Authorization: Bearer token\r\n")
        said = authorized(Bearer(), page)
    if expected is None:
        assert said[0] is None
        assert said[2].startswith("not HTTP")
    else:
        assert said == expected
    assert page.timings[0][:2] == ("POST", "/broadcasting/auth")
    assert page.timings[0][3] == said[2]
    head, _, body = seen[0].partition(b"\r\n\r\n")
    assert b"\r\nAuthorization: Bearer token\r\n" in head + b"\r\n"
    assert parse_qs(body.decode()) == {"socket_id": ["1.2"], "channel_name": ["private-servers.1"]}


def test_a_session_by_cookie_and_csrf_token(mux: Mux) -> None:
    """Laravel's dance: the token comes percent-encoded in a cookie and goes back decoded in a header."""
    seen: list[str] = []

    def application(connection: socket.socket, number: int) -> None:
        while data := request(connection):
            text = data.decode()
            seen.append(text)
            if text.startswith("GET /sanctum/csrf-cookie"):
                connection.sendall(
                    answer("204 No Content", "", "Set-Cookie: XSRF-TOKEN=a%3D; Path=/", "Set-Cookie: session=one; HttpOnly")
                )
            elif text.startswith("POST /login"):
                good = "X-XSRF-TOKEN: a=" in text and "XSRF-TOKEN=a%3D" in text and "session=one" in text and "email=ada" in text
                connection.sendall(answer("302 Found" if good else "419 Page Expired", "", "Set-Cookie: session=two; Path=/"))
            else:
                good = "session=two" in text and "X-XSRF-TOKEN: a=" in text
                connection.sendall(answer("200 OK", json.dumps({"auth": "key:1"})) if good else answer("403 Forbidden"))

    with listening(application) as port:
        page, way = page_of(mux, port), Cookie(origin="https://shop.example")
        page.login = (("email", "ada@shop.example"), ("password", "pass"))
        way.prepare(page)
        assert authorized(way, page) == ("key:1", None, "")
        # A second tab of the same user has the session; a user with a token needs none.
        tab, other = page_of(mux, port), page_of(mux, port, b"Authorization: Bearer t\r\n")
        tab.login = page.login
        way.prepare(tab)
        way.prepare(other)
        assert tab.headers == page.headers
        assert other.headers == b"Authorization: Bearer t\r\n"
        assert tab.timings == other.timings == []
    assert all("Origin: https://shop.example\r\n" in text for text in seen)
    assert [timing[:3] for timing in page.timings] == [
        ("GET", "/sanctum/csrf-cookie", 204),
        ("POST", "/login", 302),
        ("POST", "/broadcasting/auth", 200),
    ]
    assert [timing[3] for timing in page.timings] == [""] * 3


def test_a_session_whose_token_only_pages_have(mux: Mux) -> None:
    """The form's hidden `_token` goes back with it; the page behind the login has the token of later requests."""

    def application(connection: socket.socket, number: int) -> None:
        while data := request(connection):
            text = data.decode()
            if text.startswith("GET /login"):
                connection.sendall(answer("200 OK", '<input type="hidden" name="_token" value="t1">', "Set-Cookie: session=one"))
            elif text.startswith("POST /login"):
                good = "_token=t1" in text and "session=one" in text
                connection.sendall(answer("302 Found" if good else "419 Page Expired", "", "Location: /home"))
            elif text.startswith("GET /home"):
                connection.sendall(answer("200 OK", '<meta name="csrf-token" content="t2">'))
            else:
                good = "X-CSRF-TOKEN: t2\r\n" in text
                connection.sendall(answer("200 OK", json.dumps({"auth": "key:1"})) if good else answer("404 Not Found"))

    with listening(application) as port:
        page, way = page_of(mux, port), Cookie({"email": "ada"})
        way.prepare(page)
        assert authorized(way, page) == ("key:1", None, "")
    assert [timing[1] for timing in page.timings] == [way.csrf, "/login", "/login", "/home", "/broadcasting/auth"]


def test_a_login_that_is_refused_is_told(mux: Mux) -> None:
    def application(connection: socket.socket, number: int) -> None:
        while request(connection):
            connection.sendall(answer("419 Page Expired"))

    with listening(application) as port:
        page = page_of(mux, port)
        Cookie({"email": "x"}).prepare(page)
    assert [timing[3] for timing in page.timings] == ["", "", "login: the CSRF token was not accepted"]


def test_signed_on_the_spot(mux: Mux) -> None:
    with listening(lambda connection, number: None) as port:
        page = page_of(mux, port)
    way = Signed("key", "secret")
    assert authorized(way, page) == (channel_auth("key", "secret", "1.2", "private-servers.1"), None, "")
    auth, data, _ = authorized(way, page, "presence-room")
    assert auth is not None
    assert data is not None
    assert verify_channel("key", "secret", "1.2", "presence-room", auth, data)
