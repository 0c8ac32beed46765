"""What a clone, a wheel and another environment must find."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def test_no_clone_changes_the_bytes_of_a_sample_run() -> None:
    """`core.autocrlf=true` rewrites every file whose attributes do not forbid it; checksums are over bytes."""
    files = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "data" / "runs").rglob("*") if path.is_file())
    try:
        asked = subprocess.run(
            ["git", "check-attr", "text", "--", *files], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no git checkout here")
    assert len(files) > 0
    assert [line for line in asked.splitlines() if not line.endswith(": text: unset")] == []
