"""Links on the mux over real sockets: against the server of `websockets`, and against the kernel's clock."""

from __future__ import annotations

import select
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from websockets.server import ServerProtocol
from websockets.sync.server import ServerConnection, serve
from websockets.uri import parse_uri

from loadtests.client.link import KERNEL_STAMP, Link
from loadtests.client.mux import Mux, Polled
from loadtests.client.streams import Origin
from tests.loadtests.peer import certificate, listening, request

pytestmark = pytest.mark.loopback


class Listener:
    def __init__(self) -> None:
        self.log: list[tuple[Any, ...]] = []
        self.arrivals: list[tuple[int, int, int]] = []

    def opened(self) -> None:
        self.log.append(("opened",))

    def text(self, payload: bytes, arrived_at: int, read_at: int, stamp: int) -> None:
        self.log.append(("text", payload))
        self.arrivals.append((arrived_at, read_at, stamp))

    def closed(self, code: int, reason: str) -> None:
        self.log.append(("closed", code, reason))

    def until(self, entries: int) -> None:
        """Let the hub run until so much has been logged."""
        with gevent.Timeout(5):
            while len(self.log) < entries:
                gevent.sleep(0.005)


@pytest.fixture(params=["io_uring", "epoll", "poll"])
def mux(request: pytest.FixtureRequest) -> Iterator[Mux]:
    mux = Mux(Polled() if request.param == "poll" else None, ring=request.param == "io_uring")
    yield mux
    assert mux.errors == 0
    mux.close()


