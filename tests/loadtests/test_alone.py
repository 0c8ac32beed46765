"""What surrounds a load test does not steer its Locust."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from sim.live.processes import importable, python

SCRIPT = """
import sys
import loadtests.alone
import pyarrow
assert pyarrow.array(["x", None]).null_count == 1 and "pandas" not in sys.modules
from locust.argument_parser import parse_options
print([(o.run_time, o.num_users) for a in ([], ["-u", "5"]) for o in [parse_options(["-f", "x.py", "--headless", *a])]])
"""


def test_locust_reads_its_command_line_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "locust.conf").write_text("run-time = 3s\nusers = 7\n")
    (tmp_path / "pyproject.toml").write_text("[tool.locust]\nrun-time = '4s'\n")
    (tmp_path / ".locust.conf").write_text("run-time = 6s\n")
    (tmp_path / "queue.py").write_text("raise SystemExit('imported from the working directory')\n")
    surroundings = os.environ | importable() | {"LOCUST_RUN_TIME": "5s", "HOME": str(tmp_path)}
    done = subprocess.run(python("-c", SCRIPT), cwd=tmp_path, env=surroundings, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[(None, None), (None, 5)]"
