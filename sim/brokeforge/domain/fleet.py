"""Sample data: users with tokens, their servers and sites; on each server five rules, ten events and a backup that recurs.

Made once per database."""

from __future__ import annotations

import itertools
import random
import secrets
from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy import func, insert, select
from sqlalchemy.orm import Session

from sim.brokeforge.domain.models import (
    Activity,
    Server,
    ServerEvent,
    ServerFirewall,
    ServerFirewallRule,
    ServerMetric,
    ServerSite,
    Task,
    User,
)
from sim.scenario import Fleet

CHUNK = 5_000
"""Rows per INSERT: below SQLite's and PostgreSQL's limits on parameters, above the point where it matters."""

_ADJECTIVES, _NOUNS, _PEOPLE = map(
    str.split,
    (
        "amber bold calm deep eager fair glad hazel iron jolly keen lunar mild noble",
        "anchor beacon cedar delta ember falcon grove harbor island jasper kestrel lantern",
        "Ada Bo Cleo Dan Edith Finn Grace Hugo Iris Jon Kaya Liam Mara Nils Olga Paul",
    ),
)
_RULES = (
    ("SSH", "22", "allow"),
    ("HTTP", "80", "allow"),
    ("HTTPS", "443", "allow"),
    ("MySQL", "3306", "deny"),
    ("Redis", "6379", "deny"),
)
RULES, EVENTS = len(_RULES), 10
"""On each sample server."""


Rows = Iterator[dict[str, Any]]
"""Of one table; what a model has by default is left out."""


def seed(session: Session, fleet: Fleet, number: int, now_us: int) -> None:
    """Fill an empty database with *fleet*; names are drawn with seed *number*, tokens are not guessable. Does not commit.

    Sample data is inserted in bulk, which raises no model events.
    """
    draw = random.Random(f"fleet {number}")
    users = range(1, fleet.users + 1)
    owners = dict(enumerate((u for u in users for _ in range(fleet.servers_per_user)), start=1))
    _insert(session, User, ({"id": u, "name": _person(u), "token": secrets.token_urlsafe(24)} for u in users))
    _insert(session, Server, _servers(draw, owners, now_us))
    _insert(session, ServerFirewall, ({"id": s, "server_id": s, "status": "active", "created_at": now_us} for s in owners))
    _insert(session, ServerFirewallRule, _firewall_rules(owners, now_us))
    _insert(session, ServerEvent, _history(owners, now_us))
    _insert(session, ServerMetric, _metrics(draw, owners, now_us))
    _insert(session, Task, _backups(owners, now_us))
    _insert(session, ServerSite, _sites(draw, fleet, owners, now_us))
    _insert(session, Activity, ({"id": u, "user_id": u, "description": "signed up", "created_at": now_us} for u in users))
    _continue_numbering(session)


def _person(user: int) -> str:
    return f"{_PEOPLE[(user - 1) % len(_PEOPLE)]} {user}"


def _servers(draw: random.Random, owners: dict[int, int], now_us: int) -> Rows:
    alike = {
        "connection": "connected",
        "provision_status": "completed",
        "provision": {str(step): "completed" for step in range(1, 9)},
        "monitoring_status": "active",
        "scheduler_status": "active",
        "version": 1,
        "created_at": now_us,
        "updated_at": now_us,
    }
    for s, owner in owners.items():
        yield {"id": s, "user_id": owner, "vanity_name": f"{draw.choice(_ADJECTIVES)}-{draw.choice(_NOUNS)}-{s}", **alike}


def _firewall_rules(servers: Iterable[int], now_us: int) -> Rows:
    alike = {"status": "active", "created_at": now_us}
    for s in servers:
        for n, (name, port, kind) in enumerate(_RULES, start=1):
            yield {"id": (s - 1) * RULES + n, "firewall_id": s, "name": name, "port": port, "rule_type": kind, **alike}


def _history(servers: Iterable[int], now_us: int) -> Rows:
    for s in servers:
        for n in range(1, EVENTS + 1):
            message, at = f"step {n}: completed" if n < 9 else "server is ready", now_us - (EVENTS - n) * 1_000_000
            yield {"id": (s - 1) * EVENTS + n, "server_id": s, "kind": "provision", "message": message, "created_at": at}


def _metrics(draw: random.Random, servers: Iterable[int], now_us: int) -> Rows:
    ranges = {"cpu": (0.02, 0.6), "memory": (0.2, 0.8), "disk": (0.1, 0.7)}
    for s in servers:
        shares = {name: round(draw.uniform(*limits), 3) for name, limits in ranges.items()}
        yield {"id": s, "server_id": s, **shares, "created_at": now_us}


def _backups(servers: Iterable[int], now_us: int) -> Rows:
    alike = {"name": "backup", "status": "completed", "recurring": True, "version": 1}
    return ({"id": s, "server_id": s, **alike, "created_at": now_us, "completed_at": now_us} for s in servers)


def _sites(draw: random.Random, fleet: Fleet, owners: dict[int, int], now_us: int) -> Rows:
    """A user's sites go round their servers."""
    alike = {
        "status": "active",
        "health": "healthy",
        "git_status": "installed",
        "ssl_enabled": True,
        "last_deployed_at": now_us,
        "version": 1,
        "created_at": now_us,
        "updated_at": now_us,
    }
    first: dict[int, int] = {}
    for s, owner in owners.items():
        first.setdefault(owner, s)
    places = ((u, first[u] + k % fleet.servers_per_user) for u in first for k in range(fleet.sites_per_user))
    for id, (user, server) in enumerate(places, start=1):
        domain = f"{draw.choice(_NOUNS)}-{id}.example.test"
        yield {"id": id, "server_id": server, "user_id": user, "domain": domain, **alike}


def _insert(session: Session, model: Any, rows: Rows) -> None:
    while chunk := list(itertools.islice(rows, CHUNK)):
        session.execute(insert(model), chunk)


def _continue_numbering(session: Session) -> None:
    """PostgreSQL's sequences know nothing of ids given by hand; the others go on from the highest."""
    if session.get_bind().dialect.name != "postgresql":
        return
    for model in (User, Server, ServerFirewall, ServerFirewallRule, ServerEvent, ServerMetric, ServerSite, Activity, Task):
        table = model.__tablename__
        highest = session.scalar(select(func.max(model.id)))
        if highest is not None:
            session.execute(select(func.setval(func.pg_get_serial_sequence(table, "id"), highest)))


def listed_users(session: Session) -> list[dict[str, Any]]:
    """Every user as `target.json` lists them: id, token, ids of servers and sites."""
    owned: dict[int, dict[str, Any]] = {
        id: {"id": id, "name": name, "token": token, "servers": [], "sites": []}
        for id, name, token in session.execute(select(User.id, User.name, User.token).order_by(User.id))
    }
    for kind, id, owner in (("servers", Server.id, Server.user_id), ("sites", ServerSite.id, ServerSite.user_id)):
        for one, user in session.execute(select(id, owner).order_by(id)):
            owned[user][kind].append(one)
    return list(owned.values())
