"""All refetches of a run through the queue of the application, as herds, in the order of their arrival.

`schedule` says when each herd is sent, and by which of four ways it goes through the queue: alone, file, solo, crowd.
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
from sim.virtual.fleet.herds import NEVER, Herd, Span, in_order
from sim.virtual.fleet.queueing import Fifo
from sim.virtual.fleet.schedule import Schedule
from sim.virtual.fleet.spread import Profile
from sim.virtual.preparation import Progress
from sim.workload import Streams

LOAD_STEP = 100_000_000
"""ns: refetches are counted per 100 ms."""

FEW = 16
"""Requests up to which those of a herd are better counted one by one."""

MOVES = 4096
"""Herds of a group that were only moved are counted in the load by this number."""


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
        self.load = Load(window)
        self._schedule = Schedule(scenario, groups, window.end)
        self._service = scenario.api.service
        self._network = scenario.network.to_api
        self._timeout = None if scenario.api.timeout is None else ns(scenario.api.timeout)
        self._rng = rng
        self._helper: ThreadPoolExecutor
        self._prepared: Future[Array] | None = None
        """Starts of the next herd, where it goes solo."""
        self._templates: dict[int, tuple[Herd, Fifo]] = {}
        """Per group: the herd that found the queue idle first, and what the queue did for it."""
        self._moves: list[list[int]] = [[] for _ in groups]
        """Per group: bases of herds that were only moved and are not counted in the load yet."""
        self._open: list[_Open] = []
        """Herds of which some requests arrive after the piece that they were sent in, in the order of sending."""
        compiled.prepare(self._schedule.requests)

    def herds(self, progress: Progress | None) -> Iterator[tuple[int, Herd]]:
        """(group, herd), complete; those of one group in order."""
        with ThreadPoolExecutor(1) as self._helper:
            yield from self._herds(progress)

    def _herds(self, progress: Progress | None) -> Iterator[tuple[int, Herd]]:
        schedule, count, herd = self._schedule, len(self._schedule), 0
        while herd < count:
            stop = herd + 1
            if not self._open and schedule.is_alone(herd, int(self.queue.free[-1])):
                yield self._moved(herd)
            elif not self._open and schedule.is_solo(herd):
                yield self._solo(herd)
            else:
                stop = schedule.piece_end(herd)
                if not self._open and schedule.is_file(herd, stop):
                    yield from self._file(herd, stop)
                else:
                    yield from self._crowd(herd, stop)
            herd = stop
            if progress is not None:
                progress(herd / count)
        for number in range(len(self.groups)):
            self._count_moves(number)

    # --- alone: the queue is idle, and requests are equal --------------------------------------------------------------

    def _moved(self, herd: int) -> tuple[int, Herd]:
        number, base = self._schedule.of(herd)
        group = self.groups[number]
        if number not in self._templates:
            queue = Fifo(self.queue.workers)
            arrivals = group.offsets + self._schedule.to_api
            service = ns(self._service.mean()) + group.seats.extra
            begun = queue.serve(arrivals, service)
            finished = self._answered(group.offsets, begun + (service + self._schedule.to_api))
            template = Herd(0, group.offsets, begun, finished, None, rising=self._timeout is None)
            self._templates[number] = template, queue
        template, queue = self._templates[number]
        arrivals = group.offsets + self._schedule.to_api
        if not self.queue.repeat(queue, base, int(arrivals[0])):
            self.queue.serve(base + arrivals, ns(self._service.mean()) + group.seats.extra)
        self._moves[number].append(base)
        if len(self._moves[number]) == MOVES:
            self._count_moves(number)
        return number, template.moved(base)

    def _count_moves(self, number: int) -> None:
        bases, self._moves[number] = self._moves[number], []
        if bases:
            self.load.add_herds(np.array(bases), self.groups[number].offsets)

    def _answered(self, started: Array, finished: Array) -> Array:
        """Instants of the answers; `NEVER` where the page has given up. An answer at the instant of the time-out is too late."""
        return finished if self._timeout is None else np.where(finished - started >= self._timeout, NEVER, finished)

    # --- file: herds of one group, one behind the other ----------------------------------------------------------------

    def _file(self, herd: int, stop: int) -> Iterator[tuple[int, Herd]]:
        number, _ = self._schedule.of(herd)
        group, bases = self.groups[number], self._schedule.base[herd:stop]
        arrivals = bases[:, None] + (group.offsets + self._schedule.to_api)
        service = self._draw_service(arrivals.size)
        even = isinstance(service, int)
        if not isinstance(service, int):
            service = service.reshape(arrivals.shape)
        service += group.seats.extra
        begun = self.queue.serve_herds(arrivals, service)
        finished = begun + service
        finished += self._schedule.to_api
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

    # --- solo: one herd with jitter -------------------------------------------------------------------------------------

    def _solo(self, herd: int) -> tuple[int, Herd]:
        """While this herd is in the queue another thread draws and sorts the starts of the next one: the same numbers."""
        ready = self._prepared if self._prepared is not None else self._helper.submit(self._prepare, herd)
        sent = ready.result()
        self._prepared = self._helper.submit(self._prepare, herd + 1) if self._schedule.is_solo(herd + 1) else None
        number, base = self._schedule.of(herd)
        services = self._services(sent.size, self.groups[number].seats.extra)
        order, begun, heard = self.queue.serve_packed(sent, sent.size.bit_length(), services, self._schedule.to_api, base)
        self.load.add_herds(np.array([base]), sent)
        if self._timeout is not None:
            heard = Profile(self._answered(sent, heard.values))
        return number, Herd(base, sent, begun, heard, order)

    def _prepare(self, herd: int) -> Array:
        """Starts and members of a herd as one integer each, sorted: see `in_order`."""
        number, _ = self._schedule.of(herd)
        group, rng, jitter = self.groups[number], self._rng["jitter"], self._schedule.jitter[number]
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

    # --- crowd: anything else -------------------------------------------------------------------------------------------

    def _crowd(self, herd: int, stop: int) -> Iterator[tuple[int, Herd]]:
        """Herds that run into each other: all their requests, and the late ones of earlier pieces, by arrival.

        Requests that arrive when the next piece's first may are late: that piece sorts them in among its own.
        """
        self._open += [self._sent(index) for index in range(herd, stop)]
        sizes = [part.columns.shape[1] for part in self._open]
        extra = np.repeat([self.groups[part.group].seats.extra for part in self._open], sizes)
        columns = np.concatenate([part.columns for part in self._open], axis=1)
        _, arrived, begun, finished = columns
        waiting = np.flatnonzero(begun == NEVER)
        at, order = in_order(arrived[waiting])
        ready = int(np.searchsorted(at, self._schedule.until(stop)))
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
        number, base = self._schedule.of(index)
        group, jitter = self.groups[number], self._schedule.jitter[number]
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
        if self._schedule.changes_order(part.group):
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
