"""The pipeline of docs/ci: the workflow's own commands, run here as written."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib
import pytest
import yaml

from sim.results.run import Run
from tests.live.calibrated import known_in

DOCS = Path(__file__).resolve().parent.parent / "docs"
WORKFLOW = yaml.safe_load((DOCS / "ci" / "load-test.yml").read_text(encoding="utf-8"))
JOB = WORKFLOW["jobs"]["load-test"]
SHORT = "duration=3 warmup=0.5 drain=1 workload.rate=20 pages.0.subscribers=30 pages.1.subscribers=20"
CANNOT = {0, 3, 4}
"""Exit codes of a load test on a machine that may be busy."""


def commands() -> list[str]:
    """What the workflow runs, in order; not the installation."""
    return [step["run"] for step in JOB["steps"] if "run" in step and step["run"] != "make install"]


def test_the_workflow_runs_the_steps_of_the_script() -> None:
    script = (DOCS / "ci" / "load-test.sh").read_text(encoding="utf-8")
    steps = [command.split()[1] for command in commands() if command.startswith("docs/ci/load-test.sh ")]
    assert steps == ["start", "run", "check", "compare", "report", "stop", "accept"]
    assert all(f"\n{step}() {{\n" in script for step in steps)
    assert {step["if"] for step in JOB["steps"] if step.get("name") in ("report", "stop the target")} == {
        "${{ !cancelled() }}",
        "always()",
    }
    uses = {step["uses"] for step in JOB["steps"] if "uses" in step}
    assert all(use.startswith("actions/") and "@v" in use for use in uses)


def test_the_guide_shows_the_files_as_they_are() -> None:
    guide = (DOCS / "ci.md").read_text(encoding="utf-8")
    assert (DOCS / "ci" / "load-test.toml").read_text(encoding="utf-8").strip() in guide
    assert "(ci/load-test.sh)" in guide
    assert "(ci/load-test.yml)" in guide


@pytest.mark.loopback
def test_the_commands_run_here_as_written(tmp_path: Path) -> None:
    shutil.copytree(DOCS / "ci", tmp_path / "docs" / "ci")
    summary = tmp_path / "summary.md"
    env = {**os.environ, **{name: str(value) for name, value in JOB["env"].items()}}
    env |= {"WORKBENCH": str(Path(sys.executable).with_name("workbench")), "GITHUB_STEP_SUMMARY": str(summary)}
    # Matplotlib keeps its list of fonts where it is.
    env |= {"RUNS": "1", "SET": SHORT, "MPLCONFIGDIR": matplotlib.get_cachedir()} | known_in(tmp_path / "cache")

    def shell(command: str) -> subprocess.CompletedProcess[str]:
        words = ["bash", "-e", "-c", command]
        with (tmp_path / "output.txt").open("w+") as output:  # a file, not a pipe: the target's would stay open
            code = subprocess.run(words, cwd=tmp_path, env=env, stdout=output, stderr=subprocess.STDOUT, timeout=120).returncode
            output.seek(0)
            return subprocess.CompletedProcess(words, code, output.read())

    found = {}
    try:
        for command in commands():
            found[command] = shell(command)
    finally:
        shell("docs/ci/load-test.sh stop")
    out = tmp_path / "load-test"
    codes = {command.split()[-1]: done.returncode for command, done in found.items()}
    said = {command: done.stdout for command, done in found.items() if done.returncode}
    assert {codes["run"], codes["check"]} <= CANNOT, said
    assert {codes[step] for step in ("start", "compare", "report", "stop", "accept")} == {0}, said
    run = Run(out / "new" / "1")
    assert run.scenario.duration == 3.0
    assert "<html" in (out / "report.html").read_text(encoding="utf-8")
    assert "no baseline" in summary.read_text(encoding="utf-8")
    assert "delivery_ratio" in summary.read_text(encoding="utf-8")
    assert Run(out / "baseline" / "1").manifest.run_id == run.manifest.run_id
    # The runs are the baseline now: they are as good as themselves, or refused where the machine was too busy to measure.
    again = shell("docs/ci/load-test.sh compare")
    assert again.returncode == (0 if run.manifest.validity["ok"] else 2), again.stdout
    if run.manifest.validity["ok"]:
        assert "same" in (out / "comparison.md").read_text(encoding="utf-8").splitlines()[0]
