"""Long work on servers and sites, as the real application structures it: a job runs installers, an installer marks its steps.

A job never sleeps: `handle(forge)` is a generator that yields how many seconds it wants to wait, so it runs in a thread that
sleeps, or in a test that does not. Nothing here broadcasts: every `with forge.transaction()` is a save, and the models broadcast.

    ProvisionServer     a recorded trace: steps of the whole stack, then the server is ready (or failed, and the run stops)
    InstallPackage      one package: software status installing -> active
    InstallRule         a firewall rule: pending -> installing -> active
    DeploySite          a site: deploying -> active, with progress in its server's history
    DatabaseOperation   a dump, a migration: progress in steps, and a task whose end is broadcast whole
    StreamLog           lines of a log, many a second
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

from sqlalchemy.orm import Session

from sim.brokeforge.domain.database import Lockable, locked
from sim.brokeforge.domain.models import Activity, Server, ServerEvent, ServerFirewallRule, ServerSite, Task
from sim.brokeforge.domain.statuses import move
from sim.brokeforge.outages import OutageLog
from sim.workload import Trace

Waits = Iterator[float]
"""Seconds to wait before the generator is resumed."""

SOFTWARE = {"monitoring": "monitoring_status", "scheduler": "scheduler_status", "supervisor": "supervisor_status"}


class Forge(Protocol):
    """What a job needs of the application."""

    database_outage: OutageLog

    def transaction(self) -> AbstractContextManager[Session]:
        """A change on nobody's behalf: committed and broadcast at the end of the block."""
        ...

    def now_us(self) -> int: ...

    def release(self) -> None:
        """This thread is about to end: give back what it holds."""
        ...


class StepFailed(Exception):
    """An installer's step failed; the job that ran it stops."""


class Job(Protocol):
    """One piece of work."""

    def handle(self, forge: Forge) -> Waits: ...


@dataclass(frozen=True, slots=True)
class ProvisionServer:
    """Replay *trace* on a server, *speed* times as fast as it was recorded."""

    server_id: int
    trace: Trace
    speed: float = 1.0

    def handle(self, forge: Forge) -> Waits:
        with forge.transaction() as session:
            server = _locked(session, Server, self.server_id)
            # A server that failed, or is done, is set up anew.
            server.provision_status = move("provision_status", server.provision_status, "installing")
            server.provision = {}
        try:
            yield from TraceInstaller(self.server_id, self.trace, self.speed).execute(forge)
        except StepFailed as failure:
            self._finish(forge, "failed", f"provisioning failed at {failure}")
            return
        self._finish(forge, "completed", "server is ready")

    def _finish(self, forge: Forge, status: str, message: str) -> None:
        with forge.transaction() as session:
            server = _locked(session, Server, self.server_id)
            server.provision_status = move("provision_status", server.provision_status, status)
            _history(session, forge, self.server_id, "provision", message)
            session.add(
                Activity(user_id=server.user_id, description=f"{server.vanity_name}: {message}", created_at=forge.now_us())
            )


@dataclass(frozen=True, slots=True)
class TraceInstaller:
    """Marks steps as a recorded run did: each transition of the trace is one save."""

    server_id: int
    trace: Trace
    speed: float = 1.0

    def execute(self, forge: Forge) -> Waits:
        """Raises `StepFailed` after the first step that failed was marked so."""
        elapsed = 0.0
        for transition in self.trace.transitions:
            if transition.at > elapsed:
                yield (transition.at - elapsed) / self.speed
                elapsed = transition.at
            with forge.transaction() as session:
                _locked(session, Server, self.server_id).put_step(str(transition.step), transition.status)
                if transition.status != "pending":
                    _history(session, forge, self.server_id, "provision", f"{transition.name}: {transition.status}")
            if transition.status == "failed":
                raise StepFailed(transition.name)


@dataclass(frozen=True, slots=True)
class InstallPackage:
    """Install one piece of software whose status the server keeps."""

    server_id: int
    package: Literal["monitoring", "scheduler", "supervisor"]
    seconds: float = 5.0
    fails: bool = False

    def handle(self, forge: Forge) -> Waits:
        self._mark(forge, "installing")
        yield self.seconds
        self._mark(forge, "failed" if self.fails else "active")

    def _mark(self, forge: Forge, status: str) -> None:
        field = SOFTWARE[self.package]
        with forge.transaction() as session:
            server = _locked(session, Server, self.server_id)
            present = getattr(server, field)
            if present == "active" and status == "installing":
                # Installed already: taken off first, in the same save.
                present = move(field, move(field, present, "uninstalling"), "")
            setattr(server, field, move(field, present, status))
            _history(session, forge, self.server_id, "package", f"{self.package}: {status}")


