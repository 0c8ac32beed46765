"""The fleet engine: exact, and in seconds at sizes for which an event each would take hours.

What makes it possible is that nothing feeds back: pages do not change what is published, and refetches do not change when pages
refetch. So the run is a pipeline of columns, not of events:

    updates -> publication -> fan-out (a queue per node) -> policies (one per group) -> herds -> one queue -> screens

Herds stream through the queue in the order of time, in pieces of bounded size; what a queue carries over is its workers' free
times. A herd of equal requests that finds the queue idle is answered as the last such herd was, so it is only moved. Memory is
O(updates + subscribers + workers + one piece), whatever the number of refetches.

Same instants, same rules as the reference engine (`sim.virtual.reference`): where no randomness differs the results are equal
to the nanosecond. `supports` says what needs the reference engine, because it feeds back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from sim.arrays import Array
from sim.clock import SECOND, ns
from sim.distributions import Constant
from sim.errors import BadInput
from sim.policy import FullPayload
from sim.results.statistics import batches
from sim.scenario import Scenario
from sim.virtual import preparation
from sim.virtual.database import Commits
from sim.virtual.fleet.groups import Group, answer_bytes, plan, repeated_bytes
from sim.virtual.fleet.herds import NEVER, Herd, Span
from sim.virtual.fleet.probes import Probes, load_samples
from sim.virtual.fleet.refetching import LOAD_STEP, Refetching
from sim.virtual.fleet.result import FleetResult, Latency
from sim.virtual.fleet.schedule import PIECE
from sim.virtual.fleet.spread import Profile, Spread
from sim.virtual.fleet.tally import Outcomes, Tally
from sim.virtual.ledger import Tables, metric_frame
from sim.virtual.preparation import SHARE, Progress, check, supports
from sim.workload import RESOURCES, Updates, streams

# --- the run -----------------------------------------------------------------------------------------------------------

BYTES_PER_PAGE = 250
BYTES_PER_UPDATE = 400
BYTES_PER_REFETCH = 100
"""Of peak resident memory, by `benchmarks.simulation`: a page has its place and a row in the columns of its herd; a piece its
own."""

LONGEST_QUEUE = 4e9
"""Seconds."""

PROBES = 200
"""Pages whose rows a bundle holds, by default."""

Watcher = Callable[[int, Herd], None]
"""Shown each herd with the number of its group, complete, in the group's order."""


def run(
    scenario: Scenario, progress: Progress | None = None, updates: Updates | None = None, watch: Watcher | None = None
) -> FleetResult:
    """Simulate *scenario*. *updates* takes the place of those that its workload would draw.

    Raises `BadInput` where the scenario is impossible, or needs the reference engine (with the reasons).
    """
    return FleetRun(scenario, updates).run(progress, watch)


def sample(
    scenario: Scenario, probes: int = PROBES, progress: Progress | None = None, updates: Updates | None = None
) -> tuple[FleetResult, Tables, dict[str, Any]]:
    """As `run`, with the rows of *probes* pages drawn at random (full load, so means over them are unbiased).

    The third is what the manifest says of it (`sampling`).
    """
    fleet = FleetRun(scenario, updates)
    watching = Probes(scenario, fleet.database, fleet.plan, probes, fleet.rng["probes"], fleet.window.end)
    result = fleet.run(progress, watching.watch)
    tables = watching.tables()
    rows = load_samples(result.load, fleet.window.start, LOAD_STEP)
    totals = {
        ("application", "requests"): result.refetches,
        ("application", "busy_ratio"): result.utilisation,
        ("application", "refused"): 0,
        ("application", "from_cache"): 0,
        ("pages", "retries"): 0,
        ("broadcaster", "frames"): result.frames,
        ("broadcaster", "bytes"): result.frame_bytes,
    } | {("broadcaster", f"busy_ratio.{node}"): busy for node, busy in enumerate(result.broadcaster_busy)}
    rows += [(fleet.window.end / SECOND, process, metric, float(value)) for (process, metric), value in totals.items()]
    return result, replace(tables, metrics=metric_frame(rows)), watching.sampling


