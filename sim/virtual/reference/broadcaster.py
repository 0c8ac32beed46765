"""The broadcaster: what is subscribed, and the serial cost of sending to all.

Each node is one thread with one event loop. It takes up an event when it is done with the one before, composes all frames, and
writes to one subscriber after the other: the k-th of n gets its frame `fixed + n * compose_per_subscriber + k * per_subscriber`
after the node began (`sim.scenario.broadcaster`). The receivers are settled when the event is accepted, because a subscription
that comes later stands behind the event in the same loop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from sim.arrays import Array
from sim.clock import LONG_AGO, Entry, EventList, ns
from sim.distributions import Constant
from sim.scenario import Scenario
from sim.virtual.draws import columns
from sim.virtual.ledger import Delivery, PageConnection, RunRows
from sim.workload import RESOURCES

Answered = Callable[[int, bool], None]
"""Called with the update when the broadcaster has answered its publish (True), or was not there or went down before (False)."""


DELAYED_ACKNOWLEDGEMENT = 40_000_000
"""How long a receiver keeps an acknowledgement back, ns (Linux's least; `TCP_DELACK_MIN`)."""


class Unheard:
    """In the place of a page whose connection is gone, or that does not read: what arrives is lost."""

    __slots__ = ("_clock", "_subscriber", "alarm_at", "heard_at", "quiet_until", "unanswered")

    def __init__(self, clock: EventList, subscriber: int) -> None:
        self._clock = clock
        self._subscriber = subscriber
        self.quiet_until = self.alarm_at = self.heard_at = LONG_AGO
        self.unanswered = 0

    def notified(self, at: int) -> None:
        self._clock.telling.lose(self._subscriber)


class Members:
    """The connections subscribed to one channel on one node, in the order in which they came."""

    __slots__ = ("_columns", "connections")

    def __init__(self) -> None:
        self.connections: dict[PageConnection, None] = {}
        self._columns: tuple[list[PageConnection], Array] | None = None

    def join(self, connection: PageConnection) -> None:
        self.connections[connection] = None
        self._columns = None

    def leave(self, connection: PageConnection) -> None:
        self.connections.pop(connection, None)
        self._columns = None

    def columns(self) -> tuple[list[PageConnection], Array]:
        """The connections, and the numbers of their subscribers; made anew only after a change of members."""
        if self._columns is None:
            connections = list(self.connections)
            self._columns = connections, np.array([connection.subscriber for connection in connections], np.int32)
        return self._columns


class BroadcasterNode:
    """One process of the broadcaster."""

    __slots__ = ("_work", "_writing", "channels", "frames", "free_at")

    def __init__(self) -> None:
        self.free_at = 0
        self._work: list[tuple[int, int]] = []
        self._writing: list[tuple[int, int, Delivery]] = []
        """Writes of the events that it may not be done with: begin, time of each frame, and what is written."""
        self.frames = 0
        """Frames that it has written, or will write unless it is stopped."""
        self.channels: dict[str, Members] = {}

    def works(self, begin: int, end: int) -> None:
        """It is busy from *begin*, not before `free_at`, to *end*."""
        self._work.append((begin, end))
        self.free_at = end

    def writes(self, begin: int, each: int, delivery: Delivery) -> None:
        """Within its work, the frames of *delivery* are written from *begin* on."""
        self._writing.append((begin, each, delivery))
        self.frames += delivery.frames

    def is_idle(self) -> None:
        """It was done with everything when its next work came."""
        self._writing.clear()

    def stop(self, at: int) -> None:
        """It goes down; what it had accepted and not done by *at* is not done."""
        self._work = [(begin, min(end, at)) for begin, end in self._work if begin < at]
        self.free_at = at
        for begin, each, delivery in self._writing:
            written = (at - begin) // each if each else delivery.frames * (begin <= at)
            self.frames -= delivery.frames
            delivery.frames = max(0, min(written, delivery.frames))
            self.frames += delivery.frames
        self._writing.clear()

    def intervals(self) -> Array:
        """int64 (n, 2): when it was busy, begin and end, ns."""
        return np.array(self._work, np.int64).reshape(-1, 2)


class BroadcastNodes:
    """All nodes: takes subscriptions and events, and lets the notifications arrive."""

    def __init__(
        self, scenario: Scenario, clock: EventList, ledger: RunRows, rng: np.random.Generator, forward: bool = False
    ) -> None:
        """*forward*: notifications are only written to the ledger; no page hears them as they arrive."""
        self._clock = clock
        self._forward = forward
        self._ledger = ledger
        self._rng = rng
        costs = scenario.broadcaster.costs
        self._fixed = ns(costs.fixed)
        self._compose = ns(costs.compose_per_subscriber)
        self._each = [ns(costs.between(scenario.extra_payload_of(resource))) for resource in RESOURCES]
        """Between two writes of an event of each resource."""
        self._answers_before = costs.answer == "before"
        self._nagle = costs.nagle
        self._network = scenario.network.to_subscriber
        self._way = ns(self._network.value) if isinstance(self._network, Constant) and not self._nagle else None
        """Of each frame; None: it varies."""
        self._last_arrival: Array = np.zeros(0, np.int64)
        """Per subscriber: no frame that is written later arrives earlier."""
        self._acknowledged: Array = np.zeros(0, np.int64)
        """Per subscriber: when the last frame that has left, or will leave, is acknowledged."""
        self._held_until: Array = np.zeros(0, np.int64)
        """Per subscriber: when the frames leave that Nagle's algorithm has held back last."""
        self.nodes = [BroadcasterNode() for _ in range(scenario.broadcaster.nodes)]
        self._unanswered: dict[int, tuple[Entry, Answered]] = {}
        self.up = True
        self.generation = 0
        """How often it has been restarted."""

    def stop(self) -> None:
        """It goes down, and what it had not written yet with it; publishes that it has not answered get no answer.

        Its connections are the caller's to drop.
        """
        self.up = False
        self.generation += 1
        for node in self.nodes:
            node.stop(self._clock.now())
        unanswered, self._unanswered = self._unanswered, {}
        for update, (answer, answered) in unanswered.items():
            answer.cancel()
            answered(update, False)

    def start(self) -> None:
        self.up = True

    def node_of(self, subscriber: int) -> BroadcasterNode:
        return self.nodes[subscriber % len(self.nodes)]

    def subscribe(self, connection: PageConnection, channel: str) -> None:
        """The subscription is in force from now on."""
        connection.channels.append(channel)
        self.node_of(connection.subscriber).channels.setdefault(channel, Members()).join(connection)

    def disconnect(self, connection: PageConnection) -> None:
        """The connection is gone; what is on its way to it is lost, and holds up no frame of the next one."""
        self.deafen(connection)
        for of_connection in (self._last_arrival, self._acknowledged, self._held_until):
            of_connection[connection.subscriber : connection.subscriber + 1] = 0
        channels = self.node_of(connection.subscriber).channels
        for channel in connection.channels:
            channels[channel].leave(connection)

    def deafen(self, connection: PageConnection) -> None:
        """It is written to, and hears nothing any more."""
        connection.listener = Unheard(self._clock, connection.subscriber)

    def accept(self, update: int, channels: Sequence[str], answered: Answered, resource: int = 0) -> None:
        """An event of a resource (index in `RESOURCES`) is here now, for every subscriber; *answered* is called once, by the node
        that took it."""
        each = self._each[resource]
        now = self._clock.now()
        answers_at = now
        for number, node in enumerate(self.nodes):
            begin = max(now, node.free_at)
            if begin == now:
                node.is_idle()
            receivers = [(name, node.channels[name]) for name in channels if name in node.channels]
            count = sum(len(members.connections) for _, members in receivers)
            composed = at = begin + self._fixed + count * self._compose
            for channel, members in receivers:
                if members.connections:
                    at = self._write(node, update, channel, members, at, each)
            node.works(begin, at)
            if number == update % len(self.nodes):
                answers_at = composed if self._answers_before else at
        self._unanswered[update] = self._clock.call_at(answers_at, self._answer, update), answered

    def _answer(self, update: int) -> None:
        _, answered = self._unanswered.pop(update)
        answered(update, True)

    def _write(self, node: BroadcasterNode, update: int, channel: str, members: Members, at: int, each: int) -> int:
        """Write to *members* from instant *at* on, one every *each* ns; returns when it is done."""
        connections, subscribers = members.columns()
        done = at + len(connections) * each
        if self._way is not None:
            first = at + each + self._way
            whens: Sequence[int] = range(first, done + self._way + 1, each) if each else [first] * len(connections)
        else:
            arrivals = self._arrivals(subscribers, at, each)
            order = np.argsort(arrivals, kind="stable")
            whens, subscribers = arrivals[order].tolist(), subscribers[order]
            connections = [connections[i] for i in order.tolist()]
        delivery = Delivery(update, self._ledger.channel(channel), subscribers, whens)
        self._ledger.deliveries.append(delivery)
        node.writes(at, each, delivery)
        if not self._forward:
            self._clock.tell_each(whens, connections, delivery)
        return done

    def _arrivals(self, subscribers: Array, at: int, each: int) -> Array:
        """Instants of arrival where the network varies or Nagle's algorithm is on; a connection keeps the order of its frames."""
        if len(subscribers) and subscribers.max() >= self._last_arrival.size:
            room = (0, int(subscribers.max()) + 1)
            self._last_arrival = np.pad(self._last_arrival, room)
            self._acknowledged, self._held_until = np.pad(self._acknowledged, room), np.pad(self._held_until, room)
        sent = at + each * np.arange(1, len(subscribers) + 1)
        way = columns(self._network, self._rng, len(subscribers))
        if self._nagle:
            sent = self._held_back(subscribers, sent, way)
        arrivals = np.maximum(sent + way, self._last_arrival[subscribers])
        self._last_arrival[subscribers] = arrivals
        return arrivals

    def _held_back(self, subscribers: Array, written: Array, way: Array) -> Array:
        """When frames leave: not while one before them is not acknowledged; all that wait for that leave together."""
        acknowledged, held_until = self._acknowledged[subscribers], self._held_until[subscribers]
        joins = written <= held_until
        sent = np.where(joins, held_until, np.maximum(written, acknowledged))
        self._held_until[subscribers] = np.where(sent > written, sent, held_until)
        self._acknowledged[subscribers] = np.where(joins, acknowledged, sent + 2 * way + DELAYED_ACKNOWLEDGEMENT)
        return sent
