"""What a worker process has once for all of its pages: mux, recorder, connections, random streams.

Made when the first user starts, never at import: `--processes` forks after the locustfile was loaded, and an epoll descriptor
or a hub's watcher shared by two processes would serve neither.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import random
import resource
import time
from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar, Protocol

import numpy as np
import psutil
from gevent.lock import RLock
from locust.env import Environment

from loadtests.client.http import Pool, Traffic
from loadtests.client.mux import POLL_EVERY, Mux
from loadtests.client.reader import EventReader
from loadtests.client.retries import Retries
from loadtests.client.spec import Spec
from loadtests.client.streams import HAS_STAMPS, Origin
from loadtests.recording.listeners import Listeners
from loadtests.recording.recorder import Recorder
from loadtests.recording.rows import Sample
from loadtests.settings import Settings
from sim.clock import SECOND, ns
from sim.target import Key
from sim.target.keys import renamed

HANDSHAKES = 200
"""First connections under way at once: a server's accept backlog is often not longer (Linux: 4096, PHP's streams: 102)."""
BRISK, CALM = SECOND // 2, 2 * SECOND
"""Nanoseconds between two times that rows are taken and written: while pages open, and later. An idle process with 5,000 pages
took 6.5 ms of CPU a second with rows taken twice and a probe sent twenty times a second; it takes 1.4 ms with these periods."""
PROBE_EVERY = SECOND // 4
HUB_GAP = 50_000_000
YOUNG = 20_000
"""New objects after which Python looks for garbage. With its default of 700, many pages that each hear a different event cause a
full collection of several ms every few seconds."""
SUBSCRIBERS_PER_WORKER = 1_000_000
"""Subscriber ids of worker w begin at w times this number, so that no two workers use the same id."""

logger = logging.getLogger(__name__)


class OpenPage(Protocol):
    """What a plant needs of an open page."""

    def lose(self) -> None:
        """The connection breaks."""


class Garbage:
    """Python's garbage collector while there are pages: it runs more rarely, is measured, and leaves out what lasts."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._pages = self._frozen = 0
        """Pages opened plus pages subscribed: at the last look, and when objects were last frozen."""
        self._began_at = 0
        gc.callbacks.append(self.observe)
        self._thresholds = gc.get_threshold()
        gc.set_threshold(YOUNG, *self._thresholds[1:])

    @property
    def is_settled(self) -> bool:
        """Whether all pages that there are have been frozen."""
        return self._pages == self._frozen > 0

    def settle(self) -> None:
        """Freeze all objects (`gc.freeze`) as soon as all pages are subscribed, or no more open: with 10,000 pages each full
        collection would stop the process for 100 ms. (Locust's `spawning_complete` may come before the first page.)"""
        recorder = self._recorder
        before, self._pages = self._pages, recorder.opened + recorder.subscribed
        if self._pages > self._frozen and (recorder.subscribed >= recorder.wanted or self._pages == before):
            self._frozen = self._pages
            gc.collect()
            gc.freeze()

    def observe(self, phase: str, info: dict[str, int]) -> None:
        """Called by the collector: count and time its full collections."""
        if info["generation"] < 2:
            return
        if phase == "start":
            self._began_at = time.monotonic_ns()
        else:
            self._recorder.histograms["gc_pause"].add([time.monotonic_ns() - self._began_at])
            self._recorder.counters["gc_collections"] += 1

    def close(self) -> None:
        gc.callbacks.remove(self.observe)
        gc.set_threshold(*self._thresholds)


