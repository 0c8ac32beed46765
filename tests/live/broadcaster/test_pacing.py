"""A broadcaster that keeps another one's time: instants in virtual time, and the shape over sockets."""

from __future__ import annotations

import http.client
import json
import socket
import time
from dataclasses import replace

import pytest

from sim.live.broadcaster.pacing import Pacing
from sim.live.broadcaster.settings import BroadcasterSettings, Timing
from sim.pusher import auth
from sim.pusher.http import HttpResponse
from sim.pusher.server.api import OK
from sim.pusher.server.channels import kind_of
from sim.pusher.server.outbox import Outbox
from sim.pusher.server.state import Channel
from tests.live.broadcasters import APP, Client, broadcaster
from tests.pusher.peers import Peer

REVERB = Timing(
    fixed=0.001, compose_per_subscriber=0.000025, per_subscriber=0.00003, answer="after", nagle=True, keep_alive=False
)


class Stage:
    """A channel with subscribers that note when they were written to; the clock moves only when the loop is held."""

    def __init__(self, subscribers: int, timing: Timing) -> None:
        self.time = 100.0
        self.written: list[float] = []
        self.answered: list[float] = []
        stage = self

        class Noting(Peer):
            def write(self, frame: bytes) -> None:
                stage.written.append(stage.time - 100.0)

        self.outbox = Outbox()
        self.channel = Channel("news", kind_of("news"))
        for _ in range(subscribers):
            self.channel.add(Noting(), {})
        self.pacing = Pacing(timing, self.outbox, lambda: self.time, self._sleep)

    def _sleep(self, seconds: float) -> None:
        self.time += seconds

    def publish(self, times: int = 1) -> None:
        def serve(answer: object) -> None:
            for _ in range(times):
                self.outbox.publish(self.channel, b"frame")
            answer(OK)  # type: ignore[operator]

        self.pacing.publish(serve, lambda response: self.answered.append(self.time - 100.0))


def test_all_frames_are_composed_before_the_first_write_and_writes_are_apart() -> None:
    stage = Stage(1_000, REVERB)
    stage.publish()
    assert (stage.written, stage.answered) == ([], [])
    stage.pacing.flush()
    first, last = stage.written[0], stage.written[-1]
    assert first == pytest.approx(0.001 + 1_000 * 0.000025, abs=1e-9)
    assert last - first == pytest.approx(1_000 * 0.00003, abs=0.0002)
    assert stage.answered == [pytest.approx(last, abs=0.0002)], "the publisher waits for the last write"


def test_an_answer_before_the_fan_out_does_not_wait_for_it() -> None:
    stage = Stage(1_000, replace(REVERB, answer="before"))
    stage.publish()
    assert stage.answered == [pytest.approx(0.026, abs=1e-9)]


def test_a_publish_that_nobody_hears_costs_nothing() -> None:
    stage = Stage(0, REVERB)
    stage.pacing.publish(lambda answer: answer(OK), lambda response: stage.answered.append(stage.time - 100.0))
    assert stage.answered == [0.0]


def test_frames_of_one_turn_leave_in_one_write_each_and_are_all_composed_first() -> None:
    stage = Stage(100, REVERB)
    stage.publish(times=3)
    stage.pacing.flush()
    assert stage.written[0] == pytest.approx(0.001 + 300 * 0.000025, abs=1e-9)
    assert len(stage.written) == 100


def test_what_the_broadcaster_takes_itself_counts_into_the_time() -> None:
    stage = Stage(1_000, REVERB)
    stage.publish()
    stage.time += 0.005  # the loop was busy otherwise: nothing is owed to the past
    start = stage.time
    stage.pacing.flush()
    assert stage.time - start == pytest.approx(0.03, abs=0.0002)


def test_settings_with_a_timing_travel_to_a_child() -> None:
    settings = BroadcasterSettings(apps=(APP,), timing=REVERB, faithful=True)
    assert BroadcasterSettings.from_json(settings.to_json()) == settings


@pytest.mark.loopback
def test_a_broadcaster_like_reverb_over_sockets() -> None:
    timing = replace(REVERB, fixed=0.2, compose_per_subscriber=0.05)
    with broadcaster(faithful=True, timing=timing) as server, Client(server) as one, Client(server) as two:
        for client in (one, two):
            client.subscribe("news")
        body = json.dumps({"name": "e", "data": "{}", "channel": "news"}).encode()
        path = f"/apps/{APP.id}/events"
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        query = auth.sign_request(APP.key, APP.secret, "POST", path, {}, body, int(time.time()))
        started = time.monotonic()
        connection.request("POST", f"{path}?{query}", body)
        answer = connection.getresponse()
        assert (answer.status, answer.read(), answer.version) == (200, b"{}", 10), "HTTP/1.0: a connection for each publish"
        assert time.monotonic() - started >= 0.3
        assert [client.receive()["event"] for client in (one, two)] == ["e", "e"]
        # A frame that the clean profile answers at once, a signed GET with the MD5 of its empty body, is refused.
        query = auth.sign_request(
            APP.key, APP.secret, "GET", f"/apps/{APP.id}/channels", {"body_md5": "x"}, b"", int(time.time())
        )
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as plain:
            plain.sendall(f"GET /apps/{APP.id}/channels?{query} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert b" 401 " in plain.recv(200)


def test_responses_that_come_later_are_passed_on() -> None:
    stage = Stage(1, REVERB)
    later = []
    answers: list[HttpResponse] = []
    stage.pacing.publish(later.append, answers.append)
    assert answers == []
    later[0](OK)
    assert answers == [OK]
