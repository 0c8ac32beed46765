"""An HTTP/1.1 client on asyncio that never raises for what a peer does: every request ends in an `HttpAnswer`.

`HttpConnection` is one keep-alive connection; it reconnects when the peer has closed (Reverb closes after each exchange). An
answer that did not come has status 0 and a reason (`refused`, `timeout`, `reset`, `garbage: ...`), so that a misbehaving
target becomes rows and not exceptions. Requests are never repeated behind the caller's back.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

import httptools

from sim.errors import BadInput
from sim.pusher.http import decoded

MAX_BODY = 16 * 1024 * 1024
"""Bytes of an answer after which it counts as garbage: a broken target must not fill the memory of the tool."""


@dataclass(frozen=True, slots=True)
class HttpOrigin:
    """Where an HTTP server listens, and the path under which it lives."""

    host: str
    port: int
    tls: bool = False
    prefix: str = ""

    @classmethod
    def parse(cls, url: str) -> HttpOrigin:
        """From `http(s)://host[:port][/prefix]`. Raises `BadInput`."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise BadInput(f"URL {url!r}: {error}") from error
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise BadInput(f"URL {url!r} must look like http://host:port")
        tls = parts.scheme == "https"
        return cls(parts.hostname, port or (443 if tls else 80), tls, parts.path.rstrip("/"))

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """What came back. Instants in ns since 1970 (`time.time_ns`)."""

    status: int
    """HTTP status; 0: none came, `reason` says why."""
    reason: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    """Names in lower case; of repeated headers the last one."""
    body: bytes = b""
    started_at: int = 0
    """When the request was handed to the kernel (after connecting, where that was necessary)."""
    finished_at: int = 0
    cookies: tuple[str, ...] = ()
    """The values of `Set-Cookie`."""

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300


class HttpConnection:
    """One keep-alive connection, one request at a time."""

    def __init__(self, origin: HttpOrigin, timeout: float = 10.0, context: ssl.SSLContext | None = None) -> None:
        self._origin = origin
        self._timeout = timeout
        self._context = (context or ssl.create_default_context()) if origin.tls else None
        self._wire: _Wire | None = None

    async def request(self, method: str, path: str, headers: Iterable[tuple[str, str]] = (), body: bytes = b"") -> HttpAnswer:
        """Send and wait for the whole answer. *path* is relative to the origin's prefix."""
        started_at = 0
        try:
            async with asyncio.timeout(self._timeout):
                wire = self._wire if self._wire is not None and self._wire.open else await self._connect()
                started_at = time.time_ns()
                await wire.exchange(self._head(method, path, headers, body) + body)
        except (OSError, httptools.HttpParserError) as error:
            self.close()
            return HttpAnswer(0, reason_of(error), started_at=started_at, finished_at=time.time_ns())
        except asyncio.CancelledError:
            self.close()
            raise
        if not wire.keep_alive:
            self.close()
        cookies = tuple(wire.cookies)
        body = decoded(bytes(wire.body), wire.headers.get("content-encoding", ""))
        return HttpAnswer(wire.status, "", wire.headers, body, started_at, time.time_ns(), cookies)

    async def connect(self) -> str:
        """Connect ahead of the first request; returns why that failed, or an empty text."""
        try:
            async with asyncio.timeout(self._timeout):
                await self._connect()
        except OSError as error:
            return reason_of(error)
        return ""

    def close(self) -> None:
        if self._wire is not None:
            self._wire.transport.abort()
            self._wire = None

    async def _connect(self) -> _Wire:
        loop = asyncio.get_running_loop()
        _, self._wire = await loop.create_connection(_Wire, self._origin.host, self._origin.port, ssl=self._context)
        return self._wire

    def _head(self, method: str, path: str, headers: Iterable[tuple[str, str]], body: bytes) -> bytes:
        lines = [f"{method} {self._origin.prefix}{path} HTTP/1.1", f"Host: {self._origin.authority}"]
        lines += [f"{name}: {value}" for name, value in headers]
        if body or method in ("POST", "PUT", "PATCH"):
            lines.append(f"Content-Length: {len(body)}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")


class _Wire(asyncio.Protocol):
    """A TCP or TLS connection and the answer that is taking shape on it (httptools calls the `on_` methods)."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self._waiter: asyncio.Future[None] | None = None
        self._begin()

    @property
    def open(self) -> bool:
        return not self.transport.is_closing()

    async def exchange(self, request: bytes) -> None:
        """Write and wait until the answer is complete in `status`, `headers` and `body`."""
        self._begin()
        self._waiter = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        await self._waiter

    def _begin(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self.status = 0
        self.headers: dict[str, str] = {}
        self.cookies: list[str] = []
        self.body = bytearray()
        self.keep_alive = True
        self._ends_with_connection = False

    def _finish(self, error: Exception | None = None) -> None:
        if self._waiter is not None and not self._waiter.done():
            if error is None:
                self._waiter.set_result(None)
            else:
                self._waiter.set_exception(error)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # What follows a 101 is no HTTP; the answer itself is complete.
        except httptools.HttpParserError as error:
            self._finish(error)
        if len(self.body) > MAX_BODY:
            self._finish(httptools.HttpParserError(f"more than {MAX_BODY} bytes"))

    def connection_lost(self, error: Exception | None) -> None:
        if error is None and self._ends_with_connection:
            self.keep_alive = False
            self._finish()
        else:
            self._finish(error or ConnectionResetError("closed before the answer was complete"))

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")
        if name.lower() == b"set-cookie":
            self.cookies.append(value.decode("latin-1"))

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        # An answer without a length ends with the connection: Reverb's plain error texts do.
        self._ends_with_connection = not {"content-length", "transfer-encoding"} & self.headers.keys()

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.keep_alive = self._parser.should_keep_alive()
        self._finish()


def reason_of(error: BaseException) -> str:
    """A failure in one or a few words, the same for the same cause."""
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"tls: {error.reason or error}"
    if isinstance(error, ConnectionRefusedError):
        return "refused"
    if isinstance(error, ConnectionResetError | BrokenPipeError):
        return "reset"
    if isinstance(error, socket.gaierror):
        return "no such host"
    if isinstance(error, httptools.HttpParserError):
        return f"garbage: {error}"
    if isinstance(error, OSError):
        return error.strerror or str(error) or type(error).__name__
    return f"{type(error).__name__}: {error}"
