"""First come, first served, c workers, exactly, in bulk.

Sorted arrivals and their service times (int64 ns) in, instants at which service begins out. What is left over (when each worker
becomes free) is carried from one call to the next, so that a day of herds streams through in pieces.

A request begins when the first worker is free: begin[k] = max(arrival[k], k-th smallest free time) (Kiefer & Wolfowitz 1955).
Which of the ways to compute it is taken depends on the service times and on whether Numba is installed; all give the same
integers.

    constant service    worker k follows worker k - c: a running maximum over c columns      about 60 million/s (NumPy)
    one worker          Lindley's recursion as a running maximum                              about 70 million/s (NumPy)
    compiled            any service: up to 32 workers in registers, or a heap (`loops`)    40 to 250 million/s (Numba)
    lockstep            any service, many herds of equal size that mostly start idle          about 40 million/s at c = 16 (NumPy)
    heap                any service                                                           about 4 million/s (standard library)
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable

import numpy as np

from sim.arrays import Array
from sim.virtual.draws import parts
from sim.virtual.fleet import compiled
from sim.virtual.fleet.spread import Profile

IDLE = -(1 << 62)
"""Free since ever, ns."""

_LOCKSTEP_ROUNDS = 6
_HEAP_NS = 230  # measured: the standard library's heap, per request
_STEP_NS = 9_000  # measured: lockstep's NumPy calls, per step
_CELL_NS = 1.0  # measured: lockstep's work, per worker and request


class Fifo:
    """One queue for `workers` workers. Feed it arrivals in order of time; `serve` may be called any number of times.

    It is observed in a *window* [start, stop) (ns): `count`, `waited` and `longest` are those of the requests that arrive in it,
    `busy` is the work done in it.
    """

    def __init__(self, workers: int, window: tuple[int, int] = (IDLE, -IDLE)) -> None:
        self.workers = workers
        self.window = window
        self.free: Array = np.full(workers, IDLE, np.int64)
        """When each worker becomes free, ns, in rising order; of one that is idle, some instant before the last arrival."""
        self.busy = 0
        """Service given, ns."""
        self.count = 0
        """Requests."""
        self.waited = 0
        """Time that they waited altogether, ns."""
        self.longest = 0
        """The longest of these waits, ns."""

    def serve(self, arrivals: Array, service: Array | int) -> Array:
        """Instants at which service begins (int64 ns), in order of *arrivals* (sorted, ns); *service* ns, a number where
        constant."""
        if not arrivals.size:
            return arrivals.copy()
        if isinstance(service, int) and self.free[-1] > max(arrivals[0], self.free[0]) + service:
            service = np.full(arrivals.size, service)  # a longer one that is still served is passed by those that come now
        if isinstance(service, int):
            begins = self._constant(arrivals, service)
        elif self.workers == 1:
            begins = self._single(arrivals, service)
        elif compiled.ENABLED:
            begins = np.empty_like(arrivals)
            self._note(*compiled.serve(arrivals, service, begins, self.free, self.window)[:4])
            return begins
        else:
            begins = self._heap(arrivals, service)
        self._observe(arrivals, begins, service)
        return begins

    def serve_packed(
        self, sent: Array, bits: int, services: Iterable[Array | int], way: int, base: int
    ) -> tuple[Array, Array, Profile]:
        """(members, begins, answers) of a herd whose instants and members are one integer each, in their lowest *bits*.

        *services*: times (ns) of the requests in each of `parts`. A request takes *way* to the queue, and as long back. Instants
        count from *base*; *sent* is left as instants.
        """
        order, begins, answers = np.empty(sent.size, np.int32), np.empty_like(sent), np.empty_like(sent)
        reach = []
        for part, service in zip(parts(sent.size), services, strict=True):
            at, begin, packed = sent[part], begins[part], (bits, order[part], answers[part])
            if compiled.ENABLED:
                needs = np.full(at.size, service) if isinstance(service, int) else service
                *observed, least, largest = compiled.serve(at, needs, begin, self.free, self.window, way, base, packed)
                self._note(*observed)
                reach += [least, largest]
            else:
                packed[1][:] = at & ((1 << bits) - 1)
                at >>= bits
                begin[:] = self.serve(at + (base + way), service) - base
                packed[2][:] = begin + (service + way)
        return order, begins, Profile(answers, reach=(min(reach), max(reach)) if reach else None)

    def _observe(self, arrivals: Array, begins: Array, service: Array | int) -> None:
        """*arrivals* sorted; no service ends after the last of `free`."""
        start, stop = self.window
        if arrivals[0] >= stop or self.free[-1] <= start:
            return
        wait = begins - arrivals
        if start <= arrivals[0] and self.free[-1] <= stop:
            busy = service * arrivals.size if isinstance(service, int) else int(service.sum())
        else:
            longest = service if isinstance(service, int) else int(service.max())
            low, high = np.searchsorted(begins, [start, max(start, stop - longest)]).tolist()  # these are whole
            busy = service * (high - low) if isinstance(service, int) else int(service[low:high].sum())
            for part in (slice(0, low), slice(high, None)):
                ends = begins[part] + (service if isinstance(service, int) else service[part])
                busy += int(np.maximum(np.minimum(ends, stop) - np.maximum(begins[part], start), 0).sum())
            wait = wait[slice(*np.searchsorted(arrivals, [start, stop]))]
        self._note(busy, wait.size, int(wait.sum()), int(wait.max(initial=0)))

    def _note(self, busy: int, count: int, waited: int, longest: int) -> None:
        self.busy += busy
        self.count += count
        self.waited += waited
        self.longest = max(self.longest, longest)

    def serve_herds(self, arrivals: Array, service: Array | int) -> Array:
        """The same for herds (rows) of equal size, each sorted and wholly later than the row before."""
        herds, size = arrivals.shape
        if isinstance(service, int) or self.workers == 1 or compiled.ENABLED or not size:
            flat = service if isinstance(service, int) else service.ravel()
            return self.serve(arrivals.ravel(), flat).reshape(arrivals.shape)
        lockstep = size * (_STEP_NS + herds * self.workers * _CELL_NS)
        if 2 * lockstep > herds * size * _HEAP_NS:
            return self.serve(arrivals.ravel(), service.ravel()).reshape(arrivals.shape)
        begins = self._lockstep(arrivals, service)
        self._observe(arrivals.ravel(), begins.ravel(), service.ravel())
        return begins

    def repeat(self, other: Fifo, at: int, first: int) -> bool:
        """As if what *other* has served, from idle and *first* ns on, had been served here again *at* ns later, when all workers
        must be free. False: it is not known of *other* how much of it lies in the window, so nothing was done."""
        start, stop = self.window
        inside = start <= at + first and at + int(other.free[-1]) <= stop
        if not (inside or at + first >= stop or at + int(other.free[-1]) <= start):
            return False
        self.free = np.maximum(other.free + at, self.free)
        if inside:
            self._note(other.busy, other.count, other.waited, other.longest)
        return True

    def _constant(self, arrivals: Array, service: int) -> Array:
        """Departures leave in the order of arrivals, so request k is served by the worker of request k - c."""
        workers, count = self.workers, arrivals.size
        rows = -(-count // workers)
        ends = np.full((rows + 1, workers), np.iinfo(np.int64).max // 2, np.int64)
        ends[0] = self.free
        ends[1:].ravel()[:count] = arrivals
        # end[r] = max(arrival[r], end[r - 1]) + S: a running maximum once each row is moved back by its own r services.
        moved = service * np.arange(rows + 1, dtype=np.int64)[:, None]
        ends[1:] += service
        ends -= moved
        np.maximum.accumulate(ends, axis=0, out=ends)
        ends += moved
        done: Array = ends[1:].ravel()[:count]
        self.free = np.sort(np.concatenate([self.free, done])[-workers:] if count < workers else done[-workers:])
        return done - service

    def _single(self, arrivals: Array, service: Array) -> Array:
        before = np.cumsum(service)
        work = before[-1]
        before -= service
        begins = np.maximum(arrivals, self.free[0])
        begins -= before
        np.maximum.accumulate(begins, out=begins)
        self.free[0] = begins[-1] + work
        begins += before
        return begins

    def _heap(self, arrivals: Array, service: Array) -> Array:
        free = self.free.tolist()  # sorted, hence a heap
        replace = heapq.heapreplace
        begins: list[int] = []
        append = begins.append
        for arrival, needs in zip(arrivals.tolist(), service.tolist(), strict=True):
            first = free[0]
            begin = arrival if arrival > first else first
            append(begin)
            replace(free, begin + needs)
        self.free = np.array(sorted(free), np.int64)
        return np.array(begins, np.int64)

    def _lockstep(self, arrivals: Array, service: Array) -> Array:
        """All herds at once, request by request, as if each found the workers idle; herds that did not are done again.

        A herd's result depends on the herd before only through the free times that reach past its own first arrival. So a chain
        of herds that run into each other is right after as many rounds as it is long; what is not by then goes through the
        heap.
        """
        herds = len(arrivals)
        start = np.full((self.workers, herds), IDLE, np.int64)
        start[:, 0] = self.free
        begins = np.empty_like(arrivals)
        left = np.empty_like(start)
        stale = np.arange(herds)
        for _ in range(_LOCKSTEP_ROUNDS):
            begins[stale], left[:, stale] = _in_step(arrivals[stale], service[stale], start[:, stale])
            met = np.where(left[-1, :-1] > arrivals[1:, 0], left[:, :-1], IDLE)
            stale = 1 + np.flatnonzero((met != start[:, 1:]).any(axis=0))
            start[:, 1:] = met
            if not stale.size:
                break
        else:
            self._one_by_one(arrivals, service, begins, left, stale)
        self.free = left[:, -1].copy()
        return begins

    def _one_by_one(self, arrivals: Array, service: Array, begins: Array, left: Array, stale: Array) -> None:
        """Finish a lockstep whose chains are too long for it: from the first wrong herd on, whatever met another state."""
        wrong = np.zeros(len(arrivals), bool)
        wrong[stale] = True
        for row in range(int(stale[0]), len(arrivals)):
            if wrong[row]:
                before = left[-1, row].item()
                self.free = left[:, row - 1].copy()
                begins[row] = self._heap(arrivals[row], service[row])
                changed = (left[:, row] != self.free).any()
                left[:, row] = self.free
                if row + 1 < len(arrivals) and changed:
                    wrong[row + 1] |= max(before, left[-1, row]) > arrivals[row + 1, 0]


def _in_step(arrivals: Array, service: Array, free: Array) -> tuple[Array, Array]:
    """(begins, free times left) of independent herds (rows), *free*: workers x herds, each column sorted."""
    herds, size = arrivals.shape
    by_rank, needs = np.ascontiguousarray(arrivals.T), np.ascontiguousarray(service.T)
    begins = np.empty((size, herds), np.int64)
    # One row more above than workers: the place that an end takes among the others is found by min and max alone.
    rows = np.empty((free.shape[0] + 1, herds), np.int64)
    rows[:-1] = free
    rows[-1] = np.iinfo(np.int64).max
    held = np.empty((free.shape[0], herds), np.int64)
    end = np.empty(herds, np.int64)
    for rank in range(size):
        begin = begins[rank]
        np.maximum(by_rank[rank], rows[0], out=begin)
        np.add(begin, needs[rank], out=end)
        # Sorted f[1] <= ... <= f[c-1] with the new end put in its place: g[i] = min(f[i + 1], max(end, f[i])).
        np.maximum(rows[:-1], end, out=held)
        np.minimum(rows[1:], held, out=rows[:-1])
    return begins.T, rows[:-1]
