"""The routes that change a model. None of them broadcasts: the models' own events do (`observers`).

Each takes the row of its resource with a lock, moves it, and answers `{"version", "sequence", "changed", "broadcast"}` and
the resource. `changed` is false when everything already was as asked: nothing is written then, and nothing is broadcast.
`broadcast` is true when an event was accepted or is still to be sent; false when there is none (a quiet change), when it was
dropped (`unique`) or given up.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session

from sim.brokeforge.broadcasting.channels import Person
from sim.brokeforge.context import Context
from sim.brokeforge.domain import change_set, queries
from sim.brokeforge.domain.database import locked
from sim.brokeforge.domain.models import (
    LIVE_KINDS,
    NAMES,
    Activity,
    Server,
    ServerEvent,
    ServerFirewall,
    ServerFirewallRule,
    ServerSite,
    Task,
)
from sim.brokeforge.domain.resources import shown
from sim.brokeforge.domain.statuses import TRANSITIONS, IllegalMove, move
from sim.brokeforge.handlers import validation as v
from sim.brokeforge.handlers.inertia import is_inertia
from sim.brokeforge.http import HttpError, Request, Response, invalid, json_response

Model = TypeVar("Model", Server, ServerSite, Task)

SERVER_FIELDS: dict[str, v.Rule] = {
    "vanity_name": v.text(120),
    "connection": v.status,
    "provision_status": v.status,
    "monitoring_status": v.status,
    "scheduler_status": v.status,
    "supervisor_status": v.status,
}
SITE_FIELDS: dict[str, v.Rule] = {
    "domain": v.text(190),
    "status": v.status,
    "health": v.status,
    "git_status": v.status,
    "ssl_enabled": v.boolean,
    "last_deployed_at": v.instant,
}
RULE_FIELDS: dict[str, v.Rule] = {
    "name": v.text(80),
    "port": v.port,
    "from_ip_address": v.address,
    "rule_type": v.one_of("allow", "deny"),
    "status": v.status,
}
EVENT_FIELDS: dict[str, v.Rule] = {"kind": v.one_of(*sorted(LIVE_KINDS)), "message": v.text(500)}
_STATUS = {ServerSite: "site", ServerFirewall: "firewall", ServerFirewallRule: "rule", Task: "task"}
"""Model -> its name in the table of status moves (`TRANSITIONS`)."""


def create_server(app: Context, request: Request, user: Person) -> Response:
    fields = v.validate(request.json(), {"vanity_name": SERVER_FIELDS["vanity_name"]}, required=("vanity_name",))
    with app.change(request) as session:
        now = app.now_us()
        server = Server(user_id=user.id, provision={}, version=0, created_at=now, updated_at=now, **fields)
        session.add(server)
        session.add(Activity(user_id=user.id, description=f"created server {server.vanity_name}", created_at=now))
    return _answer(app, request, session, server, status=201)


def update_server(app: Context, request: Request, user: Person, id: int) -> Response:
    fields = v.validate(request.json(), SERVER_FIELDS)
    with _changing(app, request, user, Server, id) as (session, server):
        _assign(server, fields)
        if session.is_modified(server):
            what = ", ".join(f"{name} {value or 'not installed'}" for name, value in fields.items())
            _note(app, session, server, "server", what)
    return _answer(app, request, session, server)


def update_step(app: Context, request: Request, user: Person, id: int, step: str) -> Response:
    if not v.STEP.fullmatch(step):
        raise invalid({"step": ["The step must be a number or a name of at most 64 letters, digits and . _ + : -"]})
    status = v.validate(request.json(), {"status": v.status}, required=("status",))["status"]
    with _changing(app, request, user, Server, id) as (session, server):
        try:
            server.put_step(step, status)
        except ValueError as error:
            raise invalid({"status": [f"The {error}."]}) from error
        if session.is_modified(server):
            _note(app, session, server, "provision", f"{step}: {status}")
    return _answer(app, request, session, server)


def delete_server(app: Context, request: Request, user: Person, id: int) -> Response:
    with _changing(app, request, user, Server, id) as (session, server):
        app.forget_history(session, server)
        session.delete(server)
        session.add(Activity(user_id=user.id, description=f"deleted server {server.vanity_name}", created_at=app.now_us()))
    return _answer(app, request, session, server)


def create_site(app: Context, request: Request, user: Person, id: int) -> Response:
    fields = v.validate(request.json(), {"domain": SITE_FIELDS["domain"]}, required=("domain",))
    with _changing(app, request, user, Server, id) as (session, server):
        now = app.now_us()
        site = ServerSite(server_id=server.id, user_id=user.id, version=0, created_at=now, updated_at=now, **fields)
        session.add(site)
        session.add(Activity(user_id=user.id, description=f"added site {site.domain}", created_at=now))
    return _answer(app, request, session, site, status=201)


def update_site(app: Context, request: Request, user: Person, id: int) -> Response:
    fields = v.validate(request.json(), SITE_FIELDS)
    with _changing(app, request, user, ServerSite, id) as (session, site):
        _assign(site, fields)
        if session.is_modified(site):
            site.updated_at = app.now_us()
    return _answer(app, request, session, site)


def delete_site(app: Context, request: Request, user: Person, id: int) -> Response:
    with _changing(app, request, user, ServerSite, id) as (session, site):
        session.delete(site)
        session.add(Activity(user_id=user.id, description=f"removed site {site.domain}", created_at=app.now_us()))
    return _answer(app, request, session, site)


def create_rule(app: Context, request: Request, user: Person, id: int) -> Response:
    """A rule starts `pending`; an installer (`sim.brokeforge.jobs`) or a PATCH moves it on."""
    rules = {name: rule for name, rule in RULE_FIELDS.items() if name != "status"}
    fields = v.validate(request.json(), rules, required=("name", "port"))
    with _changing(app, request, user, Server, id) as (session, server):
        now = app.now_us()
        if server.firewall is None:
            server.firewall = ServerFirewall(status="pending", created_at=now)
        rule = ServerFirewallRule(firewall=server.firewall, created_at=now, status="pending", **fields)
        session.add(rule)
        _note(app, session, server, "firewall", f"rule {rule.name}: pending")
    return _answer(app, request, session, server, rule, status=201)


def update_rule(app: Context, request: Request, user: Person, id: int, rule_id: int) -> Response:
    fields = v.validate(request.json(), RULE_FIELDS)
    with _changing(app, request, user, Server, id) as (session, server):
        rule = _rule_of(session, server, rule_id)
        _assign(rule, fields)
        if session.is_modified(rule):
            _note(app, session, server, "firewall", f"rule {rule.name}: {rule.status}")
    return _answer(app, request, session, server, rule)


def delete_rule(app: Context, request: Request, user: Person, id: int, rule_id: int) -> Response:
    with _changing(app, request, user, Server, id) as (session, server):
        rule = _rule_of(session, server, rule_id)
        session.delete(rule)
        _note(app, session, server, "firewall", f"rule {rule.name}: deleted")
    return _answer(app, request, session, server, rule)


def update_firewall(app: Context, request: Request, user: Person, id: int) -> Response:
    """Install, enable or disable the firewall as a whole."""
    fields = v.validate(request.json(), {"status": v.status}, required=("status",))
    with _changing(app, request, user, Server, id) as (session, server):
        firewall = _firewall_of(server)
        _assign(firewall, fields)
        if session.is_modified(firewall):
            _note(app, session, server, "firewall", f"firewall {firewall.status}")
    return _answer(app, request, session, server)


def delete_firewall(app: Context, request: Request, user: Person, id: int) -> Response:
    with _changing(app, request, user, Server, id) as (session, server):
        session.delete(_firewall_of(server))
        _note(app, session, server, "firewall", "firewall removed")
    return _answer(app, request, session, server)


def create_event(app: Context, request: Request, user: Person, id: int) -> Response:
    """Add a line to the server's history, of a log or of the progress of some work."""
    fields = v.validate(request.json(), EVENT_FIELDS, required=("kind", "message"))
    with _changing(app, request, user, Server, id) as (session, server):
        _note(app, session, server, fields["kind"], fields["message"])
    return _answer(app, request, session, server, status=201)


