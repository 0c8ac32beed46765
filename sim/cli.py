"""The `workbench` command: one table of sub-commands, one place where an error becomes a line and an exit code.

Exit codes: 0 pass, 1 tool error, 2 usage or bad input, 3 threshold failed, 4 run invalid, 5 target unreachable, 130 interrupted,
143 terminated.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import re
import signal
import sys
import textwrap
import threading
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import NoReturn

from sim.errors import Interrupted, WorkbenchError, did_you_mean
from sim.version import version

# One module of sim.commands each, with `configure(parser)` and `run(args) -> int | None`. Imported only when called, so that
# `workbench --help` is quick and a notebook's kernel never meets a socket.
COMMANDS = {
    "serve": "start the embedded target: application and broadcaster",
    "drive": "generate a scenario's updates against a target",
    "simulate": "run a scenario in virtual time",
    "loadtest": "run a scenario with thousands of real subscribers",
    "sweep": "a grid of simulations",
    "report": "execute the fitting notebook on runs, write HTML",
    "compare": "differences of two runs, with intervals and a verdict",
    "check": "a run against its thresholds",
    "recover": "a bundle of what a killed load test has left",
    "explain": "where the time went",
    "scenario": "list, show and start scenarios; every key",
    "calibrate": "harness floor and drain rate of this machine",
    "plan": "the largest load that holds, and what a load takes",
    "fit": "fit the simulator's parameters to measured runs, with intervals",
    "predict": "predict a load that was not measured, with the parameters of a fit",
    "advise": "which policy to set, head-room, what breaks first",
    "doctor": "every step of the pattern checked against a target",
    "listen": "what a live application broadcasts, and when",
    "record": "record the steps of a provisioning command as a trace",
}

DESCRIPTION = """Pages hear of a change and fetch the changed resource again: simulate it, load-test it, explain it.

  workbench scenario                     # what can be run
  workbench simulate demo
  workbench loadtest demo -o runs/demo
  workbench report runs/demo
"""

SHELLS = ("bash", "zsh", "tcsh")

LONGEST = 900
"""Characters of an error's line."""

WIDTH = 80
"""Columns of help: what any terminal has."""


class _CommandParser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, not the whole usage; exit 2 as documented."""
        raise WorkbenchUsage(f"{message} (see {self.prog} --help)")


class WorkbenchUsage(WorkbenchError):
    exit_code = 2


class _Help(argparse.HelpFormatter):
    """Help of one style: paragraphs filled to `WIDTH` columns, indented lines as they are, examples under one heading."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=26, width=WIDTH)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(_blocks(text))

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)


def _blocks(text: str) -> list[str]:
    found: list[str] = []
    headed = False
    for block in re.split(r"\n\s*\n", re.sub(r"(?mi)^examples:\s*\n", "\n\n", text.strip())):
        lines = block.splitlines()
        if not block.strip():
            continue
        if found:
            found.append("")
        if _is_example(lines[0]) and not headed:
            found.append("examples:")
            headed = True
        while lines:
            line, more = lines.pop(0), []
            if not line.startswith("  "):
                while lines and not lines[0].startswith("  "):
                    more.append(lines.pop(0))
                found += textwrap.wrap(" ".join([line, *more]), WIDTH)
            elif term := re.match(r"( +\S+ {2,})(?=[^# ])", line):
                hanging = " " * term.end()
                while lines and lines[0].startswith(hanging):
                    more.append(lines.pop(0).strip())
                found += textwrap.wrap(" ".join([line, *more]), WIDTH, subsequent_indent=hanging, break_on_hyphens=False)
            else:
                found += _example(line) if "workbench " in line else [line]
    return found


def _is_example(line: str) -> bool:
    return re.match(r"\s+(sudo )?workbench ", line) is not None


def _example(line: str) -> list[str]:
    """A command of an example within `WIDTH` columns: its comment on a line before it, options on lines of their own."""
    command, _, comment = line.partition("  #")
    command = command.strip()
    shown = [f"  # {comment.strip()}"] if comment else []
    indent = "  "
    while len(indent + command) > WIDTH - 2:
        # Where no quotation is open: inside one a backslash would be part of the text.
        cuts = [m.start() for m in re.finditer(" --?[a-z]", command[: WIDTH - 6]) if _is_whole(command[: m.start()])]
        if not cuts:
            break
        shown.append(f"{indent}{command[: cuts[-1]]} \\")
        command, indent = command[cuts[-1] + 1 :], "      "
    return [*shown, indent + command]


