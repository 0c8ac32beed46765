"""Pages that are one page seen at different offsets: the unit of the fleet engine.

Subscribers that hear the same events and follow the same policy fire at the same instants, shifted by their own constant place in
the fan-out (shift equivariance: a policy knows only differences of time). So the events of a channel are taken through the
broadcaster once per node, the policy once per group, and a subscriber costs eight bytes: its offset.

Nodes that have the same number of members on every channel tell the same events at the same instants, so their groups are one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from sim.clock import SECOND, ns
from sim.policy import Debounce, FullPayload, Immediate, InFlight, Policy, Polling, fires
from sim.scenario import Pages, Scenario
from sim.virtual.database import Database
from sim.virtual.draws import columns
from sim.virtual.fleet.queueing import Fifo
from sim.virtual.reference.publishing import Channels, generic_channel, specific_channel, user_channel
from sim.workload import RESOURCES, Streams

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False, slots=True)
class Group:
    """Members are in the order of their offsets; all arrays are int64, instants and durations ns."""

    pages: int
    """Entry of the scenario's `pages`."""
    policy: Policy
    in_flight: InFlight
    resource: str
    """server, site or dashboard."""
    resource_id: int
    """0 for a dashboard."""
    subscribers: Array
    """Their numbers."""
    offsets: Array
    """Rising. Member k is notified (or polls) this long after the group's own instants."""
    updates: Array
    """Rows of the database that these pages are to show, in the order of their commits."""
    heard: Array
    """The group's instant for each of these updates (-1: not published); with `offsets`, the arrivals. Empty where pages poll."""
    fires: Array
    """Sorted instants of the policy on the group's notifications; with `offsets`, when refetches are due (before jitter)."""
    extra: int
    """Added to the service time of each refetch."""

    @property
    def size(self) -> int:
        return self.offsets.size


@dataclass(frozen=True, eq=False, slots=True)
class Plan:
    """All that happens up to the queue of the application."""

    published_at: Array
    """Per update: when the broadcaster had the event, ns; -1: not within the run."""
    groups: list[Group]
    broadcaster_busy: list[float]
    """Per node: share of the run in which it was writing."""


def plan(scenario: Scenario, database: Database, rng: Streams, end: int) -> Plan:
    """Take a scenario's updates through publication, fan-out and policies. Raises nothing: see `fleet.supports`."""
    broadcast = scenario.broadcast
    dispatched = database.intended_at if broadcast.moment == "on_save" else database.committed_at
    published = dispatched + columns(scenario.network.to_broadcaster, rng["to_broadcaster"], dispatched.size)
    published = np.where(published <= end, published, -1)
    # A broadcaster tells the specific channel before the generic one: what is due at one instant is sent in that order.
    seats = sorted(_seats(scenario), key=lambda seat: seat.resource == "dashboard")
    groups = [_polling(scenario, database, seat, rng, end) for seat in seats if isinstance(seat.policy, Polling)]
    listening = [seat for seat in seats if not isinstance(seat.policy, Polling)]
    fan_out = _FanOut(scenario, database, published)
    nodes = scenario.broadcaster.nodes
    busy = [fan_out.tell(node, nodes, listening) for node in range(nodes)]
    groups += fan_out.groups()
    return Plan(published, groups, [min(1.0, part / end) if end else 0.0 for part in busy])


# --- who sits where ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Seats:
    """Pages of one entry that show the same and listen to the same channels."""

    entry: int
    policy: Policy
    in_flight: InFlight
    resource: str
    resource_id: int
    channels: tuple[str, ...]
    subscribers: Array
    extra: int


