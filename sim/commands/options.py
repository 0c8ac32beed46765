"""Flags that several commands share: the scenario with its changes, the target, its owner's consent."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sim.errors import BadInput
from sim.marks import Program
from sim.scenario import Scenario, load_scenario, parse_assignments, require_honoured
from sim.target import Target, read_users
from sim.version import version

JSON_SCHEMA = 1
"""Version of what `--json` prints: grows when a member changes its meaning or goes; new members may come without it."""


def add_scenario(parser: argparse.ArgumentParser, *, program: Program | None = None) -> None:
    """The scenario and its changes; for a command that runs it as *program*, also what may be left out."""
    parser.add_argument("scenario", metavar="SCENARIO", help="name in data/scenarios, or path of a TOML file")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change one key, as policy.wait=0.2 (may be repeated)"
    )

    parser.set_defaults(program=program)
    if program is not None:
        parser.add_argument(
            "--ignore",
            action="append",
            default=[],
            metavar="KEY",
            help=f"go on without a key that the {program} cannot honour, and say so (may be repeated)",
        )


def scenario(args: argparse.Namespace) -> Scenario:
    """The scenario that the flags name. Raises `BadInput`, also for keys that contradict each other and for one that the
    command's program cannot honour."""
    found = load_scenario(args.scenario, parse_assignments(args.set))
    found.check()
    if args.program is not None:
        found = dataclasses.replace(found, ignore=(*found.ignore, *args.ignore))
        require_honoured(found, args.program)
    return found


def add_target(parser: argparse.ArgumentParser, otherwise: str = "the environment or .env, in Laravel's names") -> None:
    parser.add_argument("--target", metavar="FILE", help=f"target.json, or a .env with Laravel's names (default: {otherwise})")
    parser.add_argument(
        "--accounts", type=Path, metavar="CSV", help="users of the application: id, token or email and password, servers, ..."
    )
    parser.add_argument(
        "--i-own-this-target", action="store_true", help="do not ask before sending load to a host that is not this machine"
    )


def add_channels(parser: argparse.ArgumentParser, otherwise: str) -> None:
    parser.add_argument(
        "--channel",
        action="append",
        default=[],
        metavar="NAME",
        help=f"as private-orders.{{id}} or private-orders; may be repeated (default: {otherwise})",
    )
    parser.add_argument(
        "--ids", default="", metavar="LIST", help="the users' list that gives {id} (default: by the channel's name, as orders)"
    )


def target(args: argparse.Namespace) -> Target:
    """The target that the flags name, else the one of the environment. Prints a note on what was read otherwise than written."""
    found = Target.from_environment() if args.target is None else read_target(args.target)
    for note in found.notes:
        print(f"note: {note.text} -> {note.advice}" if note.advice else f"note: {note.text}", file=sys.stderr)
    return with_accounts(found, args.accounts)


def with_accounts(target: Target, path: Path | None) -> Target:
    """The target with the users of a CSV file in place of its own."""
    return target if path is None else dataclasses.replace(target, users=read_users(path))


def read_target(path: str) -> Target:
    """A `target.json`, or a `.env` file (anything else). Raises `BadInput`."""
    if path.endswith(".json"):
        return Target.read(path)
    if not Path(path).is_file():
        raise BadInput(f"target {path}: no such file (start one: workbench serve --ready-file target.json)")
    try:
        return Target.from_environment({}, path)
    except BadInput as error:
        raise BadInput(f"target {path} (read as .env: only *.json is JSON): {error}") from error


def say_on_terminal(line: str) -> None:
    """Print progress on standard error, where that is a terminal."""
    if sys.stderr.isatty():
        print(line, file=sys.stderr, flush=True)


@contextlib.contextmanager
def progress() -> Iterator[Callable[[float], None]]:
    """A bar to call with the share that is done: on a terminal, once two seconds have gone by."""
    # Here and not above: most commands have no bar.
    from tqdm import tqdm

    with tqdm(total=100, unit="%", delay=2, leave=False, disable=not sys.stderr.isatty()) as bar:
        yield lambda share: bar.update(100 * share - bar.n)


def require_place(path: Path | None) -> None:
    """Raise `BadInput` where *path* cannot be made: call it before the work starts."""
    if path is None:
        return
    if path.is_dir():
        raise BadInput(f"cannot write {path}: is a directory")
    if not path.parent.is_dir():
        raise BadInput(f"cannot write {path}: its directory does not exist")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise BadInput(f"cannot write {path}: not writable")


def write_text(path: Path, text: str) -> None:
    """Raises `BadInput` where that is not possible."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BadInput(f"cannot write {path}: {error.strerror or error}") from error


def print_json(command: str, members: Mapping[str, Any]) -> None:
    """What `--json` prints, the same for every command: an object of *members*, headed by the command and the version."""
    head = {"workbench": {"command": command, "version": version(), "schema": JSON_SCHEMA}}
    print(json.dumps(head | dict(members), indent=1, allow_nan=False))


def host_and_port(text: str) -> tuple[str, int]:
    """`10.0.0.1:5557`, `[::1]:5557`. Raises `BadInput`."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise BadInput(f"{text!r} must be HOST:PORT")
    return host.strip("[]"), int(port)


def seconds(flag: str, text: str) -> float:
    """`90`, `90s`, `10m`, `1h`. Raises `BadInput`."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", text.strip())
    if found is None or float(found[1]) <= 0:
        raise BadInput(f"{flag} must be a time such as 90, 90s, 10m or 1h, got {text!r}")
    return float(found[1]) * {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}[found[2]]
