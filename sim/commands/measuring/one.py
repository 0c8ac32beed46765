"""One load test as the commands run it: target, consent, limits, the run itself, bundle, summary, verdict."""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sim.clock import SECOND
from sim.commands import options
from sim.commands.measuring.abort import Abort
from sim.commands.measuring.outcome import Outcome
from sim.commands.terminal import Terminal
from sim.errors import BadInput, InvalidRun, Unreachable, WorkbenchError
from sim.live.capacity import calibration, consent, limits
from sim.live.capacity.calibration import Calibration
from sim.live.client import Origin
from sim.live.drive.requests import via
from sim.live.drive.sent import changed
from sim.live.measure import swarm
from sim.live.measure.harness import Harness, cpu_shares, offset_of, polled, publisher_added
from sim.live.measure.loadtest import Job, Measured, Observer, collect_into, interruptible, measure, shielded
from sim.live.measure.sampling import Sampler, listeners
from sim.live.measure.verdict import judge
from sim.live.probe import require_reachable, why_unreachable
from sim.live.serve import Options, embedded_target
from sim.results.run import RunWriter
from sim.results.thresholds import Threshold, check, parse_all
from sim.scenario import Load, Scenario, to_toml
from sim.target import Target


@dataclass(frozen=True, slots=True)
class Settings:
    """Of one load test, besides the scenario."""

    output: Path | None = None
    """None: `runs/<scenario>-<time>`."""
    target: str | None = None
    """As `--target`; None: the embedded one."""
    owned: bool = False
    remote_workers: int = 0
    master: tuple[str, int] = ("127.0.0.1", 0)
    shape: str = ""
    locust: tuple[str, ...] = ()
    command: str = ""
    quiet: bool = False


def run_load_test(scenario: Scenario, settings: Settings) -> Outcome:
    """Measure *scenario*; the bundle is complete when this returns. Raises `BadInput`, `Unreachable` or `WorkbenchError` before
    there is anything to keep; an interrupt in mid-run returns an `Outcome` that says so."""
    thresholds = parse_all(scenario.thresholds)
    directory = settings.output or Path("runs") / f"{scenario.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    if (directory / "manifest.json").exists():
        raise BadInput(f"{directory} already holds a run (choose another -o, or remove it)")
    _require_room(scenario)
    observer = Terminal(scenario.subscribers, settings.quiet)
    ruler = calibrated(observer)
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="workbench-")))
        stack.enter_context(interruptible())
        sampler = Sampler()
        target = stack.enter_context(_target(scenario, settings, sampler))
        if scenario.publisher.via != "none":
            via(target, scenario)  # raises now for what the publisher could not do later
        job = _job(scenario, settings, target, scratch, sampler, thresholds)
        try:
            measured = measure(job, observer)
        finally:
            observer.close()
        # From here on an interrupt would only cost what was measured.
        with shielded(), RunWriter(directory, scenario, "measured", settings.command) as run:
            run.manifest.target = target.public()
            collect_into(run, job, measured, offset_of)
            outcome = _judged(run, job, measured, thresholds, ruler, time.monotonic() - began)
            if outcome.reasons:
                shutil.copytree(job.order.logs, directory / "logs", dirs_exist_ok=True)
            return outcome


def calibrated(observer: Observer) -> Calibration | None:
    """The floor of this machine; measured now where it never was. None: it is too busy to tell."""
    found = calibration.stored()
    if found is None:
        observer.said("this machine is not calibrated yet: measuring its floor (some ten seconds, once)")
        try:
            found = calibration.calibrate(subscribers=200)
            calibration.store(found)
        except (InvalidRun, OSError) as error:
            observer.said(f"no calibration: {error}")
    return found


