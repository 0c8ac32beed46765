"""HTTP/1.1 over keep-alive connections on the mux: page loads, refetches and channel authorisations.

The parser is llhttp (httptools), which handles chunked bodies, informational answers and broken ones. A GET costs a tenth of what
it costs in Locust's FastHttpUser. With thousands of subscribers the refetches are the first thing that a load generator cannot
keep up with, and its own delay would then be counted as the target's.

A `Pool` has at most `limit` connections to one origin; further requests wait in line. One pool with 64 connections for all pages
is the cheapest; a pool for each page is what browsers have. The wait in line is the load generator's, and stays visible: it lies
between a refetch's `due_at` and its `started_at`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import httptools
from gevent.event import AsyncResult

from loadtests.client.mux import Mux
from loadtests.client.streams import Origin, Stream, open_stream
from sim.clock import SECOND, Entry, ns
from sim.pusher.http import decoded

TIMEOUT = 30.0
"""Seconds from sending to the whole answer."""

MAX_SIZE = 1 << 24
"""Bytes of an answer, head and body, beyond which it is none: one without an end must not fill the memory."""


class Answer:
    """What came back. `status` 0: nothing usable came, and `error` says why."""

    __slots__ = ("body", "error", "finished_at", "headers", "size", "started_at", "status")

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        """By lower-case name. Of a repeated header the last value counts; the values of `set-cookie` are joined by line feeds."""
        self.body = b""
        self.size = 0
        """Bytes received, head and body."""
        self.started_at = self.finished_at = -1
        """When its request went to a connection, and when its last byte arrived (by the kernel's stamp, if there is one), ns."""
        self.error = ""


Done = Callable[[Answer], None]


class Exchange:
    """One request and its answer. `abort()` gives it up: in line it is dropped, under way it loses its connection."""

    __slots__ = ("connection", "deadline", "done", "message", "pool", "repeatable", "started_at", "timeout")

    def __init__(self, pool: Pool, message: bytes, done: Done, timeout: int, repeatable: bool) -> None:
        self.pool, self.message, self.timeout = pool, message, timeout
        self.done: Done | None = done
        self.connection: PooledConnection | None = None
        self.started_at = -1
        self.deadline = 0
        self.repeatable = repeatable

    def abort(self) -> None:
        self.done = None
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.abandon()

    def finish(self, answer: Answer) -> None:
        done, self.done, self.connection, self.message = self.done, None, None, b""
        if done is not None:
            done(answer)


class Traffic:
    """What all pools of a process share: the mux, whether to stamp, and the time-outs.

    Exchanges with the same time-out reach it in the order in which they started. So each time-out has one line of exchanges and
    one timer, for the head of the line. An exchange that has its answer leaves the line when it comes to the head.
    """

    def __init__(self, mux: Mux, stamp: bool = True) -> None:
        self.mux, self.stamp = mux, stamp
        self.running: set[Exchange] = set()
        self._lines: dict[int, deque[Exchange]] = {}
        self._alarms: dict[int, Entry] = {}

    def started(self, exchange: Exchange) -> None:
        self.running.add(exchange)
        line = self._lines.setdefault(exchange.timeout, deque())
        while line and line[0] not in self.running:
            line.popleft()
        line.append(exchange)
        if exchange.timeout not in self._alarms:
            self._alarms[exchange.timeout] = self.mux.call_at(exchange.deadline, self._ring, exchange.timeout)

    def _ring(self, timeout: int) -> None:
        line, now = self._lines[timeout], self.mux.now()
        try:
            # The alarm stays in the table while it rings, so that a request that is tried again at once does not set another.
            while line and (line[0] not in self.running or line[0].deadline <= now):
                exchange = line.popleft()
                if exchange in self.running and exchange.connection is not None:
                    exchange.connection.fail(f"no answer in {timeout / SECOND:g} s")
        finally:
            del self._alarms[timeout]
            if line:
                self._alarms[timeout] = self.mux.call_at(line[0].deadline, self._ring, timeout)


class Pool:
    """Keep-alive connections to one origin."""

    __slots__ = ("_closed", "_connections", "_idle", "_line", "limit", "origin", "traffic")

    def __init__(self, traffic: Traffic, origin: Origin, limit: int) -> None:
        self.traffic, self.origin, self.limit = traffic, origin, limit
        self._closed = False
        self._connections = 0
        self._idle: list[PooledConnection] = []
        self._line: deque[Exchange] = deque()

    @property
    def waiting(self) -> int:
        """Requests in line for a connection, without those that were given up."""
        return sum(exchange.done is not None for exchange in self._line)

    def send(
        self,
        method: str,
        path: str,
        done: Done,
        headers: bytes = b"",
        body: bytes = b"",
        timeout: float = TIMEOUT,
        repeatable: bool = False,
    ) -> Exchange:
        """Send a request for *path*. `done(answer)` is called from the mux, exactly once unless the exchange is aborted.

        *headers*: complete lines, each ending in CR LF. *timeout*: seconds. *repeatable*: it does no harm to do it twice, which
        every GET is taken for.
        """
        length = b"Content-Length: %d\r\n" % len(body) if body or method in ("POST", "PUT", "PATCH") else b""
        head = f"{method} {path} HTTP/1.1\r\nHost: {self.origin.authority}\r\n".encode("latin-1")
        exchange = Exchange(self, head + headers + length + b"\r\n" + body, done, ns(timeout), repeatable or method == "GET")
        self._line.append(exchange)
        self._serve()
        return exchange

    def fetch(self, method: str, path: str, headers: bytes = b"", body: bytes = b"", timeout: float = TIMEOUT) -> Answer:
        """`send` for code in a greenlet: waits for the answer and returns it."""
        result = AsyncResult()
        self.send(method, path, result.set, headers, body, timeout)
        answer: Answer = result.get()
        return answer

    def _serve(self) -> None:
        line = self._line
        while line and (self._idle or self._connections < self.limit):
            exchange = line.popleft()
            if exchange.done is None:
                continue
            if self._idle:
                connection = self._idle.pop()
            else:
                try:
                    connection = PooledConnection(self)
                except OSError as error:
                    answer = Answer()
                    answer.started_at = answer.finished_at = self.traffic.mux.now()
                    answer.error = f"connect: {(error.strerror or str(error)).lower()}"
                    exchange.finish(answer)
                    continue
                self._connections += 1
            connection.begin(exchange)

    def idle(self, connection: PooledConnection) -> None:
        self._idle.append(connection)
        if self._closed:
            self.close()
        elif self._line:
            self._serve()

    def gone(self, connection: PooledConnection) -> None:
        self._connections -= 1
        if connection in self._idle:
            self._idle.remove(connection)
        if self._line:
            self._serve()

    def again(self, exchange: Exchange) -> None:
        """Send *exchange* once more, before all others: the server had closed its keep-alive connection before it came."""
        self._line.appendleft(exchange)

    def close(self) -> None:
        """Close the idle connections now, and each other one when it has its answer."""
        self._closed = True
        for connection in self._idle:
            connection.close()
        self._connections -= len(self._idle)
        self._idle.clear()


class PooledConnection:
    """One connection of a pool, with at most one exchange under way.

    A server may close an idle connection at any time. So what is repeatable, on a connection that was used before and that ends
    without a byte of an answer, is sent once more; anything else that ends without an answer has failed.
    """

    __slots__ = ("_answer", "_body", "_complete", "_exchange", "_lasts", "_open", "_parser", "_pool", "_stream", "_used")

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._exchange: Exchange | None = None
        self._answer = Answer()
        self._body: list[bytes] = []
        self._open = self._used = self._complete = self._lasts = False
        self._parser: Any = httptools.HttpResponseParser(self)
        """None when the connection is over: the two refer to each other, and the garbage collector runs once in minutes."""
        self._stream: Stream | None = open_stream(pool.traffic.mux, pool.origin, self, pool.traffic.stamp)

    def begin(self, exchange: Exchange) -> None:
        traffic = self._pool.traffic
        self._exchange, exchange.connection = exchange, self
        self._answer, self._body, self._complete = Answer(), [], False
        self._answer.started_at = exchange.started_at = now = traffic.mux.now()
        exchange.deadline = now + exchange.timeout
        traffic.started(exchange)
        if self._open and self._stream is not None:
            self._stream.send(exchange.message)

    # ---- stream's side

    def connected(self) -> None:
        self._open = True
        if self._exchange is not None and self._stream is not None:
            self._stream.send(self._exchange.message)

    def received(self, data: bytes, arrived_at: int, read_at: int) -> None:
        if self._exchange is None:
            # Nothing was asked for: it can only be a farewell (408). TLS session tickets do not come this far.
            self.close()
            self._pool.gone(self)
            return
        self._answer.size += len(data)
        if self._answer.size > MAX_SIZE:
            self.fail(f"more than {MAX_SIZE} bytes")
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.fail(f"not HTTP: {error}")
            return
        if self._complete:
            self._answer.finished_at = min(arrived_at, read_at)
            self._succeed()

    def ended(self, reason: str) -> None:
        self._stream = self._parser = None
        exchange, answer = self._exchange, self._answer
        if exchange is None:
            self._pool.gone(self)
        elif self._used and answer.size == 0 and exchange.repeatable:
            self._release(exchange)
            exchange.connection = None
            self._pool.again(exchange)
            self._pool.gone(self)
        elif answer.status and b"content-length" not in answer.headers and b"transfer-encoding" not in answer.headers:
            # The end of the connection is the end of the body (HTTP/1.0 style).
            answer.finished_at = self._pool.traffic.mux.now()
            self._succeed()
        else:
            self.fail(reason)

    # ---- parser's side

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        headers = self._answer.headers
        headers[name] = headers[name] + b"\n" + value if name == b"set-cookie" and name in headers else value

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status >= 200:
            self._answer.status = status

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        self._complete = self._answer.status >= 200
        # The parser forgets this when it begins the next answer.
        self._lasts = self._parser.should_keep_alive()

    # ---- ends

    def _release(self, exchange: Exchange) -> None:
        self._exchange = None
        self._pool.traffic.running.discard(exchange)

    def _succeed(self) -> None:
        exchange, answer = self._exchange, self._answer
        assert exchange is not None
        answer.body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        if packed := answer.headers.get(b"content-encoding"):
            answer.body = decoded(answer.body, packed.decode("latin-1"))
        self._release(exchange)
        self._used = True
        if self._stream is None or not self._lasts:
            self.close()
            self._pool.gone(self)
        else:
            self._pool.idle(self)
        exchange.finish(answer)

    def fail(self, reason: str) -> None:
        """The exchange gets no answer, and the connection goes."""
        exchange, answer = self._exchange, self._answer
        self.close()
        if exchange is not None:
            self._release(exchange)
            answer.status, answer.error = 0, reason
            answer.finished_at = self._pool.traffic.mux.now()
        self._pool.gone(self)
        if exchange is not None:
            exchange.finish(answer)

    def abandon(self) -> None:
        """The answer is not wanted any more. As a browser does then, close the connection."""
        exchange = self._exchange
        self.close()
        if exchange is not None:
            self._release(exchange)
        self._pool.gone(self)

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = self._parser = None


def split_url(url: str) -> tuple[str, str]:
    """(origin, path prefix without trailing slash) of a base URL."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/")
