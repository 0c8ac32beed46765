"""The routes that read: pages, channel authorisation, health and metrics."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from sim.brokeforge.broadcasting.channels import Person, authorise
from sim.brokeforge.context import Context
from sim.brokeforge.domain import queries, resources
from sim.brokeforge.handlers import inertia
from sim.brokeforge.http import HttpError, Request, Response, json_response

PRIVATE = ("Cache-Control", "no-cache, private")


def dashboard(app: Context, request: Request, user: Person) -> Response:
    everyone = app.api.dashboard_of == "everyone"
    db = app.database.read()
    response = _page(app, request, user, "dashboard", "dashboard", lambda: resources.dashboard_resource(db, user.id, everyone))
    if app.api.service_per_row > 0:
        response.rows = resources.count_servers(db, user.id, everyone)
    return response


def server(app: Context, request: Request, user: Person, id: int) -> Response:
    db = app.database.read()
    row = owned(user, "server", id, resources.find_server(db, id))
    return _page(app, request, user, "servers/show", "server", lambda: resources.server_resource(db, row))


def firewall(app: Context, request: Request, user: Person, id: int) -> Response:
    db = app.database.read()
    row = owned(user, "server", id, resources.find_server(db, id))
    return _page(app, request, user, "servers/firewall", "server", lambda: resources.firewall_resource(db, row))


def site(app: Context, request: Request, user: Person, id: int) -> Response:
    row = owned(user, "site", id, resources.find_site(app.database.read(), id))
    return _page(app, request, user, "sites/show", "site", lambda: resources.site_resource(row))


def task(app: Context, request: Request, user: Person, id: int) -> Response:
    """What a page shows until `TaskCompleted` brings the rest with it: the one resource that is broadcast whole."""
    row = owned(user, "task", id, app.database.read().execute(queries.TASK, {"id": id}).one_or_none())
    return _page(app, request, user, "tasks/show", "task", lambda: resources.task_resource(row))


def broadcasting_auth(app: Context, request: Request, user: Person) -> Response:
    fields = request.form()
    return json_response(authorise(app.channels, app.database.read(), user, app.key, app.secret, fields))


def up(app: Context, request: Request) -> Response:
    return json_response({"health": "OK"})


def metrics(app: Context, request: Request) -> Response:
    return Response(200, app.metrics.render().encode(), (("Content-Type", "text/plain; version=0.0.4; charset=utf-8"),))


def owned(user: Person, kind: str, id: int, row: resources.AnyRow | None) -> resources.AnyRow:
    """The row, where it is the user's. Raises `HttpError` 404, or 403 when it is another user's."""
    if row is None:
        raise HttpError(404, f"No {kind} {id}.")
    if row.user_id != user.id:
        raise HttpError(403, "Forbidden.")
    return row


def _page(
    app: Context, request: Request, user: Person, component: str, name: str, prop: Callable[[], dict[str, Any]]
) -> Response:
    """The page as Inertia wants it (a whole document first), or as plain JSON with an ETag."""
    whole = inertia.wants_document(request)
    if whole or inertia.is_inertia(request):
        inertia.check_version(request, app.asset_version)
        # Shared with every page, as Laravel's HandleInertiaRequests does.
        shared = {"auth": lambda: {"user": {"id": user.id, "name": user.name}}}
        page = inertia.render(request, component, {name: prop, **shared}, app.asset_version)
        return inertia.document(page) if whole else page
    response = json_response(prop())
    etag = f'"{hashlib.blake2b(response.body, digest_size=8).hexdigest()}"'
    response.headers += (("ETag", etag), PRIVATE, inertia.VARY)
    return response


def unless_known(request: Request, response: Response) -> Response:
    """*response*, or 304 where the client says that it has it (RFC 9110 §13.1.2). Decided last, as an answer may be shared."""
    etag = next((value for name, value in response.headers if name == "ETag"), None)
    if response.status != 200 or etag is None or not matches(request.headers.get("if-none-match", ""), etag):
        return response
    return Response(304, b"", tuple(header for header in response.headers if header[0] != "Content-Type"))


def matches(header: str, etag: str) -> bool:
    """Whether If-None-Match names *etag* (weak comparison, RFC 9110 §13.1.2)."""
    return any(tag.strip().removeprefix("W/") in (etag, "*") for tag in header.split(","))
