"""A stand-in for a Laravel application of the pattern, without PHP: for tests only.

Session login with XSRF as `web` and Sanctum do it, bearer tokens, a resource wrapped in `data` with `updated_at`, ids of any
kind, broadcasting before or after the commit, at once or through a queue, an Inertia page. Each switch is one thing that teams
have.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import parse_qsl, quote, unquote

from sim.live.client import HttpConnection, HttpOrigin
from sim.live.drive.requests import signed_event
from sim.pusher.auth import channel_auth
from sim.target import Key, Target
from tests.standin.http import Answer, Request, as_html, as_json, listening, read_request


@dataclass(frozen=True)
class Switches:
    """What kind of application it is. The defaults are a healthy one."""

    keys: Literal["int", "uuid", "big", "quoted"] = "int"
    kind: str = "servers"
    """What its users own: of channels, paths and the user's list."""
    wrapped: bool = True
    """The resource stands in `data`."""
    stamps: Literal["microseconds", "seconds", "counter"] = "microseconds"
    """Of `updated_at`; a counter stands in `version`."""
    csrf: bool = True
    """Requests with a session must carry the XSRF token."""
    csrf_cookie: bool = True
    """The token comes in a cookie; otherwise only in pages: a hidden field of the login form, a meta of all others."""
    sanctum: bool = True
    """There is a route that only sets the CSRF cookie."""
    stateful: bool = True
    """The page's Origin is one of the domains whose sessions are taken (SANCTUM_STATEFUL_DOMAINS)."""
    tokens: bool = True
    """Bearer tokens are taken at the channel authorisation."""
    auth: int = 0
    """Status of every channel authorisation in place of a decision; 0: decide."""
    auth_route: bool = True
    guests: Literal["403", "302", "500"] = "403"
    everybody: bool = False
    """The channel's callback forgets to ask whose server it is."""
    secret: str = ""
    """Used to sign with in place of the broadcaster's."""
    change: int = 0
    """Status of every change in place of making it."""
    change_route: bool = True
    refetch: int = 0
    """Status of every refetch in place of the resource."""
    spa: bool = False
    """Every unknown path is answered with the start page."""
    broadcast: Literal["now", "queued", "never", "twice"] = "now"
    moment: Literal["after_commit", "on_save"] = "after_commit"
    commit: float = 0.05
    """Seconds from the save to the commit, where events leave on save."""
    queue: float = 0.2
    """Seconds that the queue's worker sleeps."""
    channels: Literal["both", "specific"] = "both"
    broadcast_as: bool = False
    payload: int = 0
    """Bytes of padding in the event."""
    slow: float = 0.0
    """Seconds that every change takes."""
    rate_limit: int = 0


def key(kind: str, number: int) -> Key:
    """The application's own id of the n-th server."""
    match kind:
        case "uuid":
            return f"0193ab4e-7b1c-7000-8000-{number:012d}"
        case "big":
            return str(2**63 + number)
        case "quoted":
            return str(7303141234560 + number)
    return number


@dataclass
class Server:
    id: Key
    owner: int
    status: str = "pending"
    changes: int = 0
    at: float = field(default_factory=time.time)


