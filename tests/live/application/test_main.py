"""The application on real sockets: HTTP as clients speak it, the publisher, the queues, many writers at once."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest

from sim.brokeforge.application import Visit
from sim.brokeforge.broadcasting.dispatcher import BroadcastEvent, BroadcastFailed
from sim.brokeforge.broadcasting.events import ServerUpdated
from sim.brokeforge.http import MAX_BODY, Response
from sim.distributions import Constant
from sim.live.application import edge
from sim.live.application.edge import OpenConnections, ServedConnection
from sim.live.application.job_runner import JobRunner
from sim.live.application.main import CHANGES, MAX_THREADS, StandardInput, Workers, make_application, obey, threads
from sim.live.application.publishing import BroadcasterAddress, HttpBroadcasterClient
from sim.live.application.queue import ThreadQueue
from sim.live.application.redis_queue import RedisCache, RedisQueue
from sim.live.serve import Options, embedded_target, prepare_database
from sim.live.sockets import bound
from sim.pusher.auth import verify_request
from sim.scenario import Api, Fleet, Scenario
from tests.live.broadcasters import eventually

pytestmark = pytest.mark.loopback


class FakeBroadcaster(threading.Thread):
    """Answers `POST /apps/1/events` with what the test says, and remembers the bodies."""

    def __init__(self, answers: list[bytes] | None = None) -> None:
        super().__init__(daemon=True)
        self.bodies: list[dict[str, Any]] = []
        self.heads: list[str] = []
        self.answers = answers or []
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]

    def run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        stream = connection.makefile("rb")
        while head := stream.readline():
            length = 0
            while (line := stream.readline().strip()) != b"":
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            self.heads.append(head.decode())
            self.bodies.append(json.loads(stream.read(length)))
            answer = self.answers.pop(0) if self.answers else b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
            if answer == b"hang up":
                break
            connection.sendall(answer)
        connection.close()

    def close(self) -> None:
        self._listener.close()

    @property
    def address(self) -> BroadcasterAddress:
        return BroadcasterAddress("127.0.0.1", self.port, "1", "key", "secret")


@pytest.fixture
def broadcaster() -> Iterator[FakeBroadcaster]:
    fake = FakeBroadcaster()
    fake.start()
    yield fake
    fake.close()


# --- publishing ---


def test_a_publish_is_signed_and_keeps_its_connection(broadcaster: FakeBroadcaster) -> None:
    http = HttpBroadcasterClient(broadcaster.address)
    http.trigger("App\\Events\\ServerUpdated", '{"server_id":7}', ["private-servers.7"], None)
    http.trigger("App\\Events\\ServerUpdated", '{"server_id":7}', ["private-servers.7", "private-servers"], "1.2")
    assert broadcaster.bodies == [
        {"name": "App\\Events\\ServerUpdated", "data": '{"server_id":7}', "channel": "private-servers.7"},
        {
            "name": "App\\Events\\ServerUpdated",
            "data": '{"server_id":7}',
            "channels": ["private-servers.7", "private-servers"],
            "socket_id": "1.2",
        },
    ]
    assert broadcaster.connections == 1
    path, _, query = broadcaster.heads[0].split()[1].partition("?")
    params = dict(pair.split("=") for pair in query.split("&"))
    body = b'{"name":"App\\\\Events\\\\ServerUpdated","data":"{\\"server_id\\":7}","channel":"private-servers.7"}'
    assert verify_request("secret", "POST", path, params, body)


def test_a_kept_connection_that_was_closed_is_made_anew(broadcaster: FakeBroadcaster) -> None:
    http = HttpBroadcasterClient(broadcaster.address)
    http.trigger("a", "{}", ["x"], None)
    broadcaster.answers = [b"hang up"]
    http.trigger("b", "{}", ["x"], None)
    assert [b["name"] for b in broadcaster.bodies] == ["a", "b", "b"]
    assert broadcaster.connections == 2


def test_a_broadcaster_that_closes_after_each_answer_is_served_by_new_connections(broadcaster: FakeBroadcaster) -> None:
    broadcaster.answers = [b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"] * 2
    http = HttpBroadcasterClient(broadcaster.address)
    for _ in range(2):
        http.trigger("a", "{}", ["x"], None)
    assert broadcaster.connections == 2


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.1 401 No\r\nContent-Length: 4\r\n\r\nnope", b"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n", b"garbage\r\n\r\n"],
)
def test_any_other_answer_is_a_failure(broadcaster: FakeBroadcaster, answer: bytes) -> None:
    broadcaster.answers = [answer]
    with pytest.raises(BroadcastFailed):
        HttpBroadcasterClient(broadcaster.address).trigger("a", "{}", ["x"], None)


def test_nobody_there_and_nobody_answering_are_failures_in_time() -> None:
    silent = socket.create_server(("127.0.0.1", 0))
    address = BroadcasterAddress("127.0.0.1", silent.getsockname()[1], "1", "key", "secret")
    started = time.monotonic()
    with pytest.raises(BroadcastFailed):
        HttpBroadcasterClient(address, timeout=0.1).trigger("a", "{}", ["x"], None)
    silent.close()
    with pytest.raises(BroadcastFailed):
        HttpBroadcasterClient(address).trigger("a", "{}", ["x"], None)
    assert time.monotonic() - started < 5


# --- queues ---


def test_a_thread_queue_works_what_is_due_in_order() -> None:
    done: list[int] = []
    all_done = threading.Event()

    def work(job: BroadcastEvent) -> None:
        done.append(job.event.id)
        if len(done) == 3:
            all_done.set()

    queue = ThreadQueue(1)
    queue.push(BroadcastEvent(ServerUpdated(3)), 0.1)
    queue.push(BroadcastEvent(ServerUpdated(1)), 0.0)
    queue.push(BroadcastEvent(ServerUpdated(2)), 0.0)
    assert len(queue) == 3
    queue.start(work)
    assert all_done.wait(5)
    queue.close()
    assert done == [1, 2, 3]


def test_workers_of_a_queue_work_side_by_side_and_survive_a_failure() -> None:
    both = threading.Barrier(2, timeout=5)
    met = threading.Event()

    def work(job: BroadcastEvent) -> None:
        if job.event.id == 9:
            raise RuntimeError
        both.wait()
        met.set()

    queue = ThreadQueue(2)
    queue.start(work)
    for server in (9, 1, 2):
        queue.push(BroadcastEvent(ServerUpdated(server)), 0.0)
    assert met.wait(5)
    queue.close()


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("NOT TESTED: redis-server is not installed")
    place = tmp_path_factory.mktemp("redis")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(place)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            break
        except OSError:
            time.sleep(0.05)
    yield f"redis://127.0.0.1:{port}/0"
    process.terminate()
    process.wait(10)


@pytest.mark.service
def test_a_redis_queue_is_shared_and_keeps_jobs_whole(redis_url: str) -> None:
    jobs = [BroadcastEvent(ServerUpdated(n, 2), members={"update": n}, token="t", attempt=2) for n in range(20)]
    done: list[BroadcastEvent] = []
    all_done = threading.Event()

    def work(job: BroadcastEvent) -> None:
        done.append(job)
        if len(done) == len(jobs):
            all_done.set()

    producer, consumers = RedisQueue(redis_url, name="q1"), [RedisQueue(redis_url, 2, name="q1") for _ in range(2)]
    for n, job in enumerate(jobs):
        producer.push(job, 0.0 if n % 2 else 0.05)
    assert len(producer) == 20
    for consumer in consumers:
        consumer.start(work)
    assert all_done.wait(10)
    assert sorted(done, key=lambda job: job.members["update"]) == jobs
    assert len(producer) == 0
    for queue in (producer, *consumers):
        queue.close()


@pytest.mark.service
def test_locks_and_tokens_in_redis_are_everybodys(redis_url: str) -> None:
    mine, yours = RedisCache(redis_url, "c1"), RedisCache(redis_url, "c1")
    assert mine.add("k", "1", 10)
    assert not yours.add("k", "2", 10)
    assert yours.get("k") == "1"
    yours.forget("k")
    assert mine.get("k") is None
    mine.put("k", "3", 0.01)
    time.sleep(0.05)
    assert yours.add("k", "4", 10)


@pytest.mark.service
def test_jobs_of_two_processes_go_through_one_redis(redis_url: str) -> None:
    scenario = Scenario(fleet=Fleet(users=1)).replace({"broadcast.dispatch": "queued", "broadcast.unique": True})
    with embedded_target(scenario, Options(api_port=0, reverb_port=0, redis=redis_url, processes=2)) as serving:
        target = serving.target
        host, port = urlsplit(target.api).hostname, urlsplit(target.api).port
        published = 0
        for n in range(6):
            body = json.dumps({"status": "installing" if n % 2 == 0 else "completed"})
            connection = http.client.HTTPConnection(host or "", port or 0, timeout=10)
            connection.request("PUT", "/servers/1/provision/x", body, {"Authorization": f"Bearer {target.users[0].token}"})
            assert connection.getresponse().status == 200
        deadline = time.monotonic() + 10
        while published < 1 and time.monotonic() < deadline:
            time.sleep(0.05)
            # Each process counts for itself; a new connection reaches either.
            connection = http.client.HTTPConnection(host or "", port or 0, timeout=10)
            connection.request("GET", "/metrics")
            text = connection.getresponse().read().decode()
            published += text.count("broadcast_published_total{")
        assert published


def test_a_redis_that_is_gone_is_an_os_error_for_the_queue_and_grants_every_lock() -> None:
    nowhere = "redis://127.0.0.1:1/0"
    with pytest.raises(OSError, match="refused"):
        RedisQueue(nowhere).push(BroadcastEvent(ServerUpdated(1)), 0)
    cache = RedisCache(nowhere)
    assert cache.add("k", "1", 1)
    assert cache.get("k") is None
    cache.put("k", "1", 1)
    cache.forget("k")


# --- the whole process, in this one ---


class Running:
    """An application on a port, its loop in a thread."""

    def __init__(self, config: dict[str, Any], fleet: Fleet) -> None:
        scenario = Scenario(fleet=fleet)
        self.users = prepare_database(config["database"], scenario, [], volatile=True)
        self.app, self.queue, self.jobs = make_application(config)
        self.listener = bound("127.0.0.1", 0)
        self.port: int = self.listener.getsockname()[1]
        self.loop = asyncio.new_event_loop()
        self.connections = OpenConnections(1_000)
        self.workers = Workers(self.app, self.loop)
        self.station = self.workers.station
        self._server = self.loop.run_until_complete(
            self.loop.create_server(lambda: ServedConnection(self.app, self.station, self.connections), sock=self.listener)
        )
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self.jobs.close()
        self.queue.close()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.connections.drain()
        self._server.close()
        self.loop.run_until_complete(asyncio.sleep(0))
        self.workers.close()
        self.loop.close()
        self.app.database.close()

    def head(self, method: str, path: str, user: int = 1, length: int | None = None, more: str = "") -> bytes:
        body = "" if length is None else f"Content-Length: {length}\r\n"
        token = self.users[user - 1].token
        return f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n{body}{more}\r\n".encode()

    def put(self, server: int, step: str, status: str) -> bytes:
        body = json.dumps({"status": status}).encode()
        return self.head("PUT", f"/servers/{server}/provision/{step}", (server + 1) // 2, len(body)) + body


@contextmanager
def connected(running: Running) -> Iterator[tuple[socket.socket, Any]]:
    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as client, client.makefile("rb") as stream:
        yield client, stream


def answer(stream: Any) -> tuple[int, dict[str, str], bytes]:
    """The next answer on a connection."""
    status = int(stream.readline().split()[1])
    headers = {}
    while (line := stream.readline().strip()) != b"":
        name, _, value = line.decode().partition(":")
        headers[name.lower()] = value.strip()
    return status, headers, stream.read(int(headers.get("content-length", 0)))


@pytest.fixture
def running(tmp_path: Path, broadcaster: FakeBroadcaster) -> Iterator[Running]:
    config = {
        "database": f"sqlite:///{tmp_path / 'app.sqlite'}",
        "volatile": True,
        "broadcaster": {"host": "127.0.0.1", "port": broadcaster.port, "app_id": "1", "key": "key", "secret": "secret"},
    }
    app = Running(config, Fleet(users=4, servers_per_user=2, sites_per_user=1))
    yield app
    app.stop()


def test_keep_alive_head_and_pipelining_in_order(running: Running) -> None:
    with connected(running) as (client, stream):
        client.sendall(
            running.head("GET", "/servers/1") + running.put(1, "nginx", "installing") + running.head("GET", "/servers/1")
        )
        first, change, second = (json.loads(answer(stream)[2]) for _ in range(3))
        assert (first["version"], change["version"], second["version"]) == (1, 2, 2)
        client.sendall(running.head("HEAD", "/servers/1"))
        assert stream.readline() == b"HTTP/1.1 200 OK\r\n"
        while (line := stream.readline()) != b"\r\n":
            assert line
        client.sendall(running.head("GET", "/up", more="Connection: close\r\n"))
        assert answer(stream)[2] == b'{"health":"OK"}'
        assert stream.read() == b""


def test_every_answer_says_when(running: Running) -> None:
    with connected(running) as (client, stream):
        client.sendall(running.head("GET", "/up"))
        date = parsedate_to_datetime(answer(stream)[1]["date"])
        assert abs(date.timestamp() - time.time()) < 5


def test_a_request_that_comes_in_pieces(running: Running) -> None:
    with connected(running) as (client, stream):
        for byte in running.put(1, "nginx", "installing"):
            client.sendall(bytes([byte]))
        assert answer(stream)[0] == 200


def test_a_chunked_body(running: Running) -> None:
    head = running.head("PUT", "/servers/1/provision/nginx", more="Transfer-Encoding: chunked\r\n")
    with connected(running) as (client, stream):
        client.sendall(head + b'c\r\n{"status": "\r\n' + b'c\r\ninstalling"}\r\n' + b"0\r\n\r\n")
        assert answer(stream)[0] == 200


@pytest.mark.parametrize(
    ("bytes_", "status"),
    [
        (b"hello there\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 431),
        (b"GET /up HTTP/1.1\r\n\r\n", 400),
        (b"GET /up HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        (b"GET /up HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 20_000 + b"\r\n\r\n", 431),
        (b"PUT /servers/1/provision/x HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n", 413),
        (
            b"PUT /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"x=y;" * 100_000,
            413,
        ),
        (
            b"PUT /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            + b"%x\r\n" % (MAX_BODY + 1)
            + b"x" * (MAX_BODY + 1)
            + b"\r\n",
            413,
        ),
    ],
)
def test_what_is_not_http_or_too_much_of_it_is_answered_and_hung_up_on(running: Running, bytes_: bytes, status: int) -> None:
    with connected(running) as (client, stream):
        client.sendall(bytes_)
        got, headers, body = answer(stream)
        assert (got, headers["connection"]) == (status, "close")
        assert json.loads(body)["message"]
        assert stream.read() == b""


def test_a_request_for_another_protocol_is_served_as_if_it_did_not_ask(running: Running) -> None:
    """As the broadcaster does, and Java's client expects: it sends one with each plain request."""
    upgrade = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    with connected(running) as (client, stream):
        client.sendall(running.head("GET", "/servers/1", more=upgrade))
        status, headers, body = answer(stream)
        assert (status, headers["connection"], json.loads(body)["version"]) == (200, "close", 1)
        assert stream.read() == b""
    body = json.dumps({"status": "installing"}).encode()
    with connected(running) as (client, stream):
        client.sendall(running.head("PUT", "/servers/1/provision/x", length=len(body), more=upgrade) + body)
        assert json.loads(answer(stream)[2])["version"] == 2
    with connected(running) as (client, stream):
        client.sendall(running.head("GET", "/app/key", more="Connection: Upgrade\r\nUpgrade: websocket\r\n"))
        assert answer(stream)[0] == 404


