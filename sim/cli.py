"""The `workbench` command: one table of sub-commands, one place where an error becomes a line and an exit code.

Exit codes: 0 pass, 1 tool error, 2 usage or bad input, 3 threshold failed, 4 run invalid, 5 target unreachable.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from sim.errors import WorkbenchError, did_you_mean

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
    "explain": "where the time went",
    "calibrate": "harness floor and drain rate of this machine",
    "plan": "workers, ports, descriptors that a number of subscribers needs",
    "fit": "fit the simulator's parameters to a measured run",
    "doctor": "every step of the pattern checked against a target",
    "record": "run a real provisioning command and record its steps as a trace",
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        """One line, not the whole usage; exit 2 as documented."""
        raise WorkbenchUsage(f"{message} (see {self.prog} --help)")


class WorkbenchUsage(WorkbenchError):
    exit_code = 2


def build_parser(only: str | None = None) -> argparse.ArgumentParser:
    """The parser; with *only*, just that sub-command gets its arguments (and its module is imported)."""
    parser = _Parser(prog="workbench", description=__doc__.splitlines()[0], epilog=__doc__.splitlines()[2])
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=_Parser)
    for name, summary in COMMANDS.items():
        if only not in (None, name):
            continue
        module = importlib.import_module(f"sim.commands.{name}") if only else None
        child = commands.add_parser(
            name,
            help=summary,
            description=module.__doc__ if module else summary,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if module:
            module.configure(child)
            child.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run `workbench ARGV`; returns the exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    name = argv[0] if argv and not argv[0].startswith("-") else None
    try:
        if name is not None and name not in COMMANDS:
            raise WorkbenchUsage(f"no command {name!r}{did_you_mean(name, COMMANDS)}")
        args = build_parser(name).parse_args(argv)
        return args.run(args) or 0
    except WorkbenchError as error:
        print(f"workbench: {error}", file=sys.stderr)
        return error.exit_code
    except MemoryError:
        print("workbench: not enough memory for that: lower the largest number asked for", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("workbench: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of a pipe has gone (`workbench ... | head`): not an error, and nothing may be said on the way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


if __name__ == "__main__":
    sys.exit(main())
