"""A load test from beginning to end: subscribers first, then updates, then everything stops.

    connect    Locust starts the subscribers; wait until the pages are subscribed
    publish    the run's zero is set; `workbench drive` sends the updates, in a process of its own
    drain      late notifications and refetches still count
    stop       all processes end, in order; nothing is left behind

What is measured lies in the bundle's directory from the first second (`measured`); `collect` makes the tables of it. An
interrupt, a process that dies and any error end the phase and go on with *stop*; the bundle then is partial.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any

from sim.clock import SECOND
from sim.errors import BadInput, Interrupted, InvalidRun, Unreachable, WorkbenchError
from sim.live.drive import sent
from sim.live.drive.publisher import READY
from sim.live.measure.harness import Harness
from sim.live.measure.health import refusals_in
from sim.live.measure.incidents import Player
from sim.live.measure.measured import Places, RunRecord
from sim.live.measure.sampling import Sampler
from sim.live.measure.swarm import Progress, Swarm, SwarmSettings, progress_of
from sim.live.processes import Child, python
from sim.live.remedies import remedy
from sim.scenario import Scenario
from sim.signals import handled

TICK = 0.1
"""Seconds between two looks at the processes."""

PATIENCE = 20.0
"""Seconds without one more subscription after which the run goes on with those that are there: longer than the 15 s after which
pusher-js tries again where it could not even open a socket."""

JOIN_PATIENCE = 120.0
"""The same, while load processes have yet to come: of other machines, or of this one when it is busy."""

REFUSED = 4.0
"""The same, where all that are missing were refused by the target itself: nobody will come."""

LONGEST = 600.0
"""Seconds that connecting may take beyond what `connect_rate` asks for, whatever progress there is."""

IMPATIENCE = 5.0
"""Seconds within which a second signal means the same as the first."""

HEAD_START = SECOND // 2
"""Nanoseconds from telling the publisher the run's zero until it comes: it still has to connect."""


@dataclass(frozen=True, slots=True)
class Look:
    """What is known of a run while it goes on."""

    harness: Harness
    subscribed: int
    updates: int
    """Sent so far."""


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
    places: Places
    order: SwarmSettings
    sampler: Sampler
    incidents: Player
    """What the scenario breaks on purpose; it knows which processes of the target may end."""
    watch: Callable[[], str | None] = lambda: None
    """Asked each second; a text ends the run early and is the reason (abort on fail)."""

    @property
    def seconds(self) -> float:
        return self.scenario.warmup + self.scenario.duration + sum(self.scenario.tail)


class Cut(Exception):
    """The run ends before its time; the reason has been noted."""


def measure(job: Measurement, result: RunRecord, observer: Observer) -> None:
    """Run all phases; *result* is kept up to date, in memory and on disk. Raises `Unreachable` when nobody could subscribe at
    all, and what else goes wrong; then as well everything is stopped, and what was measured is on disk."""
    swarm = Swarm(job.order)
    publisher: Child | None = None
    try:
        try:
            swarm.start()
            if job.scenario.publisher.via != "none":
                publisher = _start_publisher(job)
                job.sampler.watch({"publisher": publisher.pid})
            job.sampler.watch(swarm.pids())
            job.incidents.let_in(crowd=True)
            _wait_until_subscribed(job, swarm, observer, result.target.get("family", "REVERB"))
            job.incidents.let_in(crowd=False)
            if publisher is not None:
                publisher.wait_until_it_says(READY, PATIENCE)
            result.epoch = time.time_ns() + HEAD_START
            result.save(job.places)
            if publisher is not None:
                publisher.tell(str(result.epoch))
            _let_it_run(job, swarm, publisher, result, observer)
            result.complete = True
        except Cut:
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
            if publisher is not None:
                publisher.stop()
            swarm.stop()
            job.incidents.close()
            result.save(job.places)


