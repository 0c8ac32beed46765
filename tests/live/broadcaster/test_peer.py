"""What a peer is written, whatever its socket takes; what it may ask, however it is cut; and that nothing of it stays."""

from __future__ import annotations

import _socket
import asyncio
import contextlib
import errno
import socket
import struct
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, cast

import pytest

from sim.live.broadcaster.node import HTTP_IDLE_SECONDS, Node
from sim.live.broadcaster.peer import PER_TURN, Peer, write_all
from sim.live.broadcaster.settings import BroadcasterSettings
from sim.live.broadcaster.uring import SendRing
from sim.pusher import messages
from sim.pusher.http import HttpRequest, HttpResponse
from sim.pusher.server.api import Respond
from sim.pusher.server.apps import App
from sim.pusher.server.hub import SECOND
from sim.pusher.server.outbox import write_each
from tests.replay.wire import encode

FRAME = bytes(range(256)) * 100


class Transport:
    """What the kernel did not take, and whether it is over."""

    def __init__(self) -> None:
        self.data = b""
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.data += data

    def abort(self) -> None:
        self.aborted = True

    def get_write_buffer_size(self) -> int:
        return len(self.data)


class NoNode:
    class Hub:
        def closed(self, peer: Peer) -> None: ...

    hub = Hub()


class Pair:
    """A peer with a socket of its own, and the other end."""

    def __init__(self, kind: str) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.ours.setblocking(False)
        self.ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096 if kind in ("short", "full") else 200_000)
        self.before = b"before" if kind == "behind" else b""
        if kind == "full":
            while True:
                try:
                    self.before += bytes(self.ours.send(bytes(1000)))
                except BlockingIOError:
                    break
        self.peer = Peer(cast(Any, NoNode()))
        self.transport = Transport()
        self.peer.transport = cast(Any, self.transport)
        self.peer.descriptor = self.ours.detach()
        self.peer.own = _socket.socket(fileno=self.peer.descriptor)
        self.peer.own.setblocking(False)
        self.peer.direct = -1 if kind == "behind" else self.peer.descriptor
        if kind == "behind":
            self.transport.data = self.before
        if kind == "gone":
            self.theirs.close()
        if kind == "ended":
            self.peer._read_on(None)

    def read(self) -> bytes:
        """What is there by the socket, then what waits behind it."""
        self.theirs.setblocking(False)
        found = b""
        try:
            while data := self.theirs.recv(1 << 20):
                found += data
        except BlockingIOError:
            pass
        return found + self.transport.data

    def close(self) -> None:
        self.peer.own.close()
        self.theirs.close()


def ring() -> SendRing:
    try:
        return SendRing()
    except OSError as error:
        pytest.skip(f"no io_uring here: {error}")


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("together", [True, False])
def test_each_peer_gets_the_whole_frame_in_order_whatever_its_socket_takes(together: bool, times: int) -> None:
    write = partial(write_all, ring()) if together else write_each
    kinds = ("good", "short", "good", "behind", "full", "gone", "ended", "short", "good")
    pairs = [Pair(kind) for kind in kinds]
    for _ in range(times):
        write([pair.peer for pair in pairs], FRAME)
    for kind, pair in zip(kinds, pairs, strict=True):
        if kind == "gone":
            assert pair.transport.aborted
        elif kind == "ended":
            assert pair.read() == b""
        else:
            assert pair.read() == pair.before + times * FRAME, kind
            assert (pair.peer.direct == pair.peer.descriptor) == (kind == "good"), kind
            assert not pair.transport.aborted
        pair.close()


def test_a_ring_goes_round_and_each_socket_has_its_own_result() -> None:
    sender = ring()
    pairs = [socket.socketpair() for _ in range(150)]
    for ours, _ in pairs:
        ours.setblocking(False)
    for turn in range(40):  # 6,000 requests through 512 slots and 1,024 completions.
        frame = b"%d" % turn * (1 + turn % 3)
        gone = turn % 5
        found = sender.send(
            [-1 if i % 7 == gone else ours.fileno() for i, (ours, _) in enumerate(pairs)] * (1 + turn % 2 * 4), frame
        )
        assert found == [-errno.EBADF if i % 7 == gone else len(frame) for i in range(150)] * (1 + turn % 2 * 4)
        assert all(theirs.recv(1000) == frame * (1 + turn % 2 * 4) for i, (_, theirs) in enumerate(pairs) if i % 7 != gone)
    assert sender.send([pairs[0][0].fileno()], bytes(1 << 20)) == [-errno.EAGAIN]  # Longer than it takes: nothing is sent.
    sender.close()
    assert not sender.broken
    assert sender.send([pairs[0][0].fileno()], b"x") == [-errno.EAGAIN]  # Nor by a ring that the system refuses.
    assert sender.broken
    for ours, theirs in pairs:
        ours.close()
        theirs.close()


