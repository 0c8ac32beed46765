"""One page in virtual time: what it sends, what it records, and how it ends, with a connection and an application of lists."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from websockets.uri import parse_uri

from loadtests.client import page as page_module
from loadtests.client.auth import Signed
from loadtests.client.echo import Ear
from loadtests.client.http import Answer
from loadtests.client.page import Page
from loadtests.client.spec import Spec
from sim.clock import SECOND, EventList
from sim.policy import Debounce, FullPayload, Immediate, Polling
from sim.pusher import messages

MS = 1_000_000


class Kind:
    code, label, page, resource, refetch = 0, "DetailPage", "detail", "server", "/servers/{id}"


class Recorder:
    def __init__(self) -> None:
        self.counters: dict[str, int] = dict.fromkeys(
            ("connects", "connect_failures", "drops", "subscribed", "refused", "complaints", "malformed", "unexpected"), 0
        )
        self.opened = self.wanted = self.subscribed = 0
        self.notifications: list[tuple[int, ...]] = []
        self.refetches: list[tuple[Any, ...]] = []
        self.rows: list[tuple[Any, ...]] = []
        self.failures: list[tuple[str, str, str]] = []

    def notification(self, *row: int) -> None:
        self.notifications.append(row)

    def refetch(self, kind: Any, subscriber: int, resource_id: int, refetch: Any, stale_at: int, outcome: str) -> None:
        self.refetches.append((outcome, refetch.status, refetch.version, refetch.due_at, refetch.started_at, stale_at))

    def subscription(self, *row: Any) -> None:
        self.rows.append(row[5:])  # channel, from, until, reason

    def timing(self, method: str, name: str, took: int, http: bool = False) -> None: ...

    def failure(self, method: str, name: str, reason: str, http: bool = False) -> None:
        self.failures.append((method, name, reason))


class Wire:
    """The page's connection: told to be open, or lost."""

    def __init__(self, world: World) -> None:
        self.world, self.sent, self.open, self.paused = world, [], True, False
        world.wires.append(self)
        if world.accepts:
            world.clock.call_at(world.clock.now(), self._accept)

    def _accept(self) -> None:
        assert self.world.page.echo is not None
        self.world.page.echo.opened()
        self.world.say(messages.connection_established("1.1", 30))

    def send(self, text: str) -> None:
        frame = json.loads(text)
        self.sent.append(frame)
        if frame["event"] == "pusher:subscribe":
            channel = frame["data"]["channel"]
            answer = messages.error(4009, "no") if channel in self.world.denied else messages.subscription_succeeded(channel)
            self.world.clock.call_at(self.world.clock.now() + MS, self.world.say, answer)

    def close(self, code: int = 1000) -> None:
        self.open = False

    def pause(self) -> None:
        self.paused = True


class Exchange:
    def __init__(self) -> None:
        self.connection: object | None = object()
        self.aborted = False

    def abort(self) -> None:
        self.aborted = True


