"""All refetches of a run through the queue of the application, as herds, in the order of their arrival.

Herds go through in pieces of bounded size. How a piece is taken depends on what it is, never what comes out:

    alone    equal requests that find the queue idle       answered as the last such herd of the group was, only moved
    file     herds of one group, one behind the other      no sorting: a matrix, herd by request
    solo     one large herd with jitter                    sorted, while the queue serves the one before
    crowd    anything else                                 sorted together; what arrives after the piece is kept for the next
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from sim.arrays import Array
from sim.clock import ns
from sim.distributions import Constant, Distribution, Exponential, Mixture
from sim.scenario import Scenario
from sim.virtual.draws import columns, parts
from sim.virtual.fleet import compiled
from sim.virtual.fleet.groups import Group
from sim.virtual.fleet.herds import NEVER, Herd, Span, fits, in_order
from sim.virtual.fleet.queueing import Fifo
from sim.virtual.fleet.spread import Profile
from sim.virtual.preparation import Progress
from sim.workload import Streams

PIECE = 1 << 21
"""Refetches that go through the queue at once, unless one herd is larger: 16 MiB for each column."""

LOAD_STEP = 100_000_000
"""ns: refetches are counted per 100 ms."""

SMALL = 4096
"""Requests up to which herds go through the queue together, at the price of sorting them."""

FEW = 16
"""Requests up to which those of a herd are better counted one by one."""


@dataclass(slots=True)
class _Open:
    """A herd that has been sent and is not complete."""

    group: int
    base: int
    columns: Array
    """Started, arrived, begun, finished of each member in their order, instants of the run; the last two `NEVER`: not yet."""


class Load:
    """How many refetches start in each 100 ms of the window."""

    def __init__(self, window: Span) -> None:
        self._window = window
        self.counts: Array = np.zeros(max(0, -(-(window.stop - window.start) // LOAD_STEP)), np.int64)

    def add_herds(self, bases: Array, started: Array) -> None:
        """Count herds that start at each of the *bases* + *started* (sorted)."""
        start, stop = self._window.start, self._window.stop
        first = (bases + (started[0] - start)) // LOAD_STEP
        steps = first[:, None] + np.arange((started[-1] - started[0]) // LOAD_STEP + 3)
        edges = np.clip(start + steps * LOAD_STEP, start, stop) - bases[:, None]
        counts = np.diff(np.searchsorted(started, edges), axis=1)
        held = np.nonzero(counts)
        np.add.at(self.counts, steps[held], counts[held])

    def add(self, started: Array) -> None:
        """Count single starts, in any order."""
        start, stop = self._window.start, self._window.stop
        inside = started[(started >= start) & (started < stop)] - start
        if inside.size:
            inside //= LOAD_STEP
            low = int(inside.min())
            counts = np.bincount(inside - low)
            self.counts[low : low + counts.size] += counts


class Refetching:
    """All refetches of a run through the queue of the application, in the order of their arrival."""

    def __init__(self, scenario: Scenario, groups: list[Group], rng: Streams, window: Span) -> None:
        self.groups = groups
        self.queue = Fifo(scenario.api.workers, (window.start, window.stop))
        self._service = scenario.api.service
        self._network = scenario.network.to_api
        self._to_api = ns(self._network.value) if isinstance(self._network, Constant) else 0
        self._random_network = not isinstance(self._network, Constant)
        self._timeout = None if scenario.api.timeout is None else ns(scenario.api.timeout)
        self._jitter = [ns(group.policy.jitter) for group in groups]
        self._rng = rng
        self.load = Load(window)
        self._helper: ThreadPoolExecutor
        self._prepared: Future[Array] | None = None
        self._templates: dict[int, tuple[Herd, Fifo]] = {}
        self._moves: list[list[int]] = [[] for _ in groups]
        """Per group: bases of herds that were only moved and are not counted in the load yet."""
        self._open: list[_Open] = []
        """Herds of which some requests arrive after the piece that they were sent in, in the order of sending."""
        self._schedule(window.end)
        compiled.prepare(int(self._size.sum()))

    def _schedule(self, end: int) -> None:
        """All herds up to the *end* of the run, as columns, in the order in which their first requests arrive."""
        none = np.empty(0, np.int64)
        bases = [group.fires[group.fires + group.offsets[0] <= end] if group.size else none for group in self.groups]
        first = np.concatenate(
            [none, *(base + group.offsets[0] for base, group in zip(bases, self.groups, strict=True) if base.size)]
        )
        order = np.argsort(first, kind="stable")
        self._first: Array = first[order] + self._to_api
        """No request of it arrives earlier, ns."""
        self._group: Array = np.repeat(np.arange(len(bases)), [base.size for base in bases])[order]
        self._base: Array = np.concatenate([none, *bases])[order]
        self._size: Array = np.array([group.size for group in self.groups], np.int64)[self._group]
        spans = [int(group.offsets[-1]) if group.size else 0 for group in self.groups]
        last = np.array(spans, np.int64) + np.array(self._jitter, np.int64)
        arrived = np.maximum.accumulate(self._base + last[self._group] + self._to_api) if self._base.size else none
        self._gap: Array = np.append(arrived[:-1] <= self._first[1:], True)
        """Have it and all before it arrived when the next begins to? (But for a random network.)"""

    def herds(self, progress: Progress | None) -> Iterator[tuple[int, Herd]]:
        """(group, herd), complete; those of one group in order."""
        with ThreadPoolExecutor(1) as self._helper:
            yield from self._herds(progress)

    def _herds(self, progress: Progress | None) -> Iterator[tuple[int, Herd]]:
        ends = np.cumsum(self._size)
        count = self._first.size
        herd = 0
        while herd < count:
            if not self._open and self._is_alone(herd):
                yield self._moved(herd)
                herd += 1
            elif not self._open and self._is_solo(herd):
                yield self._solo(herd)
                herd += 1
            else:
                stop = self._piece_end(herd, ends)
                until = int(self._first[stop]) if stop < count else NEVER
                if not self._open and self._in_file(herd, stop, until):
                    yield from self._file(herd, stop)
                else:
                    yield from self._crowd(herd, stop, until)
                herd = stop
            if progress is not None:
                progress(herd / count)
        for number in range(len(self.groups)):
            self._count_moves(number)

    def _piece_end(self, herd: int, ends: Array) -> int:
        """Where a piece that begins with *herd* ends: before a herd that begins to arrive when all of the piece have arrived,
        if any.

        Large herds go one by one where they can: they need no sorting out. *ends*: running sum of the sizes.
        """
        before = int(ends[herd - 1]) if herd else 0
        stop = max(int(np.searchsorted(ends, before + PIECE, side="right")), herd + 1)
        if self._random_network or stop == self._first.size == herd + 1:
            return stop
        gaps = herd + 1 + np.flatnonzero(self._gap[herd:stop])
        if not gaps.size:
            return stop
        return int(gaps[0] if ends[herd] - before > SMALL else gaps[-1])

    # --- an idle queue and equal requests ------------------------------------------------------------------------------

    def _is_alone(self, herd: int) -> bool:
        """Does this herd find the queue idle, and is it over before the next begins to arrive, and made of equal requests?"""
        number = int(self._group[herd])
        if not isinstance(self._service, Constant) or self._random_network or self._jitter[number]:
            return False
        first = int(self._first[herd])
        if self.queue.free[-1] > first:
            return False
        last = int(self._base[herd] + self.groups[number].offsets[-1]) + self._to_api
        return herd + 1 == self._first.size or last <= int(self._first[herd + 1])

    def _moved(self, herd: int) -> tuple[int, Herd]:
        number, base = int(self._group[herd]), int(self._base[herd])
        group = self.groups[number]
        if number not in self._templates:
            queue = Fifo(self.queue.workers)
            arrivals = group.offsets + self._to_api
            service = ns(self._service.mean()) + group.seats.extra
            begun = queue.serve(arrivals, service)
            finished = self._answered(group.offsets, begun + (service + self._to_api))
            template = Herd(0, group.offsets, begun, finished, None, rising=self._timeout is None)
            self._templates[number] = template, queue
        template, queue = self._templates[number]
        arrivals = group.offsets + self._to_api
        if not self.queue.repeat(queue, base, int(arrivals[0])):
            self.queue.serve(base + arrivals, ns(self._service.mean()) + group.seats.extra)
        self._moves[number].append(base)
        if len(self._moves[number]) == SMALL:
            self._count_moves(number)
        return number, template.moved(base)

    def _count_moves(self, number: int) -> None:
        bases, self._moves[number] = self._moves[number], []
        if bases:
            self.load.add_herds(np.array(bases), self.groups[number].offsets)

    def _answered(self, started: Array, finished: Array) -> Array:
        """Instants of the answers; `NEVER` where the page has given up. An answer at the instant of the time-out is too late."""
        return finished if self._timeout is None else np.where(finished - started >= self._timeout, NEVER, finished)

    # --- herds of one group, one behind the other ----------------------------------------------------------------------

    def _in_file(self, herd: int, stop: int, until: int) -> bool:
        """Are these herds of one group, each wholly later than the one before?"""
        number = int(self._group[herd])
        if self._random_network or self._jitter[number] or (self._group[herd:stop] != number).any():
            return False
        span = int(self.groups[number].offsets[-1] - self.groups[number].offsets[0])
        first = self._first[herd:stop]
        return bool((np.diff(first) >= span).all()) and int(first[-1]) + span <= until

    def _file(self, herd: int, stop: int) -> Iterator[tuple[int, Herd]]:
        number = int(self._group[herd])
        group, bases = self.groups[number], self._base[herd:stop]
        arrivals = bases[:, None] + (group.offsets + self._to_api)
        service = self._draw_service(arrivals.size)
        even = isinstance(service, int)
        if not isinstance(service, int):
            service = service.reshape(arrivals.shape)
        service += group.seats.extra
        begun = self.queue.serve_herds(arrivals, service)
        finished = begun + service
        finished += self._to_api
        if group.size > FEW:
            self.load.add_herds(bases, group.offsets)
        else:
            self.load.add((bases[:, None] + group.offsets).ravel())
        begun -= bases[:, None]
        finished -= bases[:, None]
        rising = even and self._timeout is None
        if self._timeout is not None:
            finished = self._answered(group.offsets, finished)
        for row, base in enumerate(bases.tolist()):
            yield number, Herd(base, group.offsets, begun[row], finished[row], None, rising)

    # --- one herd with jitter ------------------------------------------------------------------------------------------

    def _is_solo(self, herd: int) -> bool:
        """Is this a large herd that must be sorted, and have its requests arrived when the next one's begin to?"""
        number = int(self._group[herd])
        group, jitter = self.groups[number], self._jitter[number]
        large = jitter and group.size > SMALL and not self._random_network and fits(int(group.offsets[-1]) + jitter, group.size)
        return bool(large) and bool(self._gap[herd]) and (herd == 0 or bool(self._gap[herd - 1]))

    def _solo(self, herd: int) -> tuple[int, Herd]:
        """While this herd is in the queue another thread draws and sorts the starts of the next one: the same numbers."""
        ready = self._prepared if self._prepared is not None else self._helper.submit(self._prepare, herd)
        following = herd + 1 < self._first.size and self._is_solo(herd + 1)
        sent = ready.result()
        self._prepared = self._helper.submit(self._prepare, herd + 1) if following else None
        number, base = int(self._group[herd]), int(self._base[herd])
        services = self._services(sent.size, self.groups[number].seats.extra)
        order, begun, heard = self.queue.serve_packed(sent, sent.size.bit_length(), services, self._to_api, base)
        self.load.add_herds(np.array([base]), sent)
        if self._timeout is not None:
            heard = Profile(self._answered(sent, heard.values))
        return number, Herd(base, sent, begun, heard, order)

    def _prepare(self, herd: int) -> Array:
        """Starts and members of a herd as one integer each, sorted: see `in_order`."""
        number = int(self._group[herd])
        group, rng, jitter = self.groups[number], self._rng["jitter"], self._jitter[number]
        sent, bits = np.empty(group.size, np.int64), group.size.bit_length()
        for part in parts(group.size):
            compiled.pack(rng.random(part.stop - part.start), jitter, group.offsets[part], part.start, bits, sent[part])
        sent.sort()
        return sent

    def _services(self, count: int, extra: int) -> Iterator[Array | int]:
        """Of *count* requests, in `parts` that stay in a cache: the same numbers as at once, but for a mixture, whose choices are
        drawn before its durations."""
        whole = self._draw_service(count) if isinstance(self._service, Mixture) else None
        for part in parts(count):
            drawn = self._draw_service(part.stop - part.start) if whole is None or isinstance(whole, int) else whole[part]
            yield drawn + extra if extra else drawn

    # --- anything else -------------------------------------------------------------------------------------------------

    def _crowd(self, herd: int, stop: int, until: int) -> Iterator[tuple[int, Herd]]:
        """Herds that run into each other: all their requests, and the late ones of earlier pieces, by arrival.

        Requests that arrive from *until* on are late: the next piece sorts them in among its own.
        """
        self._open += [self._sent(index) for index in range(herd, stop)]
        sizes = [part.columns.shape[1] for part in self._open]
        extra = np.repeat([self.groups[part.group].seats.extra for part in self._open], sizes)
        columns = np.concatenate([part.columns for part in self._open], axis=1)
        _, arrived, begun, finished = columns
        waiting = np.flatnonzero(begun == NEVER)
        at, order = in_order(arrived[waiting])
        ready = int(np.searchsorted(at, until))
        served = waiting[order[:ready]]
        service = self._draw_service(ready) + extra[served]
        begins = self.queue.serve(at[:ready], service)
        begun[served], finished[served] = begins, begins + service + self._delay(ready)
        for part, mine in zip(self._open, np.split(columns, np.cumsum(sizes[:-1]), axis=1), strict=True):
            part.columns = mine
        for part in self._completed():
            yield part.group, self._complete(part)

    def _completed(self) -> list[_Open]:
        """Take out the herds that are complete, of each group in their order."""
        done, left, waits = [], [], set()
        for part in self._open:
            if part.group in waits or (part.columns[2] == NEVER).any():
                waits.add(part.group)
                left.append(part)
            else:
                done.append(part)
        self._open = left
        return done

    def _sent(self, index: int) -> _Open:
        number, base = int(self._group[index]), int(self._base[index])
        group, jitter = self.groups[number], self._jitter[number]
        columns = np.full((4, group.size), NEVER)
        started, arrived = columns[:2]
        started[:] = group.offsets + base
        if jitter:
            started += (self._rng["jitter"].random(group.size) * jitter).astype(np.int64)
            self.load.add(started)
        else:
            self.load.add_herds(np.array([base]), group.offsets)
        arrived[:] = started + self._delay(group.size)
        return _Open(number, base, columns)

    def _delay(self, count: int) -> Array | int:
        return _draw(self._network, self._rng["to_api"], count)

    def _complete(self, part: _Open) -> Herd:
        started, _, begun, finished = part.columns
        finished = self._answered(started, finished)
        if self._jitter[part.group] or self._random_network:
            return Herd.of_members(started, begun, finished)
        base = part.base
        return Herd(base, started - base, begun - base, np.where(finished < NEVER, finished - base, NEVER), None)

    def _draw_service(self, count: int) -> Array | int:
        return _draw(self._service, self._rng["service"], count)


def _draw(distribution: Distribution, rng: np.random.Generator, count: int) -> Array | int:
    """int64 ns; one number where it is constant."""
    if isinstance(distribution, Constant):
        return ns(distribution.value)
    if isinstance(distribution, Exponential) and compiled.ENABLED:
        return compiled.exponential(rng, distribution.scale, count)
    return columns(distribution, rng, count)
