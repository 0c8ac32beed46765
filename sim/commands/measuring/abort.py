"""Stop a load test that has failed already: thresholds with `or abort`, looked at while the run goes on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sim.live.measure.harness import Harness
from sim.results import parts
from sim.results.thresholds import Threshold, check

PATIENCE = 3
"""Failures in a row, about a second apart: one bad second is no verdict."""


class Abort:
    """Call it about once a second; it answers with the reason to stop, or None."""

    def __init__(self, thresholds: Sequence[Threshold], directory: Path) -> None:
        """*directory*: the parts of the run, whose headers hold histograms of what was measured so far."""
        self._thresholds = [threshold for threshold in thresholds if threshold.abort]
        self._directory = directory
        keys = (threshold.key.rpartition(".p") for threshold in self._thresholds)
        self._levels = {float(level) / 100 for _, dot, level in keys if dot and level.replace(".", "").isdigit()}
        self._failures = 0

    def __call__(self) -> str | None:
        if not self._thresholds:
            return None
        summary = Harness(parts.read_headers(self._directory)).live_summary(self._levels)
        known = [threshold for threshold in self._thresholds if summary.get(threshold.key, {}).get("n")]
        failed = [found.text for found in check(known, summary) if not found.ok]
        self._failures = self._failures + 1 if failed else 0
        return failed[0] if self._failures >= PATIENCE else None
