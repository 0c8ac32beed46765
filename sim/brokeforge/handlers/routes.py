"""The table of routes, and the walk from a path to a handler."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sim.brokeforge.handlers import changes, live_board, pages, work
from sim.brokeforge.http import HttpError

Handler = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Route:
    """`{id}` is a number, `{step}` any text without a slash; they are the handler's last arguments, in order."""

    method: str
    pattern: str
    handler: Handler
    guarded: bool = True
    """Needs a user: 401 without one."""


ROUTES = (
    Route("GET", "/up", pages.up, guarded=False),
    Route("GET", "/metrics", pages.metrics, guarded=False),
    Route("POST", "/broadcasting/auth", pages.broadcasting_auth),
    Route("GET", "/broadcasting/auth", pages.broadcasting_auth),
    Route("GET", "/dashboard", pages.dashboard),
    Route("GET", "/servers/{id}", pages.server),
    Route("GET", "/servers/{id}/firewall", pages.firewall),
    Route("GET", "/sites/{id}", pages.site),
    Route("GET", "/tasks/{id}", pages.task),
    Route("POST", "/servers", changes.create_server),
    Route("PATCH", "/servers/{id}", changes.update_server),
    Route("PUT", "/servers/{id}/provision/{step}", changes.update_step),
    Route("DELETE", "/servers/{id}", changes.delete_server),
    Route("POST", "/servers/{id}/sites", changes.create_site),
    Route("PATCH", "/sites/{id}", changes.update_site),
    Route("DELETE", "/sites/{id}", changes.delete_site),
    Route("POST", "/servers/{id}/firewall/rules", changes.create_rule),
    Route("PATCH", "/servers/{id}/firewall/rules/{id}", changes.update_rule),
    Route("DELETE", "/servers/{id}/firewall/rules/{id}", changes.delete_rule),
    Route("PATCH", "/servers/{id}/firewall", changes.update_firewall),
    Route("DELETE", "/servers/{id}/firewall", changes.delete_firewall),
    Route("POST", "/servers/{id}/events", changes.create_event),
    Route("POST", "/servers/{id}/tasks", changes.create_task),
    Route("PATCH", "/tasks/{id}", changes.update_task),
    Route("POST", "/servers/{id}/jobs", work.start_job),
    *(Route(method, pattern, handler, guarded=False) for method, pattern, handler in live_board.ROUTES),
)


class Router:
    """Routes by number of segments and first segment; a handful of comparisons per request."""

    def __init__(self) -> None:
        self._shapes: dict[tuple[int, str], dict[tuple[str, ...], dict[str, Route]]] = {}
        for route in ROUTES:
            segments = tuple(route.pattern[1:].split("/"))
            self._shapes.setdefault((len(segments), segments[0]), {}).setdefault(segments, {})[route.method] = route

    def find(self, method: str, path: str) -> tuple[Route, list[Any]]:
        """The route and its arguments. Raises `HttpError` 404, or 405 with Allow."""
        segments = path[1:].split("/")
        for pattern, methods in self._shapes.get((len(segments), segments[0]), {}).items():
            arguments = _match(pattern, segments)
            if arguments is None:
                continue
            route = methods.get("GET" if method == "HEAD" else method)
            if route is None:
                allowed = sorted({*methods, *(["HEAD"] if "GET" in methods else [])})
                raise HttpError(405, f"{method} is not allowed here.", headers=(("Allow", ", ".join(allowed)),))
            return route, arguments
        raise HttpError(404, f"There is nothing at {path[:200]}.")


def _match(pattern: tuple[str, ...], segments: list[str]) -> list[Any] | None:
    arguments: list[Any] = []
    for wanted, got in zip(pattern, segments, strict=True):
        if wanted == "{id}":
            if not (got.isascii() and got.isdigit() and len(got) < 19):
                return None
            arguments.append(int(got))
        elif wanted[0:1] == "{":
            arguments.append(got)
        elif wanted != got:
            return None
    return arguments
