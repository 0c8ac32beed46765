"""A load test from beginning to end: subscribers first, then updates, then everything stops and is collected.

    connect    Locust starts the subscribers; wait until the pages are subscribed
    publish    the run's zero is set; `workbench drive` sends the updates, in a process of its own
    drain      late notifications and refetches still count
    stop       all processes end, in order; nothing is left behind
    collect    parts and rows become the tables of the bundle

An interrupt in any phase goes on with *stop* and *collect*, so that what was measured is kept; the bundle then is partial.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import pyarrow as pa

from sim.clock import SECOND
from sim.errors import BadInput, InvalidRun, Unreachable, WorkbenchError
from sim.live.drive import sent
from sim.live.drive.publisher import READY
from sim.live.drive.requests import channel_finder
from sim.live.measure import collect
from sim.live.measure.attribution import per_channel
from sim.live.measure.sampling import Sampler
from sim.live.measure.swarm import Order, Progress, Swarm
from sim.live.processes import Child
from sim.results.run import RunWriter
from sim.scenario import Scenario
from sim.target import Target

TICK = 0.1
"""Seconds between two looks at the processes."""

PATIENCE = 20.0
"""Seconds without one more subscription after which the run goes on with those that are there."""

JOIN_PATIENCE = 120.0
"""The same, while workers of other machines have yet to be started there."""

REFUSED = 4.0
"""The same, where every attempt so far has failed: nobody will come."""

HEAD_START = SECOND // 2
"""Nanoseconds from telling the publisher the run's zero until it comes: it still has to connect."""


class Observer:
    """Told what happens; the command draws it on the terminal. The default says nothing."""

    def connecting(self, progress: Progress) -> None: ...

    def running(self, elapsed: float, total: float) -> None: ...

    def said(self, line: str) -> None: ...


@dataclass
class Measured:
    """What a run left, before it is judged."""

    epoch: int
    """The run's zero, ns since 1970."""
    subscribed: Progress
    headers: list[dict[str, Any]]
    rows: pa.Table | None = None
    """The publisher's; None in passive mode."""
    interrupted: bool = False
    invalid: list[str] = field(default_factory=list)
    """What went wrong with the harness while it ran."""


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be measured, and where its files go."""

    scenario: Scenario
    target: Target
    order: Order
    scratch: Path
    """Directory for what only lives as long as the run."""
    sampler: Sampler
    watch: Callable[[], str | None] = lambda: None
    """Asked each second; a text ends the run early and is the reason (abort on fail)."""

    @property
    def seconds(self) -> float:
        return self.scenario.warmup + self.scenario.duration + self.scenario.drain


def measure(job: Job, observer: Observer) -> Measured:
    """Run all phases but the collecting. Raises `Unreachable` when nobody could subscribe at all."""
    swarm = Swarm(job.order)
    result = Measured(job.order.epoch, Progress(), [])
    publisher: Child | None = None
    try:
        try:
            swarm.start()
            if job.scenario.publisher.via != "none":
                publisher = _start_publisher(job)
                job.sampler.watch({"publisher": publisher.pid})
            job.sampler.watch(swarm.pids())
            result.subscribed = _wait_until_subscribed(swarm, observer)
            if publisher is not None:
                publisher.wait_until_it_says(READY, PATIENCE)
            result.epoch = time.time_ns() + HEAD_START
            if publisher is not None:
                publisher.tell(str(result.epoch))
            _let_it_run(job, swarm, publisher, result, observer)
        except KeyboardInterrupt:
            result.interrupted = True
            observer.said("interrupted: stopping, and keeping what was measured")
        with shielded():
            observer.said("stopping")
            job.sampler.sample()
            if publisher is not None:
                publisher.stop()
            swarm.stop()
    finally:
        with shielded():
            for child in [publisher, *swarm.children]:
                if child is not None:
                    child.stop(0)
    result.headers = swarm.headers()
    if publisher is not None:
        result.rows = _rows_of(publisher, _rows_file(job), result)
    return result


def _wait_until_subscribed(swarm: Swarm, observer: Observer) -> Progress:
    """All pages, or as many as come while there is progress."""
    order, best, since = swarm.order, Progress(), time.monotonic()
    while True:
        for child in swarm.ended():
            kind = BadInput if child.exit_code == BadInput.exit_code else WorkbenchError
            raise kind(f"{child.name} ended before the load began (exit {child.exit_code}): {child.last_words(1)}")
        progress = swarm.progress()
        observer.connecting(progress)
        # With a shape the load begins with the first subscribers: how many there are when is what is being tested.
        enough = 1 if order.shape else order.subscribers
        complete = progress.workers >= (1 if order.shape else order.workers) and progress.opened >= enough
        if complete and progress.subscribed >= progress.wanted:
            return progress
        if (progress.opened, progress.subscribed) > (best.opened, best.subscribed):
            best, since = progress, time.monotonic()
        refused = progress.opened >= order.subscribers and progress.subscribed == 0 and bool(_failures(swarm.headers()))
        absent = order.workers - progress.workers
        patience = REFUSED if refused else JOIN_PATIENCE if absent and order.remote_workers else PATIENCE
        if time.monotonic() - since > patience:
            if absent and not order.shape:
                raise InvalidRun(f"{absent} of {order.workers} load processes did not come: {_said(swarm)}")
            if progress.subscribed == 0 and progress.wanted > 0:
                raise Unreachable(f"none of {progress.wanted} subscribers could subscribe: {_why(swarm.headers())}")
            observer.said(f"only {progress.subscribed} of {order.subscribers} are subscribed: {_why(swarm.headers())}; going on")
            return progress
        time.sleep(TICK)


def _said(swarm: Swarm) -> str:
    """The last words of each process of this machine."""
    return "; ".join(f"{child.name}: {child.last_words(1)}" for child in swarm.children)


def _failures(headers: list[dict[str, Any]]) -> dict[str, int]:
    """What the workers counted of connections and subscriptions that did not come about."""
    total: Counter[str] = Counter()
    for header in headers:
        total.update({name: header["counters"][name] for name in ("connect_failures", "drops", "refused", "complaints")})
    return {name.replace("_", " "): count for name, count in total.items() if count}


def _why(headers: list[dict[str, Any]]) -> str:
    said = [f"{count} {name}" for name, count in _failures(headers).items()]
    return f"{', '.join(said) or 'no answer'} (workbench doctor says more)"


def _rows_file(job: Job) -> Path:
    return job.scratch / "sent.parquet"


def _start_publisher(job: Job) -> Child:
    """Started with the subscribers, so that it has everything loaded when it is told the run's zero."""
    command = [sys.executable, "-m", "sim", "drive", str(job.order.scenario), "--target", str(job.order.target)]
    command += ["--epoch", "-", "-o", str(_rows_file(job)), "--json", "--i-own-this-target"]
    return Child("publisher", command, job.order.logs / "publisher.log", listens=True)


