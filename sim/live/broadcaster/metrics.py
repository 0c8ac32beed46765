"""What a node counts about itself, as Prometheus text (`prometheus_client`)."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from sim.pusher.server.hub import Hub

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Upper bounds of the histograms' buckets, seconds."""


@dataclass(slots=True)
class DelayHistogram:
    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    total: float = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds

    def family(self, name: str, text: str) -> HistogramMetricFamily:
        cumulative = [float(count) for count in accumulate(self.counts)]
        buckets = list(zip((*map(str, BOUNDS), "+Inf"), cumulative, strict=True))
        return HistogramMetricFamily(name, text, buckets=buckets, sum_value=self.total)


@dataclass(slots=True)
class NodeMetrics:
    """Counted at the edge; the hub and its outbox count the rest."""

    peers: int = 0
    """TCP connections now, WebSocket or HTTP."""
    nodes: int = 0
    """Other nodes that are heard."""
    send_ring: bool = False
    """Whether frames for many leave by io_uring."""
    requests: int = 0
    slow_consumers: int = 0
    refused_descriptors: int = 0
    lost_to_nodes: int = 0
    """Messages for other nodes that were dropped while the bus was away."""
    fan_out: DelayHistogram = field(default_factory=DelayHistogram)
    loop_lag: DelayHistogram = field(default_factory=DelayHistogram)

    def lose(self, messages: int) -> None:
        self.lost_to_nodes += messages

    def render(self, hub: Hub) -> str:
        """The page of `GET /metrics`."""
        return generate_latest(_Page(self._families(hub))).decode()

    def _families(self, hub: Hub) -> Iterator[Metric]:
        per_app = {
            "connections": ("Open connections.", lambda space: len(space.connections)),
            "channels": ("Channels with a subscriber or member.", lambda space: len(space.channels)),
            "subscriptions": (
                "Subscriptions of connections to channels.",
                lambda space: sum(len(channel.subscribers) for channel in space.channels.values()),
            ),
        }
        for name, (text, count) in per_app.items():
            family = GaugeMetricFamily(f"broadcaster_{name}", text, labels=["app"])
            for app_id, space in hub.spaces.items():
                family.add_metric([app_id], count(space))
            yield family
        yield GaugeMetricFamily("broadcaster_sockets", "TCP connections, WebSocket or HTTP.", self.peers)
        yield GaugeMetricFamily("broadcaster_other_nodes", "Other nodes that are heard.", self.nodes)
        yield GaugeMetricFamily("broadcaster_send_ring", "1: frames for many leave by io_uring; 0: a send each.", self.send_ring)
        counters, outbox = hub.counters, hub.outbox
        for name, text, value in (
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
        ):
            yield CounterMetricFamily(f"broadcaster_{name}", text, value)
        yield self.fan_out.family("broadcaster_fan_out_seconds", "From a publish to its last write.")
        yield self.loop_lag.family("broadcaster_loop_lag_seconds", "How late a timer rings.")


class _Page(Collector):
    """The families of one page."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families
