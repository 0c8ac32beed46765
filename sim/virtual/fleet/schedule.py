"""When each herd is sent, and how the herds go through the queue of the application.

Herds go through in pieces of bounded size. A piece goes one of four ways. The way depends on what the piece is made of; what
comes out does not depend on the way:

    alone    one herd of equal requests that finds the queue idle      it is answered as the last such herd of its group was
    file     herds of one group, each wholly behind the one before     nothing to sort: a matrix, herd by request
    solo     one large herd with jitter, apart from its neighbours     sorted while the queue serves the herd before
    crowd    anything else                                             sorted together; what arrives after the piece waits
"""

from __future__ import annotations

import numpy as np

from sim.arrays import Array
from sim.clock import ns
from sim.distributions import Constant
from sim.scenario import Scenario
from sim.virtual.fleet.groups import Group
from sim.virtual.fleet.herds import NEVER, fits

PIECE = 1 << 21
"""Refetches that go through the queue at once, unless one herd is larger: 16 MiB for each column."""

SMALL = 4096
"""Requests up to which herds go through the queue together, at the price of sorting them."""


class Schedule:
    """All herds of a run, in the order in which their first requests arrive. Columns: one row per herd, int64."""

    def __init__(self, scenario: Scenario, groups: list[Group], end: int) -> None:
        """*end* of the run, ns: herds that begin later are not sent."""
        network = scenario.network.to_api
        self._groups = groups
        self._equal_requests = isinstance(scenario.api.service, Constant) and isinstance(network, Constant)
        self._random_network = not isinstance(network, Constant)
        self.to_api = ns(network.value) if isinstance(network, Constant) else 0
        """Nanoseconds on the way to the application; 0 where they are random."""
        self.jitter = [ns(group.policy.jitter) for group in groups]
        """Per group: the largest jitter, ns."""
        none = np.empty(0, np.int64)
        bases = [group.fires[group.fires + group.offsets[0] <= end] if group.size else none for group in groups]
        first = np.concatenate([none, *(base + group.offsets[0] for base, group in zip(bases, groups, strict=True) if base.size)])
        order = np.argsort(first, kind="stable")
        self.first: Array = first[order] + self.to_api
        """No request of the herd arrives earlier, ns."""
        self.group: Array = np.repeat(np.arange(len(bases)), [base.size for base in bases])[order]
        """Number of its group."""
        self.base: Array = np.concatenate([none, *bases])[order]
        """The instant from which the group's offsets count, ns."""
        self._ends: Array = np.cumsum(np.array([group.size for group in groups], np.int64)[self.group])
        """Requests of this herd and of all before it."""
        spans = [int(group.offsets[-1]) if group.size else 0 for group in groups]
        longest = np.array(spans, np.int64) + np.array(self.jitter, np.int64)
        last = np.maximum.accumulate(self.base + longest[self.group] + self.to_api) if first.size else none
        self._gap: Array = np.append(last[:-1] <= self.first[1:], True)
        """Have this herd and all before it arrived when the next one begins to? (Where the network is not random.)"""

    def __len__(self) -> int:
        return self.first.size

    @property
    def requests(self) -> int:
        return int(self._ends[-1]) if len(self) else 0

    def of(self, herd: int) -> tuple[int, int]:
        """(number of its group, base)."""
        return int(self.group[herd]), int(self.base[herd])

    def piece_end(self, herd: int) -> int:
        """The herd behind a piece that begins with *herd*. The piece ends, if it can, at a herd that begins to arrive when all of
        the piece have arrived.

        Large herds make a piece each where they can: then there is less to sort.
        """
        before = int(self._ends[herd - 1]) if herd else 0
        stop = max(int(np.searchsorted(self._ends, before + PIECE, side="right")), herd + 1)
        if self._random_network or stop == len(self) == herd + 1:
            return stop
        gaps = herd + 1 + np.flatnonzero(self._gap[herd:stop])
        if not gaps.size:
            return stop
        return int(gaps[0] if self._ends[herd] - before > SMALL else gaps[-1])

    def until(self, stop: int) -> int:
        """When the herd *stop* begins to arrive, ns; `NEVER`: there is none."""
        return int(self.first[stop]) if stop < len(self) else NEVER

    def is_alone(self, herd: int, idle_at: int) -> bool:
        """Equal requests; the queue is idle from *idle_at* on, before they come; and they are over before the next herd comes."""
        number, base = self.of(herd)
        if not self._equal_requests or self.jitter[number] or idle_at > self.first[herd]:
            return False
        return base + int(self._groups[number].offsets[-1]) + self.to_api <= self.until(herd + 1)

    def is_file(self, herd: int, stop: int) -> bool:
        """These herds are of one group, and each is wholly later than the one before."""
        number = int(self.group[herd])
        if self.changes_order(number) or (self.group[herd:stop] != number).any():
            return False
        offsets, first = self._groups[number].offsets, self.first[herd:stop]
        span = int(offsets[-1] - offsets[0])
        return bool((np.diff(first) >= span).all()) and int(first[-1]) + span <= self.until(stop)

    def is_solo(self, herd: int) -> bool:
        """A large herd that must be sorted, whose requests arrive between those of the herds before and behind it."""
        if herd >= len(self):
            return False
        number = int(self.group[herd])
        group, jitter = self._groups[number], self.jitter[number]
        if not jitter or group.size <= SMALL or self._random_network or not fits(int(group.offsets[-1]) + jitter, group.size):
            return False
        return bool(self._gap[herd]) and (herd == 0 or bool(self._gap[herd - 1]))

    def changes_order(self, number: int) -> bool:
        """Requests of this group may arrive in another order than that of its members."""
        return bool(self.jitter[number]) or self._random_network
