"""The answers of a group's pages, in the order in which each page hears them.

A herd comes as its requests were sent. What a page hears of it may be nothing (it gave up, or its next refetch aborted this one),
and where requests take ways of their own, or jitter is longer than the time between two refetches, an answer may be heard after
that of a later refetch. Then the two exchange their answers at that page, so that herd by herd each page's answers come in order:

    page A's answers    first at 30, second at 40             as they were sent
    page B's answers    first at 35, second at 32             exchanged: B hears the second one first
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np

from sim.virtual.fleet.groups import Group
from sim.virtual.fleet.herds import ABORTED, FAILED, NEVER, Herd


class Answers:
    """Takes herds as they were sent and gives them as they are heard: once nothing can come before them any more."""

    def __init__(self, group: Group, end: int, overtakes: bool, timeout: int | None) -> None:
        """*end* of the run (ns), *overtakes*: may answers come in another order than refetches?, *timeout* (ns) of a page."""
        self._cancels = group.seats.in_flight == "cancel"
        self._first = int(group.offsets[0]) if group.size else 0
        self._end = end
        self._overtakes = overtakes
        self._timeout = timeout
        self._open: deque[Herd] = deque()
        """Herds of which an answer may still be exchanged or aborted."""

    def add(self, herd: Herd) -> Iterator[Herd]:
        """Herds that are final by the next one of the group, *herd* (complete)."""
        if self._timeout is not None and herd.heard.largest >= NEVER:
            herd = self._given_up(herd, self._timeout)
        if self._cancels:
            if self._open:
                yield self._aborted(self._open.popleft(), herd)
            self._open.append(herd)
        elif self._overtakes:
            self._open.append(herd)
            for later in range(len(self._open) - 1, 0, -1):
                if not self._exchange(later - 1, later):
                    break
            # No later refetch can even be sent before the first of this herd was.
            while self._open and self._open[0].last_heard <= herd.base + self._first:
                yield self._open.popleft()
        else:
            yield herd

    def finish(self) -> Iterator[Herd]:
        """No herd comes any more: the rest."""
        while self._open:
            yield self._open.popleft()

    def _given_up(self, herd: Herd, timeout: int) -> Herd:
        """Where the page gave up it hears nothing, at its time-out."""
        started, begun, finished = herd.columns()
        gave_up = finished >= NEVER
        return Herd.of_members(started, np.where(gave_up, FAILED, begun), np.where(gave_up, started + timeout, finished))

    def _aborted(self, herd: Herd, following: Herd) -> Herd:
        """A page's next refetch aborts the one that still runs."""
        started, begun, finished = herd.columns()
        until = following.columns()[0]
        aborted = (finished > until) & (until <= self._end)
        if not aborted.any():
            return herd
        return Herd.of_members(started, np.where(aborted, ABORTED, begun), np.where(aborted, until, finished))

    def _exchange(self, earlier: int, later: int) -> bool:
        """Exchange the answers of two open herds at each page that hears them the other way round; False: at none."""
        before, after = self._open[earlier], self._open[later]
        if before.last_heard <= after.first_heard:
            return False
        first, second = before.columns(), after.columns()
        turned = first[2] > second[2]
        if not turned.any():
            return False
        self._open[earlier] = Herd.of_members(*(np.where(turned, new, old) for old, new in zip(first, second, strict=True)))
        self._open[later] = Herd.of_members(*(np.where(turned, old, new) for old, new in zip(first, second, strict=True)))
        return True