def _seats(scenario: Scenario) -> Iterator[_Seats]:
    """Deals pages to resources (dashboards: to users) in turn, as the reference engine does."""
    first = 0
    for entry, pages in enumerate(scenario.pages):
        numbers = np.arange(first, first + pages.subscribers)
        first += pages.subscribers
        if not pages.subscribers:
            continue
        for turn, step, resource, resource_id, channels in _views(scenario, pages):
            mine = numbers[turn::step]
            if mine.size:
                policy, rule = scenario.policy_of(pages), scenario.in_flight_of(pages)
                extra = _rows(scenario) * round(scenario.api.service_per_row * SECOND) if resource == "dashboard" else 0
                yield _Seats(entry, policy, rule, resource, resource_id, channels, mine, extra)


def _views(scenario: Scenario, pages: Pages) -> Iterator[tuple[int, int, str, int, tuple[str, ...]]]:
    """(first seat, step, resource, id, channels) of what the pages of an entry show."""
    fleet = scenario.fleet
    if pages.page != "dashboard":
        resource = "site" if pages.page == "site" else "server"
        count = fleet.sites if resource == "site" else fleet.servers
        for turn in range(min(count, pages.subscribers)):
            yield turn, count, resource, turn + 1, (specific_channel(resource, turn + 1),)
    elif scenario.broadcast.channels == "per_user":
        for turn in range(min(fleet.users, pages.subscribers)):
            yield turn, fleet.users, "dashboard", 0, tuple(user_channel(turn + 1, resource) for resource in RESOURCES)
    else:
        yield 0, 1, "dashboard", 0, tuple(generic_channel(resource) for resource in RESOURCES)


def _rows(scenario: Scenario) -> int:
    fleet = scenario.fleet
    return fleet.servers if scenario.api.dashboard_of == "everyone" else fleet.servers_per_user


# --- pages that poll ---------------------------------------------------------------------------------------------------


def _polling(scenario: Scenario, database: Database, seats: _Seats, rng: Streams, end: int) -> Group:
    """Polls at a random phase of the interval: the phases are the offsets, the ticks the fires."""
    policy = seats.policy
    assert isinstance(policy, Polling)
    interval = ns(policy.interval)
    phases = (rng["polling"].random(seats.subscribers.size) * interval).astype(np.int64)
    order = np.argsort(phases, kind="stable")
    updates = database.updates
    shown = np.ones(len(updates), bool)
    if seats.resource != "dashboard":
        shown = (updates.resource == RESOURCES.index(seats.resource)) & (updates.resource_id == seats.resource_id)
    return Group(
        pages=seats.entry,
        policy=policy,
        in_flight="cancel" if policy.mode == "cancel" else seats.in_flight,
        resource=seats.resource,
        resource_id=seats.resource_id,
        subscribers=seats.subscribers[order],
        offsets=phases[order],
        updates=np.flatnonzero(shown),
        heard=np.empty(0, np.int64),
        fires=np.arange(0, end + 1, interval, dtype=np.int64),
        extra=seats.extra,
    )


# --- pages that listen -------------------------------------------------------------------------------------------------


