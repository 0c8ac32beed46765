"""A load test of an application of one's own, by scenario alone: a stand-in with sessions, UUIDs and Inertia pages."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sim.results.run import Run
from tests.live.calibrated import known_in
from tests.standin import application
from tests.standin.setup import Setup, standing_in_a_thread

pytestmark = [pytest.mark.loopback, pytest.mark.slow]

OWN = """
duration = 1.5
drain = 0.5
policy = {kind = "debounce", wait = 0.05, max_wait = 0.2}
load = {connect_rate = 100}

[[pages]]
subscribers = 8
channels = ["private-servers.{id}"]
refetch = "/inertia/{id}"
version = "props.server.updated_at"
inertia = true
only = ["server"]
"""


def test_sessions_uuids_and_inertia_without_a_line_of_python(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(OWN)
    with standing_in_a_thread(Setup(application=application.Switches(keys="uuid"), sessions=True), changes=20) as target:
        target.write(tmp_path / "target.json")
        command = [sys.executable, "-m", "sim", "loadtest", "own.toml", "--target", "target.json", "--passive", "-o", "run"]
        environment = os.environ | known_in(tmp_path)
        done = subprocess.run(command, capture_output=True, text=True, timeout=90, cwd=tmp_path, env=environment, check=False)
    assert "Traceback" not in done.stderr
    run = Run(tmp_path / "run")
    assert set(run.subscriptions["resource_id"]) == {1, 2, 3, 4}
    assert set(run.subscriptions["channel"].astype(str)) == {f"private-servers.{number}" for number in (1, 2, 3, 4)}
    assert set(run.notifications["channel"].astype(str)) <= set(run.subscriptions["channel"].astype(str))
    assert len(run.notifications)
    answered = run.refetches[run.refetches["finished_at"].notna()]
    assert set(answered["status"]) == {200}
    assert answered["version"].notna().all()
    assert run.manifest.target["keys"]["servers"]["1"] == application.key("uuid", 1)
    assert "secret-1" not in "".join(path.read_text(errors="replace") for path in (tmp_path / "run").glob("*.json"))
