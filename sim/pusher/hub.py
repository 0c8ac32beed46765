"""The server's side of the protocol: connections, channels and what each message does. No socket, no clock.

The owner of the sockets calls `open`, `receive`, `touch`, `closed` and, every `TICK_SECONDS`, `tick`, always with the present
instant in integer nanoseconds of a monotonic clock. The hub answers through the `Connection` it was given: `write` for bytes
(whole WebSocket frames), `end` to finish it. What goes to many waits in `outbox` until its owner flushes it.

Nothing that a peer sends raises out of here: an error is answered with its own frame.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from sim.pusher import frames, messages, quirks
from sim.pusher.apps import App
from sim.pusher.auth import verify_channel
from sim.pusher.channels import Channel, Kind, kind_of
from sim.pusher.errors import (
    ClientEventsOff,
    InvalidMessage,
    NotAMember,
    OriginNotAllowed,
    OverQuota,
    PongMissing,
    PusherError,
    RateLimited,
    Unauthorized,
    UnknownApp,
)
from sim.pusher.outbox import Outbox

SECOND = 1_000_000_000
TICK_SECONDS = 60
"""Reverb looks for inactive connections once a minute."""
CACHE_SECONDS = 30 * 60
CACHE_CHANNELS = 10_000
"""Cached events kept per app; the one that was stored longest ago goes first."""

PING = frames.text(messages.PING)
PONG = frames.text(messages.PONG)
CONTROL_PING = frames.encode(frames.PING, b"")


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
class Counters:
    """Since the start of the process."""

    opened: int = 0
    refused: int = 0
    messages: int = 0
    errors: int = 0
    published: int = 0
    client_events: int = 0
    pruned: int = 0


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


class Hub:
    """All apps of one node. *draw* gives a socket id's halves: uniform integers in [1, 10^9]."""

    def __init__(
        self,
        apps: Iterable[App],
        *,
        faithful: bool = False,
        outbox: Outbox | None = None,
        draw: Callable[[], int] = lambda: secrets.randbelow(1_000_000_000) + 1,
    ) -> None:
        self.faithful = faithful
        self.outbox = Outbox() if outbox is None else outbox
        self.counters = Counters()
        self.spaces: dict[str, Space] = {}
        self._by_key: dict[str, Space] = {}
        for app in apps:
            space = self.spaces[app.id] = Space(app)
            self._by_key.setdefault(app.key, space)
        self._draw = draw
        self.on_arrival: Callable[[Space, Channel, dict[str, Any]], None] = lambda space, channel, data: None
        """A user's first subscription on this node to a presence channel: other nodes want to know."""
        self.on_departure: Callable[[Space, Channel, Any], None] = lambda space, channel, user_id: None
        self.on_client_event: Callable[[Space, str, str, str], None] = lambda space, channel, frame, socket_id: None

    # ---- what a connection lives through

    def open(self, connection: Connection, key: str, origin: str | None, now: int) -> None:
        """The WebSocket is up: establish it, or refuse."""
        connection.last_seen = now
        try:
            self._admit(connection, key, origin)
        except PusherError as error:
            self.counters.refused += 1
            connection.write(error.frame)
            if not self.faithful:
                self._end(connection, error.code, error.message)
            elif connection.space is None:
                connection.end()
            return
        self.counters.opened += 1
        assert connection.space is not None
        timeout = connection.space.app.activity_timeout
        connection.write(frames.text(messages.connection_established(connection.socket_id, timeout)))

    def _admit(self, connection: Connection, key: str, origin: str | None) -> None:
        space = self._by_key.get(key)
        if space is None:
            raise UnknownApp
        counted: Iterable[Connection] = space.subscribed() if self.faithful else space.connections.values()
        limit = space.app.max_connections
        full = limit is not None and sum(1 for _ in counted) >= limit
        refused = OverQuota if full else None if space.app.allows(origin) else OriginNotAllowed
        if refused is None or self.faithful:
            connection.space = space
            connection.socket_id = self._new_socket_id(space)
            space.connections[connection.socket_id] = connection
        if refused is not None:
            raise refused

    def _new_socket_id(self, space: Space) -> str:
        while True:
            socket_id = f"{self._draw()}.{self._draw()}"
            if socket_id not in space.connections:
                return socket_id

    def touch(self, connection: Connection, now: int) -> None:
        """A WebSocket ping or pong came."""
        connection.last_seen = now
        connection.pinged = False
        connection.control_frames = True

    def receive(self, connection: Connection, payload: bytes, now: int) -> None:
        """A complete message came (text or binary)."""
        connection.last_seen = now
        connection.pinged = False
        self.counters.messages += 1
        if connection.space is None:
            return
        try:
            self._limit(connection, connection.space.app, now)
            try:
                message = messages.parse(payload.decode())
            except ValueError:
                raise InvalidMessage from None
            if message.event.startswith("pusher:"):
                arm = ARMS.get(message.event)
                data = {} if message.data is None else message.data
                if arm is None or type(data) not in (dict, list):
                    raise InvalidMessage
                arm(self, connection, data, now)
            else:
                self._client_event(connection, connection.space, message, payload)
        except PusherError as error:
            self.counters.errors += 1
            connection.write(error.frame)

    def closed(self, connection: Connection) -> None:
        """The connection is gone, from whichever side. Forgets it: cost by its own channels. Idempotent."""
        space = connection.space
        if space is None:
            return
        for channel in list(connection.channels.values()):
            self._leave(connection, space, channel)
        del space.connections[connection.socket_id]
        connection.space = None

    def _end(self, connection: Connection, code: int, reason: str = "") -> None:
        self.closed(connection)
        connection.end(b"" if self.faithful else frames.close(code, reason))

    def tick(self, now: int) -> None:
        """Once in `TICK_SECONDS`: prune who did not answer the last ping, then ping the inactive."""
        for space in self.spaces.values():
            interval = space.app.ping_interval
            for connection in list(space.subscribed() if self.faithful else space.connections.values()):
                if now // SECOND < connection.last_seen // SECOND + interval:
                    continue
                if connection.pinged:
                    self.counters.pruned += 1
                    connection.write(PongMissing.frame)
                    self._end(connection, PongMissing.code, PongMissing.message)
                else:
                    connection.pinged = True
                    connection.write(CONTROL_PING if connection.control_frames else PING)
            for name in [name for name, (_, until) in space.cache.items() if until <= now]:
                del space.cache[name]

    def terminate(self, space: Space, user_id: str) -> int:
        """End every connection that subscribed to something as this user. Returns how many."""
        ended = 0
        for connection in list(space.connections.values()):
            data = (channel.subscribers[connection] for channel in connection.channels.values())
            if any(str(entry["user_id"]) == user_id for entry in data if entry.get("user_id") is not None):
                self._end(connection, Unauthorized.code, "Connection terminated")
                ended += 1
        return ended

    def stop(self, connections: Iterable[Connection]) -> None:
        """The node goes down, or drains: these connections should come back elsewhere."""
        for connection in connections:
            self._end(connection, frames.GOING_AWAY, "Server is going away")

    # ---- what a message does

    def _limit(self, connection: Connection, app: App, now: int) -> None:
        limit = app.rate_limiting
        if limit is None:
            return
        if now >= connection.window_ends:
            connection.window_ends = now + limit.decay_seconds * SECOND
            connection.attempts = 0
        if connection.attempts >= limit.max_attempts:
            if limit.terminate_on_limit:
                connection.write(b"" if self.faithful else RateLimited.frame)
                self._end(connection, RateLimited.code, RateLimited.message)
            raise RateLimited
        connection.attempts += 1

    def _subscribe(self, connection: Connection, data: Any, now: int) -> None:
        space = connection.space
        assert space is not None
        name, auth, channel_data = (_text(data, member) for member in ("channel", "auth", "channel_data"))
        if name is None or (not name and not self.faithful):
            raise InvalidMessage
        kind = kind_of(name, loose=self.faithful)
        user = _user(channel_data)
        app = space.app
        if kind.guarded and not verify_channel(
            app.key, app.secret, connection.socket_id, name, auth or "", channel_data or "", check_key=not self.faithful
        ):
            raise Unauthorized
        if kind.presence and user.get("user_id") is None and not self.faithful:
            raise InvalidMessage
        channel = space.channels.get(name)
        if channel is None:
            channel = space.channels[name] = Channel(name, kind)
        elif connection in channel.subscribers and channel.subscribers[connection] != user:
            self._leave(connection, space, channel)
            space.channels.setdefault(name, channel)
        again = connection in channel.subscribers
        channel.add(connection, user)
        connection.channels[name] = channel
        if kind.presence and not again:
            self._arrive(connection, space, channel, user)
        roster = None
        if kind.presence:
            roster = quirks.roster(channel) if self.faithful else channel.roster()
        connection.write(frames.text(messages.subscription_succeeded(name, roster)))
        if kind.cache:
            cached = space.recall(name, now)
            connection.write(frames.text(messages.cache_miss(name) if cached is None else cached))

    def _arrive(self, connection: Connection, space: Space, channel: Channel, user: dict[str, Any]) -> None:
        first_here = first = True
        if user.get("user_id") is not None:
            first = channel.arrive(user)
            first_here = channel.members[str(user["user_id"])].local == 1
            if first_here:
                self.on_arrival(space, channel, user)
        if first:
            self.member_added(channel, user, connection)

    def _unsubscribe(self, connection: Connection, data: Any, now: int) -> None:
        name = _text(data, "channel")
        if name is None:
            raise InvalidMessage
        channel = connection.channels.get(name)
        if channel is not None:
            assert connection.space is not None
            self._leave(connection, connection.space, channel)

    def _leave(self, connection: Connection, space: Space, channel: Channel) -> None:
        del connection.channels[channel.name]
        user = channel.remove(connection) or {}
        if channel.kind.presence and user.get("user_id") is not None:
            user_id = user["user_id"]
            gone = channel.depart(user_id)
            if str(user_id) not in channel.members or not channel.members[str(user_id)].local:
                self.on_departure(space, channel, user_id)
            if gone:
                self.member_removed(channel, user_id)
        if channel.vacant:
            space.channels.pop(channel.name, None)
            if self.faithful:
                space.cache.pop(channel.name, None)

    def member_added(self, channel: Channel, user: dict[str, Any], newcomer: Connection | None = None) -> None:
        if self.faithful:
            user = {key: quirks.as_php(value) for key, value in user.items()}
        self.outbox.publish(channel, frames.text(messages.member_added(channel.name, user)), newcomer)

    def member_removed(self, channel: Channel, user_id: Any) -> None:
        self.outbox.publish(channel, frames.text(messages.member_removed(channel.name, user_id)))

    def _ping(self, connection: Connection, data: Any, now: int) -> None:
        connection.write(PONG)

    def _pong(self, connection: Connection, data: Any, now: int) -> None:
        """Activity was noted already."""

    def _client_event(self, connection: Connection, space: Space, message: messages.Message, payload: bytes) -> None:
        if type(message.channel) is not str or not message.channel or type(message.data) not in (dict, list, type(None)):
            raise InvalidMessage
        if not message.event.startswith("client-"):
            return
        accept = space.app.accept_client_events_from
        if accept not in ("all", "members"):
            raise ClientEventsOff
        channel = space.channels.get(message.channel)
        data = quirks.as_php(message.data) if self.faithful else message.data
        if accept == "members":
            if channel is None or connection not in channel.subscribers:
                raise NotAMember
            user_id = channel.subscribers[connection].get("user_id")
            frame = messages.relayed_client_event(message.event, message.channel, data, user_id)
        else:
            tree = messages.loads(payload.decode())
            frame = messages.dumps(tree | {"data": data} if "data" in tree else tree)
        self.counters.client_events += 1
        if channel is not None:
            self.outbox.publish(channel, frames.text(frame), connection)
        self.on_client_event(space, message.channel, frame, connection.socket_id)

    # ---- what the HTTP API does

    def publish(self, space: Space, name: str, frame: str, excluded: str | None, now: int) -> None:
        """An event was published here: as `deliver`, and counted."""
        self.counters.published += 1
        self.deliver(space, name, frame, excluded, now)

    def deliver(self, space: Space, name: str, frame: str, excluded: str | None, now: int) -> None:
        """Give the frame's text to the channel's subscribers on this node, except the socket id *excluded*."""
        channel = space.channels.get(name)
        kind: Kind = channel.kind if channel is not None else kind_of(name, loose=self.faithful)
        if kind.cache and (channel is not None or not self.faithful):
            space.remember(name, frame, now + CACHE_SECONDS * SECOND)
        if channel is not None and channel.subscribers:
            self.outbox.publish(channel, frames.text(frame), space.connections.get(excluded) if excluded else None)


ARMS: dict[str, Callable[[Hub, Connection, Any, int], None]] = {
    "pusher:subscribe": Hub._subscribe,
    "pusher:unsubscribe": Hub._unsubscribe,
    "pusher:ping": Hub._ping,
    "pusher:pong": Hub._pong,
}
"""The whole client-to-server protocol, besides client events."""


def _text(data: Any, member: str) -> str | None:
    """A member of a message's data as text: numbers and booleans as PHP would write them. Raises `InvalidMessage`."""
    value = data.get(member) if type(data) is dict else None
    if value is None or type(value) is str:
        return value
    if type(value) is bool:
        return "1" if value else ""
    if type(value) in (int, float):
        return str(value)
    raise InvalidMessage


def _user(channel_data: str | None) -> dict[str, Any]:
    """The decoded `channel_data`, {} without one. Raises `InvalidMessage` for one that is no object or has no usable id."""
    if not channel_data:
        return {}
    try:
        user = messages.loads(channel_data)
    except messages.Malformed:
        raise InvalidMessage from None
    if type(user) is not dict:
        raise InvalidMessage
    if type(user.get("user_id")) not in (str, int, float, type(None)):
        raise InvalidMessage
    return user
