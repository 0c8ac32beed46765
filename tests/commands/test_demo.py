"""The demo's way through its three parts, and what it says when one of them fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sim.commands import demo
from sim.commands.measuring.one import LoadTestSettings
from sim.commands.measuring.outcome import LoadTestOutcome
from sim.errors import BadInput, Unreachable, WorkbenchError
from sim.scenario import Scenario
from tests.commands.measuring.test_outcome import FAILED, GOOD, INVALID, PARTIAL


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Stand-ins for the three parts; returns the order in which they were called."""

    def make(
        outcome: LoadTestOutcome = GOOD, error: WorkbenchError | None = None, report: WorkbenchError | None = None
    ) -> list[str]:
        called: list[str] = []

        def measure(scenario: Scenario, settings: LoadTestSettings) -> LoadTestOutcome:
            called.append("loadtest")
            if error is not None:
                raise error
            return replace(outcome, directory=settings.output or Path())

        def write(path: Path, *runs: Path) -> None:
            called.append("report of " + " and ".join(run.name for run in runs))
            if report is not None:
                raise report

        monkeypatch.setattr(demo, "run_load_test", measure)
        monkeypatch.setattr(demo, "simulate", lambda scenario, output, command: called.append(f"simulate into {output.name}"))
        monkeypatch.setattr(demo, "write_report", write)
        return called

    return make


def test_measured_then_simulated_then_reported(parts: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    called = parts()
    assert demo.main(["-o", "there"]) == 0
    assert called == ["loadtest", "simulate into simulated", "report of measured and simulated"]
    said = capsys.readouterr().out
    assert "verdict           valid" in said
    for path in ("there/measured", "there/simulated", "there/report.html"):
        assert path in said
    assert said.count(f"\n  {demo.command()} ") == 3


def test_a_missed_threshold_is_said_and_is_no_error_of_make(
    parts: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    parts(FAILED)
    assert demo.main(["-o", "there"]) == 0
    said = capsys.readouterr()
    assert "1 of 1 thresholds failed" in said.out
    assert "missed on this machine" in said.err


def test_commands_worth_trying_work_from_where_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripts = tmp_path / "my env" / "bin"
    scripts.mkdir(parents=True)
    monkeypatch.setattr(demo.sys, "executable", str(scripts / "python"))
    monkeypatch.setenv("PATH", "/nowhere")
    assert demo.command() == f"'{scripts}/python' -m sim"
    (scripts / "workbench").touch(mode=0o755)
    assert demo.command() == f"'{scripts}/workbench'"
    monkeypatch.chdir(tmp_path)
    assert demo.command() == "'my env/bin/workbench'"
    monkeypatch.setenv("PATH", str(scripts))
    assert demo.command() == "workbench"


def test_an_invalid_run_is_shown_and_has_a_report(parts: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    assert parts(INVALID) == []
    assert demo.main(["-o", "there"]) == 4
    captured = capsys.readouterr()
    assert "INVALID" in captured.out
    assert "there/report.html" in captured.out
    assert "the run is invalid: the load client read late" in captured.err


def test_a_report_that_fails_fails_the_demo(parts: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    parts(report=WorkbenchError("no kernel"))
    assert demo.main(["-o", "there"]) == 1
    assert "none: no kernel" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "set_up", "code"),
    [
        ([], {"outcome": PARTIAL}, 130),
        ([], {"error": BadInput("port in use")}, 2),
        ([], {"error": Unreachable("nobody there")}, 5),
        (["--scenario", "nosuch"], {}, 2),
    ],
)
def test_exit_codes(
    arguments: list[str],
    set_up: dict[str, object],
    code: int,
    parts: Callable[..., list[str]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    called = parts(**set_up)
    assert demo.main(["-o", "there", *arguments]) == code
    assert not any(name.startswith("report") for name in called)
    assert capsys.readouterr().err.rstrip().splitlines()[-1].startswith("workbench: ")
