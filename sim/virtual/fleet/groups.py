"""Pages that are one page seen at different offsets: the unit of the fleet engine.

Subscribers that hear the same events and follow the same policy fire at the same instants, shifted by their own constant place in
the fan-out (shift equivariance: a policy knows only differences of time). So the events of a channel are taken through the
broadcaster once per node, the policy once per group, and a subscriber costs eight bytes: its offset.

What pages hear and what they show are two things: on the generic channel a dashboard hears of everyone's servers and shows its
user's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from sim.arrays import Array
from sim.clock import SECOND, ns
from sim.policy import InFlight, Policy, Polling
from sim.scenario import Scenario
from sim.virtual.channels import Channels, subscribed
from sim.virtual.database import NOBODY, Commits
from sim.virtual.draws import columns
from sim.virtual.fires import fires_of
from sim.virtual.fleet.queueing import Fifo
from sim.virtual.measures import frame_bytes
from sim.workload import RESOURCES, Streams


@dataclass(frozen=True, eq=False, slots=True)
class Seats:
    """Pages of one entry that show the same kind of thing and listen to the same channels."""

    entry: int
    """Of the scenario's `pages`."""
    policy: Policy
    in_flight: InFlight
    resource: str
    """server, site, task or dashboard."""
    resource_id: int
    """0 for a dashboard."""
    channels: tuple[str, ...]
    subscribers: Array
    """Their numbers."""
    extra: int
    """Added to the service time of each refetch, ns."""


@dataclass(frozen=True, eq=False, slots=True)
class Group:
    """Members are in the order of their offsets; all arrays are int64, instants and durations ns."""

    seats: Seats
    """Of the members."""
    offsets: Array
    """Rising. Member k is notified (or polls) this long after the group's own instants."""
    updates: Array
    """Rows of the database that these pages are to show (owe), in the order of their commits."""
    viewers: Array
    """Per update: number of the user on whose pages it is to be seen; empty where all members show all updates."""
    shown_by: dict[int, Array] | None
    """Members of each such user; None where all members show all updates."""
    events: Array
    """Rows of the database whose events these pages hear, in the order of their publication. Empty where pages poll."""
    heard: Array
    """The group's instant for each event; with `offsets`, the arrivals."""
    fires: Array
    """Sorted instants of the policy on the group's notifications; with `offsets`, when refetches are due (before jitter)."""
    answered: Array
    """Per fire: how many notifications it answers."""

    @property
    def policy(self) -> Policy:
        return self.seats.policy

    @property
    def size(self) -> int:
        return self.offsets.size


@dataclass(frozen=True, eq=False, slots=True)
class Plan:
    """All that happens up to the queue of the application."""

    published_at: Array
    """Per update: when the broadcaster had the event, ns; -1: not within the run."""
    groups: list[Group]
    nodes: list[Fifo]
    """What each node of the broadcaster had to do."""
    frames: int
    """Frames written by all of them."""
    bytes: int


def plan(scenario: Scenario, database: Commits, rng: Streams, window: tuple[int, int], end: int) -> Plan:
    """Take a scenario's updates through publication, fan-out and policies. Raises nothing: see `fleet.supports`.

    *window*: in which nodes are observed, ns; *end*: of the run.
    """
    broadcast = scenario.broadcast
    dispatched = database.saved_at if broadcast.moment == "on_save" else database.committed_at
    published = dispatched.copy()
    published[np.argsort(dispatched, kind="stable")] += columns(
        scenario.network.to_broadcaster, rng["to_broadcaster"], dispatched.size
    )
    published = np.where(published <= end, published, -1)
    # A broadcaster tells the specific channel before the generic one: what is due at one instant is sent in that order.
    seats = sorted(_seats(scenario), key=lambda seat: seat.resource == "dashboard")
    views = _Views(scenario, database)
    groups = [_polling(views, seat, rng, end) for seat in seats if isinstance(seat.policy, Polling)]
    listening = [seat for seat in seats if not isinstance(seat.policy, Polling)]
    fan_out = _FanOut(scenario, _Events(scenario, database, published), listening, window, end)
    groups += fan_out.groups(views)
    return Plan(published, groups, fan_out.nodes, fan_out.frames, fan_out.bytes)


# --- seats -------------------------------------------------------------------------------------------------------------


def _seats(scenario: Scenario) -> Iterator[Seats]:
    """Deals pages to resources (dashboards: to users) in turn, as the reference engine does. All dashboards have the same seats,
    unless each user has channels of their own."""
    fleet, first = scenario.fleet, 0
    for entry, pages in enumerate(scenario.pages):
        numbers = np.arange(first, first + pages.subscribers)
        first += pages.subscribers
        policy, rule, resource = scenario.policy_of(pages), scenario.in_flight_of(pages), pages.resource
        if resource == "dashboard":
            turns = fleet.users if scenario.broadcast.channels == "per_user" else 1
            extra = scenario.dashboard_rows * round(scenario.api.service_per_row * SECOND)
        else:
            turns, extra = fleet.count(resource), 0
        for turn in range(min(turns, pages.subscribers)):
            resource_id = 0 if resource == "dashboard" else turn + 1
            channels = tuple(subscribed(scenario, resource, resource_id, turn + 1))
            yield Seats(entry, policy, rule, resource, resource_id, channels, numbers[turn::turns], extra)