def _is_whole(text: str) -> bool:
    return text.count("'") % 2 == text.count('"') % 2 == 0


def build_parser(only: str | None = None) -> argparse.ArgumentParser:
    """The parser; with *only*, just that sub-command gets its arguments (and its module is imported)."""
    codes = (__doc__ or "").partition("\n\n")[2]
    parser = _CommandParser(prog="workbench", description=DESCRIPTION, epilog=codes, formatter_class=_Help)
    parser.add_argument("--version", action="version", version=f"workbench {version()}")
    parser.add_argument("--completion", choices=SHELLS, help="print a script that completes commands, options, scenarios")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_CommandParser)
    for name, summary in COMMANDS.items():
        if only not in (None, name):
            continue
        module = importlib.import_module(f"sim.commands.{name}") if only else None
        child = commands.add_parser(name, help=summary, description=module.__doc__ if module else summary, formatter_class=_Help)
        if module:
            module.configure(child)
            child.set_defaults(run=module.run)
    return parser


def completion(shell: str) -> str:
    """A script for *shell* that completes commands, options and the names of scenarios."""
    import shtab

    from sim.commands.scenario import scenario_names

    parser = _CommandParser(prog="workbench")
    commands = parser.add_subparsers(dest="command")
    names = scenario_names()
    for name, summary in COMMANDS.items():
        child = commands.add_parser(name, help=summary)
        importlib.import_module(f"sim.commands.{name}").configure(child)
        for action in child._actions:
            if action.dest == "scenario" and not action.choices:
                action.choices = names
            elif isinstance(action.metavar, str) and action.metavar in ("FILE", "DIR", "PATH", "RUN"):
                action.complete = shtab.FILE  # type: ignore[attr-defined]
    return str(shtab.complete(parser, shell))


def main(argv: Sequence[str] | None = None) -> int:
    """Run `workbench ARGV`; returns the exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    name = argv[0] if argv and not argv[0].startswith("-") else None
    # A character that the terminal cannot show is written as its number: a verdict is not lost for it.
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        with _terminable():
            code = _run(name, argv)
            sys.stdout.flush()
            return code
    except WorkbenchError as error:
        return _failed(str(error), error.exit_code)
    except MemoryError:
        return _failed("not enough memory for that: lower the largest number asked for", 1)
    except RecursionError:
        return _failed("the input is nested too deeply", 2)
    except KeyboardInterrupt as interrupt:
        code = interrupt.exit_code if isinstance(interrupt, Interrupted) else 130
        return _failed("interrupted" if code == 130 else f"ended by {interrupt}", code)
    except BrokenPipeError:
        # The reader of a pipe has gone (`workbench ... | head`): that is no error, and nothing more can be written.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        # A full disk, a directory without permission. Python would try to write the rest again when it ends.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        where = f"{error.filename}: " if error.filename else ""
        return _failed(f"cannot read or write: {where}{error.strerror or error}", 2)


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends a command as Ctrl-C does: what it has opened is closed, and a line says so. Commands may do better."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def terminate(number: int, frame: FrameType | None) -> None:
        raise Interrupted(number)

    signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _run(name: str | None, argv: Sequence[str]) -> int:
    for argument in argv:
        if (not argument.isascii() and not _is_utf8(argument)) or "\0" in argument:
            raise WorkbenchUsage(f"{argument[:60]!r}: an argument must be UTF-8 text without NUL")
    if name is not None and name not in COMMANDS:
        raise WorkbenchUsage(f"no command {name!r}{did_you_mean(name, COMMANDS)}")
    args = build_parser(name).parse_args(argv)
    if args.completion:
        print(completion(args.completion))
        return 0
    if args.command is None:
        raise WorkbenchUsage("the following arguments are required: COMMAND (see workbench --help)")
    return args.run(args) or 0


def _is_utf8(argument: str) -> bool:
    """Whether its bytes were UTF-8: Python gives any other byte as a lone surrogate."""
    return not any("\ud800" <= letter <= "\udfff" for letter in argument)


def _failed(message: str, code: int) -> int:
    # One line of bounded length, whatever an argument or a file had in it.
    line = " ".join(message.split("\n"))
    print(f"workbench: {line if len(line) <= LONGEST else line[:LONGEST] + '...'}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
