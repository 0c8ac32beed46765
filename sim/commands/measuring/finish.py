"""From what lies in a load test's directory to its bundle and verdict: at the end of a run, and after one that was killed."""

from __future__ import annotations

import time
from collections.abc import Sequence

from sim.clock import SECOND
from sim.commands.measuring.outcome import LoadTestOutcome
from sim.live.capacity import calibration
from sim.live.capacity.calibration import Calibration
from sim.live.drive import sent
from sim.live.measure import collect, fates
from sim.live.measure.attribution import attribute, per_channel, tell_apart
from sim.live.measure.collect import Notifications
from sim.live.measure.harness import Harness, cpu_shares, offset_of, pages_waiting, polled, publisher_added
from sim.live.measure.health import health, not_told, refused
from sim.live.measure.measured import Places, RunRecord
from sim.live.measure.sampling import MetricSample, metric_columns, read_samples
from sim.live.measure.verdict import judge
from sim.results import parts
from sim.results.run import RunWriter
from sim.results.thresholds import Threshold, check
from sim.scenario import of_the_target


def finish(
    places: Places, measured: RunRecord, thresholds: Sequence[Threshold], known: Calibration | None, duration: float = 0.0
) -> LoadTestOutcome:
    """Make the bundle, judge it, and remove the parts. What fails here leaves the parts as they are."""
    run = RunWriter(places.directory, measured.scenario, "measured", measured.command)
    run.manifest.target = dict(measured.target)
    if not measured.embedded and (keys := of_the_target(measured.scenario)):
        run.manifest.extra["left_out"] = [*run.manifest.extra.get("left_out", []), *(f"{key} (the target's own)" for key in keys)]
    headers = parts.read_headers(places.parts)
    samples = read_samples(places.sampled)
    unchanged = _collect(run, places, measured, samples)
    outcome = _judged(run, measured, headers, samples, thresholds, known, unchanged, duration)
    places.clear(logs=not outcome.reasons and not outcome.partial)
    return outcome


def recover(places: Places, thresholds: Sequence[Threshold]) -> LoadTestOutcome:
    """A partial bundle from what a load test has left that was killed. Raises `BadInput` where there is none."""
    measured = RunRecord.load(places)
    if not measured.complete and measured.ended_at is None:
        headers = parts.read_headers(places.parts)
        measured.ended_at = max((header["written_at_ns"] for header in headers), default=time.time_ns())
        measured.invalid.append("the load test was killed: this is what it had measured by then")
    if measured.epoch is None:
        measured.epoch = measured.ended_at
    return finish(places, measured, thresholds, calibration.stored())


def _collect(run: RunWriter, places: Places, measured: RunRecord, samples: Sequence[MetricSample]) -> int:
    """Fill the tables; returns how many changes changed nothing."""
    assert measured.epoch is not None
    epoch, directory = measured.epoch, places.parts
    _cut(run, measured)
    run.append("metrics", metric_columns(samples, epoch))
    if measured.scenario.publisher.via == "none":
        heard = Notifications.read(directory, offset_of, tell_apart)
        collect.append_parts(run, directory, epoch, heard, offset_of)
        collect.append_passive(run, heard, epoch)
        return 0
    table, complete = sent.read(places.sent) if sent.begun(places.sent) else (sent.to_table([]), False)
    if not complete:
        measured.invalid.append("the publisher was killed: of its last updates nobody knows what became of them")
    rows = fates.with_outcomes(sent.frame(table), places.outcomes)
    nothing = fates.without_change(rows)
    run.append("metrics", sent.metric_columns(table, epoch))
    rows = rows[~nothing].reset_index(drop=True)
    published = per_channel(rows)
    heard = Notifications.read(directory, offset_of, lambda notifications, events: attribute(notifications, events, published))
    collect.append_parts(run, directory, epoch, heard, offset_of)
    subscriptions = parts.read_table(directory, "subscriptions", offset_of).to_pandas().astype({"channel": str})
    listened = fates.listened(rows, subscriptions)
    run.append("updates", fates.update_columns(rows, heard.first_at, heard.posted_at, listened, epoch))
    return int(nothing.sum())


