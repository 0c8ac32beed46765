"""The application: from a request to a response, in two steps.

`arrive` decides what can be decided when a request comes: its route, and whether its user has attempts left. `answer` does the
work; it never raises, and it may wait (for a lock, a slow database, the broadcaster), so a caller decides on which thread, and
with how many workers (`sim.live.application.station`). `handle` is both, one after the other.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from sim.brokeforge.broadcasting.channels import Person
from sim.brokeforge.context import Context
from sim.brokeforge.domain import queries
from sim.brokeforge.handlers.pages import unless_known
from sim.brokeforge.handlers.routes import Route, Router
from sim.brokeforge.http import MAX_BODY, HttpError, Request, Response
from sim.brokeforge.limiter import Headers, RateLimiter

log = logging.getLogger("brokeforge")


@dataclass(slots=True)
class Visit:
    """A request that has arrived. `refusal`: it is answered by that, without any work."""

    request: Request
    arrived_at: int
    """ns since 1970."""
    route: Route | None = None
    arguments: list[Any] = field(default_factory=list)
    limits: Headers = ()
    """What is left of the user's attempts, for the answer's head."""
    refusal: HttpError | None = None

    @property
    def needs_worker(self) -> bool:
        """Pages, changes and channel authorisation are worked on by the application's workers; the rest is not."""
        return self.refusal is None and self.route is not None and self.route.guarded

    @property
    def changes(self) -> bool:
        """Whether it changes a model (or begins a job)."""
        return self.needs_worker and self.request.method not in ("GET", "HEAD") and self.request.path != AUTHORISATION

    @property
    def cache_key(self) -> tuple[Any, ...] | None:
        """What makes two refetches identical; None: no other request may have its answer."""
        request = self.request
        if not self.needs_worker or request.method != "GET" or request.path == AUTHORISATION:
            return None
        return (request.path, request.query, *(request.headers.get(name) for name in _SHAPING))


class Application(Context):
    """The context, and the routes through which it is reached."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.router = Router()
        self.limiter = RateLimiter(self.api.rate_limit, self.now) if self.api.rate_limit is not None else None

    def arrive(self, request: Request) -> Visit:
        """Take *request* up: find its route and count it. Never waits, and asks no database."""
        visit = Visit(request, self.now())
        try:
            if len(request.body) > MAX_BODY:
                raise HttpError(413, f"The body has more than {MAX_BODY} bytes.")
            visit.route, visit.arguments = self.router.find(request.method, request.path)
            # While the pages of a load test connect nothing takes time (`factor` 0), and nothing counts: the run begins later.
            if visit.route.guarded and self.limiter is not None and self.factor and not visit.changes:
                # A sample user has one token, so the token tells users apart as well as their id does.
                visit.limits = self.limiter.hit(request.headers.get("authorization") or request.peer)
        except HttpError as error:
            visit.refusal = error
        return visit

    def blocks(self, visit: Visit) -> bool:
        """Whether *visit* may wait for something else than the processor: then it wants a thread of its own."""
        if visit.refusal is not None:
            return False
        if not self.database.embedded or self.api.database_latency > 0:
            return visit.request.path not in ("/up", "/metrics")
        return visit.changes

    def answer(self, visit: Visit) -> Response:
        """Do the work of *visit*."""
        request = visit.request
        try:
            if visit.refusal is not None:
                raise visit.refusal
            assert visit.route is not None
            if visit.route.guarded:
                person = self._authenticate(request)
                self.database_outage.worked()
                response: Response = visit.route.handler(self, request, person, *visit.arguments)
            else:
                response = visit.route.handler(self, request, *visit.arguments)
        except HttpError as error:
            response = error.response()
        except (OperationalError, PoolTimeout) as error:
            self.database_outage.failed(f"{request.method} {request.path}: database: {getattr(error, 'orig', error)}")
            response = HttpError(503, "The database does not answer in time.", headers=(("Retry-After", "1"),)).response()
        except Exception:
            log.exception("%s %s", request.method, request.path)
            response = HttpError(500, "Server Error").response()
        return response

    def leave(self, visit: Visit, response: Response) -> Response:
        """Count *response* and give it what every answer to *visit* carries. The last thing before it is written."""
        response = unless_known(visit.request, response)
        name = visit.route.pattern if visit.route else "none"
        self.metrics.count("http_requests_total", route=name, method=visit.request.method, status=str(response.status))
        self.metrics.observe("http_request_seconds", (self.now() - visit.arrived_at) / 1e9, route=name)
        if response.status == 429:
            self.metrics.count("throttled_total")
        if visit.limits:
            return Response(response.status, response.body, (*response.headers, *visit.limits))
        return response

    def handle(self, request: Request) -> Response:
        """The whole way of *request*, without workers to wait for."""
        visit = self.arrive(request)
        return self.leave(visit, self.answer(visit))

    def _authenticate(self, request: Request) -> Person:
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and token:
            row = self.database.read().execute(queries.USER_BY_TOKEN, {"token": token.strip()}).one_or_none()
            if row is not None:
                return Person(row.id, row.name)
        raise HttpError(401, "Unauthenticated.", headers=(("WWW-Authenticate", "Bearer"),))


AUTHORISATION = "/broadcasting/auth"

_SHAPING = (
    "accept",
    "authorization",
    "x-inertia",
    "x-inertia-version",
    "x-inertia-partial-component",
    "x-inertia-partial-data",
    "x-inertia-partial-except",
)
"""Headers that decide what an answer looks like."""
