"""What a command cannot do is one line and exit code 2, before anything is started or written."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sim.cli import main

RUN = str(Path(__file__).resolve().parents[2] / "data" / "runs" / "start-here")
HOLDS = ["check", RUN, "--threshold", "delivery_ratio=value >= 0.5"]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["simulate", "steady", "--set", "seed=-1"], "seed must be >= 0"),
        (["sweep", "steady", "--vary", "policy.wait=0.1", "--processes", "0"], "--processes must be >= 1"),
        (["report", RUN, "--timeout", "-1"], "--timeout must be > 0"),
        (["report", RUN, "--timeout", "inf"], "--timeout must be > 0"),
        (["report", RUN, "-o", ""], "is a directory"),
        (["report", RUN, "--notebook", ""], "no notebook ''"),
        (["doctor", "--timeout", "0"], "--timeout must be > 0"),
        (["doctor", "--listen", "nan"], "--listen must be >= 0"),
        (["serve", "--redis", "localhost"], "--redis must be a URL"),
        (["plan", "--subscribers", "10", "--memory", "nan"], "--memory must be > 0"),
        ([*HOLDS, "--junit", "{tmp}/none/junit.xml"], "cannot write"),
        ([*HOLDS, "--summary", "{tmp}"], "cannot write"),
        (["loadtest", "demo", "--junit", "{tmp}/none/junit.xml"], "its directory does not exist"),
        (["report", RUN, "-o", "{tmp}"], "is a directory"),
        (["compare", RUN, RUN, "-o", "{tmp}/none/comment.md"], "cannot write"),
    ],
)
def test_one_line_and_exit_2(argv: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([word.replace("{tmp}", str(tmp_path)) for word in argv]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert said in line
    assert list(tmp_path.iterdir()) == []


def test_a_figure_that_no_run_has_is_not_shown_as_empty(capsys: pytest.CaptureFixture[str]) -> None:
    sweep = ["sweep", "steady", "--vary", "policy.wait=0.1", "--set", "duration=2", "--max-replications", "6", "--processes", "1"]
    assert main([*sweep, "--show", "time_to_fresh.p59"]) == 2
    assert "no such figure - did you mean 'time_to_fresh.p" in capsys.readouterr().err


@pytest.mark.parametrize(("argv", "missing"), [(HOLDS, "summary.json"), (["explain", RUN], "notifications.parquet")])
def test_a_bundle_that_is_not_whole_names_the_file(
    argv: list[str], missing: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tmp_path / "run"
    shutil.copytree(RUN, bundle)
    (bundle / missing).unlink()
    assert main([str(bundle) if word == RUN else word for word in argv]) == 2
    assert capsys.readouterr().err == f"workbench: {bundle / missing}: cannot be read: No such file or directory\n"
