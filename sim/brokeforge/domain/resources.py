"""What a page shows, made in one place from a handful of statements, however many rows there are."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from functools import lru_cache
from operator import attrgetter
from typing import Any

from sqlalchemy import Connection, Row, Select

from sim.brokeforge.domain import queries

AnyRow = Row[*tuple[Any, ...]]


@lru_cache(maxsize=65_536)
def iso(at: int | None) -> str | None:
    """Carbon's `toISOString`: microseconds, UTC. Kept, because a page shows the same instants again at each refetch."""
    if at is None:
        return None
    seconds, micros = divmod(at, 1_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat()}.{micros:06d}Z"


def find_server(db: Connection, id: int) -> AnyRow | None:
    """A server's row with its firewall; read first, because it holds the version."""
    return db.execute(queries.SERVER, {"id": id}).one_or_none()


def find_site(db: Connection, id: int) -> AnyRow | None:
    return db.execute(queries.SITE, {"id": id}).one_or_none()


INSTANTS = frozenset({"created_at", "updated_at", "completed_at", "last_deployed_at", "measured_at"})
STATUSES = ("monitoring_status", "scheduler_status", "supervisor_status")


def shown(row: Any, *names: str) -> dict[str, Any]:
    """The named columns (two or more) of a row or a model as a page shows them: an empty text as null, an instant as ISO 8601."""
    values = attrgetter(*names)(row)
    found = dict(zip(names, values, strict=True))
    if "" in values:
        found |= {name: None for name, value in found.items() if value == ""}
    for name in INSTANTS & found.keys():
        found[name] = iso(found[name])
    return found


_COLUMNS = {
    statement: tuple(statement.selected_columns.keys())
    for statement in (queries.RULES, queries.EVENTS, queries.METRICS, queries.RECENT)
}
"""Of the statements that give rows. Known beforehand: a page is made of many rows, and each result would be asked anew."""


def _rows(db: Connection, statement: Select[Any], **parameters: Any) -> list[dict[str, Any]]:
    """All rows of a statement whose texts are never empty, and whose last column is an instant."""
    names = _COLUMNS[statement]
    found = [dict(zip(names, row)) for row in db.execute(statement, parameters).all()]  # noqa: B905 - a row has as many
    for row in found:
        row[names[-1]] = iso(row[names[-1]])
    return found


def server_resource(db: Connection, server: AnyRow) -> dict[str, Any]:
    """The whole server page: three statements besides the row's own."""
    return {
        **shown(server, "id", "vanity_name", "connection", "provision_status", "provision", *STATUSES),
        **_firewall(db, server),
        "latestMetrics": next(iter(_rows(db, queries.METRICS, server=server.id)), None),
        **shown(server, "version", "created_at", "updated_at"),
    }


def firewall_resource(db: Connection, server: AnyRow) -> dict[str, Any]:
    """The firewall page: its server's name, the firewall, the rules, what happened."""
    return {**shown(server, "id", "vanity_name"), **_firewall(db, server), "version": server.version}


def _firewall(db: Connection, server: AnyRow) -> dict[str, Any]:
    """The firewall with its rules, newest first, and what happened last on the server."""
    installed = server.firewall_id is not None
    return {
        "isFirewallInstalled": installed,
        "firewallStatus": server.firewall_status,
        "rules": _rows(db, queries.RULES, firewall=server.firewall_id) if installed else [],
        "recentEvents": _rows(db, queries.EVENTS, server=server.id),
    }


def site_resource(site: AnyRow) -> dict[str, Any]:
    return {
        "id": site.id,
        "server": {"id": site.server_id, "vanity_name": site.server_name},
        **shown(site, "domain", "status", "health", "git_status", "ssl_enabled", "last_deployed_at"),
        **shown(site, "version", "created_at", "updated_at"),
    }


def task_resource(task: AnyRow) -> dict[str, Any]:
    """As `TaskCompleted` has it, and where it runs."""
    return {
        **shown(task, "id", "server_id", "name", "status"),
        "completed": task.status == "completed",
        **shown(task, "completed_at", "version", "created_at"),
    }


def count_servers(db: Connection, user_id: int, everyone: bool = False) -> int:
    """Servers of the user, or of everyone."""
    statement = queries.SERVERS_OF_EVERYONE if everyone else queries.SERVERS_OF
    return int(db.execute(statement, {} if everyone else {"user": user_id}).scalar_one())


def dashboard_resource(db: Connection, user_id: int, everyone: bool = False) -> dict[str, Any]:
    """Five latest servers and sites, recent activities. *everyone*: without asking whose they are (the leak).

    Its version is the sequence number of the newest change among what it shows: the user's servers and sites, or everyone's.
    """
    whose = {} if everyone else {"user": user_id}
    # Read first, as every version; nothing of this user's has changed yet: 0.
    newest = queries.NEWEST_OF_EVERYONE if everyone else queries.NEWEST_OF
    version = db.execute(newest, {} if everyone else {"counter": queries.newest_of(user_id)}).scalar_one_or_none() or 0
    domains: dict[int, list[str]] = defaultdict(list)
    for server, domain in db.execute(queries.DOMAINS_OF_EVERYONE if everyone else queries.DOMAINS, whose).all():
        domains[server].append(domain)
    servers = db.execute(queries.LATEST_SERVERS_OF_EVERYONE if everyone else queries.LATEST_SERVERS, whose).all()
    sites = db.execute(queries.LATEST_SITES_OF_EVERYONE if everyone else queries.LATEST_SITES, whose).all()
    return {
        "servers": [
            {
                "id": s.id,
                "name": s.vanity_name,
                **shown(s, "provision_status", "connection", *STATUSES),
                "sites": domains.get(s.id, []),
                "version": s.version,
            }
            for s in servers
        ],
        "sites": [
            {
                "id": s.id,
                "domain": s.domain,
                "server": {"id": s.server_id, "name": s.server_name},
                **shown(s, "status", "health", "git_status", "ssl_enabled", "last_deployed_at", "version"),
            }
            for s in sites
        ],
        "activities": _rows(db, queries.RECENT, user=user_id),
        "version": version,
    }
