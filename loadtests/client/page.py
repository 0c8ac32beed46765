"""One open page: its first load, its connection, its policy, its refetches, and what of it is recorded.

A page knows nothing of Locust. All pages of one class share a `Spec`; the pages that one user opens one after the other share a
`Seat`. A page has one life: it loads its resource over HTTP as a browser does (unless there is no application), then connects. A
page that reconnects is the same page. When its user leaves, the next page is another one, with a number of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import orjson

from loadtests.client.echo import Authorised, Echo, State
from loadtests.client.http import Answer, Pool
from loadtests.client.inertia import Inertia
from loadtests.client.link import Link
from loadtests.client.reader import Event
from loadtests.client.retries import RetriedGet
from loadtests.client.spec import Spec
from sim.clock import SECOND, Timer
from sim.policy import Policy, Polling
from sim.refetch import Refetch, Refetcher
from sim.resource_version import version_at
from sim.target import Key

if TYPE_CHECKING:
    from loadtests.client.plant import Plant

BROWSER_CONNECTIONS = 100
"""Requests at once of a page with connections of its own: the least that HTTP/2 allows (RFC 9113, 6.5.2). Browsers have six
connections over HTTP/1.1, and a request that is given up while it waits for one of them never reaches the application."""

HIDDEN_STEP = SECOND
"""Browsers let the timers of a hidden tab ring only once a second, each tab at an instant of its own."""

HIDDEN_POLL = 10
"""Inertia skips nine of ten polls in a hidden tab."""

RELOAD = 5 * SECOND
"""After this time a user whose page did not load tries again."""

NEVER = -1

Waiting = tuple[int, int]
"""The oldest update that the page has heard of and does not show yet: its intended time (-1: its payload does not say), and when
its notification arrived."""

NOTHING: Waiting = (NEVER, NEVER)

OVER = (NOTHING, "")
"""The end of a refetch that was given up."""


@dataclass(slots=True, eq=False)
class Seat:
    """What stays the same when a user leaves a page and opens the next one."""

    number: int
    """Its place among the seats of its class in this process."""
    user: int
    resource_id: int
    """User and resource as the tables number them."""
    headers: bytes
    """Complete header lines of every request."""
    keys: tuple[Key, Key] | None = None
    """User and resource as the target names them; None: by the same numbers."""
    hidden: bool = False
    hook: Callable[[Event], Any] | None = None
    """Whether an event is a reason to refetch. Runs in the hub."""
    renew: Callable[[], None] = lambda: None
    """Leave the page and open the next one: the application answered that its assets have changed (409 with a location)."""
    later: bool = False
    """Whether this is a page that opens in mid-run."""
    reached: bool = False
    """Whether one of its pages has been subscribed to all its channels."""
    login: tuple[tuple[str, str], ...] = ()
    """Fields of the login form, where users log in."""


class Page:
    """`open` begins it; `close` (its user leaves) or `stop` (the run is over) ends it. Call them from a greenlet or the mux."""

    __slots__ = (
        "_admission",
        "_audience",
        "_ending",
        "_etag",
        "_hook",
        "_inertia",
        "_loaded_version",
        "_loading",
        "_notified",
        "_opened_at",
        "_ordered",
        "_path",
        "_plant",
        "_record",
        "_refetcher",
        "_since",
        "_spec",
        "_waiting",
        "echo",
        "headers",
        "pool",
        "prefix",
        "seat",
        "subscriber",
    )

    def __init__(self, plant: Plant, spec: Spec, seat: Seat) -> None:
        self._plant, self._spec, self.seat = plant, spec, seat
        self.subscriber = plant.recorder.subscriber(spec.kind)
        self.headers, self.prefix = seat.headers, spec.prefix
        self._path = spec.prefix + self._filled(spec.refetch, partial(quote, safe=""))
        assert spec.application is not None or spec.pool is not None or not spec.refetch
        self.pool: Pool = spec.pool or Pool(plant.traffic, spec.application or spec.broadcaster, BROWSER_CONNECTIONS)
        self._record, self._hook = plant.recorder.notification, seat.hook
        self._since: dict[str, int] = {}
        self._audience = -1
        self._etag = b""
        self._inertia = Inertia(spec.only) if spec.inertia else None
        self._ordered = True
        self._opened_at = NEVER
        self._loaded_version: int | None = None
        self._waiting = NOTHING
        self._ending: tuple[Waiting, str] = OVER
        self._admission: Callable[[], None] | None = None
        self._loading: RetriedGet | Timer | None = None
        self.echo: Echo | None = None
        self._refetcher: Refetcher | None = None
        self._notified: Callable[[int], None] | None = None
        """The refetcher's method; None where there is nothing to refetch."""

    # ---- life

    def open(self, release: Callable[[], None]) -> None:
        """Begin. *release()* is called once, when the first attempt to load, and the first to connect, are over."""
        plant, spec = self._plant, self._spec
        self._admission = release
        plant.pages.add(self)
        if spec.refetch:
            self._load()
        else:
            self._listen(None)

    def _load(self) -> None:
        self._loading = None
        plant, timeout = self._plant, self._spec.timeout
        request = RetriedGet(plant.retries, self.pool, self._path, self._loaded, self.headers, timeout, self._retried)
        if self._loading is None and self._refetcher is None:  # Otherwise it has its answer already.
            self._loading = request

    def _loaded(self, answer: Answer) -> None:
        version, plant = self._read(answer), self._plant
        loaded = _shows(answer) and answer.status != 304
        self.timed("GET", f"{self._spec.kind.refetch} (page)", answer, "" if loaded else _reason(answer))
        if loaded:
            self._loading = None
            self._opened(answer.finished_at, version)
            self._listen(version)
        else:
            self._loading = plant.mux.call_at(plant.mux.now() + RELOAD, self._load)
            self._release()

    def _opened(self, at: int, version: int | None) -> None:
        self._opened_at, self._loaded_version = at, version if self._ordered else None
        self._plant.recorder.lives += 1
        self._write_life(NEVER, "end")

    def _write_life(self, closed_at: int, reason: str) -> None:
        """A row of the table `pages`. One is written when the page opens; one that is written when it closes takes its place."""
        life = (self._opened_at, closed_at, reason, self._loaded_version)
        self._plant.recorder.page((*self._identity(), *life, self._policy_name(), self.seat.hidden))

    def _identity(self) -> tuple[int, str, int, str, int]:
        """The first columns of a row of `pages` and of `subscriptions`."""
        kind, seat = self._spec.kind, self.seat
        return self.subscriber, kind.page, seat.user, kind.resource, seat.resource_id

    def _listen(self, version: int | None) -> None:
        """Refetch by the policy from now on; connect."""
        plant, spec = self._plant, self._spec
        step, phase = (HIDDEN_STEP, plant.random.randrange(HIDDEN_STEP)) if self.seat.hidden else (0, 0)
        self._refetcher = Refetcher(self._policy(), spec.in_flight, plant.mux, self._send, self._done, plant.random, step, phase)
        self._refetcher.version = version
        self._notified = self._refetcher.notified if spec.refetch else None
        if not spec.listens:
            self._release()
            return
        if spec.subscribes and self._hook is self._notified is None:  # What arrives is recorded, and has no other effect.
            self._audience = plant.reader.audience(frozenset(self.channels()), spec.events)
        self.echo = Echo(plant.mux, self._dial, plant.reader, self)
        if spec.subscribes:
            for channel in self.channels():
                self.echo.subscribe(channel)
        self.echo.connect()

    def _policy(self) -> Policy:
        policy = self._spec.policy
        if self.seat.hidden and isinstance(policy, Polling):
            return replace(policy, interval=policy.interval * HIDDEN_POLL)
        return policy

    def channels(self) -> list[str]:
        return [self._filled(channel) for channel in self._spec.channels]

    def _filled(self, template: str, written: Callable[[str], str] = str) -> str:
        """*template* with user and resource as the target names them; *written*: how a name is quoted there."""
        user, id = self.seat.keys or (self.seat.user, self.seat.resource_id)
        return template.format(id=written(str(id)), user=written(str(user)), n=self.seat.number)

    def _dial(self, echo: Echo) -> Link:
        plant, spec = self._plant, self._spec
        shared = (spec.stamp, spec.browser_origin, plant.reader.frames)
        return Link(plant.mux, spec.broadcaster, spec.uri, echo, *shared, self._audience, self.subscriber)

    def _release(self) -> None:
        release, self._admission = self._admission, None
        if release is not None:
            release()

    def close(self) -> None:
        """Its user leaves: a request that runs is cancelled."""
        now = self._plant.mux.now()
        if self._refetcher is not None:
            self._refetcher.close()
        self._end_subscriptions(now, "closed")
        if self._opened_at != NEVER:
            self._write_life(max(now, self._opened_at), "closed")
        self._go()

    def stop(self) -> None:
        """The run is over. In the tables the page stays open."""
        if self._refetcher is not None:
            self._refetcher.stop()
        self._plant.recorder.listening -= self._is_complete()
        self._go()

    def _go(self) -> None:
        self._plant.pages.discard(self)
        self._release()
        if isinstance(self._loading, RetriedGet):
            self._loading.abort()
        elif self._loading is not None:
            self._loading.cancel()
        if self.echo is not None:
            self.echo.disconnect()
        if self._spec.pool is None:
            self.pool.close()
        self.echo = self._refetcher = self._notified = self._loading = None

    def lose(self) -> None:
        """Lose the connection, as when the broadcaster restarts, and come back."""
        if self.echo is not None and self.echo.is_open:
            self.dropped(self._plant.mux.now(), 1006, "reconnect storm")
            self.echo.lose()

    def _is_complete(self) -> bool:
        return bool(self._since) and len(self._since) == len(self._spec.channels)

    def _end_subscriptions(self, at: int, reason: str) -> None:
        self._plant.recorder.listening -= self._is_complete()
        for channel, since in self._since.items():
            self._subscription(channel, since, max(at, since), reason)
        self._since.clear()

    def _subscription(self, channel: str, since: int, until: int, reason: str) -> None:
        self._plant.recorder.subscription(*self._identity(), channel, since, until, reason, self._policy_name())

    def _policy_name(self) -> str:
        """Empty where there is nothing to refetch, so that the policy has no effect."""
        return self._spec.policy.kind if self._spec.refetch else ""

    # ---- the connection's side

    @property
    def login(self) -> tuple[tuple[str, str], ...]:
        return self.seat.login

    def authorize(self, channel: str, socket_id: str, done: Authorised) -> None:
        self._spec.auth.authorize(self, channel, socket_id, done)

    def timed(self, method: str, path: str, answer: Answer, error: str) -> None:
        """Count a request that is no refetch in Locust's table."""
        self._plant.recorder.timing(method, path, answer.finished_at - answer.started_at, http=True, failed=error)

    def _count(self, counter: str, name: str, took: int | None = None, failed: str = "") -> None:
        """Count what happened to the connection, and put it into Locust's table."""
        self._plant.recorder.counters[counter] += 1
        self._plant.recorder.timing("WS", name, took, failed=failed)

    def connected(self, at: int, took: int) -> None:
        self._count("connects", "connect", took)
        self._release()

    def dropped(self, at: int, code: int, reason: str) -> None:
        assert self.echo is not None
        what = ("drops", "connection") if self.echo.state is State.CONNECTED else ("connect_failures", "connect")
        self._count(*what, failed=f"{code} {reason}" if code != 1006 else reason)
        self._end_subscriptions(at, "dropped")
        self._release()

    def subscribed(self, channel: str, at: int, took: int) -> None:
        self._count("subscribed", "subscribe", took)
        if channel in self._since:
            return
        self._since[channel] = at
        self._subscription(channel, at, NEVER, "end")
        if self._is_complete():
            self._plant.recorder.listening += 1
            self._complete(at)

    def _complete(self, at: int) -> None:
        """All channels are subscribed, for the first time or again."""
        seat, spec, recorder = self.seat, self._spec, self._plant.recorder
        if not seat.reached:
            seat.reached = True
            recorder.subscribed += 1
        first = self._opened_at == NEVER or not seat.later
        seat.later = True  # From here on, each subscription of this seat comes in mid-run.
        if self._opened_at == NEVER:
            self._opened(at, None)
        if spec.behaviour != "good":
            self._misbehave(at)
        elif spec.refetch_on_reconnect and not first and self._refetcher is not None:
            self._refetcher.demand(at)

    def _misbehave(self, at: int) -> None:
        assert self.echo is not None
        self._end_subscriptions(at, "closed")
        if self._spec.behaviour == "stop_reading":
            self.echo.hang()
        elif self._spec.behaviour == "reconnect_loop":
            self.echo.lose()

    def refused(self, channel: str, at: int, reason: str) -> None:
        self._count("refused", "subscribe", failed=reason)
        self._subscription(channel, at, at, "refused")

    def complained(self, code: int, message: str) -> None:
        if code:
            self._count("complaints", "pusher:error", failed=f"{code} {message}")
        else:
            self._count("malformed", "frame", failed=message)

    def heard(self, event: Event, arrived_at: int, read_at: int, stamp: int) -> None:
        events, hook = self._spec.events, self._hook
        if events and event.name not in events:
            self._plant.recorder.counters["unexpected"] += 1
            self._plant.recorder.strangers[event.name] += 1
            return
        self._record(event.code | stamp, arrived_at, read_at, self.subscriber)
        if hook is not None and not hook(event):
            return
        if self._notified is None:
            return
        at = arrived_at if arrived_at < read_at else read_at
        if self._waiting is NOTHING:
            self._waiting = (event.sent_at, at)
        self._notified(at)

    # ---- the refetcher's side

    def _send(self, refetch: Refetch) -> Callable[[], None]:
        waiting, self._waiting = self._waiting, NOTHING
        headers = self.headers if not self._etag else self.headers + b"If-None-Match: " + self._etag + b"\r\n"
        if self._inertia is not None:
            headers += self._inertia.headers
        done = partial(self._answered, refetch, waiting)
        request = RetriedGet(self._plant.retries, self.pool, self._path, done, headers, self._spec.timeout, self._retried)
        return partial(self._abort, refetch, waiting, request)

    def _abort(self, refetch: Refetch, waiting: Waiting, request: RetriedGet) -> None:
        request.abort()
        refetch.started_at = request.started_at
        self._keep_waiting(waiting)

    def _keep_waiting(self, waiting: Waiting) -> None:
        """The refetch did not show the update that it was sent for: the page still waits for it, since the same time."""
        if waiting is not NOTHING and (self._waiting is NOTHING or waiting[1] < self._waiting[1]):
            self._waiting = waiting

    def _retried(self, answer: Answer) -> None:
        self._plant.recorder.counters["retries"] += 1
        self.timed("GET", self._spec.kind.refetch, answer, _reason(answer))

    def _answered(self, refetch: Refetch, waiting: Waiting, answer: Answer) -> None:
        refetcher, status = self._refetcher, answer.status
        if refetcher is None:
            return
        refetch.started_at = answer.started_at
        version = refetcher.version if status == 304 else self._read(answer)
        self._ending = waiting, ""
        shows = _shows(answer)
        if not shows:
            self._keep_waiting(waiting)
            self._ending = NOTHING, _reason(answer)
        refetcher.finished(refetch, answer.finished_at, version, status, answer.size, shows)
        if status == 409 and b"x-inertia-location" in answer.headers:
            self._plant.mux.call_at(answer.finished_at, self.seat.renew)

    def _read(self, answer: Answer) -> int | None:
        """The version of a whole answer; its ETag is remembered. One that is no JSON, where others of its kind were, is an error:
        a login page, most likely, to which a redirect led."""
        if not 200 <= answer.status < 300:
            return None
        body = answer.body if self._inertia is None else self._inertia.learn(answer.body)
        try:
            found = version_at(orjson.loads(body), self._spec.version_path)
        except ValueError:
            found = None
            if self._spec.kind.versions:
                answer.error = f"HTTP {answer.status} without JSON"
                return None
        self._etag = answer.headers.get(b"etag", b"")
        if found is None:
            return None
        self._ordered = found.kind != "text"
        self._spec.kind.versions.add(found.kind)
        return found.number

    def _done(self, refetch: Refetch) -> None:
        (waiting, why), self._ending = self._ending, OVER
        recorder, spec = self._plant.recorder, self._spec
        if refetch.started_at < 0:
            recorder.counters["unsent"] += 1  # It was given up in line for a connection.
            return
        if not self._ordered:
            refetch.version = None
        recorder.refetch(spec.kind, self.subscriber, self.seat.resource_id, refetch, *waiting, why)


def _shows(answer: Answer) -> bool:
    """Whether there is something to show: a whole answer, or that nothing has changed."""
    return not answer.error and (200 <= answer.status < 300 or answer.status == 304)


def _reason(answer: Answer) -> str:
    return answer.error or f"HTTP {answer.status}"
