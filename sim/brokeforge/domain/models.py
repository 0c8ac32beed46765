"""The domain: users, servers, sites, firewalls with rules, events, metrics, activities (SQLAlchemy 2).

Instants are integer microseconds since 1970 (`Instant`): the same in SQLite, PostgreSQL and MariaDB, and nothing to parse
on the way out. `version` of a server, site or recurring task grows by one with each committed change of it (a change of a
firewall, a rule or another task is its server's); the `counters` row `sequence` grows by one with each committed change of
anything, in the order of the commits, and the row `user N` holds the sequence number of the newest change of that user's servers
and sites.
"""

from __future__ import annotations

from typing import Any

import orjson
from sqlalchemy import BigInteger, Boolean, Dialect, Float, ForeignKey, Index, Integer, String, Text, TypeDecorator
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from sim.brokeforge.domain.statuses import move

MAX_STEPS = 256
"""Provision steps a server may have: a page must not grow without bound."""

Instant = BigInteger
# SQLite numbers rows by itself only for a column that is exactly INTEGER.
Id = BigInteger().with_variant(Integer, "sqlite")


class JsonText(TypeDecorator[dict[str, Any]]):
    """A JSON object in a text column: the three databases agree on text, not on JSON."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: dict[str, Any] | None, dialect: Dialect) -> str | None:
        return None if value is None else orjson.dumps(value).decode()

    def process_result_value(self, value: str | None, dialect: Dialect) -> dict[str, Any]:
        return orjson.loads(value) if value else {}


class Base(DeclarativeBase):
    pass


class Numbered(Base):
    """What all tables but the counters have."""

    __abstract__ = True
    id: Mapped[int] = mapped_column(Id, primary_key=True)


class Dated(Numbered):
    """A row that tells when it was made."""

    __abstract__ = True
    created_at: Mapped[int] = mapped_column(Instant)


class Counter(Base):
    __tablename__ = "counters"
    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    value: Mapped[int] = mapped_column(BigInteger, default=0)


class User(Numbered):
    __tablename__ = "users"
    name: Mapped[str] = mapped_column(String(80))
    token: Mapped[str] = mapped_column(String(64), unique=True)
    """Kept in clear: these are sample users whose tokens `target.json` must be able to name again."""


class Server(Dated):
    __tablename__ = "servers"
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    vanity_name: Mapped[str] = mapped_column(String(120))
    connection: Mapped[str] = mapped_column(String(20), default="pending")
    provision_status: Mapped[str] = mapped_column(String(20), default="pending")
    provision: Mapped[dict[str, str]] = mapped_column(JsonText, default=dict)
    """Step -> status, in the order in which the steps were first put."""
    monitoring_status: Mapped[str] = mapped_column(String(20), default="")
    scheduler_status: Mapped[str] = mapped_column(String(20), default="")
    supervisor_status: Mapped[str] = mapped_column(String(20), default="")
    version: Mapped[int] = mapped_column(BigInteger, default=0)
    updated_at: Mapped[int] = mapped_column(Instant)

    firewall: Mapped[ServerFirewall | None] = relationship(back_populates="server", cascade="all, delete-orphan")
    sites: Mapped[list[ServerSite]] = relationship(back_populates="server", cascade="all, delete-orphan")

    __table_args__ = (Index("servers_of_user", "user_id", "id"),)

    def put_step(self, step: str, status: str) -> None:
        """Laravel's `$server->provision->put(step, status)`. Raises `IllegalMove`; the row is written on flush."""
        present = self.provision.get(step, "pending")
        move("provision", present, status)
        if step not in self.provision and len(self.provision) >= MAX_STEPS:
            raise ValueError(f"server has at most {MAX_STEPS} provision steps")
        # A new dict, not a changed one: that is what makes the attribute dirty.
        self.provision = {**self.provision, step: status}


