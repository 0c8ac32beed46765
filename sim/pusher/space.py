"""What an app has on a node: its connections, its channels, the last events of its cache channels. State only; `hub` acts."""

from __future__ import annotations

from collections.abc import Iterator

from sim.pusher.apps import App
from sim.pusher.channels import Channel

CACHE_CHANNELS = 10_000
"""Cached events kept per app; the one that was stored longest ago goes first."""


class Connection:
    """One peer. The edge subclasses it and says how bytes leave."""

    __slots__ = ("attempts", "channels", "control_frames", "last_seen", "pinged", "socket_id", "space", "window_ends")

    def __init__(self) -> None:
        self.socket_id = ""
        self.space: Space | None = None
        """The app's state it belongs to; None before `Hub.open`, and after it has gone."""
        self.channels: dict[str, Channel] = {}
        self.last_seen = 0
        self.pinged = False
        self.control_frames = False
        """It once sent a WebSocket control frame, so it is pinged by control frames."""
        self.attempts = 0
        self.window_ends = 0

    def write(self, frame: bytes) -> None:
        """Send whole frames; never blocks, never raises. To a connection that has ended: does nothing."""
        raise NotImplementedError

    def end(self, frame: bytes = b"") -> None:
        """Send *frame*, then end the TCP connection. `Hub.closed` need not follow: the hub has forgotten it."""
        raise NotImplementedError


class Space:
    """What one app has on this node."""

    __slots__ = ("app", "cache", "channels", "connections")

    def __init__(self, app: App) -> None:
        self.app = app
        self.connections: dict[str, Connection] = {}
        self.channels: dict[str, Channel] = {}
        self.cache: dict[str, tuple[str, int]] = {}
        """Cache channel -> the last event's frame, and until when it is kept."""

    def subscribed(self) -> Iterator[Connection]:
        """Connections that hold a subscription."""
        return (c for c in self.connections.values() if c.channels)

    def remember(self, name: str, frame: str, until: int) -> None:
        self.cache.pop(name, None)
        self.cache[name] = (frame, until)
        if len(self.cache) > CACHE_CHANNELS:
            del self.cache[next(iter(self.cache))]

    def recall(self, name: str, now: int) -> str | None:
        frame, until = self.cache.get(name, ("", 0))
        return frame if now < until else None
