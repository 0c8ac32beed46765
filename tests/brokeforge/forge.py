"""The application as tests use it: a broadcaster that remembers, a queue worked by hand, a clock that is told."""

from __future__ import annotations

import heapq
import json
import threading
from dataclasses import dataclass, field, replace
from typing import Any

from sim.brokeforge.application import Application
from sim.brokeforge.broadcasting.dispatcher import BroadcastEvent, BroadcastFailed
from sim.brokeforge.domain import fleet
from sim.brokeforge.domain.database import Database
from sim.brokeforge.http import Request, Response
from sim.scenario import Api, Broadcast, Fleet

START = 1_800_000_000_000_000_000
"""ns since 1970 at which a test begins."""


@dataclass
class Sent:
    """One request to the broadcaster's HTTP API."""

    name: str
    data: dict[str, Any]
    channels: list[str]
    socket_id: str | None
    at: int


@dataclass
class Broadcaster:
    """Remembers what it is sent; fails as often as told."""

    clock: Clock
    failures: int = 0
    sent: list[Sent] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()

    def trigger(self, name: str, data: str, channels: list[str], socket_id: str | None) -> None:
        with self._lock:
            if self.failures:
                self.failures -= 1
                raise BroadcastFailed("told to")
            self.sent.append(Sent(name, json.loads(data), channels, socket_id, self.clock.now()))

    def names(self) -> list[str]:
        return [s.name for s in self.sent]

    def of(self, name: str) -> list[Sent]:
        return [s for s in self.sent if s.name.endswith(name)]


class Clock:
    """Time that passes only when it is told to. *slept* is what the application waited."""

    def __init__(self) -> None:
        self._now = START
        self.slept: list[float] = []

    def now(self) -> int:
        return self._now

    def pass_(self, seconds: float) -> None:
        self._now += round(seconds * 1e9)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.pass_(seconds)


class HandQueue:
    """A queue whose worker is the test: `work(until)` does every job due by then, in order."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.jobs: list[tuple[int, int, BroadcastEvent]] = []
        self._serial = 0
        self.gone = False

    def push(self, job: BroadcastEvent, delay: float) -> None:
        if self.gone:
            raise OSError("queue is gone")
        self._serial += 1
        heapq.heappush(self.jobs, (self.clock.now() + round(delay * 1e9), self._serial, job))

    def __len__(self) -> int:
        return len(self.jobs)

    def work(self, dispatcher: Any, seconds: float = 3600.0) -> None:
        """Let *seconds* pass and do what falls due, each at its own instant."""
        until = self.clock.now() + round(seconds * 1e9)
        while self.jobs and self.jobs[0][0] <= until:
            due, _, job = heapq.heappop(self.jobs)
            self.clock._now = max(self.clock._now, due)
            dispatcher.work(BroadcastEvent.from_json(job.to_json()))
        self.clock._now = until


class Forge:
    """Application, its surroundings, and shorthands for requests as a sample user."""

    def __init__(
        self,
        url: str,
        broadcast: Broadcast | None = None,
        api: Api | None = None,
        fleet_: Fleet | None = None,
        members: bool = False,
        prepared: bool = False,
        started: list[Any] | None = None,
    ) -> None:
        self.clock = Clock()
        self.broadcaster = Broadcaster(self.clock)
        self.queue = HandQueue(self.clock)
        self.database = Database(url, latency=(api or Api()).database_latency, volatile=True)
        if not prepared:
            self.database.prepare()
        with self.database.sessions.begin() as session:
            if not fleet.listed_users(session):
                fleet.seed(session, fleet_ or Fleet(users=3), 1, self.clock.now() // 1000)
            self.users = fleet.listed_users(session)
        self.started = started if started is not None else []
        self.app = Application(
            self.database,
            self.broadcaster,
            self.queue,
            key="key",
            secret="secret",
            now=self.clock.now,
            wait=self.clock.sleep,
            broadcast=broadcast or Broadcast(),
            api=api or Api(),
            members=members,
            start=self._start,
        )

    def _start(self, job: Any) -> bool:
        self.started.append(job)
        return True

    def request(
        self, method: str, path: str, body: Any = None, user: int | None = 1, headers: dict[str, str] | None = None
    ) -> Response:
        """As user number *user* (None: a guest). *body*: bytes as they are, else JSON."""
        path, _, query = path.partition("?")
        head = {"host": "forge.test"} | (headers or {})
        if user is not None:
            head["authorization"] = f"Bearer {self.users[user - 1]['token']}"
        raw = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.app.handle(Request(method, path, query, head, raw, "192.0.2.1"))

    def json(self, method: str, path: str, body: Any = None, status: int = 200, **more: Any) -> dict[str, Any]:
        response = self.request(method, path, body, **more)
        assert response.status == status, response
        return json.loads(response.body)  # type: ignore[no-any-return]

    def step(self, server: int, step: str, status: str, **more: Any) -> dict[str, Any]:
        return self.json("PUT", f"/servers/{server}/provision/{step}", {"status": status}, **more)

    def auth(self, channel: str, socket_id: str = "1234.5678", user: int | None = 1) -> Response:
        form = f"socket_id={socket_id}&channel_name={channel}".encode()
        kind = {"content-type": "application/x-www-form-urlencoded"}
        return self.request("POST", "/broadcasting/auth", form, user=user, headers=kind)

    def close(self) -> None:
        self.database.close()


def switched(**changes: Any) -> Broadcast:
    return replace(Broadcast(), **changes)