def _require_room(scenario: Scenario) -> None:
    """Descriptors for the largest load process, before anything is started."""
    share = -(-scenario.subscribers // scenario.load.processes)
    http = share if scenario.load.http == "per_subscriber" else scenario.load.pool_size
    limits.require_descriptors(limits.descriptors_needed(share, http), f"{share} subscribers")


@contextlib.contextmanager
def _target(scenario: Scenario, settings: Settings, sampler: Sampler) -> Iterator[Target]:
    """The target of the run, seen to be there; what can be watched of it is given to the sampler."""
    if settings.target is None:
        with embedded_target(scenario, Options(api_port=0, reverb_port=0, members=scenario.publisher.members)) as serving:
            sampler.watch(serving.pids)
            _scrape(sampler, serving.target)
            yield serving.target
        return
    target = options.read_target(settings.target)
    limits.require_ports(scenario.subscribers, target.host)
    consent.require(_volume(scenario, target), target, settings.owned)
    require_reachable(target)
    if all(consent.is_loopback(host) for host in consent.hosts(target)):
        ports = {"broadcaster": target.port} | ({"application": Origin.parse(target.api).port} if target.api else {})
        sampler.watch(listeners(ports))
    _scrape(sampler, target)
    yield target


def _volume(scenario: Scenario, target: Target) -> consent.Volume:
    return consent.volume_of_load(scenario, target)


def _scrape(sampler: Sampler, target: Target) -> None:
    sampler.scrape({"broadcaster": target.http_url} | ({"application": target.api} if target.api else {}))


def _job(
    scenario: Scenario,
    settings: Settings,
    target: Target,
    scratch: Path,
    sampler: Sampler,
    thresholds: Sequence[Threshold],
) -> Job:
    """Write the files that the processes read, and say what they are to do."""
    target.write(scratch / "target.json")
    (scratch / "scenario.toml").write_text(to_toml(scenario), encoding="utf-8")
    for name in ("parts", "logs"):
        (scratch / name).mkdir()
    order = swarm.Order(
        scenario=scratch / "scenario.toml",
        target=scratch / "target.json",
        parts=scratch / "parts",
        logs=scratch / "logs",
        epoch=time.time_ns(),
        subscribers=scenario.subscribers,
        connect_rate=scenario.load.connect_rate,
        processes=scenario.load.processes,
        remote_workers=settings.remote_workers,
        bind=settings.master[0],
        port=settings.master[1],
        shape=settings.shape,
        extra=settings.locust,
        settings=load_settings(scenario.load),
    )
    return Job(scenario, target, order, scratch, sampler, Abort(thresholds, order.parts))


def load_settings(load: Load) -> dict[str, str]:
    """The scenario's `load` as the environment of Locust's processes."""
    values = {"AUTH": load.auth, "REFETCH": load.refetch, "VERSION": load.version, "PROBES": load.probes}
    return {f"WORKBENCH_{name}": str(value) for name, value in values.items() if value not in (None, "")}


def _judged(
    run: RunWriter,
    job: Job,
    measured: Measured,
    thresholds: Sequence[Threshold],
    ruler: Calibration | None,
    duration: float,
) -> Outcome:
    """Summary, verdict and thresholds; closes the bundle."""
    # Here and not above: it draws in scipy.stats, which takes longer to import than everything else together.
    from sim.results.ledger.deliveries import account
    from sim.results.summary import summarise

    frames = run.frames()
    summary = summarise(frames, job.scenario)
    harness = Harness(measured.headers)
    fates = account(frames, job.scenario, harness.unfinished)
    end = measured.epoch + round((job.scenario.warmup + job.scenario.duration) * SECOND)
    shares = cpu_shares(job.sampler, measured.epoch, end)
    busiest = max((share for name, share in shares.items() if name.startswith("harness")), default=0.0)
    evidence = harness.evidence(
        summary,
        job.order.workers,
        busiest,
        measured.invalid,
        passive=job.scenario.publisher.via == "none",
        floor=ruler.floor_p99 if ruler else None,
        publisher_added=publisher_added(frames),
        finished_refetches=polled(frames, job.scenario),
        share=run.manifest.sampling.get("share", 1.0),
        lost_by_harness=fates["missing.harness"],
        unchanged=0 if measured.rows is None else len(measured.rows) - len(changed(measured.rows)),
    )
    verdict = judge(evidence)
    run.summary = summary
    floor = {"floor_p50": ruler.floor_p50, "floor_p99": ruler.floor_p99, "drain_rate": ruler.drain_rate} if ruler else {}
    run.manifest.harness = harness.manifest() | floor | {"cpu_share": busiest}
    run.manifest.clock = harness.clock()
    remarks = (*verdict.remarks, *(f"left out: {key}" for key in run.manifest.extra.get("left_out", ())))
    run.manifest.validity["remarks"] = list(remarks)
    run.manifest.extra |= {"cpu_shares": shares, "deliveries": fates}
    reasons = ("interrupted", *verdict.reasons) if measured.interrupted else verdict.reasons
    run.close(partial=measured.interrupted, reasons=reasons)
    return Outcome(
        directory=run.directory,
        name=job.scenario.name,
        summary=summary,
        harness=run.manifest.harness,
        fates=fates,
        reasons=verdict.reasons,
        remarks=remarks,
        checks=check(thresholds, summary),
        duration=duration,
        interrupted=measured.interrupted,
    )


def join(scenario: Scenario, settings: Settings) -> int:
    """Be a further machine of somebody else's load test: workers for that master, until it ends them. Returns the exit code."""
    if settings.target is None:
        raise BadInput("--join needs --target: the target.json of the first machine, as this machine reaches it")
    _require_room(scenario)
    target = options.read_target(settings.target)
    consent.require(_volume(scenario, target), target, settings.owned)
    require_reachable(target)
    host, port = settings.master
    if reason := why_unreachable(host, port):
        raise Unreachable(f"master {host}:{port}: {reason} (start the load test there first, with --bind)")
    with tempfile.TemporaryDirectory(prefix="workbench-") as scratch, interruptible():
        job = _job(scenario, settings, target, Path(scratch), Sampler(), ())
        joined = swarm.Join(job.order, settings.master)
        try:
            print(f"{scenario.load.processes} workers for {host}:{port}", file=sys.stderr)
            while joined.running():
                time.sleep(0.2)
        finally:
            with shielded():
                joined.stop()
        for child in joined.failed():
            raise WorkbenchError(f"{child.name} ended with {child.exit_code}: {child.last_words()}")
    return 0
