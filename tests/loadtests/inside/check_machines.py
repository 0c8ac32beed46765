"""Load processes on other machines: their parts travel to the master, and their clocks are compared with its own."""

import os
import time
import types

import gevent
import pytest
from locust import runners
from locust.env import Environment
from locust.event import Events
from locust.runners import MasterRunner, WorkerNode, WorkerRunner

from loadtests import events
from loadtests.client.plant import Plant
from loadtests.events import LAST_PATIENCE, WORKER_PATIENCE
from loadtests.recording import clocks, shipping
from loadtests.recording.clocks import Clock
from loadtests.recording.shipping import Shipping, receive
from loadtests.settings import Settings


class Wire:
    """What a runner has of Locust's connection: handlers by message, and what was sent."""

    def __init__(self):
        self.handlers, self.sent, self.greenlet = {}, [], None

    def parts(self):
        return [data for name, data, _ in self.sent if name == shipping.PART]

    def register_message(self, name, handler):
        self.handlers[name] = handler

    def send_message(self, name, data, client_id=None):
        self.sent.append((name, data, client_id))

    def hear(self, environment, name, data, node="worker-1"):
        self.handlers[name](environment=environment, msg=types.SimpleNamespace(data=data, node_id=node))


class Master(Wire, MasterRunner):
    pass


class Worker(Wire, WorkerRunner):
    pass


@pytest.fixture(autouse=True)
def nobody_here(monkeypatch):
    monkeypatch.setattr(Shipping, "here", None)
    monkeypatch.setattr(Clock, "here", None)
    monkeypatch.setattr(Plant, "configured", None)


@pytest.fixture
def own(tmp_path):
    """The parts' directory of a worker."""
    (tmp_path / "own").mkdir()
    return tmp_path / "own"


@pytest.fixture
def shipped(own, monkeypatch):
    monkeypatch.setattr(shipping, "EVERY", 3600.0)
    worker = Worker()
    return Shipping(worker, own), worker


def test_a_master_does_not_stop_the_pages_of_a_worker_that_is_silent_for_a_while(monkeypatch):
    """Locust's own patience is three seconds, which a worker that opens pages on a busy machine needs."""
    monkeypatch.setattr(runners, "HEARTBEAT_INTERVAL", 0.001)
    master = Environment().create_master_runner("127.0.0.1", 0)
    try:
        worker = WorkerNode("w", runners.STATE_RUNNING, runners.HEARTBEAT_LIVENESS)
        master.clients["w"] = worker
        with gevent.Timeout(30):
            while worker.heartbeat > WORKER_PATIENCE - 40:
                gevent.sleep(0.01)
        assert worker.state == runners.STATE_RUNNING
        monkeypatch.setattr(runners, "HEARTBEAT_LIVENESS", WORKER_PATIENCE)
        worker.heartbeat = 10**9
        events._mark_over(master.environment)  # A dead one is not waited for when the run is stopped.
        assert master.environment.process_exit_code is None
        with gevent.Timeout(30):
            while worker.state != runners.STATE_MISSING:
                gevent.sleep(0.01)
        events._quit(master.environment)
        assert master.environment.process_exit_code == 4
        master.environment.process_exit_code, worker.heartbeat = None, WORKER_PATIENCE - LAST_PATIENCE - 1
        events._mark_over(master.environment)  # Silent for a while when the run ends, and not given up yet.
        assert master.environment.process_exit_code == 4
    finally:
        master.greenlet.kill(block=True)
        master.server.close(linger=0)


def test_a_part_goes_on_where_it_ended_and_a_header_goes_whole(shipped, own):
    sender, worker = shipped
    part, header = own / f"notifications-{os.getpid()}-0.arrows", own / f"header-{os.getpid()}.json"
    (own / f"notifications-{os.getpid() + 1}-0.arrows").write_bytes(b"of another process")
    part.write_bytes(b"abc")
    header.write_bytes(b"{}")
    sender.ship()
    part.write_bytes(b"abcdef")
    sender.ship()
    sender.ship()
    said = worker.parts()
    assert [data for data in said if data["name"] == part.name] == [
        {"name": part.name, "at": 0, "content": b"abc"},
        {"name": part.name, "at": 3, "content": b"def"},
    ]
    assert [data for data in said if data["name"] == header.name] == [{"name": header.name, "content": b"{}"}] * 3
    assert len(said) == 5


def test_what_arrives_is_what_was_sent_and_twice_is_once(shipped, own, tmp_path):
    sender, worker = shipped
    part = own / f"pages-{os.getpid()}-1.arrows"
    for content in (b"one", b"one, two", b"one, two, three"):
        part.write_bytes(content)
        sender.ship()
    for _, data, _ in [*worker.sent[:2], worker.sent[1], *worker.sent[2:]]:
        receive(tmp_path / "parts", "host/a:1", data)
    receive(tmp_path / "parts", "host/a:1", {"name": "header-1.json", "content": b"{1}"})
    receive(tmp_path / "parts", "host/a:1", {"name": "header-1.json", "content": b"{}"})
    folder = tmp_path / "parts" / "host_a_1"
    assert (folder / part.name).read_bytes() == b"one, two, three"
    assert (folder / "header-1.json").read_bytes() == b"{}"
    assert sorted(path.name for path in folder.iterdir()) == ["header-1.json", part.name]


