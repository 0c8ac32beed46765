"""What a peer is written, whatever its socket takes."""

from __future__ import annotations

import _socket
import errno
import socket
from functools import partial
from typing import Any, cast

import pytest

from sim.live.broadcaster.peer import Peer, write_all
from sim.live.broadcaster.uring import SendRing
from sim.pusher.server.outbox import write_each

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


class Node:
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
        self.peer = Peer(cast(Any, Node()))
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