def _wait_until_subscribed(job: Measurement, swarm: Swarm, observer: Observer, family: str) -> None:
    """Wait until all pages are subscribed, or no more subscribe; a note names the number that is missing."""
    order, began = swarm.order, time.monotonic()
    # With a shape the load begins with the first subscribers: how many there are when is what is being tested.
    pages, workers = (1, 1) if order.shape else (order.subscribers, order.workers)
    best, best_at = (0, 0), began
    while True:
        _require_unasked()
        _require_running(job, swarm)
        progress, now = swarm.progress(), time.monotonic()
        observer.connecting(progress)
        if progress.workers >= workers and progress.opened >= pages and progress.subscribed >= progress.wanted:
            return
        # A page that leaves is replaced by another one, which is no progress.
        reached = min(progress.opened, pages), progress.subscribed
        if reached > best:
            best, best_at = reached, now
        headers = swarm.headers()
        waited_in_vain = now - best_at > _patience(order, progress, headers)
        if waited_in_vain or now - began > LONGEST + order.subscribers / order.connect_rate:
            _require_some(swarm, progress, _why(headers, family))
            waited = f"after {now - began:.0f} s only {progress.subscribed} of {progress.wanted} pages are subscribed"
            observer.note(f"{waited}: {_why(headers, family)}; going on")
            return
        time.sleep(TICK)


def _require_running(job: Measurement, swarm: Swarm) -> None:
    """Raise where a process has ended that the load needs: as it has ended, or `Unreachable` for the target's."""
    for child in swarm.ended():
        kind = BadInput if child.exit_code == BadInput.exit_code else WorkbenchError
        raise kind(f"{child.name} ended before the load began ({child.end}): {child.last_words(1)}")
    for child in job.incidents.ended():
        raise Unreachable(f"{child.name} of the embedded target ended before the load began ({child.end}): {child.last_words(1)}")


def _patience(order: SwarmSettings, progress: Progress, headers: list[dict[str, Any]]) -> float:
    """Seconds to wait for one more subscription."""
    if progress.opened >= order.subscribers and _are_refused(headers, progress):
        return REFUSED
    return JOIN_PATIENCE if progress.workers < order.workers else PATIENCE


def _require_some(swarm: Swarm, progress: Progress, why: str) -> None:
    """Raise `InvalidRun` where load processes did not come, `Unreachable` where nobody could subscribe."""
    absent = swarm.order.workers - progress.workers
    if absent and not swarm.order.shape:
        raise InvalidRun(f"{absent} of {swarm.order.workers} load processes did not come: {_said(swarm)}")
    if progress.subscribed == 0 and progress.wanted > 0:
        raise Unreachable(f"none of {progress.wanted} subscribers could subscribe: {why}")


def _said(swarm: Swarm) -> str:
    """The last words of each process of this machine."""
    return "; ".join(f"{child.name}: {child.last_words(1)}" for child in swarm.children)


def _failures(headers: list[dict[str, Any]]) -> dict[str, int]:
    """What the workers counted of connections and subscriptions that did not come about."""
    total: Counter[str] = Counter()
    for header in headers:
        total.update({name: header["counters"][name] for name in ("connect_failures", "drops", "refused", "complaints")})
    return {name.replace("_", " "): count for name, count in total.items() if count}


def _are_refused(headers: list[dict[str, Any]], progress: Progress) -> bool:
    """Whether the target itself has refused all pages, or all that are missing. A connection that could not be made is no
    refusal: it is tried again."""
    failures = _failures(headers)
    refusals = failures.get("refused", 0) + failures.get("complaints", 0)
    return refusals > 0 and (progress.subscribed == 0 or progress.subscribed + refusals >= progress.wanted)


def _why(headers: list[dict[str, Any]], family: str) -> str:
    """Counts of failures, the target's most frequent message, and what to do about it."""
    counted = [f"{count} {name}" for name, count in _failures(headers).items()]
    texts = refusals_in(headers)
    counted += [repr(texts[0][0])] if texts else []
    if not counted:
        connected = sum(header["counters"]["connects"] for header in headers)
        counted = ["connected, and no answer to the subscription or its authorisation" if connected else "no answer"]
    advice = (remedy(texts[0][0], family) if texts else "") or "workbench doctor says more"
    return f"{', '.join(counted)} ({advice})"


