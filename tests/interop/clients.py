"""Real clients for the tests: Node scripts told and telling in lines of JSON, a headless Chromium, an authorisation route."""

from __future__ import annotations

import json
import os
import queue
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from sim.pusher import auth

HERE = Path(__file__).parent
INSTALL = "cd tests/interop && npm install --no-package-lock --ignore-scripts"
PATIENCE = 20.0


def need_node() -> str:
    """Node, with this folder's packages; skips loudly without."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node is not installed (apt-get install nodejs npm): real clients were NOT tested")
    wanted = json.loads((HERE / "package.json").read_text())["dependencies"]
    missing = [name for name in wanted if not (HERE / "node_modules" / name / "package.json").is_file()]
    if missing:
        pytest.skip(f"npm packages are missing ({', '.join(missing)}; {INSTALL}): real clients were NOT tested")
    return node


def need_chromium() -> str:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("chromium is not installed (apt-get install chromium): the browser page was NOT tested")
    return chromium


class Told:
    """What a client says, in order."""

    def __init__(self) -> None:
        self._queue: queue.Queue[dict[str, Any]] = queue.Queue()
        self.seen: list[dict[str, Any]] = []

    def put(self, message: dict[str, Any]) -> None:
        self._queue.put(message)

    def expect(self, what: str, **members: Any) -> dict[str, Any]:
        """Skip to the next message of this kind that has these members."""
        limit = time.monotonic() + PATIENCE
        while True:
            try:
                message = self._queue.get(timeout=max(0.01, limit - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no {what} {members} came; before: {self.seen[-8:]}") from None
            self.seen.append(message)
            assert message["what"] != "ended", message["stderr"]
            if message["what"] == what and all(message.get(name) == value for name, value in members.items()):
                return message


class Script(Told):
    """A Node script of this folder."""

    def __init__(self, name: str, config: dict[str, Any]) -> None:
        super().__init__()
        command = [need_node(), name, json.dumps(config)]
        self.process = subprocess.Popen(
            command, cwd=HERE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.put(json.loads(line))
        assert self.process.stderr is not None
        self.put({"what": "ended", "stderr": self.process.stderr.read()})

    def tell(self, command: str, **options: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"command": command, **options}) + "\n")
        self.process.stdin.flush()

    def __enter__(self) -> Script:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()


Route = Callable[[BaseHTTPRequestHandler, bytes], tuple[int, str, bytes]]


@contextmanager
def http_server(route: Route) -> Iterator[str]:
    """A small HTTP server; *route* answers (status, media type, body). Yields its root."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, media_type, answer = route(self, body)
            self.send_response(status)
            self.send_header("Content-Type", media_type)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST = handle_any

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def authorising(key: str, secret: str, shared_secret: str = "") -> Route:
    """The application's `/broadcasting/auth`: everybody may do everything but see `private-servers.99`."""

    def route(request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, str, bytes]:
        form = {name: values[0] for name, values in parse_qs(body.decode()).items()}
        socket_id, channel = form["socket_id"], form["channel_name"]
        if channel == "private-servers.99":
            return 403, "application/json", b"{}"
        answer: dict[str, str] = {}
        if channel.startswith("presence-"):
            answer["channel_data"] = json.dumps({"user_id": "42", "user_info": {"name": "Ada"}})
        answer["auth"] = auth.channel_auth(key, secret, socket_id, channel, answer.get("channel_data", ""))
        if channel.startswith("private-encrypted-"):
            answer["shared_secret"] = shared_secret
        return 200, "application/json", json.dumps(answer).encode()

    return route


@contextmanager
def browser(url: str) -> Iterator[subprocess.Popen[bytes]]:
    """Debian's Chromium, headless, on *url*."""
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
    flags += ["--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--remote-debugging-port=0"]
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        command = [need_chromium(), *flags, f"--user-data-dir={profile}", url]
        environment = os.environ | {"TMPDIR": profile}  # else its sockets stay in the machine's
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
