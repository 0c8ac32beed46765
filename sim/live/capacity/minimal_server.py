"""A broadcaster that only sends, to measure the load client itself.

It upgrades connections, accepts every subscription, and broadcasts a frame to all, stamped just before each socket's write. So a
subscriber measures loopback and the client's own cost, without the fan-out of a real broadcaster.
"""

from __future__ import annotations

import asyncio
import time
from typing import cast

from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

from sim.pusher import messages

CHANNEL = "private-servers"
EVENT = "App\\Events\\ServerUpdated"
_SERIAL, _STAMP = 2_000_000_000, 1_111_111_111_111_111_111
"""Placeholders of the width of every serial and every time that is sent, so that a frame is patched and not built."""


class MinimalServer:
    """Listens on a free port of 127.0.0.1 while the context is open."""

    def __init__(self) -> None:
        self.subscribers: list[asyncio.Transport] = []
        self._serial = 0
        payload = {"server_id": 1, "update": _SERIAL, "sent_at": _STAMP, "published_at": _STAMP}
        text = messages.event(EVENT, payload, CHANNEL)
        self._frame = Frame(Opcode.TEXT, text.encode()).serialize(mask=False)

    async def __aenter__(self) -> MinimalServer:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Peer(self), "127.0.0.1", 0, backlog=4096)
        return self

    async def __aexit__(self, *error: object) -> None:
        self._server.close()
        for transport in self.subscribers:
            transport.abort()

    @property
    def port(self) -> int:
        return int(self._server.sockets[0].getsockname()[1])

    def broadcast(self) -> int:
        """Send one event to all subscribers, in the order in which they subscribed; returns its serial."""
        self._serial += 1
        before, after = self._frame.replace(str(_SERIAL).encode(), str(_SERIAL + self._serial).encode()).split(
            str(_STAMP).encode(), 1
        )
        now = time.time_ns
        for transport in self.subscribers:
            transport.write(b"%b%d%b" % (before, now(), after))
        return _SERIAL + self._serial


class _Peer(asyncio.Protocol):
    """One connection: handshake by the Sans-I/O protocol, then every text is taken for a subscribe frame."""

    def __init__(self, server: MinimalServer) -> None:
        self._server = server
        self._protocol = ServerProtocol()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        if self._transport in self._server.subscribers:
            self._server.subscribers.remove(self._transport)

    def data_received(self, data: bytes) -> None:
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, Request):
                self._protocol.send_response(self._protocol.accept(event))
                self._protocol.send_text(messages.connection_established("1.1", 120).encode())
            elif isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                self._answer(messages.parse(bytes(event.data).decode()))
        for piece in self._protocol.data_to_send():
            if piece:
                self._transport.write(piece)

    def _answer(self, message: messages.Message) -> None:
        if message.event == "pusher:subscribe":
            channel = message.data["channel"]
            self._protocol.send_text(messages.subscription_succeeded(channel).encode())
            # A dashboard listens to the sites' channel as well, where nothing is sent.
            if channel == CHANNEL:
                self._server.subscribers.append(self._transport)
        elif message.event == "pusher:ping":
            self._protocol.send_text(messages.PONG.encode())
