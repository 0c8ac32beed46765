"""What one run contributes to a fit, in columns that can be drawn again: events, own times of jobs, sizes of answers.

The application is a first-in-first-out queue of c workers. Job j, in the order of arrival, begins when it came, or when of all
jobs before it no more than c - 1 are left: so begin, and with it each job's own time, is read off arrivals and departures,
exactly (`own_times`). Of first loads and channel authorisations only the end is in the tables: what was worked on while one of
them ended is left out (`_beside`). Changes are jobs of the same queue, where they have no workers of their own (`apart`): their
own time until the commit is the save.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, replace

import numpy as np

from sim.arrays import Array
from sim.prediction.observations import Observed
from sim.results.run import Run

BREADTH = 10
"""Receivers that an event needs before its spread says something about one of them."""
BLOCK = 20
"""Successive answers that are drawn together: those of one herd wait for one another."""
MIN_WAITING = 5
"""Changes that came while refetches had all workers, from which on they tell whether they waited for one."""
SHORTEST = 1e-6
"""Seconds: a duration below the clock's resolution is taken to be that."""


@dataclass(frozen=True)
class RunSample:
    """What one run contributes, in columns that can be resampled."""

    observed: Observed
    events: dict[str, Array]
    """first (after the commit), spread, ranks, first_rank, receivers, gap (after the event before; NaN: found it idle), answered
    (after the first; NaN), alone, quiet (since the event before)."""
    service: dict[str, Array]
    """Refetches that were worked on: own (time, s), board, waited (for a worker), alone (the application had nothing to do)."""
    save: Array
    """Shape (n, 2): own time of each change until its commit, and the time since the change before; s."""
    workers: int
    """Of the application, by which own times were read off."""
    sizes: dict[str, Array]
    """Kind of page -> bytes of the whole answers; `not_modified` -> of the others."""
    own_workers: bool = False
    """Whether changes had workers of their own, and waited for one another only."""

    def resampled(self, rng: np.random.Generator) -> RunSample:
        """The same of a run that went otherwise: events, blocks of answers and saves drawn with replacement."""
        rows, saved = (rng.integers(max(size, 1), size=size) for size in (len(self.events["first"]), len(self.save)))
        kept = _blocks(len(self.service["own"]), rng)
        events, service = (
            {name: column[rows] for name, column in of.items()} for of, rows in ((self.events, rows), (self.service, kept))
        )
        sizes = {kind: of[rng.integers(max(len(of), 1), size=len(of))] for kind, of in self.sizes.items()}
        return replace(self, events=events, service=service, save=self.save[saved], sizes=sizes)


