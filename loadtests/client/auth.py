"""Ways to authorise a private channel, and to be known to the application as a user.

Bearer   POST /broadcasting/auth with the page's own headers (a token), as Echo's `bearerToken` does
Cookie   log in once per user as a browser does: session cookie and CSRF token, then the same POST
Signed   without an application: sign with the app's secret here
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol
from urllib.parse import urlencode

import orjson
from gevent.event import AsyncResult

from loadtests.client.echo import Authorised
from loadtests.client.http import Answer, Pool
from sim.pusher.auth import channel_auth
from sim.target.session import Session, login_refusal, login_requests

FORM = b"Content-Type: application/x-www-form-urlencoded\r\n"


class AuthorisedPage(Protocol):
    """What a way to authorise needs of the page."""

    pool: Pool
    prefix: str
    headers: bytes

    @property
    def login(self) -> tuple[tuple[str, str], ...]:
        """Fields of the user's own login form; empty: there is none."""

    def timed(self, method: str, path: str, answer: Answer, error: str) -> None: ...


class Auth(Protocol):
    """A way to authorise. One value serves all pages of a class."""

    def prepare(self, page: AuthorisedPage) -> None:
        """Called in the user's greenlet before the page opens. It may wait, and may add to `page.headers`."""

    def authorize(self, page: AuthorisedPage, channel: str, socket_id: str, done: Authorised) -> None:
        """Called from the mux, so it must not wait. It calls *done* once, now or later."""


class Bearer:
    """*path* of the authorisation endpoint at the application."""

    def __init__(self, path: str = "/broadcasting/auth") -> None:
        self.path = path

    def prepare(self, page: AuthorisedPage) -> None:
        """Nothing: the token is in the page's headers already."""

    def authorize(self, page: AuthorisedPage, channel: str, socket_id: str, done: Authorised) -> None:
        def answered(answer: Answer) -> None:
            auth, channel_data, error = _read(answer)
            page.timed("POST", self.path, answer, error)
            done(auth, channel_data, error)

        body = urlencode({"socket_id": socket_id, "channel_name": channel}).encode()
        page.pool.send("POST", page.prefix + self.path, answered, FORM + page.headers, body, repeatable=True)


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
        # A guest is redirected to the login page, which is HTML with status 200.
        return None, None, "HTTP 200 without JSON member auth"


class Cookie(Bearer):
    """A session by Laravel's rules: get the CSRF cookie, send the login form, send both cookies with every later request. All
    pages of one user share a session, as the tabs of one browser do."""

    def __init__(
        self,
        credentials: Mapping[str, str] | None = None,
        login: str = "/login",
        csrf: str = "/sanctum/csrf-cookie",
        path: str = "/broadcasting/auth",
        origin: str = "",
    ) -> None:
        """*credentials*: the login form for users without one of their own. *origin*: of the pages; Sanctum checks it."""
        super().__init__(path)
        self.credentials, self.login, self.csrf, self.origin = dict(credentials or {}), login, csrf, origin
        self._sessions: dict[tuple[tuple[str, str], ...], AsyncResult] = {}

    def prepare(self, page: AuthorisedPage) -> None:
        form = page.login or tuple(self.credentials.items())
        if not form:
            return  # The page's token is in its headers.
        known = self._sessions.get(form)
        if known is None:
            known = self._sessions[form] = AsyncResult()
            known.set(self._log_in(page, form))
        page.headers += known.get()

    def _log_in(self, page: AuthorisedPage, form: tuple[tuple[str, str], ...]) -> bytes:
        """Header lines of the session."""
        session = Session(self.origin)
        for method, path, body in login_requests(session, form, self.login, self.csrf):
            headers = page.headers + _lines(session.headers(self.login)) + (FORM if body else b"")
            answer = page.pool.fetch(method, page.prefix + path, headers, body)
            cookies, location = (answer.headers.get(name, b"").decode("latin-1") for name in (b"set-cookie", b"location"))
            session.absorb(cookies.split("\n"), answer.body, location)
            # The status of a page counts for nothing here; its cookie and its token do.
            refusal = login_refusal(answer.status, location, self.login) if method == "POST" else ""
            page.timed(method, path, answer, answer.error or (f"login: {refusal}" if refusal else ""))
        return _lines(session.headers())


def _lines(headers: Iterable[tuple[str, str]]) -> bytes:
    return "".join(f"{name}: {value}\r\n" for name, value in headers).encode("latin-1", "replace")


class Signed:
    """With the app's secret, which only a test of one's own broadcaster should have."""

    def __init__(self, key: str, secret: str) -> None:
        self.key, self.secret = key, secret

    def prepare(self, page: AuthorisedPage) -> None:
        """Nothing to do."""

    def authorize(self, page: AuthorisedPage, channel: str, socket_id: str, done: Authorised) -> None:
        channel_data = orjson.dumps({"user_id": socket_id}).decode() if channel.startswith("presence-") else None
        done(channel_auth(self.key, self.secret, socket_id, channel, channel_data or ""), channel_data, "")
