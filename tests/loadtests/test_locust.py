"""Locust as its users start it, against the embedded target: real processes, real sockets, real updates."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest

from sim.results import parts
from sim.target import Target
from tests.brokeforge import chrome

pytestmark = [pytest.mark.loopback, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
SCENARIO = """
[policy]
kind = "debounce"
wait = 0.1
[[pages]]
page = "detail"
subscribers = 36
[[pages]]
page = "dashboard"
subscribers = 12
[[pages]]
page = "detail"
subscribers = 4
policy = { kind = "polling", interval = 0.5 }
[[pages]]
page = "detail"
subscribers = 4
policy = { kind = "full_payload" }
[[pages]]
page = "detail"
subscribers = 2
behaviour = "stop_reading"
[[pages]]
page = "detail"
subscribers = 2
behaviour = "never_subscribe"
"""


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    directory = tmp_path_factory.mktemp("target")
    ready = directory / "target.json"
    command = [sys.executable, "-m", "sim", "serve", "--ready-file", str(ready), "--api-port", "0", "--reverb-port", "0"]
    command += [
        "--users",
        "6",
        "--servers-per-user",
        "2",
        "--members",
        "--set",
        "broadcast.all_fields=true",
        "--database",
        f"sqlite:///{directory / 'db.sqlite'}",
    ]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        try:
            for _ in range(1200):
                if ready.exists() or process.poll() is not None:
                    break
                time.sleep(0.1)
            assert ready.exists(), process.poll()
            yield ready
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def change(target: Target, server: int, token: str) -> dict[str, int]:
    """One update through the application's route, with members for measuring; its answer."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", "Accept": "application/json"}
    headers |= {"X-Workbench-Update": str(server), "X-Workbench-Sent": str(time.time_ns())}
    request = urllib.request.Request(
        f"{target.api}/servers/{server}",
        json.dumps({"vanity_name": f"web-{time.time_ns()}"}).encode(),
        headers,
        method="PATCH",
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        body: dict[str, int] = json.load(answer)
        return body


@contextlib.contextmanager
def locust(target: Path, directory: Path, *arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    scenario = directory / "scenario.toml"
    scenario.write_text(SCENARIO)
    variables = {
        "WORKBENCH_TARGET": str(target),
        "WORKBENCH_SCENARIO": str(scenario),
        "WORKBENCH_PARTS": str(directory / "parts"),
    }
    command = [sys.executable, "-m", "locust", "--headless", "-u", "60", "-r", "100", *arguments]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | variables | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # Where the tests run in the background, the shell has them ignore Ctrl-C, and so would Locust.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


def subscribed(directory: Path, workers: int) -> bool:
    headers = parts.read_headers(directory / "parts")
    there = [header["subscribers"] for header in headers]
    return len(there) == workers and sum(s["opened"] for s in there) == 60 and sum(s["subscribed"] for s in there) == 54


def drive(process: subprocess.Popen[str], path: Path, directory: Path, workers: int) -> int:
    """Wait until everyone is subscribed, make twelve updates, wait until every notification is answered by a refetch that is
    over, and for two polls of each page that polls; how many updates there were."""

    def wait_until(reached: Callable[[], bool]) -> None:
        for _ in range(1200):
            if reached():
                return
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.1)
        raise AssertionError([(h["subscribers"], h["counters"]) for h in parts.read_headers(directory / "parts")])

    wait_until(lambda: subscribed(directory, workers))
    target = Target.read(path)
    count = 0
    for user in target.users:
        for server in user.servers:
            change(target, server, user.token)
            count += 1
    answered = 36 + 12 * count
    wait_until(lambda: counted(directory, "answered") == answered)
    before = counted(directory, "refetches")
    wait_until(lambda: counted(directory, "refetches") >= before + 4 * 2)
    return count


def counted(directory: Path, name: str) -> int:
    return sum(header["counters"][name] for header in parts.read_headers(directory / "parts"))


def rows(directory: Path, table: str) -> pd.DataFrame:
    return parts.read_table(directory / "parts", table).to_pandas()


def check(directory: Path, updates: int) -> None:
    """Every delivery to every page that listens, each answered by a refetch, and all of it accounted for."""
    assert all(header["finished"] for header in parts.read_headers(directory / "parts"))
    names = ("notifications", "refetches", "subscriptions", "pages")
    notifications, refetches, subscriptions, pages = (rows(directory, name) for name in names)
    # Nobody left before the end, so every page and every subscription but those of the two that hang is open.
    assert len(pages) == pages["subscriber"].nunique() == 60
    assert set(pages["reason"]) == {"end"}
    assert (pages["closed_at_ns"] == parts.NEVER).all()
    assert (pages["loaded_version"] >= 0).all()
    assert pages["policy"].value_counts().to_dict() == {"debounce": 52, "polling": 4, "full_payload": 4}
    listening = subscriptions[(subscriptions["page"] == "detail") & (subscriptions["reason"] == "end")]
    assert (subscriptions.loc[subscriptions["reason"] == "end", "ended_at_ns"] == parts.NEVER).all()
    # 36 pages that refetch and 4 with full payloads, evenly over 12 servers, plus 12 dashboards with two channels each.
    assert len(listening) == 40
    assert (subscriptions["page"] == "dashboard").sum() == 24
    assert (subscriptions["reason"] == "closed").sum() == 2
    per_server = listening.groupby("resource_id", observed=True).size()
    assert set(per_server.index) == set(range(1, 13))
    received = notifications.groupby("channel", observed=True).size()
    for server, pages in per_server.items():
        assert received[f"private-servers.{server}"] == pages
    assert received["private-servers"] == 12 * updates
    assert (notifications["read_at_ns"] >= notifications["received_at_ns"]).all()
    over = refetches["finished_at_ns"] >= 0
    # The end may find a poll under way. Every other refetch had come to its end before.
    assert set(refetches.loc[~over, "outcome"]) <= {"running"}
    assert (refetches.loc[~over, "answered"] == 0).all()
    finished = refetches[over]
    refetched = finished[finished["answered"] > 0]
    assert refetched["answered"].sum() == 36 + 12 * updates
    # Behind by a refetch, as on a busy machine, a page may find that it shows the newest version already.
    assert set(refetched["status"]) <= {200, 304}
    assert set(refetched.loc[refetched["status"] == 304, "outcome"]) <= {"not_newer"}
    applied = refetched[refetched["outcome"] == "applied"]
    assert (applied.groupby("subscriber").size() >= 1).all()
    assert applied["subscriber"].nunique() == 36 + 12
    assert (finished["started_at_ns"] >= finished["due_at_ns"]).all()
    assert (finished["finished_at_ns"] >= finished["started_at_ns"]).all()
    polled = finished[finished["answered"] == 0]
    assert len(polled) >= 4 * 2
    assert set(polled["status"]) == {200, 304}
    assert set(polled.loc[polled["status"] == 304, "outcome"]) == {"not_newer"}


def test_one_process(target: Path, tmp_path: Path) -> None:
    with locust(target, tmp_path, "--csv", str(tmp_path / "run"), "--html", str(tmp_path / "run.html")) as process:
        updates = drive(process, target, tmp_path, workers=1)
        process.send_signal(signal.SIGINT)  # Ctrl-C, as a person at the terminal ends it, who is impatient
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 0, output
    assert "Traceback" not in output
    check(tmp_path, updates)
    table = pd.read_csv(tmp_path / "run_stats.csv").set_index(["Type", "Name"], drop=False)
    count = table["Request Count"]
    assert count["NOTIFY", "DetailPage"] == 36
    assert count["NOTIFY", "Dashboard"] == 12 * updates
    assert count["WS", "connect"] == 56
    assert count["WS", "subscribe"] == 36 + 24 + 4 + 2
    assert count["POST", "/broadcasting/auth"] == count["WS", "subscribe"]
    assert count[table["Name"] == "Aggregated"].iloc[0] == count["POST"].sum() + count["GET"].sum()
    assert table["Failure Count"].sum() == 0
    assert (tmp_path / "run.html").stat().st_size > 1000


def test_two_processes_agree_with_one(target: Path, tmp_path: Path) -> None:
    with locust(target, tmp_path, "--processes", "2") as process:
        updates = drive(process, target, tmp_path, workers=2)
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 0, output
    ranges = [header["subscribers"]["first"] for header in parts.read_headers(tmp_path / "parts")]
    assert ranges == [0, 1_000_000]
    check(tmp_path, updates)


def test_what_a_killed_process_has_measured_is_there(target: Path, tmp_path: Path) -> None:
    """Killed without a word: its pages are open, and what was heard up to its last second is in its parts."""
    there = Target.read(target)
    user = there.users[0]
    with locust(target, tmp_path) as process:
        for _ in range(1200):
            if subscribed(tmp_path, 1):
                break
            time.sleep(0.1)
        change(there, user.servers[0], user.token)
        for _ in range(1200):
            if (rows(tmp_path, "notifications")["channel"] == "private-servers").sum() == 12:  # One for each dashboard.
                break
            time.sleep(0.1)
        process.kill()
        process.wait(30)
    (header,) = parts.read_headers(tmp_path / "parts")
    assert not header["finished"]
    assert header["subscribers"]["lives"] == 60
    assert len(rows(tmp_path, "pages")) == 60
    assert (rows(tmp_path, "pages")["reason"] == "end").all()
    notifications = rows(tmp_path, "notifications")
    assert (notifications["channel"] == "private-servers").sum() == 12
    assert len(rows(tmp_path, "subscriptions")) == header["counters"]["subscribed"]


def test_what_is_wrong_is_one_line(target: Path, tmp_path: Path) -> None:
    with locust(target, tmp_path, "-t", "1s", WORKBENCH_SHAPE="rampp") as process:
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 2
    assert "did you mean 'ramp'?" in output
    assert len(output.strip().splitlines()) == 1, output


OWN_PAGE = """
from loadtests.users import Debounce, EchoUser

class OrderPage(EchoUser):
    host = "{api}"
    broadcaster = "{broadcaster}"
    channels = ["private-servers.{{id}}"]
    refetch = "/servers/{{id}}"
    ids = {ids}
    token = "{token}"
    policy = Debounce(wait=0.1)

    def on_event(self, event):
        return event.name.endswith("ServerUpdated")
"""


def test_a_page_of_ones_own_in_a_dozen_lines(target: Path, tmp_path: Path) -> None:
    there = Target.read(target)
    user = there.users[0]
    locustfile = tmp_path / "own.py"
    text = OWN_PAGE.format(api=there.api, broadcaster=there.websocket_url, ids=list(user.servers), token=user.token)
    locustfile.write_text(text)
    command = [
        sys.executable,
        "-m",
        "locust",
        "-f",
        str(locustfile),
        "--headless",
        "-u",
        "10",
        "-r",
        "50",
        "-t",
        "60s",
        "--only-summary",
    ]
    variables = os.environ | {"PYTHONPATH": str(ROOT), "WORKBENCH_PARTS": str(tmp_path / "parts")}
    with subprocess.Popen(
        command, cwd=tmp_path, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        for group, name, count in (("subscribers", "subscribed", 10), ("counters", "answered", 5)):
            for _ in range(600):
                if process.poll() is not None or sum(h[group][name] for h in parts.read_headers(tmp_path / "parts")) == count:
                    break
                time.sleep(0.05)
            if name == "subscribed":
                change(there, user.servers[0], user.token)
        process.terminate()
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 0, output
    (header,) = parts.read_headers(tmp_path / "parts")
    assert header["finished"]
    assert header["counters"]["notifications"] == 5
    assert parts.read_table(tmp_path / "parts", "refetches").to_pandas()["outcome"].tolist() == ["applied"] * 5
    assert "OrderPage" in output


def test_a_page_without_an_address_says_so_once(tmp_path: Path) -> None:
    locustfile = tmp_path / "own.py"
    locustfile.write_text("from loadtests.users import EchoUser\nclass Lost(EchoUser):\n    channels = ['news']\n")
    command = [
        sys.executable,
        "-m",
        "locust",
        "-f",
        str(locustfile),
        "--headless",
        "-u",
        "5",
        "-r",
        "50",
        "-t",
        "2s",
        "--only-summary",
    ]
    names = ("REVERB_APP_ID", "REVERB_APP_KEY", "REVERB_APP_SECRET", "WORKBENCH_TARGET")
    variables = {name: value for name, value in os.environ.items() if name not in names} | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=60)
    assert done.stderr.count("Lost cannot be opened: no broadcaster") == 1
    assert "Traceback" not in done.stderr
    assert done.returncode == 2


def test_a_target_that_is_not_there_is_a_row_with_a_reason(target: Path, tmp_path: Path) -> None:
    absent = Target.read(target).to_dict() | {"ws": {"host": "127.0.0.1", "port": 9, "scheme": "http"}}
    path = tmp_path / "absent.json"
    path.write_text(json.dumps(absent))
    with locust(path, tmp_path, "-u", "5") as process:
        deadline = time.monotonic() + 60
        while not any(header["counters"]["connect_failures"] for header in parts.read_headers(tmp_path / "parts")):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=60)
    assert "WS connect: connect: connection refused" in output
    assert "Traceback" not in output
    (header,) = parts.read_headers(tmp_path / "parts")
    assert header["finished"]
    assert header["counters"]["connect_failures"] > 0
    assert header["subscribers"]["subscribed"] == 0


