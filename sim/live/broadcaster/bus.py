"""How nodes reach each other: through Redis (several machines) or through the parent process (several nodes of one machine).

Either carries texts to all nodes. `send` never waits: what cannot leave now is kept, up to `QUEUE` texts, then the oldest is lost
and counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Protocol

from sim.errors import BadInput

log = logging.getLogger("workbench.broadcaster")

QUEUE = 10_000
BATCH = 128
RETRY_SECONDS = 0.5
SILENCE_SECONDS = 6.0
"""Our own heartbeats come back through Redis: when nothing comes for this long, the connection is dead though it looks open."""


class BusMember(Protocol):
    """A node, as a bus sees it."""

    def joined(self) -> None: ...
    def lost(self) -> None: ...
    def receive(self, text: str) -> None: ...


class NoMember:
    """For a stream that only shows whether its other end lives."""

    def joined(self) -> None: ...
    def lost(self) -> None: ...
    def receive(self, text: str) -> None: ...


class Bus(Protocol):
    def start(self, listener: BusMember) -> None: ...
    def send(self, text: str) -> None: ...
    async def close(self) -> None:
        """Send what waits, briefly, and be gone."""
        ...


class RedisBus:
    """One Redis channel for everything, a connection to publish and one to listen. *lost* counts what was dropped."""

    def __init__(self, url: str, channel: str, lost: Callable[[int], None]) -> None:
        # Here and not above: a broadcaster without Redis starts in half the time.
        from redis.asyncio import Redis
        from redis.exceptions import RedisError

        try:
            self._redis = Redis.from_url(url, socket_connect_timeout=2, socket_timeout=5, decode_responses=True)
        except ValueError as error:
            raise BadInput(f"Redis URL {url.rpartition('@')[2]!r}: {error}") from error
        self._expected = RedisError, OSError
        self._shown = url.rpartition("@")[2]  # without a password
        self._channel = channel
        self._lost = lost
        self._queue: deque[str] = deque()
        self._arrived = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, listener: BusMember) -> None:
        self._tasks = [asyncio.create_task(self._publish()), asyncio.create_task(self._listen(listener))]

    def send(self, text: str) -> None:
        if len(self._queue) >= QUEUE:
            self._queue.popleft()
            self._lost(1)
        self._queue.append(text)
        self._arrived.set()

    async def _publish(self) -> None:
        while True:
            await self._arrived.wait()
            batch = [self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))]
            if not self._queue:
                self._arrived.clear()
            try:
                async with self._redis.pipeline(transaction=False) as pipeline:
                    for text in batch:
                        pipeline.publish(self._channel, text)
                    await pipeline.execute()
            except Exception as error:
                if not isinstance(error, self._expected):
                    log.exception("the node's messages to others")
                # It may have arrived in part. A text that comes twice would be an event that comes twice: at most once, then.
                self._lost(len(batch))
                await asyncio.sleep(RETRY_SECONDS)

    async def _listen(self, listener: BusMember) -> None:
        complained = False
        while True:
            subscription = self._redis.pubsub(ignore_subscribe_messages=True)
            try:
                await subscription.subscribe(self._channel)
                if complained:
                    log.info("Redis %s is back", self._shown)
                complained = False
                listener.joined()
                heard = asyncio.get_running_loop().time()
                while True:
                    message = await subscription.get_message(timeout=1.0)
                    if message is not None:
                        heard = asyncio.get_running_loop().time()
                        _hand_over(listener, message["data"])
                    elif asyncio.get_running_loop().time() - heard > SILENCE_SECONDS:
                        raise TimeoutError("silent")
            except Exception as error:
                if not isinstance(error, self._expected):
                    log.exception("the node's messages from others")
                listener.lost()
                if not complained:
                    log.warning(
                        "Redis %s is away (%s): subscribers of other nodes miss events until it is back", self._shown, error
                    )
                complained = True
            finally:
                await self._quietly(subscription.aclose())
            await asyncio.sleep(RETRY_SECONDS)

    async def close(self) -> None:
        for _ in range(20):
            if not self._queue:
                break
            await asyncio.sleep(0.01)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._quietly(self._redis.aclose())

    async def _quietly(self, closing: Awaitable[object]) -> None:
        with contextlib.suppress(*self._expected):
            await closing


def _hand_over(listener: BusMember, text: str) -> None:
    """An error in one message must not stop the node from hearing the others."""
    try:
        listener.receive(text)
    except Exception:
        log.exception("a message from another node")


class ParentBus:
    """The stream to the parent process (`nodes.Relay`), one text a line. Its end is the parent's end: *orphaned*."""

    def __init__(self, fd: int, lost: Callable[[int], None], orphaned: Callable[[], None]) -> None:
        self._socket = socket.socket(fileno=fd)
        self._lost = lost
        self._orphaned = orphaned
        self._writer: asyncio.StreamWriter | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self, listener: BusMember) -> None:
        self._task = asyncio.create_task(self._listen(listener))

    async def _listen(self, listener: BusMember) -> None:
        self._socket.setblocking(False)
        reader, self._writer = await asyncio.open_connection(sock=self._socket, limit=1 << 24)
        listener.joined()
        with contextlib.suppress(OSError):  # a parent that dies with unread texts resets the stream
            while line := await reader.readline():
                _hand_over(listener, line.decode(errors="replace"))
        listener.lost()
        self._orphaned()

    def send(self, text: str) -> None:
        if self._writer is None or self._writer.transport.get_write_buffer_size() > 1 << 24:
            self._lost(1)
            return
        self._writer.write(text.encode() + b"\n")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
        if self._writer is not None:
            self._writer.close()