class ServerSite(Dated):
    __tablename__ = "server_sites"
    server_id: Mapped[int] = mapped_column(ForeignKey("servers.id"), index=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    """The owner of its server, again: the dashboard's five latest sites need no join."""
    domain: Mapped[str] = mapped_column(String(190))
    status: Mapped[str] = mapped_column(String(20), default="pending")
    health: Mapped[str] = mapped_column(String(20), default="unknown")
    git_status: Mapped[str] = mapped_column(String(20), default="")
    ssl_enabled: Mapped[bool] = mapped_column(Boolean, default=False)
    last_deployed_at: Mapped[int | None] = mapped_column(Instant, default=None)
    version: Mapped[int] = mapped_column(BigInteger, default=0)
    updated_at: Mapped[int] = mapped_column(Instant)

    server: Mapped[Server] = relationship(back_populates="sites")

    __table_args__ = (Index("sites_of_user", "user_id", "id"),)


class ServerFirewall(Dated):
    __tablename__ = "server_firewalls"
    server_id: Mapped[int] = mapped_column(ForeignKey("servers.id"), unique=True)
    status: Mapped[str] = mapped_column(String(20), default="pending")

    server: Mapped[Server] = relationship(back_populates="firewall")
    rules: Mapped[list[ServerFirewallRule]] = relationship(back_populates="firewall", cascade="all, delete-orphan")


class ServerFirewallRule(Dated):
    __tablename__ = "server_firewall_rules"
    firewall_id: Mapped[int] = mapped_column(ForeignKey("server_firewalls.id"))
    name: Mapped[str] = mapped_column(String(80))
    port: Mapped[str] = mapped_column(String(11))
    from_ip_address: Mapped[str] = mapped_column(String(49), default="")
    rule_type: Mapped[str] = mapped_column(String(8), default="allow")
    status: Mapped[str] = mapped_column(String(20), default="pending")

    firewall: Mapped[ServerFirewall] = relationship(back_populates="rules")

    __table_args__ = (Index("rules_of_firewall", "firewall_id", "id"),)


LIVE_KINDS = frozenset({"log", "progress"})
"""Kinds of history lines that a page waits for: a new one is a change of its server and is broadcast. The others are
written along with a change that is broadcast anyway."""


class ServerEvent(Dated):
    """A line of a server's history; pages show the latest ten."""

    __tablename__ = "server_events"
    server_id: Mapped[int] = mapped_column(ForeignKey("servers.id"))
    kind: Mapped[str] = mapped_column(String(40))
    message: Mapped[str] = mapped_column(String(500))

    server: Mapped[Server] = relationship(viewonly=True)

    __table_args__ = (Index("events_of_server", "server_id", "id"),)


class ServerMetric(Dated):
    __tablename__ = "server_metrics"
    server_id: Mapped[int] = mapped_column(ForeignKey("servers.id"))
    cpu: Mapped[float] = mapped_column(Float)
    """Share of all cores, 0 to 1; memory and disk likewise."""
    memory: Mapped[float] = mapped_column(Float)
    disk: Mapped[float] = mapped_column(Float)

    __table_args__ = (Index("metrics_of_server", "server_id", "id"),)


class Activity(Dated):
    __tablename__ = "activities"
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    description: Mapped[str] = mapped_column(String(500))

    __table_args__ = (Index("activities_of_user", "user_id", "id"),)


class Task(Dated):
    """One piece of long work: a deployment, a package, a database operation. Its end is broadcast whole (`TaskCompleted`).

    One that recurs (a backup) runs again and again, and its changes are its own; those of another are its server's.
    """

    __tablename__ = "tasks"
    server_id: Mapped[int] = mapped_column(ForeignKey("servers.id"), index=True)
    name: Mapped[str] = mapped_column(String(120))
    status: Mapped[str] = mapped_column(String(20), default="pending")
    recurring: Mapped[bool] = mapped_column(Boolean, default=False)
    version: Mapped[int] = mapped_column(BigInteger, default=0)
    completed_at: Mapped[int | None] = mapped_column(Instant, default=None)

    server: Mapped[Server] = relationship()

    @property
    def user_id(self) -> int:
        return self.server.user_id


Resource = Server | ServerSite | Task
"""What has a version and a channel of its own (of tasks those that recur)."""

NAMES: dict[type, str] = {Server: "server", ServerSite: "site", Task: "task"}
