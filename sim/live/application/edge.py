"""HTTP/1.1 for the application: bytes to `Request`, `Response` to bytes, keep-alive, pipelining, limits.

One asyncio protocol over httptools. Requests of one connection are answered in order, by the application's workers (`station`).

Why our own: Starlette on uvicorn (httptools, uvloop) in its place costs 1.47 to 1.49 times the CPU for a refetch of a server
page, 1.3 to 1.4 for a dashboard and 1.7 for a site page (two runs, the application pinned to one core:
`python -m benchmarks.application --edge starlette`), and the application must not be what a load test runs out of.

What a client may cost:

    head, body, whole request on the wire    `MAX_HEAD`, `MAX_BODY`, `MAX_WIRE` bytes, also where it is chunked
    time for a request, once it has begun     `REQUEST_SECONDS`, then 408
    time without a request                    `IDLE_SECONDS`, then the connection is closed
    answers that it does not read             `WRITE_BUFFER` bytes; no further request is served meanwhile, and after
                                              `WRITE_SECONDS` it is dropped
    connections                               as many as there are descriptors, then 503
"""

from __future__ import annotations

import asyncio
import logging
import re
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
from sim.live.sockets import LingeringClose
from sim.pusher.http import head_without_upgrade, origin_form

log = logging.getLogger("application")

MAX_HEAD = 16 * 1024
"""Bytes of request line and headers; more is answered 431."""
MAX_WIRE = MAX_HEAD + 4 * MAX_BODY
"""Bytes of a whole request as it is sent: a body in chunks of four bytes fits, endless extensions of a chunk do not."""
MAX_PIPELINED = 64
"""Requests read ahead on one connection before its reading is paused; of them as many are begun in one turn of the loop."""
REQUEST_SECONDS = 30.0
IDLE_SECONDS = 120.0
WRITE_BUFFER = 256 * 1024
"""Bytes of answers that may wait for a client, beyond the kernel's own buffer."""
WRITE_SECONDS = 60.0
SWEEP_SECONDS = 1.0
"""Time between two looks for connections whose time is over."""

_HOST = re.compile(r"[A-Za-z0-9._~%!$&'()*+,;=:\[\]-]*")
_HEADS = {status: f"HTTP/1.1 {status} {reason}\r\n".encode() for status, reason in REASONS.items()}
_NEVER = float("inf")


@lru_cache(maxsize=1)
def _date_line(second: int) -> bytes:
    """The Date header, made once a second."""
    return f"Date: {formatdate(second, usegmt=True)}\r\n".encode()


class OpenConnections:
    """The connections of one listener. There are at most `capacity`; those whose time is over are ended (`sweep`)."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._open: set[ServedConnection] = set()
        self._complained_at = -_NEVER

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, connection: ServedConnection) -> bool:
        """Count one more; False when descriptors run short and it must be refused."""
        self._open.add(connection)
        if len(self._open) <= self.capacity:
            return True
        if (now := time.monotonic()) - self._complained_at > 10:
            self._complained_at = now
            log.error("out of file descriptors: %d connections are open (see `ulimit -n`); new ones get 503", len(self._open) - 1)
        return False

    def forget(self, connection: ServedConnection) -> None:
        self._open.discard(connection)

    def drain(self) -> None:
        """Close each as soon as nothing is being served on it."""
        for connection in list(self._open):
            connection.drain()

    async def sweep(self) -> None:
        """End connections whose time is over; runs until it is cancelled."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            now = time.monotonic()
            for connection in list(self._open):
                if connection.deadline <= now:
                    connection.expire()


