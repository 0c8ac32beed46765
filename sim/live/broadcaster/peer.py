"""One TCP connection to the broadcaster: HTTP until a WebSocket upgrade, frames from then on. Both share one port.

Reading goes through asyncio. Writing does not, while it can: a frame for many leaves in one system call (`uring`), one for few
through the socket's own `send`, and only what the kernel would not take goes to the transport. Rejected (CPU of a delivery as
multiples of a C program's bare `send`, at 1,000 / 5,000 subscribers): a `send` each from Python 1.19 / 1.13, where perf found the
interpreter in most of what is above 1, then colder caches in the kernel and the publish itself; the same with the loop over the
sockets in C (`map`) 1.21 / 1.14, no gain; an outbox that calls `send` itself 1.18 / 1.14; `os.write` in place of `send`, 5 to
14 % more in a loop of its own; descriptors kept beside the peers, 1.08 / 1.06 where looking them up was 1.09 / 1.06; at 5,000
`transport.write` 1.24, `websockets.broadcast` 2.1, an ASGI server 3.0 and more. `python -m benchmarks.fanout` prints today's.

uvloop in place of asyncio's own loop costs 0.89 of the CPU for a publish with 16 connections, but 1.13 with one, and accepts a
reconnecting crowd whole in one turn.
"""

from __future__ import annotations

import _socket
import asyncio
import socket
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Protocol, cast

import httptools

from sim.live.broadcaster.http import HttpReader
from sim.live.broadcaster.metrics import NodeMetrics
from sim.live.broadcaster.settings import BroadcasterSettings
from sim.live.broadcaster.uring import SendRing
from sim.live.sockets import LingeringClose
from sim.pusher import frames, upgrade
from sim.pusher.http import HttpRequest, HttpResponse, head_without_upgrade
from sim.pusher.server.api import BAD_REQUEST, GET_ONLY, INTERNAL_ERROR, OK, TOO_LARGE, HttpApi, Respond
from sim.pusher.server.hub import Hub
from sim.pusher.server.state import Connection

PER_TURN = 64
"""Messages or requests of one peer that are handled in one turn of the loop, so that a flood of them holds up nobody else."""
PUBLISHED = OK.encode(keep_alive=True)
"""The answer to nearly every publish, made once."""
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_INPUT = memoryview(bytearray(65536))


class Host(Protocol):
    """What a connection needs of the node that it is on."""

    @property
    def settings(self) -> BroadcasterSettings: ...
    @property
    def metrics(self) -> NodeMetrics: ...
    @property
    def hub(self) -> Hub: ...
    @property
    def api(self) -> HttpApi: ...

    def now(self) -> int: ...
    def http_date(self) -> str: ...
    def admit(self, peer: Peer) -> bool: ...
    def forget(self, peer: Peer) -> None: ...
    def serve(self, request: HttpRequest, respond: Respond) -> None: ...


def write_all(ring: SendRing, peers: Sequence[Connection], frame: bytes) -> None:
    """`Peer.write` of one frame to each of these peers."""
    peers, size = cast("Sequence[Peer]", peers), len(frame)
    sent = ring.send([peer.direct for peer in peers], frame)
    if sent.count(size) < len(sent):
        for peer, taken in zip(peers, sent, strict=True):
            if taken < 0:
                peer.write(frame)  # Not by the ring, whatever the reason: `write` handles it.
            elif taken < size:
                peer.write_rest(frame[taken:])


