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
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sim.clock import SECOND, ns
from sim.distributions import Constant
from sim.errors import BadInput
from sim.policy import Debounce as Debounced
from sim.policy import FullPayload, Policy, Polling, RateLimit, Window
from sim.scenario import Scenario
from sim.virtual import preparation
from sim.virtual.database import Database
from sim.virtual.fleet.groups import Group, plan
from sim.virtual.fleet.herds import NEVER, Herd, Tally
from sim.virtual.fleet.histogram import Histogram
from sim.virtual.fleet.probes import Probes, load_samples, metric_frame
from sim.virtual.fleet.refetching import LOAD_STEP, PIECE, Refetching
from sim.virtual.fleet.spread import Profile, Spread
from sim.virtual.ledger import Tables
from sim.virtual.preparation import SHARE, Progress, check, draw_updates
from sim.workload import Updates, streams

Array = np.ndarray[Any, Any]

# --- what it can do ----------------------------------------------------------------------------------------------------


def supports(scenario: Scenario) -> list[str]:
    """What in *scenario* needs the reference engine, one reason each; empty: the fleet engine runs it, exactly."""
    broadcast, api, costs = scenario.broadcast, scenario.api, scenario.broadcaster.costs
    checks = [
        (costs.compose_per_subscriber > 0, "broadcaster.compose_per_subscriber: frames that are composed before the first write"),
        (costs.nagle, "broadcaster.nagle: a write waits for the acknowledgement of the one before"),
        (not costs.keep_alive, "broadcaster.keep_alive = false: each publish opens a connection"),
        (api.save != Constant(0.0), "api.save: changes wait for locks and for the workers that serve refetches"),
        (bool(scenario.incidents), "incidents: connections, queues and pages react to them"),
        (broadcast.dispatch == "queued", "broadcast.dispatch = 'queued': workers wait for the broadcaster's answer"),
        (broadcast.debounce > 0, "broadcast.debounce: merged events are chosen while time passes"),
        (
            not isinstance(scenario.network.to_subscriber, Constant),
            "network.to_subscriber is random: each page hears its own instants",
        ),
        (api.queue_limit is not None, "api.queue_limit: refusals depend on the queue"),
        (api.rate_limit is not None, "api.rate_limit: refusals depend on each user's requests"),
        (api.cache > 0, "api.cache: an answer depends on the requests before it"),
        (api.retries > 0, "api.retries: a late answer causes more requests"),
    ]
    reasons = [reason for needed, reason in checks if needed]
    for i, pages in enumerate(scenario.pages):
        if not pages.subscribers:
            continue
        policy, rule = scenario.policy_of(pages), scenario.in_flight_of(pages)
        cancels = rule == "cancel" or (isinstance(policy, Polling) and policy.mode == "cancel")
        page_checks = [
            (pages.session is not None, "session: pages come and go"),
            (pages.hidden > 0, "hidden: timers ring on whole seconds, whatever the page's place"),
            (pages.behaviour != "good", f"behaviour = {pages.behaviour!r}"),
            (rule == "single_flight", "in_flight = 'single_flight': the next refetch waits for the answer"),
            (isinstance(policy, Polling) and policy.mode == "rest", "policy.mode = 'rest': the next poll waits for the answer"),
            (policy.jitter > 0 and cancels, "jitter with in_flight = 'cancel': refetches may start in another order"),
            (0 < policy.jitter >= spacing(policy), "jitter of at least the least time between two refetches: they may overtake"),
            (
                not isinstance(scenario.network.to_api, Constant) and spacing(policy) == 0,
                "network.to_api is random and the policy may refetch twice at once: requests may overtake",
            ),
        ]
        reasons += [f"pages[{i}].{reason}" for needed, reason in page_checks if needed]
    return reasons


def spacing(policy: Policy) -> float:
    """Seconds that are sure to pass between two refetches of one page, jitter aside."""
    match policy:
        case Debounced(leading=False, trailing=True, max_wait=None) | Window() | RateLimit():
            return policy.wait
        case Polling():
            return policy.interval
        case FullPayload():
            return float("inf")
        case _:
            return 0.0