def _blocks(size: int, rng: np.random.Generator) -> Array:
    """Rows of a resample by blocks of successive rows."""
    if not size:
        return np.zeros(0, np.int64)
    length = max(1, min(BLOCK, size // 5))
    starts = rng.integers(size - length + 1, size=-(-size // length))
    return (starts[:, None] + np.arange(length)).ravel()[:size]


def own_times(arrived: Array, left: Array, workers: int) -> Array:
    """(begin, own time) of each job of a first-in-first-out queue of *workers*, from when it came and when it left (s).

    Shape (n, 2), in the order of the arguments. A job that is known to have come and not to have left (NaN: its page closed, it
    was given up) takes a worker for a time that is not known. So the next *workers* jobs, however late they come, are NaN: they
    began when it left, or beside it. Then the queue has moved past it (with one worker surely; with more unless it takes longer
    than all of them).
    """
    order = np.argsort(arrived, kind="stable")
    found = np.full((len(arrived), 2), np.nan)
    latest: list[float] = []
    """The last *workers* departures so far (heap)."""
    doubtful = 0
    for job in order.tolist():
        came, gone = float(arrived[job]), float(left[job])
        begin = max(came, latest[0]) if len(latest) == workers else came
        if np.isnan(gone):
            doubtful = workers
            continue
        if doubtful:
            doubtful -= 1
        else:
            found[job] = begin, max(gone - begin, 0.0)
        (heapq.heappushpop if len(latest) == workers else heapq.heappush)(latest, gone)
    return found


def _beside(jobs: Array, run: Run) -> Array:
    """Whether a first load or a channel authorisation ended while each job, as `own_times` has it, was worked on: the job may
    have waited for that, so what is taken for its own time is not. An authorisation ends with its subscription."""
    ends = np.sort(np.concatenate([run.pages["opened_at"], run.subscriptions["subscribed_at"]]).astype(float))
    until, begin = np.searchsorted(ends, [jobs.sum(axis=1), jobs[:, 0]], side="right")
    return np.asarray(until > begin)


def sample_of(observed: Observed, workers: int | None = None) -> RunSample:
    """What a fit reads of one run. *workers*: of the application, None: those of its scenario."""
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
    workers = workers or observed.scenario.api.workers
    service, save, own_workers = _worked(observed, workers)
    answers = observed.answers
    whole, of_board, size = (answers["status"] == 200).to_numpy(), answers["board"].to_numpy(), answers["bytes"].to_numpy()
    sizes = {"page": size[whole & ~of_board], "dashboard": size[whole & of_board], "not_modified": size[~whole]}
    return RunSample(observed, events, service, save, workers, sizes, own_workers)


def apart(alone: Array, begun: Array, committed: Array) -> bool:
    """Whether changes had workers of their own: most of those that refetches would have held back, by more than a change takes,
    from when they would have begun *alone* to when they would have *begun* in one queue (s), were *committed* before."""
    known = np.isfinite(begun)
    alone, begun, committed = alone[known], begun[known], committed[known]
    waiting = begun - alone > np.median(committed - alone) if known.any() else known
    return bool(waiting.sum() >= MIN_WAITING and np.mean(committed[waiting] < begun[waiting]) > 0.5)


def _hidden(observed: Observed) -> bool:
    """Whether rows tell nothing of the queue: of a sample of the pages, where some answers come from a cache, and where requests
    were tried again, for a row is of all its attempts."""
    api, sent = observed.scenario.api, observed.ledger.tables.refetches
    answered = sent["status"].isin((200, 304))
    slow = (sent["finished_at"] - sent["started_at"]).astype(float) >= (api.timeout or np.inf)
    return bool(
        observed.ledger.sampled or api.cache or (api.retries and (slow | (sent["finished_at"].notna() & ~answered)).any())
    )


def _worked(observed: Observed, workers: int) -> tuple[dict[str, Array], Array, bool]:
    """`RunSample.service`, `save` and `own_workers`."""
    if _hidden(observed):
        never = np.zeros(0, bool)
        return {"own": np.zeros(0), "board": never, "waited": never, "alone": never}, np.zeros((0, 2)), False
    scenario = observed.scenario
    way = scenario.network.to_api.mean()
    sent = observed.ledger.tables.refetches
    sent = sent[sent["started_at"].notna()]
    start = observed.ledger.window.start
    arrived = sent["started_at"].to_numpy(float) + way
    left = sent["finished_at"].to_numpy(float) - way
    left[~sent["status"].isin((200, 304)).to_numpy(bool)] = np.nan
    stated = scenario.api.save_workers == "own"
    # Changes with workers of their own are read one after the other, as in the embedded application.
    read = scenario.publisher.via == "routes" and not (stated and scenario.api.save_lock == "resource")
    changes = observed.run.updates if read else observed.run.updates.iloc[:0]
    changes = changes[changes["committed_at"].notna()].dropna(subset=["intended_at"]).sort_values("intended_at", kind="stable")
    committed = changes["committed_at"].to_numpy(float)
    done = np.fmax(committed, observed.answered.reindex(changes["update"]).to_numpy(float))
    came = changes["intended_at"].to_numpy(float)
    ends, count = np.r_[left, done], len(arrived)
    jobs = own_times(np.r_[arrived, came], ends, workers)
    alone = own_times(came, done, workers)
    if own_workers := stated or apart(alone[:, 0], jobs[count:, 0], committed):
        jobs = np.r_[own_times(arrived, left, workers), alone]
        ends[count:] = np.nan
    queued = jobs[:count] if own_workers else jobs
    queued[_beside(queued, observed.run)] = np.nan
    order = np.argsort(np.r_[arrived, came], kind="stable")
    busy = np.empty(len(order))
    busy[order] = np.r_[-np.inf, np.fmax.accumulate(ends[order])[:-1]] if len(order) else []
    begun = jobs[count:, 0]
    since = np.diff(came, prepend=-np.inf)
    saved = (came >= start) & np.isfinite(begun)
    service = {
        "own": jobs[:count, 1],
        "board": (sent["resource"] == "dashboard").to_numpy(bool),
        "waited": jobs[:count, 0] > arrived,
        "alone": arrived >= busy[:count],
    }
    inside = (arrived >= start) & np.isfinite(service["own"])
    save = np.column_stack([np.maximum(committed - begun, SHORTEST), since])[saved]
    return {name: column[inside] for name, column in service.items()}, save, own_workers
