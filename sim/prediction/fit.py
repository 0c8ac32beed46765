"""Parameters of a target from measured runs, with intervals: what can be told apart is fitted, what cannot is named.

The model is the simulator's (`sim.scenario.broadcaster`): of an event with n receivers on a node, taken up at t, the k-th frame
leaves at t + fixed + n compose + k each. So, of events that found the broadcaster idle,

    last - first = (k - 1) each                                              -> each: slope through the origin
    first - committed = way + fixed + n compose + each + to_subscriber       -> compose: slope over n; the rest: intercept

The slope over n needs events of different n: runs of different sizes, or channels of different sizes within one. With one size,
compose and the constant are one number, and only bounds can be given: on loopback a frame's way is no longer than the floor that
the calibration measured, so what is above it is the target's work, of either kind. Draws then spread over all that is possible.

    first - before = fixed + n compose + each      of events that found it busy: -> fixed, which else is part of the way

An event's publish is answered before or after its fan-out: by where its answer lies between first and last receiver.

The application is a first-in-first-out queue of c workers. Job j, in the order of arrival, begins when it came, or when of all
jobs before it no more than c - 1 are left: so begin, and with it each job's own time, is read off arrivals and departures,
exactly (`own_times`). Changes are jobs of the same queue: their own time until the commit is the save.

Slopes are least absolute deviations, because a busy machine makes outliers on one side. Intervals and joint draws: bootstrap of
events within each run, and of blocks of successive answers and of samples of the processors' time.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.optimize import nnls

from sim.distributions import Constant, Distribution, Empirical
from sim.errors import BadInput
from sim.prediction.observations import Observed
from sim.prediction.parameters import PROCESSES, Fit, Parameter
from sim.prediction.predict import residuals
from sim.results.answers.report import updates_of
from sim.results.ledger import costs
from sim.results.run import Run
from sim.scenario import Scenario, to_dict

Array = np.ndarray[Any, Any]

MIN_EVENTS = 10
"""Events that a cost of the broadcaster is fitted to, at least."""
MIN_ANSWERS = 20
NAGLE_WAITS = 0.03
"""Seconds after a frame in which another would wait for its acknowledgement, which a client delays by 0.04 s."""
NEAR = 3
"""Events that came so soon, from which on it can be said whether they waited."""
BREADTH = 10
"""Receivers that an event needs before its spread says something about one of them."""
APART = 1.5
"""Ratio of the largest to the smallest fan-out (90 % and 10 % of the events) from which on a slope over it is a slope."""
DRAWS = 100
KEPT = 30
"""Of the draws, as many are kept in the fit: a prediction takes some twenty."""
STRATA = 100
"""Values that stand for a distribution."""
BLOCK = 20
"""Successive answers that are drawn together: those of one herd wait for one another."""
SHORTEST = 1e-6
"""Seconds: a duration below the clock's resolution is taken to be that."""
SURE = (0.025, 0.975)
MORE = 4
"""A run that is to tell a slope has this many times the subscribers."""


@dataclass(frozen=True)
class Sample:
    """What one run contributes, in columns that can be resampled."""

    observed: Observed
    events: dict[str, Array]
    """first (after the commit), spread, ranks, first_rank, receivers, gap (after the event before; NaN: found it idle), answered
    (after the first; NaN), alone, quiet (since the event before)."""
    service: Array
    """Own time of each refetch that was worked on, s."""
    board: Array
    save: Array
    sizes: dict[str, Array]
    """Kind of page -> bytes of the whole answers; `not_modified` -> of the others."""

    def resampled(self, rng: np.random.Generator) -> Sample:
        """The same of a run that went otherwise: events, blocks of answers and saves drawn with replacement."""
        rows, saved = (rng.integers(max(size, 1), size=size) for size in (len(self.events["first"]), len(self.save)))
        kept = _blocks(len(self.service), rng)
        events = {name: column[rows] for name, column in self.events.items()}
        return Sample(self.observed, events, self.service[kept], self.board[kept], self.save[saved], self.sizes)


