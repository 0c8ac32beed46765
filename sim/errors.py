"""What can go wrong, and the exit code that says so.

    WorkbenchError      1   the tool itself failed
    +-- BadInput        2   a scenario, flag, trace or bundle is not usable as given
    +-- ThresholdFailed 3   the run is valid and missed its objective
    +-- InvalidRun      4   harness or clock cannot be trusted, so there is no result
    +-- Unreachable     5   the target does not answer

The message is the whole of what a user sees: one line that says what, where, and what to do.
"""

from __future__ import annotations

import difflib
import re
import signal
from collections.abc import Iterable


def one_line(text: str) -> str:
    """*text* with line breaks and whatever else is not printable escaped: it may quote a foreign file."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class WorkbenchError(Exception):
    """Root of the errors that `workbench` reports as one line and an exit code."""

    exit_code = 1

    def __str__(self) -> str:
        return one_line(super().__str__())


class BadInput(WorkbenchError):
    exit_code = 2


class ThresholdFailed(WorkbenchError):
    exit_code = 3


class InvalidRun(WorkbenchError):
    exit_code = 4


class Unreachable(WorkbenchError):
    exit_code = 5


class Interrupted(KeyboardInterrupt):
    """A signal asked for the end. What is measured is kept; the exit code is the shell's for the signal (130, 143)."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`` - did you mean 'x'?`` for the nearest of *known*, else the list of what is allowed."""
    known = sorted(known)
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f" - did you mean {near[0]!r}?" if near else f" (known: {', '.join(known)})"


def header(name: str, value: str) -> tuple[str, str]:
    """An HTTP header as it is. Raises ValueError, without the value, which may be a secret, for one that cannot be sent."""
    if not re.fullmatch(r"[\w!#$%&'*+.^`|~-]+", name, re.ASCII) or not re.fullmatch(r"[ -~\xa0-\xff]*", value):
        raise ValueError(f"headers: {name!r} is no header that can be sent")
    return name, value
