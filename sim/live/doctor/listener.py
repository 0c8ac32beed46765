"""One WebSocket subscriber on asyncio, for tools that look at single frames (the load test has its own, for thousands)."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus, WebSocketException

from sim.live.client import HttpAnswer, HttpConnection, HttpOrigin, reason_of
from sim.pusher import messages
from sim.pusher.messages import Malformed, Message
from sim.target import Target

MAX_EVENT = 8 << 20
"""Bytes of the largest event that is received: whether an event is too large is for the target to decide."""

GOODBYE = 0.5
"""Seconds to wait for the answer to our close frame."""

UPGRADE = (
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
)


class _Connect(connect):
    """Browsers follow no redirect of a handshake."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


@dataclass(frozen=True, slots=True)
class ReceivedFrame:
    """A frame, when it was read (ns since 1970), and its size in bytes."""

    message: Message
    at: int
    size: int = 0


class Refused(Exception):
    """The broadcaster refused the connection, or broke the protocol; the text names how."""

    def __init__(self, text: str, answer: HttpAnswer | None = None, code: int = 0) -> None:
        """*answer*: the HTTP answer in place of the upgrade; *code*: of the protocol's error, or of the close frame."""
        super().__init__(text)
        self.answer, self.code = answer, code


class Subscriber:
    """Open with `Subscriber.open(target)`; close with `close`. Pings are answered, every other frame is kept in `heard`."""

    def __init__(self, connection: ClientConnection) -> None:
        self.heard: list[ReceivedFrame] = []
        self.socket_id = ""
        self.activity_timeout = 0
        self.headers: dict[str, str] = {}
        self.ended = ""
        """Why the connection is gone; empty: it is there."""
        self.code = 0
        """Of the close frame that came."""
        self._connection = connection
        self._arrived = asyncio.Condition()
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def open(cls, target: Target, timeout: float = 5.0) -> Subscriber:
        """Upgrade, as a page of the application would, and wait for `connection_established`. Raises `Refused`."""
        url = f"{target.websocket_url}?protocol={messages.PROTOCOL}&client=js&version=8.6.0&flash=false"
        origin: Any = target.page_origin or None
        try:
            connection = await _Connect(
                url,
                open_timeout=timeout,
                close_timeout=GOODBYE,
                compression=None,
                proxy=None,
                ping_interval=None,
                max_size=MAX_EVENT,
                origin=origin,
            )
        except (InvalidStatus, InvalidMessage) as error:
            # Asked once more by a client that reads every answer, also of HTTP/1.0 and with a body.
            answer = await _ask(target, url, timeout)
            if answer.status == 0 and isinstance(error, InvalidStatus):
                answer = HttpAnswer(error.response.status_code)
            raise Refused("" if answer.status else "what answers there is no HTTP", answer if answer.status else None) from error
        except (OSError, WebSocketException, ValueError) as error:
            raise Refused(reason_of(error) if isinstance(error, OSError) else str(error)) from error
        listener = cls(connection)
        response = connection.response
        listener.headers = {name.lower(): value for name, value in response.headers.raw_items()} if response else {}
        first = await listener.wait(lambda message: True, timeout)
        data = first.message.data if first is not None else None
        if first is None or first.message.event != messages.ESTABLISHED or not isinstance(data, dict):
            await listener.close()
            code = data.get("code") if isinstance(data, dict) else listener.code
            raise Refused(_describe(first, listener.ended), code=code if isinstance(code, int) else 0)
        listener.socket_id = str(data.get("socket_id", ""))
        given = data.get("activity_timeout")
        listener.activity_timeout = given if isinstance(given, int) else 0
        return listener

    async def round_trip(self, timeout: float) -> float | None:
        """Seconds from a WebSocket ping to its pong; None where none came."""
        try:
            async with asyncio.timeout(timeout):
                return await (await self._connection.ping())
        except (TimeoutError, ConnectionClosed):
            return None

    def acknowledge(self, at_once: bool) -> bool:
        """How the kernel acknowledges what comes next: at once, or late as for a page that has just sent something. False where
        it cannot be told (not Linux). The mode does not last."""
        quick = getattr(socket, "TCP_QUICKACK", None)
        if quick is not None:
            self._connection.transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, quick, int(at_once))
        return quick is not None

    async def subscribe(self, channel: str, auth: str, data: str | None = None, timeout: float = 5.0) -> str:
        """Why the subscription was refused; empty when it succeeded. *data*: `channel_data` of a presence channel."""
        since = time.time_ns()
        await self.send(messages.subscribe(channel, auth, data))
        answer = await self.wait(
            lambda message: (
                message.event == messages.ERROR
                or (message.event in (messages.SUBSCRIBED, messages.SUBSCRIPTION_ERROR) and message.channel == channel)
            ),
            timeout,
            since,
        )
        if answer is None:
            return self.ended or f"no answer within {timeout:g} s"
        return "" if answer.message.event == messages.SUBSCRIBED else _describe(answer, "")

    async def send(self, text: str) -> None:
        try:
            await self._connection.send(text)
        except ConnectionClosed:
            self.ended = self.ended or "the connection was closed"

    async def wait(self, wanted: Callable[[Message], Any], timeout: float, since: int = 0) -> ReceivedFrame | None:
        """The first frame read at or after *since* that is *wanted*; None when none comes within *timeout* seconds."""

        def find() -> ReceivedFrame | None:
            return next((h for h in self.heard if h.at >= since and wanted(h.message)), None)

        try:
            async with asyncio.timeout(timeout), self._arrived:
                await self._arrived.wait_for(lambda: find() is not None or self.ended)
        except TimeoutError:
            pass
        return find()

    def of(self, channels: set[str], since: int) -> list[ReceivedFrame]:
        """Events on these channels read at or after *since*."""
        heard = (h for h in self.heard if h.at >= since and h.message.channel in channels)
        return [h for h in heard if not h.message.event.startswith(("pusher:", "pusher_internal:"))]

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
            close = error.rcvd
            self.code = int(close.code) if close else 0
            ended = f"the connection was lost ({f'{close.code} {close.reason}'.strip() if close else 'without a close frame'})"
        async with self._arrived:
            self.ended = ended
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
            self.heard.append(ReceivedFrame(message, time.time_ns(), len(text.encode())))
            self._arrived.notify_all()


async def _ask(target: Target, url: str, timeout: float) -> HttpAnswer:
    """The answer to the upgrade, as HTTP."""
    connection = HttpConnection(HttpOrigin.parse(target.subscribing.url), timeout)
    path = url.partition("://")[2].partition("/")[2]
    headers = [*UPGRADE, *([("Origin", target.page_origin)] if target.page_origin else [])]
    try:
        return await connection.request("GET", f"/{path}".removeprefix(target.subscribing.path), headers)
    finally:
        connection.close()


def _describe(heard: ReceivedFrame | None, ended: str) -> str:
    if heard is None:
        return ended or "nothing came after the upgrade"
    message = heard.message
    if message.event == messages.ERROR and isinstance(message.data, dict):
        return f"error {message.data.get('code')}: {message.data.get('message')}"
    if message.event == messages.SUBSCRIPTION_ERROR and isinstance(message.data, dict):
        return f"subscription_error {message.data.get('status')}: {message.data.get('error')}"
    return f"{message.event}: {message.data}"
