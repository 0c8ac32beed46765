"""For tests: a broadcaster as a process, a client of it that speaks plainly, and a Redis of one's own."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import websocket

from sim.live.broadcaster.main import command
from sim.live.broadcaster.settings import BroadcasterSettings
from sim.live.sockets import free_port
from sim.pusher import auth, messages
from sim.pusher.server.apps import App

APP = App("1001", "app-key", "app-secret")


class Running:
    """A broadcaster that accepts."""

    def __init__(self, process: subprocess.Popen[str], port: int, app: App, log: Path) -> None:
        self.process = process
        self.port = port
        self.app = app
        self._log = log

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8")

    def request(self, method: str, path: str, body: Any = None, params: dict[str, str] | None = None) -> tuple[int, Any]:
        """A signed request: status and decoded body (text when it is no JSON)."""
        data = b"" if body is None else json.dumps(body).encode()
        query = auth.sign_request(self.app.key, self.app.secret, method, path, params or {}, data, int(time.time()))
        return fetch(f"http://127.0.0.1:{self.port}{path}?{query}", method, data or None)

    def publish(self, channels: str | list[str], name: str, data: Any, **members: Any) -> Any:
        where = {"channels": channels} if isinstance(channels, list) else {"channel": channels}
        body = {"name": name, "data": json.dumps(data), **where, **members}
        status, answer = self.request("POST", f"/apps/{self.app.id}/events", body)
        assert status == 200, answer
        return answer

    def metric(self, name: str) -> float:
        text = fetch(f"http://127.0.0.1:{self.port}/metrics")[1]
        return next(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(f"broadcaster_{name}"))


def fetch(url: str, method: str = "GET", data: bytes | None = None) -> tuple[int, Any]:
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            status, text = answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        status, text = error.code, error.read().decode()
    try:
        return status, json.loads(text)
    except ValueError:
        return status, text


@contextmanager
def broadcaster(app: App = APP, **settings: Any) -> Iterator[Running]:
    """Start one on a free port (or `port=`), stop it afterwards."""
    whole = BroadcasterSettings(**({"apps": (app,), "port": 0} | settings))
    with tempfile.NamedTemporaryFile(suffix=".log", delete=False) as log:
        process = subprocess.Popen(command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(whole.to_json())
        process.stdin.close()
        line = process.stdout.readline()
        assert line, Path(log.name).read_text()
        yield Running(process, json.loads(line)["port"], app, Path(log.name))
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(20)
        finally:
            process.kill()
            assert process.stdout is not None
            process.stdout.close()
            Path(log.name).unlink()


class Client:
    """One WebSocket connection; frames come as dictionaries with `data` decoded."""

    def __init__(self, server: Running, **options: Any) -> None:
        self.server = server
        url = f"ws://127.0.0.1:{server.port}/app/{server.app.key}?protocol=7&client=test"
        self.socket = websocket.create_connection(url, timeout=5, **options)
        self.socket_id = self.receive()["data"]["socket_id"]

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close(timeout=0.1)

    def send(self, text: str) -> None:
        self.socket.send(text)

    def receive(self, timeout: float = 5) -> dict[str, Any]:
        self.socket.settimeout(timeout)
        frame = json.loads(self.socket.recv())
        if isinstance(frame.get("data"), str):
            frame["data"] = json.loads(frame["data"])
        return frame

    def subscribe(self, channel: str, user: Any = None) -> dict[str, Any]:
        """Subscribe, signed where the kind needs it; returns the answer."""
        app = self.server.app
        channel_data = None if user is None else json.dumps(user)
        signature = ""
        if channel.startswith(("private-", "presence-")):
            signature = auth.channel_auth(app.key, app.secret, self.socket_id, channel, channel_data or "")
        self.send(messages.subscribe(channel, signature, channel_data))
        return self.receive()

    def nothing_waits(self) -> bool:
        """Whether a ping's pong is the next thing that comes."""
        self.send(messages.CLIENT_PING)
        return self.receive()["event"] == "pusher:pong"


def redis_server(port: int) -> subprocess.Popen[bytes]:
    """Debian's redis-server on *port*, without persistence; skips the test, loudly, where there is none."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed (apt-get install redis-server)")
    arguments = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", tempfile.gettempdir()]
    process = subprocess.Popen([program, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return process
        except OSError:
            time.sleep(0.02)
    process.kill()
    raise AssertionError("redis-server did not start")


@contextmanager
def redis() -> Iterator[str]:
    """A Redis on a free port; yields its URL."""
    port = free_port()
    process = redis_server(port)
    try:
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait(10)


def eventually(what: Any, seconds: float = 10) -> None:
    """Wait until *what* returns something true."""
    limit = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < limit, "it did not happen"
        time.sleep(0.02)
