"""Values of a target's parameters from samples of its runs: what can be told apart, each by the estimator that fits it.

The model is the simulator's (`sim.scenario.broadcaster`): of an event with n receivers on a node, taken up at t, the k-th frame
leaves at t + fixed + n compose + k each. So, of events that found the broadcaster idle,

    last - first = (k - 1) each                                              -> each: slope through the origin
    first - committed = way + fixed + n compose + each + to_subscriber       -> compose: slope over n; the rest: intercept
    first - before = fixed + n compose + each      of events that found it busy: -> fixed, which else is part of the way

After a rest everything takes longer: caches are cold, cores sleep, receivers as well. So `each`, the way and the save are taken
to grow with a power of the time since the change before; their values are those one second after it.

The slope over n needs events of different n: runs of different sizes, or channels of different sizes within one. With one size,
compose and the constant are one number, and only bounds can be given: on loopback a frame's way is no longer than the floor that
the calibration measured, so what is above it is the target's work, of either kind. An event's publish is answered before or after
its fan-out: by where its answer lies between first and last receiver. Slopes are least absolute deviations: a busy machine makes
outliers on one side.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sim.arrays import Array
from sim.distributions import Constant, Distribution, Empirical, strata
from sim.prediction.observations import Observed
from sim.prediction.parameters import REST
from sim.prediction.samples import BREADTH, SHORTEST, RunSample
from sim.results.ledger import costs
from sim.results.statistics import quantile, student

COMPOSE = "broadcaster.compose_per_subscriber"

MIN_EVENTS = 10
"""Events that a cost of the broadcaster is fitted to, at least."""
MIN_ANSWERS = 20
NAGLE_WAITS = 0.03
"""Seconds after a frame in which another would wait for its acknowledgement, which a client delays by 0.04 s."""
NEAR = 3
"""Events that came so soon, and others, from which on it can be told whether the former waited."""
APART = 1.5
"""Ratio of the largest to the smallest fan-out (90 % and 10 % of the events) from which on a slope over it is a slope."""
STRATA = 100
"""Values that stand for a distribution."""


def slope(ranks: Array, spread: Array) -> float:
    """Least absolute deviations through the origin: the median of spread / ranks, each weighted by its ranks."""
    return float(quantile(spread / ranks, 0.5, ranks) or 0.0)


def line(x: Array, y: Array, rounds: int = 30) -> tuple[float, float]:
    """(intercept, slope) of least absolute deviations, by reweighted least squares (E. J. Schlossmacher, JASA 68, 1973)."""
    centre, scale = x.mean(), max(float(np.ptp(x)), 1e-300)
    design = np.column_stack([np.ones(len(x)), (x - centre) / scale])
    weights = np.ones(len(x))
    found = np.zeros(2)
    for _ in range(rounds):
        root = np.sqrt(weights)
        found = np.linalg.lstsq(design * root[:, None], y * root, rcond=None)[0]
        off = np.abs(y - design @ found)
        weights = 1 / np.maximum(off, max(float(np.median(off)) * 1e-3, 1e-12))
    b = float(found[1]) / scale
    return float(found[0]) - b * centre, b


def rest(since: Array, took: Array) -> float:
    """Exponent with which durations grow with the time since the event before (s, both): never below 0, for no rest makes them
    shorter, and never above 1, for none adds more than itself. 0 where too few events have one before them."""
    known = np.isfinite(since) & (since > 0) & (took > SHORTEST)
    if known.sum() < MIN_EVENTS or np.quantile(since[known], 0.9) < APART * np.quantile(since[known], 0.1):
        return 0.0
    return min(max(line(np.log(since[known]), np.log(took[known]))[1], 0.0), 1.0)


def rested(since: Array, took: Array, exponent: float) -> Array:
    """Durations as they would be one second after the event before; as they are where that is not known."""
    known = np.isfinite(since) & (since > 0)
    return np.asarray(took / np.where(known, since, 1.0) ** exponent)


def distribution(values: Array) -> Distribution:
    """The values themselves, or `STRATA` that stand for them, to four digits."""
    means = [float(f"{mean:.4g}") for mean in strata(values, STRATA)]
    return Constant(means[0]) if means[0] == means[-1] else Empirical(tuple(means))


def answer_of(spread: Array, late: Array) -> str | None:
    """`before` or `after`: when a publish was answered, from the spread of each fan-out and how long after its first receiver the
    change was answered (s). None: every answer came after the last receiver, and late enough to be of either kind."""
    if np.mean(late < spread) > 0.1:
        return "before"
    if np.quantile(spread, 0.9) >= APART * np.quantile(spread, 0.1):
        return "after" if line(spread, late)[1] > 0.5 else "before"
    return "after" if np.median(late - spread) < 0.5 * np.median(spread) else None


def separable(receivers: Array) -> bool:
    """Whether fan-outs differ enough in size for a slope over it: two groups of events, `APART` or more from one another."""
    if len(receivers) < 2 * MIN_EVENTS:
        return False
    ordered = np.sort(receivers)
    return bool(ordered[-MIN_EVENTS] >= APART * ordered[MIN_EVENTS - 1])


@dataclass(frozen=True)
class Estimates:
    """What the samples say: values by key (a distribution as its own), of how many events each, and of the fan-out whether its
    slope is identified."""

    values: dict[str, Any]
    n: dict[str, int]
    slope_known: bool


RESTING = ("broadcaster.per_subscriber", "network.to_broadcaster", "api.save")
"""What may take longer after a rest."""


def estimate(
    samples: Sequence[RunSample],
    point: Estimates | None = None,
    share: float | None = None,
    less: float = 0.0,
    resting: Collection[str] = (),
) -> Estimates:
    """Values of everything that the samples have enough of. *point*: of a resample, the estimates of the whole: the same keys
    again. *share*: of what comes before the first write and may grow with n, where no slope over n can be had; None: as the
    scenario has it. *less*: by which that slope is lowered, where it cannot be told from none. *resting*: of `RESTING` those that
    are fitted with a power of the time since the change before (`REST`)."""
    found = _Estimator(samples, point, resting if point is None else RESTING)
    slope_known = found.fan_out(share, less)
    found.application()
    found.sizes()
    if point is None:
        return Estimates(found.values, found.n, slope_known)
    asked = set(point.values) | {COMPOSE}
    return Estimates(point.values | {key: value for key, value in found.values.items() if key in asked}, found.n, slope_known)


class _Estimator:
    """Collects values and the numbers of events that they are made from."""

    def __init__(self, samples: Sequence[RunSample], point: Estimates | None, resting: Collection[str]) -> None:
        self.samples, self.point, self.resting = samples, point, resting
        self.scenario = samples[0].observed.scenario
        self.values: dict[str, Any] = {}
        self.n: dict[str, int] = {}

    def keep(self, key: str, value: Any, n: int) -> Any:
        self.values[key], self.n[key] = value, n
        return value

    def rest(self, key: str, since: Array, took: Array) -> float:
        """`rest` of a parameter; 0 where it is not asked for."""
        if key not in self.resting or not self.wanted(REST + key):
            return 0.0
        return float(self.keep(REST + key, rest(since, took), len(took)))

    def wanted(self, key: str) -> bool:
        return self.point is None or key in self.point.values

    def enough(self, key: str, n: int, least: int) -> bool:
        """Whether *n* events tell a parameter. Of a resample any number does, where the whole had enough: to fall back on the
        value of the whole would make the interval narrow."""
        return n >= least if self.point is None else n > 0 and key in self.point.values

    def fan_out(self, share: float | None, less: float) -> bool:
        """Costs of the broadcaster and the ways to and from it. Whether the slope over the size of a fan-out is known.

        Each step takes away what is known by then (see the module): the frames, the composing, the fixed part, the way to a page.
        The way to the broadcaster is what remains. Where the slope is not known, *share* divides what events that waited for
        another took beside their frames (else all that came before the first one) between composing and the rest.
        """
        events = {name: np.concatenate([sample.events[name] for sample in self.samples]) for name in self.samples[0].events}
        alone = {name: column[events["alone"].astype(bool)] for name, column in events.items()}
        receivers = alone["receivers"]
        if not self.enough("network.to_broadcaster", len(receivers), MIN_EVENTS):
            return False
        each, each_of = self._frame(alone)
        self._answer(events)
        first = alone["first"] - each_of * alone["first_rank"]
        known = separable(receivers) if self.point is None else self.point.slope_known
        given = self.scenario.broadcaster.costs
        fixed, compose = given.fixed, given.compose_per_subscriber
        if known:
            share, compose = None, self.keep(COMPOSE, max(0.0, line(receivers, first)[1] - less), len(first))
        busy = np.isfinite(events["gap"])
        waited = self.enough("broadcaster.fixed", int(busy.sum()), MIN_EVENTS)
        if waited:
            gap, of = (events["gap"] - each * events["first_rank"])[busy], events["receivers"][busy]
            if share is not None:
                compose = self.values[COMPOSE] = share * max(0.0, float(np.median(gap / of)))
            fixed = self.keep("broadcaster.fixed", max(0.0, float(np.median(gap - of * compose))), len(gap))
        above = first - fixed - self._way_to_a_page()
        if share is not None and not waited:
            self.values[COMPOSE] = share * max(0.0, float(np.median(above / receivers)))
            left = (1 - share) * above
        else:
            left = above - receivers * compose
        self._way_to_the_broadcaster(np.maximum(left, SHORTEST), alone["quiet"])
        return known

    def _frame(self, alone: dict[str, Array]) -> tuple[float, Array]:
        """Seconds between two frames one second after the event before, and of each event as long after it as it came."""
        each = self.scenario.broadcaster.costs.per_subscriber
        wide = alone["ranks"] >= BREADTH - 1
        if not self.enough("broadcaster.per_subscriber", int(wide.sum()), MIN_EVENTS):
            return each, np.full(len(wide), each)
        spread, ranks, since = (alone[name][wide] for name in ("spread", "ranks", "quiet"))
        exponent = self.rest("broadcaster.per_subscriber", since, spread / ranks)
        each = self.keep("broadcaster.per_subscriber", slope(ranks, rested(since, spread, exponent)), int(wide.sum()))
        return each, each * rested(alone["quiet"], np.ones(len(wide)), -exponent)

    def _answer(self, events: dict[str, Array]) -> None:
        """When a publish is answered."""
        known = np.isfinite(events["answered"])
        if self.enough("broadcaster.answer", int(known.sum()), MIN_EVENTS):
            answer = answer_of(events["spread"][known], events["answered"][known])
            if answer is not None:
                self.keep("broadcaster.answer", answer, int(known.sum()))

    def _way_to_a_page(self) -> float:
        """The floor of the calibration where both ends are on one machine; else as the scenario has it."""
        floor = self.samples[0].observed.floor
        if floor is None:
            return self.scenario.network.to_subscriber.mean()
        return float(self.keep("network.to_subscriber", floor, len(self.samples)))

    def _way_to_the_broadcaster(self, took: Array, since: Array) -> None:
        """What remains of the time to the first frame; whether events soon after another waited for an acknowledgement in it."""
        near = since < NAGLE_WAITS
        if self.enough("broadcaster.nagle", min(near.sum(), (~near).sum()), NEAR):
            waits = np.median(took[near]) - np.median(took[~near]) > NAGLE_WAITS / 4
            self.keep("broadcaster.nagle", bool(waits), int(near.sum()))
        even = rested(since, took, self.rest("network.to_broadcaster", since, took))
        # A publish with a connection of its own goes the way three times.
        ways = 1 if self.scenario.broadcaster.costs.keep_alive else 3
        self.keep("network.to_broadcaster", distribution(even / ways), len(even))

    def application(self) -> None:
        """Own times of refetches, those of a dashboard's rows among them, and of saves."""
        own = np.concatenate([sample.service["own"] for sample in self.samples])
        per_row = self.scenario.api.service_per_row
        if len(own) >= MIN_ANSWERS:
            shown = np.concatenate(
                [np.where(sample.service["board"], sample.observed.scenario.dashboard_rows, 0) for sample in self.samples]
            )
            if (np.unique(shown, return_counts=True)[1] >= MIN_ANSWERS).sum() > 1:
                per_row = self.keep("api.service_per_row", max(0.0, float(np.polyfit(shown, own, 1)[0])), len(own))
            self.keep("api.service", distribution(np.maximum(own - per_row * shown, SHORTEST)), len(own))
        save, since = np.concatenate([sample.save for sample in self.samples]).T
        if len(save) >= MIN_ANSWERS:
            # A save of no time needs no worker, and no engine that gives it one.
            instant = bool(np.median(save) <= 2 * SHORTEST)
            even = rested(since, save, 0.0 if instant else self.rest("api.save", since, save))
            self.keep("api.save", Constant() if instant else distribution(even), len(save))
            if any(sample.own_workers for sample in self.samples):
                self.keep("api.save_workers", "own", len(save))
                self.keep("api.save_lock", "database", len(save))

    def sizes(self) -> None:
        """Mean sizes by kind of page; what a row of a dashboard adds only where dashboards of different lengths were measured."""
        whole = {kind: np.concatenate([sample.sizes[kind] for sample in self.samples]) for kind in self.samples[0].sizes}
        for key, kind in (("api.answer_bytes", "page"), ("api.not_modified_bytes", "not_modified")):
            if len(whole[kind]) >= MIN_ANSWERS:
                self.keep(key, round(float(whole[kind].mean())), len(whole[kind]))
        board, given = whole["dashboard"], float(self.scenario.api.answer_bytes_per_row)
        if len(board) < MIN_ANSWERS:
            return
        rows = [(sample.observed.scenario.dashboard_rows, len(sample.sizes["dashboard"])) for sample in self.samples]
        lengths = np.repeat(*np.array(rows).T).astype(float)
        several, per_row = np.ptp(lengths) > 0, given
        base = board.mean() - per_row * lengths.mean()
        if several:
            per_row, base = (float(value) for value in np.polyfit(lengths, board, 1))
        if base < 0 or per_row < 0:
            # Neither can be: all of it belongs to the other.
            per_row, base = (float(board.mean() / lengths.mean()), 0.0) if base < 0 else (0.0, float(board.mean()))
        self.keep("api.dashboard_bytes", round(base), len(board))
        if several or per_row != given:
            self.keep("api.answer_bytes_per_row", round(per_row), len(board))


