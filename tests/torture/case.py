"""What a case of the campaign is, and what becomes of it.

A case is a function whose text is its promise. It is given a directory of its own, yields its evidence line by line, and raises:
`Broken` (or AssertionError) where the promise was not kept, `Skipped` where this machine cannot try it.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from _pytest.outcomes import Skipped as PytestSkipped

from tests.conftest import PATIENCE, started_by

Run = Callable[["Stage"], Iterator[str]]


class Broken(AssertionError):
    """A promise was not kept; the text says how."""


class Skipped(Exception):
    """This machine cannot try it; the text says what is missing."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Where a case plays, and how long."""

    place: Path
    long: bool = False
    repeats: int = 1
    """Of what is tried at random instants, per kind of command."""
    figures: dict[str, Any] = field(default_factory=dict)
    """Whatever the case measures, for the JSON."""


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    promise: str
    run: Run


@dataclass(slots=True)
class Verdict:
    """One line of the table."""

    case: str
    promise: str
    verdict: str = "held"
    """held, BROKEN, skipped"""
    evidence: list[str] = field(default_factory=list)
    reason: str = ""
    seconds: float = 0.0
    figures: dict[str, Any] = field(default_factory=dict)


CASES: dict[str, Case] = {}


def case(run: Run) -> Run:
    """Decorator: a function of a module of this package is a case; its name, with spaces, is the case's."""
    name = run.__name__.replace("_", " ")
    CASES[name] = Case(name, " ".join((run.__doc__ or "").split()), run)
    return run


def judge(one: Case, stage: Stage) -> Verdict:
    """Play a case. Whatever it has started and left alive breaks it, too."""
    verdict = Verdict(one.name, one.promise, figures=stage.figures)
    began = time.monotonic()
    before = set(started_by(psutil.Process()))
    try:
        for line in one.run(stage):
            verdict.evidence.append(line)
    except (Skipped, PytestSkipped) as skipped:
        verdict.verdict, verdict.reason = "skipped", str(skipped)
    except AssertionError as broken:
        at = "" if isinstance(broken, Broken) else f" ({traceback.extract_tb(broken.__traceback__)[-1].line})"
        verdict.verdict, verdict.reason = "BROKEN", f"{broken}{at}"
    except Exception as error:  # a case that cannot be played is no promise kept
        verdict.verdict, verdict.reason = "BROKEN", "".join(traceback.format_exception(error))[-1500:]
    _, alive = psutil.wait_procs([process for process in started_by(psutil.Process()) if process not in before], PATIENCE)
    if alive:
        left = "; ".join(f"{process.pid} {' '.join(process.cmdline())[:80]}" for process in alive if process.is_running())
        verdict.verdict, verdict.reason = "BROKEN", f"{verdict.reason} left alive: {left}".strip()
        for process in alive:
            process.kill()
    verdict.seconds = round(time.monotonic() - began, 1)
    return verdict


def need(condition: Any, said: str) -> None:
    """Raise `Broken` unless it is so."""
    if not condition:
        raise Broken(said)