@pytest.fixture
def echoing() -> Iterator[int]:
    """A server that says everything back, and closes when told so."""

    def handle(connection: ServerConnection) -> None:
        for message in connection:
            if message == "close":
                connection.close(4200, "again")
            elif message == "drop":
                connection.socket.close()
            elif message == "fragments":
                connection.send(iter(["one ", "two ", "three"]))
            else:
                connection.send(message)

    with serve(handle, "127.0.0.1", 0, compression=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.socket.getsockname()[1]
        server.shutdown()
        thread.join()


def link_to(mux: Mux, port: int, listener: Listener, scheme: str = "ws", host: str = "127.0.0.1") -> Link:
    return Link(mux, Origin(f"{scheme}://{host}:{port}"), parse_uri(f"{scheme}://{host}:{port}/app/key"), listener, True)


@pytest.mark.parametrize("size", [1, 125, 126, 4000, 65_535, 65_536, 900_000])
def test_messages_of_any_size_go_there_and_back(mux: Mux, echoing: int, size: int) -> None:
    listener = Listener()
    link = link_to(mux, echoing, listener)
    listener.until(1)
    link.send("x" * size)
    listener.until(2)
    assert listener.log == [("opened",), ("text", b"x" * size)]
    link.close()


def test_fragments_closing_and_dropping(mux: Mux, echoing: int) -> None:
    for order, end in (("close", (4200, "again")), ("drop", (1006, "closed by the peer"))):
        listener = Listener()
        link = link_to(mux, echoing, listener)
        listener.until(1)
        link.send("fragments")
        listener.until(2)
        link.send(order)
        listener.until(3)
        assert listener.log[1:] == [("text", b"one two three"), ("closed", *end)]
        link.send("nobody hears this")


def test_the_kernel_says_when_a_message_came_although_nobody_read_it(mux: Mux, echoing: int) -> None:
    listener = Listener()
    link = link_to(mux, echoing, listener)
    listener.until(1)
    link.send("warm")
    listener.until(2)
    link.send("late")
    select.select([link._stream._descriptor], [], [], 30)  # However long the peer takes.
    time.sleep(0.2)  # The hub stands still: the process does not read.
    listener.until(3)
    arrived_at, read_at, stamp = listener.arrivals[-1]
    assert stamp == KERNEL_STAMP
    assert read_at - arrived_at > 100_000_000
    link.close()


def test_a_paused_link_reads_nothing_and_stays(mux: Mux, echoing: int) -> None:
    listener = Listener()
    link = link_to(mux, echoing, listener)
    listener.until(1)
    link.pause()
    link.send("unread")
    gevent.sleep(0.1)
    assert listener.log == [("opened",)]
    link.close()


def test_refused_and_unanswered(mux: Mux) -> None:
    with listening(lambda connection, number: connection.sendall(b"HTTP/1.1 404 Not Found\r\n\r\n")) as port:
        listener = Listener()
        link_to(mux, port, listener)
        listener.until(1)
    assert listener.log == [("closed", 1006, "handshake: HTTP 404")]
    listener = Listener()
    link_to(mux, port, listener)
    listener.until(1)
    assert listener.log == [("closed", 1006, "connect: connection refused")]


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_over_tls(mux: Mux, tmp_path: Path) -> None:
    context = certificate(tmp_path)

    def handle(connection: ServerConnection) -> None:
        for message in connection:
            connection.send(message)

    with serve(handle, "127.0.0.1", 0, ssl=context, compression=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        port = server.socket.getsockname()[1]
        origin = Origin(f"wss://localhost:{port}")
        assert origin.tls is not None
        origin.tls.load_verify_locations(tmp_path / "cert.pem")
        listener = Listener()
        link = Link(mux, origin, parse_uri(f"wss://localhost:{port}/app/key"), listener, True)
        listener.until(1)
        for size in (10, 500_000):
            link.send("x" * size)
        listener.until(3)
        assert [len(entry[1]) for entry in listener.log[1:]] == [10, 500_000]
        assert listener.arrivals[-1][2] == KERNEL_STAMP
        link.close()
        stranger = Listener()
        link_to(mux, port, stranger, "wss", "localhost")
        stranger.until(1)
        assert stranger.log[0][2].startswith("certificate: ")
        server.shutdown()
        thread.join()


def test_a_peer_that_does_not_read_is_given_up(mux: Mux) -> None:
    def deaf(connection: socket.socket, number: int) -> None:
        server = ServerProtocol()
        server.receive_data(request(connection))
        for asked in server.events_received():
            server.send_response(server.accept(asked))
        connection.sendall(b"".join(server.data_to_send()))
        time.sleep(3)

    with listening(deaf) as port:
        listener = Listener()
        link = link_to(mux, port, listener)
        listener.until(1)
        for _ in range(40):
            link.send("x" * 200_000)
        listener.until(2)
        assert listener.log[-1] == ("closed", 1006, "the peer does not read")


def test_a_frame_that_was_heard_before_is_not_read_again(mux: Mux) -> None:
    """Whole frames are known by their bytes, to all links that share what they know."""
    frames: dict[bytes, Any] = {}
    told: list[tuple[str, Any]] = []

    class Listener:
        def opened(self) -> None: ...

        def closed(self, code: int, reason: str) -> None: ...

        def text(self, payload: bytes, arrived_at: int, read_at: int, stamp: int) -> str | None:
            told.append(("text", payload[:1]))
            return None if payload[:1] == b"-" else f"what stands for {payload[:1].decode()}"

        def again(self, known: Any, arrived_at: int, read_at: int, stamp: int) -> None:
            told.append(("again", known))

    with listening(lambda connection, _: time.sleep(1)) as port:
        origin = Origin(f"http://127.0.0.1:{port}")
        uri = parse_uri(f"ws://127.0.0.1:{port}/app/key")
        one, other = (Link(mux, origin, uri, Listener(), True, "", frames) for _ in range(2))
        for link in (one, other):
            link._protocol = None  # As after the handshake.

        def frame(letter: bytes) -> bytes:
            return b"\x81\x7e\x00\xc8" + letter * 200

        one.received(frame(b"x"), 1, 2)
        other.received(frame(b"x"), 1, 2)
        assert told == [("text", b"x"), ("again", "what stands for x")]
        told.clear()
        for _ in range(2):
            one.received(frame(b"-"), 1, 2)
        other.received(frame(b"x") + frame(b"x"), 1, 2)  # Two in one read: each has an arrival of its own to be said.
        other.received(frame(b"x")[:100], 1, 2)
        other.received(frame(b"x")[100:], 1, 2)
        assert told == [("text", b"-")] * 2 + [("again", "what stands for x")] * 3
        for link in (one, other):
            link.close()
