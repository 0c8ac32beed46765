"""SIGINT and SIGTERM for the time of a block."""

from __future__ import annotations

import contextlib
import ctypes
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

from sim.errors import Interrupted

ENDING = (signal.SIGINT, signal.SIGTERM)
"""Signals that ask a program to end."""

PR_SET_PDEATHSIG = 1
"""Of prctl(2)."""

REPEATED = 5.0
"""Seconds within which a second signal means the same as the first."""

_came: list[int] = []
"""Numbers of the signals that came inside `interruptible`."""


@contextlib.contextmanager
def handled(handler: Callable[[int, FrameType | None], object] | signal.Handlers) -> Iterator[None]:
    """Both signals go to *handler* inside. Outside the main thread, which alone may set handlers, nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in ENDING}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)


def shielded() -> contextlib.AbstractContextManager[None]:
    """Ignore both signals inside: a second Ctrl-C must not stop what stops a run."""
    return handled(signal.SIG_IGN)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Both signals raise `Interrupted` inside, also where the shell has started the program with SIGINT ignored, as it does in
    the background of a script.

    A signal within `REPEATED` seconds of the last one raises nothing, so that it cannot keep a run's rows from being kept.
    """
    raised_at = float("-inf")

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal raised_at
        _came.append(number)
        if time.monotonic() - raised_at > REPEATED:
            raised_at = time.monotonic()
            raise Interrupted(number)

    _came.clear()
    with handled(interrupt):
        yield


def end_with_parent(number: int = signal.SIGKILL) -> None:
    """To be called in a child before its program: on Linux the kernel sends it this signal when its parent is gone."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)


def require_no_signal() -> None:
    """Raise `Interrupted` where a signal came inside `interruptible`. Call it in loops: Python prints and drops what the handler
    raises within a callback of its own, as logging has around a fork."""
    if _came:
        raise Interrupted(_came[0])
