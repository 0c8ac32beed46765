"""HTTP/1.1 over keep-alive connections on the mux: refetches, channel authorisation, and whatever a page asks for.

The parser is llhttp (httptools), so chunked bodies, informational answers and broken ones are its business. A GET costs a tenth
of what it does in Locust's FastHttpUser: at thousands of subscribers the refetch is what breaks a load generator, and its delay
would be counted as the target's.

A `Pool` has at most `limit` connections to one origin; requests beyond wait in line. One pool for everybody with 64 connections
is the cheapest; one pool for each page with 6 is what browsers have. The wait in line is the generator's, so it ends up between
`due_at` and `started_at`, never hidden.
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


class Answer:
    """What came back. `status` 0: nothing usable, and `error` says why."""

    __slots__ = ("body", "error", "finished_at", "headers", "size", "started_at", "status")

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        """By lower-case name. Of a repeated header the last; cookies joined by line feeds."""
        self.body = b""
        self.size = 0
        """Bytes received, head and body."""
        self.started_at = self.finished_at = -1
        """When it was handed to a connection, and when its last byte arrived (kernel's time where there is one), ns."""
        self.error = ""


Done = Callable[[Answer], None]


class Exchange:
    """One request on its way. `abort()` gives it up: a waiting one is dropped, a running one loses its connection."""

    __slots__ = ("connection", "deadline", "done", "message", "pool", "repeatable", "started_at", "timeout")

    def __init__(self, pool: Pool, message: bytes, done: Done, timeout: int) -> None:
        self.pool, self.message, self.timeout = pool, message, timeout
        self.done: Done | None = done
        self.connection: PooledConnection | None = None
        self.started_at = -1
        self.deadline = 0
        self.repeatable = message.startswith(b"GET ")

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
    """What all pools of a process share: the mux, stamps, and the time-outs.

    Exchanges with one time-out are due in the order in which they start, so a line for each time-out and one timer for its head
    will do; what has had its answer by then leaves the line when it comes to the head.
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
            # The alarm that rings stands in its place meanwhile: what is tried again at once must not set another.
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
        """Requests in line for a connection."""
        return len(self._line)

    def send(
        self,
        method: str,
        path: str,
        done: Done,
        headers: bytes = b"",
        body: bytes = b"",
        timeout: float = TIMEOUT,
    ) -> Exchange:
        """Ask for *path*; `done(answer)` is called from the mux, exactly once unless the exchange is aborted.

        *headers*: complete lines, each ending in CR LF.
        """
        length = b"Content-Length: %d\r\n" % len(body) if body or method in ("POST", "PUT", "PATCH") else b""
        head = f"{method} {path} HTTP/1.1\r\nHost: {self.origin.authority}\r\n".encode("latin-1")
        exchange = Exchange(self, head + headers + length + b"\r\n" + body, done, ns(timeout))
        self._line.append(exchange)
        self._serve()
        return exchange

    def fetch(self, method: str, path: str, headers: bytes = b"", body: bytes = b"", timeout: float = TIMEOUT) -> Answer:
        """The same for code in a greenlet: waits for the answer."""
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
        """To the head of the line: its keep-alive connection had been closed under it."""
        self._line.appendleft(exchange)

    def close(self) -> None:
        """Close idle connections, and those under way as soon as they have their answer, if nobody aborts them before."""
        self._closed = True
        for connection in self._idle:
            connection.close()
        self._connections -= len(self._idle)
        self._idle.clear()


class PooledConnection:
    """One connection of a pool, with at most one exchange under way."""

    __slots__ = ("_answer", "_body", "_complete", "_exchange", "_lasts", "_open", "_parser", "_pool", "_stream", "_used")

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._exchange: Exchange | None = None
        self._answer = Answer()
        self._body: list[bytes] = []
        self._open = self._used = self._complete = self._lasts = False
        self._parser: Any = httptools.HttpResponseParser(self)
        """None when the connection is over: the two refer to each other, and the garbage collector comes once in minutes."""
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
            # Between exchanges a server may say only goodbye (408, TLS tickets are OpenSSL's).
            self.close()
            self._pool.gone(self)
            return
        self._answer.size += len(data)
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
        # The parser knows this only here, before it makes itself ready for the next answer.
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
        """Nobody wants the answer any more: what a browser does then is to close the connection."""
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
