"""The Inertia protocol's server side: which props a visit gets, and when it must load the page anew.

Props are functions, called only when they are asked for; so a partial reload pays for what it shows and for nothing else.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from typing import Any

from sim.brokeforge.http import HttpError, Request, Response, json_response

Props = Mapping[str, Callable[[], Any]]

VARY = ("Vary", "X-Inertia")
ALWAYS = frozenset({"errors"})


def is_inertia(request: Request) -> bool:
    return request.headers.get("x-inertia") == "true"


def wants_document(request: Request) -> bool:
    """Whether a browser loads the page as a whole: it asks for HTML, and not as Inertia."""
    return "text/html" in request.headers.get("accept", "") and not is_inertia(request)


def document(page: Response) -> Response:
    """The whole page around the page object of *page*, as a browser loads it first."""
    data = html.escape(page.body.decode(), quote=True)
    body = f'<!DOCTYPE html><html><body><div id="app" data-page="{data}"></div></body></html>'.encode()
    return Response(200, body, (("Content-Type", "text/html; charset=utf-8"), VARY))


def check_version(request: Request, version: str) -> None:
    """Raises 409 for an Inertia GET made by a page of another asset version (a missing header is the version "").

    Laravel's adapters ask this after the controller ran, so there a 409 costs a whole refetch; here it costs nothing.
    """
    if request.method == "GET" and is_inertia(request) and request.headers.get("x-inertia-version", "") != version:
        raise Conflict(request)


class Conflict(HttpError):
    """Answered with an empty body and the address to load."""

    def __init__(self, request: Request) -> None:
        location = f"http://{request.headers.get('host', 'localhost')}{url(request)}"
        super().__init__(409, headers=(("X-Inertia-Location", location), VARY))

    def response(self) -> Response:
        return Response(409, b"", self.headers)


def url(request: Request) -> str:
    return f"{request.path}?{request.query}" if request.query else request.path


def render(request: Request, component: str, props: Props, version: str) -> Response:
    """The page object. Partial (`only`, then `except`) if the visit comes from this very component, else whole."""
    names = set(props)
    if request.headers.get("x-inertia-partial-component") == component:
        if only := _names(request, "x-inertia-partial-data"):
            names &= only
        names -= _names(request, "x-inertia-partial-except")
    page = {
        "component": component,
        "props": {"errors": {}} | {name: prop() for name, prop in props.items() if name in names},
        "url": url(request),
        "version": version,
        "clearHistory": False,
        "encryptHistory": False,
    }
    return json_response(page, headers=(("X-Inertia", "true"), VARY))


def _names(request: Request, header: str) -> set[str]:
    """The props a header names; of a dotted name (`server.rules`) the top one, as props are made whole."""
    return {name.strip().partition(".")[0] for name in request.headers.get(header, "").split(",") if name.strip()}
