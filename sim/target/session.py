"""A session by Laravel's rules, without a socket: which cookies and headers go out, and what came of a login.

A browser asks for the CSRF cookie, posts the login form, and sends session cookie and `X-XSRF-TOKEN` (the cookie, decoded) with
every later request. An application that sets no such cookie writes the token into its pages: the login form has it in a hidden
field `_token`, later pages have it in `<meta name="csrf-token">`, and requests carry it as `X-CSRF-TOKEN`. A login changes it.
Sanctum takes a request for the browser's own only when Origin or Referer name one of its stateful domains.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator
from urllib.parse import unquote, urlencode, urlsplit


class Session:
    """One user's cookies. Feed it the `Set-Cookie` lines of every answer."""

    def __init__(self, origin: str = "") -> None:
        """*origin*: scheme and host of the page (`Target.page_origin`); empty: none is sent."""
        self.cookies: dict[str, str] = {}
        self.origin = origin
        self.token = ""
        """The CSRF token in the newest page that had one."""
        self.location = ""
        """To where the newest answer redirects."""

    def absorb(self, lines: Iterable[str], body: bytes = b"", location: str = "") -> None:
        """Take over what an answer says. *lines*: values of `Set-Cookie`, one cookie each; *location*: of a redirect."""
        self.token, self.location = csrf_token(body) or self.token, location
        for line in lines:
            pair, _, attributes = line.partition(";")
            name, equals, value = (part.strip() for part in pair.partition("="))
            if not equals or not name:
                continue
            if "max-age=0" in attributes.lower().replace(" ", "").split(";"):
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = value

    def headers(self, page: str = "/") -> list[tuple[str, str]]:
        """*page*: path of the page that asks; a refused login is sent back to it."""
        found = [("Cookie", "; ".join(f"{name}={value}" for name, value in self.cookies.items()))] if self.cookies else []
        if "XSRF-TOKEN" in self.cookies:
            found.append(("X-XSRF-TOKEN", unquote(self.cookies["XSRF-TOKEN"])))
        elif self.token:
            found.append(("X-CSRF-TOKEN", self.token))
        if self.origin:
            found += [("Origin", self.origin), ("Referer", f"{self.origin}{page}")]
        return found


_TAG = re.compile(rb"<(?:input|meta)\b[^>]*>", re.IGNORECASE)
_ATTRIBUTE = re.compile(r"""([\w-]+)\s*=\s*("[^"]*"|'[^']*'|[^\s>"']+)""")


def csrf_token(page: bytes) -> str:
    """The token in an HTML page: of a hidden field `_token` or of `<meta name="csrf-token">`; empty where there is none."""
    for tag in _TAG.findall(page):
        attributes = {name.lower(): value.strip("\"'") for name, value in _ATTRIBUTE.findall(tag.decode("utf-8", "replace"))}
        value = attributes.get("value" if attributes.get("name") == "_token" else "content", "")
        if value and attributes.get("name") in ("_token", "csrf-token"):
            return html.unescape(value)
    return ""


def login_requests(session: Session, form: Iterable[tuple[str, str]], login: str, csrf: str) -> Iterator[tuple[str, str, bytes]]:
    """(method, path, body) of a login, one after the other; *session* absorbs each answer before the next is asked for.

    Without Sanctum there is no CSRF route, and the page of the form sets the cookie, or has the token in it. In the second case
    the page that follows the login has the new token.
    """
    yield "GET", csrf, b""
    if "XSRF-TOKEN" not in session.cookies:
        yield "GET", login, b""
    yield "POST", login, urlencode(dict([("_token", session.token)] if session.token else []) | dict(form)).encode()
    if session.token and "XSRF-TOKEN" not in session.cookies:
        yield "GET", urlsplit(session.location).path or "/", b""


def login_refusal(status: int, location: str, login: str) -> str:
    """Why the login form was not accepted; empty when it was. *location*: of a redirect; *login*: path of the form."""
    if status == 0:
        return "no answer"
    if 300 <= status < 400:
        back = urlsplit(location).path.rstrip("/") == login.rstrip("/")
        return "sent back to the login form: wrong credentials" if back else ""
    reasons = {
        401: "wrong credentials",
        404: f"there is no {login}",
        405: f"{login} takes no POST",
        419: "the CSRF token was not accepted",
        422: "wrong credentials, or other fields are wanted",
        423: "the account is locked",
        429: "too many logins (Laravel allows five a minute for each address and name)",
    }
    return "" if 200 <= status < 300 else reasons.get(status, f"HTTP {status}")
