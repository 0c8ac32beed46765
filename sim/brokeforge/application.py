"""The application: one function from a request to a response.

`Application.handle` never raises. It may wait (for a lock, a slow database, the broadcaster), so whoever calls it decides on
which thread; `Application.waits` says of a request whether it could.
"""

from __future__ import annotations

import logging
from typing import Any

from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from sim.brokeforge.broadcasting.channels import Person
from sim.brokeforge.context import Context
from sim.brokeforge.domain import queries
from sim.brokeforge.handlers.routes import Route, Router
from sim.brokeforge.http import MAX_BODY, HttpError, Request, Response
from sim.brokeforge.limiter import Headers, RateLimiter

log = logging.getLogger("brokeforge")


class Application(Context):
    """The context, and the routes through which it is reached."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """As `Context`."""
        super().__init__(*args, **kwargs)
        self.router = Router()
        self.limiter = RateLimiter(self.api.rate_limit, self.now) if self.api.rate_limit else None
        self._answers: dict[tuple[Any, ...], tuple[int, Response]] = {}

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


_SHAPING = (
    "x-inertia",
    "x-inertia-version",
    "x-inertia-partial-component",
    "x-inertia-partial-data",
    "x-inertia-partial-except",
    "if-none-match",
)
_EMPTY = Response()
