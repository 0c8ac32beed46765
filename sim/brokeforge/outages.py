"""An outage is one line of the log, and its end is another: a line for each request that failed would hide everything else."""

from __future__ import annotations

import logging
import threading


class OutageLog:
    """Of one service that others depend on. May be used by many threads."""

    def __init__(self, name: str, log: logging.Logger) -> None:
        self._name = name
        self._log = log
        self._lock = threading.Lock()
        self._failed = 0
        """Calls that failed since the last one that worked."""

    def failed(self, reason: object) -> None:
        """A call failed; *reason* is logged, in one line, for the first of a series."""
        with self._lock:
            self._failed += 1
            first = self._failed == 1
        if first:
            self._log.warning("%s", " ".join(str(reason).split()))

    def worked(self) -> None:
        """A call was answered."""
        if not self._failed:
            return
        with self._lock:
            failed, self._failed = self._failed, 0
        if failed:
            self._log.warning("%s answers again (%d failed in between)", self._name, failed)