def create_task(app: Context, request: Request, user: Person, id: int) -> Response:
    """A task begins as `pending`; a PATCH ends it."""
    fields = v.validate(request.json(), {"name": v.text(120)}, required=("name",))
    with _changing(app, request, user, Server, id) as (session, server):
        task = Task(server=server, status="pending", created_at=app.now_us(), **fields)
        session.add(task)
    return _answer(app, request, session, server, task, status=201)


def update_task(app: Context, request: Request, user: Person, id: int) -> Response:
    """Move a task. Its end is broadcast whole (`TaskCompleted`), beside the `ServerUpdated` of its server, and is final.

    A recurring task may end any number of times, whatever its last status was, and changes nothing but itself.
    """
    fields = v.validate(request.json(), {"status": v.status}, required=("status",))
    with app.change(request) as session:
        task = session.get(Task, id)
        if task is None:
            raise HttpError(404, f"No task {id}.")
        resource: Server | Task
        resource = _lock(session, Task, id, user) if task.recurring else _lock(session, Server, task.server_id, user)
        session.refresh(task)
        ends = fields["status"] in ("completed", "failed")
        if task.recurring and ends:
            task.status = fields["status"]
        else:
            _assign(task, fields)
        if ends and (task.recurring or session.is_modified(task)):
            # Each end is another instant, however coarse the clock.
            task.completed_at = max(app.now_us(), (task.completed_at or 0) + 1)
    return _answer(app, request, session, resource, task)


