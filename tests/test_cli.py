"""One line and an exit code for whatever goes wrong."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sim import cli
from sim.errors import BadInput, InvalidRun, ThresholdFailed, Unreachable, WorkbenchError, did_you_mean
from sim.scenario import load_scenario, parse_assignments, parse_value, require_honoured


def test_every_command_of_the_table_has_its_module() -> None:
    for name in cli.COMMANDS:
        assert importlib.util.find_spec(f"sim.commands.{name}"), f"no sim/commands/{name}.py"


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in cli.COMMANDS)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["simulat"], "did you mean 'simulate'"),
        (["simulate"], "workbench simulate --help"),
        (["simulate", "demo", "--no-such-flag"], "--no-such-flag"),
        ([], "required: COMMAND"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_2(argv: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(argv) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [(WorkbenchError, 1), (BadInput, 2), (ThresholdFailed, 3), (InvalidRun, 4), (Unreachable, 5), (KeyboardInterrupt, 130)],
)
def test_an_error_becomes_its_exit_code(
    error: type[BaseException], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(args: object) -> int:
        raise error("what, where, what to do")

    simulate = importlib.import_module("sim.commands.simulate")
    monkeypatch.setattr(simulate, "run", fail)
    assert cli.main(["simulate", "demo"]) == code
    assert capsys.readouterr().err.startswith("workbench: ")


def test_did_you_mean() -> None:
    assert did_you_mean("polcy", ["policy", "pages"]) == " - did you mean 'policy'?"
    assert did_you_mean("zzz", ["b", "a"]) == " (known: a, b)"


@pytest.mark.parametrize("name", [None, *cli.COMMANDS])
def test_help_has_one_style_and_fits_80_columns(name: str | None) -> None:
    text = help_of(name)
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("\nexamples:\n") == 1


@pytest.mark.parametrize("name", [None, *cli.COMMANDS])
def test_every_example_is_a_command_that_is_understood(name: str | None) -> None:
    found = [example for example in examples(help_of(name)) if example[0] == "workbench"]
    assert found
    for _, command, *arguments in found:
        args = cli.build_parser(command).parse_args([command, *arguments])
        named = getattr(args, "scenario", None)
        if named is not None and not named.endswith(".toml") and not getattr(args, "keys", False):
            # What is varied and set must be keys of that scenario, and the command must be able to honour it.
            scenario = load_scenario(named, parse_assignments(getattr(args, "set", ())))
            if getattr(args, "program", None):
                require_honoured(scenario, args.program)
            for text in [*(getattr(args, "vary", None) or ()), *filter(None, [getattr(args, "search", None)])]:
                key, _, values = text.partition("=")
                scenario.replace({key: parse_value(values.split(",")[0])})
        if getattr(args, "notebook", None):
            importlib.import_module("sim.commands.report").named(args.notebook)


def help_of(name: str | None) -> str:
    parser = cli.build_parser(name)
    if name is not None:
        parser = parser._subparsers._group_actions[0].choices[name]  # type: ignore[union-attr,index]
    return parser.format_help()


def examples(text: str) -> list[list[str]]:
    """The commands of a help text as a shell would take them apart."""
    lines = text.replace("\\\n", " ").splitlines()
    words = [shlex.split(line, comments=True) for line in lines if re.match(r"\s+(sudo )?workbench ", line)]
    return [line[: next((i for i, word in enumerate(line) if word in ("|", ">")), None)] for line in words]


@pytest.mark.parametrize("shell", cli.SHELLS)
def test_completion_knows_commands_options_and_scenarios(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(word in script for word in ("loadtest", "engine", "starvation"))


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["--version"])
    assert stop.value.code == 0
    assert re.fullmatch(r"workbench \S.*\n", capsys.readouterr().out)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_and_a_narrow_terminal_are_no_traceback() -> None:
    command = [sys.executable, "-m", "sim", "scenario", "--keys"]
    with open("/dev/full", "w") as full:
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert "No space left" in ended.stderr
    ascii_only = subprocess.run(command, capture_output=True, env=os.environ | {"PYTHONIOENCODING": "ascii"}, check=False)
    assert ascii_only.returncode == 0


@pytest.mark.parametrize(
    "assignment",
    [
        f"seed={'9' * 400}",
        f"duration={'9' * 400}",
        f"duration={'9' * 5000}",
        f"workload={'[' * 3000}",
        "duration=1e999",
        "workload.trace=\x00",
        "pages[0]=3",
        "pages[9].hidden=0.5",
        "pages[=1",
        "policy..wait=1",
        "=3",
        "\u2028=3",
        "name=\x00\n",
        "thresholds.\n='p(50) < 1'",
    ],
)
def test_hostile_values_are_one_line(assignment: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["simulate", "steady", "--set", "pages.0.subscribers=0", "--set", "duration=0.1", "--set", assignment]) in (
        0,
        2,
    )
    error = capsys.readouterr().err
    assert error.count("\n") <= 1
    assert len(error) < 600


def test_sigterm_ends_a_command_as_ctrl_c_does(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    closed = []

    def run(args: object) -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)
        finally:
            closed.append(True)

    monkeypatch.setattr(importlib.import_module("sim.commands.calibrate"), "run", run)
    assert cli.main(["calibrate"]) == 143
    assert closed == [True]
    assert capsys.readouterr().err == "workbench: ended by SIGTERM\n"
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