def workers_at_most(samples: Sequence[RunSample]) -> float | None:
    """How many jobs the application works on at once, at most: what it gets done where jobs wait, times what one takes that finds
    it idle. That is no less than what a job takes by itself: those that come after it may share the processor with it, and what
    was idle is cold. None where too few jobs waited of a kind (a dashboard or another page) of which enough found it idle."""
    own, alone, waited, board = (
        np.concatenate([sample.service[name] for sample in samples]) for name in ("own", "alone", "waited", "board")
    )
    workers = np.concatenate([np.full(len(sample.service["own"]), sample.workers) for sample in samples])
    kinds = [kind for kind in (board, ~board) if (alone & kind).sum() >= MIN_ANSWERS]
    work = sum(float((waited & kind).sum() * own[alone & kind].mean()) for kind in kinds)
    jobs = waited & np.any([*kinds, np.zeros(len(own), bool)], axis=0)
    took = float((own[jobs] / workers[jobs]).sum())
    return work / took if jobs.sum() >= MIN_ANSWERS and took > 0 else None


# --- processor time and memory -------------------------------------------------------------------------------------------

WORK = {
    "broadcaster": ("seconds", "events", "deliveries"),
    "application": ("seconds", "events", "refetches"),
    "harness": ("seconds", "deliveries", "refetches"),
    "publisher": ("seconds", "events"),
}
"""What each kind of process spends its time on: always, per change or event, per delivery, per refetch."""

