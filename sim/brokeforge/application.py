"""The application: one function from a request to a response, and what its handlers share.

`Application.handle` never raises. It may wait (for a lock, a slow database, the broadcaster), so whoever calls it decides on
which thread; `Application.waits` says of a request whether it could.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from sqlalchemy import delete
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from sim.brokeforge import observers, queries, resources
from sim.brokeforge.channels import SOCKET_ID, Person, application_channels
from sim.brokeforge.database import Database
from sim.brokeforge.dispatcher import Broadcaster, Cache, Dispatcher, MemoryCache, Queue
from sim.brokeforge.events import Event
from sim.brokeforge.http import MAX_BODY, HttpError, Request, Response, invalid
from sim.brokeforge.jobs import Job
from sim.brokeforge.limiter import Headers, RateLimiter
from sim.brokeforge.live_board import Board
from sim.brokeforge.metrics import Metrics
from sim.brokeforge.models import Server, ServerEvent, ServerMetric, Task
from sim.brokeforge.routes import Route, Router
from sim.scenario import Api, Broadcast

log = logging.getLogger("brokeforge")

ASSET_VERSION = "1"
"""What Inertia calls the version: pages loaded with another one must load anew."""


class Application:
    """*now*: ns since 1970. *wait*: how to sleep (seconds). *members*: whether measuring members go into payloads.

    *start*: begins a job in the background; False when it is too busy. None: there is nobody to run jobs.
    *board*: the page for eyes; None: there is none.
    """

    def __init__(
        self,
        database: Database,
        broadcaster: Broadcaster,
        queue: Queue,
        key: str,
        secret: str,
        now: Callable[[], int],
        wait: Callable[[float], None],
        broadcast: Broadcast | None = None,
        api: Api | None = None,
        cache: Cache | None = None,
        members: bool = False,
        start: Callable[[Job], bool] | None = None,
        board: Board | None = None,
        asset_version: str = ASSET_VERSION,
    ) -> None:
        self.database = database
        self.broadcast = broadcast or Broadcast()
        self.api = api or Api()
        self.key, self.secret = key, secret
        self.now, self.wait = now, wait
        self.members = members
        self.start = start
        self.board = board
        self.asset_version = asset_version
        self.metrics = Metrics()
        self.channels = application_channels()
        self.router = Router()
        self.limiter = RateLimiter(self.api.rate_limit, now) if self.api.rate_limit else None
        self._answers: dict[tuple[Any, ...], tuple[int, Response]] = {}
        self.dispatcher = Dispatcher(
            self.broadcast,
            broadcaster,
            queue,
            cache or MemoryCache(now),
            now,
            self.metrics,
            full=self._full,
            stamp=members,
        )
        observers.listen(
            database.sessions,
            observers.Observers(
                all_fields=self.broadcast.all_fields,
                documented_only=self.broadcast.listeners == "documented",
                provision_event=self.broadcast.provision_event,
                on_save=self.broadcast.moment == "on_save",
            ),
            self._dispatch,
            now,
        )

    def now_us(self) -> int:
        """The present as the database keeps it: microseconds since 1970."""
        return self.now() // 1_000

    def waits(self, request: Request) -> bool:
        """Whether *request* may wait for something else than the processor: then it wants a thread of its own."""
        if not self.database.embedded or self.api.database_latency > 0:
            return request.path not in ("/up", "/metrics")
        return request.method not in ("GET", "HEAD") and request.path != "/broadcasting/auth"

    def handle(self, request: Request) -> Response:
        """Answer *request*."""
        started = self.now()
        route: Route | None = None
        limits: Headers = ()
        try:
            if len(request.body) > MAX_BODY:
                raise HttpError(413, f"The body has more than {MAX_BODY} bytes.")
            route, arguments = self.router.find(request.method, request.path)
            if route.guarded:
                user = self._authenticate(request)
                if self.limiter is not None:
                    limits = self.limiter.hit(f"user {user.id}" if user else request.peer)
                response = self._answer(route, request, user, arguments)
            else:
                response = route.handler(self, request, *arguments)
        except HttpError as error:
            response = error.response()
            if error.status == 429:
                self.metrics.count("throttled_total")
        except (OperationalError, PoolTimeout) as error:
            log.error("%s %s: database: %s", request.method, request.path, getattr(error, "orig", error))
            response = HttpError(503, "The database does not answer in time.", headers=(("Retry-After", "1"),)).response()
        except Exception:
            log.exception("%s %s", request.method, request.path)
            response = HttpError(500, "Server Error").response()
        if limits:
            response = Response(response.status, response.body, (*response.headers, *limits))
        name = route.pattern if route else "none"
        self.metrics.count("http_requests_total", route=name, method=request.method, status=str(response.status))
        self.metrics.observe("http_request_seconds", (self.now() - started) / 1e9, route=name)
        return response

    def change(self, request: Request) -> AbstractContextManager[Session]:
        """A transaction on behalf of *request*; its model events know who sent it."""
        return self.transaction(socket_id=self._sender(request), members=self._members(request))

    @contextmanager
    def transaction(self, **info: Any) -> Iterator[Session]:
        """A change on nobody's behalf (a job's): committed and broadcast at the end of the block."""
        delay = self.broadcast.commit_delay
        with self.database.change((lambda: self.wait(delay)) if delay > 0 else None, **info) as session:
            yield session
        for change in session.info.get("changes", ()):
            kind = "server" if isinstance(change.resource, Server) else "site"
            self.metrics.count("changes_total", resource=kind)
            if not change.events:
                self.metrics.count("changes_quiet_total", resource=kind)
        published_at = session.info.get("published_at", 0)
        if published_at and (lead := session.info["committed_at"] - published_at) > 0:
            self.metrics.observe("broadcast_lead_seconds", lead / 1e9)

    def release(self) -> None:
        """This thread will not ask again: its connection goes back."""
        self.database.release()

    def forget_history(self, session: Session, server: Server) -> None:
        """Remove what a server's deletion would leave behind; bulk deletes, which raise no model events."""
        for model in (ServerEvent, ServerMetric, Task):
            session.execute(delete(model).where(model.server_id == server.id))

    def _authenticate(self, request: Request) -> Person:
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and token:
            row = self.database.read().execute(queries.USER_BY_TOKEN, {"token": token.strip()}).one_or_none()
            if row is not None:
                return Person(row.id, row.name)
        raise HttpError(401, "Unauthenticated.", headers=(("WWW-Authenticate", "Bearer"),))

    def _answer(self, route: Route, request: Request, user: Person, arguments: list[Any]) -> Response:
        """The handler's answer, or (`api.cache`) the one that the same user got for the same thing a moment ago."""
        if self.api.cache <= 0 or request.method != "GET" or route.pattern == "/broadcasting/auth":
            response: Response = route.handler(self, request, user, *arguments)
            return response
        asked = tuple(request.headers.get(name) for name in _SHAPING)
        key, now = (user.id, request.path, request.query, *asked), self.now()
        until, response = self._answers.get(key, (0, _EMPTY))
        if until <= now:
            response = route.handler(self, request, user, *arguments)
            if len(self._answers) > 10_000:
                self._answers.clear()
            self._answers[key] = (now + round(self.api.cache * 1e9), response)
        return response

    def _sender(self, request: Request) -> str | None:
        """Whom `toOthers` leaves out. Raises `HttpError` 422 for what no broadcaster would take."""
        socket_id = request.headers.get("x-socket-id")
        if socket_id is not None and self.broadcast.to_others and not SOCKET_ID.fullmatch(socket_id):
            raise invalid({"x-socket-id": ["The x-socket-id header must be two numbers joined by a dot."]})
        return socket_id

    def _members(self, request: Request) -> dict[str, Any]:
        """Members for measuring, from the load test's headers. Raises `HttpError` 422 when they are no numbers."""
        if not self.members:
            return {}
        members: dict[str, Any] = {}
        for header, name in (("x-workbench-update", "update"), ("x-workbench-sent", "sent_at")):
            if (text := request.headers.get(header)) is not None:
                if not text.isascii() or not text.isdigit() or len(text) > 19:
                    raise invalid({header: [f"The {header} header must be a whole number."]})
                members[name] = int(text)
        return members

    def _dispatch(self, change: observers.Change, info: dict[str, Any]) -> None:
        for event in change.events:
            accepted_at = self.dispatcher.dispatch(event, info.get("socket_id"), info.get("members"))
            info.setdefault("published_at", accepted_at)

    def _full(self, event: Event) -> dict[str, Any] | None:
        """The resource that a full payload carries, read when it is sent; None: there is none (any more)."""
        db = self.database.read()
        if event.resource == "server":
            row = resources.find_server(db, event.server_id)  # type: ignore[union-attr]
            return None if row is None else resources.server_resource(db, row)
        if event.resource == "site":
            row = resources.find_site(db, event.site_id)  # type: ignore[union-attr]
            return None if row is None else resources.site_resource(row)
        return None


_SHAPING = (
    "x-inertia",
    "x-inertia-version",
    "x-inertia-partial-component",
    "x-inertia-partial-data",
    "x-inertia-partial-except",
    "if-none-match",
)
_EMPTY = Response()
__all__ = ["ASSET_VERSION", "Application"]
