"""Where connections go: to every address of a host that accepts, in turn."""

from __future__ import annotations

import socket

import pytest
from gevent import socket as gevent_socket

from loadtests.client.streams import Origin

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
