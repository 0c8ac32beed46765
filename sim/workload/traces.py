"""Recorded traces: what a real provisioning command did, step by step.

A trace is a JSON Lines file. The first line is an object that says what was recorded, every other line is one transition:

    {"trace": 1, "command": "apt-get install -y nginx", "method": "apt", "recorded_at": "2026-03-01T09:30:00Z",
     "replica": 1, "duration": 4.217, "exit_status": 0, "partial": false, "machine": {"system": "Linux", ...},
     "units": {"at": "s since the command's start"}}
    {"step": 1, "name": "nginx-common", "status": "pending", "at": 0.0}
    {"step": 1, "name": "nginx-common", "status": "installing", "at": 1.042}
    {"step": 1, "name": "nginx-common", "status": "completed", "at": 2.371}

(The header is one line; it is broken here to be readable.) `at` has a resolution of a millisecond. Transitions are in order of
time and follow `NEXT`. Members that this version does not know are kept out of the way: more facts may be added to a header.

Traces of the same thing are replicas of each other and share a directory: `stack/01.jsonl`, `stack/02.jsonl`. The name
`stack` means all of them (or the first, where one is asked for), `stack/02` just that one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

from sim.errors import BadInput, did_you_mean
from sim.files import read_text, replace_text
from sim.shipped import shipped
from sim.workload.updates import NEXT, STATUSES, Status

FORMAT = 1
TRACE_DIR = shipped("data") / "traces"


@dataclass(frozen=True, slots=True)
class Transition:
    """One line of a trace: *step* (from 1) became *status* at *at* seconds."""

    at: float
    step: int
    name: str
    status: Status


@dataclass(frozen=True, slots=True)
class Step:
    """The whole life of one step; instants in seconds, None where it never came to that."""

    step: int
    name: str
    installing_at: float | None
    ended_at: float | None
    status: Status
    """The last one."""

    @property
    def duration(self) -> float | None:
        """Seconds from installing to the end."""
        return None if self.installing_at is None or self.ended_at is None else self.ended_at - self.installing_at


@dataclass(frozen=True, slots=True)
class Trace:
    """A recorded run: facts about it, and its transitions in order of time."""

    transitions: tuple[Transition, ...]
    name: str = "unnamed"
    command: str = ""
    method: str = ""
    """How steps were recognised: apt, dpkg, commands, lines."""
    recorded_at: str = ""
    replica: int = 1
    duration: float = 0.0
    """Seconds from the command's start to its end."""
    exit_status: int | None = None
    partial: bool = False
    """Recording was interrupted: what is here happened, what is missing may have happened too."""
    machine: Mapping[str, Any] = field(default_factory=dict)

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps by number."""
        found: dict[int, dict[str, float]] = {}
        names: dict[int, str] = {}
        last: dict[int, Status] = {}
        for t in self.transitions:
            names[t.step], last[t.step] = t.name, t.status
            found.setdefault(t.step, {})["ended" if t.status in ("completed", "failed") else t.status] = t.at
        return tuple(Step(n, names[n], at.get("installing"), at.get("ended"), last[n]) for n, at in sorted(found.items()))

    def write(self, path: Path) -> None:
        """Write the file in one step: no reader ever meets a part of it."""
        head = {
            "trace": FORMAT,
            **{name: getattr(self, name) for name in _HEAD},
            "duration": round(self.duration, 3),
            "units": {"at": "s since the command's start", "duration": "s"},
        }
        rows = ({"step": t.step, "name": t.name, "status": t.status, "at": round(t.at, 3)} for t in self.transitions)
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in (head, *rows))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_text(path, text)
        except OSError as error:
            raise BadInput(f"cannot write trace {path}: {error.strerror or error}") from error


def load_trace(source: str | Path) -> Trace:
    """One trace, by path or by name from data/traces; of several replicas the first.

    Raises `BadInput` that names the file and line, or the nearest name where there is no such trace.
    """
    return load_traces(source)[0]


def load_traces(source: str | Path) -> tuple[Trace, ...]:
    """All replicas of a trace, by path (a file, or a directory of them) or by name from data/traces. As `load_trace`."""
    found = _find(source)
    # Keyed by the state of each file as well: a trace that is recorded again is read again.
    return tuple(_read(path, os.stat(path).st_mtime_ns) for path in found)


def trace_names() -> list[str]:
    """Names that `load_trace` knows: sets of replicas, and files that stand alone."""
    files = TRACE_DIR.rglob("*.jsonl")
    return sorted({_name(path if path.parent == TRACE_DIR else path.parent) for path in files})


def _name(path: Path) -> str:
    plain = path.with_suffix("") if path.suffix == ".jsonl" else path
    return plain.relative_to(TRACE_DIR).as_posix() if plain.is_relative_to(TRACE_DIR) else "/".join(plain.parts[-2:])


def _find(source: str | Path) -> list[Path]:
    for place in (Path(source), TRACE_DIR / source):
        if place.is_file():
            return [place]
        if place.is_dir() and (files := sorted(place.glob("*.jsonl"))):
            return files
        named = place.with_name(place.name + ".jsonl")
        if place.name and named.is_file():
            return [named]
    raise BadInput(f"trace {str(source)!r} not found{did_you_mean(str(source), trace_names())}")


@lru_cache(maxsize=256)
def _read(path: Path, _modified: int) -> Trace:
    try:
        # By line feeds alone: a name may hold what `splitlines` takes for an end of line, as U+2028.
        lines = read_text(path).removesuffix("\n").split("\n")
    except OSError as error:
        raise BadInput(f"trace {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"trace {path}: not UTF-8 text (byte {error.start})") from error
    if lines == [""]:
        raise BadInput(f"trace {path}: empty file (record one: workbench record -- COMMAND)")
    head = _object(lines[0], f"{path}:1")
    if head.get("trace") != FORMAT:
        raise BadInput(f'{path}:1: the first line must say "trace": {FORMAT}, got {head.get("trace")!r}')
    transitions = parse_transitions(((_object(line, f"{path}:{n}"), f"{path}:{n}") for n, line in enumerate(lines[1:], 2)))
    known = {key: _member(head, key, kind, f"{path}:1") for key, kind in _HEAD.items() if key in head}
    known.setdefault("duration", transitions[-1].at if transitions else 0.0)
    return Trace(transitions, name=_name(path), **known)


_HEAD: dict[str, type | tuple[type, ...]] = {
    "command": str,
    "method": str,
    "recorded_at": str,
    "replica": int,
    "duration": (int, float),
    "exit_status": (int, type(None)),
    "partial": bool,
    "machine": dict,
}


def parse_transitions(rows: Iterable[tuple[Mapping[str, Any], str]]) -> tuple[Transition, ...]:
    """Rows with the place each came from, checked: members, order of time, and moves that `NEXT` allows."""
    found: list[Transition] = []
    now: dict[int, Status] = {}
    for row, where in rows:
        step = _member(row, "step", int, where)
        name = _member(row, "name", str, where)
        status = _member(row, "status", str, where)
        at = float(_member(row, "at", (int, float), where))
        if step < 1:
            raise BadInput(f"{where}: step must be 1 or more, got {step}")
        if status not in STATUSES:
            raise BadInput(f"{where}: no such status {status!r}{did_you_mean(status, STATUSES)}")
        if not 0 <= at < float("inf"):
            raise BadInput(f"{where}: at must be seconds >= 0, got {at!r}")
        if found and at < found[-1].at:
            raise BadInput(f"{where}: at {at} is before the line above ({found[-1].at}); transitions must be in order of time")
        if status not in NEXT[now.get(step)]:
            raise BadInput(f"{where}: step {step} cannot go from {now.get(step, 'nothing')} to {status}")
        now[step] = cast(Status, status)
        found.append(Transition(at, step, name, now[step]))
    return tuple(found)


def _object(line: str, where: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{where}: not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise BadInput(f"{where}: each line must be a JSON object, got {line[:40]!r}")
    return value


def _member(row: Mapping[str, Any], key: str, kind: type | tuple[type, ...], where: str) -> Any:
    if key not in row:
        raise BadInput(f"{where}: member {key!r} is missing")
    value = row[key]
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        words: dict[Any, str] = {int: "a whole number", str: "a text", bool: "true or false", dict: "an object"}
        wanted = words.get(kind, "a number")
        raise BadInput(f"{where}: {key} must be {wanted}, got {value!r}")
    return value
