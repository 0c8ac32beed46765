"""`POST /servers/{id}/jobs`: begin long work on a server. The answer is 202: what comes of it, the models tell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import select

from sim.brokeforge.broadcasting.channels import Person
from sim.brokeforge.context import Context
from sim.brokeforge.domain import resources
from sim.brokeforge.domain.models import ServerFirewall, ServerFirewallRule, ServerSite
from sim.brokeforge.handlers import validation as v
from sim.brokeforge.handlers.pages import owned
from sim.brokeforge.http import HttpError, Request, Response, invalid, json_response
from sim.brokeforge.jobs import DatabaseOperation, DeploySite, InstallPackage, InstallRule, Job, ProvisionServer, StreamLog
from sim.errors import BadInput
from sim.workload import load_trace

FIELDS: dict[str, v.Rule] = {
    "job": v.one_of("provision", "package", "rule", "deploy", "database", "log"),
    "trace": v.text(80),
    "speed": v.number(0.1, 1000),
    "package": v.one_of("monitoring", "scheduler", "supervisor"),
    "rule": v.whole(1, 2**53),
    "site": v.whole(1, 2**53),
    "name": v.text(80),
    "seconds": v.number(0.1, 600),
    "lines": v.whole(1, 10_000),
    "per_second": v.number(0.1, 200),
    "fails": v.boolean,
}


def start_job(app: Context, request: Request, user: Person, id: int) -> Response:
    """Begin the job that the body names: `{"job": "provision", "trace": "stack", "speed": 20}`."""
    fields = v.validate(request.json(), FIELDS, required=("job",))
    owned(user, "server", id, resources.find_server(app.database.read(), id))
    name = fields.pop("job")
    make, allowed = _JOBS[name]
    if stray := sorted(fields.keys() - allowed):
        raise invalid(
            {stray[0]: [f"The {stray[0]} field does not belong to the job {name} (it takes {', '.join(sorted(allowed))})."]}
        )
    job = make(app, id, fields)
    if app.start is None or not app.start(job):
        raise HttpError(503, "Too many jobs are running.", headers=(("Retry-After", "5"),))
    return json_response({"job": name, "server": id}, 202)


def _provision(app: Context, server: int, fields: dict[str, Any]) -> Job:
    name = fields.pop("trace", "stack")
    # A name from data/traces, never a path of whoever asks.
    if "/" in name or "." in name:
        raise invalid({"trace": ["The trace field must be the name of a recorded trace."]})
    try:
        return ProvisionServer(server, load_trace(name), **fields)
    except BadInput as error:
        raise invalid({"trace": [f"There is no trace {name}."]}) from error


def _rule(app: Context, server: int, fields: dict[str, Any]) -> Job:
    wanted = fields.pop("rule", None)
    found = app.database.read().scalar(
        select(ServerFirewallRule.id)
        .join(ServerFirewall, ServerFirewall.id == ServerFirewallRule.firewall_id)
        .where(ServerFirewall.server_id == server, ServerFirewallRule.id == wanted)
    )
    if found is None:
        raise invalid({"rule": [f"The rule field must be the id of a firewall rule of server {server}."]})
    return InstallRule(server, found, **fields)


def _deploy(app: Context, server: int, fields: dict[str, Any]) -> Job:
    wanted = fields.pop("site", None)
    sites = select(ServerSite.id).where(ServerSite.server_id == server).order_by(ServerSite.id)
    found = app.database.read().scalar(sites if wanted is None else sites.where(ServerSite.id == wanted))
    if found is None:
        raise invalid({"site": [f"The site field must be the id of a site on server {server}."]})
    return DeploySite(found, **fields)


def _package(app: Context, server: int, fields: dict[str, Any]) -> Job:
    return InstallPackage(server, fields.pop("package", "monitoring"), **fields)


_JOBS: dict[str, tuple[Callable[[Any, int, dict[str, Any]], Job], set[str]]] = {
    "provision": (_provision, {"trace", "speed"}),
    "package": (_package, {"package", "seconds", "fails"}),
    "rule": (_rule, {"rule", "seconds", "fails"}),
    "deploy": (_deploy, {"site", "seconds", "fails"}),
    "database": (lambda app, server, fields: DatabaseOperation(server, **fields), {"name", "seconds", "fails"}),
    "log": (lambda app, server, fields: StreamLog(server, **fields), {"lines", "per_second"}),
}