def _start_publisher(job: Measurement) -> Child:
    """Start it with the subscribers, so that it has loaded everything when the run's zero is set."""
    command = python("-m", "sim", "drive", str(job.order.scenario), "--target", str(job.order.target))
    command += ["--epoch", "-", "-o", str(job.places.sent), "--json", "--i-own-this-target"]
    return Child("publisher", command, job.places.logs / "publisher.log", listens=True)


def _let_it_run(job: Measurement, swarm: Swarm, publisher: Child | None, result: RunRecord, observer: Observer) -> None:
    """Wait until the drain is over, by the monotonic clock, and sample once a second. Raises `Cut` as soon as a process that the
    run needs has ended, since what would come after that proves nothing."""
    assert result.epoch is not None
    zero = time.monotonic() + (result.epoch - time.time_ns()) / SECOND
    sampled = float("-inf")
    missing: set[str] = set()
    while (elapsed := time.monotonic() - zero) < job.seconds:
        _require_unasked()
        for row in job.incidents.play(elapsed):
            result.incidents = job.incidents.rows
            result.save(job.places)
            job.sampler.watch(job.incidents.pids)
            observer.note(f"{elapsed:.1f} s: {row['kind']} {'begins' if row['ended_at'] is None else 'is over'}")
        if elapsed - sampled >= 1.0:
            sampled = elapsed
            job.sampler.sample()
            observer.running(max(0.0, elapsed), job.seconds, lambda: _look(job, swarm))
            if reason := job.watch():
                result.invalid.append(f"stopped early: {reason}")
                raise Cut
        _watch(job, swarm, publisher, result, observer, elapsed, missing)
        if len(swarm.ended()) == len(swarm.children):
            if missing:
                raise Cut
            return
        time.sleep(TICK)


def _watch(
    job: Measurement,
    swarm: Swarm,
    publisher: Child | None,
    result: RunRecord,
    observer: Observer,
    elapsed: float,
    missing: set[str],
) -> None:
    """Note processes that have ended. Raises `Cut` where the run cannot go on without them. *missing*: their names so far."""
    for child in job.incidents.ended():
        _note(
            f"{child.name} of the embedded target died at {elapsed:.1f} s ({child.end}): {child.last_words()}",
            result.trouble,
            observer,
        )
        result.invalid.append(f"{child.name} died at {elapsed:.1f} s, and the run ended there")
        raise Cut
    if publisher is not None and publisher.exit_code not in (None, 0, Unreachable.exit_code):
        _note(f"the publisher died at {elapsed:.1f} s ({publisher.end}): {publisher.last_words()}", result.invalid, observer)
        raise Cut
    for child in swarm.ended():
        # A shape ends by itself, when it is through or has found the knee.
        if child.name not in missing and not (job.order.shape and child.exit_code in (0, 1)):
            missing.add(child.name)
            _note(f"{child.name} went missing at {elapsed:.1f} s ({child.end}): {child.last_words()}", result.invalid, observer)


def _look(job: Measurement, swarm: Swarm) -> Look:
    headers = swarm.headers()
    return Look(Harness(headers), progress_of(headers).subscribed, sent.count(job.places.sent))


def _note(line: str, where: list[str], observer: Observer) -> None:
    where.append(line)
    observer.note(line)


def shielded() -> contextlib.AbstractContextManager[None]:
    """Ignore interrupts inside: a second Ctrl-C must not stop what stops the run."""
    return handled(signal.SIG_IGN)


_asked: list[int] = []
"""Numbers of the signals that came. They are kept because Python prints and drops an exception that a signal's handler raises
within a callback of its own, as logging has around a fork."""


def _require_unasked() -> None:
    if _asked:
        raise Interrupted(_asked[0])


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """SIGINT and SIGTERM raise `Interrupted` inside, so that both end a run in the same order; also where the shell has started
    us with SIGINT ignored, as it does in the background of a script. A second one within `IMPATIENCE` is the same wish: it
    must not fall between the end of the run and what keeps its rows."""
    raised_at = float("-inf")

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal raised_at
        _asked.append(number)
        if time.monotonic() - raised_at > IMPATIENCE:
            raised_at = time.monotonic()
            raise Interrupted(number)

    _asked.clear()
    with handled(interrupt):
        yield
