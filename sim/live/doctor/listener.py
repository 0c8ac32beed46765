"""One WebSocket subscriber on asyncio, for tools that look at single frames (the load test has its own, for thousands)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus, WebSocketException

from sim.live.client import reason_of
from sim.pusher import messages
from sim.pusher.messages import Malformed, Message
from sim.target import Target


@dataclass(frozen=True, slots=True)
class Heard:
    """A frame and when it was read, ns since 1970."""

    message: Message
    at: int


class Refused(Exception):
    """The broadcaster did not let us in, or said something else than the protocol wants. The text says what."""


class Listener:
    """Open with `Listener.open(target)`; close with `close`. Pings are answered, every other frame is kept in `heard`."""

    def __init__(self, connection: ClientConnection) -> None:
        self.heard: list[Heard] = []
        self.socket_id = ""
        self.activity_timeout = 0
        self.headers: dict[str, str] = {}
        self._connection = connection
        self._arrived = asyncio.Condition()
        self._ended = ""
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def open(cls, target: Target, timeout: float = 5.0) -> Listener:
        """Upgrade and wait for `connection_established`. Raises `Refused`."""
        url = f"{target.websocket_url}?protocol={messages.PROTOCOL}&client=js&version=8.6.0&flash=false"
        try:
            connection = await connect(url, open_timeout=timeout, compression=None, proxy=None, ping_interval=None)
        except InvalidStatus as error:
            status = error.response.status_code
            body = (error.response.body or b"")[:80].decode("utf-8", "replace")
            raise Refused(f"HTTP {status} in place of the upgrade ({body.strip() or error.response.reason_phrase})") from error
        except InvalidMessage as error:
            raise Refused("what answers there is no HTTP") from error
        except (OSError, WebSocketException, ValueError) as error:
            raise Refused(reason_of(error) if isinstance(error, OSError) else str(error)) from error
        listener = cls(connection)
        response = connection.response
        listener.headers = {name.lower(): value for name, value in response.headers.raw_items()} if response else {}
        first = await listener.wait(lambda message: True, timeout)
        if first is None or first.message.event != messages.ESTABLISHED or not isinstance(first.message.data, dict):
            await listener.close()
            raise Refused(_describe(first, listener._ended))
        listener.socket_id = str(first.message.data.get("socket_id", ""))
        listener.activity_timeout = int(first.message.data.get("activity_timeout", 0))
        return listener

    async def subscribe(self, channel: str, auth: str, timeout: float = 5.0) -> str:
        """Why the subscription was refused; empty when it succeeded."""
        since = time.time_ns()
        await self.send(messages.subscribe(channel, auth))
        answer = await self.wait(
            lambda message: (
                message.event == messages.ERROR or (message.event == messages.SUBSCRIBED and message.channel == channel)
            ),
            timeout,
            since,
        )
        if answer is None:
            return self._ended or f"no answer within {timeout:g} s"
        return "" if answer.message.event == messages.SUBSCRIBED else _describe(answer, "")

    async def send(self, text: str) -> None:
        try:
            await self._connection.send(text)
        except ConnectionClosed:
            self._ended = self._ended or "the connection was closed"

    async def wait(self, wanted: Callable[[Message], Any], timeout: float, since: int = 0) -> Heard | None:
        """The first frame read at or after *since* that is *wanted*; None when none comes within *timeout* seconds."""

        def find() -> Heard | None:
            return next((h for h in self.heard if h.at >= since and wanted(h.message)), None)

        try:
            async with asyncio.timeout(timeout), self._arrived:
                await self._arrived.wait_for(lambda: find() is not None or self._ended)
        except TimeoutError:
            pass
        return find()

    def of(self, channels: set[str], since: int) -> list[Heard]:
        """Events on these channels read at or after *since*."""
        return [
            h for h in self.heard if h.at >= since and h.message.channel in channels and h.message.event != messages.SUBSCRIBED
        ]

    async def close(self) -> None:
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)
        await self._connection.close()

    async def _read(self) -> None:
        try:
            async for text in self._connection:
                await self._take(text if isinstance(text, str) else text.decode("utf-8", "replace"))
            ended = "the broadcaster closed the connection"
        except ConnectionClosed as error:
            ended = f"the connection was lost ({error.rcvd.code if error.rcvd else 'without a close frame'})"
        async with self._arrived:
            self._ended = ended
            self._arrived.notify_all()

    async def _take(self, text: str) -> None:
        try:
            message = messages.parse(text)
        except Malformed:
            message = Message("(no frame of the protocol)", None, text[:80])
        if message.event == "pusher:ping":
            await self.send(messages.CLIENT_PONG)
            return
        async with self._arrived:
            self.heard.append(Heard(message, time.time_ns()))
            self._arrived.notify_all()


def _describe(heard: Heard | None, ended: str) -> str:
    if heard is None:
        return ended or "nothing came after the upgrade"
    message = heard.message
    if message.event == messages.ERROR and isinstance(message.data, dict):
        return f"error {message.data.get('code')}: {message.data.get('message')}"
    return f"{message.event}: {message.data}"