def _describe_harness(run: RunWriter, harness: Harness, known: Calibration | None, busiest: float) -> None:
    """The manifest's blocks on the load client; *busiest*: share of a core that the busiest process took."""
    floor = {"floor_p50": known.floor_p50, "floor_p99": known.floor_p99, "drain_rate": known.drain_rate} if known else {}
    run.manifest.harness = harness.manifest() | floor | {"cpu_share": busiest}
    run.manifest.clock = harness.clock()


def _cut(run: RunWriter, measured: RunRecord) -> None:
    """A run that was stopped before its time has a window that ends there: nothing is owed by what did not happen."""
    if measured.ended_at is None:
        return
    window = run.manifest.window
    at = max(0.0, measured.seconds(measured.ended_at))
    end = min(window["end"], at)
    cooldown = min(window["cooldown"], at - end)
    rest = {"end": end, "cooldown": cooldown, "drain": min(window["drain"], at - end - cooldown)}
    run.manifest.window = window | rest | {"start": min(window["start"], end)}


def _judged(
    run: RunWriter,
    measured: RunRecord,
    headers: list[dict[str, object]],
    samples: Sequence[MetricSample],
    thresholds: Sequence[Threshold],
    known: Calibration | None,
    unchanged: int,
    duration: float,
) -> LoadTestOutcome:
    """Summary, verdict and thresholds; closes the bundle."""
    # Here and not above: they import SciPy, which only a run that has ended needs.
    from sim.results.answers.culprits import culprits
    from sim.results.ledger.deliveries import account
    from sim.results.summary import summarise

    assert measured.epoch is not None
    scenario = measured.scenario
    frames = run.frames()
    summary = summarise(frames, scenario)
    harness = Harness(headers)
    accounted = account(frames, scenario, harness.unfinished)
    window = run.manifest.window
    end = measured.epoch + round(window["end"] * SECOND)
    shares = cpu_shares(samples, measured.epoch, end)
    busiest = max((share for name, share in shares.items() if name.startswith("harness")), default=0.0)
    evidence = harness.evidence(
        summary,
        measured.workers,
        busiest,
        measured.invalid,
        passive=scenario.publisher.via == "none",
        floor=known.floor_p99 if known else None,
        publisher_added=publisher_added(frames),
        finished_refetches=polled(frames, scenario),
        share=run.manifest.sampling.get("share", 1.0),
        lost_by_harness=accounted["missing.harness"],
        unchanged=unchanged,
        waiting=pages_waiting(frames, window["start"], window["end"], scenario.subscribers),
    )
    verdict = judge(evidence)
    run.summary = summary
    _describe_harness(run, harness, known, busiest)
    trouble = [*measured.trouble, *health(frames, harness.counters)]
    refusals = refused(frames, headers, measured.target.get("family", "REVERB"))
    remarks = [*verdict.remarks, *not_told(frames, scenario)]
    run.manifest.validity["remarks"] = remarks
    run.manifest.extra |= {"cpu_shares": shares, "deliveries": accounted, "target_trouble": [*refusals, *trouble]}
    if measured.incidents:
        run.manifest.extra["incidents"] = measured.incidents
    interrupted = bool(measured.interrupted)
    partial = not measured.complete or harness.finished < measured.workers
    run.close(partial=partial, reasons=("interrupted", *verdict.reasons) if interrupted else verdict.reasons)
    return LoadTestOutcome(
        directory=run.directory,
        name=scenario.name,
        summary=summary,
        harness=run.manifest.harness,
        fates=accounted,
        reasons=verdict.reasons,
        remarks=remarks,
        trouble=trouble,
        why=culprits(summary, scenario, frames.updates),
        refused=refusals,
        checks=check(thresholds, summary),
        duration=duration,
        interrupted=measured.interrupted,
        partial=partial,
    )
