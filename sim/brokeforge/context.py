"""What the application's handlers share: database, dispatcher, settings, metrics, and the transaction of a change.

`application` adds the routes and the walk from a request to an answer; handlers and jobs know this part only.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import delete
from sqlalchemy.orm import Session

from sim.brokeforge.broadcasting.channels import SOCKET_ID, application_channels
from sim.brokeforge.broadcasting.dispatcher import BroadcasterClient, Cache, Dispatcher, JobQueue, MemoryCache
from sim.brokeforge.broadcasting.events import ModelEvent
from sim.brokeforge.domain import observers, resources
from sim.brokeforge.domain.change_set import ChangeSet, ResourceChange
from sim.brokeforge.domain.database import Database
from sim.brokeforge.domain.models import NAMES, Server, ServerEvent, ServerMetric, Task
from sim.brokeforge.http import Request, invalid
from sim.brokeforge.jobs import Job
from sim.brokeforge.metrics import Metrics
from sim.brokeforge.outages import OutageLog
from sim.scenario import Api, Broadcast

ASSET_VERSION = "1"
"""What Inertia calls the version: pages loaded with another one must load anew."""


@dataclass(frozen=True, slots=True)
class Board:
    """Where the browser finds the broadcaster. Without a *host* it is where the page itself came from.

    `hosts` are the names under which the page may be asked for. That only this machine reaches the port is not enough: a page of
    anybody's, open in a browser here, can have its own name resolved to this machine (DNS rebinding).
    """

    port: int
    host: str = ""
    hosts: frozenset[str] = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(eq=False)
class Context:
    """What an application is made of, and the state that its handlers share."""

    database: Database
    broadcaster: BroadcasterClient
    queue: JobQueue
    key: str
    secret: str = field(repr=False)
    now: Callable[[], int]
    """ns since 1970."""
    wait: Callable[[float], None]
    """How to sleep, seconds."""
    broadcast: Broadcast = field(default_factory=Broadcast)
    api: Api = field(default_factory=Api)
    cache: Cache | None = None
    """Locks and tokens that several processes share; None: one in this process's memory."""
    members: bool = False
    """Whether members for measuring go into payloads."""
    start: Callable[[Job], bool] | None = None
    """Begins a job in the background; False when it is too busy. None: jobs cannot be run."""
    board: Board | None = None
    """The page for eyes; None: there is none."""
    asset_version: str = ASSET_VERSION
    save: Callable[[], float] | None = None
    """How long the next change holds its lock at least, seconds (`api.save`); None: no longer than it takes."""
    factor: float = field(default=1.0, init=False)
    """How many times as long as configured a request takes that begins now (a slowdown); 0: no longer than its handler."""

    def __post_init__(self) -> None:
        self.database_outage = OutageLog("the database", logging.getLogger("brokeforge"))
        self.metrics = Metrics()
        self.metrics.watch("queue_depth", lambda: len(self.queue))
        self.channels = application_channels()
        cache = self.cache or MemoryCache(self.now)
        self.dispatcher = Dispatcher(
            self.broadcast, self.broadcaster, self.queue, cache, self.now, self.metrics, full=self._full, stamp=self.members
        )
        observers.listen(self.database.sessions, self.broadcast, self._dispatch, self.now)

    def now_us(self) -> int:
        """The present as the database keeps it: microseconds since 1970."""
        return self.now() // 1_000

    def change(self, request: Request) -> AbstractContextManager[Session]:
        """A transaction on behalf of *request*; its model events know who sent it."""
        return self.transaction(ChangeSet(self._sender(request), self._members(request)))

    @contextmanager
    def transaction(self, changes: ChangeSet | None = None) -> Iterator[Session]:
        """A change, on nobody's behalf (a job's) without *changes*: committed and broadcast at the end of the block."""
        changes = changes or ChangeSet()
        changes.now = self.now
        least = 0.0 if self.save is None else self.save() * self.factor

        def before_commit() -> None:
            held = (self.now() - (changes.locked_at or self.now())) / 1e9
            if (left := max(0.0, least - held) + self.broadcast.commit_delay) > 0:
                self.wait(left)

        with self.database.change(before_commit, changes) as session:
            yield session
        for change in changes.committed:
            kind = NAMES[type(change.resource)]
            self.metrics.count("changes_total", resource=kind)
            if not change.events:
                self.metrics.count("changes_quiet_total", resource=kind)
        if changes.published_at is not None and changes.committed_at is not None:
            lead = changes.committed_at - changes.published_at
            if lead > 0:
                self.metrics.observe("broadcast_lead_seconds", lead / 1e9)

    def release(self) -> None:
        """This thread will not ask again: its connection goes back."""
        self.database.release()

    def forget_history(self, session: Session, server: Server) -> None:
        """Remove what a server's deletion would leave behind; bulk deletes, which raise no model events."""
        for model in (ServerEvent, ServerMetric, Task):
            session.execute(delete(model).where(model.server_id == server.id))

    def _sender(self, request: Request) -> str | None:
        """Whom `toOthers` leaves out. Raises `HttpError` 422 for what no broadcaster would take."""
        socket_id = request.headers.get("x-socket-id")
        if socket_id is not None and self.broadcast.to_others and not SOCKET_ID.fullmatch(socket_id):
            raise invalid({"x-socket-id": ["The x-socket-id header must be two numbers joined by a dot."]})
        return socket_id

    def _members(self, request: Request) -> dict[str, Any]:
        """Members for measuring, from the load test's headers. Raises `HttpError` 422 when they are no numbers."""
        if not self.members:
            return {}
        members: dict[str, Any] = {}
        for header, name in (("x-workbench-update", "update"), ("x-workbench-sent", "sent_at")):
            if (text := request.headers.get(header)) is not None:
                if not text.isascii() or not text.isdigit() or len(text) > 19:
                    raise invalid({header: [f"The {header} header must be a whole number."]})
                members[name] = int(text)
        return members

    def _dispatch(self, change: ResourceChange, changes: ChangeSet) -> None:
        for event in change.events:
            outcome = self.dispatcher.dispatch(event, changes.socket_id, changes.members)
            changes.on_its_way |= outcome.on_its_way
            if changes.published_at is None:
                changes.published_at = outcome.accepted_at

    def _full(self, event: ModelEvent) -> dict[str, Any] | None:
        """The resource that a full payload carries, read when it is sent; None: there is none (any more)."""
        db = self.database.read()
        if event.resource == "server":
            row = resources.find_server(db, event.id)
            return None if row is None else resources.server_resource(db, row)
        if event.resource == "site":
            row = resources.find_site(db, event.id)
            return None if row is None else resources.site_resource(row)
        return None
