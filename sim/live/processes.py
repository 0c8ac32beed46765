"""Child processes that are never left behind, and whose last words are kept.

A child gets its own process group, so that Ctrl-C reaches the parent alone, which then stops its children in order; whatever the
child itself has started is stopped with it. Its output goes to a file, whose end is quoted when it dies too early. On Linux
the kernel ends the child when the parent is killed outright.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from sim.errors import WorkbenchError
from sim.signals import end_with_parent


def python(*arguments: str) -> list[str]:
    """The command line of a Python child. What lies in the working directory is not imported (`-P`): it may be named
    `queue.py`."""
    return [sys.executable, "-P", *arguments]


def importable() -> dict[str, str]:
    """The environment in which a `python` child finds this project: a checkout that is not installed is named by its path."""
    root = Path(__file__).resolve().parents[2]
    if root.name == "site-packages":
        return {}
    others = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path and Path(path).resolve() != root]
    return {"PYTHONPATH": os.pathsep.join([str(root), *others])}


class Child:
    """A running command. Use as a context manager, or call `stop` yourself."""

    def __init__(
        self, name: str, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None, listens: bool = False
    ) -> None:
        """*listens*: the child reads its standard input, see `tell`; otherwise it has none."""
        self.name = name
        self.log = log
        # What a signal's handler raises in Python's own callbacks around a fork is printed there, and lost.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
        try:
            with log.open("ab") as output:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE if listens else subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **importable(), **(environment or {})},
                    start_new_session=True,
                    preexec_fn=partial(_begin, mask),
                )
        finally:
            try:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            except BaseException:  # raised by a handler: nobody would have this child to stop it
                if hasattr(self, "_process"):
                    self.stop()
                raise

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative: ended by that signal."""
        return self._process.poll()

    @property
    def end(self) -> str:
        """How it ended, in words."""
        code = self.exit_code
        if code is None:
            return "still running"
        return f"exit {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"

    def wait(self, timeout: float) -> bool:
        """Whether it ended within *timeout* seconds."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout)
        return self.exit_code is not None

    def tell(self, line: str, more: bool = False) -> None:
        """One line for its standard input, and the end of it unless *more* may follow. A child that has ended does not hear
        it."""
        assert self._process.stdin is not None, "the child was started without listens"
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
            if not more:
                self._process.stdin.close()

    def wait_until_it_says(self, text: str, timeout: float) -> None:
        """Raise `WorkbenchError` when it ends, or *timeout* seconds pass, before *text* is in its output."""
        deadline = time.monotonic() + timeout
        while text not in self.log.read_text(encoding="utf-8", errors="replace"):
            self.require_alive()
            if time.monotonic() > deadline:
                raise WorkbenchError(f"{self.name} was not ready within {timeout:g} s: {self.last_words()}")
            time.sleep(0.02)

    def ask_to_stop(self, number: int = signal.SIGTERM) -> None:
        """Send the signal to the child; on SIGTERM it may finish what it does."""
        if self.exit_code is None:
            self._process.send_signal(number)

    def stop(self, timeout: float = 10.0) -> None:
        """Ask, wait, then kill the whole group. Returns when nothing of it is left."""
        self.ask_to_stop()
        self.wait(timeout)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()

    def last_words(self, lines: int = 3) -> str:
        """The end of its output in one line, to say why it died."""
        text = self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""
        written = [line.strip() for line in text.splitlines() if line.strip()]
        return " | ".join(written[-lines:]) or "it said nothing"

    def require_alive(self) -> None:
        """Raise `WorkbenchError` with its last words when it has ended."""
        if self.exit_code is not None:
            raise WorkbenchError(f"{self.name} ended early ({self.end}): {self.last_words()}")

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()


def stop_all(children: Sequence[Child], timeout: float = 10.0) -> None:
    """Stop several at once, so that they end together: all are asked before the first is waited for."""
    for child in children:
        child.ask_to_stop()
    deadline = time.monotonic() + timeout
    for child in children:
        child.stop(max(0.0, deadline - time.monotonic()))


def _begin(mask: set[int | signal.Signals]) -> None:
    """In the child, before its program."""
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    end_with_parent()
