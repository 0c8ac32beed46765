"""What a node counts about itself, as Prometheus text (exposition format 0.0.4)."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sim.pusher.server.hub import Hub

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Upper bounds of the histograms' buckets, seconds."""


@dataclass(slots=True)
class Histogram:
    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    total: float = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds

    def lines(self, name: str) -> Iterable[str]:
        running = 0
        for bound, count in zip((*map(str, BOUNDS), "+Inf"), self.counts, strict=True):
            running += count
            yield f'{name}_bucket{{le="{bound}"}} {running}'
        yield f"{name}_sum {self.total:.9g}"
        yield f"{name}_count {running}"


@dataclass(slots=True)
class Metrics:
    """Counted at the edge; the hub and its outbox count the rest."""

    peers: int = 0
    """TCP connections now, WebSocket or HTTP."""
    nodes: int = 0
    """Other nodes that are heard."""
    requests: int = 0
    slow_consumers: int = 0
    refused_descriptors: int = 0
    lost_to_nodes: int = 0
    """Messages for other nodes that were dropped while the bus was away."""
    fan_out: Histogram = field(default_factory=Histogram)
    loop_lag: Histogram = field(default_factory=Histogram)

    def lose(self, messages: int) -> None:
        self.lost_to_nodes += messages

    def render(self, hub: Hub) -> str:
        """The page of `GET /metrics`."""
        out: list[str] = []

        def sample(name: str, kind: str, text: str, values: Iterable[tuple[str, float]]) -> None:
            out.extend([f"# HELP broadcaster_{name} {text}", f"# TYPE broadcaster_{name} {kind}"])
            out.extend(f"broadcaster_{name}{labels} {value}" for labels, value in values)

        spaces = {f'{{app="{app_id}"}}': space for app_id, space in hub.spaces.items()}
        counters, outbox = hub.counters, hub.outbox
        subscriptions = [
            (label, sum(len(channel.subscribers) for channel in space.channels.values())) for label, space in spaces.items()
        ]
        sample("connections", "gauge", "Open connections.", [(label, len(s.connections)) for label, s in spaces.items()])
        sample("channels", "gauge", "Channels with a subscriber or member.", [(k, len(s.channels)) for k, s in spaces.items()])
        sample("subscriptions", "gauge", "Subscriptions of connections to channels.", subscriptions)
        sample("sockets", "gauge", "TCP connections, WebSocket or HTTP.", [("", self.peers)])
        sample("other_nodes", "gauge", "Other nodes that are heard.", [("", self.nodes)])
        totals = [
            ("connections_opened", "Connections established.", counters.opened),
            ("connections_refused", "Connections refused by key, quota or origin.", counters.refused),
            ("connections_pruned", "Connections that did not answer a ping.", counters.pruned),
            ("messages_received", "Messages from clients.", counters.messages),
            ("message_errors", "Messages answered with an error.", counters.errors),
            ("client_events", "Client events relayed.", counters.client_events),
            ("events_published", "Events published, once for each channel.", counters.published),
            ("messages_sent", "Frames handed to subscribers.", outbox.delivered),
            ("bytes_sent", "Bytes of these frames.", outbox.bytes),
            ("http_requests", "HTTP requests.", self.requests),
            ("slow_consumers", "Subscribers dropped because they did not read.", self.slow_consumers),
            ("descriptor_refusals", "Connections refused for want of file descriptors.", self.refused_descriptors),
            ("node_messages_lost", "Messages for other nodes dropped while the bus was away.", self.lost_to_nodes),
        ]
        for name, text, value in totals:
            sample(f"{name}_total", "counter", text, [("", value)])
        for name, text, histogram in (
            ("fan_out_seconds", "From a publish to its last write.", self.fan_out),
            ("loop_lag_seconds", "How late a timer rings.", self.loop_lag),
        ):
            out.extend([f"# HELP broadcaster_{name} {text}", f"# TYPE broadcaster_{name} histogram"])
            out.extend(histogram.lines(f"broadcaster_{name}"))
        return "\n".join(out) + "\n"
