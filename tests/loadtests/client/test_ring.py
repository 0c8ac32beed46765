"""The receive ring against what was sent: every byte once and in order, whatever ends, is dropped, or runs short."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from loadtests.client import mux as mux_module
from loadtests.client.mux import Mux
from loadtests.client.reader import FEW, EventReader
from loadtests.client.ring import BUFFERS, ROOM, ReceiveRing
from sim.pusher import messages

pytestmark = pytest.mark.loopback


class End:
    """One end of a pair, and what it was told."""

    def __init__(self, ring: ReceiveRing, subscriber: int = 0) -> None:
        self.near, self.far = socket.socketpair()
        self.ring, self.sent, self.data, self.ends = ring, b"", b"", list[int]()
        self.drops_at = sys.maxsize
        self.audience, self.subscriber = -1, subscriber
        self.token = ring.add(self.near.fileno(), self, self.ends.append)

    def received(self, data: bytes, arrived_at: int, read_at: int) -> None:
        assert data
        assert arrived_at == read_at > 0  # Such pairs have no stamps.
        assert not self.ends
        assert len(self.data) < self.drops_at
        self.data += data
        if len(self.data) >= self.drops_at:
            self.drop()

    def send(self, data: bytes) -> None:
        self.sent += data
        self.far.sendall(data)

    def drop(self) -> None:
        self.ring.drop(self.token)
        self.near.close()


def gone(end: socket.socket) -> bool:
    """Whether the other end is closed."""
    end.setblocking(False)
    try:
        return end.recv(1) == b""
    except ConnectionResetError:  # It had not read everything.
        return True


@pytest.fixture
def ring() -> Iterator[ReceiveRing]:
    def failed() -> None:
        raise AssertionError from sys.exception() if sys.version_info >= (3, 12) else sys.exc_info()[1]

    try:
        ring = ReceiveRing(0, failed)
    except OSError as error:
        pytest.skip(f"no such io_uring here: {error}")
    yield ring
    ring.close()


ACTIONS = st.tuples(
    st.sampled_from(["send", "send", "send", "end", "drop", "later", "look"]), st.integers(0, 11), st.integers(0, 2**16)
)


@settings(max_examples=60, deadline=None)
@given(actions=st.lists(ACTIONS, max_size=60))
def test_every_byte_comes_once_and_in_order_whatever_else_happens(actions: list[tuple[str, int, int]]) -> None:
    try:
        ring = ReceiveRing(0, lambda: None)
    except OSError as error:
        pytest.skip(f"no such io_uring here: {error}")
    ends = [End(ring) for _ in range(12)]
    for action, which, number in actions:
        end = ends[which]
        if action == "look":
            ring.ready(1)
        elif end.far.fileno() < 0 or end.near.fileno() < 0:
            end.near.close()
            ends[which] = End(ring)  # The same descriptors again.
        elif action == "send":
            end.send(number.to_bytes(3, "big") * (number % 4000))
        elif action == "end":
            end.far.close()
        elif action == "drop":
            end.drop()
        else:
            end.drops_at = len(end.data) + 1 + number % 100
    ring.ready(1)
    for _ in range(20):  # A look takes a batch.
        ring.ready(1)
    for end in ends:
        if end.near.fileno() >= 0:
            assert end.data == end.sent
            assert end.ends == [0] * (end.far.fileno() < 0)
        else:
            assert end.sent.startswith(end.data)
            assert not end.ends or end.far.fileno() < 0
            assert end.far.fileno() < 0 or gone(end.far)  # It was told at once.
        end.far.close()
        if end.near.fileno() >= 0:
            end.drop()
    assert len(ring) == 0
    ring.close()


def test_more_than_there_are_buffers_for_comes_all_the_same(ring: ReceiveRing) -> None:
    ends = [End(ring) for _ in range(BUFFERS // 20 + 1)]
    for i, end in enumerate(ends):
        end.send(bytes([i]) * 20 * ROOM)
    for _ in range(20):
        ring.ready(1)
    assert all(end.data == end.sent for end in ends)
    # And where buffers come back in another order than that in which they were taken.
    ring._give_back(np.array([(ring._turn + i) % BUFFERS for i in reversed(range(BUFFERS))]))
    ring._turn -= BUFFERS
    for end in ends:
        end.send(b"".join(bytes([i]) * ROOM for i in range(9)))
    for _ in range(20):
        ring.ready(1)
    assert all(end.data == end.sent for end in ends)


def test_frames_for_pages_that_only_listen_are_recorded_without_a_call_where_enough_come_together(ring: ReceiveRing) -> None:
    reader, recorded = EventReader(lambda _: 3), list[tuple[int, int]]()
    reader.audience(frozenset({"c"}), frozenset())
    ring.record_by(reader, lambda codes, at, read_at, who: recorded.extend(zip(codes.tolist(), who.tolist(), strict=True)))
    frame = Frame(Opcode.TEXT, messages.event("E", {"text": "x" * 200}, "c").encode()).serialize(mask=False)
    ends = [End(ring, number) for number in range(FEW)]
    for end in ends:
        end.audience = 0
        end.send(frame)
        ring.ready(1)  # By what its page says then, the ring knows that it listens only.
    for few in (FEW - 1, FEW):
        for end in ends[:few]:
            end.far.sendall(frame)
            end.sent += frame * (few < FEW)
        ring.ready(1)
        assert all(end.data == end.sent for end in ends)
    assert recorded == [(3 << 2, number) for number in range(FEW)]
    for end in ends:
        end.far.close()
        end.drop()


def test_what_a_taker_raises_costs_nobody_else_anything() -> None:
    failures = list[Any]()
    try:
        ring = ReceiveRing(0, lambda: failures.append(sys.exc_info()[0]))
    except OSError as error:
        pytest.skip(f"no such io_uring here: {error}")
    one, bad, other = (End(ring) for _ in range(3))
    bad.drops_at = -1  # It has had more than it wanted.
    for end in (one, bad, other):
        end.send(b"x")
    ring.ready(1)
    assert (one.data, bad.data, other.data) == (b"x", b"", b"x")
    assert failures == [AssertionError]
    ring.close()


def test_where_it_is_refused_sockets_are_read_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> ReceiveRing:
        raise PermissionError

    monkeypatch.setattr(mux_module, "ReceiveRing", refused)
    mux = Mux()
    assert mux.ring is None
    assert mux.waits_by in ("epoll", "poll")
    mux.close()
