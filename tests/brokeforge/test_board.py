"""The page for eyes: its policies are those of the libraries, and in a real browser it shows what happens."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sim.brokeforge.handlers.live_board import FILES, Board
from sim.live.serve import Serving, embedded_target
from sim.live.sockets import this_machine_alone
from sim.scenario import Fleet, Scenario
from tests.brokeforge.chrome import Tab, tab
from tests.brokeforge.conftest import MakeForge

HERE = Path(__file__).resolve().parent
VECTORS = json.loads((HERE.parent / "data" / "debounce-vectors.json").read_text(encoding="utf-8"))["vectors"]
LIBRARIES = {"debounce": "use-debounce@10.1.1 useDebouncedCallback", "throttle": "use-debounce@10.1.1 useThrottledCallback"}


def fire_times(vectors: list[dict[str, Any]]) -> list[list[float]]:
    node = shutil.which("node")
    if node is None:
        pytest.skip("NOT TESTED: node is not installed")
    command = [node, str(HERE / "board_policies.mjs")]
    done = subprocess.run(command, input=json.dumps({"vectors": vectors}), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def test_debounce_and_throttle_fire_when_the_libraries_do() -> None:
    """All recorded sequences that consist of calls; the board has no flush and no cancel."""
    chosen, wanted = [], []
    for vector in VECTORS:
        library = vector["results"].get(LIBRARIES.get(vector["family"], ""))
        only_calls = all(action["op"] == "call" for action in vector["actions"])
        if library is None or not only_calls or vector["order"] not in ("timer-first", "call-first"):
            continue
        calls = [action["t"] for action in vector["actions"]]
        chosen.append({"kind": vector["family"], "calls": calls, **{k: vector[k] for k in ("wait", "options", "order", "until")}})
        wanted.append((vector["id"], library["fire_times"]))
    assert len(chosen) > 20
    for (id, times), got in zip(wanted, fire_times(chosen), strict=True):
        assert got == times, id


def test_immediate_and_window() -> None:
    calls = [0, 100, 200, 700, 1300]
    common = {"wait": 500, "options": {}, "order": "timer-first", "until": 5000, "calls": calls}
    assert fire_times([{"kind": "immediate", **common}, {"kind": "window", **common}]) == [calls, [500, 1200, 1800]]


# --- its routes ---


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "127.0.0.1:8000"}, 200),
        ({"host": "LOCALHOST:8000"}, 200),
        ({"host": "[::1]:8000"}, 200),
        ({"host": "localhost:8000", "origin": "http://localhost:8000"}, 200),
        ({"host": "evil.example"}, 403),
        ({"host": "evil.example:8000"}, 403),
        ({"host": "127.0.0.1.evil.example:8000"}, 403),
        ({"host": "localhost@evil.example"}, 403),
        ({"host": "[::1"}, 403),
        ({"host": ""}, 403),
        ({"host": "localhost:8000", "origin": "http://evil.example"}, 403),
        ({"host": "localhost:8000", "origin": "http://localhost:3000"}, 403),
        ({"host": "localhost:8000", "origin": "null"}, 403),
    ],
)
def test_the_board_answers_this_machines_names_and_its_own_page(
    make_forge: MakeForge, headers: dict[str, str], status: int
) -> None:
    forge = make_forge()
    forge.app.board = Board(8080)
    for method, path, body in (("GET", "/", None), ("GET", "/board/config", None), ("POST", "/board/login", {"user": 1})):
        answer = forge.request(method, path, body, user=None, headers=headers)
        assert answer.status == status, (path, answer.body)
        assert (forge.users[0]["token"] in answer.body.decode()) is (status == 200 and path == "/board/login")


def test_the_files_come_with_their_kinds_and_no_others(make_forge: MakeForge) -> None:
    forge = make_forge()
    assert forge.request("GET", "/", user=None).status == 404, "no board without being told"
    forge.app.board = Board(8080, hosts=frozenset({"forge.test"}))
    page = forge.request("GET", "/", user=None)
    assert (page.status, dict(page.headers)["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert "default-src 'none'" in dict(page.headers)["Content-Security-Policy"]
    for path in FILES.iterdir():
        assert forge.request("GET", f"/board/{path.name}", user=None).body == path.read_bytes()
    for name in ("nothing.js", "..", "%2e%2e", "../live_board.py"):
        assert forge.request("GET", f"/board/{name}", user=None).status == 404


def test_a_sample_user_logs_in(make_forge: MakeForge) -> None:
    forge = make_forge()
    assert forge.request("POST", "/board/login", {"user": 1}, user=None).status == 404
    forge.app.board = Board(8080, hosts=frozenset({"forge.test"}))
    config = forge.json("GET", "/board/config", user=None)
    assert config["events"] == {"server": "App\\Events\\ServerUpdated", "site": "App\\Events\\ServerSiteUpdated"}
    assert [u["id"] for u in config["users"]] == [1, 2, 3]
    assert "secret" not in json.dumps(config)
    answer = forge.json("POST", "/board/login", {"user": 2}, user=None)
    assert answer == {k: forge.users[1][k] for k in ("id", "name", "token", "servers", "sites")}
    for wrong in ({"user": 99}, {"user": "1"}, {}):
        assert forge.request("POST", "/board/login", wrong, user=None).status == 422


@pytest.mark.parametrize(
    ("host", "alone"), [("127.0.0.1", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("192.0.2.1", False)]
)
def test_it_is_there_only_where_this_machine_alone_can_reach_it(host: str, alone: bool) -> None:
    assert this_machine_alone(host) is alone


def test_the_page_brings_everything_along() -> None:
    for path in FILES.iterdir():
        text = path.read_text(encoding="utf-8")
        assert "http://" not in text, path.name
        assert "https://" not in text, path.name


# --- in a browser ---


@pytest.fixture(scope="module")
def serving() -> Iterator[Serving]:
    with embedded_target(Scenario(fleet=Fleet(users=2, servers_per_user=2, sites_per_user=1))) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Tab]:
    with tab() as opened:
        yield opened


def numbers(browser: Tab) -> dict[str, dict[str, float]]:
    """Per policy: notifications, refetches (of its first page), age and oldest age in ms."""
    tree = browser.evaluate(
        """JSON.stringify(Object.fromEntries(board.panels().map(({name, pages: [page]}) => [name, {
            notifications: page.notifications, refetches: page.refetches, age: page.age(), oldest: page.oldest}])))"""
    )
    return json.loads(tree)  # type: ignore[no-any-return]


def choose(browser: Tab, field: str, value: object) -> None:
    browser.evaluate(
        f"""{{ const field = document.getElementById("{field}"); field.value = "{value}";
            field.dispatchEvent(new Event("change")); }}"""
    )


def click(browser: Tab, selector: str) -> None:
    browser.evaluate(f"document.querySelector('{selector}').click()")


@pytest.mark.browser
@pytest.mark.loopback
def test_a_browser_shows_a_provisioning_run_and_who_starves(serving: Serving, browser: Tab, tmp_path: Path) -> None:
    browser.open(f"{serving.target.api}/?policy=immediate&pages=3")
    browser.wait_for("window.board && board.state() === 'connected' && board.main().shown")
    assert browser.evaluate("document.querySelector('#shown .name').textContent")

    click(browser, "[data-job=provision]")
    browser.wait_for("document.querySelector('#shown .steps .installing')")

    # A log that never pauses: the trailing debounce starves, the others do not.
    click(browser, "[data-job=log]")
    browser.wait_for("board.panels()[0].pages[0].notifications >= 25")
    seen = numbers(browser)
    assert seen["immediate"]["refetches"] == seen["immediate"]["notifications"]
    assert 0 < seen["window"]["refetches"] < seen["window"]["notifications"]
    assert 0 < seen["maxWait"]["refetches"] <= seen["window"]["refetches"] + 2
    assert seen["trailing"]["refetches"] <= 3
    assert seen["trailing"]["oldest"] > 2 * seen["maxWait"]["oldest"] or seen["trailing"]["age"] > 1500
    browser.wait_for("document.querySelector('#panel-trailing.starving')")
    assert browser.evaluate("[...document.querySelectorAll('.n-refetches')].map(e => Number(e.textContent))[0]") > 25
    browser.screenshot(tmp_path / "board.png")
    assert (tmp_path / "board.png").stat().st_size > 20_000


@pytest.mark.browser
@pytest.mark.loopback
def test_a_browser_goes_from_page_to_page(serving: Serving, browser: Tab) -> None:
    browser.open(f"{serving.target.api}/?user=2&wait=300&policy=window")
    browser.wait_for("window.board && board.state() === 'connected' && board.main().shown")
    assert browser.evaluate("[...document.getElementById('server').options].map(o => o.value)") == ["3", "4"]

    choose(browser, "view", "firewall")
    click(browser, "[data-job=rule]")
    browser.wait_for("document.querySelector('#shown').textContent.includes('Port ')")
    choose(browser, "view", "dashboard")
    browser.wait_for("document.querySelector('#shown .name')?.textContent === 'Dashboard'")
    click(browser, "[data-job=once]")
    browser.wait_for("document.querySelector('#shown .disconnected')")

    # The name is what a user typed: it is shown, never run.
    evil = "<img src=x onerror=document.title=1>"
    token = serving.target.users[1].token
    request = urllib.request.Request(
        f"{serving.target.api}/servers/4",
        method="PATCH",
        data=json.dumps({"vanity_name": evil, "connection": "disconnected"}).encode(),
        headers={"Authorization": f"Bearer {token}"},
    )
    urllib.request.urlopen(request, timeout=10).close()
    browser.wait_for(f"document.querySelector('#shown').textContent.includes({json.dumps(evil)})")
    assert browser.evaluate("document.querySelectorAll('#shown img').length") == 0


@pytest.mark.browser
@pytest.mark.loopback
def test_what_was_missed_without_a_connection_is_fetched_again(serving: Serving, browser: Tab) -> None:
    browser.open(f"{serving.target.api}/?user=2&wait=300&policy=immediate&pages=2")
    browser.wait_for("window.board && board.state() === 'connected' && board.main().shown")
    browser.wait_for("document.getElementById('server').value === '3'")
    before = browser.evaluate("board.main().shown.version")
    # Gone without a word, and held away while the server changes.
    browser.evaluate(
        "{ window.real = WebSocket; window.WebSocket = function () { this.close = () => this.onclose(); }; board.drop(); }"
    )
    browser.wait_for("board.state() === 'connecting'")
    request = urllib.request.Request(
        f"{serving.target.api}/servers/3/provision/missed",
        method="PUT",
        data=json.dumps({"status": "installing"}).encode(),
        headers={"Authorization": f"Bearer {serving.target.users[1].token}"},
    )
    urllib.request.urlopen(request, timeout=10).close()
    browser.evaluate("{ window.WebSocket = window.real; board.drop(); }")
    browser.wait_for(f"board.state() === 'connected' && board.main().shown.version > {before}")
    browser.wait_for("board.panels().every(({pages}) => pages.every(page => page.shown))")


@pytest.mark.browser
@pytest.mark.loopback
def test_nothing_went_wrong_and_nothing_left_this_machine(serving: Serving, browser: Tab) -> None:
    """After the tests above: no error in the console, no request to anywhere else."""
    assert browser.errors == []
    strangers = [url for url in browser.requests if not url.startswith((serving.target.api, "data:", "about:"))]
    assert strangers == []
    assert browser.requests
