"""A node's own tasks go on when one of their turns fails."""

from __future__ import annotations

import asyncio
import json
import time
from types import SimpleNamespace
from typing import Any

import pytest

from sim.live.broadcaster import node
from sim.live.broadcaster.bus import NoMember, _hand_over
from sim.live.broadcaster.node import Node
from sim.live.broadcaster.settings import BroadcasterSettings
from sim.live.measure.sampling import parse_metrics
from sim.pusher.auth import sign_request
from sim.pusher.http import HttpRequest, HttpResponse
from sim.pusher.server import outbox
from sim.pusher.server.apps import App
from sim.pusher.server.channels import ChannelKind
from sim.pusher.server.state import Channel, Connection


def test_a_timer_goes_on_after_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    turns: list[int] = []

    def fails() -> None:
        turns.append(1)
        raise KeyError("a bug")

    async def three_turns() -> None:
        timer = asyncio.create_task(Node._every(0.001, fails))
        while len(turns) < 3:
            assert not timer.done()
            await asyncio.sleep(0.001)
        timer.cancel()

    asyncio.run(asyncio.wait_for(three_turns(), 10))
    assert "a bug" in caplog.text


def test_a_message_that_fails_does_not_end_the_hearing(caplog: pytest.LogCaptureFixture) -> None:
    class Failing(NoMember):
        def receive(self, text: str) -> None:
            raise KeyError(text)

    _hand_over(Failing(), "a bug")
    assert "a bug" in caplog.text


@pytest.mark.parametrize(
    ("subscribers", "turns", "writes"),
    [
        (200, [0, 1, 2], [3]),  # Each turn of the loop brings another event: one write for all three.
        (200, [0, 4], [1, 1]),  # A turn brings nothing: what there is goes.
        (5, [0, 2], [1, 1]),  # A few deliveries are not worth another turn.
    ],
)
def test_events_that_are_published_together_are_written_together(
    subscribers: int, turns: list[int], writes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node.time, "perf_counter", lambda: 0.0)  # However busy the machine is.

    async def played() -> list[int]:
        under_test = Node(BroadcasterSettings(apps=(App("1", "key", "secret"),), port=0))
        channel = Channel("a", ChannelKind())
        peers = [Reader() for _ in range(subscribers)]
        for peer in peers:
            channel.add(peer, {})
        for turn in range(max(turns) + 1):
            if turn in turns:
                under_test.hub.outbox.publish(channel, b"x")
            await asyncio.sleep(0)
        for _ in range(5):
            await asyncio.sleep(0)
        assert all(peer.got == peers[0].got for peer in peers)
        return [len(data) for data in peers[0].got]

    assert asyncio.run(played()) == writes


@pytest.mark.parametrize(("ring", "said"), [(None, 0), (SimpleNamespace(broken=False), 1), (SimpleNamespace(broken=True), 0)])
def test_metrics_say_whether_frames_leave_by_io_uring(ring: Any, said: int) -> None:
    under_test = Node(BroadcasterSettings(apps=(App("1", "key", "secret"),), port=0))
    under_test._ring = ring
    answers: list[HttpResponse] = []
    under_test.serve(HttpRequest("GET", "/metrics"), answers.append)
    assert dict(parse_metrics(str(answers[0].body)))["broadcaster_send_ring"] == said


def test_publishers_wait_in_line_while_the_outbox_is_full_and_others_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each publish here fills it by itself, and takes two turns of the loop to leave."""
    monkeypatch.setattr(outbox, "FULL_BYTES", 1000)
    app = App("1", "key", "secret")
    answered: list[int] = []

    async def played() -> None:
        under_test = Node(BroadcasterSettings(apps=(app,), port=0))
        space, channel = under_test.hub.spaces["1"], Channel("a", ChannelKind())
        space.channels["a"] = channel
        peers = [Reader() for _ in range(node.WRITES_PER_TURN + 1)]
        for peer in peers:
            channel.add(peer, {})
        for number in range(5):
            body = json.dumps({"name": f"e{number}", "channel": "a", "data": "x"}).encode()
            query = sign_request(app.key, app.secret, "POST", "/apps/1/events", {}, body, int(time.time()))
            request = HttpRequest("POST", f"/apps/1/events?{query}", body=body)
            under_test.serve(request, lambda response, number=number: answered.append(number))  # type: ignore[misc]
            assert answered == [0]
        under_test.serve(HttpRequest("GET", "/up"), lambda response: answered.append(response.status))
        assert answered == [0, 200]
        waiting = under_test.hub.outbox
        event = waiting.taken_bytes
        while waiting.writes < 5 * len(peers):
            assert waiting.taken_bytes - waiting.bytes <= outbox.FULL_BYTES + event
            await asyncio.sleep(0)
        assert waiting.taken_bytes == waiting.bytes == 5 * event
        for peer in peers:
            assert [json.loads(frame[2:])["event"] for frame in peer.got] == [f"e{number}" for number in range(5)]

    asyncio.run(asyncio.wait_for(played(), 30))
    assert answered == [0, 200, 1, 2, 3, 4]


class Reader(Connection):
    def __init__(self) -> None:
        super().__init__()
        self.got: list[bytes] = []

    def write(self, frame: bytes) -> None:
        self.got.append(frame)