def check_queues(scenario: Scenario, updates: Updates) -> None:
    """Raise `BadInput` where a queue may become longer than 64 bits of nanoseconds."""
    api, refetches = scenario.api, preparation.expected_size(scenario, updates)[1]
    each = api.service.mean() + api.service_per_row * scenario.dashboard_rows
    fan_out = scenario.broadcaster.costs.last(scenario.subscribers, scenario.extra_payload)
    for what, work in (("api.service", refetches * each / api.workers), ("the costs of broadcaster", len(updates) * fan_out)):
        if work > LONGEST_QUEUE:
            raise BadInput(
                f"scenario {scenario.name}: up to {work:.3g} s of work in a queue are too many for the fleet engine (lower "
                f"{what}, or use the reference engine)"
            )


def check_memory(scenario: Scenario, updates: int) -> None:
    """Raise `BadInput` where the run would not fit into the memory that is free."""
    need = scenario.subscribers * BYTES_PER_PAGE + updates * BYTES_PER_UPDATE + PIECE * BYTES_PER_REFETCH
    free = preparation.available_memory()
    if need > SHARE * free:
        raise BadInput(
            f"scenario {scenario.name}: {scenario.subscribers:,} pages and {updates:,} updates need about {need / 1e9:.1f} GB, "
            f"{free / 1e9:.1f} GB are free (lower pages.*.subscribers or the workload's rate)"
        )