class Peer(Connection, asyncio.BufferedProtocol):
    """The connection as asyncio's protocol and as the hub's `Connection`.

    What is being read is the one state that it has: an `HttpReader` at first, a `frames.Decoder` after an upgrade, None once it
    has ended, from whichever side.
    """

    __slots__ = ("descriptor", "direct", "node", "own", "reading", "transport")

    transport: asyncio.Transport
    own: _socket.socket
    """The transport's descriptor as a socket to send through; not with TLS. The transport closes it."""

    def __init__(self, node: Host) -> None:
        super().__init__()
        self.node = node
        self.reading: HttpReader | frames.Decoder | None = HttpReader()
        self.descriptor = -1
        """The descriptor of `own`; -1 with TLS."""
        self.direct = -1
        """The descriptor while writes go straight to it; -1 while they must go through the transport: TLS, bytes that wait there,
        ended."""

    @property
    def ended(self) -> bool:
        return self.reading is None

    def _read_on(self, reading: frames.Decoder | None) -> None:
        """From HTTP to frames, or to the end."""
        if isinstance(self.reading, HttpReader):
            # The parser and its reader hold each other: without this they would wait for the garbage collector.
            del self.reading.parser
        self.reading = reading
        if reading is None:
            self.direct = -1

    # ---- asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=self.node.settings.write_buffer)
        timing = self.node.settings.timing
        if timing is not None and timing.nagle:
            transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
        if transport.get_extra_info("sslcontext") is None:
            plain = transport.get_extra_info("socket")
            self.descriptor = self.direct = plain.fileno()
            self.own = _socket.socket(plain.family, plain.type, plain.proto, self.descriptor)
            self.own.setblocking(False)
        self.last_seen = self.node.now()
        if not self.node.admit(self):
            self.end(b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n\r\n")

    def connection_lost(self, exc: Exception | None) -> None:
        self._read_on(None)
        if self.descriptor >= 0:
            self.own.detach()
        self.node.hub.closed(self)
        self.node.forget(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        """One buffer for all, since it is read at once; asyncio's own way asks for 256 KiB anew for each read."""
        return _INPUT

    def buffer_updated(self, nbytes: int) -> None:
        data, reading = bytes(_INPUT[:nbytes]), self.reading
        if isinstance(reading, frames.Decoder):
            self._read_frames(reading.feed(data))
        elif reading is not None:
            if not reading.unfinished:
                self.last_seen = self.node.now()
            self._read_http(reading, data)

    def eof_received(self) -> bool:
        """The peer sends no more. What it has asked by HTTP is still answered."""
        if isinstance(self.reading, HttpReader) and self.reading.busy and self.descriptor >= 0:
            self.reading.heard_all = True
            return True
        self.node.hub.closed(self)
        self._hang_up(heard_all=True)
        return False

    def pause_writing(self) -> None:
        """More bytes than the budget wait for this peer: it is dropped, so that no other peer waits for it."""
        self.node.metrics.slow_consumers += 1
        self.abort()

    def resume_writing(self) -> None: ...

    # ---- the hub's Connection

    def write(self, frame: bytes) -> None:
        if self.direct < 0:
            self._write_behind(frame)
            return
        try:
            sent = self.own.send(frame)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.abort()
            return
        if sent != len(frame):
            self.write_rest(frame[sent:])

    def write_rest(self, data: bytes) -> None:
        """Pass on what the kernel did not take to the transport."""
        self.direct = -1
        self.transport.write(data)

    def _write_behind(self, frame: bytes) -> None:
        if self.ended:
            return
        self.transport.write(frame)
        if self.descriptor >= 0 and not self.ended and not self.transport.get_write_buffer_size():
            self.direct = self.descriptor

    def end(self, frame: bytes = b"") -> None:
        if self.ended:
            return
        self.write(frame)
        self._hang_up(heard_all=isinstance(self.reading, HttpReader) and self.reading.heard_all)

    def _hang_up(self, heard_all: bool) -> None:
        if not self.ended:
            self._read_on(None)
            LingeringClose(self.transport, self, heard_all=heard_all)

    def abort(self) -> None:
        """Drop it now, whatever waits to be sent."""
        self._read_on(None)
        self.node.hub.closed(self)
        self.transport.abort()

    # ---- WebSocket

    def _read_frames(self, received: Iterator[tuple[int, bytes]], *, paused: bool = False) -> None:
        """*paused*: they are the rest of what came, and reading waits for them."""
        if self.ended:
            return
        hub, now = self.node.hub, self.node.now()
        try:
            for count, (opcode, payload) in enumerate(received, 1):
                if opcode <= frames.BINARY:
                    hub.receive(self, payload, now)
                elif opcode == frames.CLOSE:
                    hub.closed(self)
                    self.end(frames.encode(frames.CLOSE, payload or frames.NORMAL.to_bytes(2, "big")))
                else:
                    hub.touch(self, now)
                    if opcode == frames.PING:
                        self.write(frames.encode(frames.PONG, payload))
                if self.ended:
                    return
                if count == PER_TURN:
                    self.transport.pause_reading()
                    asyncio.get_running_loop().call_soon(partial(self._read_frames, received, paused=True))
                    return
            if paused:
                self.transport.resume_reading()
        except frames.Violation as violation:
            hub.closed(self)
            reason = violation.reason
            if hub.faithful and violation.code != frames.TOO_BIG:
                reason = f"Ratchet detected {reason}"
            self.end(frames.close(violation.code, reason))

    # ---- HTTP

    def close_when_idle(self, before: int) -> None:
        """End an HTTP connection that waits for no answer, and has begun no request since instant *before*."""
        if isinstance(self.reading, HttpReader) and not self.reading.busy and self.last_seen < before:
            self.end()

    def _read_http(self, reader: HttpReader, data: bytes) -> None:
        reader.unfinished += len(data)
        try:
            reader.parser.feed_data(data)
        except httptools.HttpParserUpgrade as stop:
            if not reader.busy:
                self._serve(reader)
            if not (reader.waiting or reader.busy or self.ended):
                self._upgrade(reader, data[stop.args[0] :])
                return
            reader.broken = True
        except httptools.HttpParserError:
            # What was asked before, perhaps in the same segment, still has its turn.
            reader.broken = not self.node.hub.faithful or b"\r\n\r\n" in data
        if reader.unfinished > self.node.settings.max_request_size and not reader.broken:
            self._answer(TOO_LARGE, keep_alive=False)
        elif (reader.waiting or reader.broken) and not reader.busy:
            self._serve(reader)
        if reader.expecting is not None:
            self._continue(reader, reader.expecting)

    def _continue(self, reader: HttpReader, expecting: int) -> None:
        """Ask for the body of a request that waits to be asked, once those before it have their answers."""
        if self.ended or reader.busy or reader.waiting or self.node.hub.faithful:
            return
        if expecting > self.node.settings.max_request_size:
            self._answer(TOO_LARGE, keep_alive=False)
        else:
            reader.expecting = None
            self.write(CONTINUE)

    def _serve(self, reader: HttpReader) -> None:
        """Answer the requests that wait, in order, as far as answers come at once; `_respond` goes on when one comes later."""
        reader.scheduled = False
        for _ in range(PER_TURN):
            if not reader.waiting or reader.busy or self.ended:
                break
            request, keep_alive, size = reader.waiting.popleft()
            reader.busy = True
            if size > self.node.settings.max_request_size:
                self._answer(TOO_LARGE, keep_alive=False)
            else:
                self.node.serve(request, partial(self._respond, reader, request, keep_alive))
        if reader.broken and not (reader.busy or reader.waiting):
            self._answer(BAD_REQUEST, keep_alive=False)
        if not self.ended:
            # One answer is awaited at a time: what a peer pipelines beyond that waits in the kernel, not here.
            if reader.waiting or reader.broken:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()

    def _respond(self, reader: HttpReader, request: HttpRequest, keep_alive: bool, response: HttpResponse) -> None:
        reader.busy = False
        timing = self.node.settings.timing
        last = reader.heard_all and not reader.waiting
        keep_alive = keep_alive and not last and (timing is None or timing.keep_alive)
        self._answer(response, keep_alive=keep_alive, head=request.method == "HEAD")
        if (reader.waiting or reader.broken) and not self.ended and not reader.scheduled:
            reader.scheduled = True
            asyncio.get_running_loop().call_soon(self._serve, reader)
        if reader.expecting is not None:
            self._continue(reader, reader.expecting)

    def _answer(self, response: HttpResponse, *, keep_alive: bool, head: bool = False) -> None:
        if self.ended:
            return
        if self.node.hub.faithful:
            self.end(response.encode_as_reverb(self.node.http_date()))
            return
        if response is OK and keep_alive:
            self.write(PUBLISHED)
        elif keep_alive:
            self.write(response.encode(keep_alive=True, head=head))
        else:
            self.end(response.encode(keep_alive=False, head=head))

    def _upgrade(self, reader: HttpReader, rest: bytes) -> None:
        """Become a WebSocket connection, or answer why not. *rest* is what came after the head."""
        faithful, request = self.node.hub.faithful, reader.upgrading
        assert request is not None
        path = request.path
        prefix = self.node.api.prefix
        match = upgrade.APP_PATH.fullmatch(path[len(prefix) :]) if path.startswith(prefix) else None
        if match is None and faithful:
            self.end(upgrade.accept(request) + INTERNAL_ERROR.encode_as_reverb(""))
            return
        if match is None:
            self._ignore_upgrade(reader, request, rest)
            return
        if request.method != "GET":
            self._answer(GET_ONLY, keep_alive=False)
            return
        refusal = upgrade.refusal(request)
        if refusal is None:
            self.write(upgrade.accept(request))
        elif faithful:
            self.write(upgrade.refuse_as_reverb(*refusal))
        else:
            self._answer(upgrade.refuse(*refusal), keep_alive=False)
            return
        decoder = frames.Decoder(self.node.settings.max_request_size)
        self._read_on(decoder)
        self.node.hub.open(self, match[1], request.headers.get("origin"), self.node.now())
        if self.ended:
            return
        if self.space is not None:
            decoder.max_size = self.space.app.max_message_size
        if rest and not faithful:
            self._read_frames(decoder.feed(rest))

    def _ignore_upgrade(self, reader: HttpReader, request: HttpRequest, rest: bytes) -> None:
        """Serve a request that asks for another protocol as if it did not, with the body that comes."""
        if request.method == "CONNECT":
            self.node.serve(request, partial(self._answer, keep_alive=False))
            return
        reader.restart()
        self._read_http(reader, head_without_upgrade(request.method, request.target, request.headers) + rest)