@contextmanager
def _changing(app: Context, request: Request, user: Person, model: type[Model], id: int) -> Iterator[tuple[Session, Model]]:
    """A change on behalf of *request*, and the row that it changes, as `_lock` gives it."""
    with app.change(request) as session:
        yield session, _lock(session, model, id, user)


def _lock(session: Session, model: type[Model], id: int, user: Person) -> Model:
    """The row, locked until the end of the transaction. Raises `HttpError` 404, or 403 when it is another user's."""
    row = locked(session, model, id)
    if row is None:
        raise HttpError(404, f"No {NAMES[model]} {id}.")
    if row.user_id != user.id:
        raise HttpError(403, "Forbidden.")
    return row


def _firewall_of(server: Server) -> ServerFirewall:
    if server.firewall is None:
        raise HttpError(404, "This server has no firewall.")
    return server.firewall


def _rule_of(session: Session, server: Server, id: int) -> ServerFirewallRule:
    rule = session.scalar(
        select(ServerFirewallRule).where(
            ServerFirewallRule.id == id,
            ServerFirewallRule.firewall_id == (server.firewall.id if server.firewall else None),
        )
    )
    if rule is None:
        raise HttpError(404, f"Server {server.id} has no firewall rule {id}.")
    return rule


def _assign(model: Any, fields: dict[str, Any]) -> None:
    """Set *fields*; statuses by their table. Raises `HttpError` 422."""
    errors: dict[str, list[str]] = {}
    for name, value in fields.items():
        table = f"{_STATUS[type(model)]} status" if name == "status" else name
        try:
            setattr(model, name, move(table, getattr(model, name), value) if table in TRANSITIONS else value)
        except IllegalMove as error:
            errors[name] = [f"The {error}."]
    if errors:
        raise invalid(errors)


def _note(app: Context, session: Session, server: Server, kind: str, message: str) -> None:
    now = app.now_us()
    server.updated_at = now
    session.add(ServerEvent(server_id=server.id, kind=kind, message=message[:500], created_at=now))


def _answer(
    app: Context,
    request: Request,
    session: Session,
    resource: Server | ServerSite | Task,
    part: ServerFirewallRule | Task | None = None,
    status: int = 200,
) -> Response:
    done = change_set.of(session)
    changes = done.committed
    # Read after the commit, a number may already count others' changes; only an unchanged resource asks for it.
    sequence = changes[-1].sequence if changes else app.database.read().execute(queries.SEQUENCE).scalar_one()
    if is_inertia(request):
        back = request.headers.get("referer") or f"/{NAMES[type(resource)]}s/{resource.id}"
        return Response(303, b"", (("Location", back), ("Vary", "X-Inertia")))
    body: dict[str, Any] = {
        "version": next((c.version for c in changes if c.resource is resource), resource.version),
        "sequence": sequence,
        "changed": bool(changes),
        "broadcast": done.on_its_way,
    }
    if app.members:
        # For the client that made the change: instants in ns since 1970; null: not yet, or never.
        body |= {"committed_at": done.committed_at if changes else None, "published_at": done.published_at}
    if isinstance(resource, Server):
        body["server"] = shown(resource, "id", *SERVER_FIELDS, "provision", "version")
    elif isinstance(resource, ServerSite):
        body["site"] = shown(resource, "id", "server_id", *SITE_FIELDS, "version")
    if isinstance(part, Task):
        body["task"] = shown(part, "id", "name", "status")
    elif part is not None:
        body["rule"] = shown(part, "id", *RULE_FIELDS)
    return json_response(body, status)