def _blocks(size: int, rng: np.random.Generator) -> Array:
    """Rows of a resample by blocks of successive rows."""
    if not size:
        return np.zeros(0, np.int64)
    length = max(1, min(BLOCK, size // 5))
    starts = rng.integers(size - length + 1, size=-(-size // length))
    return (starts[:, None] + np.arange(length)).ravel()[:size]


def own_times(arrived: Array, left: Array, workers: int) -> Array:
    """(begin, own time) of each job of a first-in-first-out queue of *workers*, from when it came and when it left (s).

    Shape (n, 2), in the order of the arguments. A job that is known to have come and not to have left (NaN) takes a worker for a
    time that nobody knows: jobs after it are NaN until the queue has run empty.
    """
    order = np.argsort(arrived, kind="stable")
    found = np.full((len(arrived), 2), np.nan)
    latest: list[float] = []
    """The last *workers* departures so far (heap)."""
    until, doubtful = -np.inf, False
    for job in order.tolist():
        came, gone = float(arrived[job]), float(left[job])
        if came >= until:
            doubtful = False
        begin = max(came, latest[0]) if len(latest) == workers else came
        if np.isnan(gone):
            doubtful, until = True, max(until, came)
            continue
        if not doubtful:
            found[job] = begin, max(gone - begin, 0.0)
        until = max(until, gone)
        (heapq.heappushpop if len(latest) == workers else heapq.heappush)(latest, gone)
    return found


def sample_of(observed: Observed) -> Sample:
    """What a fit reads of one run."""
    table = observed.events
    first, last = table["first"].to_numpy(), table["last"].to_numpy()
    committed, before = table["committed"].to_numpy(), table["before"].to_numpy()
    alone = table["alone"].to_numpy(bool)
    spread = last - first
    wide = (table["ranks"].to_numpy() >= BREADTH - 1) & (spread > 0)
    events = {
        "first": first - committed,
        "spread": spread,
        "ranks": table["ranks"].to_numpy(),
        "first_rank": table["first_rank"].to_numpy(),
        "receivers": table["receivers"].to_numpy(),
        "gap": np.where(committed < before, first - before, np.nan),
        "answered": np.where(wide, table["answered"].to_numpy() - first, np.nan),
        "alone": alone,
        "quiet": committed - before,
    }
    service, board, save = _worked(observed)
    answers = observed.answers
    whole, of_board = (answers["status"] == 200).to_numpy(), answers["board"].to_numpy()
    size = answers["bytes"].to_numpy()
    sizes = {"page": size[whole & ~of_board], "dashboard": size[whole & of_board], "not_modified": size[~whole]}
    return Sample(observed, events, service, board, save, sizes)


def _worked(observed: Observed) -> tuple[Array, Array, Array]:
    """(own times of refetches, whether of a dashboard, own times of saves). A sample of the pages tells nothing of a queue."""
    nothing = np.zeros(0)
    if observed.ledger.sampled:
        return nothing, np.zeros(0, bool), nothing
    scenario = observed.scenario
    way = scenario.network.to_api.mean()
    sent = observed.ledger.tables.refetches
    sent = sent[sent["started_at"].notna()]
    start = observed.ledger.window.start
    arrived = sent["started_at"].to_numpy(float) + way
    left = sent["finished_at"].to_numpy(float) - way
    answered = sent["status"].isin((200, 304)).to_numpy(bool)
    left[~answered] = np.nan
    by_routes = scenario.publisher.via == "routes" and scenario.api.save_workers == "shared"
    changes = observed.run.updates if by_routes else observed.run.updates.iloc[:0]
    changes = changes[changes["committed_at"].notna() & changes["intended_at"].notna()]
    committed = changes["committed_at"].to_numpy(float)
    done = np.fmax(committed, observed.answered.reindex(changes["update"]).to_numpy(float))
    came = changes["intended_at"].to_numpy(float)
    jobs = own_times(np.r_[arrived, came], np.r_[left, done], scenario.api.workers)
    count = len(arrived)
    inside = (arrived >= start) & np.isfinite(jobs[:count, 1])
    begun = jobs[count:, 0]
    saved = (came >= start) & np.isfinite(begun)
    board = (sent["resource"] == "dashboard").to_numpy(bool)
    return jobs[:count, 1][inside], board[inside], np.maximum(committed - begun, SHORTEST)[saved]


# --- estimates -----------------------------------------------------------------------------------------------------------


def slope(ranks: Array, spread: Array) -> float:
    """Least absolute deviations through the origin: the median of spread / ranks, each weighted by its ranks."""
    ratio = spread / ranks
    order = np.argsort(ratio)
    heap = np.cumsum(ranks[order])
    return float(ratio[order][np.searchsorted(heap, heap[-1] / 2)])


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


@dataclass(frozen=True)
class Estimates:
    """What the samples say: values by key (a distribution as its own), and of the fan-out whether its slope is identified."""

    values: dict[str, Any]
    slope_known: bool
    n: dict[str, int]


def separable(receivers: Array) -> bool:
    """Whether fan-outs differ enough in size for a slope over it: two groups of events, `APART` or more from one another."""
    if len(receivers) < 2 * MIN_EVENTS:
        return False
    ordered = np.sort(receivers)
    low, high = ordered[MIN_EVENTS - 1], ordered[-MIN_EVENTS]
    return bool(high >= APART * low)


def estimate(
    samples: Sequence[Sample], point: Estimates | None = None, share: float | None = None, less: float = 0.0
) -> Estimates:
    """Values of everything that the samples have enough of. *point*: of a resample, the estimates of the whole: the same keys
    again. *share*: of what comes before the first write and may grow with n, where no slope over n can be had; None: as the
    scenario has it. *less*: by which that slope is lowered, where it cannot be told from none."""
    found: dict[str, Any] = {}
    counts: dict[str, int] = {}
    slope_known = _fan_out(samples, found, counts, point, share, less)
    _application(samples, found, counts)
    if point is not None:
        asked = set(point.values) | {"broadcaster.compose_per_subscriber"}
        found = point.values | {key: value for key, value in found.items() if key in asked}
    return Estimates(found, slope_known, counts)


def _joined(samples: Iterable[Sample], name: str) -> Array:
    return np.concatenate([sample.events[name] for sample in samples])


def _fan_out(
    samples: Sequence[Sample],
    found: dict[str, Any],
    counts: dict[str, int],
    point: Estimates | None,
    share: float | None,
    less: float,
) -> bool:
    base = samples[0].observed.scenario
    columns = {name: _joined(samples, name) for name in samples[0].events}
    alone = columns["alone"].astype(bool)
    if alone.sum() < MIN_EVENTS:
        return False

    def keep(key: str, value: Any, n: int) -> Any:
        found[key], counts[key] = value, n
        return value

    costs = base.broadcaster.costs
    each, compose, fixed = costs.per_subscriber, costs.compose_per_subscriber, costs.fixed
    spread, ranks = columns["spread"][alone], columns["ranks"][alone]
    wide = ranks >= BREADTH - 1
    if wide.sum() >= MIN_EVENTS:
        each = keep("broadcaster.per_subscriber", slope(ranks[wide], spread[wide]), int(wide.sum()))
    told = np.isfinite(columns["answered"])
    if told.sum() >= MIN_EVENTS and (answer := answer_of(columns["spread"][told], columns["answered"][told])) is not None:
        keep("broadcaster.answer", answer, int(told.sum()))
    receivers = columns["receivers"][alone]
    first = columns["first"][alone] - each * columns["first_rank"][alone]
    known = separable(receivers) if point is None else point.slope_known
    if known:
        compose = keep("broadcaster.compose_per_subscriber", max(0.0, line(receivers, first)[1] - less), len(first))
    busy = np.isfinite(columns["gap"])
    if busy.sum() >= MIN_EVENTS and (point is None or "broadcaster.fixed" in point.values):
        gap = columns["gap"][busy] - columns["receivers"][busy] * compose - each * columns["first_rank"][busy]
        fixed = keep("broadcaster.fixed", max(0.0, float(np.median(gap))), int(busy.sum()))
    floor = samples[0].observed.floor
    to_subscriber = base.network.to_subscriber.mean() if floor is None else keep("network.to_subscriber", floor, len(samples))
    above = first - fixed - to_subscriber
    if not known and share is not None:
        found["broadcaster.compose_per_subscriber"] = share * max(0.0, float(np.median(above / receivers)))
        rest = np.maximum((1 - share) * above, SHORTEST)
    else:
        rest = np.maximum(above - receivers * compose, SHORTEST)
    # Who opens a connection for each publish goes the way three times.
    trips = 1 if costs.keep_alive else 3
    near = columns["quiet"][alone] < NAGLE_WAITS
    if near.sum() >= NEAR and (point is None or "broadcaster.nagle" in point.values):
        keep("broadcaster.nagle", bool(np.median(rest[near]) - np.median(rest[~near]) > NAGLE_WAITS / 4), int(near.sum()))
    keep("network.to_broadcaster", distribution(rest / trips), len(rest))
    return known


def distribution(values: Array) -> Distribution:
    """The values themselves, or the means of `STRATA` equal parts of them in order: shape, tail and mean are theirs."""
    ordered = np.sort(np.asarray(values, float))
    parts = np.array_split(ordered, min(STRATA, len(ordered)))
    means = [float(f"{part.mean():.4g}") for part in parts]
    return Constant(means[0]) if means[0] == means[-1] else Empirical(tuple(means))


def answer_of(spread: Array, late: Array) -> str | None:
    """`before` or `after`: when a publish was answered, from the spread of each fan-out and how long after its first receiver the
    change was answered (s). None: every answer came after the last receiver, and late enough to be of either kind."""
    if np.mean(late < spread) > 0.1:
        return "before"
    if np.quantile(spread, 0.9) >= APART * np.quantile(spread, 0.1):
        return "after" if line(spread, late)[1] > 0.5 else "before"
    return "after" if np.median(late - spread) < 0.5 * np.median(spread) else None


def _application(samples: Sequence[Sample], found: dict[str, Any], counts: dict[str, int]) -> None:
    own = np.concatenate([sample.service for sample in samples])
    rows = {sample.observed.scenario.dashboard_rows for sample in samples}
    per_row = samples[0].observed.scenario.api.service_per_row
    if len(own) >= MIN_ANSWERS:
        shown = np.concatenate([np.where(sample.board, sample.observed.scenario.dashboard_rows, 0) for sample in samples])
        groups = [own[shown == count] for count in np.unique(shown)]
        groups = [group for group in groups if len(group) >= MIN_ANSWERS]
        if len(groups) > 1:
            per_row = max(0.0, float(np.polyfit(shown, own, 1)[0]))
            found["api.service_per_row"], counts["api.service_per_row"] = per_row, len(own)
        values = np.maximum(own - per_row * shown, SHORTEST)
        found["api.service"] = distribution(values)
        counts["api.service"] = len(own)
        workers = {sample.observed.scenario.api.workers for sample in samples if len(sample.service)}
        if len(workers) == 1:
            # The two belong together: own times are read off the departures of this many workers.
            found["api.workers"], counts["api.workers"] = workers.pop(), len(own)
    save = np.concatenate([sample.save for sample in samples])
    if len(save) >= MIN_ANSWERS:
        # A save of no time needs no worker, and no engine that gives it one.
        instant = bool(np.median(save) <= 2 * SHORTEST)
        found["api.save"], counts["api.save"] = Constant() if instant else distribution(save), len(save)
    _sizes(samples, found, counts, rows)


def _sizes(samples: Sequence[Sample], found: dict[str, Any], counts: dict[str, int], rows: set[int]) -> None:
    """Mean sizes by kind of page; what a row of a dashboard adds only where dashboards of different lengths were measured."""
    api = samples[0].observed.scenario.api
    page, board, short = (
        np.concatenate([sample.sizes[kind] for sample in samples]) for kind in ("page", "dashboard", "not_modified")
    )
    if len(page) >= MIN_ANSWERS:
        found["api.answer_bytes"], counts["api.answer_bytes"] = round(float(page.mean())), len(page)
    if len(short) >= MIN_ANSWERS:
        found["api.not_modified_bytes"], counts["api.not_modified_bytes"] = round(float(short.mean())), len(short)
    if len(board) >= MIN_ANSWERS:
        per_row, shown = float(api.answer_bytes_per_row), float(next(iter(rows)))
        base = board.mean() - per_row * shown
        if len(rows) > 1:
            lengths = np.concatenate([np.full(len(s.sizes["dashboard"]), s.observed.scenario.dashboard_rows) for s in samples])
            per_row, base = (float(value) for value in np.polyfit(lengths, board, 1))
            shown = float(lengths.mean())
        if base < 0 or per_row < 0:
            # Neither can be: all of it belongs to the other.
            per_row, base = (float(board.mean()) / shown, 0.0) if base < 0 else (0.0, float(board.mean()))
        found["api.dashboard_bytes"], counts["api.dashboard_bytes"] = round(base), len(board)
        if len(rows) > 1 or per_row != api.answer_bytes_per_row:
            found["api.answer_bytes_per_row"], counts["api.answer_bytes_per_row"] = round(per_row), len(board)


# --- processor time ------------------------------------------------------------------------------------------------------

WORK = {
    "broadcaster": ("seconds", "events", "deliveries"),
    "application": ("seconds", "events", "refetches"),
    "harness": ("seconds", "deliveries", "refetches"),
    "publisher": ("seconds", "events"),
}
"""What each kind of process spends its time on: always, per change or event, per delivery, per refetch."""

PER = {"seconds": "second", "events": "event", "deliveries": "delivery", "refetches": "refetch"}


def processor(windows: Array) -> Array:
    """Non-negative least squares of the last column (CPU seconds) on the others (what was done between two samples)."""
    scale = np.maximum(np.abs(windows[:, :-1]).max(axis=0), 1e-300)
    found, _ = nnls(windows[:, :-1] / scale, windows[:, -1])
    return np.asarray(found / scale)


def _processors(observed: Sequence[Observed]) -> dict[str, Array]:
    """By process the samples of all runs: columns `WORK`, and cpu last; without what never happened in any."""
    found = {}
    for process, work in WORK.items():
        tables = [table for one in observed if len(table := costs.spent(one.run, process))]
        if not tables:
            continue
        rows = np.concatenate([table[[*work, "used"]].to_numpy(float) for table in tables])
        if len(rows) >= MIN_EVENTS:
            found[process] = rows
    return found


# --- the whole -----------------------------------------------------------------------------------------------------------


def unit_of(key: str) -> str:
    return "bytes" if "bytes" in key or key.startswith("memory") else "" if key in GIVEN[:2] + GIVEN[3:] else "s"


def fit(observed: Sequence[Observed], draws: int = DRAWS, seed: int = 0) -> Fit:
    """Everything that the runs identify, and by name what they do not. Raises `BadInput` where they have too little of all.

    *draws*: joint draws that the intervals are made from.
    """
    samples = [sample_of(one) for one in observed]
    best = estimate(samples)
    if not best.values:
        names = ", ".join(one.name for one in observed)
        raise BadInput(
            f"{names}: too few events alone and too few answers to fit anything to (at least {MIN_EVENTS} or {MIN_ANSWERS})"
        )
    rng = np.random.default_rng(seed)
    windows = _processors(observed)
    values = best.values | _named({process: processor(rows) for process, rows in windows.items()})
    counts = best.n | {f"cpu.{process}": len(rows) for process, rows in windows.items()}
    drawn = _draws(samples, windows, best, draws, rng)
    compose = "broadcaster.compose_per_subscriber"
    slope = best.values.get(compose, 0.0)
    if slope > 0 and best.slope_known and np.quantile([row[compose] for row in drawn], SURE[0]) <= 0:
        # It cannot be told from none, so none is the better guess; the draws go from none upwards.
        best = estimate(samples, less=slope)
        drawn = _draws(samples, windows, best, draws, rng, less=slope)
        values |= best.values
    parameters = [_parameter(key, value, drawn, counts, observed) for key, value in values.items()]
    parameters += _unidentified(values, best, drawn, observed)
    found = Fit(
        parameters=tuple(sorted(parameters, key=lambda p: (not p.identified, p.key.startswith(PROCESSES)))),
        scenario=to_dict(observed[0].scenario),
        draws=tuple({key: _toml(value) for key, value in row.items()} for row in drawn[:KEPT]),
        ranges=_ranges(observed),
        runs=tuple(_card(one) for one in observed),
        target=_target(observed[0]),
    )
    runs = [(one.name, one.scenario, updates_of(one.run), one.summary) for one in observed]
    return replace(found, residuals=residuals(found, runs))


def _draws(
    samples: Sequence[Sample],
    windows: dict[str, Array],
    best: Estimates,
    draws: int,
    rng: np.random.Generator,
    less: float = 0.0,
) -> list[dict[str, Any]]:
    """Estimates of resampled runs: key -> value, joint."""
    drawn = []
    for _ in range(draws):
        share = None if best.slope_known else float(rng.random())
        again = estimate([sample.resampled(rng) for sample in samples], best, share, less).values
        costs = {process: processor(rows[rng.integers(len(rows), size=len(rows))]) for process, rows in windows.items()}
        drawn.append(again | _named(costs))
    return drawn


def _named(costs: dict[str, Array]) -> dict[str, float]:
    """`cpu.<process>.per_<what>`: seconds of the processor."""
    return {
        f"cpu.{process}.per_{PER[work]}": float(value)
        for process, found in costs.items()
        for work, value in zip(WORK[process], found, strict=True)
    }


def _toml(value: Any) -> Any:
    """As TOML holds it."""
    return to_dict(value) if isinstance(value, Distribution) else value


def _number(value: Any) -> float:
    return value.mean() if isinstance(value, Distribution) else float(value)


GIVEN = ("broadcaster.answer", "broadcaster.nagle", "network.to_subscriber", "api.workers")
"""What has no interval: choices, and what the runs were told."""

MADE_FROM = {
    "api.workers": "the scenario: own times are those of this many workers",
    "broadcaster.per_subscriber": "first to last receiver, over the writes between them",
    "broadcaster.compose_per_subscriber": "commit to first receiver, slope over the size of the fan-out",
    "broadcaster.fixed": "last receiver of an event to the first of one that waited for it",
    "broadcaster.nagle": "whether events soon after another waited for an acknowledgement",
    "broadcaster.answer": "place of the publish's answer between first and last receiver",
    "network.to_subscriber": "floor of the calibration: both ends are on one machine",
    "network.to_broadcaster": "commit to first receiver, less what the broadcaster takes",
    "api.service": "arrivals and departures of the queue",
    "api.service_per_row": "own times of pages of different lengths",
    "api.save": "commits, from when a worker was free",
    "api.answer_bytes": "mean of pages of one resource",
    "api.dashboard_bytes": "mean of dashboards, less their rows",
    "api.answer_bytes_per_row": "dashboards of different lengths",
    "api.not_modified_bytes": "mean of answers that nothing has changed",
}


def _parameter(
    key: str, value: Any, drawn: list[dict[str, Any]], counts: dict[str, int], observed: Sequence[Observed]
) -> Parameter:
    low = high = None
    if key not in GIVEN:
        found = np.array([_number(row[key]) for row in drawn if key in row])
        if len(found):
            low, high = (float(end) for end in np.quantile(found, SURE))
    made_from = MADE_FROM.get(key, "")
    if key.startswith(PROCESSES):
        local = observed[0].floor is not None
        made_from = "samples of its processor time" + (" (on loopback: the receivers' share is in it)" if local else "")
    n = counts.get(key, counts.get(key.rpartition(".")[0], 0))
    return Parameter(key, _toml(value), low, high, unit_of(key), made_from=made_from, n=n)


def _unidentified(
    values: dict[str, Any], point: Estimates, drawn: list[dict[str, Any]], observed: Sequence[Observed]
) -> list[Parameter]:
    """What the runs do not tell, each with the run that would."""
    found = []
    sizes = sorted({one.subscribers for one in observed})
    scenario = observed[0].scenario

    def lacks(key: str, needs: str) -> None:
        bounds = [_number(row[key]) for row in drawn if key in row]
        low, high = (min(bounds), max(bounds)) if bounds else (None, None)
        found.append(Parameter(key, low=low, high=high, unit=unit_of(key), identified=False, needs=needs))

    if "broadcaster.per_subscriber" not in values:
        lacks("broadcaster.per_subscriber", f"{MIN_EVENTS} events to {BREADTH} subscribers or more (more updates, more pages)")
    if not point.slope_known:
        more = f"add a run with {MORE * sizes[-1]:,} subscribers: with one size it cannot be told from network.to_broadcaster"
        lacks("broadcaster.compose_per_subscriber", more)
    if "broadcaster.fixed" not in values:
        wait = (
            "a run in which events wait for one another (workload.rate higher); until then it is part of network.to_broadcaster"
        )
        lacks("broadcaster.fixed", wait)
    if "broadcaster.answer" not in values:
        lacks(
            "broadcaster.answer",
            f"changes whose answers are noted (broadcast.dispatch = 'now'), to {BREADTH} subscribers or more",
        )
    if "api.service" not in values:
        sampled = any(one.ledger.sampled for one in observed)
        why = "rows of all pages (load.probes off): a sample tells nothing of a queue" if sampled else f"{MIN_ANSWERS} refetches"
        lacks("api.service", f"a run with {why}")
    if "api.save" not in values:
        direct = "a run whose changes the application makes (publisher.via = 'routes')"
        lacks("api.save", f"a run with {MIN_ANSWERS} changes" if scenario.publisher.via == "routes" else direct)
    if "api.dashboard_bytes" in values and "api.answer_bytes_per_row" not in values:
        lacks("api.answer_bytes_per_row", "a run with more servers on a dashboard (fleet.servers_per_user)")
    lacks("network.to_api", "nothing: the ways to and from the application are part of what a refetch takes")
    return found


def _ranges(observed: Sequence[Observed]) -> dict[str, tuple[float, float]]:
    """Least and most of what was measured."""
    columns: dict[str, list[float]] = {"subscribers": [], "rate": [], "receivers": [], "refetch_rate": []}
    for one in observed:
        columns["subscribers"].append(float(one.subscribers))
        columns["rate"].append(len(one.ledger.counted) / one.seconds if one.seconds else 0.0)
        columns["receivers"] += one.events["receivers"].tolist()
        peak = one.summary.get("refetch_rate.peak", {}).get("value")
        columns["refetch_rate"].append(float(peak or 0.0))
    return {key: (min(column), max(column)) for key, column in columns.items() if column}


def _card(one: Observed) -> dict[str, Any]:
    return {
        "name": one.name,
        "run_id": one.run.manifest.run_id,
        "subscribers": one.subscribers,
        "updates": len(one.ledger.counted),
        "seconds": one.seconds,
    }


def _target(one: Observed) -> dict[str, Any]:
    host = one.run.manifest.host
    broadcaster = one.scenario.broadcaster
    return {
        "machine": f"{host.get('system', '?')}, {host.get('machine', '?')}, {host.get('cores', '?')} cores",
        "broadcaster": broadcaster.model,
        "nodes": broadcaster.nodes,
        "workers": one.scenario.api.workers,
        "loopback": one.floor is not None,
    }


def point(run: Run, *prefixes: str) -> dict[str, Any]:
    """Key -> value, as TOML holds it, of what one run identifies, without intervals; of keys that begin with one of *prefixes*.

    The run may be simulated, or too short for some: what it does not tell is not among them.
    """
    found = estimate([sample_of(Observed(run))]).values
    return {key: _toml(value) for key, value in found.items() if key.startswith(prefixes)}


def fitted(run: Run, *prefixes: str) -> Scenario:
    """The run's scenario with `point` in place. Raises `BadInput` where the run identifies none of it."""
    found = point(run, *prefixes)
    if not found:
        raise BadInput(f"{run.name} has too few events and refetches to fit {', '.join(prefixes)} to")
    return run.scenario.replace(found)