# --- what it finds -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, slots=True)
class FleetResult:
    """What a run came to: exact counts and means, histograms that merge by addition. Durations in `Histogram` are seconds when
    read."""

    updates: int
    """Counted updates: intended in the window."""
    subscribers: int
    notifications: int
    """Arrivals, of counted updates."""
    refetches: int
    """Started in the window, or in its drain for notifications."""
    superseded: int
    """Refetches of the whole run that the page's next one aborted."""
    time_to_notified: Histogram
    time_to_fresh: Histogram
    never_fresh: int
    """Pairs (counted update, page) that were not shown before the end of the run."""
    starved: int
    """Counted updates that at least one page never showed."""
    expected: int
    """Notifications that had to arrive: subscriptions x published updates, of counted ones."""
    first_told: Array
    """Per counted update that was notified to anybody: from commit to the first arrival, s."""
    last_told: Array
    """From commit to the last arrival, s."""
    load: Array
    """Refetches started in each 100 ms of the window."""
    utilisation: float
    """Share of the run in which the application's workers were busy."""
    wait_mean: float
    """Seconds from the arrival of a refetch to its begin, over all of the run; NaN: no refetch."""
    wait_max: float
    broadcaster_busy: list[float]
    """Per node: share of the run in which it was writing."""
    fresh_by_update: Array
    """Per counted update: sum of the times to fresh over the pages, s; with `pages_by_update` the batches of an interval."""
    pages_by_update: Array
    window: float
    """Seconds of updates."""

    def summary(self) -> dict[str, dict[str, Any]]:
        """Metric -> {value, ci_low, ci_high, n}, by the names of a run's `summary.json`.

        The interval of a mean is that of 20 batches of updates (the pair is no observation: pages see the same updates). None:
        not known.
        """
        fresh, notified = self.time_to_fresh, self.time_to_notified
        pairs = len(fresh) + self.never_fresh
        per_second = self.load / (LOAD_STEP / SECOND)
        figures: dict[str, float | int | None] = {
            "updates": self.updates,
            "updates.failed": 0,
            "deliveries.expected": self.expected,
            "deliveries.received": self.notifications,
            "deliveries.missing": self.expected - self.notifications,
            "deliveries.duplicate": 0,
            "delivery_ratio": self.notifications / self.expected if self.expected else None,
            "refetches": self.refetches,
            "refetches_per_update": self.refetches / self.updates if self.updates else None,
            "refetches_per_notification": self.refetches / self.notifications if self.notifications else None,
            "refetch_rate.mean": self.load.sum() / self.window if self.window else None,
            "refetch_rate.peak": float(per_second.max(initial=0.0)),
            "refetches.superseded": self.superseded,
            "starved_updates": self.starved,
            "left_before_fresh": 0,
            "starved_ratio": self.never_fresh / pairs if pairs else None,
            "utilisation": self.utilisation,
            "queue_wait.mean": self.wait_mean,
            "queue_wait.max": self.wait_max,
        }
        for name, histogram, lost in (("time_to_notified", notified, 0), ("time_to_fresh", fresh, self.never_fresh)):
            for level in (0.5, 0.95, 0.99):
                # What was never shown took infinitely long: a quantile that falls on it is not known.
                rank = level * (len(histogram) + lost) / len(histogram) if len(histogram) else 2.0
                figures[f"{name}.p{level * 100:.0f}"] = histogram.quantile(rank) if rank <= 1 else None
            figures[f"{name}.mean"] = histogram.mean if not lost else None
            figures[f"{name}.max"] = histogram.max if not lost else None
        rows = {
            name: {"value": _plain(value), "ci_low": None, "ci_high": None, "n": self.updates} for name, value in figures.items()
        }
        low, high = batch_interval(self.fresh_by_update, self.pages_by_update)
        if rows["time_to_fresh.mean"]["value"] is not None:
            rows["time_to_fresh.mean"] |= {"ci_low": low, "ci_high": high}
        return rows


