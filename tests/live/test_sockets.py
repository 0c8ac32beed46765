"""The end of a connection: nothing that was written is lost, and nothing stays open."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from sim.live import sockets
from sim.live.sockets import LingeringClose

pytestmark = pytest.mark.loopback

MakeLoop = Callable[[], asyncio.AbstractEventLoop]
LOOPS: list[MakeLoop] = [asyncio.new_event_loop, uvloop.new_event_loop]


class Answering(asyncio.Protocol):
    """Reads once, answers, and hangs up, whatever else comes."""

    def __init__(self, answer: bytes, heard_all: bool = False) -> None:
        self.answer = answer
        self.heard_all = heard_all
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport: asyncio.Transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.pause_reading()
        self.transport.write(self.answer)
        LingeringClose(self.transport, self, heard_all=self.heard_all)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)


def served(make_loop: MakeLoop, make: Callable[[], Answering], client: Callable[[int], Any]) -> Any:
    """What *client* returns, run on a thread with the port; the server's side is gone afterwards."""
    protocols: list[Answering] = []

    def accepted() -> Answering:
        protocols.append(make())
        return protocols[-1]

    async def play() -> Any:
        server = await asyncio.get_running_loop().create_server(accepted, "127.0.0.1", 0)
        result = await asyncio.to_thread(client, server.sockets[0].getsockname()[1])
        await asyncio.wait_for(asyncio.gather(*(protocol.lost for protocol in protocols)), 60)
        server.close()
        return result

    with asyncio.Runner(loop_factory=make_loop) as runner:
        return runner.run(play())


@pytest.mark.parametrize("make_loop", LOOPS)
def test_who_sends_more_than_is_read_gets_the_whole_answer(make_loop: MakeLoop) -> None:
    """Closed at once, the connection would be reset: the client would fail in place of reading the end."""
    answer = b"answer" * 1000

    def client(port: int) -> list[bytes]:
        got = []
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", port), timeout=30) as peer, peer.makefile("rb") as stream:
                peer.sendall(bytes(1_000_000))
                got.append(stream.read())
        return got

    assert served(make_loop, lambda: Answering(answer), client) == [answer] * 20


@pytest.mark.parametrize("make_loop", LOOPS)
@pytest.mark.parametrize("heard_all", [False, True])
@pytest.mark.parametrize("answer", [b"short", bytes(30_000_000)])
def test_a_peer_that_neither_reads_nor_leaves_is_left(
    make_loop: MakeLoop, heard_all: bool, answer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "LINGER_SECONDS", 0.01)
    monkeypatch.setattr(sockets, "FLUSH_SECONDS", 0.03)
    monkeypatch.setattr(sockets, "LINGER_BYTES", 1000)
    peers = []

    def client(port: int) -> None:
        peers.append(socket.create_connection(("127.0.0.1", port), timeout=30))
        peers[0].sendall(bytes(100_000))

    served(make_loop, lambda: Answering(answer, heard_all), client)
    peers[0].close()


def test_a_port_for_later_is_none_that_an_outgoing_connection_gets() -> None:
    outgoing = Path("/proc/sys/net/ipv4/ip_local_port_range")
    lowest = int(outgoing.read_text().split()[0]) if outgoing.exists() else 49_152
    ports = {sockets.free_port() for _ in range(20)}
    assert len(ports) > 1
    assert max(ports) < lowest


def test_a_port_for_later_says_why_there_is_none() -> None:
    with pytest.raises(OSError, match="Cannot assign requested address"):
        sockets.bound_later("192.0.2.1")
