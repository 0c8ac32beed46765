"""The page for eyes (`board/`): its files, a sample login, and where its broadcaster is.

It hands the tokens of sample users to a page that asks, so it exists only where the application listens on this machine alone
(`Context.board`), and answers only requests for one of this machine's own names that come from a page of the same origin.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import select

from sim.brokeforge.broadcasting.events import ServerSiteUpdated, ServerUpdated, broadcast_name
from sim.brokeforge.context import Board, Context
from sim.brokeforge.domain.models import Server, ServerSite, User
from sim.brokeforge.handlers import validation as v
from sim.brokeforge.http import HttpError, Request, Response, invalid, json_response

FILES = Path(__file__).resolve().parent / "board"
KINDS = {".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8"}
SHOWN_USERS = 50
"""Sample users that the board offers to log in as."""

# Only what the page itself brings along runs, and it speaks only to this machine.
POLICY = (
    "Content-Security-Policy",
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self' ws:; base-uri 'none'",
)


def page(app: Context, request: Request) -> Response:
    _require(app, request)
    return _file("index.html")


def file(app: Context, request: Request, name: str) -> Response:
    _require(app, request)
    return _file(name)


def config(app: Context, request: Request) -> Response:
    """What the page must know before anybody has logged in."""
    board = _require(app, request)
    broadcast = app.broadcast
    names = {e.resource: broadcast_name(e, broadcast.broadcast_as) for e in (ServerUpdated(0), ServerSiteUpdated(0))}
    users = app.database.read().execute(select(User.id, User.name).order_by(User.id).limit(SHOWN_USERS)).all()
    tree = {
        "broadcaster": {"host": board.host, "port": board.port, "key": app.key},
        "events": names,
        "channels": broadcast.channels,
        "specific": broadcast.channels != "generic",
        "users": [{"id": id, "name": name} for id, name in users],
    }
    return json_response(tree)


def login(app: Context, request: Request) -> Response:
    """Log in as a sample user: `{"user": 1}` answers their token and what they own."""
    _require(app, request)
    id = v.validate(request.json(), {"user": v.whole(1, 2**53)}, required=("user",))["user"]
    db = app.database.read()
    row = db.execute(select(User.id, User.name, User.token).where(User.id == id)).one_or_none()
    if row is None:
        raise invalid({"user": [f"There is no sample user {id}."]})
    answer: dict[str, Any] = {"id": row.id, "name": row.name, "token": row.token}
    for name, model in (("servers", Server), ("sites", ServerSite)):
        answer[name] = list(db.scalars(select(model.id).where(model.user_id == id).order_by(model.id)))
    return json_response(answer, headers=(("Cache-Control", "no-store"),))


def _require(app: Context, request: Request) -> Board:
    """Raises `HttpError` 404 where there is no board, 403 for a name that is not this machine's or a page of another origin."""
    if app.board is None:
        raise HttpError(404, "The board is served only where the application listens on this machine alone.")
    host = request.headers.get("host", "")
    if _name(f"http://{host}") not in app.board.hosts:
        raise HttpError(403, "The board is not served under this name; ask for localhost or 127.0.0.1.")
    origin = request.headers.get("origin")
    if origin is not None and origin != f"http://{host}":
        raise HttpError(403, "The board answers its own page only.")
    return app.board


def _name(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


@cache
def _contents(name: str) -> tuple[bytes, str] | None:
    # A name is one segment of a path; still, nothing but the board's own files is ever read.
    found = {path.name: path for path in FILES.iterdir()}.get(name)
    return None if found is None or found.suffix not in KINDS else (found.read_bytes(), KINDS[found.suffix])


def _file(name: str) -> Response:
    found = _contents(name)
    if found is None:
        raise HttpError(404, f"The board has no file {name[:100]}.")
    contents, kind = found
    return Response(
        200, contents, (("Content-Type", kind), ("Cache-Control", "no-cache"), POLICY, ("X-Content-Type-Options", "nosniff"))
    )


ROUTES = (
    ("GET", "/", page),
    ("GET", "/board/config", config),
    ("POST", "/board/login", login),
    ("GET", "/board/{file}", file),
)
