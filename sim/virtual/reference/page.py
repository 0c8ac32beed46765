"""One open page: what it shows, its connection, its refetches, and how long it stays."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

from sim.clock import SECOND, EventList
from sim.policy import InFlight, Policy, Polling
from sim.refetch import Abort, Refetch, Refetcher
from sim.scenario import Pages, Scenario
from sim.virtual.channels import owner, subscribed
from sim.virtual.database import EVERYONE, NOTHING, Commits
from sim.virtual.draws import draws, residuals
from sim.virtual.ledger import NOT_YET, OUTCOME, PAGES, POLICIES, REASONS, RESOURCE, PageConnection, RunRows, refetch_row
from sim.virtual.reference.api import FAR, NO_RELEASE, ApiStation, View
from sim.virtual.reference.broadcaster import BroadcastNodes, Unheard
from sim.virtual.reference.client import HttpClient
from sim.virtual.reference.outcomes import OneWay, OneWayRequests
from sim.virtual.reference.reconnect import attempts, first_attempts
from sim.workload import Streams

Mode = Literal["forward", "one_way", "by_event"]
"""How refetches are made: all at once at the end (`forward`), sent by events and their outcomes found at the end (`outcomes`), or
each answer an event as well."""

HIDDEN_STEP = SECOND
"""Browsers let the timers of a hidden tab ring on whole seconds only."""

HIDDEN_POLL = 10
"""Inertia polls only each tenth time in a hidden tab."""

RELOAD = 5 * SECOND
"""After how long a user loads a page again whose first load has failed (assumed)."""

ROUND_TRIPS = 2
"""Of a connection: TCP, then upgrade and `connection_established`."""

AUTHORISATION = 500
"""Bytes of an answer of the authorisation route, head and body."""

SILENT = -1
"""Channel code of a page that listens to nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """What all pages share."""

    clock: EventList
    database: Commits
    broadcaster: BroadcastNodes
    api: ApiStation
    client: HttpClient
    ledger: RunRows
    jitter: random.Random
    hidden: random.Random
    """Draws the phase of a hidden tab's timers."""
    network: Callable[[], int]
    """Delay of one frame to a subscriber, ns."""
    mode: Mode
    sent: OneWayRequests | None
    """Where requests go whose answers change nothing later; None: each answer is an event."""
    open_pages: dict[int, Page] = field(default_factory=dict)
    """Subscriber number -> page, for those that are open or being loaded."""
    opened: list[int] = field(default_factory=lambda: [0])
    """How many pages have been opened so far, in its one place."""

    def number(self) -> int:
        """The next page's subscriber number."""
        self.opened[0] += 1
        return self.opened[0] - 1


class PageGroup:
    """Pages of one entry of the scenario. What depends on the seat only is made once."""

    def __init__(self, scenario: Scenario, pages: Pages, streams: Streams, name: str) -> None:
        self.scenario = scenario
        self.pages = pages
        self.kind = PAGES.index(pages.page)
        self.policy: Policy = scenario.policy_of(pages)
        self.in_flight: InFlight = scenario.in_flight_of(pages)
        self.cancels = self.in_flight == "cancel" or (isinstance(self.policy, Polling) and self.policy.mode == "cancel")
        self.not_modified = scenario.api.not_modified_bytes
        """Bytes of an answer that says that nothing has changed; None: the application does not say so."""
        self.session: Callable[[], int] | None = None
        """Draws how long a page stays."""
        if pages.session is not None:
            self.session = draws(pages.session, streams[f"session.{name}"])
            self.rest_of_session = residuals(pages.session, streams[f"session.{name}.first"])
        self.listens = not isinstance(self.policy, Polling) and pages.behaviour in ("good", "stop_reading")

    def hidden(self, seat: int) -> bool:
        """Hidden tabs are spread evenly over the seats."""
        share = self.pages.hidden
        return int((seat + 1) * share) > int(seat * share)

    def policy_of(self, seat: int) -> Policy:
        if isinstance(self.policy, Polling) and self.hidden(seat):
            return replace(self.policy, interval=self.policy.interval * HIDDEN_POLL)
        return self.policy

    def view(self, seat: int, database: Commits) -> View:
        """What the page on this seat shows. Pages are dealt to the resources (dashboards: to the users) in turn."""
        fleet, api = self.scenario.fleet, self.scenario.api
        if self.pages.page == "dashboard":
            rows = self.scenario.dashboard_rows
            extra = min(round(api.service_per_row * SECOND) * rows, FAR)
            size = api.size_of(rows)
            user = seat % fleet.users + 1
            shows = EVERYONE if api.dashboard_of == "everyone" else user
            return View(user, "dashboard", 0, database.history("dashboard", 0, shows), size, extra)
        resource = self.pages.resource
        resource_id = seat % fleet.count(resource) + 1
        history = database.history(resource, resource_id)
        return View(owner(resource_id, fleet.each(resource)), resource, resource_id, history, api.size_of(None))

    def channels(self, view: View) -> list[str]:
        """Channels to which such a page subscribes."""
        return subscribed(self.scenario, view.resource, view.resource_id, view.user) if self.listens else []


