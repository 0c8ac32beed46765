"""Run a real provisioning command and record its steps as a trace (`sim.workload.traces` has the format).

Steps are stamped by the monotonic clock when the command reports them, so a trace is late by what the command delays its reports.
apt and dpkg report at once through their status descriptor. The output of other programs is read through a pseudo-terminal,
because programs keep lines back when they write into a pipe.
"""

from __future__ import annotations

import contextlib
import math
import os
import platform
import pty
import re
import select
import signal
import subprocess
import termios
import threading
import time
from collections.abc import Sequence
from types import FrameType
from typing import Any

from sim.errors import BadInput, WorkbenchError
from sim.live.record.recordable import APT, Recordable, find, reporting_to
from sim.live.record.steps import AptReader, DpkgReader, LineReader, Recording, StepReader
from sim.signals import handled
from sim.workload import Trace

LONGEST = 65_536
"""Bytes of a line that are looked at: output without an end of line must not fill the memory."""

_ENDS = re.compile(rb"(\r?\n|\r(?!\n|\Z))")

SILENCE = 0.25
"""Seconds without output after which a command that is over has written everything: a pseudo-terminal delivers its last lines a
little late."""


def record(job: Recordable, replica: int = 1, out: int = 1) -> Trace:
    """Run *job* and return what happened; the command's standard output goes to the descriptor *out*.

    An interruption (SIGINT, SIGTERM) is passed on to the command and gives a trace with `partial` set: steps that were
    installing stay so. Raises `BadInput` where the command cannot be started.
    """
    recording = Recording()
    planned = _plan(job.argv) if job.method == "apt" else ()
    recorded_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    run = _Run(recording, out)
    with handled(run.interrupt):
        if job.method == "commands":
            status = _run_commands(run, job)
        elif job.method == "lines":
            assert job.pattern is not None
            status = run.on_terminal(job.argv, LineReader(recording, job.pattern))
        else:
            status = run.with_descriptor(job, AptReader(recording, planned) if job.method == "apt" else DpkgReader(recording))
    return Trace(
        transitions=recording.transitions(),
        command=job.command,
        method=job.method,
        recorded_at=recorded_at,
        replica=replica,
        duration=run.ended,
        exit_status=status,
        partial=run.interrupted is not None,
        machine=machine_facts(),
    )


