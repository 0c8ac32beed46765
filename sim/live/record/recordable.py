"""What to record, and by which method its steps can be seen."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sim.errors import BadInput

Method = Literal["apt", "dpkg", "lines", "commands"]

APT = ("apt-get", "apt")


@dataclass(frozen=True, slots=True)
class Recordable:
    """What to run, and how to see its steps."""

    argv: tuple[str, ...]
    """The command; for `commands` the program that runs each step's command (default `sh -c`)."""
    method: Method
    steps: tuple[tuple[str, str], ...] = ()
    """For `commands`: name and command of each step; the command is the last argument of `argv` (empty: there is none)."""
    pattern: re.Pattern[str] | None = None
    """For `lines`: what the first line of a step matches."""
    label: str = ""
    """Text of the trace in place of the command; empty: the command itself, without secrets and home directories."""

    @classmethod
    def choose(
        cls,
        argv: Sequence[str],
        method: Method | None = None,
        steps: Sequence[tuple[str, str]] = (),
        pattern: str = "",
        label: str = "",
    ) -> Recordable:
        """Find the method that fits. Raises `BadInput` where nothing can be recorded."""
        argv = tuple(argv)
        if method is None:
            method = "commands" if steps else "lines" if pattern else _reporting(argv) or "commands"
        if method == "commands":
            if steps:
                return cls(argv or ("sh", "-c"), method, tuple(steps), label=label)
            if argv:
                return cls(argv, method, ((_program(argv), ""),), label=label)
            raise BadInput("nothing to record: give a command (workbench record -- COMMAND) or --steps FILE")
        if not argv:
            raise BadInput(f"nothing to record: --method {method} needs a command (workbench record -- COMMAND)")
        if method == "lines":
            if not pattern:
                raise BadInput("--method lines needs --step-pattern REGEX, which recognises the first line of a step")
            try:
                return cls(argv, method, pattern=re.compile(pattern), label=label)
            except re.error as error:
                raise BadInput(f"--step-pattern {pattern!r}: {error}") from error
        if find(argv, APT if method == "apt" else ("dpkg",)) is None:
            raise BadInput(f"--method {method}: no {method} in the command {shlex.join(argv)!r}")
        if _program(argv) in ("sudo", "doas"):
            raise BadInput(f"{_program(argv)} closes the status descriptor: put it in front of workbench, not of {method}")
        return cls(argv, method, label=label)

    @property
    def command(self) -> str:
        """The command as the trace shows it."""
        if self.label:
            return self.label
        listed = " && ".join(command for _, command in self.steps)
        return scrub(listed or shlex.join(self.argv))


def parse_steps(text: str, where: str = "steps") -> tuple[tuple[str, str], ...]:
    """Name and command of each line of a steps file: `name: command`, or a command that is named after its program.

    Empty lines and lines that start with # do not count. Raises `BadInput` that names *where* and the line, for a name that is
    there twice, or where there are no steps at all.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        named = re.fullmatch(r"([\w.+-]+):\s+(\S.*)", line)
        name, command = named.groups() if named else (_program(line.split()), line)
        if name in found and named:
            raise BadInput(f"{where}:{number}: step {name!r} is there twice")
        while name in found:
            name += "+"
        found[name] = command
    if not found:
        raise BadInput(f"{where}: no steps in it (one per line, name: command)")
    return tuple(found.items())


_SECRET = (
    r"(?:[\w.-]*(?:passw(?:or)?d|passphrase|secret|token|api[-_]?key|access[-_]?key|private[-_]?key|credential)[\w.-]*"
    r"|(?:[\w.-]*[_.-])?(?:pass|pwd|app_key))"
)
_VALUE = r"""(?:'[^']*'|"[^"]*"|[^\s'";&|]+)+"""
_ASSIGNED = re.compile(rf"(?i)((?<![\w-])(?:{_SECRET}['\"]?\s*[=:]\s*|--?{_SECRET}\s+)){_VALUE}")
"""`--password=...`, `--password ...`, `DB_PASSWORD=...`, `X-Api-Key: ...`."""
_HEADER = re.compile(r"(?i)\b(bearer|basic|digest|authorization:\s*\w+)\s+[\w.~+/=-]+")
_OPTION = re.compile(
    r"((?<![\w-])(?:(?:mysql|mariadb)\w*\b(?:\s+\S+)*?\s+-p|sshpass\b(?:\s+\S+)*?\s+-p\s*|docker\s+login\b(?:\s+\S+)*?\s+-p\s*"
    rf"|redis-cli\b(?:\s+\S+)*?\s+-a\s*|curl\b(?:\s+\S+)*?\s+(?:-u\s*|--user[\s=]+)['\"]?[^\s:'\"]*:)){_VALUE}"
)
"""Short options that take a password: `mysql -pX`, `sshpass -p X`, `docker login -p X`, `redis-cli -a X`, `curl -u user:X`."""


def scrub(command: str) -> str:
    """*command* without passwords, tokens and keys, and with `~` for the home directory: others may read a trace."""
    command = re.sub(r"(\w+://)[^/\s@]+@", r"\1", command)
    command = _HEADER.sub(r"\1 ***", command)
    command = _ASSIGNED.sub(r"\1***", command)
    command = _OPTION.sub(r"\1***", command)
    home = os.path.expanduser("~")
    return command.replace(home + "/", "~/") if len(home) > 1 else command


def _program(argv: Sequence[str]) -> str:
    return os.path.basename(argv[0]) if argv else ""


def find(argv: Sequence[str], programs: Sequence[str]) -> int | None:
    """Where in the command one of *programs* is called."""
    return next((i for i, word in enumerate(argv) if os.path.basename(word) in programs), None)


def _reporting(argv: Sequence[str]) -> Method | None:
    """Which package manager the command runs, also behind `nice`, `env` or `chroot DIR`."""
    if find(argv, APT) is not None:
        return "apt"
    return "dpkg" if find(argv, ("dpkg",)) is not None else None


def reporting_to(job: Recordable, descriptor: int) -> list[str]:
    """The job's command with the option that makes it report to *descriptor*."""
    at = find(job.argv, APT if job.method == "apt" else ("dpkg",))
    assert at is not None
    option = ["-o", f"APT::Status-Fd={descriptor}"] if job.method == "apt" else ["--status-fd", str(descriptor)]
    return [*job.argv[: at + 1], *option, *job.argv[at + 1 :]]
