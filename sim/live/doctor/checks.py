"""Every step of the pattern checked against a target, one by one, each with what to do about it.

A check is an async function of the `Patient` that returns findings; a table of steps says in which order, and what each needs
to have gone well before. What cannot be checked any more is `skipped`, with the reason.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Literal
from urllib.parse import quote

from sim.live.client import HttpAnswer, HttpConnection, HttpOrigin
from sim.live.doctor.listener import Subscriber
from sim.live.probe import places
from sim.target import Account, Key, Session, Target, in_names_of

Status = Literal["ok", "problem", "skipped"]

HOW_TO_GIVE_AN_ACCOUNT = (
    "give one: --accounts users.csv (columns id, token or email and password, servers), or users in target.json"
)


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


@dataclass
class Patient:
    """The target under examination, and what the checks have found out so far."""

    target: Target
    changes: bool = True
    """Whether checks may change the owner's first resource."""
    refetch: str = "/servers/{id}"
    version: str = "version"
    templates: tuple[str, ...] = ("private-servers.{id}", "private-servers")
    """Channels to look at; the first is the resource's own."""
    ids: str = "servers"
    """List of the target's users that gives `{id}`."""
    changing: tuple[str, str, str] | None = None
    """Method, path and body of a change; None: the provisioning of a server, as the embedded application has it."""
    patience: float = 5.0
    """Seconds to wait for anything."""
    listen: float = 0.0
    """Seconds in which the user will change the resource, for applications whose change routes are not known."""
    settle: float = 0.3
    """Seconds in which further events of one change still come."""
    connection: Subscriber | None = None
    """A connection as a page has it; None: there is none (yet)."""
    up: dict[str, HttpAnswer] = field(default_factory=dict)
    """Answer to `GET /up`, by place (`sim.live.probe.places`)."""
    down: set[str] = field(default_factory=set)
    """Places that do not answer."""
    sessions: dict[Key, Session] = field(default_factory=dict)
    """User's id -> session, of users that have logged in."""
    auths: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    """Channel -> `auth` and `channel_data` for the listener's socket."""
    subscribed: set[str] = field(default_factory=set)
    """Channels that the listener is on."""
    same_secret: bool = False
    """The broadcaster has accepted a signature that is made with the target's secret."""
    direct: int = 0
    """ns from publishing an event here to hearing it; 0: not known."""
    moved_to: str = ""
    """Status to which a check has moved the server's first step."""

    @property
    def listener(self) -> Subscriber:
        """The connection, for checks that need it (`CheckStep.needs`)."""
        assert self.connection is not None
        return self.connection

    @property
    def ending(self) -> str:
        """How the connection ended, to be appended to a sentence; empty while it is there."""
        ended = self.connection.ended if self.connection is not None else ""
        return f": {ended}" if ended else ""

    def lose(self, place: str) -> None:
        """Note that *place* does not answer, and where pages connect to it as well."""
        self.down.add(place)
        if self.target.subscribing == self.target.publishing and place == "broadcaster":
            self.down.add("broadcaster for pages")

    @property
    def owner(self) -> Account | None:
        users = self.target.users
        return next((user for user in users if user.ids(self.ids)), users[0] if users else None)

    @property
    def stranger(self) -> Account | None:
        """A user who does not own the owner's first resource."""
        if self.owner is None or not self.owner.ids(self.ids):
            return None
        return next((user for user in self.target.users if self.resource not in user.ids(self.ids)), None)

    @property
    def resource(self) -> Key:
        """Id of the resource that is looked at."""
        return next(iter(self.owner.ids(self.ids) if self.owner else ()), 1)

    @property
    def channels(self) -> list[str]:
        """Names on the wire; the first is the resource's own."""
        user = self.owner.id if self.owner else ""
        return [name.replace("{id}", str(self.resource)).replace("{user}", str(user)) for name in self.templates]

    def path(self, template: str) -> str:
        """Of the application, for the resource."""
        user = self.owner.id if self.owner else ""
        return template.replace("{id}", quote(str(self.resource), safe="")).replace("{user}", quote(str(user), safe=""))

    async def ask_api(self, method: str, path: str, user: Account | None = None, body: bytes = b"", **headers: str) -> HttpAnswer:
        """A request to the application, as *user* (None: as a guest). Headers that are empty are left out."""
        given = {"Accept": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
        given = dict(self.target.headers) | {name: value for name, value in given.items() if value}
        session = self.sessions.get(user.id) if user is not None else None
        if session is not None:
            given |= dict(session.headers())
        elif user is not None and user.token:
            given["Authorization"] = f"Bearer {user.token}"
        answer = await self.ask("application", method, path, given.items(), body)
        if session is not None:
            session.absorb(answer.cookies, answer.body, answer.headers.get("location", ""))
        return answer

    async def ask(
        self, place: str, method: str, path: str, headers: Iterable[tuple[str, str]] = (), body: bytes = b""
    ) -> HttpAnswer:
        """A request to one of the target's places, over a connection of its own."""
        return await ask(places(self.target)[place], self.patience, method, path, headers, body)


async def ask(
    origin: HttpOrigin, patience: float, method: str, path: str, headers: Iterable[tuple[str, str]] = (), body: bytes = b""
) -> HttpAnswer:
    connection = HttpConnection(origin, patience)
    try:
        return await connection.request(method, path, headers, body)
    finally:
        connection.close()


def in_ms(ns: float) -> str:
    return f"{ns / 1e6:,.1f} ms"


Check = Callable[[Patient], Awaitable[list[Finding]]]


@dataclass(frozen=True, slots=True)
class CheckStep:
    """One check of the table."""

    name: str
    check: Check
    needs: tuple[str, ...] = ()
    """Steps without which it makes no sense."""
    places: tuple[str, ...] = ()
    """Places that must answer."""


async def examine(
    patient: Patient, steps: tuple[CheckStep, ...], report: Callable[[Finding], None] = lambda finding: None
) -> list[Finding]:
    """All steps in order; *report* is called with each finding at once."""
    findings: list[Finding] = []
    failed: set[str] = set()
    try:
        for step in steps:
            missing = [name for name in step.needs if name in failed]
            silent = [place for place in step.places if place in patient.down]
            if missing or silent:
                found = [Finding(step.name, "skipped", f"needs {missing[0]}" if missing else f"the {silent[0]} does not answer")]
            else:
                found = await step.check(patient)
            if any(finding.status == "problem" for finding in found) or (found and all(f.status == "skipped" for f in found)):
                failed.add(step.name)
            found = [replace(finding, advice=in_names_of(patient.target.family, finding.advice)) for finding in found]
            for finding in found:
                report(finding)
            findings += found
    finally:
        if patient.connection is not None:
            await patient.connection.close()
    return findings