@pytest.mark.browser
def test_the_web_interface_draws_freshness_while_it_runs(target: Path, tmp_path: Path) -> None:
    """In a real browser: the tab is there, and its charts are over Locust's own table while it is open, and only then."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    scenario = tmp_path / "scenario.toml"
    scenario.write_text(SCENARIO)
    command = [sys.executable, "-m", "locust", "--web-host", "127.0.0.1", "--web-port", str(port), "--autostart", "-u", "60"]
    variables = os.environ | {"WORKBENCH_TARGET": str(target), "WORKBENCH_SCENARIO": str(scenario)}
    with (
        (tmp_path / "log").open("w") as log,
        subprocess.Popen([*command, "-r", "100"], cwd=ROOT, env=variables, stdout=log, stderr=subprocess.STDOUT) as process,
    ):
        try:
            for _ in range(1200):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                time.sleep(0.1)
            with chrome.tab() as browser:
                browser.open(f"http://127.0.0.1:{port}/")
                button = "[...document.querySelectorAll('[role=tab]')].find(b => b.textContent.trim() === '%s')"
                browser.wait_for(button % "Freshness")
                browser.evaluate(f"({button % 'Freshness'}).click()")
                browser.wait_for("document.querySelector('iframe').contentDocument?.querySelectorAll('svg path').length >= 12")
                # 4 pages that poll twice a second: there are refetches to be drawn, whoever publishes.
                drawn = "[...document.querySelector('iframe').contentDocument.querySelectorAll('path')]"
                browser.wait_for(f"{drawn}.some(p => (p.getAttribute('d').match(/L/g) || []).length >= 1)")
                shown = "getComputedStyle(document.querySelector('iframe')).display"
                assert browser.evaluate(shown) == "block"
                browser.evaluate(f"({button % 'Statistics'}).click()")
                browser.wait_for(f"{shown} === 'none'")
                assert browser.errors == []
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
    assert "Traceback" not in (tmp_path / "log").read_text()
