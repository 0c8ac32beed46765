"""One open page: its connection, its policy, its refetches, and what of it is recorded.

Knows nothing of Locust. What all pages of one class have in common is their `Spec`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson

from loadtests.client.echo import Authorised, Echo, Event, State
from loadtests.client.http import Answer, Exchange, Pool
from loadtests.client.link import Link
from loadtests.client.spec import Spec
from sim.clock import SECOND
from sim.refetch import Refetch, Refetcher
from sim.target import Key

if TYPE_CHECKING:
    from loadtests.client.plant import Plant

BROWSER_CONNECTIONS = 6
"""Per host over HTTP/1.1, for a page with connections of its own."""


class Page:
    """Opened by `open`, closed by `close`; both from a greenlet or the mux."""

    __slots__ = (
        "_admission",
        "_answering",
        "_etag",
        "_hook",
        "_keys",
        "_path",
        "_plant",
        "_record",
        "_refetcher",
        "_since",
        "_spec",
        "_stale_at",
        "echo",
        "headers",
        "hidden",
        "number",
        "pool",
        "prefix",
        "resource_id",
        "subscriber",
        "user",
    )

    def __init__(
        self,
        plant: Plant,
        spec: Spec,
        subscriber: int,
        number: int,
        user: int,
        resource_id: int,
        headers: bytes,
        hidden: bool = False,
        hook: Callable[[Event], Any] | None = None,
        keys: tuple[Key, Key] | None = None,
    ) -> None:
        """*user* and *resource_id* are the numbers of the tables, *keys* what the target calls the two (None: the same).
        *hook*(event), where there is one, says whether the event is a reason to refetch. It runs in the hub."""
        self._plant, self._spec, self._hook = plant, spec, hook
        self.subscriber, self.user, self.resource_id, self.hidden = subscriber, user, resource_id, hidden
        self.headers, self.prefix = headers, spec.prefix
        self.number = number
        self._keys = keys or (user, resource_id)
        self._path = spec.prefix + self._filled(spec.refetch)
        assert spec.application is not None or spec.pool is not None or not spec.refetch
        self.pool: Pool = spec.pool or Pool(plant.traffic, spec.application or spec.broadcaster, BROWSER_CONNECTIONS)
        self._record = plant.recorder.notification
        self._since: dict[str, int] = {}
        self._etag = b""
        self._stale_at = self._answering = -1
        self._admission: Callable[[], None] | None = None
        self.echo: Echo | None = None
        self._refetcher: Refetcher | None = None

    # ---- life

    def open(self, release: Callable[[], None]) -> None:
        """Begin. *release()* is called once, when the first attempt to connect has come to an end."""
        plant, spec = self._plant, self._spec
        self._refetcher = Refetcher(
            spec.policy, spec.in_flight, plant.mux, self._send, self._done, plant.random, SECOND if self.hidden else 0
        )
        plant.pages.add(self)
        plant.recorder.opened += 1
        if not spec.listens:
            self._since[""] = plant.mux.now()
            release()
            return
        self._admission = release
        self.echo = Echo(plant.mux, self._dial, plant.ear, self)
        if spec.subscribes:
            plant.recorder.wanted += 1
            for channel in self.channels():
                self.echo.subscribe(channel)
        self.echo.connect()

    def channels(self) -> list[str]:
        return [self._filled(channel) for channel in self._spec.channels]

    def _filled(self, template: str) -> str:
        user, id = self._keys
        return template.format(id=id, user=user, n=self.number)

    def _dial(self, echo: Echo) -> Link:
        spec = self._spec
        return Link(self._plant.mux, spec.broadcaster, spec.uri, echo, spec.stamp, spec.browser_origin)

    def _release(self) -> None:
        release, self._admission = self._admission, None
        if release is not None:
            release()

    def close(self, reason: str = "end") -> None:
        """Leave. *reason*: `end` of the test, or `closed` by the page's own will."""
        plant = self._plant
        plant.pages.discard(self)
        self._release()
        if self._refetcher is not None:
            self._refetcher.close()
        complete = self._is_complete()
        self._end_subscriptions(plant.mux.now(), reason)
        if self.echo is not None:
            self.echo.disconnect()
            if self._spec.subscribes:
                plant.recorder.wanted -= 1
                plant.recorder.subscribed -= complete
        if self._spec.pool is None:
            self.pool.close()
        self.echo = self._refetcher = None

    def lose(self) -> None:
        """Lose the connection, as by the broadcaster's restart, and come back."""
        if self.echo is not None and self.echo.is_open:
            self.dropped(self._plant.mux.now(), 1006, "reconnect storm")
            self.echo.lose()

    def _is_complete(self) -> bool:
        return bool(self._since) and len(self._since) == len(self._spec.channels)

    def _end_subscriptions(self, at: int, reason: str) -> None:
        for channel, since in self._since.items():
            self._subscription(channel, since, at, reason)
        self._since.clear()

    def _subscription(self, channel: str, since: int, until: int, reason: str) -> None:
        kind, until = self._spec.kind, max(until, since)
        # Without an application there is nothing to refetch, whatever the policy: then it is left open.
        policy = self._spec.policy.kind if self._spec.refetch else ""
        self._plant.recorder.subscription(
            self.subscriber, kind.page, self.user, kind.resource, self.resource_id, channel, since, until, reason, policy
        )

    # ---- the connection's side

    def authorize(self, channel: str, socket_id: str, done: Authorised) -> None:
        self._spec.auth.authorize(self, channel, socket_id, done)

    def timed(self, method: str, path: str, answer: Answer, error: str) -> None:
        """One request of an authorisation, for Locust's table."""
        recorder = self._plant.recorder
        if error:
            recorder.failure(method, path, error, http=True)
        else:
            recorder.timing(method, path, answer.finished_at - answer.started_at, http=True)

    def connected(self, at: int, took: int) -> None:
        recorder = self._plant.recorder
        recorder.counters["connects"] += 1
        recorder.timing("WS", "connect", took)
        self._release()

    def dropped(self, at: int, code: int, reason: str) -> None:
        recorder = self._plant.recorder
        assert self.echo is not None
        established = self.echo.state is State.CONNECTED
        recorder.counters["drops" if established else "connect_failures"] += 1
        recorder.failure("WS", "connection" if established else "connect", f"{code} {reason}" if code != 1006 else reason)
        recorder.subscribed -= self._is_complete()
        self._end_subscriptions(at, "dropped")
        self._release()

    def subscribed(self, channel: str, at: int, took: int) -> None:
        recorder = self._plant.recorder
        recorder.counters["subscribed"] += 1
        recorder.timing("WS", "subscribe", took)
        if channel not in self._since:
            self._since[channel] = at
            if self._is_complete():
                recorder.subscribed += 1
                self._misbehave(at)

    def _misbehave(self, at: int) -> None:
        if self._spec.behaviour == "good":
            return
        assert self.echo is not None
        self._end_subscriptions(at, "closed")
        self._plant.recorder.subscribed -= 1
        if self._spec.behaviour == "stop_reading":
            self.echo.hang()
        elif self._spec.behaviour == "reconnect_loop":
            self.echo.lose()

    def refused(self, channel: str, at: int, reason: str) -> None:
        recorder = self._plant.recorder
        recorder.counters["refused"] += 1
        recorder.failure("WS", "subscribe", reason)
        self._subscription(channel, at, at, "refused")

    def complained(self, code: int, message: str) -> None:
        recorder = self._plant.recorder
        if code:
            recorder.counters["complaints"] += 1
            recorder.failure("WS", "pusher:error", f"{code} {message}")
        else:
            recorder.counters["malformed"] += 1
            recorder.failure("WS", "frame", message)

    def heard(self, event: Event, arrived_at: int, read_at: int, stamp: int) -> None:
        spec = self._spec
        if spec.events and event.name not in spec.events:
            self._plant.recorder.counters["unexpected"] += 1
            return
        self._record(
            event.update, event.key, event.sent_at, arrived_at, read_at, self.subscriber, event.code, spec.kind.code, stamp
        )
        if self._hook is not None and not self._hook(event):
            return
        if self._stale_at < 0:
            self._stale_at = event.sent_at
        assert self._refetcher is not None
        self._refetcher.notified(arrived_at if arrived_at < read_at else read_at)

    # ---- the refetcher's side

    def _send(self, refetch: Refetch) -> Callable[[], None]:
        stale_at, self._stale_at = self._stale_at, -1
        headers = self.headers if not self._etag else self.headers + b"If-None-Match: " + self._etag + b"\r\n"
        exchange = self.pool.send("GET", self._path, partial(self._answered, refetch, stale_at), headers, b"", self._spec.timeout)
        return partial(self._abort, refetch, stale_at, exchange)

    def _abort(self, refetch: Refetch, stale_at: int, exchange: Exchange) -> None:
        if exchange.connection is None:
            refetch.started_at = -1  # It had waited for a connection all the time.
        exchange.abort()
        self._still_stale(stale_at)

    def _still_stale(self, since: int) -> None:
        if since >= 0:
            self._stale_at = since if self._stale_at < 0 else min(since, self._stale_at)

    def _answered(self, refetch: Refetch, stale_at: int, answer: Answer) -> None:
        refetcher = self._refetcher
        if refetcher is None:
            return
        refetch.started_at = answer.started_at
        status, version = answer.status, None
        if status == 304:
            version = refetcher.version
        elif 200 <= status < 300:
            found = version_of(answer.body, self._spec.version_path)
            version = found if found >= 0 else None
            self._etag = answer.headers.get(b"etag", b"")
        elif 0 < status < 400:
            # A redirect, to a login page most likely: not the resource.
            self._plant.recorder.failure("GET", self._spec.kind.refetch, f"HTTP {status}", http=True)
            status = 0
        if status == 0 or status >= 400:
            self._still_stale(stale_at)
        self._answering = stale_at
        refetcher.finished(refetch, answer.finished_at, version, status, answer.size)
        self._answering = -1

    def _done(self, refetch: Refetch) -> None:
        self._plant.recorder.refetch(
            self._spec.kind, self.subscriber, self.resource_id, refetch, self._answering, refetch.outcome
        )


def version_of(body: bytes, path: tuple[str, ...]) -> int:
    """The whole number at *path* of a JSON body; a time in ISO 8601 as microseconds since 1970; -1 where there is neither."""
    try:
        value = orjson.loads(body)
        for name in path:
            value = value[int(name)] if type(value) is list else value[name]
    except (ValueError, KeyError, IndexError, TypeError):
        return -1
    if type(value) is int:
        return value
    if type(value) is str:
        try:
            return int(value) if value.isdigit() else round(datetime.fromisoformat(value).timestamp() * 1e6)
        except ValueError:
            return -1
    return -1