def test_a_client_that_does_not_read_is_not_served_further(running: Running) -> None:
    """It pipelines and leaves its answers where they are: what is buffered for it has an end, and others are served."""
    request = running.head("GET", "/servers/1")
    served = running.app.metrics
    running.app.factor = 0.0
    with connected(running) as (client, stream), connected(running) as (other, other_stream):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(0.5)
        sent = 0
        try:
            while sent < 20_000:
                client.sendall(request * 100)
                sent += 100
        except TimeoutError:
            pass
        before = -1.0
        while (now := served.value("http_requests_total")) != before:
            before = now
            time.sleep(0.3)
        assert before < sent / 2, "some megabytes are in the kernel; the other answers were not made"
        other.sendall(request)
        assert answer(other_stream)[0] == 200
        client.settimeout(10)
        assert [answer(stream)[0] for _ in range(50)] == [200] * 50, "it reads: its answers are all there, in order"


def test_who_takes_too_long_is_told_and_hung_up_on(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge, "REQUEST_SECONDS", 0.2)
    monkeypatch.setattr(edge, "IDLE_SECONDS", 0.2)
    monkeypatch.setattr(edge, "SWEEP_SECONDS", 0.05)
    sweeping = asyncio.run_coroutine_threadsafe(running.connections.sweep(), running.loop)
    for begun, status in ((b"GET /up HT", 408), (running.head("PUT", "/x", length=100) + b"half", 408), (b"", None)):
        with connected(running) as (client, stream):
            client.sendall(begun)
            if status is not None:
                assert answer(stream)[0] == status
            assert stream.read() == b"", "closed"
    with connected(running) as (client, stream):
        for _ in range(4):  # a request that is served and one that follows are no silence
            client.sendall(running.head("GET", "/up"))
            assert answer(stream)[0] == 200
            time.sleep(0.05)
    sweeping.cancel()