class World:
    """A page, its clock, its wires, and an application that answers after 10 ms with whatever `answer` makes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, hook: Any = None, hidden: bool = False, **changes: Any) -> None:
        self.clock = self.mux = EventList(start=1_000 * SECOND)
        self.recorder = Recorder()
        self.ear = Ear(lambda _: 0, lambda _: None)
        self.random = random.Random(1)
        self.pages: set[Page] = set()
        self.wires: list[Wire] = []
        self.denied: set[str] = set()
        self.accepts = True
        self.released = 0
        self.asked: list[tuple[str, bytes]] = []
        self.exchanges: list[Exchange] = []
        self.version = 0
        self.answer: Callable[[Answer], None] = self.newer
        monkeypatch.setattr(page_module, "Link", lambda *_: Wire(self))
        parameters: dict[str, Any] = {
            "kind": Kind(), "channels": ("private-servers.{id}",), "events": frozenset({"E"}), "refetch": "/servers/{id}",
            "version_path": ("version",), "policy": Debounce(0.1), "in_flight": "overlap", "auth": Signed("key", "secret"),
            "uri": parse_uri("ws://127.0.0.1/app/key"), "broadcaster": None, "application": None, "prefix": "/base",
            "browser_origin": "", "behaviour": "good", "stamp": True, "pool": self, "timeout": 30.0,
        }  # fmt: skip
        spec = Spec(**(parameters | changes))
        self.page = Page(self, spec, 7, 0, 3, 5, b"H: 1\r\n", hidden, hook)  # type: ignore[arg-type]
        self.page.open(self.release)
        self.run(0.1)

    def release(self) -> None:
        self.released += 1

    # the pool's side
    def send(self, method: str, path: str, done: Any, headers: bytes, body: bytes, timeout: float) -> Exchange:
        self.asked.append((path, headers))
        exchange, answer = Exchange(), Answer()
        answer.started_at = self.clock.now()
        self.answer(answer)

        def finish() -> None:
            if not exchange.aborted:
                answer.finished_at = self.clock.now()
                done(answer)

        self.exchanges.append(exchange)
        self.clock.call_at(self.clock.now() + 10 * MS, finish)
        return exchange

    def newer(self, answer: Answer) -> None:
        self.version += 1
        answer.status, answer.body, answer.headers = 200, b'{"version":%d}' % self.version, {b"etag": b'"v%d"' % self.version}

    # helpers
    def say(self, text: str, late: int = 0) -> None:
        assert self.page.echo is not None
        now = self.clock.now()
        self.page.echo.text(text.encode(), now - late, now, 1)

    def event(self, update: int = 1, name: str = "E", late: int = 0) -> int:
        """Let the page hear of an update; its intended time."""
        sent_at = self.clock.now() - 50 * MS
        self.say(messages.event(name, {"update": update, "sent_at": sent_at}, "private-servers.5"), late)
        return sent_at

    def run(self, seconds: float) -> None:
        self.clock.run(self.clock.now() + round(seconds * SECOND))


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def test_a_notification_becomes_a_refetch_that_is_applied(world: World) -> None:
    assert world.released == 1
    assert world.recorder.subscribed == world.recorder.wanted == world.recorder.opened == 1
    heard_at = world.clock.now()
    sent_at = world.event(update=9, late=2 * MS)
    world.run(1)
    assert world.asked == [("/base/servers/5", b"H: 1\r\n")]
    ((update, _, intended, arrived, read, subscriber, *_),) = world.recorder.notifications
    assert (update, intended, arrived, read, subscriber) == (9, sent_at, heard_at - 2 * MS, heard_at, 7)
    due_at = heard_at - 2 * MS + 100 * MS  # Counted from the arrival, not from the reading.
    assert world.recorder.refetches == [("applied", 200, 1, due_at, due_at, sent_at)]
    world.event()
    world.run(1)
    assert world.asked[1][1] == b'H: 1\r\nIf-None-Match: "v1"\r\n'


def test_what_is_not_modified_is_not_newer(world: World) -> None:
    world.event()
    world.run(1)

    def unchanged(answer: Answer) -> None:
        answer.status = 304

    world.answer = unchanged
    world.event()
    world.run(1)
    assert [row[:3] for row in world.recorder.refetches] == [("applied", 200, 1), ("not_newer", 304, 1)]


def test_a_failure_leaves_the_page_as_stale_as_it_was(world: World) -> None:
    def broken(answer: Answer) -> None:
        answer.status, answer.body = 500, b"oops"

    world.answer = broken
    first = world.event()
    world.run(1)
    world.answer = world.newer
    world.event()
    world.run(1)
    assert [(row[0], row[1], row[5]) for row in world.recorder.refetches] == [("failed", 500, first), ("applied", 200, first)]


def test_a_redirect_to_the_login_page_is_no_answer(world: World) -> None:
    def redirected(answer: Answer) -> None:
        answer.status = 302

    world.answer = redirected
    world.event()
    world.run(1)
    assert world.recorder.refetches[0][:2] == ("failed", None)
    assert world.recorder.failures == [("GET", "/servers/{id}", "HTTP 302")]


def test_a_superseded_refetch_passes_its_staleness_on(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, policy=Immediate(), in_flight="cancel")
    first = world.event(1)
    world.exchanges[0].connection = None  # It still waits for a connection.
    world.run(0.005)
    world.event(2)
    world.run(1)
    assert world.exchanges[0].aborted
    (superseded, applied) = world.recorder.refetches
    assert (superseded[0], superseded[4]) == ("superseded", -1)
    assert (applied[0], applied[5]) == ("applied", first)


def test_a_refetch_under_way_at_the_end_is_cancelled(world: World) -> None:
    world.event()
    world.run(0.105)
    world.page.close()
    world.run(1)
    assert [row[0] for row in world.recorder.refetches] == ["cancelled"]
    assert not world.wires[0].open


def test_when_a_page_was_subscribed_is_a_row(world: World) -> None:
    since = world.clock.now() - 99 * MS
    world.wires[0].open = False
    assert world.page.echo is not None
    world.page.echo.closed(1006, "gone")
    lost_at = world.clock.now()
    assert world.recorder.subscribed == 0
    world.run(5)
    assert world.recorder.subscribed == 1
    world.page.close("end")
    (first, second) = world.recorder.rows
    assert first == ("private-servers.5", since, lost_at, "dropped", "debounce")
    assert (second[0], second[3]) == ("private-servers.5", "end")
    assert second[1] == lost_at + SECOND + MS
    assert world.recorder.counters["drops"] == 1
    assert world.recorder.wanted == world.recorder.subscribed == 0
    assert not world.pages


def test_a_refused_subscription_is_a_row_without_length(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    world.page.close()
    world = World(monkeypatch, channels=("private-servers.{id}", "private-users.{user}"))
    assert world.recorder.subscribed == 1
    world.denied.add("private-users.3")
    world.page.lose()
    world.run(3)
    assert world.recorder.rows[-1][0] == "private-users.3"
    assert world.recorder.rows[-1][1] == world.recorder.rows[-1][2]
    assert world.recorder.rows[-1][3] == "refused"
    assert world.recorder.subscribed == 0


def test_events_of_other_names_are_counted_and_that_is_all(world: World) -> None:
    world.event(name="App\\Events\\E")  # The class name where the page listens to the short one: the silent mismatch.
    world.run(1)
    assert world.recorder.counters["unexpected"] == 1
    assert world.recorder.notifications == []
    assert world.asked == []


def test_a_hook_decides_what_is_a_reason_to_refetch(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, hook=lambda event: event.data["update"] == 2)
    world.event(1)
    world.run(1)
    assert world.asked == []
    world.event(2)
    world.run(1)
    assert len(world.asked) == 1
    assert len(world.recorder.notifications) == 2


def test_a_page_that_polls_has_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, policy=Polling(2.0), channels=())
    world.run(10)
    assert world.wires == []
    assert world.released == 1
    assert len(world.asked) == 5
    assert (world.recorder.wanted, world.recorder.opened) == (0, 1)
    world.page.close()
    assert [(row[0], row[3]) for row in world.recorder.rows] == [("", "end")]


def test_a_page_of_full_payloads_never_refetches(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, policy=FullPayload())
    world.event()
    world.run(5)
    assert len(world.recorder.notifications) == 1
    assert world.asked == []


def test_a_hidden_tab_rings_on_whole_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, hidden=True)
    world.event()
    world.run(3)
    assert world.recorder.refetches[0][4] % SECOND == 0


def test_pages_that_are_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    silent = World(monkeypatch, behaviour="never_subscribe")
    assert silent.wires[0].sent == []
    assert (silent.recorder.wanted, silent.recorder.counters["connects"]) == (0, 1)

    deaf = World(monkeypatch, behaviour="stop_reading")
    deaf.run(1)
    assert deaf.wires[0].paused
    assert deaf.recorder.rows[0][3] == "closed"
    assert deaf.recorder.subscribed == 0

    restless = World(monkeypatch, behaviour="reconnect_loop")
    restless.run(10)
    assert 9 <= len(restless.wires) <= 11
    assert [wire.open for wire in restless.wires].count(True) <= 1
    assert restless.recorder.counters["drops"] == 0
    assert {row[3] for row in restless.recorder.rows} == {"closed"}


def test_a_storm_drops_once_and_comes_back(world: World) -> None:
    world.page.lose()
    world.page.lose()
    assert world.recorder.counters["drops"] == 1
    world.run(3)
    assert len(world.wires) == 2
    assert world.recorder.subscribed == 1


def test_nobody_answers_and_the_line_moves_on(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    world.accepts = False
    world.page.close()
    world.released = 0
    world.page.open(world.release)
    world.run(16)  # The first attempt has had its time.
    assert world.released == 1
    assert world.recorder.counters["connect_failures"] == 1