def _let_it_run(job: Job, swarm: Swarm, publisher: Child | None, result: Measured, observer: Observer) -> None:
    """Until the drain is over; watches that everybody stays alive, and samples once a second."""
    end, sampled = result.epoch + round(job.seconds * SECOND), 0
    lost: set[str] = set()
    while (now := time.time_ns()) < end:
        observer.running(max(0, now - result.epoch) / SECOND, job.seconds)
        if now - sampled >= SECOND:
            sampled = now
            job.sampler.sample()
            if reason := job.watch():
                result.invalid.append(f"stopped early: {reason}")
                return
        for child in swarm.ended():
            # A shape ends by itself, when it is through or has found the knee.
            if child.name not in lost and not (job.order.shape and child.exit_code in (0, 1)):
                lost.add(child.name)
                result.invalid.append(f"{child.name} went missing in mid-run (exit {child.exit_code}): {child.last_words()}")
        if len(swarm.ended()) == len(swarm.children):
            return
        time.sleep(TICK)


def _rows_of(publisher: Child, path: Path, result: Measured) -> pa.Table:
    """The publisher's rows; none, and a reason, when it died without leaving them."""
    if path.exists():
        return sent.read(path)
    if not result.interrupted:
        result.invalid.append(f"publisher left no rows (exit {publisher.exit_code}): {publisher.last_words()}")
    return sent.to_table([])


def collect_into(run: RunWriter, job: Job, measured: Measured, offset: collect.Offset | None = None) -> None:
    """Fill the tables of the bundle."""
    directory, epoch = job.order.parts, measured.epoch
    if measured.rows is None:
        collect.append_parts(run, directory, epoch, offset)
        collect.append_heard(run, directory, epoch, offset)
    else:
        rows = measured.rows.to_pandas()
        channels_of = channel_finder(job.target, job.scenario)
        channels = [channels_of(row.resource, row.resource_id) for row in rows.itertuples()]
        collect.append_parts(run, directory, epoch, offset, per_channel(rows, channels))
        collect.append_updates(run, measured.rows, directory, epoch, offset)
    run.append("metrics", job.sampler.columns(epoch))


@contextlib.contextmanager
def shielded() -> Iterator[None]:
    """Interrupts are ignored inside: the way out must not be interrupted by an impatient second Ctrl-C."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """SIGINT and SIGTERM raise `KeyboardInterrupt` inside, so that both end a run in the same order; also where the shell has
    started us with SIGINT ignored, as it does in the background of a script."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