def answer_bytes(scenario: Scenario, resource: str) -> int:
    """Of one refetch of a page that shows *resource*, head and body."""
    api = scenario.api
    return api.size_of(scenario.dashboard_rows if resource == "dashboard" else None)


def repeated_bytes(scenario: Scenario, resource: str) -> int:
    """The same of one that brings what the page shows already."""
    short = scenario.api.not_modified_bytes
    return answer_bytes(scenario, resource) if short is None else short


class _Views:
    """Which updates which pages are to show, whatever they hear of."""

    def __init__(self, scenario: Scenario, database: Commits) -> None:
        updates, fleet = database.updates, scenario.fleet
        self._user = database.user
        self._of_everyone = scenario.api.dashboard_of == "everyone"
        self._users = fleet.users
        self._firsts = np.cumsum([0, *(pages.subscribers for pages in scenario.pages)])
        kinds = updates.resource_id * len(RESOURCES) + updates.resource
        self._all = np.argsort(database.committed_at, kind="stable")
        self._rows = {kind: self._all[places] for kind, places in by_value(kinds[self._all]).items()}
        self._rows_of_user = {user: self._all[places] for user, places in by_value(self._user[self._all]).items()}
        self._place = np.argsort(self._all)

    def of(self, seats: Seats) -> tuple[Array, Array, dict[int, Array] | None]:
        """`updates`, `viewers` and `shown_by` of a `Group` on these seats."""
        none: Array = np.empty(0, np.int64)
        if seats.resource != "dashboard":
            kind = seats.resource_id * len(RESOURCES) + RESOURCES.index(seats.resource)
            return self._rows.get(kind, none), none, None
        if self._of_everyone:
            return self._all[self._user[self._all] != NOBODY], none, None
        users = (seats.subscribers - self._firsts[seats.entry]) % self._users + 1
        if users.size and (users == users[0]).all():
            return self._rows_of_user.get(int(users[0]), none), none, None
        shown_by = by_value(users)
        rows = np.concatenate([none, *(self._rows_of_user.get(user, none) for user in shown_by)])
        rows = rows[np.argsort(self._place[rows])]
        return rows, self._user[rows], shown_by


def by_value(values: Array) -> dict[int, Array]:
    """Value -> its places, ascending."""
    if not values.size:
        return {}
    order = np.argsort(values, kind="stable")
    edges = np.flatnonzero(np.diff(values[order])) + 1
    return {int(values[places[0]]): places for places in np.split(order, edges)}


# --- pages that poll ---------------------------------------------------------------------------------------------------


def _polling(views: _Views, seats: Seats, rng: Streams, end: int) -> Group:
    """Polls at a random phase of the interval: the phases are the offsets, the ticks the fires."""
    policy = seats.policy
    assert isinstance(policy, Polling)
    interval = ns(policy.interval)
    phases = (rng["polling"].random(seats.subscribers.size) * interval).astype(np.int64)
    order = np.argsort(phases, kind="stable")
    none, fires = np.empty(0, np.int64), np.arange(0, end + 1, interval, dtype=np.int64)
    rule: InFlight = "cancel" if policy.mode == "cancel" else seats.in_flight
    seats = replace(seats, in_flight=rule, subscribers=seats.subscribers[order])
    return Group(seats, phases[order], *views.of(seats), none, none, fires, np.zeros_like(fires))


# --- pages that listen -------------------------------------------------------------------------------------------------


