"""How an event gets out: now, queued, unique, debounced, retried, split, excluded. Time passes only when told to."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.brokeforge.broadcasting.dispatcher import CHANNELS_PER_REQUEST, BroadcastEvent, Dispatcher, DispatchOutcome, MemoryCache
from sim.brokeforge.broadcasting.events import EVENTS, ServerUpdated, TaskCompleted, from_wire, to_wire
from sim.brokeforge.metrics import Metrics
from sim.scenario import Broadcast
from tests.brokeforge.conftest import MakeForge
from tests.brokeforge.forge import START, Broadcaster, Clock, Forge, HandQueue, switched


class Rig:
    """A dispatcher alone."""

    def __init__(self, settings: Broadcast) -> None:
        self.clock = Clock()
        self.broadcaster = Broadcaster(self.clock)
        self.queue = HandQueue(self.clock)
        self.metrics = Metrics()
        cache = MemoryCache(self.clock.now)
        self.dispatcher = Dispatcher(settings, self.broadcaster, self.queue, cache, self.clock.now, self.metrics)

    def dispatch(self, server: int = 1, **more: object) -> DispatchOutcome:
        return self.dispatcher.dispatch(ServerUpdated(server), **more)  # type: ignore[arg-type]

    def sent_at(self) -> list[float]:
        return [(s.at - START) / 1e9 for s in self.broadcaster.sent]


def test_now_is_in_the_caller() -> None:
    rig = Rig(Broadcast())
    assert rig.dispatch(members={"update": 1}) == DispatchOutcome("accepted", START)
    assert (len(rig.broadcaster.sent), len(rig.queue)) == (1, 0)
    assert rig.broadcaster.sent[0].data.keys() == {"server_id", "timestamp"}, "members are asked for"


def test_queued_waits_for_a_worker_and_tells_the_workers_time() -> None:
    rig = Rig(switched(dispatch="queued", queue_latency=0.25))
    assert rig.dispatch() == DispatchOutcome("waiting")
    assert (len(rig.broadcaster.sent), len(rig.queue)) == (0, 1)
    rig.queue.work(rig.dispatcher, 5)
    assert rig.sent_at() == [0.25]
    rig.clock.pass_(100)
    rig.dispatch()
    rig.queue.work(rig.dispatcher)
    assert rig.broadcaster.sent[1].data["timestamp"] == "2027-01-15T08:01:45+00:00"
    assert "broadcast_wait_seconds_sum 0.5" in rig.metrics.render()


def test_a_failure_is_counted_retried_after_a_pause_and_given_up_in_the_end() -> None:
    rig = Rig(switched(tries=3, backoff=2.0))
    rig.broadcaster.failures = 2
    assert rig.dispatch().state == "waiting"
    rig.queue.work(rig.dispatcher, 60)
    assert rig.sent_at() == [4.0]
    assert rig.metrics.value("broadcast_failures_total") == rig.metrics.value("broadcast_retries_total") == 2
    assert rig.metrics.value("broadcast_lost_total") == 0
    rig.broadcaster.failures = 3
    rig.dispatch()
    rig.queue.work(rig.dispatcher, 60)
    assert len(rig.broadcaster.sent) == 1
    assert rig.metrics.value("broadcast_lost_total") == 1
    assert len(rig.queue) == 0


def test_a_queue_that_is_gone_loses_the_event_and_says_so() -> None:
    rig = Rig(switched(dispatch="queued"))
    rig.queue.gone = True
    assert rig.dispatch() == DispatchOutcome("lost")
    assert rig.metrics.value("broadcast_lost_total") == 1


def test_a_publisher_that_fails_never_loses_the_committed_change(make_forge: MakeForge) -> None:
    forge = make_forge()
    forge.broadcaster.failures = 1_000
    answer = forge.json("PATCH", "/servers/1", {"connection": "disconnected"})
    assert (answer["version"], answer["broadcast"]) == (2, True)
    assert forge.json("GET", "/servers/1")["connection"] == "disconnected"
    text = forge.request("GET", "/metrics").body.decode()
    assert 'broadcast_failures_total{event="ServerUpdated"} 1.0' in text
    assert "queue_depth 1.0" in text
    forge.broadcaster.failures = 0
    forge.queue.work(forge.app.dispatcher)
    assert len(forge.broadcaster.sent) == 1


def test_unique_drops_what_waits_already_and_lets_the_next_in_when_it_is_done() -> None:
    rig = Rig(switched(dispatch="queued", unique=True, queue_latency=1.0))
    for server in (1, 1, 2, 1):
        rig.dispatch(server)
    rig.queue.work(rig.dispatcher, 10)
    assert sorted(s.data["server_id"] for s in rig.broadcaster.sent) == [1, 2]
    assert rig.metrics.value("broadcast_dropped_total", reason="unique") == 2
    rig.dispatch(1)
    rig.queue.work(rig.dispatcher, 10)
    assert len(rig.broadcaster.sent) == 3


def test_a_change_committed_while_its_predecessor_is_sent_has_its_own_event() -> None:
    rig = Rig(switched(dispatch="queued", unique=True))
    states: list[str] = []

    def trigger(*event: object) -> None:
        if not states:
            states.append(rig.dispatch().state)

    rig.broadcaster.trigger = trigger  # type: ignore[method-assign]
    rig.dispatch()
    rig.queue.work(rig.dispatcher, 5)
    assert states == ["waiting"]
    assert rig.metrics.value("broadcast_published_total") == 2


def test_what_is_sent_at_once_is_never_unique() -> None:
    rig = Rig(switched(unique=True))
    assert [rig.dispatch().state for _ in range(3)] == ["accepted"] * 3


def test_the_answer_to_a_change_does_not_promise_an_event_that_was_dropped(make_forge: MakeForge) -> None:
    forge = make_forge(broadcast=switched(dispatch="queued", unique=True), members=True)
    first = forge.json("PATCH", "/servers/1", {"connection": "disconnected"})
    second = forge.json("PATCH", "/servers/1", {"connection": "connected"})
    assert (first["broadcast"], second["broadcast"]) == (True, False)
    assert (first["published_at"], second["published_at"], second["committed_at"]) == (None, None, START)


def test_what_finally_became_of_each_event_is_reported() -> None:
    rig = Rig(switched(dispatch="queued", unique=True, queue_latency=0.5, tries=1))
    reports: list[tuple[object, DispatchOutcome]] = []
    rig.dispatcher.report = lambda job, outcome: reports.append((job.members["update"], outcome))
    rig.dispatch(1, members={"update": 1})
    rig.dispatch(1, members={"update": 2})
    rig.queue.work(rig.dispatcher, 5)
    rig.broadcaster.failures = 1
    rig.dispatch(1, members={"update": 3})
    rig.queue.work(rig.dispatcher, 5)
    accepted = DispatchOutcome("accepted", START + 500_000_000)
    assert reports == [(2, DispatchOutcome("dropped", reason="unique")), (1, accepted), (3, DispatchOutcome("lost"))]


def test_a_unique_lock_whose_job_was_lost_is_void_in_the_end() -> None:
    rig = Rig(switched(dispatch="queued", unique=True, unique_for=30.0))
    rig.dispatch()
    rig.queue.jobs.clear()
    rig.clock.pass_(29)
    rig.dispatch()
    assert len(rig.queue) == 0
    rig.clock.pass_(2)
    rig.dispatch()
    assert len(rig.queue) == 1


def play(rig: Rig, at: list[float]) -> None:
    """Dispatch at these seconds, working the queue in between."""
    for instant in at:
        rig.queue.work(rig.dispatcher, instant - (rig.clock.now() - START) / 1e9)
        rig.dispatch()
    rig.queue.work(rig.dispatcher, 60)


@pytest.mark.parametrize(
    ("wait", "most", "at", "sent"),
    [
        (1.0, None, [0.0], [1.0]),
        (1.0, None, [0.0, 0.5, 1.0], [2.0]),
        (1.0, None, [0.0, 2.0], [1.0, 3.0]),
        # Without a maximum a steady stream is never told of while it lasts; with one it is.
        (1.0, None, [n * 0.5 for n in range(10)], [5.5]),
        (1.0, 2.0, [n * 0.5 for n in range(10)], [2.0, 4.5]),
        # The maximum is looked at when a dispatch comes, not by a timer: the last of a silent series waits its second.
        (1.0, 2.0, [0.0, 0.9, 1.8], [2.8]),
        (1.0, 2.0, [0.0, 0.9, 1.8, 2.7], [2.7]),
        # A series ends with the job that is worked: what comes later is the first of the next.
        (1.0, 2.0, [0.0, 5.0, 5.5], [1.0, 6.5]),
        (1.0, 0.0, [0.0, 0.5, 5.0], [0.5, 6.0]),
        # What is kept of a series outlives its maximum, however long that is.
        (10.0, 200.0, [n * 5.0 for n in range(51)], [200.0, 260.0]),
    ],
)
def test_debounced_dispatch_sends_the_last_of_a_window(
    wait: float, most: float | None, at: list[float], sent: list[float]
) -> None:
    rig = Rig(switched(debounce=wait, debounce_max_wait=most))
    play(rig, at)
    assert rig.sent_at() == sent
    assert rig.metrics.value("broadcast_dropped_total", reason="debounced") == len(at) - len(sent)


def test_a_debounced_job_that_a_late_worker_takes_is_still_not_the_newest() -> None:
    rig = Rig(switched(debounce=100.0, queue_latency=500.0))
    play(rig, [0.0, 1.0])
    rig.queue.work(rig.dispatcher)
    assert rig.sent_at() == [601.0]


@settings(max_examples=60, deadline=None)
@given(
    gaps=st.lists(st.integers(1, 3000), min_size=1, max_size=40),
    wait=st.integers(100, 1500),
    more=st.one_of(st.none(), st.integers(0, 3000)),
)
def test_debounced_dispatch_always_tells_the_last_change_in_time(gaps: list[int], wait: int, more: int | None) -> None:
    at = [sum(gaps[: n + 1]) / 1000 for n in range(len(gaps))]
    most = None if more is None else (wait + more) / 1000
    rig = Rig(switched(debounce=wait / 1000, debounce_max_wait=most))
    play(rig, at)
    sent = rig.sent_at()
    assert sent, "at least the last one is told"
    assert at[-1] <= sent[-1] <= at[-1] + wait / 1000 + 1e-6
    assert len(sent) <= len(at)
    if most is not None:
        # No change waits longer than the maximum and one more window.
        for instant in at:
            assert min(s for s in sent if s >= instant - 1e-6) - instant < most + wait / 1000 + 1e-6


def test_debounced_servers_do_not_wait_for_each_other() -> None:
    rig = Rig(switched(debounce=1.0))
    rig.dispatch(1)
    rig.clock.pass_(0.5)
    rig.dispatch(2)
    rig.queue.work(rig.dispatcher, 10)
    assert [(s.data["server_id"], t) for s, t in zip(rig.broadcaster.sent, rig.sent_at(), strict=True)] == [(1, 1.0), (2, 1.5)]


@pytest.mark.parametrize(
    ("switch", "server", "site"),
    [
        ("both", ["private-servers.1", "private-servers"], ["private-sites.1", "private-sites"]),
        ("specific", ["private-servers.1"], ["private-sites.1"]),
        ("generic", ["private-servers"], ["private-sites"]),
        ("per_user", ["private-servers.1", "private-users.1.servers"], ["private-sites.1", "private-users.1.sites"]),
    ],
)
def test_channels_are_a_switch(make_forge: MakeForge, switch: str, server: list[str], site: list[str]) -> None:
    forge = make_forge(broadcast=switched(channels=switch))
    forge.json("PATCH", "/servers/1", {"connection": "disconnected"})
    forge.json("PATCH", "/sites/1", {"health": "unhealthy"})
    assert [s.channels for s in forge.broadcaster.sent] == [server, site]


def test_a_full_payload_carries_the_page_and_its_padding(make_forge: MakeForge) -> None:
    forge = make_forge(broadcast=switched(payload="full", payload_bytes=500))
    forge.json("PATCH", "/servers/1", {"connection": "disconnected"})
    (sent,) = forge.broadcaster.sent
    assert sent.data["server"] == forge.json("GET", "/servers/1")
    assert sent.data["padding"] == "x" * 500
    assert (sent.data["server_id"], sent.data["server"]["version"]) == (1, 2)
    forge.json("PATCH", "/sites/1", {"health": "unhealthy"})
    assert forge.broadcaster.sent[1].data["site"] == forge.json("GET", "/sites/1")


def test_a_queued_full_payload_is_the_state_when_the_worker_runs(make_forge: MakeForge) -> None:
    forge = make_forge(broadcast=switched(payload="full", dispatch="queued"))
    forge.json("PATCH", "/servers/1", {"connection": "disconnected"})
    forge.json("PATCH", "/servers/1", {"connection": "connected"})
    forge.queue.work(forge.app.dispatcher)
    assert [s.data["server"]["version"] for s in forge.broadcaster.sent] == [3, 3]


def test_a_queued_full_payload_of_a_row_that_is_gone_is_not_sent(make_forge: MakeForge) -> None:
    forge = make_forge(broadcast=switched(payload="full", dispatch="queued"))
    forge.json("PATCH", "/servers/1", {"connection": "disconnected"})
    forge.json("DELETE", "/servers/1")
    forge.queue.work(forge.app.dispatcher)
    assert forge.broadcaster.of("\\ServerUpdated") == []
    assert forge.app.metrics.value("broadcast_dropped_total", reason="missing") == 3, "the change, the deletion, that of its site"


def test_a_full_payload_sent_at_once_of_a_deletion_says_that_there_is_nothing_left(make_forge: MakeForge) -> None:
    forge = make_forge(broadcast=switched(payload="full"))
    forge.json("DELETE", "/servers/2")
    (sent,) = forge.broadcaster.sent
    assert (sent.data["server_id"], sent.data["server"]) == (2, None)


def test_to_others_excludes_who_made_the_change(make_forge: MakeForge) -> None:
    body, mine = {"connection": "disconnected"}, {"x-socket-id": "12.34"}
    everyone, others = make_forge(), make_forge(broadcast=switched(to_others=True))
    everyone.json("PATCH", "/servers/1", body, headers=mine)
    others.json("PATCH", "/servers/1", body, headers=mine)
    others.json("PATCH", "/servers/1", {"connection": "connected"})
    assert [s.socket_id for s in everyone.broadcaster.sent] == [None]
    assert [s.socket_id for s in others.broadcaster.sent] == ["12.34", None]


@pytest.mark.parametrize("socket_id", ["nonsense", "1.2; DROP", "1.2\n"])
def test_a_sender_that_is_no_socket_id_is_refused_before_anything_is_written(make_forge: MakeForge, socket_id: str) -> None:
    forge = make_forge(broadcast=switched(to_others=True))
    assert forge.request("PATCH", "/servers/1", {"connection": "disconnected"}, headers={"x-socket-id": socket_id}).status == 422
    assert forge.json("GET", "/servers/1")["version"] == 1


def test_events_are_named_by_class_or_by_themselves(make_forge: MakeForge) -> None:
    forge = make_forge(broadcast=switched(broadcast_as=True))
    forge.step(1, "5", "installing")
    assert forge.broadcaster.names() == ["ServerUpdated", "ServerProvisionUpdated"]


@pytest.mark.parametrize("count", [1, 99, 100, 101, 250])
def test_more_than_a_hundred_channels_are_several_requests(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(Broadcast())
    wanted = [f"private-servers.{n}" for n in range(count)]
    monkeypatch.setattr(ServerUpdated, "broadcast_on", lambda self, switch: wanted)
    rig.dispatch()
    assert [len(s.channels) for s in rig.broadcaster.sent] == [100] * (count // 100) + [count % 100] * (count % 100 > 0)
    assert [c for s in rig.broadcaster.sent for c in s.channels] == wanted
    assert CHANNELS_PER_REQUEST == 100


def test_measuring_members_are_added_only_where_asked_for(make_forge: MakeForge) -> None:
    headers = {"x-workbench-update": "17", "x-workbench-sent": "1800000000000000001"}
    forge = make_forge(members=True)
    answer = forge.json("PATCH", "/servers/1", {"connection": "disconnected"}, headers=headers)
    (sent,) = forge.broadcaster.sent
    assert sent.data == {
        "server_id": 1,
        "timestamp": "2027-01-15T08:00:00+00:00",
        "update": 17,
        "sent_at": 1800000000000000001,
        "published_at": START,
    }
    assert (answer["committed_at"], answer["published_at"]) == (START, START)
    forge.json("PATCH", "/servers/1", {"connection": "connected"})
    assert forge.broadcaster.sent[1].data.keys() == {"server_id", "timestamp"}
    assert forge.request("PATCH", "/servers/1", {"connection": "failed"}, headers={"x-workbench-update": "a"}).status == 422
    plain = make_forge()
    plain.json("PATCH", "/servers/1", {"connection": "disconnected"}, headers=headers)
    assert plain.broadcaster.sent[0].data.keys() == {"server_id", "timestamp"}


def test_an_event_survives_the_queue_as_it_is() -> None:
    for event in (ServerUpdated(3, 4), TaskCompleted(1, "dump", False, 5)):
        assert from_wire(json.loads(json.dumps(to_wire(event)))) == event
        job = BroadcastEvent(event, "1.2", {"update": 3}, token="t", unique=True, attempt=2, dispatched_at=9)
        assert BroadcastEvent.from_json(job.to_json()) == job
    assert set(EVENTS) == {"ServerUpdated", "ServerSiteUpdated", "ServerProvisionUpdated", "TaskCompleted"}


def test_quiet_changes_are_counted(forge: Forge) -> None:
    forge.json("PATCH", "/servers/1", {"vanity_name": "other"})
    assert forge.app.metrics.value("changes_total") == forge.app.metrics.value("changes_quiet_total") == 1
