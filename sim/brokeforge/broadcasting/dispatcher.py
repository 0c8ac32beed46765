"""How an event reaches the broadcaster: at once or through the queue, unique or debounced, split, retried, counted.

    dispatch(event) -+- debounced: a job for the queue, see below
                     +- queued, unique: dropped while a job of the same key waits; else as queued
                     +- queued: a job for the queue, which a worker may take after `queue_latency`
                     +- now: sent in the caller, and handed to the queue only when that fails

*Debounced*, as Laravel 13.26's `DebounceFor(seconds, maxWait)`: a dispatch writes a new token for its key and waits `debounce`
seconds in the queue, then `queue_latency`; a worker that takes a job whose token is no longer the newest drops it. The first
dispatch of a series notes its instant. A dispatch that comes `debounce_max_wait` or more after it does not wait (its delay is 0)
and ends the series; so does the job that is worked. Nothing is sent between two dispatches: the maximum is looked at when a
dispatch comes, so a series that falls silent just before it still waits its `debounce`. A debounced event always goes through
the queue, also with `dispatch = "now"`; `unique` and `debounce` exclude each other (Laravel: LogicException).

*Unique*, as Laravel's `ShouldBeUniqueUntilProcessing`: the lock is given back before the send begins, so a change that is
committed while its predecessor is being sent has its own event. (`ShouldBeUnique` holds the lock to the end of the send and
loses that change: pages then show the old state until the next one.) An event that is sent now has no job, so there is nothing
for it to be unique among.

A job that fails is tried again after a pause, `tries` times in all. Its change is committed whatever happens here:
`dispatch` never raises.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, Protocol

import orjson

from sim.brokeforge.broadcasting.events import ModelEvent, broadcast_name, from_wire, to_wire
from sim.brokeforge.metrics import Metrics
from sim.brokeforge.outages import OutageLog
from sim.scenario import Broadcast

log = logging.getLogger("brokeforge")

CHANNELS_PER_REQUEST = 100
"""What the Pusher HTTP API takes in one request; Laravel cuts longer lists."""


class BroadcastFailed(Exception):
    """The broadcaster was not reached, was too slow, or refused."""


class BroadcasterClient(Protocol):
    """What talks to the broadcaster's HTTP API (`sim.live.application.publishing`)."""

    def trigger(self, name: str, data: str, channels: list[str], socket_id: str | None) -> None:
        """Publish; returns when the broadcaster has accepted. Raises `BroadcastFailed`."""
        ...


@dataclass(frozen=True, slots=True)
class BroadcastEvent:
    """One event on its way, as a job of the queue (Laravel's name for it)."""

    event: ModelEvent
    socket_id: str | None = None
    members: dict[str, Any] = field(default_factory=dict)
    """Members for measuring, added to the payload."""
    token: str = ""
    """Of a debounced job: it sends only while this is its key's newest token."""
    unique: bool = False
    attempt: int = 1
    dispatched_at: int = 0

    def to_json(self) -> bytes:
        return orjson.dumps({f.name: getattr(self, f.name) for f in fields(self)} | {"event": to_wire(self.event)})

    @classmethod
    def from_json(cls, text: bytes) -> BroadcastEvent:
        members = orjson.loads(text)
        return cls(**(members | {"event": from_wire(members["event"])}))


class JobQueue(Protocol):
    """Where jobs wait: in this process or in Redis. A worker takes one and calls `Dispatcher.work`."""

    def push(self, job: BroadcastEvent, delay: float) -> None:
        """Hand over *job*, to be worked *delay* seconds from now or later. Raises `OSError` when the queue is gone."""
        ...

    def __len__(self) -> int: ...


class Cache(Protocol):
    """Locks and tokens that all processes of the application share."""

    def add(self, key: str, value: str, ttl: float) -> bool:
        """Set *key* unless it is there; whether it was set."""
        ...

    def put(self, key: str, value: str, ttl: float) -> None: ...
    def get(self, key: str) -> str | None: ...
    def forget(self, key: str) -> None: ...


class MemoryCache:
    """A cache of one process. *now*: ns."""

    def __init__(self, now: Callable[[], int]) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._values: dict[str, tuple[str, int]] = {}

    def add(self, key: str, value: str, ttl: float) -> bool:
        with self._lock:
            if self._alive(key) is not None:
                return False
            self._values[key] = (value, self._now() + round(ttl * 1e9))
            return True

    def put(self, key: str, value: str, ttl: float) -> None:
        with self._lock:
            self._values[key] = (value, self._now() + round(ttl * 1e9))

    def get(self, key: str) -> str | None:
        with self._lock:
            return self._alive(key)

    def forget(self, key: str) -> None:
        with self._lock:
            self._values.pop(key, None)

    def _alive(self, key: str) -> str | None:
        value, until = self._values.get(key, ("", 0))
        if until <= self._now():
            self._values.pop(key, None)
            return None
        return value


@dataclass(frozen=True, slots=True)
class DispatchOutcome:
    """What has become of a dispatch by now."""

    state: Literal["accepted", "waiting", "dropped", "lost"]
    """`waiting`: in the queue. `dropped`: not sent on purpose. `lost`: given up."""
    accepted_at: int | None = None
    """When the broadcaster had accepted the event, ns since 1970; None: not yet, or never."""
    reason: str = ""
    """Why it was dropped: `unique`, `debounced` or `missing`."""

    @property
    def on_its_way(self) -> bool:
        """Accepted, or still to be sent."""
        return self.state in ("accepted", "waiting")


WAITING = DispatchOutcome("waiting")
LOST = DispatchOutcome("lost")


