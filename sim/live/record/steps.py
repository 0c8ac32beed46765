"""Readers that recognise the steps of a running command in its output. They start nothing: they are given lines and instants.

Each reader is given every line with the second at which it was read (`feed`), and at last how the command ended (`end`).
"""

from __future__ import annotations

import re
from typing import Protocol

from sim.workload import NEXT, Status, Transition


class Recording:
    """Transitions as they happen. Steps are numbered in the order in which they were first named."""

    def __init__(self) -> None:
        self._rows: list[tuple[float, str, Status]] = []
        self._now: dict[str, Status | None] = {}

    def name(self, step: str) -> None:
        """Give *step* the next number, before it has a status."""
        self._now.setdefault(step, None)

    def mark(self, step: str, status: Status, at: float) -> None:
        """*step* became *status*. What is no change (reported twice, or after the step's end) is not recorded."""
        now = self._now.get(step)
        if status == "failed" and now in (None, "pending"):
            # Its beginning was not reported.
            self.mark(step, "installing", at)
            now = "installing"
        if now in ("completed", "failed") or status not in NEXT[now]:
            self.name(step)
            return
        self._now[step] = status
        self._rows.append((at, step, status))

    def end(self, status: Status, at: float) -> None:
        """All steps that are installing now end as *status*."""
        for step in [step for step, now in self._now.items() if now == "installing"]:
            self.mark(step, status, at)

    def transitions(self) -> tuple[Transition, ...]:
        """All transitions in order of time. Steps without one have no number."""
        happened = {step for _, step, _ in self._rows}
        number = {step: n for n, step in enumerate((s for s in self._now if s in happened), 1)}
        rows = sorted(self._rows, key=lambda row: row[0])
        return tuple(Transition(at, number[step], step, status) for at, step, status in rows)


class StepReader(Protocol):
    """A reader of a command's lines; it marks the steps in a recording."""

    def feed(self, line: str, at: float, rewritten: bool = False) -> None:
        """*rewritten*: it took the place of the line before (a carriage return was between them)."""
        ...

    def end(self, ok: bool, at: float) -> None: ...


class AptReader:
    """Lines of `APT::Status-Fd`: one step per package, and one named `download` where anything is fetched.

    The descriptor's format is described in apt's README.progress-reporting: `pmstatus:PACKAGE:PERCENT:TEXT` from dpkg at work,
    `pmerror:...` for a package that failed, `dlstatus:FILE:PERCENT:TEXT` while files come. A package is installing from its
    first report (apt unpacks many before it configures any) and completed when it is installed or removed.
    """

    _LINE = re.compile(r"(?P<kind>pmstatus|pmerror|dlstatus):(?P<package>.+?):\d+(\.\d+)?:(?P<text>.*)")
    _DONE = ("Installed ", "Removed ", "Completely removed ")
    # Work that belongs to no package of the command.
    _OF_NO_STEP = ("Running dpkg", "Running post-installation trigger", "Noting disappearance")

    def __init__(self, recording: Recording, planned: tuple[str, ...] = ()) -> None:
        self.recording = recording
        self._fetched_at: float | None = None
        recording.name("download")
        for package in planned:
            recording.mark(package, "pending", 0.0)

    def feed(self, line: str, at: float, rewritten: bool = False) -> None:
        found = self._LINE.fullmatch(line)
        if not found or found["text"].startswith(self._OF_NO_STEP):
            return
        if found["kind"] == "dlstatus":
            self._fetched_at = at
            self.recording.mark("download", "installing", at)
            return
        self._close_download(True)
        if found["kind"] == "pmerror":
            self.recording.mark(found["package"], "failed", at)
            return
        self.recording.mark(found["package"], "installing", at)
        if found["text"].startswith(self._DONE):
            self.recording.mark(found["package"], "completed", at)

    def end(self, ok: bool, at: float) -> None:
        self._close_download(ok)
        self.recording.end("completed" if ok else "failed", at)

    def _close_download(self, ok: bool) -> None:
        # No report says that it has ended; it ended with its last report.
        if self._fetched_at is not None:
            self.recording.mark("download", "completed" if ok else "failed", self._fetched_at)


class DpkgReader:
    """Lines of `dpkg --status-fd`: `processing: STAGE: PACKAGE` and `status: PACKAGE: STATUS` (dpkg(1))."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording

    def feed(self, line: str, at: float, rewritten: bool = False) -> None:
        kind, *rest = [part.strip() for part in line.split(": ") if part.strip()] or [""]
        if kind == "processing" and len(rest) == 2 and rest[0] != "trigproc":
            self.recording.mark(rest[1].split(":")[0], "installing", at)
        elif kind == "status" and " : error : " in line:
            self.recording.mark(rest[0].split(" : ")[0].split(":")[0].strip(), "failed", at)
        elif kind == "status" and rest and rest[-1] in ("installed", "not-installed", "config-files"):
            self.recording.mark(rest[0].split(":")[0], "completed", at)

    def end(self, ok: bool, at: float) -> None:
        self.recording.end("completed" if ok else "failed", at)


class LineReader:
    """Lines of the command's own output: each that matches *pattern* begins a step, and so ends the one before.

    The step's name is the group `name`, else the first group, else all that matched; a name that comes again gets a number,
    unless it only takes the place of itself, as the lines of a progress bar do.
    """

    # Colours and cursor moves (CSI), window titles and links (OSC), character sets and other escapes; then control characters.
    _NOISE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_].*?(?:\x07|\x1b\\|$)|\x1b[ -/]*[0-~]|[\x00-\x08\x0b-\x1f\x7f]")

    def __init__(self, recording: Recording, pattern: re.Pattern[str]) -> None:
        self.recording = recording
        self.pattern = pattern
        self._times: dict[str, int] = {}
        self._latest = ""

    def feed(self, line: str, at: float, rewritten: bool = False) -> None:
        found = self.pattern.search(self._NOISE.sub("", line))
        if not found:
            return
        groups = found.groupdict()
        name = (groups.get("name") or (found.group(1) if found.re.groups else None) or found.group()).strip()
        if rewritten and name == self._latest:
            return
        self._latest = name
        self._times[name] = self._times.get(name, 0) + 1
        if self._times[name] > 1:
            name = f"{name} ({self._times[name]})"
        self.recording.end("completed", at)
        self.recording.mark(name, "installing", at)

    def end(self, ok: bool, at: float) -> None:
        self.recording.end("completed" if ok else "failed", at)
