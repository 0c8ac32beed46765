"""What a large deployment takes, beyond the range of the fleet engine: nodes, bus, restarts, memory, bandwidth.

All costs are means, so these are capacities and not latencies. `Deployment` is one size; ask it for what each part has to do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from sim.errors import BadInput
from sim.virtual.theory.domain import not_negative, positive, share, whole
from sim.virtual.theory.sizing import nodes_needed


class Recovery(NamedTuple):
    """A restart of the broadcaster, seconds from its end: when the last page is connected, authorised, and fresh again."""

    connected: float
    authorised: float
    fresh: float


@dataclass(frozen=True, slots=True)
class Deployment:
    """Subscribers that each hear `heard` of all events, and what one event, one connection and one request cost."""

    subscribers: int
    rate: float
    """Events per second, of everything that changes."""
    heard: float
    """Share of the events that one subscriber hears: 1 on a generic channel, 1/servers on a server's own, 1/users on a user's."""
    per_subscriber: float
    """Seconds of a node per subscriber and event."""
    relay: float = 0.0
    """Seconds of every node per event, even if none of its subscribers hears it (taken from the bus)."""
    frame: int = 300
    """Bytes of one notification on the wire."""
    connection: int = 16_384
    """Bytes of memory per connection."""

    def __post_init__(self) -> None:
        whole(subscribers=self.subscribers)
        positive(rate=self.rate, per_subscriber=self.per_subscriber)
        share(heard=self.heard)
        not_negative(relay=self.relay, frame=self.frame, connection=self.connection)

    @property
    def deliveries(self) -> float:
        """Notifications per second, over all subscribers."""
        return self.subscribers * self.rate * self.heard

    @property
    def bandwidth(self) -> float:
        """Bytes of notifications per second, over all subscribers."""
        return self.deliveries * self.frame

    @property
    def memory(self) -> int:
        """Bytes of all connections."""
        return self.subscribers * self.connection

    def nodes(self, utilisation: float = 0.7) -> int:
        """Nodes of which none works more than this share of its time. Raises `BadInput` where the bus alone takes more: more
        nodes do not help then."""
        busy = max(self.heard, 1e-60)
        return int(nodes_needed(self.rate, self.subscribers, self.per_subscriber * busy, utilisation, self.relay))

    def bus_messages(self, nodes: int) -> float:
        """Messages per second that the bus carries out: every event goes to every node, so they grow with nodes x events."""
        whole(nodes=nodes)
        return self.rate * nodes if nodes > 1 else 0.0

    def utilisation(self, nodes: int) -> float:
        """Share of its time that each of the nodes works."""
        whole(nodes=nodes)
        return self.deliveries / nodes * self.per_subscriber + (self.rate * self.relay if nodes > 1 else 0.0)

    def restart(
        self, nodes: int, handshake: float, workers: int, authorisation: float, channels: int, service: float, spread: float = 0.0
    ) -> Recovery:
        """After a restart all pages come back at once, or over *spread* seconds; each connects (*handshake* seconds of its node),
        has its *channels* authorised (*authorisation* seconds of the application's *workers* each) and refetches (*service*).

        Each of the three stages is a queue that drains at its capacity, so its last page leaves no earlier than all its work
        takes, and no earlier than the stage before. pusher-js comes back 1 s after the drop, and 15 s later where that was too
        early. Raises `BadInput` where fan-out alone keeps the nodes busy.
        """
        whole(nodes=nodes, workers=workers)
        not_negative(handshake=handshake, authorisation=authorisation, channels=channels, service=service, spread=spread)
        free = 1 - self.utilisation(nodes)
        if free <= 0:
            raise BadInput(
                f"{nodes} nodes are busy for {1 - free:.3g} s per second with fan-out alone: they cannot take a restart"
            )
        connected = max(spread, self.subscribers * handshake / (nodes * free))
        requests = self.subscribers * channels * authorisation / workers
        authorised = max(connected, requests)
        return Recovery(connected, authorised, max(authorised, requests + self.subscribers * service / workers))