class _Run:
    """The running command: its clock, its signals, and the thread that reads its output."""

    def __init__(self, recording: Recording, out: int) -> None:
        self.recording = recording
        self.out = out
        self.interrupted: int | None = None
        self.ended = 0.0
        """When the command last ran or wrote something, seconds since the start."""
        self._failure: Exception | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._start = time.monotonic_ns()

    def now(self) -> float:
        """Seconds since the start."""
        return (time.monotonic_ns() - self._start) / 1e9

    def interrupt(self, number: int, frame: FrameType | None) -> None:
        again, self.interrupted = self.interrupted is not None, number
        if self._child is None or self._child.poll() is not None:
            return
        # A terminal sends Ctrl-C to the whole group, so the command has it already. Any other signal is passed on.
        if again:
            self._child.terminate()
        elif number != signal.SIGINT or not _in_foreground():
            self._child.send_signal(number)

    def start(self, argv: Sequence[str], **how: Any) -> subprocess.Popen[bytes]:
        """Start the command."""
        try:
            self._child = subprocess.Popen(argv, **how)
        except FileNotFoundError as error:
            raise BadInput(f"command {argv[0]!r} not found") from error
        except (OSError, ValueError) as error:
            raise BadInput(f"command {argv[0][:200]!r} cannot be started: {getattr(error, 'strerror', None) or error}") from error
        return self._child

    def wait(self) -> int:
        """The command's exit status, as a shell gives it: 128 + n for signal n."""
        assert self._child is not None
        status = self._child.wait()
        self.ended = max(self.ended, self.now())
        return 128 - status if status < 0 else status

    def with_descriptor(self, job: Recordable, reader: StepReader) -> int:
        """Run with a status descriptor that *reader* understands."""
        read, write = os.pipe()
        try:
            self._start = time.monotonic_ns()
            self.start(reporting_to(job, write), pass_fds=(write,), stdout=self.out, env=_untranslated())
        finally:
            os.close(write)
        return self._follow(read, reader)

    def on_terminal(self, argv: Sequence[str], reader: StepReader) -> int:
        """Run with output on a pseudo-terminal; the output is passed on as it comes."""
        read, write = pty.openpty()
        try:
            # No translation of line ends, so that the output is passed on as the command wrote it.
            modes = termios.tcgetattr(write)
            modes[1] &= ~termios.OPOST
            termios.tcsetattr(write, termios.TCSANOW, modes)
            with contextlib.suppress(OSError, termios.error):
                termios.tcsetwinsize(write, termios.tcgetwinsize(self.out))
            self._start = time.monotonic_ns()
            self.start(argv, stdout=write, stderr=write)
        finally:
            os.close(write)
        return self._follow(read, reader, echo=self.out)

    def _follow(self, read: int, reader: StepReader, echo: int | None = None) -> int:
        over, end = os.pipe()
        lines = threading.Thread(target=self._read, args=(read, over, reader, echo), daemon=True)
        lines.start()
        status = self.wait()
        os.close(end)
        lines.join()
        if self._failure is not None:
            raise WorkbenchError(f"what the command reported could not be read: {self._failure}") from self._failure
        if self.interrupted is None:
            reader.end(status == 0, self.ended)
        return status

    def _feed(self, reader: StepReader, line: bytes, at: float, rewritten: bool) -> None:
        # Reading must go on whatever happens: a command whose output is not read waits for ever.
        try:
            reader.feed(line.decode(errors="replace"), at, rewritten)
        except Exception as error:
            self._failure = self._failure or error

    def _read(self, read: int, over: int, reader: StepReader, echo: int | None) -> None:
        """Feed *reader* until the last writer has closed *read*; or, when the command is over (*over* is at its end), until there
        was no output for `SILENCE`: a daemon that the command has started may keep *read* open, or write on, for ever."""
        rest, ended_by, watched, patience, latest = b"", b"\n", [read, over], None, math.inf
        # The end of a pseudo-terminal is an error (EIO), that of a pipe an empty read.
        with contextlib.suppress(OSError):
            while (ready := select.select(watched, [], [], patience)[0]) and self.now() < latest:
                if over in ready:
                    watched, patience, latest = [read], SILENCE, self.now() + 4 * SILENCE
                if read not in ready:
                    continue
                data = os.read(read, 65536)
                if not data:
                    break
                # What is read late was written before the end.
                self.ended = max(self.ended, at := self.now())
                if echo is not None:
                    echo = _pass_on(echo, data)
                # A line ends at a line feed, or at a carriage return: then the next line takes its place.
                *parts, rest = _ENDS.split(rest + data)
                for line, end in zip(parts[::2], parts[1::2], strict=True):
                    self._feed(reader, line, at, ended_by == b"\r")
                    ended_by = end
                rest = rest[:LONGEST]
        if rest:
            self._feed(reader, rest, self.ended, ended_by == b"\r")
        os.close(read)
        os.close(over)


def _pass_on(out: int, data: bytes) -> int | None:
    """Write *data*, and return *out*; None when its reader has gone: recording goes on without it."""
    try:
        os.write(out, data)
    except BrokenPipeError:
        return None
    return out


def _run_commands(run: _Run, job: Recordable) -> int:
    for name, _ in job.steps:
        run.recording.mark(name, "pending", 0.0)
    status = 0
    for name, command in job.steps:
        if run.interrupted is not None:
            break
        run.recording.mark(name, "installing", run.now())
        run.start([*job.argv, command] if command else job.argv, stdout=run.out)
        status = run.wait()
        if run.interrupted is None:
            run.recording.mark(name, "failed" if status else "completed", run.ended)
        if status:
            break
    return status


def machine_facts() -> dict[str, Any]:
    """What the machine is, without its name."""
    facts: dict[str, Any] = {
        "system": f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}",
        "machine": platform.machine(),
        "cores": os.cpu_count(),
    }
    with contextlib.suppress(OSError, ValueError):
        facts["memory_gib"] = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    with contextlib.suppress(OSError):
        facts["os"] = platform.freedesktop_os_release()["PRETTY_NAME"]
    return facts


def _untranslated() -> dict[str, str]:
    """The environment with the locale whose reports `AptReader` can read."""
    return os.environ | {"LC_ALL": "C.UTF-8"}


def _plan(argv: Sequence[str]) -> tuple[str, ...]:
    """The packages that apt is going to work on, in order, by a dry run of the same command; empty where that fails."""
    at = find(argv, APT)
    assert at is not None
    try:
        dry = subprocess.run(
            [*argv[: at + 1], "--simulate", *argv[at + 1 :]],
            env=_untranslated(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return ()
    words = (line.split() for line in dry.stdout.splitlines())
    return tuple(dict.fromkeys(w[1] for w in words if len(w) > 1 and w[0] in ("Inst", "Remv", "Purg")))


def _in_foreground() -> bool:
    """Whether this process group is the one that the terminal's Ctrl-C goes to."""
    try:
        with open("/dev/tty") as terminal:
            return os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    except OSError:
        return False