class Plant:
    """`Plant.of(environment)` is this process's."""

    current: ClassVar[Plant | None] = None
    configured: ClassVar[Settings | None] = None
    """Set by the locustfile; None: read from the environment when the plant is made."""

    @classmethod
    def of(cls, environment: Environment) -> Plant:
        if cls.current is None or cls.current.pid != os.getpid():
            cls.current = cls(environment, cls.configured or Settings.from_environment(need_target=False))
        return cls.current

    def __init__(self, environment: Environment, settings: Settings) -> None:
        self.pid = os.getpid()
        self.mux = Mux()
        self.stamp = settings.scenario.load.receive_stamp == "kernel" and HAS_STAMPS
        if self.mux.waits_by == "poll":
            logger.warning(
                "no epoll here: sockets are looked at every %.0f ms, and arrivals are that uncertain", POLL_EVERY * 1000
            )
        self.traffic = Traffic(self.mux, self.stamp)
        # A worker's index is its master's to give; alone it is 0.
        self.worker = max(getattr(environment.runner, "worker_index", 0), 0)
        self.workers = max(getattr(environment.parsed_options, "expect_workers", 1) or 1, self.worker + 1)
        self.recorder = Recorder(
            self.mux,
            environment.stats,
            self.worker,
            settings.parts,
            Sample(settings.scenario.seed, self._share(environment, settings)),
            self.stamp,
            self.worker * SUBSCRIBERS_PER_WORKER,
            Listeners(environment.events.request, CALM / SECOND),
        )
        if settings.target is not None and (keys := settings.target.all_keys()):
            self.recorder.named = lambda channel: renamed(channel, keys)
        self.recorder.write()
        self.reader = EventReader(self.recorder.event)
        if self.mux.ring is not None:
            self.mux.ring.record_by(self.reader, self.recorder.notifications)
        self.random = random.Random(f"{settings.scenario.seed} jitter {self.worker}")
        self.draws = np.random.default_rng([settings.scenario.seed, self.worker])
        """For what is drawn once per page: how long it stays open, whether its tab is hidden."""
        self.settings = settings
        api = settings.scenario.api
        self.retries = Retries(self.mux, api.retries, ns(api.retry_backoff), api.retry_budget)
        self._origins: dict[tuple[str, bool], Origin] = {}
        self._pools: dict[tuple[bool, str, int], Pool] = {}
        self.resolving = RLock()
        """Held by the greenlet that makes something that pages share, because resolving a name may wait."""
        self._admitted = 0
        self._line: deque[Callable[[Callable[[], None]], None]] = deque()
        self._gaps: list[int] = []
        self._process = psutil.Process()
        self.pages: set[OpenPage] = set()
        """The open ones."""
        self.specs: dict[type, Spec] = {}
        self.impossible: set[type] = set()
        """Classes whose pages cannot be opened at all."""
        self.identities: dict[type, Any] = {}
        self.logins: dict[Key, tuple[tuple[str, str], ...]] | None = None
        """Fields of the login form, of users who have one; None: not looked for yet."""
        self.numbers: dict[type, Any] = {}
        """Of users and resources, for the tables."""
        self._opened: dict[type, int] = {}
        self.over = False
        """Whether the run is over: a user that stops now has not left its page."""
        raise_descriptor_limit()
        self.garbage = Garbage(self.recorder)
        now = self.mux.now()
        self.mux.call_at(now + BRISK, self._drain, now + BRISK)
        self.mux.call_at(now + PROBE_EVERY, self._probe, now + PROBE_EVERY)
        self.mux.call_at(now, self._report, now)

    def _share(self, environment: Environment, settings: Settings) -> float:
        """The share of the pages whose rows are kept: a process then keeps those of about `probes` pages."""
        if settings.probes is None:
            return 1.0
        users = getattr(environment.parsed_options, "num_users", None) or settings.scenario.subscribers
        return min(1.0, settings.probes * self.workers / max(users, 1))

    # ---- shared things

    def origin(self, url: str, verify: bool = True) -> Origin:
        """The origin of *url*, resolved once. Call it from a greenlet: resolving may wait. Raises OSError for an unknown name."""
        with self.resolving:
            if (url, verify) not in self._origins:
                self._origins[url, verify] = Origin(url, verify=verify, worker=self.worker)
            return self._origins[url, verify]

    def pool(self, origin: Origin, limit: int) -> Pool:
        return self._pools.setdefault((origin.secure, origin.authority, limit), Pool(self.traffic, origin, limit))

    def number(self, page: type) -> int:
        """The number of pages of this class that this process had before."""
        number = self._opened.get(page, 0)
        self._opened[page] = number + 1
        return number

    def admit(self, start: Callable[[Callable[[], None]], None]) -> None:
        """Call *start(release)*, now or when fewer than `HANDSHAKES` are under way; it calls `release()` when it is done."""
        self._line.append(start)
        self._admit_more()

    def _admit_more(self) -> None:
        while self._line and self._admitted < HANDSHAKES:
            self._admitted += 1
            self._line.popleft()(self._release)

    def _release(self) -> None:
        self._admitted -= 1
        # Not from here: the caller is in the middle of a connection's work.
        if self._line:
            self.mux.call_at(0, self._admit_more)

    def withdraw(self, start: Callable[[Callable[[], None]], None]) -> None:
        """Forget a page that leaves before it was admitted."""
        if start in self._line:
            self._line.remove(start)

    def storm(self, share: float) -> None:
        """Break the connections of the given share of the pages, now."""
        for page in list(self.pages):
            if share >= 1.0 or self.draws.random() < share:
                page.lose()

    @property
    def requests_waiting(self) -> int:
        """Requests in line for a connection of a shared pool."""
        return sum(pool.waiting for pool in self._pools.values())

    # ---- what is done periodically

    def _repeat(self, callback: Callable[[int], None], due: int, period: int) -> None:
        """Schedule *callback* again, *period* ns after *due*. Called before the work, so that an exception does not end it."""
        due = max(due + period, self.mux.now())
        self.mux.call_at(due, callback, due)

    def _drain(self, due: int) -> None:
        self._repeat(self._drain, due, CALM if self.garbage.is_settled else BRISK)
        self.recorder.drain()
        gaps, self._gaps = self._gaps, []
        if gaps:
            self.recorder.histograms["hub_gap"].add(gaps)
        self.garbage.settle()  # Before the header says that all pages are subscribed, and publishing begins.
        self.recorder.write()

    def _probe(self, due: int) -> None:
        now = self.mux.now()
        self._gaps.append(now - due)
        if now - due > HUB_GAP:
            self.recorder.counters["hub_gaps"] += 1
        self.mux.call_at(now + PROBE_EVERY, self._probe, now + PROBE_EVERY)

    def _report(self, due: int) -> None:
        self._repeat(self._report, due, SECOND)
        recorder = self.recorder
        recorder.metric("cpu_seconds", time.process_time())
        recorder.metric("rss_bytes", self._process.memory_info().rss)
        recorder.metric("sockets", self.mux.watched)
        recorder.metric("subscribed", recorder.listening)
        recorder.metric("receive_ring", float(self.mux.ring is not None))
        recorder.metric("requests_running", len(self.traffic.running))
        recorder.metric("requests_waiting", self.requests_waiting)
        recorder.metric("pages_waiting", len(self._line))

    # ---- end

    def finish(self) -> None:
        """Write the last parts. The next user to start gets a new plant."""
        self.garbage.close()
        self.recorder.finish()
        for pool in self._pools.values():
            pool.close()
        self.mux.close()
        if Plant.current is self:
            Plant.current = None


def raise_descriptor_limit() -> None:
    """Raise the soft limit to the hard one: a subscriber takes one descriptor, or two with an HTTP connection of its own."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS calls its hard limit endless, and does not grant it.
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
