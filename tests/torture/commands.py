"""`workbench` as a process that is watched: what it started, how it ended, and what it left in its bundle."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil

from sim.errors import BadInput
from sim.live.measure.measured import RunFiles, RunRecord
from sim.live.processes import importable, python
from tests.live.calibrated import known_in
from tests.torture.case import need

PATIENCE = 90.0
"""Seconds for anything that is waited for, on a busy machine."""

LOAD = """
duration = 60
drain = 1
workload = {kind = "constant", rate = 12}
policy = {kind = "debounce", wait = 0.1}
load = {connect_rate = 100}
pages = [{page = "detail", subscribers = 24}, {page = "dashboard", subscribers = 8}]
"""
"""A load test of 32 pages; cases shorten it where it is to end by itself."""


class Command:
    """One `workbench` process in a directory of its own; its bundle, where there is one, is `place/run`."""

    def __init__(self, place: Path, *arguments: str, environment: Mapping[str, str] | None = None, **options: Any) -> None:
        place.mkdir(parents=True, exist_ok=True)
        (place / "small.toml").write_text(LOAD)
        self.place, self.output = place, place / "run"
        variables = known_in(place / "cache") | {"TMPDIR": str(place)} | importable() | dict(environment or {})
        self._out, self._err = place / "stdout", place / "stderr"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                python("-m", "sim", *arguments), stdout=out, stderr=err, cwd=place, env=os.environ | variables, **options
            )
        self.seen: dict[int, str] = {}

    @property
    def out(self) -> str:
        return self._out.read_text(encoding="utf-8", errors="replace")

    @property
    def err(self) -> str:
        return self._err.read_text(encoding="utf-8", errors="replace")

    @property
    def said(self) -> str:
        """The end of what it said, for a verdict."""
        return " | ".join((self.err or self.out).strip().splitlines()[-3:])[-400:]

    def children(self) -> dict[int, str]:
        """pid -> command line of everything below it now."""
        with contextlib.suppress(psutil.Error):
            for child in psutil.Process(self.process.pid).children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    self.seen[child.pid] = " ".join(child.cmdline())
        return {pid: line for pid, line in self.seen.items() if psutil.pid_exists(pid)}

    def until(self, what: Callable[[], Any], name: str) -> None:
        """Wait for a moment of its life."""
        deadline = time.monotonic() + PATIENCE
        while not what():
            self.children()
            need(self.process.poll() is None, f"ended before {name}: {self.said}")
            need(time.monotonic() < deadline, f"{name}: not within {PATIENCE:g} s: {self.said}")
            time.sleep(0.05)

    def child(self, words: str) -> int:
        """Pid of the first process below it whose command line has these words; 0: none yet."""
        return next((pid for pid, line in self.children().items() if words in line), 0)

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def finish(self, patience: float = PATIENCE) -> int:
        """Its exit code. Nothing that it started may be alive then."""
        deadline = time.monotonic() + patience
        while self.process.poll() is None:
            self.children()
            if time.monotonic() > deadline:
                self.process.kill()
                self.process.wait()
                need(False, f"did not end within {patience:g} s: {self.said}")
            time.sleep(0.05)
        left = [pid for pid in self.seen if _lives(pid)]
        for _ in range(300):  # a worker that is still importing looks for its parent later
            if not left:
                break
            time.sleep(0.1)
            left = [pid for pid in left if _lives(pid)]
        need(not left, f"left alive: {[self.seen[pid][:80] for pid in left]}")
        return int(self.process.returncode)

    def require_orderly(self) -> None:
        """No traceback, and nothing in the temporary directory."""
        _, found, trace = self.err.partition("Traceback")
        need(not found, f"a traceback: {trace[:200]} ... {trace[-1500:]}")
        need(not list(self.place.glob("workbench-*")), "files are left in the temporary directory")


def _lives(pid: int) -> bool:
    with contextlib.suppress(psutil.Error):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False


def kind_of_bundle(directory: Path, place: Path) -> str:
    """What is in a run's directory: `none`, `whole`, `partial`, or `recovered`: parts of which `workbench recover` made one that
    reads. Anything else is broken."""
    from sim.results.run import Run

    if not directory.exists() or not any(directory.iterdir()):
        return "none"
    recovered = complete = False
    if not (directory / "manifest.json").exists():
        if not (directory / "parts").exists():
            # Nothing has been measured; a half-written table without a manifest is no bundle, and says so.
            code, said = _workbench(place, "check", str(directory))
            need(code == 2 and said.count("\n") == 1, f"a directory without manifest or parts: check exits {code}: {said[-300:]}")
            return "none"
        with contextlib.suppress(BadInput):
            complete = RunRecord.load(RunFiles(directory)).complete
        code, said = _workbench(place, "recover", str(directory))
        if code == 2 and said.count("\n") == 1:
            return "none"
        need(code == 0, f"recover exits {code}: {said[-300:]}")
        recovered = True
    run = Run(directory)
    run.verify()
    need(run.summary, "the bundle has no summary")
    # Killed while its tables were written, a load test had come to its end: nothing is missing.
    need(not recovered or run.manifest.partial or complete, "a recovered run does not say that it is partial")
    return "recovered" if recovered else "partial" if run.manifest.partial else "whole"


def _workbench(place: Path, *arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        python("-m", "sim", *arguments),
        capture_output=True,
        text=True,
        cwd=place,
        env=os.environ | importable(),
        timeout=PATIENCE,
    )
    return done.returncode, done.stderr


ENDS = {signal.SIGINT: (130, "workbench: interrupted"), signal.SIGTERM: (143, "workbench: ended by SIGTERM")}
"""Signal -> exit code and last line."""