def batch_interval(totals: Array, counts: Array, batches: int = 20) -> tuple[float | None, float | None]:
    """95 % interval of sum(totals)/sum(counts) from batches of consecutive rows (Student's t); (None, None) below two per
    batch."""
    if totals.size < 2 * batches or not counts.all():
        return None, None
    means = np.array(
        [t.sum() / n.sum() for t, n in zip(np.array_split(totals, batches), np.array_split(counts, batches), strict=True)]
    )
    half = 2.093 * float(means.std(ddof=1)) / batches**0.5  # t of 19 degrees; the only number of batches in use
    centre = float(totals.sum() / counts.sum())
    return centre - half, centre + half


def _plain(value: float | int | None) -> float | int | None:
    """For JSON: NaN is None, NumPy's numbers are Python's."""
    if value is None or value != value:
        return None
    return int(value) if isinstance(value, int | np.integer) else float(value)


# --- the run -----------------------------------------------------------------------------------------------------------

BYTES_PER_PAGE = 250
BYTES_PER_UPDATE = 400
BYTES_PER_REFETCH = 100
"""Of peak resident memory, by `benchmarks.simulation`: a page has its place and a row in the columns of its herd; a piece its
own."""

PROBES = 200
"""Pages whose rows a bundle holds, unless told otherwise."""

Watcher = Callable[[int, Herd], None]
"""Shown each herd with the number of its group, complete, in the group's order."""


def run(
    scenario: Scenario, progress: Progress | None = None, updates: Updates | None = None, watch: Watcher | None = None
) -> FleetResult:
    """Simulate *scenario*. *updates* takes the place of those that its workload would draw.

    Raises `BadInput` where the scenario is impossible, or needs the reference engine (with the reasons).
    """
    return Fleet(scenario, updates).run(progress, watch)


def sample(
    scenario: Scenario, probes: int = PROBES, progress: Progress | None = None
) -> tuple[FleetResult, Tables, dict[str, Any]]:
    """As `run`, with the rows of *probes* pages drawn at random (full load, so means over them are unbiased).

    The third is what the manifest says of it (`sampling`).
    """
    fleet = Fleet(scenario)
    watching = Probes(scenario, fleet.database, fleet.plan, probes, fleet.rng["probes"], fleet.end)
    result = fleet.run(progress, watching.watch)
    tables = watching.tables()
    rows = load_samples(result.load, fleet.start, LOAD_STEP)
    totals = {
        ("application", "requests"): result.refetches,
        ("application", "busy_ratio"): result.utilisation,
        ("application", "refused"): 0,
        ("pages", "retries"): 0,
        ("pages", "open_at_end"): result.subscribers,
        ("broadcaster", "frames"): result.notifications,
    } | {("broadcaster", f"busy_ratio.{node}"): busy for node, busy in enumerate(result.broadcaster_busy)}
    rows += [(fleet.end / SECOND, process, metric, float(value)) for (process, metric), value in totals.items()]
    return result, replace(tables, metrics=metric_frame(rows)), watching.sampling


def check_memory(scenario: Scenario, updates: int) -> None:
    """Raise `BadInput` where the run would not fit into the memory that is free."""
    need = scenario.subscribers * BYTES_PER_PAGE + updates * BYTES_PER_UPDATE + PIECE * BYTES_PER_REFETCH
    free = preparation.free_memory()
    if need > SHARE * free:
        raise BadInput(
            f"scenario {scenario.name}: {scenario.subscribers:,} pages and {updates:,} updates need about {need / 1e9:.1f} GB, "
            f"{free / 1e9:.1f} GB are free (lower pages.*.subscribers or the workload's rate)"
        )