class ServedConnection(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, app: Application, station: Station, others: OpenConnections) -> None:
        self._app = app
        self._station = station
        self._others = others
        self._parser = httptools.HttpRequestParser(self)
        self._queue: deque[tuple[Request | HttpError, bool]] = deque()
        self._serving = False
        self._scheduled = False
        """`_serve` is called in the loop's next turn."""
        self._stalled = False
        """The client does not read its answers."""
        self._closing = False
        """The next answer is the last."""
        self._ended = False
        """The last answer was given, or there will be none."""
        self._heard_all = False
        """The client has closed its direction."""
        self._expecting = False
        """The client sends its body once it is asked to (`Expect: 100-continue`)."""
        self._refused: HttpError | None = None
        self._begun = False
        """A request has begun and is not complete."""
        self._wire = 0
        """Bytes since the last complete request."""
        self.deadline = _NEVER
        """When `expire` is due, `time.monotonic()`."""

    # --- asyncio ---

    def connection_made(self, transport: Any) -> None:
        self._transport: asyncio.Transport = transport
        transport.set_write_buffer_limits(high=WRITE_BUFFER)
        self._loop = asyncio.get_running_loop()
        peer = transport.get_extra_info("peername")
        self._peer = peer[0] if isinstance(peer, tuple) else ""
        self._wait(IDLE_SECONDS)
        if not self._others.admit(self):
            error = HttpError(503, "Too many connections.", headers=(("Retry-After", "1"),))
            self._write(None, error.response(), keep_alive=False)

    def connection_lost(self, error: Exception | None) -> None:
        self._closing = self._ended = True
        self._queue.clear()
        self._others.forget(self)

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        self._wire += len(data)
        try:
            self._parser.feed_data(data)
            if self._begun and self._in_head and self._wire > MAX_HEAD:
                self._count_head(MAX_HEAD)  # the parser keeps a line to itself until it is complete
            if self._wire > MAX_WIRE:
                self._stop(HttpError(413, f"The request has more than {MAX_WIRE} bytes."))
        except httptools.HttpParserUpgrade as upgrade:
            self._ignore_upgrade(data[upgrade.args[0] :])
            return
        except (httptools.HttpParserError, _Stop) as error:
            # A callback that raised `_Stop` arrives here as well; its answer is in `_refused`. The rest of the connection
            # cannot be understood; what was asked before still has its turn.
            self._transport.pause_reading()
            self._begun = False
            self._queue.append((self._refused or HttpError(400, f"This is not HTTP: {error}"), False))
        if len(self._queue) > MAX_PIPELINED:
            self._transport.pause_reading()
        if not self._serving:
            self._serve()
        if self._expecting:
            self._continue()

    def eof_received(self) -> bool:
        """The client sends no more. What it has asked is still answered."""
        if self._serving or self._queue:
            self._heard_all = True
            return True
        self._hang_up(heard_all=True)
        return False

    def pause_writing(self) -> None:
        """More answers wait for the client than it may leave unread: nothing more is read or served until it reads."""
        self._stalled = True
        self._transport.pause_reading()
        self._wait(WRITE_SECONDS)

    def resume_writing(self) -> None:
        self._stalled = False
        self._wait(IDLE_SECONDS)
        if not self._serving:
            self._serve()

    def drain(self) -> None:
        """Close when nothing is being served."""
        self._closing = True
        self._queue.clear()
        if not self._serving:
            self._transport.close()

    def expire(self) -> None:
        """The connection has used up its time for what it does now."""
        self.deadline = _NEVER
        if self._stalled:
            self._transport.abort()
        elif self._begun and not self._serving:
            self._write(None, HttpError(408, f"The request took more than {REQUEST_SECONDS:g} s.").response(), keep_alive=False)
        elif not self._serving:
            self._hang_up()

    def _hang_up(self, heard_all: bool = False) -> None:
        if not self._ended:
            self._closing = self._ended = True
            self._queue.clear()
            LingeringClose(self._transport, self, heard_all=heard_all)

    def _wait(self, seconds: float) -> None:
        self.deadline = time.monotonic() + seconds

    # --- httptools ---

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers: dict[str, str] = {}
        self._body = b""
        self._head = 0
        self._hosts = 0
        self._in_head = True
        self._begun = True
        self._wait(REQUEST_SECONDS)

    def on_url(self, url: bytes) -> None:
        self._url += url
        self._count_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count_head(len(name) + len(value) + 4)
        if not self._in_head:
            return  # a trailer: it comes after what it might change was decided
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        self._hosts += key == "host"
        self._headers[key] = f"{self._headers[key]}, {text}" if key in self._headers else text

    def on_headers_complete(self) -> None:
        headers, old = self._headers, self._parser.get_http_version() == "1.0"
        self._in_head = False
        if self._hosts > 1 or (not self._hosts and not old):
            self._stop(HttpError(400, "A request has exactly one Host header."))
        if not _HOST.fullmatch(headers.get("host", "")):
            self._stop(HttpError(400, "The Host header is not the name of a host."))
        if "content-length" in headers:
            length = headers["content-length"].lstrip("0")
            if len(length) > 18 or (length and int(length) > MAX_BODY):
                self._stop(HttpError(413, f"The body has more than {MAX_BODY} bytes."))
        if "transfer-encoding" in headers:
            coding = headers["transfer-encoding"]
            if coding.lower() != "chunked":
                self._stop(HttpError(501, f"Bodies are read as they are or in chunks, not as {coding[:100]}."))
            if old:
                self._stop(HttpError(400, "HTTP/1.0 has no chunks."))
        if "expect" in headers:
            self._expecting = headers["expect"].lower() == "100-continue" and not old and not self._parser.should_upgrade()

    def on_body(self, data: bytes) -> None:
        self._body += data
        if len(self._body) > MAX_BODY:
            self._stop(HttpError(413, f"The body has more than {MAX_BODY} bytes."))

    def on_message_complete(self) -> None:
        if self._parser.should_upgrade():
            if self._parser.get_method() == b"CONNECT":
                self._stop(HttpError(400, "There are no tunnels here."))
            return
        self._begun = self._expecting = False
        self._wire = 0
        path, _, query = origin_form(self._url.decode("latin-1")).partition("?")
        if path[:1] != "/":
            self._stop(HttpError(400, "The request's target must be a path."))
        if "%" in path:
            path = unquote(path)
        method = self._parser.get_method().decode()
        request = Request(method, path, query, self._headers, self._body, self._peer)
        self._queue.append((request, self._parser.should_keep_alive()))

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Serve a request that asks for another protocol as if it did not, as the last one (RFC 9110, 7.8). *rest* is what came
        after its head."""
        method, target = self._parser.get_method().decode(), self._url.decode("latin-1")
        self._parser = httptools.HttpRequestParser(self)
        self._wire = 0
        self.data_received(head_without_upgrade(method, target, self._headers) + rest)

    def _continue(self) -> None:
        """Ask for the body of a request that waits to be asked, once those before it have their answers."""
        if not (self._serving or self._queue or self._closing):
            self._expecting = False
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    # --- answers ---

    def _serve(self) -> None:
        """Serve what is queued, in order, until one of them waits; the rest in the loop's next turn."""
        self._scheduled = False
        for _ in range(MAX_PIPELINED):
            if not self._queue or self._serving or self._stalled or self._transport.is_closing():
                break
            request, keep_alive = self._queue.popleft()
            if isinstance(request, HttpError):
                self._write(None, request.response(), keep_alive=False)
                return
            self._serving = True
            self.deadline = _NEVER
            self._station.submit(self._app.arrive(request), partial(self._answered, request, keep_alive))
        if not self._queue and not self._stalled and not self._closing and not self._transport.is_closing():
            self._transport.resume_reading()

    def _answered(self, request: Request, keep_alive: bool, response: Response) -> None:
        """Called by the station, perhaps from within `_serve`, which then goes on by itself."""
        self._serving = False
        self._wait(REQUEST_SECONDS if self._begun else IDLE_SECONDS)
        last = self._closing or (self._heard_all and not self._queue)
        self._write(request, response, keep_alive and not last)
        if self._queue and not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._serve)
        if self._expecting:
            self._continue()

    def _write(self, request: Request | None, response: Response, keep_alive: bool) -> None:
        if self._ended or self._transport.is_closing():
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
            self._hang_up(self._heard_all)

    def _count_head(self, more: int) -> None:
        self._head += more
        if self._head > MAX_HEAD:
            self._stop(HttpError(431, f"The request's head has more than {MAX_HEAD} bytes."))

    def _stop(self, error: HttpError) -> None:
        self._refused = error
        raise _Stop


class _Stop(Exception):
    """Raised to end parsing, also within a callback of httptools."""
