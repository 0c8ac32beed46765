"""Connections without a network: what they were sent is kept and can be read back as frames."""

from __future__ import annotations

import itertools
import json
from typing import Any

from sim.pusher import auth, messages
from sim.pusher.frames import CLOSE, TEXT
from sim.pusher.server.apps import App
from sim.pusher.server.hub import SECOND, Hub
from sim.pusher.server.outbox import Outbox
from sim.pusher.server.state import Connection

APP = App("1", "key", "secret")


class Peer(Connection):
    """A connection whose bytes stay here."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.ended = False

    def write(self, frame: bytes) -> None:
        if not self.ended:
            self.sent += frame

    def end(self, frame: bytes = b"") -> None:
        self.write(frame)
        self.ended = True

    def frames(self) -> list[tuple[int, bytes]]:
        """Everything since the last call, as (opcode, payload)."""
        found, data, self.sent = [], self.sent, b""
        while data:
            size, start = data[1], 2
            if size >= 126:
                start = 4 if size == 126 else 10
                size = int.from_bytes(data[2:start], "big")
            found.append((data[0] & 0x0F, data[start : start + size]))
            data = data[start + size :]
        return found

    def received(self) -> list[dict[str, Any]]:
        """The text frames since the last call, with `data` decoded."""
        trees = [json.loads(payload) for opcode, payload in self.frames() if opcode == TEXT]
        for tree in trees:
            if isinstance(tree.get("data"), str):
                tree["data"] = json.loads(tree["data"])
        return trees

    def events(self) -> list[str]:
        return [tree["event"] for tree in self.received()]

    def close_code(self) -> int | None:
        return next((int.from_bytes(payload[:2], "big") for opcode, payload in self.frames() if opcode == CLOSE), None)


class House:
    """A hub, its outbox and the time."""

    def __init__(self, *apps: App, faithful: bool = False) -> None:
        numbers = itertools.count(1)
        self.outbox = Outbox()
        self.hub = Hub(apps or (APP,), faithful=faithful, outbox=self.outbox, draw=lambda: next(numbers))
        self.now = 0

    def wait(self, seconds: float) -> None:
        self.now += int(seconds * SECOND)

    def open(self, key: str = "key", origin: str | None = None) -> Peer:
        peer = Peer()
        self.hub.open(peer, key, origin, self.now)
        return peer

    def member(self, channel: str, user: dict[str, Any] | None = None) -> Peer:
        """A new connection that is subscribed and has read everything so far."""
        peer = self.open()
        self.subscribe(peer, channel, user)
        peer.received()
        return peer

    def send(self, peer: Peer, text: str | bytes) -> None:
        self.hub.receive(peer, text if isinstance(text, bytes) else text.encode(), self.now)
        self.outbox.flush()

    def subscribe(self, peer: Peer, channel: str, user: dict[str, Any] | None = None) -> None:
        data = None if user is None else json.dumps(user)
        signature = auth.channel_auth("key", "secret", peer.socket_id, channel, data or "")
        self.send(peer, messages.subscribe(channel, signature, data))

    def publish(self, channel: str, name: str = "e", excluded: str | None = None) -> None:
        self.hub.publish(self.hub.spaces["1"], channel, messages.event(name, "{}", channel), excluded, self.now)
        self.outbox.flush()
