"""Every step of the pattern checked against a target, one by one, each with what to do about it.

A check is an async function of the `Patient` that returns findings; a table of steps says in which order, and what each needs
to have gone well before. What cannot be checked any more is `skipped`, with the reason: a doctor does not guess.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from sim.live.client import Answer, Connection, Origin
from sim.live.doctor.listener import Listener
from sim.target import Key, Target, User

Status = Literal["ok", "problem", "skipped"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor."""

    step: str
    status: Status
    detail: str
    advice: str = ""
    """What to do; also for an `ok` that has a limit worth knowing."""

    def line(self) -> str:
        text = f"{self.status:8}{self.step:24}{self.detail}"
        return f"{text}\n{'':32}-> {self.advice}" if self.advice else text

    def to_dict(self) -> dict[str, str]:
        return {"step": self.step, "status": self.status, "detail": self.detail, "advice": self.advice}


@dataclass
class Patient:
    """The target under examination, and what the checks have found out so far."""

    target: Target
    browser: dict[str, str] = field(default_factory=dict)
    """What the page is built with: `VITE_REVERB_HOST` and the like of a .env file."""
    changes: bool = True
    """Whether checks may change the owner's first server."""
    refetch: str = "/servers/{id}"
    version: str = "version"
    patience: float = 5.0
    """Seconds to wait for anything."""
    listen: float = 0.0
    """Seconds in which somebody else will change the server; for applications whose change routes are not known."""
    listener: Listener | None = None
    auths: dict[str, str] = field(default_factory=dict)
    """Channel -> `auth` member for the listener's socket."""
    subscribed: set[str] = field(default_factory=set)
    """Channels that the listener is on."""
    moved_to: str = ""
    """Status to which a check has moved the server's first step."""

    @property
    def owner(self) -> User | None:
        return next((user for user in self.target.users if user.servers), None)

    @property
    def stranger(self) -> User | None:
        """A user who does not own the owner's first server."""
        return next((user for user in self.target.users if user.servers and self.server not in user.servers), None)

    @property
    def server(self) -> Key:
        return self.owner.servers[0] if self.owner else 1

    @property
    def channels(self) -> dict[str, str]:
        """The specific and the generic channel of the server."""
        return {"specific": f"private-servers.{self.server}", "generic": "private-servers"}

    async def ask_api(self, method: str, path: str, user: User | None = None, body: bytes = b"", **headers: str) -> Answer:
        """A request to the application, as *user* (None: as a guest)."""
        given = [("Accept", "application/json"), *((name.replace("_", "-"), value) for name, value in headers.items())]
        if user is not None:
            given.append(("Authorization", f"Bearer {user.token}"))
        return await self._ask(Origin.parse(self.target.api), method, path, given, body)

    async def ask_broadcaster(self, method: str, path: str, headers: Any = (), body: bytes = b"") -> Answer:
        return await self._ask(Origin.parse(self.target.http_url), method, path, headers, body)

    async def _ask(self, origin: Origin, method: str, path: str, headers: Any, body: bytes) -> Answer:
        connection = Connection(origin, self.patience)
        try:
            return await connection.request(method, path, headers, body)
        finally:
            connection.close()


Check = Callable[[Patient], Awaitable[list[Finding]]]


@dataclass(frozen=True, slots=True)
class Step:
    """One check of the table."""

    name: str
    check: Check
    needs: tuple[str, ...] = ()
    """Steps without which it makes no sense."""


async def examine(
    patient: Patient, steps: tuple[Step, ...], report: Callable[[Finding], None] = lambda finding: None
) -> list[Finding]:
    """All steps in order; *report* hears of each finding at once."""
    findings: list[Finding] = []
    failed: set[str] = set()
    try:
        for step in steps:
            missing = [name for name in step.needs if name in failed]
            if missing:
                found = [Finding(step.name, "skipped", f"needs {missing[0]}")]
            else:
                found = await step.check(patient)
            if any(finding.status == "problem" for finding in found) or (found and all(f.status == "skipped" for f in found)):
                failed.add(step.name)
            for finding in found:
                report(finding)
            findings += found
    finally:
        if patient.listener is not None:
            await patient.listener.close()
    return findings