PER = {"seconds": "second", "events": "event", "deliveries": "delivery", "refetches": "refetch"}

MEMORY = ("memory.broadcaster.per_process", "memory.broadcaster.per_subscriber")


def processor(windows: Array) -> Array:
    """Non-negative least squares of the last column (CPU seconds) on the others (what was done between two samples), twice: then
    a sample weighs less the more was done in it, as the spread of a sum of pieces of work grows with their number."""
    from scipy.optimize import nnls  # here and not above: a notebook that fits nothing need not wait for it

    scale = np.maximum(np.abs(windows[:, :-1]).max(axis=0), 1e-300)
    design, used = windows[:, :-1] / scale, windows[:, -1]
    found, _ = nnls(design, used)
    expected = design @ found
    weight = 1 / np.sqrt(np.maximum(expected, max(float(np.median(expected)) * 0.1, 1e-12)))
    found, _ = nnls(design * weight[:, None], used * weight)
    return np.asarray(found / scale)


def windows_of(observed: Sequence[Observed]) -> dict[str, Array]:
    """By process the samples of all runs: columns `WORK`, and what it used last."""
    found = {}
    for process, work in WORK.items():
        rows = np.concatenate([costs.spent(one.ledger, process)[[*work, "used"]].to_numpy(float) for one in observed])
        if len(rows) >= MIN_EVENTS:
            found[process] = rows
    return found