def test_when_descriptors_run_short_new_connections_are_refused(running: Running, caplog: pytest.LogCaptureFixture) -> None:
    running.connections.capacity = 1
    with connected(running) as (client, stream), connected(running) as (_, refused):
        client.sendall(running.head("GET", "/up"))
        assert answer(stream)[0] == 200
        status, headers, _ = answer(refused)
        assert (status, headers["retry-after"], headers["connection"]) == (503, "1", "close")
    assert "out of file descriptors" in caplog.text
    eventually(lambda: len(running.connections) == 0)
    with connected(running) as (client, stream):
        client.sendall(running.head("GET", "/up"))
        assert answer(stream)[0] == 200


def test_what_was_asked_before_the_garbage_still_has_its_turn(running: Running) -> None:
    with connected(running) as (client, stream):
        client.sendall(running.put(1, "nginx", "installing") + b"garbage\r\n\r\n")
        assert [answer(stream)[0] for _ in range(2)] == [200, 400]
        assert stream.read() == b""


def test_many_connections_that_write_at_once_lose_nothing(running: Running, broadcaster: FakeBroadcaster) -> None:
    writers, changes = 8, 10
    answers: list[tuple[int, int, int]] = []

    def write(writer: int) -> None:
        server = 1 + writer % 4
        with connected(running) as (client, stream):
            for n in range(changes):
                client.sendall(running.put(server, f"w{writer}", "installing" if n % 2 == 0 else "completed"))
                status, _, body = answer(stream)
                assert status == 200
                tree = json.loads(body)
                answers.append((server, tree["version"], tree["sequence"]))

    threads_ = [threading.Thread(target=write, args=(n,)) for n in range(writers)]
    for thread in threads_:
        thread.start()
    for thread in threads_:
        thread.join()
    assert sorted(sequence for _, _, sequence in answers) == list(range(1, writers * changes + 1))
    for server in range(1, 5):
        versions = [version for s, version, _ in sorted(answers, key=lambda a: a[2]) if s == server]
        assert versions == list(range(2, 2 + len(versions)))
    told = [b for b in broadcaster.bodies if b["name"].endswith("ServerUpdated")]
    assert len(told) == writers * changes


