"""Progress of a load test on standard error: on a terminal one line that is rewritten, elsewhere a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from sim.live.measure.loadtest import Look, Observer
from sim.live.measure.swarm import Progress
from sim.results.text import number, seconds

EVERY = 10.0
"""Seconds between two lines where standard error is no terminal."""


class Terminal(Observer):
    """*quiet*: shows nothing."""

    def __init__(self, subscribers: int, quiet: bool = False) -> None:
        self._subscribers = subscribers
        self._quiet = quiet
        self._live = sys.stderr.isatty()
        self._shown_at = float("-inf") if self._live else time.monotonic()
        self._width = 0
        self._refetches = (0.0, 0)

    def connecting(self, progress: Progress) -> None:
        if self._is_time():
            self._show(f"connecting: {progress.opened:,} of {self._subscribers:,} pages open, {progress.subscribed:,} subscribed")

    def running(self, elapsed: float, total: float, look: Callable[[], Look]) -> None:
        if self._is_time():
            self._show(self._line(elapsed, total, look()))

    def note(self, line: str) -> None:
        if not self._quiet:
            self.close()
            print(line, file=sys.stderr, flush=True)

    def close(self) -> None:
        if self._width:
            print("\r" + " " * self._width + "\r", end="", file=sys.stderr, flush=True)
        self._width = 0

    def _is_time(self) -> bool:
        return not self._quiet and time.monotonic() - self._shown_at >= (0.5 if self._live else EVERY)

    def _show(self, line: str) -> None:
        self._shown_at = time.monotonic()
        if self._live:
            print("\r" + line.ljust(self._width), end="", file=sys.stderr, flush=True)
            self._width = len(line)
        else:
            print(line, file=sys.stderr, flush=True)

    def _line(self, elapsed: float, total: float, look: Look) -> str:
        counters = look.harness.counters
        before, done = self._refetches
        rate = (counters["refetches"] - done) / (elapsed - before) if elapsed > before else 0.0
        self._refetches = (elapsed, counters["refetches"])
        summary = look.harness.live_summary()

        def quantiles(name: str) -> str:
            return "/".join(seconds(summary[f"{name}.{p}"]["value"]) for p in ("p50", "p95", "p99"))

        failed = counters["failed_refetches"] + counters["drops"] + counters["refused"]
        return (
            f"{elapsed:.0f} of {total:.0f} s  {number(look.subscribed)} subscribed  {number(look.updates)} updates  "
            f"{number(counters['notifications'])} deliveries  notified (p50/p95/p99) {quantiles('time_to_notified')}  "
            f"fresh {quantiles('time_to_fresh')}  {rate:.0f} refetches/s  {number(failed)} failures"
        )