class _Events:
    """What is published, in the order in which a node takes it up. Its *kind* is the number of the resource that it changes."""

    def __init__(self, scenario: Scenario, database: Commits, published: Array) -> None:
        sent = np.flatnonzero(published >= 0)
        self.rows = sent[np.argsort(published[sent], kind="stable")]
        """Of the database."""
        self.arrivals = published[self.rows]
        updates = database.updates
        kinds, self.kind = np.unique(
            updates.resource_id[self.rows] * len(RESOURCES) + updates.resource[self.rows], return_inverse=True
        )
        self.places = by_value(self.kind)
        self.resources = [(RESOURCES[int(kind % len(RESOURCES))], int(kind // len(RESOURCES))) for kind in kinds]
        """Per kind: resource and number."""
        channels_of = Channels(scenario)
        self.channels = [channels_of(RESOURCES.index(name), number) for name, number in self.resources]
        """Per kind: names of the channels on which it is sent, in this order."""


class _FanOut:
    """Events through the nodes of the broadcaster.

    A node writes an event to one page after the other: channel by channel, and on a channel seat by seat. So the pages of a
    `Seats` hear it as one block, behind those that are written to before. Of a server with 2 pages of its own and 3
    dashboards that hear of all servers, the dashboards are written to third, fourth and fifth:

        channel servers.5: seats of server 5    2 pages    0 ahead
        channel servers:   seats of dashboards  3 pages    2 ahead

    A subscriber sits on node `number % nodes`. Nodes on which equally many pages of each `Seats` sit tell the same events at the
    same instants, so they are computed once, and the pages of a `Seats` on all of them are one group.
    """

    def __init__(self, scenario: Scenario, events: _Events, seats: list[Seats], window: tuple[int, int], end: int) -> None:
        costs = scenario.broadcaster.costs
        self._scenario = scenario
        self._events = events
        self._seats = seats
        self._window = window
        self._end = end
        self._each = {name: ns(costs.between(scenario.extra_payload_of(name))) for name in (*RESOURCES, "dashboard")}
        """Between two writes of an event that pages of a resource hear."""
        self._compose = ns(costs.compose_per_subscriber)
        self._fixed = ns(costs.fixed)
        self._delay = ns(scenario.network.to_subscriber.mean())
        self._on_channel: dict[str, list[int]] = defaultdict(list)
        """Seats (by number) that listen to it, in the order in which they are written to."""
        for number, seat in enumerate(seats):
            for name in seat.channels:
                self._on_channel[name].append(number)
        self._receivers = [[seat for name in channels for seat in self._on_channel.get(name, ())] for channels in events.channels]
        """Per kind of event: the seats (by number) that hear it, in order."""
        self.nodes: list[Fifo] = [Fifo(1, window)] * scenario.broadcaster.nodes
        self.frames = self.bytes = 0
        """Written by all nodes before the end, once `groups` has given them all."""

    def groups(self, views: _Views) -> Iterator[Group]:
        """All that the pages on these seats hear, group by group."""
        count, events = len(self.nodes), self._events
        nodes_of = [seat.subscribers % count for seat in self._seats]
        members = [
            [seat.subscribers[on == node] for node in range(count)] for seat, on in zip(self._seats, nodes_of, strict=True)
        ]
        alike: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for node in range(count):
            alike[tuple(mine[node].size for mine in members)].append(node)
        each = np.array([self._each[name] for name, _ in events.resources], np.int64)
        for sizes, nodes in alike.items():
            receivers, ahead = self._blocks(sizes)
            composed = self._fixed + receivers[events.kind] * self._compose
            queue = Fifo(1, self._window)
            written = queue.serve(events.arrivals, composed + (receivers * each)[events.kind]) + composed
            self._count(sizes, len(nodes), written, each)
            for node in nodes:
                self.nodes[node] = queue
            for number, seat in enumerate(self._seats):
                if sizes[number]:
                    yield self._group(seat, views, [members[number][node] for node in nodes], written, ahead[number])

    def _blocks(self, sizes: tuple[int, ...]) -> tuple[Array, list[dict[int, int]]]:
        """(per kind of event: pages that hear it on a node; per seat: kind -> pages written to before its own), given the *sizes*
        of seats."""
        receivers = [0] * len(self._receivers)
        ahead: list[dict[int, int]] = [{} for _ in sizes]
        for kind, seats in enumerate(self._receivers):
            for seat in seats:
                ahead[seat][kind] = receivers[kind]
                receivers[kind] += sizes[seat]
        return np.array(receivers, np.int64), ahead

    def _group(self, seat: Seats, views: _Views, members: list[Array], written: Array, ahead: dict[int, int]) -> Group:
        """*members*: on each of the nodes that are alike. *written*: when they begin to write each event."""
        events, each = self._events, self._each[seat.resource]
        places = np.sort(np.concatenate([np.empty(0, np.int64), *(events.places[kind] for kind in ahead)]))
        before = np.zeros(len(events.channels), np.int64)
        before[list(ahead)] = list(ahead.values())
        heard = written[places] + before[events.kind[places]] * each + self._delay
        fires, answered, _ = fires_of(seat.policy, np.sort(heard))
        offsets = np.repeat(np.arange(1, members[0].size + 1, dtype=np.int64) * each, len(members))
        seat = replace(seat, subscribers=np.stack(members, axis=1).ravel())
        return Group(seat, offsets, *views.of(seat), events.rows[places], heard, fires, answered)

    def _count(self, sizes: tuple[int, ...], nodes: int, written: Array, each: Array) -> None:
        """Add what *nodes* nodes with such seats write before the end."""
        events = self._events
        for kind, places in events.places.items():
            resource, number = events.resources[kind]
            payload, left = self._scenario.extra_payload_of(resource), self._end - written[places]
            left = left // each[kind] if each[kind] else np.where(left >= 0, sum(sizes), 0)
            for name in events.channels[kind]:
                members = sum(sizes[seat] for seat in self._on_channel.get(name, ()))
                frames = nodes * int(np.clip(left, 0, members).sum())
                left = left - members
                self.frames += frames
                self.bytes += frames * (frame_bytes(resource, number, name) + payload)
