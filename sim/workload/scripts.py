"""Workloads that follow a script: recorded traces played back, provisioning runs and deployments drawn from distributions.

A script is what one run does to one machine; `Runs` says when runs start and on which machine. A machine does one run at a
time, so a run that finds all of them busy waits for the first to become free.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, NamedTuple

import numpy as np

from sim.clock import ns
from sim.distributions import Constant, Distribution, Lognormal, fit_best
from sim.errors import BadInput
from sim.marks import Number, PerMinute, Share, above_zero, at_least, shares
from sim.workload.arrivals import refuse_too_many
from sim.workload.traces import Trace, load_traces
from sim.workload.updates import ASPECTS, RESOURCES, Updates, encode, to_ns

PROBABILITY = "a probability between 0 and 1"


class Script(NamedTuple):
    """What one run does: float64 seconds from its start, int32 changes, and how long the run takes, seconds.

    `aspect` (index in `ASPECTS`) and `server` are for a run that changes other things than its machine's status: a
    deployment writes into the history of its site's server. `server` 0: the machine itself.
    """

    at: np.ndarray
    change: np.ndarray
    length: float
    aspect: np.ndarray | int = 0
    server: np.ndarray | int = 0


def script_of(trace: Trace, speed: float = 1.0) -> Script:
    """A recorded run as a script, *speed* times as fast. What a partial trace left installing ends as failed."""
    rows = [(t.at, encode(t.step, t.status)) for t in trace.transitions]
    end = max(trace.duration, rows[-1][0] if rows else 0.0)
    rows += [(end, encode(step.step, "failed")) for step in trace.steps if step.status == "installing"]
    at, change = np.array([row[0] for row in rows]), np.array([row[1] for row in rows], np.int32)
    return Script(at / speed, change, end / speed)


@dataclass(frozen=True, kw_only=True)
class Runs:
    """When runs start. Not a workload by itself."""

    kind: ClassVar[str]

    parallel: int = 1
    """Machines that are busy at any time: as one finishes, the next begins. Not used with `per_minute`."""
    per_minute: PerMinute | None = None
    """New runs per minute (Poisson), in place of a fixed number in parallel."""
    stagger: float = 0.0
    """Seconds between the first starts of the machines in parallel."""
    runs: int | None = None
    """Runs at most. None: as many as there is time for."""

    def __post_init__(self) -> None:
        at_least(1, self, "parallel")
        at_least(0, self, "per_minute", unit=" runs a minute")
        at_least(0, self, "stagger", unit=" s")
        at_least(0, self, "runs")

    def expected(self, duration: float, servers: int, sites: int = 0) -> float:
        """Expected number of updates in *duration* seconds (long-run)."""
        raise NotImplementedError

    def _starts(self, rng: np.random.Generator, due: list[float]) -> Iterator[float]:
        """When the next run is wanted: as new ones come, or (from the heap *due*) as machines become free."""
        at = 0.0
        while self.per_minute is None or self.per_minute > 0:
            at = heapq.heappop(due) if self.per_minute is None else at + rng.exponential(60 / self.per_minute)
            yield at

    def _play(
        self, rng: np.random.Generator, duration: float, machines: int, resource: int, script: Callable[[int, int], Script]
    ) -> Updates:
        """Lay the scripts of run 0, 1, ... (number and machine) out over *machines* (ids from 1) and *duration* seconds."""
        if machines < 1:
            word = "sites" if resource == RESOURCES.index("site") else "servers"
            raise BadInput(f"workload {self.kind}: no {word} to work on (fleet.{word}_per_user is 0)")
        refuse_too_many(self.expected(duration, machines, machines))
        free = [(0.0, machine) for machine in range(1, machines + 1)]
        due = [k * self.stagger for k in range(min(self.parallel, machines))]
        parts: list[Updates] = []
        # The machine that has been idle longest is next, so runs go round the fleet.
        for run, wanted in enumerate(self._starts(rng, due)):
            free_at, machine = heapq.heappop(free)
            start = max(wanted, free_at)
            if start >= duration or run == self.runs:
                break
            body = script(run, machine)
            if not body.length > 0:
                raise BadInput(f"workload {self.kind}: a run of 0 s would repeat without end (check speed and durations)")
            heapq.heappush(free, (start + body.length, machine))
            heapq.heappush(due, start + body.length)
            server = np.broadcast_to(body.server, body.at.shape)
            of, changed = np.where(server > 0, RESOURCES.index("server"), resource), np.where(server > 0, server, machine)
            parts.append(Updates.of(to_ns(start + body.at), of, changed, body.change, body.aspect))
        rows = Updates.merge(parts)
        return _only_changes(rows[rows.at < ns(duration)])

    def _expected(self, duration: float, machines: int, length: float, changes: float) -> float:
        """Long-run number of updates: runs that fit in, times the changes of one."""
        if machines < 1 or length <= 0:
            return 0.0
        most = min(self.parallel, machines) if self.per_minute is None else machines
        runs = most * duration / length
        if self.per_minute is not None:
            runs = min(runs, self.per_minute * duration / 60)
        return changes * (runs if self.runs is None else min(runs, self.runs))


@dataclass(frozen=True)
class Replay(Runs):
    """Recorded runs, played back on servers: run 0 plays the first replica of the trace, run 1 the second, and round."""

    kind: ClassVar[str] = "replay"

    trace: str = "stack"
    """Name in data/traces, or a path: a file, or a directory of replicas."""
    speed: Number = 1.0
    """Times as fast as recorded."""

    def __post_init__(self) -> None:
        super().__post_init__()
        above_zero(self, "speed")

    @cached_property
    def _scripts(self) -> list[Script]:
        return [script_of(trace, self.speed) for trace in load_traces(self.trace)]

    def expected(self, duration: float, servers: int, sites: int = 0) -> float:
        scripts = self._scripts
        length = float(np.mean([script.length for script in scripts]))
        return self._expected(duration, servers, length, float(np.mean([len(script.at) for script in scripts])))

    def updates(self, rng: np.random.Generator, duration: float, servers: int, sites: int = 0) -> Updates:
        """Raises `BadInput` for a trace that is not there or not well formed."""
        scripts = self._scripts
        return self._play(rng.spawn(1)[0], duration, servers, 0, lambda run, _: scripts[run % len(scripts)])


@dataclass(frozen=True)
class Provisioning(Runs):
    """Runs drawn at random: all steps pending, then each installing and completed in turn; a failure ends the run.

    Durations come from distributions fitted to a recorded trace, step by step; or, where `steps` is given, from `step_time`.
    """

    kind: ClassVar[str] = "provisioning"

    trace: str = "stack"
    """Name in data/traces, or a path, to fit to. Not used where `steps` is given."""
    steps: int | None = None
    """Steps of a run, in place of those of the trace."""
    step_time: Distribution = field(default_factory=lambda: Lognormal(8.0, 1.0))
    """Duration of each of `steps`, seconds."""
    pause: Distribution = field(default_factory=Constant)
    """Seconds between the end of a step and the start of the next."""
    failure: Share = 0.0
    """Probability that a step fails."""
    speed: Number = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        above_zero(self, "speed")
        at_least(1, self, "steps")
        shares(self, "failure", what=PROBABILITY)

    @cached_property
    def step_times(self) -> tuple[Distribution, ...]:
        """How long each step takes, seconds at speed 1."""
        if self.steps is not None:
            return (self.step_time,) * self.steps
        return tuple(fit_steps(load_traces(self.trace)).values())

    def expected(self, duration: float, servers: int, sites: int = 0) -> float:
        begun = (1 - self.failure) ** np.arange(len(self.step_times))
        length = float(begun @ [d.mean() + self.pause.mean() for d in self.step_times]) / self.speed
        # A run finds pending what the one before did not get to, so only steps that were begun become pending again.
        return self._expected(duration, servers, length, 3 * float(begun.sum()))

    def updates(self, rng: np.random.Generator, duration: float, servers: int, sites: int = 0) -> Updates:
        # One stream per purpose: another failure probability must not change how long steps take.
        starts, times, pauses, failures = rng.spawn(4)

        def script(run: int, machine: int) -> Script:
            n = len(self.step_times)
            length = np.array([float(d.sample(times, 1)[0]) for d in self.step_times]) / self.speed
            pause = self.pause.sample(pauses, n) / self.speed
            fails = failures.random(n) < self.failure
            begin = np.cumsum(length + pause) - length
            last = int(np.argmax(fails)) if fails.any() else n - 1
            at, change = [0.0] * n, [encode(step, "pending") for step in range(1, n + 1)]
            for i in range(last + 1):
                at += [begin[i], begin[i] + length[i]]
                change += [encode(i + 1, "installing"), encode(i + 1, "failed" if fails[i] else "completed")]
            return Script(np.array(at), np.array(change, np.int32), float(begin[last] + length[last]))

        return self._play(starts, duration, servers, 0, script)


@dataclass(frozen=True)
class Deployments(Runs):
    """Site deployments: a site is being deployed (installing), then live again (completed) or failed.

    Meanwhile the history of its server gets a line as each of `stages` begins, and `burst` lines of output at once in the middle.
    """

    kind: ClassVar[str] = "deployments"

    per_minute: PerMinute | None = field(default=6.0, kw_only=True)
    trace: str = "deploy"
    """Name in data/traces, or a path: how long deployments take is fitted to its replicas."""
    deploying: Distribution | None = None
    """Seconds that one takes, in place of what is fitted."""
    stages: int = 0
    """Stages of a deployment (fetch, install, build, ...), evenly over its time, each an update of the site's server."""
    burst: int = 0
    """Lines of output that arrive at one instant halfway through, each an update of the site's server."""
    failure: Share = 0.0
    """Probability that a deployment fails."""
    speed: Number = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        above_zero(self, "speed")
        shares(self, "failure", what=PROBABILITY)
        for name in ("stages", "burst"):
            if not 0 <= getattr(self, name) <= 10_000:
                raise ValueError(f"{name} must be between 0 and 10,000, got {getattr(self, name)!r}")

    @cached_property
    def length(self) -> Distribution:
        """How long a deployment takes, seconds at speed 1."""
        if self.deploying is not None:
            return self.deploying
        whole = [trace.duration for trace in load_traces(self.trace) if not trace.partial and not trace.exit_status]
        if not whole:
            raise BadInput(f"trace {self.trace}: no whole run to fit a duration to")
        return _fitted(self.trace, whole)

    def expected(self, duration: float, servers: int, sites: int = 0) -> float:
        return self._expected(duration, sites, self.length.mean() / self.speed, 2.0 + self.stages + self.burst)

    def updates(self, rng: np.random.Generator, duration: float, servers: int, sites: int = 0) -> Updates:
        starts, times, failures = rng.spawn(3)
        if self.stages + self.burst > 0 and servers < 1:
            raise BadInput(f"workload {self.kind}: stages and burst need servers (fleet.servers_per_user is 0)")
        lines = {"progress": np.linspace(0.0, 1.0, self.stages, endpoint=False), "log": np.full(self.burst, 0.5)}

        def script(run: int, site: int) -> Script:
            end = float(self.length.sample(times, 1)[0]) / self.speed
            last = encode(0, "failed" if failures.random() < self.failure else "completed")
            at, change = [np.array([0.0])], [encode(0, "installing")]
            aspect, server = [0], [0]
            for name, places in lines.items():
                at.append(places * end)
                # Lines are numbered on through the runs, so that no two of a server are the same.
                change += [encode(run * len(places) + n, "completed") for n in range(1, len(places) + 1)]
                aspect += [ASPECTS.index(name)] * len(places)
                # Sites and servers are numbered user by user, so the share finds a server of the site's owner.
                server += [(site - 1) * servers // sites + 1] * len(places)
            times_ = np.concatenate([*at, [end]])
            return Script(times_, np.array([*change, last], np.int32), end, np.array([*aspect, 0]), np.array([*server, 0]))

        return self._play(starts, duration, sites, 1, script)


def fit_steps(traces: tuple[Trace, ...]) -> dict[str, Distribution]:
    """Distribution of each step's duration over the replicas, in the order of the steps.

    Only steps that completed count. Raises `BadInput` where no replica completed any.
    """
    samples: dict[str, list[float]] = {}
    for trace in traces:
        for step in trace.steps:
            if step.status == "completed" and step.duration is not None:
                samples.setdefault(step.name, []).append(step.duration)
    if not samples:
        raise BadInput(f"trace {traces[0].name}: no completed step to fit a duration to")
    return {name: _fitted(traces[0].name, durations) for name, durations in samples.items()}


def _fitted(trace: str, durations: list[float]) -> Distribution:
    """Their distribution. One that is shorter than a trace's resolution of 1 ms is taken to be half of it."""
    try:
        return fit_best(np.maximum(durations, 0.0005))
    except ValueError as error:
        raise BadInput(f"trace {trace}: {error}") from error


def _only_changes(rows: Updates) -> Updates:
    """Without the rows that would set a step to what it already is (steps that a failed run left pending)."""
    key = ((rows.resource_id * len(RESOURCES) + rows.resource) * len(ASPECTS) + rows.aspect << 32) + rows.step
    order = np.argsort(key, kind="stable")
    status = rows.status[order]
    same = (np.diff(key[order], prepend=-1) == 0) & (np.diff(status, prepend=-1) == 0)
    same &= rows.resource[order] != RESOURCES.index("task")  # One more end, whatever the one before was.
    keep = np.ones(len(rows), bool)
    keep[order[same]] = False
    return rows[keep]