class FleetRun:
    """One run: the plan, the queue, and what is known of each herd."""

    def __init__(self, scenario: Scenario, updates: Updates | None = None) -> None:
        check(scenario)
        reasons = supports(scenario)
        if reasons:
            raise BadInput(
                f"scenario {scenario.name}: the fleet engine cannot run it, use the reference engine: {'; '.join(reasons)}"
            )
        rng = streams(scenario.seed)
        if updates is None:
            updates = scenario.draw_updates(rng)
        check_memory(scenario, len(updates))
        check_queues(scenario, updates)
        self.scenario = scenario
        self.rng = rng
        start, stop = ns(scenario.warmup), ns(scenario.warmup + scenario.duration)
        self.window = Span(start, stop, ns(scenario.length))
        self.database = Commits(updates, scenario, rng)
        inside = (updates.at >= start) & (updates.at < stop)
        self.intended = updates.at[inside] - start
        """Of the updates intended in the window, ns from its start."""
        committed = self.database.committed_at
        self.failed = int(np.count_nonzero(committed[inside] > self.window.end))
        """Of them, not in the database when the run is over."""
        self.counted = np.flatnonzero((committed >= start) & (committed < stop))
        """Rows of the updates that count."""
        self.batch = np.full(len(updates), -1)
        """Per update: its batch, -1 where it does not count."""
        self.batches = batches(np.arange(self.counted.size)) or [slice(None)]
        for number, rows in enumerate(self.batches):
            self.batch[self.counted[rows]] = number
        self.plan = plan(scenario, self.database, rng, (start, stop), self.window.end)

    def run(self, progress: Progress | None = None, watch: Watcher | None = None) -> FleetResult:
        groups = self.plan.groups
        count = len(self.database.updates)
        kinds = [self.scenario.pages[group.seats.entry].page for group in groups]
        fresh = {kind: Spread(len(self.batches)) for kind in dict.fromkeys([*kinds, *(() if kinds else ("detail",))])}
        tallies = [self._tally(group, fresh[kind]) for group, kind in zip(groups, kinds, strict=True)]
        refetching = Refetching(self.scenario, groups, self.rng, self.window)
        for number, herd in refetching.herds(progress):
            tallies[number].add(herd)
            if watch is not None:
                watch(number, herd)
        first, last = np.full(count, NEVER), np.full(count, -1)
        notified, heard_sums, heard_counts = Spread(len(self.batches)), np.zeros(count), np.zeros(count, np.int64)
        shown = {kind: (np.zeros(count), np.zeros(count, np.int64), np.zeros(count, np.int64)) for kind in fresh}
        expected = np.zeros(count, np.int64)
        for group, tally, kind in zip(groups, tallies, kinds, strict=True):
            expected[group.events] += group.size
            for events, heard, offsets in self._arrivals(group):
                first[events] = np.minimum(first[events], heard + offsets[0])
                last[events] = np.maximum(last[events], heard + offsets[-1])
                shifts = heard - self.database.intended_at[events]
                total, size = notified.add_shifted(Profile(offsets, rising=True), shifts, self.batch[events])
                heard_sums[events] += total + size * shifts.astype(float)
                heard_counts[events] += size
            if isinstance(group.policy, FullPayload):
                tally.show_payloads(group.events, group.heard)
            tally.finish()
            sums, counts, never = shown[kind]
            sums[group.updates] += tally.total
            counts[group.updates] += tally.pages
            never[group.updates] += tally.owed - tally.pages
        counted = self.counted
        arrived = counted[last[counted] >= 0]
        since = self.database.committed_at[arrived]
        queue, span = refetching.queue, self.window.stop - self.window.start
        outcomes = [tally.outcomes for tally in tallies]
        payloads = any(isinstance(group.policy, FullPayload) for group in groups)

        def latency(spread: Spread, sums: Array, counts: Array, never: Array) -> Latency:
            columns = (self.batch[counted], sums[counted] / SECOND, counts[counted], never[counted])
            return Latency(spread.finish(), *columns)

        return FleetResult(
            updates=self.intended.size,
            failed=self.failed,
            subscribers=self.scenario.subscribers,
            notifications=int(heard_counts.sum()),
            expected=expected[counted],
            frames=self.plan.frames,
            frame_bytes=self.plan.bytes,
            outcomes=sum(outcomes, Outcomes()),
            answer_bytes=sum(
                found.applied * answer_bytes(self.scenario, group.seats.resource)
                + found.not_newer * repeated_bytes(self.scenario, group.seats.resource)
                for found, group in zip(outcomes, groups, strict=True)
            ),
            regressions=None if payloads else sum(tally.regressions for tally in tallies),
            timeouts=sum(tally.timeouts for tally in tallies),
            notified=latency(notified, heard_sums, heard_counts, np.zeros(count, np.int64)),
            fresh={kind: latency(fresh[kind], *columns) for kind, columns in shown.items()},
            intended=self.intended / SECOND,
            fan_out=np.stack([first[arrived] - since, last[arrived] - since], axis=1) / SECOND,
            load=refetching.load.counts,
            utilisation=queue.busy / (queue.workers * span) if span else float("nan"),
            wait_mean=queue.waited / queue.count / SECOND if queue.count else float("nan"),
            wait_max=queue.longest / SECOND if queue.count else float("nan"),
            broadcaster_busy=[node.busy / span if span else 0.0 for node in self.plan.nodes],
            window=self.scenario.duration,
        )

    def _tally(self, group: Group, fresh: Spread) -> Tally:
        api, network, database = self.scenario.api, self.scenario.network, self.database
        even = isinstance(api.service, Constant) and isinstance(network.to_api, Constant) and not group.policy.jitter
        return Tally(
            group,
            database.intended_at,
            database.committed_at,
            database.updates.resource_id * len(RESOURCES) + database.updates.resource,
            self.batch,
            self.window,
            fresh,
            overtakes=not even or api.timeout is not None,
            timeout=None if api.timeout is None else ns(api.timeout),
        )

    def _arrivals(self, group: Group) -> Iterator[tuple[Array, Array, Array]]:
        """(counted events, their instants, offsets of the members to whom they come before the end), in bounded pieces."""
        end = self.window.end
        there = (self.batch[group.events] >= 0) & (group.heard + group.offsets[0] <= end)
        events, heard = group.events[there], group.heard[there]
        whole = heard + group.offsets[-1] <= end
        for part in np.array_split(np.flatnonzero(whole), 1 + events.size * min(group.size, 4096) // PIECE):
            if part.size:
                yield events[part], heard[part], group.offsets
        for one in np.flatnonzero(~whole)[:, None]:
            yield events[one], heard[one], group.offsets[: np.searchsorted(group.offsets, end - heard[one[0]], side="right")]
