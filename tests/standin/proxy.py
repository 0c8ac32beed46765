"""A reverse proxy as it is misconfigured in practice: for tests only. Every switch is one report of trouble."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass

from tests.standin.http import Answer, Request, as_html, listening, read_request

NGINX = ("Server", "nginx/1.24.0")


@dataclass(frozen=True)
class Switches:
    """What it does with requests whose path matches `paths`; everything else goes through as it is."""

    paths: str = r"/"
    """Regular expression for the beginning of the path."""
    status: int = 0
    """It answers by itself."""
    location: str = ""
    version: str = "HTTP/1.1"
    server: tuple[str, str] | None = NGINX
    title: str = ""
    """Of its own page."""
    json: str = ""
    """What it answers in place of a page."""
    authenticate: bool = False
    """Wants a password (basic auth)."""
    upgrade: bool = True
    """Upgrade and Connection are passed on."""
    rewrite: tuple[str, str] | None = None
    """Regular expression and replacement for the request's target."""
    silent: bool = False
    nagle: bool = False
    """Frame by frame to the client, without TCP_NODELAY."""
    dead: bool = False
    """Nobody is behind it."""
    close: int = 0
    """Sends this close frame in place of the first event."""


class Proxy:
    def __init__(self, switches: Switches, port: int) -> None:
        """*port*: of what is behind it, on 127.0.0.1."""
        self.switches, self.port = switches, port

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not writer.is_closing():
            request = await read_request(reader)
            s = self.switches
            here = re.match(s.paths, request.path) is not None
            if here and s.silent:
                await asyncio.sleep(60)
            if here and (answer := self._own(request)) is not None:
                writer.write(answer.to_bytes())
                await writer.drain()
                if answer.version != "HTTP/1.1":
                    return
                continue
            await self._pass(request, reader, writer, here)
            return

    def _own(self, request: Request) -> Answer | None:
        s = self.switches
        headers = [s.server] if s.server else []
        if s.authenticate and "authorization" not in request.headers:
            return as_html("401 Authorization Required", 401, *headers, ("WWW-Authenticate", 'Basic realm="staging"'))
        if s.dead:
            return as_html("502 Bad Gateway", 502, *headers)
        if not s.status:
            return None
        title = s.title or {403: "403 Forbidden", 404: "404 Not Found", 405: "405 Not Allowed"}.get(s.status, f"{s.status}")
        if s.location:
            headers = [*headers, ("Location", s.location)]
        answer = Answer(s.status, s.json.encode(), headers) if s.json else as_html(title, s.status, *headers)
        answer.version = s.version
        return answer

    async def _pass(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, here: bool) -> None:
        """To what is behind, and everything after it in both directions. One request a connection, as HTTP/1.0 proxies do."""
        s, head = self.switches, request.head.decode("latin-1")
        if here and s.rewrite is not None:
            first, rest = head.split("\r\n", 1)
            method, target, version = first.split(" ")
            head = f"{method} {re.sub(s.rewrite[0], s.rewrite[1], target)} {version}\r\n{rest}"
        if here and not s.upgrade:
            head = re.sub(r"(?im)^(upgrade|connection):.*\r\n", "", head)
        upgrading = "upgrade:" in head.lower()
        if not upgrading:
            head = re.sub(r"(?im)^connection:.*\r\n", "", head).removesuffix("\r\n") + "Connection: close\r\n\r\n"
        behind, there = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            there.write(head.encode("latin-1") + request.body)
            if s.nagle:
                writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
            tasks = [asyncio.create_task(self._copy(behind, writer, upgrading)), asyncio.create_task(_copy(reader, there))]
            # What is behind ends the exchange; a client that goes ends both.
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            there.close()

    async def _copy(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, frames: bool) -> None:
        s = self.switches
        if not frames or not (s.nagle or s.close):
            await _copy(source, sink)
            return
        sink.write(await source.readuntil(b"\r\n\r\n"))
        events = 0
        while True:
            head = await source.readexactly(2)
            size = head[1] & 127
            more = await source.readexactly({126: 2, 127: 8}.get(size, 0))
            payload = await source.readexactly(int.from_bytes(more, "big") if more else size)
            events += b"App" in payload
            if s.close and events:
                sink.write(bytes([0x88, 2]) + s.close.to_bytes(2, "big"))
                return
            # Not one write for both: the kernel holds the second back until the first is acknowledged.
            sink.write(head + more + payload)
            await sink.drain()


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()


@contextlib.asynccontextmanager
async def proxy(switches: Switches, port: int, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Serve before what listens on *port* while the block runs; yields the proxy's own port."""
    async with listening(Proxy(switches, port).connected, tls) as own:
        yield own