@dataclass(frozen=True, slots=True)
class InstallRule:
    """`FirewallRuleInstallerJob`: bring a pending rule into force."""

    server_id: int
    rule_id: int
    seconds: float = 2.0
    fails: bool = False

    def handle(self, forge: Forge) -> Waits:
        for wait, status in ((self.seconds / 4, "installing"), (self.seconds * 3 / 4, "failed" if self.fails else "active")):
            yield wait
            with forge.transaction() as session:
                server = _locked(session, Server, self.server_id)
                rule = session.get(ServerFirewallRule, self.rule_id)
                if rule is None or rule.firewall.server_id != server.id:
                    return
                rule.status = move("rule status", rule.status, status)
                _history(session, forge, self.server_id, "firewall", f"rule {rule.name}: {status}")


@dataclass(frozen=True, slots=True)
class DeploySite:
    """Deploy a site's next release."""

    site_id: int
    seconds: float = 10.0
    fails: bool = False

    STAGES = ("fetch", "install", "build", "migrate", "release")

    def handle(self, forge: Forge) -> Waits:
        with forge.transaction() as session:
            site = _locked(session, ServerSite, self.site_id)
            site.status = move("site status", site.status, "deploying")
            site.updated_at = forge.now_us()
            domain, server_id = site.domain, site.server_id
        for stage in self.STAGES:
            with forge.transaction() as session:
                _locked(session, Server, server_id)
                _history(session, forge, server_id, "progress", f"deploy {domain}: {stage}")
            yield self.seconds / len(self.STAGES)
        with forge.transaction() as session:
            site = _locked(session, ServerSite, self.site_id)
            site.status = move("site status", site.status, "failed" if self.fails else "active")
            site.updated_at = forge.now_us()
            if not self.fails:
                site.last_deployed_at = site.updated_at
            text = f"{domain}: deployment {'failed' if self.fails else 'finished'}"
            session.add(Activity(user_id=site.user_id, description=text, created_at=forge.now_us()))


@dataclass(frozen=True, slots=True)
class DatabaseOperation:
    """A dump or a migration in *steps* parts; its task is broadcast whole when it ends."""

    server_id: int
    name: str = "dump app"
    seconds: float = 5.0
    steps: int = 5
    fails: bool = False

    def handle(self, forge: Forge) -> Waits:
        with forge.transaction() as session:
            task = Task(
                server=_locked(session, Server, self.server_id), name=self.name, status="running", created_at=forge.now_us()
            )
            session.add(task)
        for part in range(1, self.steps + 1):
            yield self.seconds / self.steps
            with forge.transaction() as session:
                _locked(session, Server, self.server_id)
                _history(session, forge, self.server_id, "progress", f"database {self.name}: {100 * part // self.steps} %")
        with forge.transaction() as session:
            _locked(session, Server, self.server_id)
            ended = session.get(Task, task.id)
            if ended is not None:
                ended.status = "failed" if self.fails else "completed"
                ended.completed_at = forge.now_us()
                _history(session, forge, self.server_id, "database", f"{self.name}: {ended.status}")


@dataclass(frozen=True, slots=True)
class StreamLog:
    """*lines* lines of a log at *per_second*."""

    server_id: int
    lines: int = 200
    per_second: float = 20.0

    def handle(self, forge: Forge) -> Waits:
        for line in range(1, self.lines + 1):
            with forge.transaction() as session:
                _locked(session, Server, self.server_id)
                _history(session, forge, self.server_id, "log", f"line {line} of {self.lines}")
            yield 1 / self.per_second


class Gone(Exception):
    """The model was deleted while the job ran (Laravel: the job is deleted, silently)."""


def _locked(session: Session, model: type[Lockable], id: int) -> Lockable:
    row = locked(session, model, id)
    if row is None:
        raise Gone
    return row


def _history(session: Session, forge: Forge, server_id: int, kind: str, message: str) -> None:
    session.add(ServerEvent(server_id=server_id, kind=kind, message=message[:500], created_at=forge.now_us()))