class Fleet:
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
            updates = draw_updates(scenario, rng)
        check_memory(scenario, len(updates))
        self.scenario = scenario
        self.rng = rng
        self.start = ns(scenario.warmup)
        self.stop = ns(scenario.warmup + scenario.duration)
        self.end = ns(scenario.warmup + scenario.duration + scenario.drain)
        self.database = Database(updates, scenario)
        self.counted: Array = updates.at >= self.start
        self.plan = plan(scenario, self.database, rng, self.end)
        self.groups = self.plan.groups

    def run(self, progress: Progress | None = None, watch: Watcher | None = None) -> FleetResult:
        fresh, notified = Spread(), Spread()
        tallies = [self._tally(group, fresh) for group in self.groups]
        refetching = Refetching(self.scenario, self.groups, self.rng, self.start, self.stop, self.end)
        for number, herd in refetching.herds(progress):
            tallies[number].add(herd)
            if watch is not None:
                watch(number, herd)
        count = len(self.database.updates)
        first, last = np.full(count, NEVER), np.full(count, -1)
        for group, tally in zip(self.groups, tallies, strict=True):
            for updates, stop in self._arrivals(group, group.heard):
                rows = group.updates[updates]
                first[rows] = np.minimum(first[rows], group.heard[updates] + group.offsets[0])
                last[rows] = np.maximum(last[rows], group.heard[updates] + group.offsets[stop - 1])
                shifts = group.heard[updates] - tally.at[updates]
                notified.add_shifted(Profile(group.offsets, rising=True), shifts, 0, stop)
            if isinstance(group.policy, FullPayload):
                # Each payload is the whole state: an event that was overtaken on its way is shown by the quicker one.
                never = np.where(group.heard < 0, NEVER, group.heard)
                shown = np.minimum.accumulate(never[::-1])[::-1]
                for updates, stop in self._arrivals(group, shown):
                    tally.show(updates, shown[updates] - tally.at[updates], group.offsets[:stop])
            tally.finish()
        totals, pages, wanted = np.zeros(count), np.zeros(count, np.int64), np.zeros(count, np.int64)
        for group, tally in zip(self.groups, tallies, strict=True):
            totals[group.updates] += tally.total
            pages[group.updates] += tally.pages
            wanted[group.updates] += group.size
        kept = self.counted & (pages > 0)
        told = self.counted & (last >= 0)
        queue = refetching.queue
        later = int(np.maximum(queue.free - self.end, 0).sum())  # the backlog that the run leaves behind
        return FleetResult(
            updates=int(self.counted.sum()),
            subscribers=self.scenario.subscribers,
            notifications=len(notified.finish()),
            refetches=int(refetching.load.sum()) + refetching.drained,
            superseded=sum(tally.superseded for tally in tallies),
            time_to_notified=notified.histogram,
            time_to_fresh=fresh.finish(),
            never_fresh=sum(tally.never for tally in tallies),
            starved=int((self.counted & (pages < wanted)).sum()),
            expected=sum(int((self.counted[g.updates] & (g.heard >= 0)).sum()) * g.size for g in self.groups if g.heard.size),
            first_told=(first - self.database.committed_at)[told] / SECOND,
            last_told=(last - self.database.committed_at)[told] / SECOND,
            load=refetching.load,
            utilisation=(queue.busy - later) / (queue.workers * self.end) if self.end else 0.0,
            wait_mean=queue.waited / queue.count / 1e9 if queue.count else float("nan"),
            wait_max=queue.longest / 1e9 if queue.count else float("nan"),
            broadcaster_busy=self.plan.broadcaster_busy,
            fresh_by_update=totals[kept] / 1e9,
            pages_by_update=pages[kept],
            window=self.scenario.duration,
        )

    def _tally(self, group: Group, fresh: Spread) -> Tally:
        scenario = self.scenario
        api, database = scenario.api, self.database
        even = isinstance(api.service, Constant) and isinstance(scenario.network.to_api, Constant)
        return Tally(
            group,
            database.intended_at,
            database.committed_at,
            self.counted,
            self.end,
            fresh,
            overtakes=not even or api.timeout is not None,
            timeout=None if api.timeout is None else ns(api.timeout),
        )

    def _arrivals(self, group: Group, instants: Array) -> Iterator[tuple[Array, int]]:
        """(counted updates of the group, members [0:stop] to whom they come before the end), in bounded pieces.

        *instants*: per update of the group, the group's own (ns); -1 or beyond the end: it comes to nobody.
        """
        if not instants.size:
            return
        told = np.flatnonzero((instants >= 0) & (instants + group.offsets[0] <= self.end) & self.counted[group.updates])
        whole = instants[told] + group.offsets[-1] <= self.end
        everyone = told[whole]
        for part in np.array_split(everyone, 1 + everyone.size * min(group.size, 4096) // PIECE):
            yield part, group.size
        for update in told[~whole].tolist():
            yield np.array([update]), int(np.searchsorted(group.offsets, self.end - instants[update], side="right"))
