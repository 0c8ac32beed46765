"""From the refetches of one group of pages to when each page shows each update.

A herd is one refetch of every page of a group. It shows an update to the pages whose refetch *began* (and read the database)
after the commit; pages whose refetch had begun before wait for the next herd. Since the queue begins requests in the order of
their arrival, that is a split of the herd at one rank, found by a binary search: most updates fall between two herds and are
answered by a whole one.

Herds must come in order and complete. An answer may be overtaken by the page's next one (random service), aborted by it
(in-flight rule `cancel`) or given up (time-out); so a herd is counted only when no later herd can change what its pages show.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np

from sim.virtual.fleet.groups import Group
from sim.virtual.fleet.spread import STEPS, Profile, Spread

Array = np.ndarray[Any, Any]

NEVER = 1 << 61
"""An instant that no run reaches; adding durations to it does not overflow."""


class Herd:
    """One refetch of each page of a group. All arrays are int64 ns counted from `base`, in the order in which requests began.

    `order[k]` is the member whose request began as the k-th; None where that is member k.
    """

    __slots__ = ("base", "begun", "finished", "order", "profile", "started")

    def __init__(self, base: int, started: Array, begun: Array, finished: Array, order: Array | None, rising: bool) -> None:
        self.base = base
        self.started = started
        self.begun = begun
        self.finished = finished
        self.order = order
        self.profile = Profile(finished, rising)
        """When each page shows the answer: when it is there, unless a later one was quicker."""

    def moved(self, base: int) -> Herd:
        """The same herd at another instant, sharing all arrays: what an idle queue makes of equal requests is equal."""
        other = Herd.__new__(Herd)
        other.base, other.started, other.begun = base, self.started, self.begun
        other.finished, other.order, other.profile = self.finished, self.order, self.profile
        return other

    @property
    def size(self) -> int:
        return self.begun.size

    @property
    def last_shown(self) -> int:
        return self.base + self.profile.largest

    def by_member(self, values: Array) -> Array:
        """One of the arrays in the order of members."""
        if self.order is None:
            return values
        sorted_back = np.empty_like(values)
        sorted_back[self.order] = values
        return sorted_back

    def show(self, at: Array) -> None:
        """Pages show the answer at these instants (ns since the run's start, in the order of members) instead."""
        at = at - self.base
        self.profile = Profile(at if self.order is None else at[self.order])


class Tally:
    """Counts, for one group, how long each update took to each page."""

    def __init__(
        self,
        group: Group,
        at: Array,
        committed: Array,
        counted: Array,
        end: int,
        spread: Spread,
        overtakes: bool = False,
        timeout: int | None = None,
    ) -> None:
        """*at*, *committed* (ns), *counted* (bool): of all updates of the run; what is shown after *end* (ns) is never seen.

        *overtakes*: a page's answers may come in another order than its refetches. *timeout* (ns): when pages give up.
        """
        self._group = group
        self.at: Array = at[group.updates]
        """Per update of the group: when it was intended, ns."""
        self._committed = committed[group.updates]
        self._counted = counted[group.updates]
        self._end = end
        self._overtakes = overtakes
        self._timeout = timeout
        self._spread = spread
        self._open: deque[Herd] = deque()
        self._aborted: deque[Array] = deque()
        self._next = 0
        self._partly: list[tuple[int, int | Array]] = []
        self.never = 0
        """Pairs (counted update, page) that were not shown before the end."""
        self.superseded = 0
        """Refetches that the page's next one aborted."""
        self.total: Array = np.zeros(group.updates.size)
        """Per update of the group: sum of the times to fresh, ns (float64), over the pages that showed it."""
        self.pages: Array = np.zeros(group.updates.size, np.int64)
        """Per update of the group: pages that showed it."""

    def add(self, herd: Herd) -> None:
        """The next herd of the group, complete."""
        if self._group.in_flight == "cancel":
            self._add_cancelling(herd)
        elif self._overtakes:
            self._add_overtaking(herd)
        else:
            self._answer(herd)

    def show(self, updates: Array, shifts: Array, offsets: Array) -> None:
        """Without a refetch: each of *updates* (numbers within the group) is on the screens *shifts* + *offsets* ns after it
        was intended."""
        total = self._spread.add_shifted(Profile(offsets, rising=True), shifts)
        self._note(updates, shifts, offsets.size, total)

    def finish(self) -> None:
        """No herd comes any more."""
        if self._group.in_flight == "cancel":
            self._settle()
        while self._open:
            self._answer(self._open.popleft())
        # Whatever was not shown to everybody by now never will be.
        self.never = int(self._group.size * self._counted.sum() - self.pages[self._counted].sum())

    # --- which answer a page shows -------------------------------------------------------------------------------------

    def _add_overtaking(self, herd: Herd) -> None:
        """Answers are applied as they come: a page shows an update with the first that contains it, whichever refetch that
        was."""
        first = herd.base + int(herd.profile.least)
        shown = None
        for earlier in self._open:
            if earlier.last_shown > first:
                if shown is None:
                    shown = herd.base + herd.by_member(herd.profile.values)
                before = earlier.base + earlier.by_member(earlier.profile.values)
                earlier.show(np.minimum(before, shown))
        self._open.append(herd)
        # No later refetch can even be sent before this one's herd was.
        bound = herd.base + int(self._group.offsets[0])
        while self._open and self._open[0].last_shown <= bound:
            self._answer(self._open.popleft())

    def _add_cancelling(self, herd: Herd) -> None:
        """A new refetch aborts the running one; what that would have shown, the new one will."""
        if self._open:
            before = self._open[-1]
            until = herd.base + herd.by_member(herd.started)
            aborted = before.base + before.by_member(before.finished) > until
            if aborted.any():
                running = aborted & (until <= self._end)
                if self._timeout is not None:
                    running &= before.base + before.by_member(before.started) + self._timeout > until
                self.superseded += int(running.sum())
                self._aborted.append(aborted)
            else:
                self._settle()
        self._open.append(herd)

    def _settle(self) -> None:
        """No open herd's answer is aborted any more, but by the next open one: pass on what each page will show, last to
        first."""
        herds = list(self._open)
        for herd, heir, aborted in reversed(list(zip(herds, herds[1:], self._aborted, strict=False))):
            own = herd.base + herd.by_member(herd.profile.values)
            herd.show(np.where(aborted, heir.base + heir.by_member(heir.profile.values), own))
        self._aborted.clear()
        while self._open:
            self._answer(self._open.popleft())

    # --- which updates an answer contains ------------------------------------------------------------------------------

    def _answer(self, herd: Herd) -> None:
        if self._partly:
            missed = [(update, self._rest(herd, update, left)) for update, left in self._partly]
            self._partly = [(update, left) for update, left in missed if left is not None]
        committed = self._committed
        full = int(np.searchsorted(committed, herd.base + int(herd.begun[0]), side="right"))
        some = int(np.searchsorted(committed, herd.base + int(herd.begun[-1]), side="right"))
        if full > self._next:
            self._count(herd, np.arange(self._next, full), 0, herd.size)
        first = max(full, self._next)
        if some > first:
            ranks = np.searchsorted(herd.begun, committed[first:some] - herd.base)
            for update, rank in zip(range(first, some), ranks.tolist(), strict=True):
                self._count(herd, np.array([update]), rank, herd.size)
                self._partly.append((update, self._missing(herd, rank)))
        self._next = max(some, self._next)

    def _rest(self, herd: Herd, update: int, left: int | Array) -> int | Array | None:
        """Pages that missed *update* so far may have it now; returns who has not, None: nobody.

        *left*: the first so many members, or (where each herd has an order of its own) a mask of them.
        """
        rank = int(np.searchsorted(herd.begun, self._committed[update] - herd.base))
        if isinstance(left, int):
            self._count(herd, np.array([update]), rank, left)
            return min(rank, left) or None
        assert herd.order is not None
        has = left[herd.order]
        still = None
        if rank:
            still = np.zeros_like(left)
            still[herd.order[:rank]] = has[:rank]
            has[:rank] = False
        self._record_some(herd, update, has)
        return still if still is not None and still.any() else None

    def _record_some(self, herd: Herd, update: int, has: Array) -> None:
        """The update is on the screens of these (bool, in the order of `herd.profile`) now."""
        one, pages = np.array([update]), int(np.count_nonzero(has))
        if not self._counted[update] or pages <= 2 * STEPS or herd.last_shown > self._end:
            values = herd.profile.values[has]
            self._record(herd, one, Profile(values), 0, values.size)
        else:
            shifts = herd.base - self.at[one]
            self._note(one, shifts, pages, self._spread.add_steps(herd.profile.where(has), shifts, pages))

    def _missing(self, herd: Herd, rank: int) -> int | Array:
        """Members whose refetch began before the *rank*-th."""
        if herd.order is None:
            return rank
        missing = np.zeros(herd.size, bool)
        missing[herd.order[:rank]] = True
        return missing

    def _count(self, herd: Herd, updates: Array, start: int, stop: int) -> None:
        self._record(herd, updates, herd.profile, start, stop)

    def _record(self, herd: Herd, updates: Array, profile: Profile, start: int, stop: int) -> None:
        """These updates are on the screens of profile[start:stop] now."""
        updates = updates[self._counted[updates]]
        if start >= stop or not updates.size:
            return
        limit = self._end - herd.base
        if profile.largest > limit:
            values = profile.values[start:stop]
            seen = values[values <= limit]
            if not seen.size:
                return
            profile, start, stop = Profile(seen), 0, seen.size
        shifts = herd.base - self.at[updates]
        total = self._spread.add_shifted(profile, shifts, start, stop)
        self._note(updates, shifts, stop - start, total)

    def _note(self, updates: Array, shifts: Array, pages: int, total: int) -> None:
        self.pages[updates] += pages
        self.total[updates] += pages * shifts + (total - pages * int(shifts.sum())) / max(updates.size, 1)