def test_reads_go_on_while_a_change_waits(tmp_path: Path, broadcaster: FakeBroadcaster) -> None:
    """The race of `on_save`, over sockets: in the window the refetch answers the old version; after it, the new one."""
    config = {
        "database": f"sqlite:///{tmp_path / 'app.sqlite'}",
        "volatile": True,
        "broadcaster": {"host": "127.0.0.1", "port": broadcaster.port, "app_id": "1", "key": "key", "secret": "secret"},
        # With one worker there is no race: the refetch waits until the change has its answer.
        "scenario": {"broadcast": {"moment": "on_save", "commit_delay": 0.3}, "api": {"workers": 2}},
    }
    running = Running(config, Fleet(users=1, servers_per_user=2))
    with connected(running) as (writer, wrote), connected(running) as (reader, read):
        writer.sendall(running.put(1, "nginx", "installing"))
        deadline = time.monotonic() + 5
        while not broadcaster.bodies and time.monotonic() < deadline:
            time.sleep(0.005)
        reader.sendall(running.head("GET", "/servers/1"))
        assert json.loads(answer(read)[2])["version"] == 1
        assert json.loads(answer(wrote)[2])["version"] == 2
        reader.sendall(running.head("GET", "/servers/1"))
        assert json.loads(answer(read)[2])["version"] == 2
    running.stop()


