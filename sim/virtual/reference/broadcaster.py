"""The broadcaster: who is subscribed, and the serial cost of telling them all.

Each node is one thread with one event loop. It takes up an event when it is done with the one before, and writes to one
subscriber after the other: the k-th gets its frame `fixed + k * per_subscriber` after the node began. Who is told is settled
when the event is accepted, because a subscription that comes later stands behind the event in the same loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sim.clock import EventList, ns
from sim.distributions import Constant
from sim.scenario import Scenario
from sim.virtual.draws import columns
from sim.virtual.ledger import Connection, Delivery, Ledger

Array = np.ndarray[Any, Any]


class Members:
    """The connections subscribed to one channel on one node, in the order in which they came."""

    __slots__ = ("_columns", "connections")

    def __init__(self) -> None:
        self.connections: dict[Connection, None] = {}
        self._columns: tuple[list[Connection], Array] | None = None

    def join(self, connection: Connection) -> None:
        self.connections[connection] = None
        self._columns = None

    def leave(self, connection: Connection) -> None:
        self.connections.pop(connection, None)
        self._columns = None

    def columns(self) -> tuple[list[Connection], Array]:
        """The connections, and the numbers of their subscribers; made anew only when somebody came or went."""
        if self._columns is None:
            connections = list(self.connections)
            self._columns = connections, np.array([connection.subscriber for connection in connections], np.int32)
        return self._columns


class Node:
    """One process of the broadcaster."""

    __slots__ = ("_work", "channels", "free_at", "sent")

    def __init__(self) -> None:
        self.free_at = 0
        self._work: list[tuple[int, int]] = []
        self.sent = 0
        """Frames written so far."""
        self.channels: dict[str, Members] = {}

    def works(self, begin: int, end: int) -> None:
        """It is busy from *begin*, not before `free_at`, to *end*."""
        self._work.append((begin, end))
        self.free_at = end

    def stop(self, at: int) -> None:
        """It goes down; what it had accepted and not done by *at* is not done."""
        self._work = [(begin, min(end, at)) for begin, end in self._work if begin < at]
        self.free_at = at

    def intervals(self) -> Array:
        """int64 (n, 2): when it was busy, begin and end, ns."""
        return np.array(self._work, np.int64).reshape(-1, 2)


class Broadcaster:
    """Told of subscriptions and events; lets the notifications arrive."""

    def __init__(self, scenario: Scenario, clock: EventList, ledger: Ledger, rng: np.random.Generator) -> None:
        self._clock = clock
        self._ledger = ledger
        self._rng = rng
        self._fixed = ns(scenario.broadcaster.costs.fixed)
        self._each = ns(scenario.broadcaster.costs.between(scenario.extra_payload))
        self._network = scenario.network.to_subscriber
        self._last_arrival: Array = np.zeros(0, np.int64)
        self.nodes = [Node() for _ in range(scenario.broadcaster.nodes)]
        self.up = True
        self.generation = 0
        """How often it has been restarted."""

    def stop(self) -> None:
        """It goes down, and what it had not written yet with it. Its connections are the caller's to drop."""
        self.up = False
        self.generation += 1
        for node in self.nodes:
            node.stop(self._clock.now())

    def start(self) -> None:
        self.up = True

    def node_of(self, subscriber: int) -> Node:
        return self.nodes[subscriber % len(self.nodes)]

    def subscribe(self, connection: Connection, channel: str) -> None:
        """The subscription is in force from now on."""
        connection.channels.append(channel)
        self.node_of(connection.subscriber).channels.setdefault(channel, Members()).join(connection)

    def disconnect(self, connection: Connection) -> None:
        """The connection is gone; what is on its way to it is lost."""
        connection.open = False
        channels = self.node_of(connection.subscriber).channels
        for channel in connection.channels:
            channels[channel].leave(connection)

    def accept(self, update: int, channels: Sequence[str]) -> int:
        """An event is here now. Tell every subscriber; returns the instant at which the node that took it can answer."""
        now = self._clock.now()
        for node in self.nodes:
            begin = max(now, node.free_at)
            at = begin + self._fixed
            for channel in channels:
                members = node.channels.get(channel)
                if members is not None and members.connections:
                    at = self._tell(update, channel, members, at)
                    node.sent += len(members.connections)
            node.works(begin, at)
        return self.nodes[update % len(self.nodes)].free_at

    def _tell(self, update: int, channel: str, members: Members, at: int) -> int:
        """Write to *members* from instant *at* on; returns when it is done."""
        connections, subscribers = members.columns()
        done = at + len(connections) * self._each
        if isinstance(self._network, Constant):
            first = at + self._each + ns(self._network.value)
            whens: Sequence[int] = (
                range(first, done + ns(self._network.value) + 1, self._each) if self._each else [first] * len(connections)
            )
        else:
            arrivals = self._arrivals(subscribers, at)
            order = np.argsort(arrivals, kind="stable")
            whens, subscribers = arrivals[order].tolist(), subscribers[order]
            connections = [connections[i] for i in order.tolist()]
        delivery = Delivery(update, self._ledger.channel(channel), subscribers, whens)
        self._ledger.deliveries.append(delivery)
        self._clock.call_each(whens, connections, delivery.arrive)
        return done

    def _arrivals(self, subscribers: Array, at: int) -> Array:
        """Instants of arrival with a network that varies; a connection keeps its frames in order."""
        if len(subscribers) and subscribers.max() >= len(self._last_arrival):
            self._last_arrival = np.pad(self._last_arrival, (0, int(subscribers.max()) + 1))
        sent = at + self._each * np.arange(1, len(subscribers) + 1)
        arrivals = np.maximum(sent + columns(self._network, self._rng, len(subscribers)), self._last_arrival[subscribers])
        self._last_arrival[subscribers] = arrivals
        return arrivals
