"""One load test as the commands run it: target, consent, limits, the run itself, bundle, summary, verdict."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sim.commands import options
from sim.commands.measuring.abort import Abort
from sim.commands.measuring.finish import finish
from sim.commands.measuring.outcome import LoadTestOutcome
from sim.commands.terminal import Terminal
from sim.errors import BadInput, InvalidRun, Unreachable, WorkbenchError
from sim.live.capacity import calibration, consent, limits
from sim.live.capacity.calibration import Calibration
from sim.live.client import HttpOrigin
from sim.live.doctor.network import warn_of_sockets
from sim.live.drive.requests import via
from sim.live.measure import swarm
from sim.live.measure.incidents import Player, require_playable
from sim.live.measure.loadtest import Measurement, Observer, measure
from sim.live.measure.measured import RunFiles, RunRecord, has_begun
from sim.live.measure.sampling import SCHEMA, Sampler, listeners
from sim.live.probe import require_reachable, why_unreachable
from sim.live.processes import stop_all
from sim.live.serve import Options, Serving, embedded_target
from sim.results.journal import Journal
from sim.results.thresholds import Threshold, parse_all
from sim.scenario import Scenario, of_the_target, to_toml
from sim.signals import interruptible, shielded
from sim.target import Target


@dataclass(frozen=True, slots=True)
class LoadTestSettings:
    """Of one load test, besides the scenario."""

    output: Path | None = None
    """Directory of the bundle. None: `runs/<scenario>-<time>`."""
    target: str | None = None
    """As `--target`; None: the embedded one."""
    accounts: Path | None = None
    """As `--accounts`: users in place of the target's own."""
    owned: bool = False
    remote_workers: int = 0
    master: tuple[str, int] = ("127.0.0.1", 0)
    shape: str = ""
    locust: tuple[str, ...] = ()
    otlp: str = ""
    """Address of an OpenTelemetry collector; empty: none."""
    command: str = ""
    quiet: bool = False


def run_load_test(scenario: Scenario, settings: LoadTestSettings) -> LoadTestOutcome:
    """Measure *scenario*; the bundle is complete when this returns. Raises `BadInput`, `Unreachable` or `WorkbenchError` before
    there is anything to keep; a fault after that, or an interrupt, is named in the outcome."""
    thresholds = parse_all(scenario.thresholds)
    require_playable(scenario.incidents, embedded=settings.target is None)
    _require_room(scenario, settings)
    files = RunFiles(settings.output or Path("runs") / f"{scenario.name}-{time.strftime('%Y%m%d-%H%M%S')}")
    files.make()
    observer = Terminal(scenario.subscribers, settings.quiet)
    began = time.monotonic()
    with interruptible():
        try:
            known = calibrated(observer)
            measured = _measured(scenario, settings, files, thresholds, observer)
        except BaseException:
            if not has_begun(files):
                files.clear(logs=True)
            raise
        finally:
            observer.close()
        with shielded():
            try:
                return finish(files, measured, thresholds, known, time.monotonic() - began)
            except BaseException:
                observer.note(f"what was measured is kept: workbench recover {files.directory}")
                raise


def _measured(
    scenario: Scenario, settings: LoadTestSettings, files: RunFiles, thresholds: Sequence[Threshold], observer: Observer
) -> RunRecord:
    """Run it. A fault that comes when there is something to keep is noted in the record, and not raised."""
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="workbench-")))
        sampler = Sampler(stack.enter_context(Journal(files.sampled, SCHEMA)))
        target, serving = stack.enter_context(_target(scenario, settings, sampler, files))
        incidents = Player(scenario.incidents, serving, files.logs)
        if scenario.publisher.via != "none":
            via(target, scenario)  # raises now for what the publisher could not do later
        load = _swarm_settings(scenario, settings, target, scratch, files)
        measured = RunRecord(scenario, target.public(), load.workers, os.getpid(), settings.command, settings.target is None)
        measured.save(files)
        job = Measurement(scenario, files, load, sampler, incidents, Abort(thresholds, files.parts))
        try:
            measure(job, measured, observer)
        except BaseException as error:
            if measured.epoch is None:
                raise
            observer.note(f"{type(error).__name__}: {error}")
        if serving is None and not measured.interrupted:
            measured.trouble += _away(target)
            measured.save(files)
    if measured.epoch is None:
        measured.epoch = measured.ended_at
    return measured


def _away(target: Target) -> list[str]:
    """A line where a target that is not embedded does not answer any more; else none."""
    try:
        require_reachable(target)
    except Unreachable as error:
        return [f"at the end of the run: {error}"]
    return []


def calibrated(observer: Observer) -> Calibration | None:
    """The calibration of this machine, made now where there is none. None: the machine is too busy for it."""
    found = calibration.stored()
    if found is None:
        observer.note("this machine is not calibrated yet: measuring its floor (some ten seconds, once)")
        try:
            found = calibration.calibrate(subscribers=200)
            calibration.store(found)
        except (InvalidRun, OSError) as error:
            observer.note(f"no calibration: {error}")
    return found


