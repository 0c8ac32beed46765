"""`workbench serve`: both servers up, the descriptor, a change that arrives, and nothing left behind however it ends."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from sim.cli import main
from sim.errors import BadInput
from sim.live.serve import Options, embedded_target, request_size
from sim.scenario import Broadcast, Fleet, Scenario
from sim.target import Account, Target

pytestmark = pytest.mark.loopback

PATIENCE = 30.0
SMALL = Scenario(fleet=Fleet(users=2))


@contextmanager
def serve(tmp_path: Path, *flags: str) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """`workbench serve` as a user starts it, on free ports; its temporary files below *tmp_path*."""
    ready = tmp_path / "target.json"
    command = [sys.executable, "-m", "sim", "serve", "--ready-file", str(ready), "--api-port", "0", "--reverb-port", "0", *flags]
    scratch = tmp_path / "scratch"
    scratch.mkdir(exist_ok=True)
    environment = {**os.environ, "TMPDIR": str(scratch)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        yield process, ready
    finally:
        process.kill()
        process.communicate()


def wait_for(path: Path, process: subprocess.Popen[str]) -> Target:
    deadline = time.monotonic() + PATIENCE
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return Target.read(path)


def request(
    target: Target, method: str, path: str, user: Account, body: object = None, form: str | None = None
) -> tuple[int, dict]:
    connection = http.client.HTTPConnection(urlsplit(target.api).netloc, timeout=10)
    headers = {"Authorization": f"Bearer {user.token}"}
    text = form if form is not None else None if body is None else json.dumps(body)
    if form is not None:
        headers["Content-Type"] = "application/x-www-form-urlencoded"
    connection.request(method, path, text, headers)
    answer = connection.getresponse()
    tree = json.loads(answer.read())
    connection.close()
    return answer.status, tree


def subscribed(target: Target, user: Account, *channels: str):  # type: ignore[no-untyped-def]
    """A WebSocket that has subscribed to *channels* as Echo does."""
    socket_ = connect(f"{target.websocket_url}?protocol=7", legacy=True)
    socket_id = json.loads(json.loads(socket_.recv(timeout=10))["data"])["socket_id"]
    for channel in channels:
        status, auth = request(target, "POST", "/broadcasting/auth", user, form=f"socket_id={socket_id}&channel_name={channel}")
        assert status == 200
        socket_.send(json.dumps({"event": "pusher:subscribe", "data": {"channel": channel, **auth}}))
        assert json.loads(socket_.recv(timeout=10))["event"] == "pusher_internal:subscription_succeeded"
    return socket_


def gone(pids: list[int]) -> bool:
    deadline = time.monotonic() + PATIENCE
    while any(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_a_change_arrives_at_who_listens_and_the_end_is_clean(tmp_path: Path) -> None:
    with serve(tmp_path, "--users", "3", "--servers-per-user", "2", "--sites-per-user", "2") as (process, ready):
        target = wait_for(ready, process)
        assert [(u.id, u.servers, u.sites) for u in target.users] == [
            (1, (1, 2), (1, 2)),
            (2, (3, 4), (3, 4)),
            (3, (5, 6), (5, 6)),
        ]
        assert stat.S_IMODE(ready.stat().st_mode) == 0o600, "it holds tokens and a secret"
        user = target.users[0]
        listener = subscribed(target, user, "private-servers.1", "private-servers")
        status, answer = request(target, "PUT", "/servers/1/provision/nginx", user, {"status": "installing"})
        assert (status, answer["version"], answer["sequence"]) == (200, 2, 1)
        frames = [json.loads(listener.recv(timeout=10)) for _ in range(2)]
        assert [(f["event"], f["channel"]) for f in frames] == [
            ("App\\Events\\ServerUpdated", "private-servers.1"),
            ("App\\Events\\ServerUpdated", "private-servers"),
        ]
        assert json.loads(frames[0]["data"]).keys() == {"server_id", "timestamp"}
        status, page = request(target, "GET", "/servers/1", user)
        assert (page["version"], page["provision"]["nginx"]) == (2, "installing")
        children = [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
        assert len(children) == 2
        for pid in children:
            assert target.secret not in " ".join(psutil.Process(pid).cmdline()), "secrets are in no process list"
        process.send_signal(signal.SIGTERM)
        out, errors = process.communicate(timeout=PATIENCE)
        listener.close()
    assert (process.returncode, errors) == (0, "")
    assert target.api in out
    assert gone(children)
    assert not ready.exists()
    assert list((tmp_path / "scratch").iterdir()) == []


def test_an_interrupt_while_it_starts_leaves_nothing(tmp_path: Path) -> None:
    with serve(tmp_path) as (process, ready):
        deadline = time.monotonic() + PATIENCE
        parent = psutil.Process(process.pid)
        while not (children := [c.pid for c in parent.children(recursive=True)]) and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE)
    assert process.returncode in (0, 130)
    assert gone(children)
    assert not ready.exists()
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="NOT TESTED: only Linux ends children with their parent")
def test_killed_outright_it_takes_its_children_along(tmp_path: Path) -> None:
    with serve(tmp_path) as (process, ready):
        wait_for(ready, process)
        children = [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
        process.kill()
        process.wait(PATIENCE)
        assert gone(children)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--api-port", "{busy}"], "--api-port {busy}: port is in use"),
        (["--reverb-port", "{busy}"], "--reverb-port {busy}: port is in use"),
        (["--api-port", "70000"], "--api-port must be between 0 and 65535"),
        (["--host", "192.0.2.1"], "cannot listen on 192.0.2.1"),
        (["--database", "oracle://x"], "--database: oracle is not supported"),
        (["--database", "sqlite:////nonexistent/x.db"], "unable to open database file"),
        (["--users", "0"], "--users must be > 0"),
        (["--servers-per-user", "-1"], "--servers-per-user must be >= 0"),
        (["--nodes", "0"], "--nodes must be at least 1"),
        (["--speed", "0"], "--speed must be > 0"),
        (["--provision", "1", "--trace", "nothing"], "'nothing' not found"),
        (["--scenario", "nothing"], "'nothing' not found"),
        (["--set", "broadcast.dispach=queued"], "broadcast.dispach"),
        (["--ready-file", "/nonexistent/target.json"], "cannot write /nonexistent/target.json: its directory does not exist"),
    ],
)
def test_what_cannot_be_served_is_one_line_and_exit_2(
    tmp_path: Path, flags: list[str], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = str(busy.getsockname()[1])
        given = [flag.replace("{busy}", port) for flag in flags]
        code = main(["serve", "--api-port", "0", "--reverb-port", "0", *given])
    out, errors = capsys.readouterr()
    assert code == 2, errors
    assert says.replace("{busy}", port) in errors
    assert errors.count("\n") == 1
    assert (out, list(tmp_path.iterdir())) == ("", [])


def test_for_another_program_in_a_block() -> None:
    with embedded_target(SMALL, Options(api_port=0, reverb_port=0, processes=2, nodes=2)) as serving:
        target, pids = serving.target, serving.pids
        assert set(pids) == {"broadcaster", "application-0", "application-1"}
        listener = subscribed(target, target.users[0], "private-servers.1")
        versions = []
        for n in range(12):
            # A connection each: the kernel spreads them over both processes.
            status = "installing" if n % 2 == 0 else "completed"
            versions.append(request(target, "PUT", "/servers/1/provision/x", target.users[0], {"status": status})[1]["version"])
        assert versions == list(range(2, 14))
        for _ in range(12):
            assert json.loads(listener.recv(timeout=10))["event"] == "App\\Events\\ServerUpdated"
        serving.require_alive()
        listener.close()
    assert gone(list(pids.values()))


def test_what_the_application_complains_of_is_heard() -> None:
    scenario = SMALL.replace({"broadcast.tries": 1})
    with embedded_target(scenario) as serving:
        assert serving.complaints() == []
        assert serving.ended() == []
        serving.parts["broadcaster"][0].stop()
        assert [child.name for child in serving.ended()] == ["broadcaster"]
        answer = request(serving.target, "PATCH", "/servers/1", serving.target.users[0], {"connection": "disconnected"})
        assert (answer[0], answer[1]["version"]) == (200, 2), "the change is committed all the same"
        deadline = time.monotonic() + 5
        while not (said := serving.complaints()) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert len(said) == 1
        assert said[0].startswith("application: brokeforge: ServerUpdated: given up after 1 try: 127.0.0.1:")
        assert serving.complaints() == []


def test_a_part_is_taken_down_and_brought_up_where_it_was() -> None:
    with embedded_target(SMALL) as serving:
        before, port = dict(serving.pids), serving.target.port
        serving.take_down("broadcaster", signal.SIGKILL)
        assert not serving.is_up("broadcaster")
        assert serving.ended() == [], "it was stopped on purpose"
        serving.bring_up("broadcaster")
        deadline = time.monotonic() + PATIENCE
        while not serving.is_up("broadcaster") and time.monotonic() < deadline:
            time.sleep(0.02)
        assert serving.is_up("broadcaster")
        assert serving.target.port == port
        assert serving.pids["broadcaster"] != before["broadcaster"]
        assert serving.pids["application"] == before["application"]
        with subscribed(serving.target, serving.target.users[0], "private-servers") as page:
            assert serving.disconnect(1.0) == 1
            with pytest.raises(ConnectionClosed):
                page.recv(timeout=5)


def test_a_database_of_ones_own_is_kept_and_its_users_too(tmp_path: Path) -> None:
    options = Options(api_port=0, reverb_port=0, database=f"sqlite:///{tmp_path / 'mine.sqlite'}")
    with embedded_target(SMALL, options) as first:
        users = first.target.users
        request(first.target, "PUT", "/servers/1/provision/x", users[0], {"status": "installing"})
    with embedded_target(Scenario(fleet=Fleet(users=5)), options) as second:
        assert second.target.users == users
        assert second.notes == ["the database already holds 2 users and is used as it is"]
        assert request(second.target, "GET", "/servers/1", users[0])[1]["version"] == 2


def test_a_provisioning_run_goes_on_and_is_heard() -> None:
    options = Options(api_port=0, reverb_port=0, provision=2, speed=20)
    with embedded_target(SMALL, options) as serving:
        listener = subscribed(serving.target, serving.target.users[0], "private-servers")
        heard = {json.loads(json.loads(listener.recv(timeout=20))["data"])["server_id"] for _ in range(30)}
        listener.close()
    assert len(heard) >= 2


def test_a_queue_of_its_own_delivers_too() -> None:
    scenario = SMALL.replace({"broadcast.dispatch": "queued", "broadcast.queue_workers": 2, "broadcast.payload": "full"})
    with embedded_target(scenario) as serving:
        target = serving.target
        listener = subscribed(target, target.users[0], "private-servers.1")
        request(target, "PATCH", "/servers/1", target.users[0], {"connection": "disconnected"})
        frame = json.loads(listener.recv(timeout=10))
        assert json.loads(frame["data"])["server"]["connection"] == "disconnected"
        listener.close()


def test_a_full_payload_needs_room_at_the_broadcaster() -> None:
    assert request_size(Broadcast()) == 10_000, "Reverb's own limit"
    assert request_size(Broadcast(payload="full", payload_bytes=100_000)) > 200_000


def test_a_target_that_cannot_be_served_leaves_nothing() -> None:
    with pytest.raises(BadInput, match="port is in use"), socket.create_server(("127.0.0.1", 0)) as busy:
        embedded_target(SMALL, Options(api_port=busy.getsockname()[1])).__enter__()
