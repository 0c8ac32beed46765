"""One line and an exit code for whatever goes wrong."""

from __future__ import annotations

import importlib.util

import pytest

from sim import cli
from sim.errors import BadInput, InvalidRun, ThresholdFailed, Unreachable, WorkbenchError, did_you_mean


def test_every_command_of_the_table_has_its_module_and_worked_examples() -> None:
    for name in cli.COMMANDS:
        assert importlib.util.find_spec(f"sim.commands.{name}"), f"no sim/commands/{name}.py"
        parser = cli.build_parser(name)
        text = parser._subparsers._group_actions[0].choices[name].format_help()  # type: ignore[union-attr,index]
        assert f"workbench {name}" in text.split("usage:", 1)[1].split("\n", 1)[1], f"{name} --help shows no worked example"


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