@pytest.mark.parametrize("worker", ["..", "", "../../etc"])
def test_a_worker_writes_below_the_parts_only(worker, tmp_path):
    receive(tmp_path / "parts", worker, {"name": "header-1.json", "content": b""})
    (found,) = tmp_path.rglob("header-1.json")
    assert found.parent.parent == tmp_path / "parts"


@pytest.mark.parametrize("name", ["../x", "a/b", ".hidden", "", "a b"])
def test_a_name_that_is_none_is_refused(name, tmp_path):
    with pytest.raises(ValueError, match="not the name of a part"):
        receive(tmp_path, "worker", {"name": name, "content": b""})
    assert not list(tmp_path.iterdir())


def started(runner, **settings):
    Plant.configured = Settings(**settings)
    events = Events()
    environment = types.SimpleNamespace(runner=runner, events=events)
    shipping._start(environment)
    clocks._start(environment)
    return environment


def test_the_master_writes_what_its_workers_send(tmp_path):
    master = Master()
    environment = started(master, parts=tmp_path)
    master.hear(environment, "workbench-part", {"name": "header-1.json", "content": b"{}"}, node="far")
    assert (tmp_path / "far" / "header-1.json").read_bytes() == b"{}"
    assert Shipping.here is None


def test_only_a_worker_that_is_told_to_sends(own, monkeypatch):
    monkeypatch.setattr(shipping, "EVERY", 0.001)
    (own / f"header-{os.getpid()}.json").write_bytes(b"{}")
    started(Worker(), parts=own)
    assert Shipping.here is None
    shipping.ship()  # There is nothing to send, and nobody fails.
    worker = Worker()
    started(worker, environment={"WORKBENCH_SHIP": "1"})
    assert Shipping.here is None, "it keeps no parts"
    started(worker, parts=own, environment={"WORKBENCH_SHIP": "1"})
    assert Shipping.here is not None
    until = time.monotonic() + 30
    while len(worker.parts()) < 2 and time.monotonic() < until:
        gevent.sleep(0.001)
    assert len(worker.parts()) >= 2, "again and again, by itself"
    before = len(worker.parts())
    shipping.ship()
    assert len(worker.parts()) == before + 1


def test_both_are_registered_with_locust(monkeypatch):
    hook = type(Events().init)()
    for module in (shipping, clocks):
        monkeypatch.setattr(module, "events", types.SimpleNamespace(init=hook))
        module.register()
    assert hook._handlers == [shipping._start, clocks._start]


@pytest.mark.parametrize(("name", "remote"), [("", False), ("another machine", True)])
def test_a_worker_learns_whether_its_master_s_clock_is_its_own(name, remote, monkeypatch):
    master, worker = Master(), Worker()
    there = started(master)
    here = started(worker)
    clock = Clock.here
    assert clock is not None
    assert clock.remote is None
    assert clocks.members() == {}, "nobody has answered"
    for _ in range(5):
        asked = time.time_ns()
        data = {"asked": asked, "machine": name or clocks.machine()}
        master.hear(there, clocks.ASK, data, node="w7")
        answer, data, client = master.sent[-1]
        assert (answer, client, data["asked"]) == (clocks.ANSWER, "w7", asked)
        assert asked <= data["heard"] <= data["answered"] <= time.time_ns()
        worker.hear(here, answer, data)
    assert clock.remote is remote
    found = clocks.members()
    assert bool(found) is remote
    if remote:
        assert abs(found["offset_ns"]) <= found["error_ns"] < 1_000_000_000


def test_a_worker_asks_until_it_knows_that_it_needs_not(monkeypatch):
    monkeypatch.setattr(clocks, "EAGER_EVERY", 0.001)
    worker = Worker()
    here = started(worker)
    until = time.monotonic() + 30
    while len(worker.sent) < 3 and time.monotonic() < until:
        gevent.sleep(0.001)
    name, data, _ = worker.sent[0]
    assert (name, data["machine"]) == (clocks.ASK, clocks.machine())
    now = time.time_ns()
    worker.hear(here, clocks.ANSWER, {"asked": now, "heard": now, "answered": now, "same": True})
    gevent.sleep(0.01)
    count = len(worker.sent)
    gevent.sleep(0.02)
    assert len(worker.sent) == count


def test_a_worker_asks_quickly_at_first_and_then_slowly(monkeypatch):
    monkeypatch.setattr(clocks, "EAGER", 3)
    waits = []
    monkeypatch.setattr(clocks, "gevent", types.SimpleNamespace(spawn=lambda asks: None, sleep=waits.append))
    worker = Worker()
    clock = Clock(worker)
    monkeypatch.setattr(worker, "send_message", lambda *_: setattr(clock, "remote", False if len(waits) == 5 else None))
    clock._ask()
    assert waits == [0.05, 0.05, 1.0, 1.0, 1.0, 1.0]


def test_a_machine_has_one_name_for_all_its_processes(monkeypatch):
    assert clocks.machine() == clocks.machine() != ""
    monkeypatch.setenv("WORKBENCH_MACHINE", "two")
    assert clocks.machine() == "two"