def test_more_than_may_wait_is_503(tmp_path: Path, broadcaster: FakeBroadcaster) -> None:
    config = {
        "database": f"sqlite:///{tmp_path / 'app.sqlite'}",
        "volatile": True,
        "broadcaster": {"host": "127.0.0.1", "port": broadcaster.port, "app_id": "1", "key": "key", "secret": "secret"},
        "scenario": {"api": {"database_latency": 0.05, "workers": 1, "queue_limit": 1}},
    }
    running = Running(config, Fleet(users=1))
    with connected(running) as (a, a_read), connected(running) as (b, b_read), connected(running) as (c, c_read):
        for client in (a, b):
            client.sendall(running.head("GET", "/servers/1"))
        time.sleep(0.05)
        c.sendall(running.head("GET", "/servers/1"))
        assert answer(c_read)[0] == 503
        assert (answer(a_read)[0], answer(b_read)[0]) == (200, 200)
    running.stop()


def test_threads_are_bounded() -> None:
    shared = [Api(workers=n, save=Constant(0.01)) for n in (1, 3, 10_000)]
    assert [threads(api) for api in shared] == [1, 3, MAX_THREADS]
    assert [threads(Api(workers=n)) for n in (1, 10_000)] == [1 + CHANGES, MAX_THREADS], "changes need none of the workers"


