"""Make bundle and verdict from the files of a load test: at its end, or after it was killed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sim.clock import SECOND
from sim.commands.measuring.outcome import LoadTestOutcome
from sim.live.capacity import calibration
from sim.live.capacity.calibration import Calibration
from sim.live.drive import sent
from sim.live.drive.publisher import NO_TURN
from sim.live.measure import collect, fates
from sim.live.measure.attribution import attribute, per_channel, tell_apart
from sim.live.measure.collect import Notifications
from sim.live.measure.harness import Harness, cpu_shares, offset_of, pages_waiting, polled, publisher_added, requests_queued
from sim.live.measure.health import health, missing_figures, refused
from sim.live.measure.measured import RunFiles, RunRecord
from sim.live.measure.sampling import MetricSample, metric_columns, read_samples
from sim.live.measure.verdict import Evidence, judge
from sim.results import parts
from sim.results.run import RunWriter, over_at
from sim.results.thresholds import Threshold, check
from sim.scenario import of_the_target


def finish(
    files: RunFiles, measured: RunRecord, thresholds: Sequence[Threshold], known: Calibration | None, duration: float = 0.0
) -> LoadTestOutcome:
    """Make the bundle, judge it, and remove the parts. What fails here leaves the parts as they are."""
    # Here and not above: they import SciPy, which only a run that has ended needs.
    from sim.results.frames import columns_of
    from sim.results.ledger.deliveries import account
    from sim.results.ledger.views import with_payloads
    from sim.results.summary import summarise

    scenario = measured.scenario
    run = RunWriter(files.directory, scenario, "measured", measured.command)
    run.manifest.target = dict(measured.target)
    run.manifest.extra["embedded"] = measured.embedded
    if not measured.embedded and (keys := of_the_target(scenario)):
        run.manifest.extra["left_out"] = [*run.manifest.extra.get("left_out", []), *(f"{key} (the target's own)" for key in keys)]
    harness, samples = Harness(parts.read_headers(files.parts)), read_samples(files.sampled)
    if measured.ended_at is not None:
        measured.ended_at = harness.heard_until(measured.ended_at)
    unchanged = _collect(run, files, measured, samples)
    assert measured.epoch is not None
    frames = run.frames()
    refetches = with_payloads(frames, scenario, over_at(run.manifest.window))
    if refetches is not frames.refetches:
        frames.refetches = refetches
        run.rewrite("refetches", columns_of(refetches))
    end = measured.epoch + round(run.manifest.window["end"] * SECOND)
    ended = EndedRun(
        run,
        measured,
        known,
        harness,
        frames,
        summary=summarise(frames, scenario),
        deliveries=account(frames, scenario, harness.unfinished),
        cpu_shares=cpu_shares(samples, measured.epoch, end),
        unchanged=unchanged,
    )
    outcome = _outcome(ended, thresholds, duration)
    _close(ended, outcome)
    files.clear(logs=not outcome.reasons and not outcome.partial)
    return outcome


def recover(files: RunFiles, thresholds: Sequence[Threshold]) -> LoadTestOutcome:
    """A partial bundle from what a load test has left that was killed. Raises `BadInput` where there is none."""
    measured = RunRecord.load(files)
    if not measured.complete and measured.ended_at is None:
        headers = parts.read_headers(files.parts)
        measured.ended_at = max((header["written_at_ns"] for header in headers), default=time.time_ns())
        measured.invalid.append("the load test was killed: this is what it had measured by then")
    if measured.epoch is None:
        measured.epoch = measured.ended_at
    return finish(files, measured, thresholds, calibration.stored())


def _collect(run: RunWriter, files: RunFiles, measured: RunRecord, samples: Sequence[MetricSample]) -> int:
    """Fill the tables; returns how many changes changed nothing."""
    assert measured.epoch is not None
    epoch, directory = measured.epoch, files.parts
    _cut(run, measured)
    run.append("metrics", metric_columns(samples, epoch))
    if measured.scenario.publisher.via == "none":
        heard = Notifications.read(directory, offset_of, tell_apart)
        collect.append_parts(run, directory, epoch, heard, offset_of)
        collect.append_passive(run, heard, epoch)
        return 0
    never = measured.ended_at is not None and measured.ended_at <= epoch  # The run ended before there was anything to publish.
    table, complete = sent.read(files.sent) if sent.begun(files.sent) else (sent.to_table([]), never)
    if not (complete or never):
        measured.invalid.append("the publisher was killed: what became of its last updates is not known")
    measured.trouble += sent.trouble(table)
    if (late := sent.failures(table)[NO_TURN]) and measured.ended_at is None:
        measured.invalid.append(f"{late} of {len(table)} changes were due and never sent: the publisher got no processor time")
    rows, broken = fates.without_broken_versions(fates.with_outcomes(sent.frame(table), files.outcomes))
    measured.trouble += broken
    run.append("metrics", sent.metric_columns(table, epoch))
    published = per_channel(rows)
    heard = Notifications.read(directory, offset_of, lambda notifications, events: attribute(notifications, events, published))
    collect.append_parts(run, directory, epoch, heard, offset_of)
    nothing = fates.without_change(rows, heard.first_at.index)
    rows = rows[~nothing].reset_index(drop=True)
    subscriptions = parts.read_table(directory, "subscriptions", offset_of).to_pandas().astype({"channel": str})
    listened = fates.listened(rows, subscriptions)
    run.append(
        "updates", fates.update_columns(rows, heard.first_at, heard.posted_at, listened, epoch, over_at(run.manifest.window))
    )
    return int(nothing.sum())


def _cut(run: RunWriter, measured: RunRecord) -> None:
    """End the window of a run that was stopped before its time there: updates that did not happen are not missing."""
    if measured.ended_at is None:
        return
    window = run.manifest.window
    at = max(0.0, measured.seconds(measured.ended_at))
    end = min(window["end"], at)
    cooldown = min(window["cooldown"], at - end)
    rest = {"end": end, "cooldown": cooldown, "drain": min(window["drain"], at - end - cooldown)}
    run.manifest.window = window | rest | {"start": min(window["start"], end)}


@dataclass(frozen=True, slots=True)
class EndedRun:
    """A run whose tables are full, and what its verdict is made from."""

    run: RunWriter
    measured: RunRecord
    known: Calibration | None
    harness: Harness
    frames: Any
    """The bundle's tables."""
    summary: dict[str, dict[str, Any]]
    deliveries: dict[str, int]
    """See `sim.results.ledger.deliveries`."""
    cpu_shares: dict[str, float]
    """Of one core, of each process within the window."""
    unchanged: int
    """Changes that changed nothing."""

    @property
    def busiest(self) -> float:
        """Share of a core that the busiest load process took."""
        return max((share for name, share in self.cpu_shares.items() if name.startswith("harness")), default=0.0)

    def evidence(self) -> Evidence:
        """For the verdict."""
        measured, harness, scenario = self.measured, self.harness, self.measured.scenario
        window = self.run.manifest.window
        return Evidence(
            summary=self.summary,
            expected_workers=measured.workers,
            finished_workers=harness.finished,
            heard=harness.counters["notifications"],
            incidents=[*measured.invalid, *harness.complaints],
            kernel_stamps=harness.kernel_stamps,
            cpu_share=self.busiest,
            coalesced=harness.coalesced,
            clock_step=harness.clock_step,
            clock_error=harness.clock_error,
            negative=harness.counters["negative"],
            passive=scenario.publisher.via == "none",
            floor=self.known.floor_p99 if self.known else None,
            publisher_added=publisher_added(self.frames),
            finished_refetches=polled(self.frames, scenario),
            share=self.run.manifest.sampling.get("share", 1.0),
            lost_by_harness=self.deliveries["missing.harness"],
            unchanged=self.unchanged,
            refetches=harness.counters["refetches"],
            unsent=harness.counters["unsent"],
            queued=requests_queued(self.frames, window["start"], window["end"]),
            waiting=pages_waiting(self.frames, window["start"], window["end"], scenario.subscribers),
        )