class Application:
    """Users 1 and 2 with passwords `secret-1` ..., tokens `token-1` ..., and two servers each."""

    def __init__(self, switches: Switches, target: Target) -> None:
        """*target*: where events are published."""
        self.switches, self.target = switches, target
        self.sessions: dict[str, int] = {}
        """Session id -> user; 0: a guest."""
        self.servers = {str(s.id): s for s in (Server(key(switches.keys, n), 1 + (n - 1) // 2) for n in range(1, 5))}
        self.asked: list[Request] = []
        self._later: set[asyncio.Task[None]] = set()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not writer.is_closing():
            request = await read_request(reader)
            self.asked.append(request)
            writer.write((await self._answer(request)).to_bytes())
            await writer.drain()

    async def _answer(self, request: Request) -> Answer:
        new = ""
        if "shop_session" not in request.cookies:
            new = secrets.token_hex(8)
            self.sessions[new] = 0
        answer = await self._route(request, new)
        session = new or request.cookies["shop_session"]
        answer.headers += [
            ("Date", datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")),
        ]
        if answer.status == 404:
            return answer  # What no route matches has gone through no session.
        if self.switches.csrf_cookie:
            answer.headers.append(("Set-Cookie", f"XSRF-TOKEN={quote(self._token(session))}; path=/; samesite=lax"))
        answer.headers.append(("Set-Cookie", f"shop_session={session}; path=/; httponly; samesite=lax"))
        return answer

    def _token(self, session: str) -> str:
        """A login changes it."""
        return f"{session}{self.sessions.get(session, 0)}=="

    async def _route(self, request: Request, new: str) -> Answer:
        s, parts = self.switches, request.path.strip("/").split("/")
        match request.method, parts:
            case "GET", ["up"]:
                return as_html("Application up")
            case "GET", ["sanctum", "csrf-cookie"] if s.sanctum:
                return Answer(204)
            case "GET", ["login"]:
                token = self._token(new or request.cookies["shop_session"])
                return Answer(200, f"<form><input value='{token}' type=hidden name=\"_token\"></form>".encode())
            case "GET", ["dashboard"]:
                token = self._token(new or request.cookies["shop_session"])
                return Answer(200, f'<html><head><META name="csrf-token" content="{token}"></head></html>'.encode())
            case "POST", ["login"]:
                return self._log_in(request)
            case "POST", ["broadcasting", "auth"] if s.auth_route:
                return self._authorise(request)
            case ("GET", ["api", s.kind, id]) | ("GET", [s.kind, id]):
                return self._show(request, unquote(id))
            case "GET", ["inertia", id]:
                return self._page(request, unquote(id))
            case ("PUT", ["servers", id, "provision", _]) | ("PUT", ["api", s.kind, id]) if s.change_route:
                return await self._change(request, unquote(id))
        return as_html("Shop") if s.spa else self._refused(request, 404)

    # ---- who is it

    def _user(self, request: Request) -> int:
        """0: a guest."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme == "Bearer" and token.startswith("token-"):
            return int(token.removeprefix("token-")) if token.removeprefix("token-").isdigit() else 0
        return self.sessions.get(request.cookies.get("shop_session", ""), 0) if self.switches.stateful else 0

    def _forged(self, request: Request) -> bool:
        """Whether a request with a session lacks the token that belongs to it."""
        if not self.switches.csrf or request.headers.get("authorization", "").startswith("Bearer"):
            return False
        session = request.cookies.get("shop_session", "")
        sent = dict(parse_qsl(request.body.decode())).get("_token") or request.headers.get("x-csrf-token")
        token = sent or request.headers.get("x-xsrf-token")
        return not session or token != self._token(session) or not self.switches.stateful

    def _log_in(self, request: Request) -> Answer:
        if self._forged(request):
            return self._refused(request, 419)
        form = dict(parse_qsl(request.body.decode()))
        number = form.get("email", "").partition("@")[0].removeprefix("user-")
        if form.get("password") != f"secret-{number}":
            return self._refused(request, 422)
        self.sessions[request.cookies["shop_session"]] = int(number)
        return Answer(302, b"", [("Location", "/dashboard")])

    def _refused(self, request: Request, status: int) -> Answer:
        messages = {401: "Unauthenticated.", 403: "This action is unauthorized.", 404: "Not Found", 419: "CSRF token mismatch."}
        messages |= {422: "These credentials do not match our records.", 429: "Too Many Attempts.", 500: "Server Error"}
        if status == 302:
            return Answer(302, b"", [("Location", "/login")])
        if "json" in request.headers.get("accept", ""):
            return as_json({"message": messages.get(status, "?")}, status)
        return as_html(messages.get(status, "?"), status)

    # ---- the pattern

    def _authorise(self, request: Request) -> Answer:
        s, user = self.switches, self._user(request)
        if s.auth:
            return self._refused(request, s.auth)
        if request.headers.get("authorization", "").startswith("Bearer") and not s.tokens:
            return self._refused(request, 302)
        if not user:
            return self._refused(request, int(s.guests))
        form = dict(parse_qsl(request.body.decode()))
        channel = form["channel_name"]
        server = self.servers.get(channel.partition(f"private-{s.kind}.")[2])
        if channel != f"private-{s.kind}" and (server is None or (server.owner != user and not s.everybody)):
            return self._refused(request, 403)
        signature = channel_auth(self.target.key, s.secret or self.target.secret, form["socket_id"], channel)
        return as_json({"auth": signature})

    def _show(self, request: Request, id: str) -> Answer:
        s, user, server = self.switches, self._user(request), self.servers.get(id)
        if s.refetch:
            return self._refused(request, s.refetch)
        if not user:
            return self._refused(request, 401)
        if server is None or server.owner != user:
            return self._refused(request, 404 if server is None else 403)
        limit = (
            [("X-RateLimit-Limit", str(s.rate_limit)), ("X-RateLimit-Remaining", str(s.rate_limit - 1))] if s.rate_limit else []
        )
        tree = self.resource(server)
        return as_json({"data": tree} if s.wrapped else tree, 200, *limit)

    def resource(self, server: Server) -> dict[str, Any]:
        tree: dict[str, Any] = {"id": server.id, "status": server.status}
        if self.switches.stamps == "counter":
            return tree | {"version": server.changes}
        timespec = "seconds" if self.switches.stamps == "seconds" else "microseconds"
        return tree | {"updated_at": datetime.fromtimestamp(server.at, UTC).isoformat(timespec=timespec).replace("+00:00", "Z")}

    def _page(self, request: Request, id: str) -> Answer:
        """An Inertia page: HTML at first, JSON afterwards, 409 when the assets have changed."""
        server = self.servers[id]
        page = {
            "component": "Servers/Show",
            "props": {"server": self.resource(server)},
            "url": request.path,
            "version": "assets-2",
        }
        if "x-inertia" not in request.headers:
            text = json.dumps(page).replace("&", "&amp;").replace('"', "&quot;")
            return Answer(200, f'<div id="app" data-page="{text}"></div>'.encode(), [("Content-Type", "text/html")])
        if request.headers.get("x-inertia-version") != page["version"]:
            return Answer(409, b"", [("X-Inertia-Location", request.path)])
        return as_json(page, 200, ("X-Inertia", "true"), ("Vary", "X-Inertia"))

    async def _change(self, request: Request, id: str) -> Answer:
        s, user, server = self.switches, self._user(request), self.servers.get(id)
        await asyncio.sleep(s.slow)
        if s.change:
            return self._refused(request, s.change)
        if self._forged(request):
            return self._refused(request, 419)
        if not user or server is None or server.owner != user:
            return self._refused(request, 401 if not user else 403)
        changed = json.loads(request.body)["status"] != server.status
        if not changed:
            return as_json({"changed": False})
        if s.broadcast != "never" and s.moment == "on_save":
            await self._broadcast(server)
            await asyncio.sleep(s.commit)
        server.status, server.at = json.loads(request.body)["status"], time.time()
        server.changes += 1
        if s.broadcast == "queued":
            self._keep(asyncio.create_task(self._worker(server)))
        elif s.broadcast != "never" and s.moment == "after_commit" and not await self._broadcast(server):
            return self._refused(request, 500)
        if s.broadcast == "twice":
            await self._broadcast(server)
        return as_json({"data": self.resource(server)})

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._later.add(task)
        task.add_done_callback(self._later.discard)

    async def _worker(self, server: Server) -> None:
        await asyncio.sleep(self.switches.queue)
        await self._broadcast(server)

    async def _broadcast(self, server: Server) -> bool:
        s, now = self.switches, time.time_ns()
        channels = [f"private-{s.kind}.{server.id}", f"private-{s.kind}"][: 2 if s.channels == "both" else 1]
        payload = {"server_id": server.id, "timestamp": datetime.now(UTC).isoformat(timespec="seconds")}
        payload |= {"padding": "x" * s.payload} if s.payload else {}
        name = "ServerUpdated" if s.broadcast_as else "App\\Events\\ServerUpdated"
        connection = HttpConnection(HttpOrigin.parse(self.target.http_url), 2.0)
        answer = await connection.request(*signed_event(self.target, name, channels, payload, now))
        connection.close()
        return answer.ok


@contextlib.asynccontextmanager
async def application(switches: Switches, target: Target) -> AsyncIterator[tuple[Application, int]]:
    """Serve while the block runs; yields it and its port."""
    served = Application(switches, target)
    async with listening(served.connected) as port:
        yield served, port
