"""A load test from beginning to end: subscribers first, then updates, then everything stops.

    connect    Locust starts the subscribers; wait until the pages are subscribed (`connecting`)
    publish    the run's zero is set; `workbench drive` sends the updates, in a process of its own
    drain      late notifications and refetches still count
    stop       all processes end, in order; nothing is left behind

What is measured lies in the bundle's directory from the first second (`measured`); `collect` makes the tables of it. An
interrupt, a process that dies and any error end the phase and go on with *stop*; the bundle then is partial.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from sim.clock import SECOND
from sim.errors import Unreachable
from sim.live.drive import sent
from sim.live.drive.publisher import READY
from sim.live.measure.connecting import PATIENCE, TICK, wait_until_subscribed
from sim.live.measure.harness import Harness
from sim.live.measure.incidents import Player
from sim.live.measure.measured import RunFiles, RunRecord
from sim.live.measure.sampling import Sampler
from sim.live.measure.swarm import Progress, Swarm, SwarmSettings, progress_of
from sim.live.processes import Child, python
from sim.scenario import Scenario
from sim.signals import require_no_signal, shielded

HEAD_START = SECOND // 2
"""Nanoseconds from sending the publisher the run's zero until it comes: the publisher still has to connect."""

STOOD_STILL = 0.1
"""Share of the window, and at least a second, that may pass while the load test itself does not run (stopped, starved): what it
watches may have stood still as well."""


@dataclass(frozen=True, slots=True)
class Look:
    """What is known of a run while it goes on."""

    harness: Harness
    subscribed: int
    updates: int
    """Sent up to now."""


