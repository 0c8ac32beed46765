"""The statements that pages and authorisation read with: built once, compiled once, never one per row."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, bindparam, func, select, update

from sim.brokeforge.domain.models import (
    Activity,
    Counter,
    Server,
    ServerEvent,
    ServerFirewall,
    ServerFirewallRule,
    ServerMetric,
    ServerSite,
    Task,
    User,
)

RECENT_EVENTS = 10
LATEST = 5
"""Servers and sites on a dashboard."""
RECENT_ACTIVITIES = 10

_users, _servers, _sites = User.__table__.c, Server.__table__.c, ServerSite.__table__.c
_firewalls, _rules = ServerFirewall.__table__.c, ServerFirewallRule.__table__.c
_tasks = Task.__table__.c
_events, _metrics, _activities = ServerEvent.__table__.c, ServerMetric.__table__.c, Activity.__table__.c

USER_BY_TOKEN = select(_users.id, _users.name).where(_users.token == bindparam("token"))
SEQUENCE = select(Counter.value).where(Counter.name == "sequence")
NEWEST_OF = select(Counter.value).where(Counter.name == bindparam("counter"))
NEWEST_OF_EVERYONE = select(func.max(Counter.value)).where(Counter.name != "sequence")
"""Of the users' counters: the end of a task has a sequence number too, and is on no dashboard."""
SET_NEWEST = update(Counter).where(Counter.name == bindparam("counter")).values(value=bindparam("sequence"))
COUNT_UP = update(Counter).where(Counter.name == "sequence").values(value=Counter.value + bindparam("by"))
COUNT_UP_RETURNING = COUNT_UP.returning(Counter.value)
"""For the databases that can (MariaDB cannot: update, then read one's own write)."""

SERVER = (
    select(*_servers, _firewalls.id.label("firewall_id"), _firewalls.status.label("firewall_status"))
    .select_from(Server.__table__.outerjoin(ServerFirewall.__table__))
    .where(_servers.id == bindparam("id"))
)
"""A server and its firewall."""

RULES = (
    select(
        *(_rules.id, _rules.name, _rules.port, func.nullif(_rules.from_ip_address, "").label("from_ip_address")),
        *(_rules.rule_type, _rules.status, _rules.created_at),
    )
    .where(_rules.firewall_id == bindparam("firewall"))
    .order_by(_rules.id.desc())
)
EVENTS = (
    select(_events.id, _events.kind, _events.message, _events.created_at)
    .where(_events.server_id == bindparam("server"))
    .order_by(_events.id.desc())
    .limit(RECENT_EVENTS)
)
METRICS = (
    select(_metrics.cpu, _metrics.memory, _metrics.disk, _metrics.created_at.label("measured_at"))
    .where(_metrics.server_id == bindparam("server"))
    .order_by(_metrics.id.desc())
    .limit(1)
)

_all_sites = select(*_sites, _servers.vanity_name.label("server_name")).select_from(
    ServerSite.__table__.join(Server.__table__, _sites.server_id == _servers.id)
)
SITE = _all_sites.where(_sites.id == bindparam("id"))

# Not the provision steps, which no dashboard shows.
_all_servers = select(*(column for column in _servers if column is not _servers.provision))
SERVERS_OF_EVERYONE = select(func.count()).select_from(Server.__table__)
SERVERS_OF = SERVERS_OF_EVERYONE.where(_servers.user_id == bindparam("user"))
LATEST_SERVERS = _all_servers.where(_servers.user_id == bindparam("user")).order_by(_servers.id.desc()).limit(LATEST)
LATEST_SITES = _all_sites.where(_sites.user_id == bindparam("user")).order_by(_sites.id.desc()).limit(LATEST)
RECENT = (
    select(_activities.id, _activities.description, _activities.created_at)
    .where(_activities.user_id == bindparam("user"))
    .order_by(_activities.id.desc())
    .limit(RECENT_ACTIVITIES)
)
# The document's own dashboard: `Server::latest()->limit(5)`, which asks for nobody's servers in particular.
LATEST_SERVERS_OF_EVERYONE = _all_servers.order_by(_servers.id.desc()).limit(LATEST)
LATEST_SITES_OF_EVERYONE = _all_sites.order_by(_sites.id.desc()).limit(LATEST)


def _domains_of(servers: Select[Any]) -> Select[Any]:
    latest = servers.with_only_columns(_servers.id).subquery()
    return select(_sites.server_id, _sites.domain).where(_sites.server_id.in_(select(latest.c.id))).order_by(_sites.id)


DOMAINS = _domains_of(LATEST_SERVERS)
"""The sites of those servers: `Server::with('sites')`."""
DOMAINS_OF_EVERYONE = _domains_of(LATEST_SERVERS_OF_EVERYONE)


def newest_of(user_id: int) -> str:
    """The counter that holds the sequence number of the newest change of a user's servers and sites."""
    return f"user {user_id}"


OWNER_OF_SERVER = select(_servers.user_id).where(_servers.id == bindparam("id"))
OWNER_OF_SITE = select(_sites.user_id).where(_sites.id == bindparam("id"))
TASK = (
    select(_servers.user_id, *_tasks)
    .select_from(Task.__table__.join(Server.__table__, _tasks.server_id == _servers.id))
    .where(_tasks.id == bindparam("id"))
)
OWNER_OF_TASK = TASK.with_only_columns(_servers.user_id)