class ByEvent(Refetcher):
    """The refetches of a page to which each answer is an event."""

    __slots__ = ()

    def sends_by(self, client: HttpClient, view: View, made_at: int) -> None:
        """Called before anything is due. The function that sends needs `finished`, so it cannot be given to the constructor."""
        self._send = client.requests(view, made_at, self.finished)


def _not_connected(refetch: Refetch) -> Abort | None:
    raise RuntimeError("a page sends nothing before it knows by what")


class Page:
    """One life of a page in a browser: from its first load until its user leaves."""

    __slots__ = (
        "_life",
        "_refetches",
        "_rows",
        "_tries",
        "channels",
        "connection",
        "group",
        "made_at",
        "refetcher",
        "seat",
        "subscriber",
        "view",
        "was_subscribed",
        "world",
    )

    def __init__(self, world: World, group: PageGroup, seat: int) -> None:
        self.world = world
        self.group = group
        self.seat = seat
        self.subscriber = world.number()
        self.view = group.view(seat, world.database)
        if world.sent is not None:
            world.sent.opens(self.view, group.cancels)
        self.channels = group.channels(self.view)
        self.connection: PageConnection | None = None
        self.made_at = self._now_made()
        self.refetcher: Refetcher | None = None  # until it is loaded
        self.was_subscribed = False
        self._life: list[int] = []  # its row of the ledger
        self._refetches = world.ledger.refetch_rows
        self._rows: dict[int, list[int]] = {}  # channel code -> its open row of the ledger
        world.open_pages[self.subscriber] = self

    # --- opening and closing -------------------------------------------------------------------------------------------

    def present(self) -> None:
        """It was open before the run began: loaded, connected and subscribed at once."""
        self._shows(0)
        if self.channels:
            connection = self._connected()
            for channel in self.channels:
                self._subscribed(connection, channel)
        if self.group.session is not None:
            self._stay(self.group.rest_of_session())

    def open(self) -> None:
        """Its user opens it now: the whole page is loaded, then it connects."""
        self._load()
        if self.group.session is not None:
            self._stay(self.group.session())

    def close(self) -> None:
        """Its user leaves."""
        world = self.world
        if world.open_pages.pop(self.subscriber, None) is None:
            return
        if self.connection is not None:
            world.broadcaster.disconnect(self.connection)
            self.connection = None
        if self.refetcher is not None:
            self.refetcher.close()
            self._life[6] = world.clock.now()
        self._end("closed")

    def finish(self) -> None:
        """The run is over, and the page still open."""
        if self.refetcher is not None:
            self.refetcher.stop()

    def replace(self) -> None:
        """Its user leaves (or loads it anew): another page takes the seat at once."""
        if self.subscriber in self.world.open_pages:
            self.close()
            Page(self.world, self.group, self.seat).open()

    def _stay(self, duration: int) -> None:
        self.world.clock.call_at(self.world.clock.now() + duration, self.replace)

    def _load(self) -> None:
        if self.subscriber in self.world.open_pages:
            self.made_at = self._now_made()
            self.world.client.get(self.view, NO_RELEASE, self._loaded, None)

    def _now_made(self) -> int:
        """The instant of the assets that it has, of a page that is asked for it: a release tells it to load anew."""
        return self.world.clock.now() if self.group.pages.inertia else NO_RELEASE

    def _loaded(self, _: None, at: int, version: int | None, status: int | None, size: int) -> None:
        if not status or status >= 400:
            self.world.clock.call_at(at + RELOAD, self._load)
        elif self.subscriber in self.world.open_pages:
            self._shows(version)
            if self.channels:
                self._tries = first_attempts(at)
                next(self._tries)  # now
                self._attempt()

    def _shows(self, version: int | None) -> None:
        """Its first load is applied: from now on it is open."""
        world, group, hidden = self.world, self.group, self.group.hidden(self.seat)
        if world.mode != "forward":
            given = (
                group.policy_of(self.seat),
                group.in_flight,
                world.clock,
                _not_connected,
                self._done,
                world.jitter,
                HIDDEN_STEP if hidden else 0,
                int(world.hidden.random() * HIDDEN_STEP) if hidden else 0,
            )
            if world.sent is None:
                by_event = self.refetcher = ByEvent(*given)
                by_event.sends_by(world.client, self.view, self.made_at)
            else:
                one_way = self.refetcher = OneWay(*given)
                one_way.goes_to(world.sent, self.subscriber)
            self.refetcher.version = version
        self._life = [
            self.subscriber,
            group.kind,
            self.view.user,
            RESOURCE[self.view.resource],
            self.view.resource_id,
            world.clock.now(),
            NOT_YET,
            NOT_YET if version is None else version,
            POLICIES.index(group.policy.kind),
            int(hidden),
        ]
        world.ledger.page_rows.append(self._life)
        if not self.channels:
            self._note(SILENT)

    # --- the connection ------------------------------------------------------------------------------------------------

    def drop(self) -> None:
        """The connection breaks; pusher-js will try again."""
        if self.connection is None:
            return
        self.world.broadcaster.disconnect(self.connection)
        self.connection = None
        self._end("dropped")
        self._try_again()

    def _try_again(self) -> None:
        self._tries = attempts(self.world.clock.now())
        self.world.clock.call_at(next(self._tries), self._attempt)

    def _attempt(self) -> None:
        if self.subscriber not in self.world.open_pages:
            return
        if self.world.broadcaster.up:
            self._connect()
        else:
            self.world.clock.call_at(next(self._tries), self._attempt)

    def _connect(self) -> None:
        world = self.world
        delay = sum(world.network() for _ in range(2 * ROUND_TRIPS))
        world.clock.call_at(world.clock.now() + delay, self._established, world.broadcaster.generation)

    def _established(self, generation: int) -> None:
        world = self.world
        if self.subscriber not in world.open_pages:
            return
        if generation != world.broadcaster.generation or not world.broadcaster.up:
            self._try_again()
            return
        connection = self._connected()
        authorisation = View(self.view.user, "authorisation", 0, NOTHING, AUTHORISATION, cacheable=False)
        for channel in self.channels:
            world.client.get(authorisation, world.clock.now(), self._authorised, (connection, channel))

    def _connected(self) -> PageConnection:
        # Where there is no refetcher yet, what is heard is dealt with at the end (`forward`).
        self.connection = PageConnection(self.subscriber, self.refetcher or Unheard(self.world.clock, self.subscriber))
        if self.group.pages.behaviour == "stop_reading":
            self.world.broadcaster.deafen(self.connection)
        return self.connection

    def _authorised(self, token: tuple[PageConnection, str], at: int, version: int | None, status: int | None, size: int) -> None:
        connection, channel = token
        if connection is not self.connection:
            return
        if not status or status >= 400:
            # Echo does not ask again before the next reconnect.
            self._note(self.world.ledger.channel(channel), "refused")
        else:
            self.world.clock.call_at(at + self.world.network(), self._subscribed, connection, channel)

    def _subscribed(self, connection: PageConnection, channel: str) -> None:
        if connection is not self.connection:
            return
        self.world.broadcaster.subscribe(connection, channel)
        self._note(self.world.ledger.channel(channel))
        if len(connection.channels) == len(self.channels):
            if self.was_subscribed and self.group.pages.refetch_on_reconnect:
                assert self.refetcher is not None
                self.refetcher.demand(self.world.clock.now())
            self.was_subscribed = True

    # --- refetching ----------------------------------------------------------------------------------------------------

    def _done(self, refetch: Refetch) -> None:
        status, size, version = refetch.status, refetch.bytes, refetch.version
        if status == 200 and refetch.outcome == "not_newer" and self.group.not_modified is not None:
            status, size = 304, self.group.not_modified
        rows = self._refetches
        rows += refetch_row(
            self.subscriber,
            refetch.due_at,
            refetch.started_at,
            refetch.finished_at,
            NOT_YET if version is None else version,
            NOT_YET if status is None else status,
            size,
            refetch.answered,
            OUTCOME[refetch.outcome],
        )
        if status == 409:
            self.world.clock.call_at(self.world.clock.now(), self.replace)

    # --- the ledger ----------------------------------------------------------------------------------------------------

    def _note(self, channel: int, refused: str = "") -> None:
        """A row: subscribed to *channel* from now on (or, refused, at no time)."""
        now = self.world.clock.now()
        row = [
            self.subscriber,
            self.group.kind,
            self.view.user,
            RESOURCE[self.view.resource],
            self.view.resource_id,
            channel,
            now,
            now if refused else NOT_YET,
            REASONS.index(refused or "end"),
            POLICIES.index(self.group.policy.kind),
        ]
        self.world.ledger.subscription_rows.append(row)
        if not refused:
            self._rows[channel] = row

    def _end(self, reason: str) -> None:
        """The open rows end now."""
        for row in self._rows.values():
            row[7] = self.world.clock.now()
            row[8] = REASONS.index(reason)
        self._rows.clear()
