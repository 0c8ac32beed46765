"""The outcome of a load test: the short table, the verdict, the thresholds, and the exit code."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sim.errors import Interrupted, InvalidRun, ThresholdFailed
from sim.results.answers import outcomes
from sim.results.text import Summary, figure, labelled, number, percent, seconds, under
from sim.results.thresholds import Check

NOT_RECEIVED = {
    "missing.target": "lost by the target",
    "missing.connection": "with their connection",
    "missing.harness": "by the harness",
    "missing.on_its_way": "on their way at the end",
    "not_connected": "missed by pages that were not connected",
}
BEYOND = {"duplicate": "came more than once", "unexpected": "came where nothing was expected"}
OF_UPDATES = {"failed": "failed", "unknown": "of unknown fate", "not_broadcast": "not broadcast"}


@dataclass(frozen=True, slots=True)
class LoadTestOutcome:
    """One finished run, judged."""

    directory: Path
    name: str
    summary: Summary
    harness: Mapping[str, Any]
    fates: Mapping[str, int]
    """See `sim.results.ledger.deliveries`."""
    reasons: Sequence[str]
    """Why the run is invalid; empty: it is valid."""
    remarks: Sequence[str]
    checks: Sequence[Check]
    duration: float
    """Seconds from the first process to the last."""
    trouble: Sequence[str] = ()
    """What went wrong with the target; a run is valid all the same, since that is a result."""
    why: Sequence[str] = ()
    """Limits that the target has reached (`answers.culprits`)."""
    refused: Sequence[str] = ()
    """What the target refused, and what to do: the first lines of the result."""
    interrupted: str = ""
    """Name of the signal that ended it."""
    partial: bool = False
    """Whether something of it is missing."""

    @property
    def verdict(self) -> str:
        if self.interrupted:
            return f"partial ({self.interrupted})"
        if self.reasons:
            return "INVALID, partial" if self.partial else "INVALID"
        failed = sum(not check.ok for check in self.checks)
        return f"valid, {failed} of {len(self.checks)} thresholds failed" if failed else "valid"

    def rows(self) -> list[tuple[str, str]]:
        """The short table: label, figure."""

        def value(name: str) -> float | None:
            return self.summary.get(name, {}).get("value")

        def pair(name: str) -> str:
            return "   ".join(f"{p} {figure(self.summary, f'{name}.{p}')}" for p in ("p50", "p99"))

        def counts(found: Mapping[str, Any], words: Mapping[str, str], always: str) -> str:
            return ", ".join(f"{number(found.get(n) or 0)} {what}" for n, what in words.items() if found.get(n) or n == always)

        expected, received = value("deliveries.expected"), value("deliveries.received")
        floor = [seconds(self.harness.get(f"floor_{p}")) for p in ("p50", "p99")]
        lag = [seconds(self.harness.get(f"lag_{p}")) for p in ("p50", "p99")]
        more = counts(self.fates, BEYOND, "")
        fates_of_updates = {name: value(f"updates.{name}") for name in OF_UPDATES}
        return [
            *under("refused", self.refused),
            ("updates", f"{number(value('updates'))}   {counts(fates_of_updates, OF_UPDATES, 'failed')}"),
            ("deliveries", f"{number(received)} of {number(expected)} expected   {percent(value('delivery_ratio'))}"),
            *([("besides", more)] if more else []),
            ("not received", counts(self.fates, NOT_RECEIVED, "missing.target")),
            ("time to notified", pair("time_to_notified")),
            ("first to last", pair("fan_out.spread")),
            ("time to fresh", pair("time_to_fresh")),
            ("refetches", f"{number(value('refetches_per_update'))} per update   {number(value('refetches.failed'))} failed"),
            ("harness floor", f"p50 {floor[0]}   p99 {floor[1]}"),
            ("reader's lag", f"p50 {lag[0]}   p99 {lag[1]}"),
            *under("target", self.trouble or ["healthy: nothing failed there"]),
            *under("why", self.why),
        ]

    def text(self) -> str:
        checks = [("threshold", check.text) for check in self.checks]
        verdict = under("verdict", [self.verdict, *self.reasons, *self.remarks])
        return labelled([*self.rows(), *checks, *verdict, ("bundle", str(self.directory))])

    def markdown(self) -> str:
        notes = "".join(f"- {line}\n" for line in (*self.reasons, *self.remarks))
        return outcomes.markdown(self.name, self.rows(), self.checks, self.verdict) + ("\n" + notes if notes else "")

    def junit(self) -> str:
        reasons = [self.interrupted, *self.reasons] if self.interrupted else self.reasons
        return outcomes.junit(self.name, self.checks, reasons, self.duration)

    def to_dict(self) -> dict[str, Any]:
        return {
            "bundle": str(self.directory),
            "verdict": self.verdict,
            "valid": not self.reasons and not self.interrupted,
            "partial": self.partial,
            "trouble": [*self.refused, *self.trouble],
            "why": list(self.why),
            "reasons": list(self.reasons),
            "remarks": list(self.remarks),
            "thresholds": [check.to_dict() for check in self.checks],
            "harness": dict(self.harness),
            "deliveries": dict(self.fates),
            "summary": dict(self.summary),
        }

    def require_pass(self) -> None:
        """Raise what the exit code is made from. An invalid run fails first: its figures decide nothing."""
        if self.interrupted:
            raise Interrupted(signal.Signals[self.interrupted])
        if self.reasons:
            raise InvalidRun(f"the run is invalid: {self.reasons[0]}")
        require_checks(self.checks)


def require_checks(checks: Sequence[Check]) -> None:
    """Raise `ThresholdFailed` that names those that failed."""
    failed = [check.text for check in checks if not check.ok]
    if failed:
        raise ThresholdFailed(f"{len(failed)} of {len(checks)} thresholds failed: {'; '.join(failed)}")