def _require_room(scenario: Scenario, settings: LoadTestSettings) -> None:
    """Descriptors for the largest load process of this machine, before anything is started."""
    share = -(-scenario.subscribers // (scenario.load.processes + settings.remote_workers))
    http = share if scenario.load.http == "per_subscriber" else scenario.load.pool_size
    limits.require_descriptors(limits.descriptors_needed(share, http), f"{share} subscribers")


@contextlib.contextmanager
def _target(
    scenario: Scenario, settings: LoadTestSettings, sampler: Sampler, files: RunFiles
) -> Iterator[tuple[Target, Serving | None]]:
    """The target of the run, seen to be there; what can be watched of it is given to the sampler."""
    if settings.target is None:
        limits.require_ports(scenario.subscribers, "127.0.0.1", scenario.load.processes)
        if (nodes := limits.nodes_for(scenario.subscribers, limits.descriptors())) > scenario.broadcaster.nodes:
            raise BadInput(
                f"{scenario.subscribers} subscribers are more than {scenario.broadcaster.nodes} broadcaster process may hold: "
                f"--set broadcaster.nodes={nodes}, or raise the limit of file descriptors (`ulimit -n`)"
            )
        chosen = Options(api_port=0, reverb_port=0, members=scenario.publisher.members, outcomes=files.outcomes.absolute())
        with embedded_target(scenario, chosen) as serving:
            sampler.watch(serving.pids)
            _scrape(sampler, serving.target)
            yield serving.target, serving
        return
    target = options.with_accounts(options.read_target(settings.target), settings.accounts)
    if scenario.publisher.via == "broadcaster" and not any(user.token or user.login for user in target.users):
        # Fan-out alone: the application is known by its address only, and would answer nobody.
        target = replace(target, api="")
    for note in target.notes:
        print(f"note: {note.text}", file=sys.stderr)
    if keys := of_the_target(scenario):
        print(
            f"note: the target decides over {', '.join(keys)}, not this scenario (workbench serve takes one to obey)",
            file=sys.stderr,
        )
    here = scenario.load.processes / (scenario.load.processes + settings.remote_workers)
    limits.require_ports(math.ceil(scenario.subscribers * here), target.subscribing.host, scenario.load.processes)
    consent.require(consent.volume_of_load(scenario, target), target, settings.owned)
    require_reachable(target)
    if warning := asyncio.run(warn_of_sockets(target, scenario.subscribers)):
        print(f"warning: {warning}", file=sys.stderr)
    if all(consent.is_loopback(host) for host in consent.hosts(target)):
        ports = {"broadcaster": target.subscribing.port} | (
            {"application": HttpOrigin.parse(target.api).port} if target.api else {}
        )
        sampler.watch(listeners(ports))
    _scrape(sampler, target)
    yield target, None


def _scrape(sampler: Sampler, target: Target) -> None:
    sampler.scrape({"broadcaster": target.http_url} | ({"application": target.api} if target.api else {}))


def _swarm_settings(
    scenario: Scenario, settings: LoadTestSettings, target: Target, scratch: Path, files: RunFiles
) -> swarm.SwarmSettings:
    """Write the files that the load processes read, and name them. The target's has secrets, so it lies in *scratch*."""
    target.write(scratch / "target.json")
    (scratch / "scenario.toml").write_text(to_toml(scenario), encoding="utf-8")
    load = scenario.load
    load_settings = {
        "AUTH": load.auth,
        "REFETCH": load.refetch,
        "VERSION": load.version,
        "PROBES": load.probes,
        "OTLP": settings.otlp,
    }
    return swarm.SwarmSettings(
        scenario=scratch / "scenario.toml",
        target=scratch / "target.json",
        parts=files.parts.absolute(),
        logs=files.logs,
        subscribers=scenario.subscribers,
        connect_rate=scenario.load.connect_rate,
        processes=scenario.load.processes,
        remote_workers=settings.remote_workers,
        bind=settings.master[0],
        port=settings.master[1],
        shape=settings.shape,
        extra=settings.locust,
        variables={f"WORKBENCH_{name}": str(value) for name, value in load_settings.items() if value not in (None, "")},
    )


def join(scenario: Scenario, settings: LoadTestSettings) -> int:
    """Be a further machine of a load test: run workers for its master until the master ends them. Returns the exit code."""
    if settings.target is None:
        raise BadInput("--join needs --target: the target.json of the first machine, as this machine reaches it")
    _require_room(scenario, settings)
    target = options.with_accounts(options.read_target(settings.target), settings.accounts)
    consent.require(consent.volume_of_load(scenario, target), target, settings.owned)
    require_reachable(target)
    host, port = settings.master
    if reason := why_unreachable(host, port):
        raise Unreachable(f"master {host}:{port}: {reason} (start the load test there first, with --bind)")
    with tempfile.TemporaryDirectory(prefix="workbench-") as scratch, interruptible():
        files = RunFiles(Path(scratch))
        files.make()
        workers = swarm.join(_swarm_settings(scenario, settings, target, Path(scratch), files), settings.master)
        try:
            print(f"{scenario.load.processes} workers for {host}:{port}", file=sys.stderr)
            while any(child.exit_code is None for child in workers):
                time.sleep(0.2)
        finally:
            with shielded():
                stop_all(workers, swarm.END)
        for child in workers:
            if child.exit_code:
                raise WorkbenchError(f"{child.name} ended with {child.exit_code}: {child.last_words()}")
    return 0