@dataclass(eq=False)
class Dispatcher:
    """Sends events as `settings` says."""

    settings: Broadcast
    broadcaster: BroadcasterClient
    queue: JobQueue
    cache: Cache
    now: Callable[[], int]
    """ns since 1970."""
    metrics: Metrics
    full: Callable[[ModelEvent], dict[str, Any] | None] | None = None
    """Event -> the resource that a full payload carries; None: there is none (any more)."""
    stamp: bool = False
    """Whether the members for measuring go into payloads."""
    report: Callable[[BroadcastEvent, DispatchOutcome], None] = lambda job, outcome: None
    """Called once with what finally became of each event (accepted, dropped or lost)."""
    outage: OutageLog = field(default_factory=lambda: OutageLog("the broadcaster", log))

    def dispatch(self, event: ModelEvent, socket_id: str | None = None, members: dict[str, Any] | None = None) -> DispatchOutcome:
        """Broadcast *event*, now or later; never raises. *socket_id*: the connection that made the change (`toOthers`)."""
        settings, now = self.settings, self.now()
        excluded = socket_id if settings.to_others else None
        job = BroadcastEvent(event, excluded, members or {}, dispatched_at=now)
        self.metrics.count("broadcast_dispatched_total", event=event.name)
        if settings.debounce > 0:
            return self._debounce(job, now)
        if settings.dispatch == "now":
            return self.work(job)
        if settings.unique and not self.cache.add(f"unique:{event.key}", "1", settings.unique_for):
            return self._drop(job, "unique")
        return self._push(replace(job, unique=settings.unique), settings.queue_latency)

    def work(self, job: BroadcastEvent) -> DispatchOutcome:
        """Do one job; what a queue's worker calls. Never raises: a failure goes back to the queue until its tries are used."""
        key = job.event.key
        if job.unique and job.attempt == 1:
            self.cache.forget(f"unique:{key}")
        if job.token:
            newest = self.cache.get(f"debounce:{key}")
            if newest is not None and newest != job.token:
                return self._drop(job, "debounced")
            if job.attempt == 1:
                self.cache.forget(f"series:{key}")
        try:
            return self._send(job)
        except BroadcastFailed as error:
            self.metrics.count("broadcast_failures_total", event=job.event.name)
            if job.attempt < self.settings.tries:
                self.metrics.count("broadcast_retries_total", event=job.event.name)
                return self._push(replace(job, attempt=job.attempt + 1), self.settings.backoff)
            tries = f"{job.attempt} {'try' if job.attempt == 1 else 'tries'}"
            self.outage.failed(f"{job.event.name}: given up after {tries}: {error}")
            return self._lose(job)

    def _debounce(self, job: BroadcastEvent, now: int) -> DispatchOutcome:
        settings, key = self.settings, job.event.key
        most = settings.debounce_max_wait
        ttl = max(10 * settings.debounce, 300.0)
        token = uuid.uuid4().hex
        delay = settings.debounce
        if most is not None and not self.cache.add(f"series:{key}", str(now), ttl + most):
            first = int(self.cache.get(f"series:{key}") or now)
            if now - first >= round(most * 1e9):
                self.cache.forget(f"series:{key}")
                delay = 0.0
        self.cache.put(f"debounce:{key}", token, ttl)
        return self._push(replace(job, token=token), delay + settings.queue_latency)

    def _push(self, job: BroadcastEvent, delay: float) -> DispatchOutcome:
        try:
            self.queue.push(job, delay)
        except OSError:
            # Laravel would answer 500 here; the change is committed all the same, so it is counted and let go.
            return self._lose(job)
        return WAITING

    def _drop(self, job: BroadcastEvent, reason: str) -> DispatchOutcome:
        self.metrics.count("broadcast_dropped_total", event=job.event.name, reason=reason)
        outcome = DispatchOutcome("dropped", reason=reason)
        self.report(job, outcome)
        return outcome

    def _lose(self, job: BroadcastEvent) -> DispatchOutcome:
        self.metrics.count("broadcast_lost_total", event=job.event.name)
        self.report(job, LOST)
        return LOST

    def _send(self, job: BroadcastEvent) -> DispatchOutcome:
        settings, event, started = self.settings, job.event, self.now()
        payload = event.broadcast_with(started)
        if settings.payload == "full" and self.full is not None and event.resource in ("server", "site"):
            resource = self.full(event)
            if resource is None and settings.dispatch == "queued":
                # The row is gone by now: as with SerializesModels, the job is deleted and nothing is sent.
                return self._drop(job, "missing")
            payload[event.resource] = resource
        if settings.payload_bytes and (settings.payload == "full" or event.resource == "task"):
            payload["padding"] = "x" * settings.payload_bytes
        if self.stamp and job.members:
            payload |= job.members | {"published_at": self.now()}
        name = broadcast_name(event, settings.broadcast_as)
        data = orjson.dumps(payload).decode()
        channels = event.broadcast_on(settings.channels)
        for start in range(0, len(channels), CHANNELS_PER_REQUEST):
            self.broadcaster.trigger(name, data, channels[start : start + CHANNELS_PER_REQUEST], job.socket_id)
        finished = self.now()
        self.outage.worked()
        self.metrics.count("broadcast_published_total", event=event.name)
        self.metrics.observe("broadcast_publish_seconds", (finished - started) / 1e9)
        self.metrics.observe("broadcast_wait_seconds", (started - job.dispatched_at) / 1e9)
        outcome = DispatchOutcome("accepted", finished)
        self.report(job, outcome)
        return outcome
