"""The server's side of the protocol: connections, channels and what each message does. No socket, no clock.

The owner of the sockets calls `open`, `receive`, `touch`, `closed` and, every `TICK_SECONDS`, `tick`, always with the present
instant in integer nanoseconds of a monotonic clock. The hub answers through the `Connection` it was given: `write` for bytes
(whole WebSocket frames), `end` to finish it. What goes to many waits in `outbox` until its owner flushes it.

Nothing that a peer sends raises out of here: an error is answered with its own frame.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from sim.pusher import frames, messages
from sim.pusher.errors import (
    ClientEventsOff,
    InvalidMessage,
    NotAMember,
    OriginNotAllowed,
    OverQuota,
    PongMissing,
    PusherError,
    RateLimited,
    TooManyChannels,
    Unauthorized,
    UnknownApp,
)
from sim.pusher.server import quirks
from sim.pusher.server.apps import App
from sim.pusher.server.channels import kind_of
from sim.pusher.server.outbox import Outbox
from sim.pusher.server.state import Channel, Connection, Space
from sim.pusher.server.subscription import MAX_CHANNELS, SubscribeRequest, text_member

SECOND = 1_000_000_000
TICK_SECONDS = 60
"""Reverb looks for inactive connections once a minute."""
CACHE_SECONDS = 30 * 60

PING = frames.text(messages.PING)
PONG = frames.text(messages.PONG)
CONTROL_PING = frames.encode(frames.PING, b"")


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
        connection.write(self._welcome(connection, connection.space.app))

    def _admit(self, connection: Connection, key: str, origin: str | None) -> None:
        space = self._by_key.get(key)
        if space is None:
            raise UnknownApp
        limit = space.app.max_connections
        full = limit is not None and (sum(1 for _ in space.subscribed()) if self.faithful else len(space.connections)) >= limit
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
        """Once in `TICK_SECONDS`: prune connections that did not answer the last ping, then ping the inactive ones."""
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
        wanted = SubscribeRequest.read(data, faithful=self.faithful)
        wanted.verify(space.app, connection.socket_id, faithful=self.faithful)
        name, kind, user = wanted.channel, wanted.kind, wanted.user
        channel = connection.channels.get(name)
        if channel is not None and channel.subscribers[connection] != user:
            self._leave(connection, space, channel)  # it comes back as somebody else
            channel = None
        if channel is None:
            if len(connection.channels) >= MAX_CHANNELS and not self.faithful:
                raise TooManyChannels
            channel = space.channels.get(name) or space.channels.setdefault(name, Channel(name, kind))
            channel.add(connection, user)
            connection.channels[channel.name] = channel  # The name that all its connections share, not the one just read.
            if kind.presence:
                self._arrive(connection, space, channel, user)
        roster = None
        if kind.presence:
            roster = quirks.roster(channel) if self.faithful else channel.roster()
        # PHP takes the text "0" for nothing (row `channel_zero`).
        shown = "" if self.faithful and name == "0" else name
        connection.write(frames.text(messages.subscription_succeeded(shown, roster)))
        if kind.cache:
            cached = space.recall(name, now)
            connection.write(frames.text(messages.cache_miss(name) if cached is None else cached))

    def _arrive(self, connection: Connection, space: Space, channel: Channel, user: dict[str, Any]) -> None:
        first = True  # one without user id (row `presence_user`) is always announced
        if user.get("user_id") is not None:
            first = channel.arrive(user)
            if channel.members[str(user["user_id"])].local == 1:
                self.on_arrival(space, channel, user)
        if first:
            self.member_added(channel, user, connection)

    def _unsubscribe(self, connection: Connection, data: Any, now: int) -> None:
        name = text_member(data, "channel")
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
            if gone or not channel.members[str(user_id)].local:
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

    def _established(self, connection: Connection, data: Any, now: int) -> None:
        """Reverb answers the server's own event as if the connection were new (row `own_established`)."""
        if not self.faithful or connection.space is None:
            raise InvalidMessage
        connection.write(self._welcome(connection, connection.space.app))

    @staticmethod
    def _welcome(connection: Connection, app: App) -> bytes:
        return frames.text(messages.connection_established(connection.socket_id, app.activity_timeout))

    def _client_event(self, connection: Connection, space: Space, message: messages.Message, payload: bytes) -> None:
        if type(message.channel) is not str or not message.channel or type(message.data) not in (dict, list, type(None)):
            raise InvalidMessage
        if not message.event.startswith("client-"):
            return
        accept = space.app.accept_client_events_from
        if accept not in ("all", "members"):
            raise ClientEventsOff
        if self.outbox.full:
            raise RateLimited
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
        kind = channel.kind if channel is not None else kind_of(name, loose=self.faithful)
        if kind.cache and (channel is not None or not self.faithful):
            space.remember(name, frame, now + CACHE_SECONDS * SECOND)
        if channel is not None and channel.subscribers:
            self.outbox.publish(channel, frames.text(frame), space.connections.get(excluded) if excluded else None)


ARMS: dict[str, Callable[[Hub, Connection, Any, int], None]] = {
    "pusher:subscribe": Hub._subscribe,
    "pusher:unsubscribe": Hub._unsubscribe,
    "pusher:ping": Hub._ping,
    "pusher:pong": Hub._pong,
    messages.ESTABLISHED: Hub._established,
}
"""The whole client-to-server protocol, besides client events."""