def test_connections_to_the_database_are_bounded_by_threads_however_many_requests_come(
    tmp_path: Path, broadcaster: FakeBroadcaster
) -> None:
    """Each thread keeps one for reads, and has at most one for its change at a time; the loop's thread reads as well."""
    config = {
        "database": f"sqlite:///{tmp_path / 'app.sqlite'}",
        "volatile": True,
        "broadcaster": {"host": "127.0.0.1", "port": broadcaster.port, "app_id": "1", "key": "key", "secret": "secret"},
        "scenario": {"api": {"workers": 1}},
    }
    running = Running(config, Fleet(users=1, servers_per_user=2))
    most = threads(running.app.api) + 1
    together, work = threading.Barrier(most), running.app.answer

    def answer_together(visit: Visit) -> Response:
        if visit.changes:
            together.wait(60)  # every thread has one, so every thread there may be is there
        return work(visit)

    running.app.answer = answer_together  # type: ignore[method-assign]

    def write(writer: int) -> None:
        with connected(running) as (client, stream):
            for status in ("installing", "completed"):
                client.sendall(running.put(1 + writer % 2, f"w{writer}", status))
                assert answer(stream)[0] == 200
                client.sendall(running.head("GET", "/servers/1"))
                assert answer(stream)[0] == 200

    for _ in range(3):
        with ThreadPoolExecutor(most) as writers:
            list(writers.map(write, range(most)))
        files = Counter(Path(file.path).name for file in psutil.Process().open_files())
        # One for reads each was kept, so this is the level at which requests without a bound would show.
        assert most + 1 <= files["app.sqlite"] <= 2 * most + 1
        assert broadcaster.connections <= most
    running.stop()


def test_jobs_run_in_the_background_and_stop_when_told(running: Running) -> None:
    body = json.dumps({"job": "log", "lines": 10_000, "per_second": 100}).encode()
    with connected(running) as (client, stream):
        client.sendall(running.head("POST", "/servers/1/jobs", length=len(body)) + body)
        assert answer(stream)[0] == 202
        deadline = time.monotonic() + 5
        version = 1
        while version < 4 and time.monotonic() < deadline:
            client.sendall(running.head("GET", "/servers/1"))
            version = json.loads(answer(stream)[2])["version"]
        assert version >= 4
    assert len(running.jobs) == 1
    running.jobs.close()
    assert len(running.jobs) == 0