def processors(windows: dict[str, Array]) -> dict[str, float]:
    """`cpu.<process>.per_<what>`: seconds of the processor."""
    return {
        f"cpu.{process}.per_{PER[work]}": float(value)
        for process, rows in windows.items()
        for work, value in zip(WORK[process], processor(rows), strict=True)
    }


def memory(observed: Sequence[Observed], sure: float = 0.975) -> dict[str, tuple[float, float, float]]:
    """`MEMORY` -> (value, and where it lies between: t interval of a straight line): bytes of the broadcaster's processes, by
    their pages. Empty where sizes do not differ by `APART`, or memory does not surely grow with them."""
    nodes = observed[0].scenario.broadcaster.nodes
    pages = np.array([one.subscribers for one in observed], float)
    held = np.array([costs.level(one.ledger, "broadcaster", "rss_bytes") for one in observed])
    if len(observed) < 3 or not np.isfinite(held).all() or pages.max() < APART * pages.min():
        return {}
    # Here and not above: SciPy's statistics take a second to import, and most fits are of one run or two.
    from scipy.stats import linregress

    found, reach = linregress(pages, held), student(len(observed) - 2, sure)
    if not found.slope > reach * found.stderr:
        return {}
    values = ((found.intercept / nodes, found.intercept_stderr / nodes), (found.slope, found.stderr))
    ends = [(float(value), float(value - reach * error), float(value + reach * error)) for value, error in values]
    return dict(zip(MEMORY, ends, strict=True))
