"""Progress of a load test on standard error: bars where it is a terminal, one line per phase anyway."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm

from sim.live.measure.loadtest import Observer
from sim.live.measure.swarm import Progress


class Terminal(Observer):
    """Draws what it is told. *quiet*: nothing."""

    def __init__(self, subscribers: int, quiet: bool = False) -> None:
        self._total = subscribers
        self._quiet = quiet
        self._bar: tqdm[Any] | None = None
        self._phase = ""

    def connecting(self, progress: Progress) -> None:
        self._show("subscribers", self._total, progress.subscribed)

    def running(self, elapsed: float, total: float) -> None:
        self._show("seconds", round(total), round(elapsed))

    def said(self, line: str) -> None:
        self.close()
        if not self._quiet:
            print(line, file=sys.stderr)

    def _show(self, phase: str, total: int, now: int) -> None:
        if phase != self._phase:
            self.close()
            self._phase = phase
            self._bar = tqdm(total=total, unit=f" {phase}", leave=False, disable=self._quiet or not sys.stderr.isatty())
        assert self._bar is not None
        self._bar.update(now - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        self._bar, self._phase = None, ""