def test_only_so_many_jobs_run_at_once(running: Running) -> None:
    released = threading.Event()

    class Waits:
        def handle(self, forge: Any) -> Iterator[float]:
            released.wait(5)
            yield 0.0

    runner = JobRunner(running.app, most=2)
    assert [runner.start(Waits()) for _ in range(3)] == [True, True, False]
    released.set()
    runner.close()
    assert len(runner) == 0


# --- service time and controls ---


def test_a_refetch_takes_the_time_that_the_scenario_says(tmp_path: Path, broadcaster: FakeBroadcaster) -> None:
    config = {
        "database": f"sqlite:///{tmp_path / 'app.sqlite'}",
        "volatile": True,
        "broadcaster": {"host": "127.0.0.1", "port": broadcaster.port, "app_id": "1", "key": "key", "secret": "secret"},
        "scenario": {"api": {"service": 0.15, "workers": 2, "save": 0.2}},
    }
    running = Running(config, Fleet(users=1))
    pages = [socket.create_connection(("127.0.0.1", running.port), timeout=10) for _ in range(4)]
    started = time.monotonic()
    for page in pages:
        page.sendall(running.head("GET", "/servers/1"))
    for page in pages:
        with page.makefile("rb") as stream:
            assert answer(stream)[0] == 200
    assert time.monotonic() - started >= 0.3, "two workers, four requests: two after the other"
    started = time.monotonic()
    with connected(running) as (client, stream):
        client.sendall(running.put(1, "nginx", "installing"))
        assert answer(stream)[0] == 200
    assert time.monotonic() - started >= 0.2
    for page in pages:
        page.close()
    running.stop()


def test_controls_are_lines_of_standard_input(running: Running, caplog: pytest.LogCaptureFixture) -> None:
    read, write = os.pipe()
    os.write(write, b'{"first": 1}\n{"asset_')
    controls = StandardInput(read)
    assert controls.read_line() == '{"first": 1}'
    bad = [b"nonsense", b"[1]", b"{}", b'{"speed": 1}', b'{"slowdown": -1}', b'{"slowdown": "x"}', b'{"outage": "x"}']
    os.write(write, b'version": "2"}\n' + b"\n".join(bad) + b'\n{"outage": true}\n{"slowdown": 3}\n')
    running.loop.call_soon_threadsafe(controls.follow, running.loop, lambda line: obey(line, running.app, running.station))
    eventually(lambda: running.app.factor == 3.0)
    with connected(running) as (client, stream):
        client.sendall(running.head("GET", "/servers/1"))
        eventually(lambda: running.station.waiting == 1)
        os.write(write, b'{"outage": false, "slowdown": 1}\n')
        os.close(write)
        assert answer(stream)[0] == 200
    assert (running.app.factor, running.app.asset_version) == (1.0, "2")
    assert [record.message.split(":")[0] for record in caplog.records] == ["not a control"] * len(bad)
    os.close(read)


def test_what_became_of_each_event_is_written_down(tmp_path: Path, broadcaster: FakeBroadcaster) -> None:
    config = {
        "database": f"sqlite:///{tmp_path / 'app.sqlite'}",
        "volatile": True,
        "broadcaster": {"host": "127.0.0.1", "port": broadcaster.port, "app_id": "1", "key": "key", "secret": "secret"},
        "scenario": {"broadcast": {"dispatch": "queued", "unique": True, "queue_latency": 0.2, "provision_event": False}},
        "members": True,
        "outcomes": str(tmp_path / "outcomes.jsonl"),
    }
    running = Running(config, Fleet(users=1))
    with connected(running) as (client, stream):
        for update, status in enumerate(("installing", "completed")):
            body = json.dumps({"status": status}).encode()
            head = running.head("PUT", "/servers/1/provision/x", 1, len(body), f"X-Workbench-Update: {update}\r\n")
            client.sendall(head + body)
            assert json.loads(answer(stream)[2])["broadcast"] is (update == 0)
    rows: list[dict[str, Any]] = []

    def both() -> bool:
        rows[:] = [json.loads(line) for line in (tmp_path / "outcomes.jsonl").read_text().splitlines()]
        return len(rows) == 2

    eventually(both)
    running.stop()
    assert [(row["update"], row["outcome"], row["reason"]) for row in rows] == [(1, "dropped", "unique"), (0, "accepted", "")]
    assert rows[0]["at"] is None
    assert abs(rows[1]["at"] - time.time_ns()) < 60e9