class _FanOut:
    """Events through the nodes, one node after the other; collects what each group of pages hears."""

    def __init__(self, scenario: Scenario, database: Database, published: Array) -> None:
        self._each = ns(scenario.broadcaster.costs.between(scenario.extra_payload))
        self._fixed = ns(scenario.broadcaster.costs.fixed)
        self._delay = ns(scenario.network.to_subscriber.mean())
        updates = database.updates
        key = updates.resource_id * len(RESOURCES) + updates.resource
        kinds, self._kind = np.unique(key, return_inverse=True)
        """Per update: which of the resources that change it is of (a number)."""
        names = Channels(scenario)
        self._channels = [names(int(kind % len(RESOURCES)), int(kind // len(RESOURCES))) for kind in kinds]
        self._kinds_on: dict[str, list[int]] = defaultdict(list)
        for kind, channels in enumerate(self._channels):
            for name in channels:
                self._kinds_on[name].append(kind)
        sent = np.flatnonzero(published >= 0)
        self._events = sent[np.argsort(published[sent], kind="stable")]
        self._arrivals = published[self._events]
        self._begins: dict[bytes, tuple[Array, int]] = {}
        self._alike: dict[tuple[Any, ...], list[tuple[_Seats, Array]]] = defaultdict(list)
        self._heard: dict[tuple[Any, ...], Array] = {}

    def tell(self, node: int, nodes: int, seats: list[_Seats]) -> int:
        """Let one node tell everything to its members among *seats*; returns how long it was busy, ns."""
        here = [(seat, seat.subscribers[seat.subscribers % nodes == node]) for seat in seats]
        sizes: dict[str, int] = defaultdict(int)
        places = []
        for seat, members in here:
            places.append([(name, sizes[name]) for name in seat.channels])
            for name in seat.channels:
                sizes[name] += members.size
        told = np.array([sum(sizes.get(name, 0) for name in channels) for channels in self._channels], np.int64)
        begins, busy = self._through(told)
        for number, ((seat, members), place) in enumerate(zip(here, places, strict=True)):
            if not members.size:
                continue
            before = self._before(place, sizes)
            alike = (number, members.size, told.tobytes(), before.tobytes())
            if alike not in self._heard:
                heard = np.full(self._kind.size, -1, np.int64)
                heard[self._events] = begins + self._fixed + before[self._kind[self._events]] * self._each + self._delay
                self._heard[alike] = heard
            self._alike[alike].append((seat, members))
        return busy

    def _through(self, told: Array) -> tuple[Array, int]:
        """Instants at which the node takes up each event, and its work, when it tells *told[kind]* members of each."""
        key = told.tobytes()
        if key not in self._begins:
            queue = Fifo(1)
            service = self._fixed + told[self._kind[self._events]] * self._each
            self._begins[key] = queue.serve(self._arrivals, service), queue.busy
        return self._begins[key]

    def _before(self, place: list[tuple[str, int]], sizes: dict[str, int]) -> Array:
        """Per kind: members told before the first of this seat's; -1 where it does not hear it."""
        before = np.full(len(self._channels), -1, np.int64)
        for name, ahead in place:
            for kind in self._kinds_on.get(name, ()):
                channels = self._channels[kind]
                before[kind] = ahead + sum(sizes.get(other, 0) for other in channels[: channels.index(name)])
        return before

    def groups(self) -> Iterator[Group]:
        """One group for each class of nodes on which the same seats hear the same at the same instants."""
        for alike, parts in self._alike.items():
            seat, heard = parts[0][0], self._heard[alike]
            before = np.frombuffer(alike[3], np.int64)
            updates = np.flatnonzero(before[self._kind] >= 0) if self._kind.size else np.empty(0, np.int64)
            instants = heard[updates]
            heard_at = np.sort(instants[instants >= 0])
            rank = np.arange(1, parts[0][1].size + 1, dtype=np.int64)
            yield Group(
                pages=seat.entry,
                policy=seat.policy,
                in_flight=seat.in_flight,
                resource=seat.resource,
                resource_id=seat.resource_id,
                subscribers=np.stack([members for _, members in parts], axis=1).ravel(),
                offsets=np.repeat(rank * self._each, len(parts)),
                updates=updates,
                heard=instants,
                fires=np.array(vector_fires(seat.policy, heard_at), np.int64),
                extra=seat.extra,
            )


def vector_fires(policy: Policy, heard: Array) -> Array | list[int]:
    """Instants at which *policy* wants a refetch, given sorted notifications (ns): `sim.policy.fires`, at once where that is
    possible."""
    match policy:
        case FullPayload():
            return []
        case Immediate():
            return heard
        case Debounce(leading=False, trailing=True, max_wait=None):
            # The timer rings before a notification of the same instant: a gap of exactly `wait` is silence.
            wait = ns(policy.wait)
            last = np.append(np.diff(heard) >= wait, True) if heard.size else np.empty(0, bool)
            return heard[last] + wait
        case _:
            return fires(policy, heard.tolist())
