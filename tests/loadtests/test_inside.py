"""What needs Locust itself runs in a process of its own: `import locust` patches the process it happens in, for good."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

INSIDE = sorted((Path(__file__).parent / "inside").glob("check_*.py"))


def test_inside_a_process_with_locust() -> None:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "tests.loadtests.inside.fixtures",
        "--timeout=60",
    ]
    done = subprocess.run(
        [*command, *map(str, INSIDE)], capture_output=True, text=True, timeout=600, cwd=Path(__file__).parents[2]
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    assert " passed" in done.stdout


def test_this_process_has_not_met_locust() -> None:
    assert INSIDE
    assert "locust" not in sys.modules