class HoldingNode(Node):
    """A node that keeps what it is asked, where it is to be answered later."""

    def __init__(self, held: bool = False, faithful: bool = False) -> None:
        super().__init__(BroadcasterSettings(apps=(App("1", "key", "secret"),), port=0, faithful=faithful))
        self.asked: list[tuple[HttpRequest, Respond]] = []
        self.held = held

    def serve(self, request: HttpRequest, respond: Respond) -> None:
        self.asked.append((request, respond))
        if not self.held:
            respond(HttpResponse(200, request.path, json=False))


Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@contextlib.asynccontextmanager
async def connected(node: Node) -> AsyncIterator[Callable[[], Any]]:
    """A function that opens one more connection to *node*."""
    server = await asyncio.get_running_loop().create_server(lambda: Peer(node), "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    ends: list[asyncio.StreamWriter] = []

    async def connect() -> Ends:
        reader, writer = await asyncio.open_connection(*address)
        ends.append(writer)
        return reader, writer

    yield connect
    for writer in ends:
        writer.transport.abort()
    await until(lambda: not node.peers)
    server.close()


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.001)


HOST = b"Host: x\r\n"
OTHER = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
WEBSOCKET = (
    b"GET /app/key HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
READ = {
    "a target with a host": (b"POST http://y/e?a=b HTTP/1.1\r\n" + HOST + b"Content-Length: 2\r\n\r\nab", "/e?a=b", b"ab"),
    "another protocol": (b"POST /e HTTP/1.1\r\n" + HOST + OTHER + b"Content-Length: 2\r\n\r\nab", "/e", b"ab"),
    "another protocol, chunks": (
        b"POST /e HTTP/1.1\r\n" + HOST + OTHER + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
        "/e",
        b"ab",
    ),
    "another protocol, zeros": (
        b"POST /e HTTP/1.1\r\n" + HOST + OTHER + b"Content-Length: " + b"0" * 5000 + b"2\r\n\r\nab",
        "/e",
        b"ab",
    ),
    "a tunnel": (b"CONNECT x:80 HTTP/1.1\r\n" + HOST + b"\r\n", "x:80", b""),
    "trailers": (
        b"POST /e HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nHost: evil\r\n\r\n",
        "/e",
        b"ab",
    ),
}


@pytest.mark.loopback
@pytest.mark.parametrize("piece", [1, 50, 10_000])
def test_what_a_request_becomes(piece: int) -> None:
    async def play() -> None:
        node = HoldingNode()
        async with connected(node) as connect:
            for name, (sent, target, body) in READ.items():
                reader, writer = await connect()
                (peer,) = await peers_of(node, 1)
                for start in range(0, len(sent), piece):
                    feed(peer, sent[start : start + piece])
                assert await reader.readuntil(b"\r\n") == b"HTTP/1.1 200 OK\r\n", name
                request, _ = node.asked.pop()
                assert (request.target, request.body, request.headers["host"]) == (target, body, "x"), name
                writer.transport.abort()
                await until(lambda: not node.peers)

    asyncio.run(play())


def feed(peer: Peer, data: bytes) -> None:
    """As the loop does with one segment."""
    peer.get_buffer(-1)[: len(data)] = data
    peer.buffer_updated(len(data))


async def peers_of(node: Node, number: int) -> list[Peer]:
    await until(lambda: len(node.peers) == number)
    return list(node.peers)


@pytest.mark.loopback
@pytest.mark.parametrize("faithful", [False, True])
def test_tls_to_a_plain_port_is_refused_or_as_by_reverb_left_waiting(faithful: bool) -> None:
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(32))

    async def play() -> None:
        node = HoldingNode(faithful=faithful)
        async with connected(node) as connect:
            reader, _ = await connect()
            (peer,) = await peers_of(node, 1)
            for _ in range(2):
                feed(peer, hello)
            assert peer.ended != faithful
            if faithful:
                feed(peer, b"\r\n\r\n")
                assert peer.ended
            assert b" 400 " in await reader.readline()

    asyncio.run(play())


@pytest.mark.loopback
def test_a_handshake_may_name_its_connection_in_two_lines() -> None:
    async def play() -> None:
        async with connected(HoldingNode()) as connect:
            reader, writer = await connect()
            writer.write(WEBSOCKET[:-2] + b"Connection: keep-alive\r\n\r\n")
            assert b" 101 " in await reader.readline()

    asyncio.run(play())


@pytest.mark.loopback
def test_a_request_is_answered_before_a_body_is_asked_for_and_before_a_handshake() -> None:
    async def play() -> None:
        node = HoldingNode(held=True)
        async with connected(node) as connect:
            reader, writer = await connect()
            expecting = b"POST /b HTTP/1.1\r\n" + HOST + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n"
            writer.write(b"GET /a HTTP/1.1\r\n" + HOST + b"\r\n" + expecting)
            await until(lambda: node.asked)
            node.asked[0][1](HttpResponse(200, "first", json=False))
            assert (await reader.readuntil(b"first")).startswith(b"HTTP/1.1 200 OK")
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(b"ab")
            await until(lambda: len(node.asked) == 2)
            node.asked[1][1](HttpResponse(200, "second", json=False))
            await reader.readuntil(b"second")
            large = expecting.replace(b": 2", b": 200000")
            writer.write(large)
            assert b" 413 " in await reader.readuntil(b"\r\n\r\n")
            node.held = False
            reader, writer = await connect()
            writer.write(b"GET /a HTTP/1.1\r\n" + HOST + b"\r\n" + WEBSOCKET)
            assert b" 200 " in await reader.readuntil(b"/a")
            assert b" 101 " in await reader.readuntil(b"\r\n\r\n")

    asyncio.run(play())


