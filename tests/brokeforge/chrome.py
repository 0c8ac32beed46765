"""A headless Chromium, driven over its DevTools protocol by nothing but the `websockets` package."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
    "--hide-scrollbars",
    # Timers of a page that nobody looks at are held back; here somebody does.
    "--disable-background-timer-throttling",
    "--disable-renderer-backgrounding",
)
PATIENCE = 30.0


class Tab:
    """One page. `errors` collects what the page reports to its console as an error."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._serial = 0
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.extensions: list[tuple[str, str]] = []
        """WebSocket extensions (offered, accepted), one row for each connection."""
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        self._serial += 1
        self._socket.send(json.dumps({"id": self._serial, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv(timeout=PATIENCE))
            if message.get("id") == self._serial:
                assert "error" not in message, message
                return message["result"]  # type: ignore[no-any-return]
            self._note(message)

    def _note(self, message: dict[str, Any]) -> None:
        params = message.get("params", {})
        match message.get("method"):
            case "Runtime.exceptionThrown":
                self.errors.append(params["exceptionDetails"].get("exception", {}).get("description", "exception"))
            case "Log.entryAdded" if params["entry"]["level"] == "error":
                self.errors.append(params["entry"]["text"])
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])
            case "Network.webSocketHandshakeResponseReceived":
                sides = params["response"].get("requestHeaders", {}), params["response"]["headers"]
                lower = ({name.lower(): value for name, value in headers.items()} for headers in sides)
                offered, accepted = (headers.get("sec-websocket-extensions", "") for headers in lower)
                self.extensions.append((offered, accepted))

    def evaluate(self, expression: str) -> Any:
        """The value of *expression*, awaited if it is a promise."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait_for(self, expression: str, seconds: float = PATIENCE) -> None:
        """Until *expression* is true (an element counts as true)."""
        deadline = time.monotonic() + seconds
        while not self.evaluate(f"!!({expression})"):
            assert time.monotonic() < deadline, f"never became true: {expression} ({self.errors})"
            time.sleep(0.05)

    def open(self, url: str, width: int = 1400, height: int = 900) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.call("Page.navigate", url=url)

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))


@contextlib.contextmanager
def tab(*flags: str) -> Iterator[Tab]:
    """A tab of a fresh browser, started with *flags* besides the usual; skips where Chromium is not installed."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("NOT TESTED: chromium is not installed")
    with tempfile.TemporaryDirectory(prefix="board-", ignore_cleanup_errors=True) as profile:
        command = [program, *FLAGS, *flags, f"--user-data-dir={profile}", "about:blank"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        # The sockets of its profile are in the temporary directory, and stay there where it is ended from outside.
        process = subprocess.Popen(command, **quiet, start_new_session=True, env=os.environ | {"TMPDIR": profile})
        try:
            port = _port(Path(profile) / "DevToolsActivePort", process)
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=PATIENCE) as answer:
                address = next(t["webSocketDebuggerUrl"] for t in json.load(answer) if t["type"] == "page")
            with connect(address, max_size=None) as socket:
                yield Tab(socket)
        finally:
            end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Of a process that has a session of its own: the whole group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _port(file: Path, process: subprocess.Popen[bytes]) -> int:
    deadline = time.monotonic() + PATIENCE
    while not (file.exists() and file.read_text().count("\n") >= 1):
        if process.poll() is not None or time.monotonic() > deadline:
            pytest.fail("chromium did not start")
        time.sleep(0.05)
    return int(file.read_text().splitlines()[0])
