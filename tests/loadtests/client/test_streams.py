"""Where connections go: to every address of a host that accepts, in turn."""

from __future__ import annotations

import socket
import sys

import pytest
from gevent import socket as gevent_socket

from loadtests.client.mux import Mux
from loadtests.client.streams import Origin, open_stream

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