def _outcome(ended: EndedRun, thresholds: Sequence[Threshold], duration: float) -> LoadTestOutcome:
    """The verdict on the harness, the thresholds, and what went wrong with the target."""
    from sim.results.answers.culprits import culprits

    measured, frames, harness = ended.measured, ended.frames, ended.harness
    known = ended.known
    floor = {"floor_p50": known.floor_p50, "floor_p99": known.floor_p99, "drain_rate": known.drain_rate} if known else {}
    verdict = judge(ended.evidence())
    undisturbed = not (measured.embedded or measured.incidents)
    return LoadTestOutcome(
        directory=ended.run.directory,
        name=measured.scenario.name,
        summary=ended.summary,
        harness=harness.manifest() | floor | {"cpu_share": ended.busiest},
        fates=ended.deliveries,
        reasons=verdict.reasons,
        remarks=[*verdict.remarks, *missing_figures(frames, measured.scenario, harness.headers)],
        trouble=[*measured.trouble, *health(frames, harness.counters, undisturbed)],
        why=culprits(ended.summary, measured.scenario, frames.updates),
        refused=refused(frames, harness.headers, measured.target.get("family", "REVERB")),
        checks=check(thresholds, ended.summary),
        duration=duration,
        interrupted=measured.interrupted,
        partial=not measured.complete or harness.finished < measured.workers,
    )


def _close(ended: EndedRun, outcome: LoadTestOutcome) -> None:
    """Write the manifest and the summary: the bundle is complete."""
    run = ended.run
    run.summary = ended.summary
    run.manifest.harness = dict(outcome.harness)
    run.manifest.clock = ended.harness.clock()
    run.manifest.validity["remarks"] = list(outcome.remarks)
    trouble = [*outcome.refused, *outcome.trouble]
    run.manifest.extra |= {"cpu_shares": ended.cpu_shares, "deliveries": ended.deliveries, "target_trouble": trouble}
    if ended.measured.incidents:
        run.manifest.extra["incidents"] = ended.measured.incidents
    interrupted = ("interrupted",) if outcome.interrupted else ()
    run.close(partial=outcome.partial, reasons=(*interrupted, *outcome.reasons))
