"""Sample data: users with tokens, their servers and sites; on each server five rules, ten events and a backup that recurs.

Made once per database."""

from __future__ import annotations

import random
import secrets
from collections.abc import Iterator
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

_ADJECTIVES = (
    "amber",
    "bold",
    "calm",
    "deep",
    "eager",
    "fair",
    "glad",
    "hazel",
    "iron",
    "jolly",
    "keen",
    "lunar",
    "mild",
    "noble",
)
_NOUNS = ("anchor", "beacon", "cedar", "delta", "ember", "falcon", "grove", "harbor", "island", "jasper", "kestrel", "lantern")
_PEOPLE = (
    "Ada",
    "Bo",
    "Cleo",
    "Dan",
    "Edith",
    "Finn",
    "Grace",
    "Hugo",
    "Iris",
    "Jon",
    "Kaya",
    "Liam",
    "Mara",
    "Nils",
    "Olga",
    "Paul",
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


def seed(session: Session, fleet: Fleet, number: int, now_us: int) -> None:
    """Fill an empty database with *fleet*; names are drawn with seed *number*, tokens are not guessable. Does not commit.

    Sample data is inserted in bulk, which raises no model events.
    """
    draw = random.Random(f"fleet {number}")
    user_ids = range(1, fleet.users + 1)
    _insert(
        session,
        User,
        ({"id": u, "name": f"{_PEOPLE[(u - 1) % len(_PEOPLE)]} {u}", "token": secrets.token_urlsafe(24)} for u in user_ids),
    )
    owners = [u for u in user_ids for _ in range(fleet.servers_per_user)]
    servers = list(enumerate(owners, start=1))
    _insert(
        session,
        Server,
        (
            {
                "id": s,
                "user_id": owner,
                "vanity_name": f"{draw.choice(_ADJECTIVES)}-{draw.choice(_NOUNS)}-{s}",
                "connection": "connected",
                "provision_status": "completed",
                "provision": {str(step): "completed" for step in range(1, 9)},
                "monitoring_status": "active",
                "scheduler_status": "active",
                "supervisor_status": "",
                "version": 1,
                "created_at": now_us,
                "updated_at": now_us,
            }
            for s, owner in servers
        ),
    )
    _insert(session, ServerFirewall, ({"id": s, "server_id": s, "status": "active", "created_at": now_us} for s, _ in servers))
    _insert(
        session,
        ServerFirewallRule,
        (
            {
                "id": (s - 1) * RULES + n,
                "firewall_id": s,
                "name": name,
                "port": port,
                "from_ip_address": "",
                "rule_type": kind,
                "status": "active",
                "created_at": now_us,
            }
            for s, _ in servers
            for n, (name, port, kind) in enumerate(_RULES, start=1)
        ),
    )
    _insert(
        session,
        ServerEvent,
        (
            {
                "id": (s - 1) * EVENTS + n,
                "server_id": s,
                "kind": "provision",
                "message": f"step {n}: completed" if n < 9 else "server is ready",
                "created_at": now_us - (EVENTS - n) * 1_000_000,
            }
            for s, _ in servers
            for n in range(1, EVENTS + 1)
        ),
    )
    _insert(
        session,
        ServerMetric,
        (
            {
                "id": s,
                "server_id": s,
                "cpu": round(draw.uniform(0.02, 0.6), 3),
                "memory": round(draw.uniform(0.2, 0.8), 3),
                "disk": round(draw.uniform(0.1, 0.7), 3),
                "created_at": now_us,
            }
            for s, _ in servers
        ),
    )
    _insert(
        session,
        Task,
        (
            {"id": s, "server_id": s, "name": "backup", "status": "completed", "recurring": True, "version": 1}
            | {"created_at": now_us, "completed_at": now_us}
            for s, _ in servers
        ),
    )
    first = {owner: s for s, owner in reversed(servers)}
    site = iter(range(1, fleet.users * fleet.sites_per_user + 1))
    _insert(
        session,
        ServerSite,
        (
            {
                "id": (id := next(site)),
                # A user's sites go round their servers.
                "server_id": first[u] + k % fleet.servers_per_user,
                "user_id": u,
                "domain": f"{draw.choice(_NOUNS)}-{id}.example.test",
                "status": "active",
                "health": "healthy",
                "git_status": "installed",
                "ssl_enabled": True,
                "last_deployed_at": now_us,
                "version": 1,
                "created_at": now_us,
                "updated_at": now_us,
            }
            for u in user_ids
            if u in first
            for k in range(fleet.sites_per_user)
        ),
    )
    _insert(
        session,
        Activity,
        ({"id": u, "user_id": u, "description": "signed up", "created_at": now_us} for u in user_ids),
    )
    _continue_numbering(session)


def _insert(session: Session, model: Any, rows: Iterator[dict[str, Any]]) -> None:
    chunk: list[dict[str, Any]] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == CHUNK:
            session.execute(insert(model), chunk)
            chunk = []
    if chunk:
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


def members(session: Session) -> list[dict[str, Any]]:
    """Every user as `target.json` lists them: id, token, ids of servers and sites."""
    owned: dict[int, dict[str, Any]] = {
        id: {"id": id, "name": name, "token": token, "servers": [], "sites": []}
        for id, name, token in session.execute(select(User.id, User.name, User.token).order_by(User.id))
    }
    for id, owner in session.execute(select(Server.id, Server.user_id).order_by(Server.id)):
        owned[owner]["servers"].append(id)
    for id, owner in session.execute(select(ServerSite.id, ServerSite.user_id).order_by(ServerSite.id)):
        owned[owner]["sites"].append(id)
    return list(owned.values())