class Observer:
    """Its methods are called as the run goes on; the command draws them on the terminal. These do nothing."""

    def connecting(self, progress: Progress) -> None: ...

    def running(self, elapsed: float, total: float, look: Callable[[], Look]) -> None:
        """About once a second; *look*() costs some milliseconds."""

    def note(self, line: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Measurement:
    """What is to be measured, and where its files go."""

    scenario: Scenario
    files: RunFiles
    settings: SwarmSettings
    sampler: Sampler
    incidents: Player
    """What the scenario breaks on purpose; it knows which processes of the target may end."""
    watch: Callable[[], str | None] = lambda: None
    """Called each second; a text ends the run early and is the reason (abort on fail)."""

    @property
    def seconds(self) -> float:
        return self.scenario.warmup + self.scenario.duration + sum(self.scenario.tail)


class EndedEarly(Exception):
    """The run ends before its time; the reason has been noted."""


def measure(job: Measurement, result: RunRecord, observer: Observer) -> None:
    """Run all phases; *result* is kept up to date, in memory and on disk. Raises `Unreachable` when no page could subscribe at
    all, and what else goes wrong; then as well everything is stopped, and what was measured is on disk."""
    run = _Run(job, result, observer, Swarm(job.settings))
    try:
        try:
            run.connect()
            run.publish()
            run.drain()
            result.complete = True
        except EndedEarly:
            result.ended_at = time.time_ns()
        except KeyboardInterrupt as interrupt:
            result.ended_at = time.time_ns()
            result.interrupted = str(interrupt) or "SIGINT"
            observer.note(f"{result.interrupted}: stopping, and keeping what was measured")
        except BaseException as error:
            result.ended_at = time.time_ns()
            result.invalid.append(f"{type(error).__name__}: {error}")
            raise
        with shielded():
            observer.note("stopping")
            job.sampler.sample()
    finally:
        with shielded():
            run.stop()


@dataclass(slots=True)
class _Run:
    """The phases of one load test, in their order."""

    job: Measurement
    result: RunRecord
    observer: Observer
    swarm: Swarm
    publisher: Child | None = None
    """None: nothing is published."""
    missing: set[str] = field(default_factory=set)
    """Names of load processes that ended before their time."""
    opened: int = 0
    """The most pages that were open at a time."""

    def connect(self) -> None:
        job = self.job
        self.swarm.start()
        if job.scenario.publisher.via != "none":
            self.publisher = _start_publisher(job)
            job.sampler.watch({"publisher": self.publisher.pid})
        job.sampler.watch(self.swarm.pids())
        job.incidents.let_in(crowd=True)
        wait_until_subscribed(self.swarm, self.result, job.incidents.ended, self.observer.connecting, self._note)
        job.incidents.let_in(crowd=False)

    def publish(self) -> None:
        """Set the run's zero, and let the publisher begin then."""
        if self.publisher is not None:
            self.publisher.wait_until_it_says(READY, PATIENCE)
        self.result.epoch = time.time_ns() + HEAD_START
        self.result.save(self.job.files)
        if self.publisher is not None:
            self.publisher.tell(str(self.result.epoch))

    def drain(self) -> None:
        """Wait until the drain is over, by the monotonic clock. Raises `EndedEarly` as soon as a process that the run needs has
        ended: what comes after that proves nothing."""
        assert self.result.epoch is not None
        zero = time.monotonic() + (self.result.epoch - time.time_ns()) / SECOND
        sampled = float("-inf")
        while (elapsed := time.monotonic() - zero) < self.job.seconds:
            require_no_signal()
            self._play_incidents(elapsed)
            if elapsed - sampled >= 1.0:
                sampled = elapsed
                self._sample(elapsed)
            self._require_target(elapsed)
            self._require_publisher(elapsed)
            self._note_missing(elapsed)
            if len(self.swarm.ended()) == len(self.swarm.children):
                if self.missing:
                    raise EndedEarly
                return
            self._sleep(elapsed)

    def _sleep(self, elapsed: float) -> None:
        """Sleep for a tick, and note where that took much longer."""
        began = time.monotonic()
        time.sleep(TICK)
        still = time.monotonic() - began - TICK
        if still > max(1.0, STOOD_STILL * self.job.scenario.duration):
            line = f"the load test stood still for {still:.1f} s at {elapsed:.1f} s: it was stopped, or got no processor time"
            self._note(line, self.result.invalid)

    def stop(self) -> None:
        if self.publisher is not None:
            self.publisher.stop()
        self.swarm.stop()
        self.job.incidents.close()
        self.result.save(self.job.files)

    def _play_incidents(self, elapsed: float) -> None:
        incidents = self.job.incidents
        for row in incidents.play(elapsed):
            self.result.incidents = incidents.rows
            self.result.save(self.job.files)
            self.job.sampler.watch(incidents.pids)
            self.observer.note(f"{elapsed:.1f} s: {row['kind']} {'begins' if row['ended_at'] is None else 'is over'}")

    def _sample(self, elapsed: float) -> None:
        """What is done once a second. Raises `EndedEarly` where the run has failed already (abort on fail)."""
        self.job.sampler.sample()
        self.observer.running(max(0.0, elapsed), self.job.seconds, self._look)
        if reason := self.job.watch():
            self.result.invalid.append(f"stopped early: {reason}")
            raise EndedEarly
        if not self.job.settings.shape:
            self._require_pages(elapsed)

    def _require_pages(self, elapsed: float) -> None:
        """Locust stops pages by itself where a master misses its workers; those would seem to hear nothing any more."""
        opened = self.swarm.progress().opened
        self.opened = max(self.opened, opened)
        if opened < self.opened:
            stopped = f"{self.opened - opened} of {self.opened} pages were stopped by the load processes before {elapsed:.1f} s"
            self._note(f"{stopped}: {self.swarm.last_words()}", self.result.invalid)
            raise EndedEarly

    def _look(self) -> Look:
        headers = self.swarm.headers()
        return Look(Harness(headers), progress_of(headers).subscribed, sent.count(self.job.files.sent))

    def _require_target(self, elapsed: float) -> None:
        for child in self.job.incidents.ended():
            self._note_end(child, f"{child.name} of the embedded target died at {elapsed:.1f} s", self.result.trouble)
            self.result.invalid.append(f"{child.name} died at {elapsed:.1f} s, and the run ended there")
            raise EndedEarly

    def _require_publisher(self, elapsed: float) -> None:
        publisher = self.publisher
        if publisher is not None and publisher.exit_code not in (None, 0, Unreachable.exit_code):
            self._note_end(publisher, f"the publisher died at {elapsed:.1f} s", self.result.invalid)
            raise EndedEarly

    def _note_missing(self, elapsed: float) -> None:
        """Note load processes that have ended; the run goes on with the others."""
        for child in self.swarm.ended():
            # A shape ends by itself, when it is through or has found the knee.
            by_itself = self.job.settings.shape and child.exit_code in (0, 1)
            if child.name not in self.missing and not by_itself:
                self.missing.add(child.name)
                self._note_end(child, f"{child.name} went missing at {elapsed:.1f} s", self.result.invalid)

    def _note_end(self, child: Child, what: str, where: list[str]) -> None:
        self._note(f"{what} ({child.end}): {child.last_words()}", where)

    def _note(self, line: str, where: list[str]) -> None:
        where.append(line)
        self.observer.note(line)


def _start_publisher(job: Measurement) -> Child:
    """Start it with the subscribers, so that it has loaded everything when the run's zero is set."""
    command = python("-m", "sim", "drive", str(job.settings.scenario), "--target", str(job.settings.target))
    command += ["--epoch", "-", "-o", str(job.files.sent), "--json", "--i-own-this-target"]
    return Child("publisher", command, job.files.logs / "publisher.log", listens=True)
