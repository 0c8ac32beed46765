"""One page in virtual time: what it sends, what it records, and how it ends, with a connection and an application of lists."""

from __future__ import annotations

import itertools
import json
import random
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.uri import parse_uri

from loadtests.client import link as link_module
from loadtests.client import page as page_module
from loadtests.client import ring as ring_module
from loadtests.client.auth import Signed
from loadtests.client.http import Answer
from loadtests.client.link import Link
from loadtests.client.page import HIDDEN_STEP, RELOAD, Page, Seat
from loadtests.client.reader import EventReader
from loadtests.client.retries import Retries
from loadtests.client.ring import ReceiveRing
from loadtests.client.spec import Spec
from sim.clock import SECOND, EventList
from sim.policy import Debounce, FullPayload, Immediate, Polling
from sim.pusher import messages

MS = 1_000_000


class Kind:
    code, label, page, resource, refetch = 0, "DetailPage", "detail", "server", "/servers/{id}"

    def __init__(self) -> None:
        self.versions: set[str] = set()


class Recorder:
    def __init__(self) -> None:
        self.counters: dict[str, int] = dict.fromkeys(
            (
                "connects", "connect_failures", "drops", "subscribed", "refused", "complaints", "malformed", "unexpected",
                "unsent", "retries",
            ),
            0,
        )  # fmt: skip
        self.strangers: Counter[str] = Counter()
        self.subscribed = self.listening = self.lives = 0
        self.notifications: list[tuple[int, ...]] = []
        self.refetches: list[tuple[Any, ...]] = []
        self.rows: list[tuple[Any, ...]] = []
        self.pages: list[tuple[Any, ...]] = []
        self.timings: list[tuple[str, str]] = []
        self.failures: list[tuple[str, str, str]] = []
        self.reasons: list[str] = []
        self.subscribers = 6

    def subscriber(self, kind: Any) -> int:
        self.subscribers += 1
        return self.subscribers

    def notification(self, *row: int) -> None:
        self.notifications.append(row)

    def refetch(self, kind: Any, subscriber: int, resource_id: int, refetch: Any, stale_at: int, heard_at: int, why: str) -> None:
        row = (refetch.outcome, refetch.status, refetch.version, refetch.due_at, refetch.started_at, stale_at, subscriber)
        self.refetches.append(row)
        self.reasons.append(why)

    def subscription(self, *row: Any) -> None:
        self.rows.append(row[5:])  # channel, from, until, reason, policy

    def page(self, row: tuple[Any, ...]) -> None:
        self.pages.append((row[0], *row[5:9]))  # subscriber, opened, closed, reason, loaded version

    def timing(self, method: str, name: str, took: int | None, http: bool = False, failed: str = "") -> None:
        self.timings.append((method, name))
        if failed:
            self.failures.append((method, name, failed))


class Wire:
    """The page's connection: told to be open, or lost."""

    heard_at = 0

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
    def __init__(self, now: int) -> None:
        self.connection: object | None = object()
        self.started_at = now
        self.aborted = False

    def abort(self) -> None:
        self.aborted = True


