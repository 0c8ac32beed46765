"""The recorded exchanges: none differs from this server but by a declared row, and the runner can fail."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sim.pusher.server.quirks import DIFFERENCES
from tests.replay import declared
from tests.replay.__main__ import server

ROOT = Path(__file__).parents[2]
RECORDED = ROOT / "tests/data/reverb-transcripts.jsonl"

pytestmark = pytest.mark.loopback


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.replay", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200)


def test_the_faithful_profile_does_not_differ_at_all() -> None:
    done = run(str(RECORDED), "--faithful")
    assert done.returncode == 0, done.stdout
    assert "120 cases, 0 with undeclared differences" in done.stdout
    assert "declared  " not in done.stdout


def test_the_clean_profile_differs_as_declared() -> None:
    done = run(str(RECORDED))
    assert done.returncode == 0, done.stdout
    shown = {row for line in done.stdout.splitlines() if line.startswith("declared") for row in line.split(": ")[1].split(", ")}
    assert shown <= set(DIFFERENCES)
    assert len(shown) > 15


def test_every_row_has_a_rule_or_says_why_not() -> None:
    assert set(declared.RULES) | declared.UNSEEN == set(DIFFERENCES)


def changed(case: dict, member: str, old: str, new: str) -> dict:
    steps = [
        step | {member: step[member].replace(old, new)} if step["dir"] == "recv" and member in step else step
        for step in case["steps"]
    ]
    assert steps != case["steps"]
    return case | {"steps": steps}


MUTATIONS = [
    ("subscribe_public_with_empty_auth", "payload", "my-channel", "your-channel"),
    ("subscribe_private_missing_auth", "payload", "4009", "4008"),
    ("http_connections", "body", "4", "5"),
    ("http_events_info_subscription_count", "raw", '"subscription_count":1', '"subscription_count":2'),
    ("http_events_bad_signature", "raw", "401 Unauthorized", "403 Forbidden"),
    ("pusher_pong", "payload", "30", "31"),
    ("ws_ping_frame", "payload", "hello", "hullo"),
]


def test_a_recording_that_says_something_else_is_a_difference(tmp_path: Path) -> None:
    """The runner must be able to fail: each of these recordings is changed in one place."""
    cases = {case["case"]: case for case in map(json.loads, RECORDED.read_text().splitlines())}
    altered = []
    for name, member, old, new in MUTATIONS:
        case = changed(cases[name], member, old, new)
        altered.append(changed(case, "raw", old, new) if member == "body" else case)
    missing = cases["message_invalid_json"]
    altered.append(missing | {"case": "one frame less", "steps": missing["steps"][:-1]})
    path = tmp_path / "altered.jsonl"
    path.write_text("".join(json.dumps(case) + "\n" for case in altered))
    done = run(str(path))
    assert done.returncode == 1
    assert done.stdout.count("differs   ") == len(altered), done.stdout


def test_a_server_that_runs_already() -> None:
    with server(faithful=True) as ((host, port), _):
        done = run(str(RECORDED), "--faithful", "--target", f"{host}:{port}", "--case", "http_events")
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("same      http_events") > 15


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    assert run("no-such-file").returncode == 2
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"case": 1}\n')
    done = run(str(bad))
    assert done.returncode == 2
    assert "bad.jsonl:1" in done.stderr
