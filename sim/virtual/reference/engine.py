"""The reference engine: the whole pattern, event by event. It is the specification of what the workbench simulates.

    update      intended by the workload; saved; committed `commit_delay` later; dispatched when committed (`after_commit`) or
                when saved (`on_save`: a refetch may then be quicker than the commit)                     -> `changes`
    dispatch    at once, or by a queue with workers; on the server merged by a debounce     -> `publishing`
    fan-out     serial on each node; to the pages subscribed when the event is accepted     -> `broadcaster`
    page        hears, and refetches as its policy and its in-flight rule say               -> `page`, `sim.refetch`
    refetch     sent, queued, begun (here the state is read), answered, applied             -> `client`, `api`
    trouble     drops, restarts, releases; pages that come and go                           -> `reconnect`, `sim.incidents`

Where no answer changes a later request, refetches are only sent by events, and what became of them is found at the end, all at
once, which gives the same rows                                                                 -> `outcomes`
Where pages and connections do not come and go either, requests are made all at once as well    -> `forward`

Instants are integer nanoseconds. At one instant: a commit is there before anything else looks; a page's timers ring before its
notifications are heard; else what was made earlier runs first. All randomness is drawn from streams named by their purpose, so
the same scenario gives the same tables, bit for bit, and two policies meet the same updates.
"""

from __future__ import annotations

import gc
import random
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

import numpy as np

from sim.clock import SECOND, EventList, ns
from sim.incidents import Deploy, Disconnect, Restart
from sim.results.ledger.views import with_payloads
from sim.scenario import Scenario
from sim.virtual.database import Commits
from sim.virtual.draws import draws
from sim.virtual.ledger import RunRows, Tables, update_frame
from sim.virtual.preparation import Progress, check, check_memory
from sim.virtual.reference import measures
from sim.virtual.reference.api import ApiStation
from sim.virtual.reference.broadcaster import BroadcastNodes
from sim.virtual.reference.changes import Changes
from sim.virtual.reference.client import HttpClient
from sim.virtual.reference.forward import Forward, feeds_forward
from sim.virtual.reference.outcomes import OneWayRequests, Undecided, is_one_way
from sim.virtual.reference.page import Mode, Page, PageGroup, World
from sim.virtual.reference.publishing import Publishing
from sim.workload import Updates, streams

SLICES = 200
"""Parts of the run between which progress is reported."""


def run(scenario: Scenario, progress: Progress | None = None, updates: Updates | None = None, mode: Mode | None = None) -> Tables:
    """Simulate *scenario*; returns its tables. *updates* takes the place of those that its workload would draw.

    *mode*: how refetches are made. None: the quickest that decides all that happens. The tables are the same.
    Raises `BadInput` where the scenario is impossible, or needs more memory than there is (with the figure, and what to change).
    """
    with _without_collector():
        if mode is not None:
            return Simulation(scenario, updates, mode).run(progress)
        if feeds_forward(scenario):
            with suppress(Undecided):
                return Simulation(scenario, updates, "forward").run(progress)
        if is_one_way(scenario):
            with suppress(Undecided):
                return Simulation(scenario, updates, "one_way").run(progress)
        return Simulation(scenario, updates).run(progress)


class Simulation:
    """One run: the parts wired up, time let pass, tables made."""

    def __init__(self, scenario: Scenario, updates: Updates | None = None, mode: Mode = "by_event") -> None:
        check(scenario)
        rng = streams(scenario.seed)
        if updates is None:
            updates = scenario.draw_updates(rng)
        check_memory(scenario, updates)
        self.scenario = scenario
        self.end = ns(scenario.length)
        self.clock = EventList()
        self.ledger = RunRows()
        self.database = Commits(updates, scenario, rng)
        network = scenario.network
        to_api = draws(network.to_api, rng["to_api"])
        self.api = ApiStation(scenario, draws(scenario.api.service, rng["service"]), self.clock)
        self.client = HttpClient(scenario, self.clock, self.api, to_api)
        self.broadcaster = BroadcastNodes(scenario, self.clock, self.ledger, rng["to_subscriber"], mode == "forward")
        to_broadcaster = draws(network.to_broadcaster, rng["to_broadcaster"])
        self.publishing = Publishing(scenario, self.clock, self.database, self.broadcaster, to_broadcaster)
        if scenario.api.changes_need_workers:
            save = draws(scenario.api.save, rng["save"])
            Changes(scenario, self.clock, self.database, self.api, self.publishing, save)
        else:
            on_save = scenario.broadcast.moment == "on_save"
            self.publishing.follow((self.database.saved_at if on_save else self.database.committed_at).tolist())
        self.world = World(
            self.clock,
            self.database,
            self.broadcaster,
            self.api,
            self.client,
            self.ledger,
            random.Random(int(rng["jitter"].integers(1 << 62))),
            random.Random(int(rng["hidden"].integers(1 << 62))),
            draws(network.to_subscriber, rng["handshake"]),
            mode,
            None if mode == "by_event" else OneWayRequests(scenario, self.api, self.client, self.ledger, self.end),
        )
        self._schedule_incidents(rng["incidents"])
        for number, pages in enumerate(scenario.pages):
            group = PageGroup(scenario, pages, rng, str(number))
            for seat in range(pages.subscribers):
                Page(self.world, group, seat).present()
        self.forward = Forward(self.world, self.end) if mode == "forward" else None

    def run(self, progress: Progress | None = None) -> Tables:
        """Let time pass until the end; what runs then has no end."""
        for part in range(1, SLICES + 1):
            self.clock.run(self.end * part // SLICES)
            if progress is not None:
                progress(part / SLICES)
        for node in self.broadcaster.nodes:
            node.stop(self.end)
        for page in self.world.open_pages.values():
            page.finish()
        if self.forward is not None:
            self.forward.refetch()
        if self.world.sent is not None:
            self.world.sent.settle()
        return self._tables()

    def _tables(self) -> Tables:
        database, ledger = self.database, self.ledger
        published = np.array(self.publishing.published_at, np.int64)
        notifications = ledger.notifications()
        # What is still on its way when the run ends does not arrive.
        notifications = notifications[notifications["received_at"] <= self.end / SECOND]
        ledger.samples += measures.samples(self.world, self.scenario, self.end)
        tables = Tables(
            scenario=self.scenario,
            updates=update_frame(database, published, self.end),
            notifications=notifications,
            refetches=ledger.refetches(),
            subscriptions=ledger.subscriptions(),
            pages=ledger.pages(),
            metrics=ledger.metrics(),
        )
        return replace(tables, refetches=with_payloads(tables, self.scenario, self.end / SECOND))

    def _schedule_incidents(self, rng: np.random.Generator) -> None:
        clock = self.clock
        for incident in self.scenario.incidents:
            at = ns(incident.at)
            if isinstance(incident, Restart | Deploy):
                clock.call_at(at, self._restart)
                clock.call_at(at + ns(incident.down), self.broadcaster.start)
            elif isinstance(incident, Disconnect):
                clock.call_at(at, self._disconnect, incident.share, rng)

    def _restart(self) -> None:
        self.broadcaster.stop()
        self._disconnect(1.0, None)

    def _disconnect(self, share: float, rng: np.random.Generator | None) -> None:
        pages = list(self.world.open_pages.values())
        falls = [True] * len(pages) if rng is None else (rng.random(len(pages)) < share).tolist()
        for page, fall in zip(pages, falls, strict=True):
            if fall:
                page.drop()


@contextmanager
def _without_collector() -> Iterator[None]:
    """Millions of live entries and no cycles among them: the collector would only look at them again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
