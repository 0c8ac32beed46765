"""What a page shows, made in one place from a handful of statements, however many rows there are."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Row

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


def server_resource(db: Connection, server: AnyRow) -> dict[str, Any]:
    """The whole server page: three statements besides the row's own."""
    return {
        "id": server.id,
        "vanity_name": server.vanity_name,
        "connection": server.connection,
        "provision_status": server.provision_status,
        "provision": server.provision,
        "monitoring_status": server.monitoring_status or None,
        "scheduler_status": server.scheduler_status or None,
        "supervisor_status": server.supervisor_status or None,
        "isFirewallInstalled": server.firewall_id is not None,
        "firewallStatus": server.firewall_status,
        "rules": rules(db, server.firewall_id),
        "recentEvents": [
            {"id": id, "kind": kind, "message": message, "created_at": iso(at)}
            for id, kind, message, at in db.execute(queries.EVENTS, {"server": server.id}).all()
        ],
        "latestMetrics": latest_metrics(db, server.id),
        "version": server.version,
        "created_at": iso(server.created_at),
        "updated_at": iso(server.updated_at),
    }


def firewall_resource(db: Connection, server: AnyRow) -> dict[str, Any]:
    """The firewall page: its server's name, the firewall, the rules, what happened."""
    return {
        "id": server.id,
        "vanity_name": server.vanity_name,
        "isFirewallInstalled": server.firewall_id is not None,
        "firewallStatus": server.firewall_status,
        "rules": rules(db, server.firewall_id),
        "recentEvents": [
            {"id": id, "kind": kind, "message": message, "created_at": iso(at)}
            for id, kind, message, at in db.execute(queries.EVENTS, {"server": server.id}).all()
        ],
        "version": server.version,
    }


def rules(db: Connection, firewall: int | None) -> list[dict[str, Any]]:
    """A firewall's rules, newest first; none without a firewall."""
    if firewall is None:
        return []
    return [
        {
            "id": id,
            "name": name,
            "port": port,
            "from_ip_address": address or None,
            "rule_type": kind,
            "status": status,
            "created_at": iso(at),
        }
        for id, name, port, address, kind, status, at in db.execute(queries.RULES, {"firewall": firewall}).all()
    ]


def latest_metrics(db: Connection, server: int) -> dict[str, Any] | None:
    row = db.execute(queries.METRICS, {"server": server}).one_or_none()
    return None if row is None else {"cpu": row.cpu, "memory": row.memory, "disk": row.disk, "measured_at": iso(row.created_at)}


def site_resource(site: AnyRow) -> dict[str, Any]:
    return {
        "id": site.id,
        "server": {"id": site.server_id, "vanity_name": site.server_name},
        "domain": site.domain,
        "status": site.status,
        "health": site.health,
        "git_status": site.git_status or None,
        "ssl_enabled": bool(site.ssl_enabled),
        "last_deployed_at": iso(site.last_deployed_at),
        "version": site.version,
        "created_at": iso(site.created_at),
        "updated_at": iso(site.updated_at),
    }


def task_resource(task: AnyRow) -> dict[str, Any]:
    """As `TaskCompleted` has it, and where it runs."""
    return {
        "id": task.id,
        "server_id": task.server_id,
        "name": task.name,
        "status": task.status,
        "completed": task.status == "completed",
        "completed_at": iso(task.completed_at),
        "version": task.version,
        "created_at": iso(task.created_at),
    }


def count_servers(db: Connection, user_id: int, everyone: bool = False) -> int:
    """Servers of the user, or of everyone."""
    statement = queries.SERVERS_OF_EVERYONE if everyone else queries.SERVERS_OF
    return int(db.execute(statement, {} if everyone else {"user": user_id}).scalar_one())


def dashboard_resource(db: Connection, user_id: int, everyone: bool = False) -> dict[str, Any]:
    """Five latest servers and sites, recent activities. *everyone*: without asking whose they are (the leak).

    Its version is the sequence number of the newest change among what it shows: the user's servers and sites, or everyone's.
    """
    who = {} if everyone else {"user": user_id}
    # Read first, as every version; nothing of this user's has changed yet: 0.
    newest = queries.NEWEST_OF_EVERYONE if everyone else queries.NEWEST_OF
    version = db.execute(newest, {} if everyone else {"counter": queries.newest_of(user_id)}).scalar_one_or_none() or 0
    domains: dict[int, list[str]] = defaultdict(list)
    for server, domain in db.execute(queries.DOMAINS_OF_EVERYONE if everyone else queries.DOMAINS, who).all():
        domains[server].append(domain)
    servers = db.execute(queries.LATEST_SERVERS_OF_EVERYONE if everyone else queries.LATEST_SERVERS, who).all()
    sites = db.execute(queries.LATEST_SITES_OF_EVERYONE if everyone else queries.LATEST_SITES, who).all()
    return {
        "servers": [
            {
                "id": s.id,
                "name": s.vanity_name,
                "provision_status": s.provision_status,
                "connection": s.connection,
                "monitoring_status": s.monitoring_status or None,
                "scheduler_status": s.scheduler_status or None,
                "supervisor_status": s.supervisor_status or None,
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
                "status": s.status,
                "health": s.health,
                "git_status": s.git_status or None,
                "ssl_enabled": bool(s.ssl_enabled),
                "last_deployed_at": iso(s.last_deployed_at),
                "version": s.version,
            }
            for s in sites
        ],
        "activities": [
            {"id": id, "description": text, "created_at": iso(at)}
            for id, text, at in db.execute(queries.RECENT, {"user": user_id}).all()
        ],
        "version": version,
    }