@pytest.mark.loopback
def test_who_closes_its_direction_still_gets_its_answer() -> None:
    async def play() -> None:
        node = HoldingNode(held=True)
        async with connected(node) as connect:
            reader, writer = await connect()
            writer.write(b"GET /a HTTP/1.1\r\n" + HOST + b"\r\n")
            writer.write_eof()
            (peer,) = await peers_of(node, 1)
            await until(lambda: getattr(peer.reading, "heard_all", False))
            node.asked[0][1](HttpResponse(200, "late", json=False))
            assert (await reader.read()).endswith(b"late")

    asyncio.run(play())


@pytest.mark.loopback
@pytest.mark.parametrize("kind", ["messages", "requests"])
def test_a_flood_is_handled_in_turns(kind: str) -> None:
    """However much comes in one segment, the loop's other connections have their turn in between."""

    async def play() -> None:
        node = HoldingNode()
        async with connected(node) as connect:
            reader, writer = await connect()
            (peer,) = await peers_of(node, 1)
            if kind == "messages":
                writer.write(WEBSOCKET)
                await reader.readuntil(b"activity_timeout")
            one = encode("text", b"x") if kind == "messages" else b"GET /a HTTP/1.1\r\n" + HOST + b"\r\n"
            feed(peer, one * (10 * PER_TURN))
            handled = []
            while not handled or handled[-1] < 10 * PER_TURN:
                handled.append(node.hub.counters.errors if kind == "messages" else len(node.asked))
                await asyncio.sleep(0)
            assert [n for n in handled if n < 10 * PER_TURN] == [turn * PER_TURN for turn in range(1, 10)]
            await until(peer.transport.is_reading)

    asyncio.run(play())


def test_a_request_that_drips_in_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async def play() -> None:
        node = HoldingNode()
        now = [0]
        monkeypatch.setattr(node, "now", lambda: now[0])
        async with connected(node) as connect:
            await connect()
            (peer,) = await peers_of(node, 1)
            for byte in b"GET /up HTTP/1.1\r\nHost: x":
                feed(peer, bytes([byte]))
                assert not peer.ended
                now[0] += 60 * SECOND
                peer.close_when_idle(now[0] - HTTP_IDLE_SECONDS * SECOND)
                if peer.ended:
                    break
            assert peer.ended
            assert now[0] <= (HTTP_IDLE_SECONDS + 60) * SECOND

    asyncio.run(play())


def leave(way: str, writer: asyncio.StreamWriter) -> None:
    sock = writer.transport.get_extra_info("socket")
    if way == "close frame":
        writer.write(encode("close", b"\x03\xe8"))
    elif way == "half closed":
        writer.write_eof()
    elif way == "reset":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
    else:
        writer.close()


@pytest.mark.loopback
@pytest.mark.parametrize("way", ["close frame", "half closed", "reset", "closed"])
@pytest.mark.parametrize("sent", [b"", WEBSOCKET[:60], WEBSOCKET, WEBSOCKET + encode("text", messages.subscribe("c").encode())])
@pytest.mark.parametrize("full", [False, True])
def test_nothing_stays_of_who_leaves(sent: bytes, way: str, full: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """At any moment and in any way; also where it keeps its own end open, or leaves bytes unread. *full*: bytes wait for it."""
    monkeypatch.setattr("sim.live.sockets.LINGER_SECONDS", 0.001)
    monkeypatch.setattr("sim.live.sockets.FLUSH_SECONDS", 0.003)

    async def play() -> None:
        node = HoldingNode()
        async with connected(node) as connect:
            _, writer = await connect()
            (peer,) = await peers_of(node, 1)
            writer.write(sent)
            if sent.startswith(WEBSOCKET):
                await until(lambda: peer.socket_id)
            writer.transport.pause_reading()
            if full:
                peer.transport.set_write_buffer_limits(high=1 << 30)
                while not peer.transport.get_write_buffer_size():
                    peer.write(bytes(1 << 16))
            leave(way, writer)
            if way == "close frame" and not sent.startswith(WEBSOCKET):
                peer.end()  # It is no message there; the node says when this is over.
            await until(lambda: not node.peers)
            assert not node.hub.spaces["1"].connections
            assert not node.hub.spaces["1"].channels
            assert peer.own.fileno() == -1

    asyncio.run(play())