class World:
    """A page, its clock, its wires, and an application that answers after 10 ms with whatever `answer` makes."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        *,
        hook: Any = None,
        hidden: bool = False,
        retries: tuple[Any, ...] = (),
        later: bool = False,
        seed: int = 1,
        answer: Any = None,
        **changes: Any,
    ) -> None:
        self.clock = self.mux = EventList(start=1_000 * SECOND)
        self.recorder = Recorder()
        self.reader = EventReader(lambda _: 0)
        self.random = random.Random(seed)
        self.retries = Retries(self.clock, *retries)
        self.renewed = 0
        self.pages: set[Page] = set()
        self.wires: list[Wire] = []
        self.denied: set[str] = set()
        self.accepts = True
        self.released = 0
        self.audiences: list[int] = []
        self.asked: list[tuple[str, bytes]] = []
        self.exchanges: list[Exchange] = []
        self.version = 0
        self.answer: Callable[[Answer], None] = answer or self.newer
        self.took = 10 * MS
        monkeypatch.setattr(page_module, "Link", self.link)
        parameters: dict[str, Any] = {
            "kind": Kind(), "channels": ("private-servers.{id}",), "events": frozenset({"E"}), "refetch": "/servers/{id}",
            "version_path": ("version",), "policy": Debounce(0.1), "in_flight": "overlap", "auth": Signed("key", "secret"),
            "uri": parse_uri("ws://127.0.0.1/app/key"), "broadcaster": None, "application": None, "prefix": "/base",
            "browser_origin": "", "behaviour": "good", "stamp": True, "pool": self, "timeout": 30.0,
            "refetch_on_reconnect": False,
        }  # fmt: skip
        self.spec = Spec(**(parameters | changes))
        self.seat = Seat(0, 3, 5, b"H: 1\r\n", None, hidden, hook, self.renew, later)
        self.page = Page(self, self.spec, self.seat)  # type: ignore[arg-type]
        self.page.open(self.release)
        self.run(0.1)
        self.asked.clear()  # Of the first load.

    def link(self, *given: Any) -> Wire:
        self.audiences.append(given[7])
        return Wire(self)

    def renew(self) -> None:
        self.renewed += 1

    def release(self) -> None:
        self.released += 1

    # the pool's side
    def send(self, method: str, path: str, done: Any, headers: bytes, body: bytes, timeout: float) -> Exchange:
        self.asked.append((path, headers))
        exchange, answer = Exchange(self.clock.now()), Answer()
        answer.started_at = self.clock.now()
        self.answer(answer)

        def finish() -> None:
            if not exchange.aborted:
                answer.finished_at = self.clock.now()
                done(answer)

        self.exchanges.append(exchange)
        self.clock.call_at(self.clock.now() + self.took, finish)
        return exchange

    def newer(self, answer: Answer) -> None:
        self.version += 1
        answer.status, answer.headers = 200, {b"etag": b'"v%d"' % self.version}
        answer.body = b'{"component":"","version":%d}' % self.version

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


def refused(status: int, **headers: bytes) -> Callable[[Answer], None]:
    def answer(answer: Answer) -> None:
        answer.status = status
        answer.headers = {name.replace("_", "-").encode(): value for name, value in headers.items()}

    return answer


def test_a_notification_becomes_a_refetch_that_is_applied(world: World) -> None:
    assert world.released == 1
    assert world.recorder.subscribed == world.recorder.listening == world.recorder.counters["subscribed"] == 1
    heard_at = world.clock.now()
    sent_at = world.event(update=9, late=2 * MS)
    world.run(1)
    assert world.asked == [("/base/servers/5", b'H: 1\r\nIf-None-Match: "v1"\r\n')]
    assert world.recorder.notifications == [(1, heard_at - 2 * MS, heard_at, 7)]  # Event 0, by the kernel's stamp.
    due_at = heard_at - 2 * MS + 100 * MS  # Counted from the arrival, not from the reading.
    assert world.recorder.refetches == [("applied", 200, 2, due_at, due_at, sent_at, 7)]
    world.event()
    world.run(1)
    assert world.asked[1][1] == b'H: 1\r\nIf-None-Match: "v2"\r\n'


def test_a_page_is_open_from_its_first_load_on_until_its_user_leaves(world: World) -> None:
    opened_at = 1_000 * SECOND + 10 * MS
    assert world.recorder.pages == [(7, opened_at, -1, "end", 1)]
    assert world.recorder.timings[0] == ("GET", "/servers/{id} (page)")
    world.run(5)
    world.page.close()
    assert world.recorder.pages[1:] == [(7, opened_at, world.clock.now(), "closed", 1)]
    assert [row[3] for row in world.recorder.rows] == ["end", "closed"]
    assert (world.recorder.listening, world.recorder.lives) == (0, 1), "an open page is counted now, a life for good"
    assert not world.pages
    # Who comes next is another page: it knows neither version nor ETag, and owes nothing of what was before.
    other = Page(world, world.spec, world.seat)  # type: ignore[arg-type]
    assert other.subscriber == 8
    other.open(world.release)
    assert world.asked[-1] == ("/base/servers/5", b"H: 1\r\n")


def test_a_page_that_is_open_at_the_end_stays_so(world: World) -> None:
    world.event()
    world.run(0.105)
    world.page.stop()
    world.run(1)
    assert [row[0] for row in world.recorder.refetches] == ["running"]
    assert [row[1:4] for row in world.recorder.pages] == [(1_000 * SECOND + 10 * MS, -1, "end")]
    assert [row[2:4] for row in world.recorder.rows] == [(-1, "end")]
    assert world.recorder.listening == 0
    assert not world.wires[0].open


@pytest.mark.parametrize("status", [300, 500])
def test_a_page_that_does_not_load_is_not_open_and_is_tried_again(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    world = World(monkeypatch, answer=refused(status))
    assert (world.released, world.recorder.pages, world.wires) == (1, [], [])
    assert world.recorder.failures == [("GET", "/servers/{id} (page)", f"HTTP {status}")]
    world.answer = world.newer
    world.run(RELOAD / SECOND + 0.1)
    assert len(world.recorder.pages) == 1
    assert world.recorder.subscribed == 1
    assert world.released == 1
    gone = World(monkeypatch, answer=refused(0))
    gone.page.close()
    gone.run(60)
    assert gone.recorder.pages == gone.asked == []
    again = World(monkeypatch, answer=refused(status))
    again.run(RELOAD / SECOND - 0.085)  # The second attempt is under way.
    assert [exchange.aborted for exchange in again.exchanges] == [False, False]
    again.page.close()
    assert again.exchanges[-1].aborted


def test_what_is_not_modified_is_not_newer(world: World) -> None:
    world.event()
    world.run(1)
    world.answer = refused(304)
    world.event()
    world.run(1)
    assert [row[:3] for row in world.recorder.refetches] == [("applied", 200, 2), ("not_newer", 304, 2)]


def test_a_failure_leaves_the_page_as_stale_as_it_was(world: World) -> None:
    world.answer = refused(500)
    first = world.event()
    world.run(1)
    world.answer = world.newer
    world.event()
    world.run(1)
    assert [(row[0], row[1], row[5]) for row in world.recorder.refetches] == [("failed", 500, -1), ("applied", 200, first)]
    assert world.recorder.reasons == ["HTTP 500", ""]


@pytest.mark.parametrize(("status", "why"), [(302, "HTTP 302"), (0, "connect: connection refused"), (429, "HTTP 429")])
def test_what_is_not_the_resource_is_one_failure_with_its_reason(world: World, status: int, why: str) -> None:
    def answer(answer: Answer) -> None:
        answer.status, answer.error = status, "" if status else "connect: connection refused"

    world.answer = answer
    world.event()
    world.run(1)
    assert world.recorder.refetches[0][:3] == ("failed", status or None, None)
    assert world.recorder.reasons == [why]
    assert world.recorder.failures == []  # The refetch's row is the request and the failure.


def test_no_answer_is_tried_again_as_often_as_the_scenario_says(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, retries=(2, 100 * MS))
    world.answer = refused(503)
    asked_at = world.clock.now() + 100 * MS
    world.event()
    world.run(2)
    assert len(world.asked) == 3
    ((outcome, status, _, due_at, started_at, *_),) = world.recorder.refetches
    assert (outcome, status, due_at, started_at) == ("failed", 503, asked_at, asked_at)
    assert world.recorder.counters["retries"] == 2
    assert world.recorder.failures == [("GET", "/servers/{id}", "HTTP 503")] * 2
    world.answer = refused(404)  # An answer, and no reason to ask again.
    world.event()
    world.run(2)
    assert len(world.asked) == 4
    # A page that leaves does not come back in the pause before a retry.
    world.answer = refused(0)
    world.event()
    world.run(0.15)
    world.page.close()
    world.run(2)
    assert len(world.asked) == 5
    assert world.recorder.refetches[-1][0] == "cancelled"


def test_retries_have_a_budget_that_all_pages_share(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, retries=(5, 0, 0.5))
    world.answer = refused(503)
    for _ in range(9):
        world.event()
        world.run(1)
    first, again = world.retries.first_attempts, world.retries.again
    assert (first, again) == (10, 5)  # The first load counts as well.
    assert len(world.asked) == 9 + again


def test_a_superseded_refetch_passes_its_staleness_on(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, policy=Immediate(), in_flight="cancel")
    first = world.event(1)
    world.run(0.005)
    world.event(2)
    world.run(1)
    assert world.exchanges[1].aborted
    (superseded, applied) = world.recorder.refetches
    assert (superseded[0], superseded[5]) == ("superseded", -1)
    assert (applied[0], applied[5]) == ("applied", first)


def test_what_was_never_sent_is_no_refetch(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, policy=Immediate(), in_flight="cancel")
    world.event(1)
    world.exchanges[1].connection = None  # It still waits for a connection.
    world.run(0.005)
    world.event(2)
    world.run(1)
    assert [row[0] for row in world.recorder.refetches] == ["applied"]
    assert world.recorder.counters["unsent"] == 1


def test_a_refetch_of_a_page_that_leaves_is_cancelled(world: World) -> None:
    world.event()
    world.run(0.105)
    world.page.close()
    world.run(1)
    assert [row[0] for row in world.recorder.refetches] == ["cancelled"]
    assert not world.wires[0].open


def web_page(answer: Answer) -> None:
    answer.status, answer.body, answer.headers = 200, b"<html>Log in</html>", {b"etag": b'"login"'}


def test_a_web_page_in_place_of_the_json_that_came_before_shows_nothing(world: World) -> None:
    """A session that has ended in mid-run: the browser has followed the redirect to the login page, which has status 200."""
    stale_at = world.event()
    world.answer = web_page
    world.run(1)
    world.answer = world.newer
    world.event()
    world.run(1)
    assert [row[:3] for row in world.recorder.refetches] == [("failed", 200, None), ("applied", 200, 2)]
    assert world.recorder.refetches[1][5] == stale_at, "waited for since the first"
    assert world.asked[1][1].endswith(b'"v1"\r\n')
    other = Page(world, world.spec, world.seat)  # type: ignore[arg-type]
    world.answer = web_page
    other.open(world.release)
    world.run(1)
    assert other.echo is None
    assert world.recorder.timings[-1] == ("GET", "/servers/{id} (page)")


def test_where_no_answer_was_json_a_web_page_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, answer=web_page)
    world.event()
    world.run(1)
    assert [row[:3] for row in world.recorder.refetches] == [("applied", 200, None)]


def test_an_application_that_has_changed_is_loaded_anew(world: World) -> None:
    for again, answer in enumerate((refused(409), refused(409, x_inertia_location=b"/servers/5"))):
        world.answer = answer
        world.event()
        world.run(1)
        assert world.recorder.refetches[again][:2] == ("failed", 409)
        assert world.renewed == again  # Without a location it is some conflict of the application's own.


def test_when_a_page_was_subscribed_is_a_row(world: World) -> None:
    ((channel, since, until, reason, policy),) = world.recorder.rows
    assert (channel, until, reason, policy) == ("private-servers.5", -1, "end", "debounce")
    assert since == 1_000 * SECOND + 11 * MS
    world.wires[0].open = False
    assert world.page.echo is not None
    world.page.echo.closed(1006, "gone")
    lost_at = world.clock.now()
    assert (world.recorder.listening, world.recorder.subscribed) == (0, 1)
    world.run(5)
    assert (world.recorder.listening, world.recorder.subscribed) == (1, 1)
    (_, dropped, again) = world.recorder.rows
    assert dropped == ("private-servers.5", since, lost_at, "dropped", "debounce")
    assert again[:4] == ("private-servers.5", lost_at + SECOND + MS, -1, "end")
    assert world.recorder.counters["drops"] == 1
    assert len(world.recorder.pages) == 1  # A reconnect is the same page.


@pytest.mark.parametrize("wanted", [False, True])
def test_what_came_while_it_was_away_is_fetched_where_the_page_does_so(monkeypatch: pytest.MonkeyPatch, wanted: bool) -> None:
    world = World(monkeypatch, refetch_on_reconnect=wanted)
    assert world.asked == []  # It has just been loaded.
    world.page.lose()
    world.run(5)
    assert len(world.asked) == wanted
    later = World(monkeypatch, refetch_on_reconnect=wanted, later=True)
    assert len(later.recorder.refetches) == wanted  # Between its load and its subscription something may have come.


def test_a_refused_subscription_is_a_row_without_length(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, channels=("private-servers.{id}", "private-users.{user}"))
    assert world.recorder.subscribed == 1
    world.denied.add("private-users.3")
    world.page.lose()
    world.run(3)
    assert world.recorder.rows[-1][0] == "private-users.3"
    assert world.recorder.rows[-1][1] == world.recorder.rows[-1][2]
    assert world.recorder.rows[-1][3] == "refused"
    assert world.recorder.listening == 0


def test_events_of_other_names_are_counted_and_that_is_all(world: World) -> None:
    world.event(name="App\\Events\\E")  # The class name where the page listens to the short one: the silent mismatch.
    world.run(1)
    assert world.recorder.counters["unexpected"] == 1
    assert world.recorder.strangers == {"App\\Events\\E": 1}
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


@pytest.mark.parametrize(("hidden", "polls"), [(False, 5), (True, 0)])
def test_a_page_that_polls_has_no_connection(monkeypatch: pytest.MonkeyPatch, hidden: bool, polls: int) -> None:
    world = World(monkeypatch, policy=Polling(2.0), channels=(), hidden=hidden)
    world.run(10 - 0.1)
    assert world.wires == []
    assert world.released == 1
    assert abs(len(world.asked) - polls) <= 1  # In a hidden tab each tenth time only.
    assert world.recorder.rows == []
    assert len(world.recorder.pages) == 1


def test_a_page_of_full_payloads_loads_once_and_never_refetches(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, policy=FullPayload())
    world.event()
    world.run(5)
    assert len(world.recorder.notifications) == 1
    assert world.asked == []
    assert len(world.exchanges) == len(world.recorder.pages) == 1


def test_without_an_application_a_page_is_open_once_it_is_subscribed(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, policy=FullPayload(), refetch="")
    assert world.exchanges == []
    assert world.recorder.pages == [(7, 1_000 * SECOND + MS, -1, "end", None)]
    assert world.audiences == [0], "what it hears need only be recorded"
    for has_more_to_do in (World(monkeypatch), World(monkeypatch, refetch="", hook=bool)):
        assert has_more_to_do.audiences == [-1]


def test_each_hidden_tab_rings_once_a_second_at_an_instant_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    phases = set()
    for seed in range(3):
        world = World(monkeypatch, hidden=True, seed=seed)
        for _ in range(2):
            world.event()
            world.run(3)
        first, second = (row[4] % HIDDEN_STEP for row in world.recorder.refetches)
        assert first == second
        phases.add(first)
    assert len(phases) == 3


def test_pages_that_are_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    silent = World(monkeypatch, behaviour="never_subscribe")
    assert silent.wires[0].sent == []
    assert (silent.recorder.subscribed, silent.recorder.counters["connects"]) == (0, 1)

    deaf = World(monkeypatch, behaviour="stop_reading")
    deaf.run(1)
    assert deaf.wires[0].paused
    assert [row[3] for row in deaf.recorder.rows] == ["end", "closed"]
    # It was subscribed, so nobody need wait for it; it listens no more.
    assert (deaf.recorder.subscribed, deaf.recorder.listening) == (1, 0)

    restless = World(monkeypatch, behaviour="reconnect_loop")
    restless.run(10)
    assert 9 <= len(restless.wires) <= 11
    assert [wire.open for wire in restless.wires].count(True) <= 1
    assert restless.recorder.counters["drops"] == 0
    assert {row[3] for row in restless.recorder.rows} == {"end", "closed"}
    assert restless.recorder.subscribed == 1


def test_a_storm_drops_once_and_comes_back(world: World) -> None:
    world.page.lose()
    world.page.lose()
    assert world.recorder.counters["drops"] == 1
    assert world.recorder.failures == [("WS", "connection", "reconnect storm")]
    world.run(3)
    assert len(world.wires) == 2
    assert world.recorder.listening == 1


def test_nobody_answers_and_the_line_moves_on(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    world.accepts = False
    world.page.close()
    world.released = 0
    Page(world, world.spec, world.seat).open(world.release)  # type: ignore[arg-type]
    world.run(16)  # The first attempt has had its time.
    assert world.released == 1
    assert world.recorder.counters["connect_failures"] == 1


def test_versions_without_an_order_are_equal_or_not_and_that_is_all(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = iter("aab")

    def hashed(answer: Answer) -> None:
        answer.status, answer.body = 200, b'{"version":"%b"}' % next(texts).encode()

    world = World(monkeypatch, answer=hashed)
    for _ in range(2):
        world.event()
        world.run(1)
    assert world.recorder.pages[0][-1] is None
    assert [row[:3] for row in world.recorder.refetches] == [("not_newer", 200, None), ("applied", 200, None)]


def test_an_inertia_page_reloads_what_it_wants_with_the_version_of_its_assets(monkeypatch: pytest.MonkeyPatch) -> None:
    body = b'<div id="app" data-page="{&quot;component&quot;:&quot;Show&quot;,&quot;version&quot;:&quot;v1&quot;,'
    body += b'&quot;props&quot;:{&quot;order&quot;:{&quot;version&quot;:7}}}"></div>'

    def loaded(answer: Answer) -> None:
        answer.status, answer.body = 200, body

    path = ("props", "order", "version")
    world = World(monkeypatch, answer=loaded, inertia=True, only=("order",), version_path=path)
    assert world.recorder.pages[0][-1] == 7
    world.event()
    world.run(1)
    headers = world.asked[-1][1].decode()
    assert "X-Inertia-Version: v1" in headers
    assert "X-Inertia-Partial-Component: Show\r\nX-Inertia-Partial-Data: order" in headers


def test_keys_of_any_kind_stand_in_a_path_as_one_part_of_it_and_in_a_channel_as_they_are(world: World) -> None:
    seat = replace(world.seat, keys=("ada@shop.example", "a/ü 7"))
    page = Page(world, replace(world.spec, refetch="/u/{user}/orders/{id}", channels=("private-o.{id}",)), seat)  # type: ignore[arg-type]
    assert page.channels() == ["private-o.a/ü 7"]
    page.open(world.release)
    world.run(0.1)
    assert world.asked[0][0] == "/base/u/ada%40shop.example/orders/a%2F%C3%BC%207"


def frames(kind: str) -> bytes:
    """As the broadcaster sends it."""
    own, other = "private-servers.5", "private-servers.6"
    match kind:
        case "ping":
            return Frame(Opcode.PING, b"").serialize(mask=False)
        case "fragments":
            pieces = (Frame(Opcode.TEXT, messages.event("E", {"id": 5}, own).encode(), False), Frame(Opcode.CONT, b"", True))
            return b"".join(piece.serialize(mask=False) for piece in pieces)
        case "unexpected" | "foreign":
            text = messages.event("F" if kind == "unexpected" else "E", {"id": 5}, own if kind == "unexpected" else other)
        case "pusher":
            text = messages.PING
        case _:
            text = messages.event("E", {"id": 5, "name": kind * 30}, own)
    return Frame(Opcode.TEXT, text.encode()).serialize(mask=False)


@pytest.mark.loopback
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_page_that_only_listens_is_recorded_alike_whether_it_is_called_or_not(data: Any) -> None:
    """However frames are cut: what the ring records by itself, and when it was heard, is what the page would have said."""
    kinds = st.sampled_from(["one", "one", "one", "two", "unexpected", "foreign", "ping", "pusher", "fragments"])
    sent = [frames(kind) for kind in data.draw(st.lists(kinds, max_size=20))]
    together = data.draw(st.booleans())
    stream, ends = b"".join(sent), list(itertools.accumulate(map(len, sent), initial=0))
    cuts = sorted(
        {*data.draw(st.sets(st.sampled_from(ends))), *data.draw(st.sets(st.integers(0, len(stream)), max_size=3)), len(stream)}
    )
    found = []
    for alone in (False, True):
        with pytest.MonkeyPatch.context() as patch:
            world, said = World(patch, refetch=""), list[bytes]()
            page, number = world.page, itertools.count()
            world.reader._number = lambda _, number=number: next(number)  # type: ignore[misc]
            assert page.echo is not None
            assert page._audience >= 0
            pipe = SimpleNamespace(send=said.append, heard_at=0)
            patch.setattr(link_module, "open_stream", lambda *_, pipe=pipe: pipe)
            patch.setattr(ring_module, "FEW", 1)  # However few come at a time.
            known = (world.reader.frames, page._audience if alone else -1, page.subscriber)
            link = Link(None, None, page._spec.uri, page.echo, True, "", *known)  # type: ignore[arg-type]
            link._protocol = None  # As after the handshake.
            try:
                ring = ReceiveRing(0, lambda: pytest.fail("a call failed"))
            except OSError as error:
                pytest.skip(f"no such io_uring here: {error}")

            def record(codes: Any, arrived_at: Any, read_at: int, subscribers: Any, recorder: Any = world.recorder) -> None:
                for code, at, subscriber in zip(codes.tolist(), arrived_at.tolist(), subscribers.tolist(), strict=True):
                    recorder.notification(code, at, read_at, subscriber)

            ring.record_by(world.reader, record)
            near, far = socket.socketpair()
            with near, far:
                token = ring.add(near.fileno(), link, said.append)  # type: ignore[arg-type]
                for start, end in itertools.pairwise([0, *cuts]):
                    far.sendall(stream[start:end])
                    if together and end < len(stream):
                        continue
                    ring.ready(1)
                    rows = [row[2] for row in world.recorder.notifications]
                    assert not rows or max(page.echo.heard_at, ring.heard_at(token)) >= rows[-1]
                ring.drop(token)
            ring.close()
        found.append(([(code, subscriber) for code, _, _, subscriber in world.recorder.notifications], world.recorder.counters))
        found.append((len(said), [entry[:1] for entry in said]))
    assert found[:2] == found[2:]
    assert len(found[0][0]) == sum(b'"event":"E"' in frame and b"servers.5" in frame for frame in sent)
