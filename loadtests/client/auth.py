"""Ways to authorise a private channel, and to be somebody at the application.

Bearer   POST /broadcasting/auth with the page's own headers (a token), as Echo's `bearerToken` does
Cookie   log in once per page as a browser does: session cookie and CSRF token, then the same POST
Signed   no application: sign with the app's secret on the spot
"""

from __future__ import annotations

from http.cookies import SimpleCookie
from typing import Protocol
from urllib.parse import unquote, urlencode

import orjson

from loadtests.client.echo import Authorised
from loadtests.client.http import Answer, Pool
from sim.pusher.auth import channel_auth

FORM = b"Content-Type: application/x-www-form-urlencoded\r\n"


class Page(Protocol):
    """What a way needs of the page."""

    pool: Pool
    prefix: str
    headers: bytes

    def timed(self, method: str, path: str, answer: Answer, error: str) -> None: ...


class Auth(Protocol):
    """A way. One value serves all pages of a class."""

    def prepare(self, page: Page) -> None:
        """In the user's greenlet, before the page opens; may wait. May add to `page.headers`."""

    def authorize(self, page: Page, channel: str, socket_id: str, done: Authorised) -> None:
        """From the mux; must not wait."""


class Bearer:
    """*path* of the authorisation endpoint at the application."""

    def __init__(self, path: str = "/broadcasting/auth") -> None:
        self.path = path

    def prepare(self, page: Page) -> None:
        """Nothing: the token is in the page's headers already."""

    def authorize(self, page: Page, channel: str, socket_id: str, done: Authorised) -> None:
        def answered(answer: Answer) -> None:
            auth, channel_data, error = _read(answer)
            page.timed("POST", self.path, answer, error)
            done(auth, channel_data, error)

        body = urlencode({"socket_id": socket_id, "channel_name": channel}).encode()
        page.pool.send("POST", page.prefix + self.path, answered, FORM + page.headers, body)


def _read(answer: Answer) -> tuple[str | None, str | None, str]:
    """(auth, channel_data, "") or (None, None, reason)."""
    if answer.status == 0:
        return None, None, answer.error
    if answer.status != 200:
        return None, None, f"HTTP {answer.status}"
    try:
        tree = orjson.loads(answer.body)
        return str(tree["auth"]), tree.get("channel_data"), ""
    except (ValueError, KeyError, TypeError, AttributeError):
        # A guest who is redirected to the login page gets 200 and HTML.
        return None, None, "HTTP 200 without JSON member auth"


class Cookie(Bearer):
    """A session by Laravel's rules: the CSRF cookie, the login form, and both in every later request."""

    def __init__(
        self,
        credentials: dict[str, str],
        login: str = "/login",
        csrf: str = "/sanctum/csrf-cookie",
        path: str = "/broadcasting/auth",
    ) -> None:
        super().__init__(path)
        self.credentials, self.login, self.csrf = credentials, login, csrf

    def prepare(self, page: Page) -> None:
        jar: dict[str, str] = {}
        self._collect(jar, page, "GET", self.csrf, page.pool.fetch("GET", page.prefix + self.csrf, page.headers))
        body = urlencode(self.credentials).encode()
        answer = page.pool.fetch("POST", page.prefix + self.login, FORM + page.headers + _session(jar), body)
        self._collect(jar, page, "POST", self.login, answer)
        page.headers += _session(jar)

    def _collect(self, jar: dict[str, str], page: Page, method: str, path: str, answer: Answer) -> None:
        failed = answer.status == 0 or answer.status >= 400
        page.timed(method, path, answer, (answer.error or f"HTTP {answer.status}") if failed else "")
        for line in answer.headers.get(b"set-cookie", b"").decode("latin-1").split("\n"):
            for name, morsel in SimpleCookie(line).items():
                jar[name] = morsel.value


def _session(jar: dict[str, str]) -> bytes:
    """Header lines: the cookies, and the token that Laravel wants back decoded."""
    lines = "Cookie: " + "; ".join(f"{name}={value}" for name, value in jar.items()) + "\r\n" if jar else ""
    if "XSRF-TOKEN" in jar:
        lines += f"X-XSRF-TOKEN: {unquote(jar['XSRF-TOKEN'])}\r\n"
    return lines.encode("latin-1")


class Signed:
    """With the secret of the app, which only a test of one's own broadcaster should have."""

    def __init__(self, key: str, secret: str) -> None:
        self.key, self.secret = key, secret

    def prepare(self, page: Page) -> None:
        """Nothing to do."""

    def authorize(self, page: Page, channel: str, socket_id: str, done: Authorised) -> None:
        channel_data = orjson.dumps({"user_id": socket_id}).decode() if channel.startswith("presence-") else None
        done(channel_auth(self.key, self.secret, socket_id, channel, channel_data or ""), channel_data, "")
