"""Where connections go: to every address of a host that accepts, in turn."""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Callable
from typing import Any

import gevent
import pytest
from gevent import socket as gevent_socket

from loadtests.client.mux import Mux, Polled
from loadtests.client.streams import RECEIVE, Origin, Stream, open_stream
from tests.loadtests.peer import until

pytestmark = pytest.mark.loopback


def resolving(monkeypatch: pytest.MonkeyPatch, *hosts: str) -> None:
    def found(host: str, port: int, *_: object, **__: object) -> list[tuple[object, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in hosts]

    monkeypatch.setattr(gevent_socket, "getaddrinfo", found)


def test_all_addresses_that_accept_are_used_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.2", 0)) as one:
        port = one.getsockname()[1]
        with socket.create_server(("127.0.0.4", port)):
            resolving(monkeypatch, "127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.2")
            origin = Origin(f"http://several.example:{port}")
    assert [address[0] for _, address in (origin.address() for _ in range(3))] == ["127.0.0.2", "127.0.0.4", "127.0.0.2"]


def test_where_none_accepts_the_first_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, "127.0.0.2", "127.0.0.3")
    assert Origin("http://several.example:9").addresses == [(socket.AF_INET, ("127.0.0.2", 9))]


def test_a_literal_address_of_version_six() -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        origin = Origin(f"wss://[::1]:{server.getsockname()[1]}")
        assert origin.addresses[0][0] == socket.AF_INET6
        assert origin.authority == f"[::1]:{server.getsockname()[1]}"


@pytest.mark.skipif(sys.platform != "linux", reason="127.0.0.2 is this machine's on Linux only")
@pytest.mark.parametrize(("worker", "source"), [(0, "127.0.0.1"), (1, "127.0.0.2"), (249, "127.0.0.250"), (250, "127.0.1.1")])
def test_each_load_process_comes_to_this_machine_from_an_address_of_its_own(worker: int, source: str) -> None:
    class Owner:
        def connected(self) -> None: ...

        def received(self, data: bytes, arrived_at: int, read_at: int) -> None: ...

        def ended(self, reason: str) -> None: ...

    mux = Mux()
    with socket.create_server(("127.0.0.1", 0)) as server:
        stream = open_stream(mux, Origin(f"http://127.0.0.1:{server.getsockname()[1]}", worker=worker), Owner(), False)
        _, (address, _) = server.accept()  # The probe of the origin.
        _, (address, _) = server.accept()
        stream.close()
    mux.close()
    assert address == source
    with pytest.MonkeyPatch.context() as monkeypatch:
        resolving(monkeypatch, "192.0.2.1")
        monkeypatch.setattr("loadtests.client.streams._accepts", lambda *_: True)
        assert Origin("http://far.example:9", worker=worker).source(("192.0.2.1", 9)) is None


class Heard:
    """Who is told of a stream."""

    audience, subscriber = -1, 0

    def __init__(self) -> None:
        self.data, self.reads, self.ends = b"", 0, list[str]()
        self.then: Callable[[], None] = lambda: None

    def connected(self) -> None: ...

    def received(self, data: bytes, arrived_at: int, read_at: int) -> None:
        self.data += data
        self.reads += 1
        self.then()

    def ended(self, reason: str) -> None:
        self.ends.append(reason)


def test_what_the_ring_reads_nobody_else_reads() -> None:
    """Not when the stream has just connected, nor when there is room to send again: what came before might be given later."""
    reads = list[str]()

    class Guarded:
        def __init__(self, sock: Any) -> None:
            self.sock = sock

        def __getattr__(self, name: str) -> Any:
            if name.startswith("recv"):
                reads.append(name)
            return getattr(self.sock, name)

    mux = Mux()
    if mux.ring is None:
        pytest.skip("no such io_uring here")
    with socket.create_server(("127.0.0.1", 0)) as server:
        origin, heard = Origin(f"http://127.0.0.1:{server.getsockname()[1]}"), Heard()
        server.accept()[0].close()  # The probe of the origin.
        stream = open_stream(mux, origin, heard, True, True)
        stream._socket = Guarded(stream._socket)  # type: ignore[assignment]
        peer = server.accept()[0]
        until(lambda: stream._open)
        sent = 0
        while stream._waiting is None:
            stream.send(bytes(RECEIVE))
            sent += RECEIVE
        peer.sendall(b"x")
        peer.setblocking(False)

        def drained() -> bool:
            nonlocal sent
            with contextlib.suppress(BlockingIOError):
                sent -= len(peer.recv(RECEIVE))
            return sent == 0

        until(drained)
        until(lambda: heard.data == b"x")
        assert stream._waiting is None
        assert (reads, mux.errors) == ([], 0)
        stream.close()
        peer.close()
    mux.close()


@pytest.mark.parametrize("way", ["io_uring", "epoll", "poll"])
@pytest.mark.parametrize("stamp", [False, sys.platform == "linux"])
def test_all_that_comes_is_read_and_the_end_is_told_once_whatever_comes_together(way: str, stamp: bool) -> None:
    mux = Mux(Polled() if way == "poll" else None, ring=way == "io_uring")
    with socket.create_server(("127.0.0.1", 0)) as server:
        origin = Origin(f"http://127.0.0.1:{server.getsockname()[1]}")
        server.accept()[0].close()  # The probe of the origin.

        def opened() -> tuple[Stream, Heard, socket.socket]:
            heard = Heard()
            return open_stream(mux, origin, heard, stamp, True), heard, server.accept()[0]

        for size in (0, 1, RECEIVE - 1, RECEIVE, RECEIVE + 1, 3 * RECEIVE + 7):
            for ends in (True, False):
                stream, heard, peer = opened()
                peer.sendall(bytes(size))
                if ends:  # Before anything is read: the hub has not had its turn.
                    peer.close()
                until(lambda heard=heard, size=size, ends=ends: len(heard.data) == size and len(heard.ends) == ends)  # type: ignore[misc]
                for _ in range(3):  # And what comes later, if it is not over.
                    if not ends:
                        peer.sendall(b"x")
                        size += 1
                        until(lambda heard=heard, size=size: len(heard.data) == size)  # type: ignore[misc]
                gevent.sleep(0.005)
                assert heard.ends == ["closed by the peer"] * ends
                stream.close()
                peer.close()

        # A page that has hung reads no more, though the peer goes on and leaves; one that is closed is told nothing.
        for act in ("pause", "close"):
            stream, heard, peer = opened()
            heard.then = getattr(stream, act)
            peer.sendall(bytes(2 * RECEIVE))
            until(lambda heard=heard: heard.reads > 0)  # type: ignore[misc]
            peer.close()
            gevent.sleep(0.02)
            assert (heard.reads, heard.ends) == (1, [])
            stream.close()
    mux.close()
