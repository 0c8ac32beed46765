"""What is known of a load test, on disk from its first second, so that a run that was killed can still be read.

    DIR/parts/run.json           `RunRecord`: what is measured, since when, and what went wrong
    DIR/parts/header-*, *-*-*    parts of the load processes (`sim.results.parts`)
    DIR/parts/sent.parquet       the publisher's rows; `.partial`, a journal, while it goes on
    DIR/parts/sampled.arrows     the sampler's rows, a journal
    DIR/parts/outcomes.jsonl     what became of each event, by the embedded application
    DIR/logs/                    output of all processes

`parts` goes when the bundle is complete; `logs` stays where the run is invalid or partial. Nothing secret is in either.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sim.clock import SECOND
from sim.errors import BadInput
from sim.files import replace_text
from sim.results.run import destination
from sim.scenario import Scenario, build, to_dict


class RunFiles:
    """Paths of a load test's files, in the directory of its bundle."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.parts, self.logs = directory / "parts", directory / "logs"
        self.run, self.sent = self.parts / "run.json", self.parts / "sent.parquet"
        self.outcomes, self.sampled = self.parts / "outcomes.jsonl", self.parts / "sampled.arrows"

    def make(self) -> None:
        """Raises `BadInput` where the directory cannot be written, and where it holds a run or what is left of one."""
        destination(self.directory)
        if self.run.exists():
            raise BadInput(
                f"{self.directory} holds what is left of a load test: workbench recover {self.directory}, or remove it"
            )
        for directory in (self.parts, self.logs):
            directory.mkdir(exist_ok=True)

    def clear(self, logs: bool) -> None:
        """Remove the parts, and *logs* as well; and the directory where nothing else is in it."""
        shutil.rmtree(self.parts, ignore_errors=True)
        if logs:
            shutil.rmtree(self.logs, ignore_errors=True)
        with contextlib.suppress(OSError):
            self.directory.rmdir()


@dataclass(slots=True)
class RunRecord:
    """What has happened in one run up to now. Instants in ns since 1970."""

    scenario: Scenario
    target: Mapping[str, Any]
    """`Target.public()`."""
    workers: int
    """Load processes that are expected."""
    pid: int
    """Of the process that runs it."""
    command: str = ""
    embedded: bool = True
    epoch: int | None = None
    """The run's zero; None: it has not begun."""
    ended_at: int | None = None
    """When it was stopped before its time; None: it was not, or it still runs."""
    complete: bool = False
    """Whether it ran for its whole time."""
    interrupted: str = ""
    """Name of the signal that ended it."""
    invalid: list[str] = field(default_factory=list)
    """What went wrong with the harness."""
    trouble: list[str] = field(default_factory=list)
    """What went wrong with the target."""
    incidents: list[dict[str, Any]] = field(default_factory=list)
    """What the scenario broke on purpose: kind, and instants as seconds since the run's zero."""

    def seconds(self, at: int) -> float:
        """An instant as seconds since the run's zero."""
        return (at - self.epoch) / SECOND if self.epoch is not None else 0.0

    def save(self, files: RunFiles) -> None:
        tree = {f: getattr(self, f) for f in self.__slots__} | {"scenario": to_dict(self.scenario)}
        replace_text(files.run, json.dumps(tree, indent=1) + "\n")

    @classmethod
    def load(cls, files: RunFiles) -> RunRecord:
        """Raises `BadInput` where there is no unfinished load test."""
        try:
            tree = json.loads(files.run.read_text(encoding="utf-8"))
            return cls(**tree | {"scenario": build(Scenario, tree["scenario"], where=str(files.run))})
        except OSError as error:
            raise BadInput(f"{files.directory}: no load test was killed here ({files.run}: {error.strerror or error})") from error
        except (ValueError, KeyError, TypeError) as error:
            raise BadInput(f"{files.run}: damaged: {error}") from error


def has_begun(files: RunFiles) -> bool:
    """Whether the run had begun, so that there are rows worth keeping."""
    try:
        return RunRecord.load(files).epoch is not None
    except BadInput:
        return False
