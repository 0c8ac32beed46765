"""HTTP/1.1 for the application: bytes to `Request`, `Response` to bytes, keep-alive, pipelining, limits.

One small asyncio protocol over httptools. Requests of one connection are answered in order, by the application's workers
(`station`).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from email.utils import formatdate
from functools import lru_cache, partial
from typing import Any
from urllib.parse import unquote

import httptools

from sim.brokeforge.application import Application
from sim.brokeforge.http import MAX_BODY, REASONS, HttpError, Request, Response
from sim.live.application.station import Station

MAX_HEAD = 16 * 1024
"""Bytes of request line and headers; more is answered 431."""
MAX_PIPELINED = 64
"""Requests read ahead on one connection before its reading is paused."""

_HEADS = {status: f"HTTP/1.1 {status} {reason}\r\n".encode() for status, reason in REASONS.items()}


@lru_cache(maxsize=1)
def _date_line(second: int) -> bytes:
    """The Date header, made once a second."""
    return f"Date: {formatdate(second, usegmt=True)}\r\n".encode()


class HttpConnection(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, app: Application, station: Station, open_connections: set[HttpConnection]) -> None:
        self._app = app
        self._station = station
        self._open = open_connections
        self._parser = httptools.HttpRequestParser(self)
        self._queue: deque[tuple[Request | HttpError, bool]] = deque()
        self._serving = False
        self._paused = False
        self._closing = False
        self._refused: HttpError | None = None
        self._head = 0

    # --- asyncio ---

    def connection_made(self, transport: Any) -> None:
        self._transport: asyncio.Transport = transport
        self._loop = asyncio.get_running_loop()
        peer = transport.get_extra_info("peername")
        self._peer = peer[0] if isinstance(peer, tuple) else ""
        self._open.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._closing = True
        self._queue.clear()
        self._open.discard(self)

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            # A callback that raised `_Stop` arrives here as well; its answer is in `_refused`. The rest of the connection
            # cannot be understood; what was asked before still has its turn.
            self._transport.pause_reading()
            self._queue.append((self._refused or HttpError(400, f"This is not HTTP: {error}"), False))
            if not self._serving:
                self._serve()

    def drain(self) -> None:
        """Close when nothing is being served."""
        self._closing = True
        self._queue.clear()
        if not self._serving:
            self._transport.close()

    # --- httptools ---

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers: dict[str, str] = {}
        self._body = b""
        self._head = 0

    def on_url(self, url: bytes) -> None:
        self._url += url
        self._count_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count_head(len(name) + len(value) + 4)
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        headers = self._headers
        if (length := headers.get("content-length")) is not None and length.isdigit() and int(length) > MAX_BODY:
            self._stop(HttpError(413, f"The body has more than {MAX_BODY} bytes."))
        if headers.get("expect", "").lower() == "100-continue":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, data: bytes) -> None:
        self._body += data
        if len(self._body) > MAX_BODY:
            self._stop(HttpError(413, f"The body has more than {MAX_BODY} bytes."))

    def on_message_complete(self) -> None:
        if self._parser.should_upgrade():
            self._stop(HttpError(400, "This is the application; WebSockets are the broadcaster's, on its own port."))
        path, _, query = self._url.decode("latin-1").partition("?")
        if path[:1] != "/":
            self._stop(HttpError(400, "The request's target must be a path."))
        if "%" in path:
            path = unquote(path)
        method = self._parser.get_method().decode()
        request = Request(method, path, query, self._headers, self._body, self._peer)
        self._queue.append((request, self._parser.should_keep_alive()))
        if len(self._queue) > MAX_PIPELINED and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        if not self._serving:
            self._serve()

    # --- answers ---

    def _serve(self) -> None:
        """Serve what is queued, in order, until one of them waits."""
        while self._queue and not self._serving and not self._transport.is_closing():
            request, keep_alive = self._queue.popleft()
            if isinstance(request, HttpError):
                self._write(None, request.response(), keep_alive=False)
                return
            self._serving = True
            self._station.submit(self._app.arrive(request), partial(self._answered, request, keep_alive))
        if self._paused and not self._queue and not self._transport.is_closing():
            self._paused = False
            self._transport.resume_reading()

    def _answered(self, request: Request, keep_alive: bool, response: Response) -> None:
        """Called by the station, perhaps from within `_serve`, which then goes on by itself."""
        self._serving = False
        self._write(request, response, keep_alive and not self._closing)
        if self._queue:
            self._loop.call_soon(self._serve)

    def _write(self, request: Request | None, response: Response, keep_alive: bool) -> None:
        if self._transport.is_closing():
            return
        lines = [_HEADS[response.status], _date_line(int(time.time()))]
        for name, value in response.headers:
            lines.append(f"{name}: {value}\r\n".encode("latin-1"))
        if response.status not in (204, 304):
            lines.append(b"Content-Length: %d\r\n" % len(response.body))
        lines.append(b"\r\n" if keep_alive else b"Connection: close\r\n\r\n")
        if request is None or request.method != "HEAD":
            lines.append(response.body)
        self._transport.write(b"".join(lines))
        if not keep_alive:
            self._closing = True
            self._transport.close()

    def _count_head(self, more: int) -> None:
        self._head += more
        if self._head > MAX_HEAD:
            self._stop(HttpError(431, f"The request's head has more than {MAX_HEAD} bytes."))

    def _stop(self, error: HttpError) -> None:
        self._refused = error
        raise _Stop


class _Stop(Exception):
    """Ends parsing from within a callback of httptools."""
