"""The pattern's page in Debian's Chromium: useEcho, use-debounce, and the application's own resource."""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from sim.live.serve import embedded_target
from tests.interop.clients import HERE, Told, browser, http_server, need_chromium, need_node

pytestmark = [pytest.mark.interop, pytest.mark.browser, pytest.mark.loopback]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page's script, bundled by esbuild."""
    need_node()
    need_chromium()
    made = tmp_path_factory.mktemp("page") / "page.js"
    options = ["--bundle", "--format=iife", '--define:process.env.NODE_ENV="production"', "--jsx=automatic"]
    esbuild = HERE / "node_modules" / ".bin" / "esbuild"
    subprocess.run([str(esbuild), "page.jsx", *options, f"--outfile={made}", "--log-level=error"], cwd=HERE, check=True)
    return made


def call(url: str, method: str, token: str, body: Any = None, media_type: str = "application/json") -> tuple[int, bytes]:
    data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/json", "Content-Type": media_type}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method), timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_a_page_hears_of_changes_and_shows_the_newest_state(bundle: Path) -> None:
    with embedded_target() as serving:
        target = serving.target
        user = target.users[0]
        server = user.servers[0]
        told = Told()
        page = {"key": target.key, "host": target.host, "port": target.port, "server": server, "token": user.token, "wait": 300}

        def route(request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, str, bytes]:
            """The page, what it tells, and the application behind the same origin."""
            if request.path == "/tell":
                told.put(json.loads(body))
                return 200, "application/json", b"{}"
            if request.path == "/":
                html = f"<body><div id=root></div><script>window.workbench = {json.dumps(page)}</script>"
                return 200, "text/html", f"{html}<script src=/page.js></script></body>".encode()
            if request.path == "/page.js":
                return 200, "text/javascript", bundle.read_bytes()
            if request.path.startswith(("/servers/", "/broadcasting/")):
                media_type = request.headers.get("Content-Type", "application/json")
                status, answer = call(target.api + request.path, request.command, user.token, body or None, media_type)
                return status, "application/json", answer
            return 404, "text/plain", b""

        with http_server(route) as root, browser(root):
            told.expect("status", status="connected")
            told.expect("subscribed")
            for step in ("1", "2", "3"):
                change = f"{target.api}/servers/{server}/provision/{step}"
                status, answer = call(change, "PUT", user.token, {"status": "installing"})
                assert status == 200, answer
            newest = json.loads(answer)["version"]
            assert told.expect("notified")["event"]["server_id"] == server
            while f"server {server} version {newest} " not in told.expect("shown")["text"]:
                pass
            heard = [message for message in told.seen if message["what"] == "notified"]
            fetched = [message for message in told.seen if message["what"] == "refetched"]
            assert len(heard) == 3
            assert len(fetched) <= len(heard)
