"""What a node knows of an app: its connections, its channels with their members, the last events of its cache channels.

State only; `hub` acts on it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sim.pusher import messages
from sim.pusher.server.apps import App
from sim.pusher.server.channels import ChannelKind

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


@dataclass(slots=True)
class Member:
    """One user id on a presence channel: what they showed of themselves first, and by how many subscriptions."""

    data: dict[str, Any]
    """The decoded `channel_data`: `user_id`, `user_info` and whatever else the application signed."""
    local: int = 0
    """Subscriptions on this node."""
    nodes: frozenset[str] = frozenset()
    """Other nodes that have some."""

    @property
    def gone(self) -> bool:
        return not self.local and not self.nodes


class Channel:
    """One channel of one app on this node. It exists while it has a subscriber here, or a member on another node."""

    __slots__ = ("_snapshot", "cached", "kind", "members", "name", "subscribers")

    def __init__(self, name: str, kind: ChannelKind) -> None:
        self.name = name
        self.kind = kind
        self.subscribers: dict[Connection, dict[str, Any]] = {}
        """Connection -> its decoded `channel_data` (empty when it gave none)."""
        self.members: dict[str, Member] = {}
        self.cached: str | None = None
        """The last event as a frame's text, on cache channels."""
        self._snapshot: tuple[Connection, ...] | None = None

    def add(self, connection: Connection, data: dict[str, Any]) -> None:
        self.subscribers[connection] = data
        self._snapshot = None

    def remove(self, connection: Connection) -> dict[str, Any] | None:
        """The data it was subscribed with; None when it was not."""
        data = self.subscribers.pop(connection, None)
        if data is not None:
            self._snapshot = None
        return data

    def snapshot(self) -> tuple[Connection, ...]:
        """The subscribers at this moment. It is the same object until somebody comes or goes."""
        if self._snapshot is None:
            self._snapshot = tuple(self.subscribers)
        return self._snapshot

    @property
    def vacant(self) -> bool:
        return not self.subscribers and not self.members

    # ---- presence

    def arrive(self, data: dict[str, Any], node: str | None = None) -> bool:
        """Count one more subscription of `data["user_id"]` (*node* None: here). True when it is the user's first anywhere."""
        key = str(data["user_id"])
        member = self.members.get(key)
        first = member is None
        if member is None:
            member = self.members[key] = Member(data)
        if node is None:
            member.local += 1
        else:
            member.nodes |= {node}
        return first

    def depart(self, user_id: Any, node: str | None = None) -> bool:
        """Count one less. True when it was the user's last anywhere."""
        key = str(user_id)
        member = self.members.get(key)
        if member is None:
            return False
        if node is None:
            member.local -= 1
        else:
            member.nodes -= {node}
        if member.gone:
            del self.members[key]
        return member.gone

    def roster(self) -> dict[str, Any]:
        """The `presence` member of `subscription_succeeded`."""
        return messages.presence_roster((m.data["user_id"], m.data.get("user_info")) for m in self.members.values())


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
