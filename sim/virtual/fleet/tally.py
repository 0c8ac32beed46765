"""From the refetches of one group of pages to what each page shows, and since when.

A herd is one refetch of every page of a group. For one page its answers are a list, and all figures follow from that list in the
order in which the page *hears* them:

    begun       10    30    20     the instant at which the answer's state was read from the database
    heard       12    33    35     the instant at which it is on the screen (sorted)
    best        10    30    30     the newest state that the page has shown so far: a running maximum
    shows       the updates committed in (before, best], for the first time, at `heard`
    outcome     not_newer where no update of the page was committed between the state shown before and this one, else applied;
                a regression where the state shown before is the newer one (here the third)

`Tally` does this for all pages of a group at once. A herd is *settled*, that is counted, when no later answer can overtake its
answers any more. Most herds are settled whole: two binary searches say which updates they bring to all pages. Only updates that
were committed while a herd was being read need a look at each page.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from sim.arrays import Array
from sim.policy import Polling
from sim.virtual.fleet.answers import Answers
from sim.virtual.fleet.groups import Group, by_value
from sim.virtual.fleet.herds import ABORTED, FAILED, NEVER, Herd, Reading, Span
from sim.virtual.fleet.spread import Kinds, Profile, Spread


@dataclass(slots=True)
class Outcomes:
    """What became of the refetches that count, over all pages of a group. They add up to `refetches`."""

    applied: int = 0
    not_newer: int = 0
    superseded: int = 0
    failed: int = 0
    running: int = 0

    @property
    def refetches(self) -> int:
        return self.applied + self.not_newer + self.superseded + self.failed + self.running

    @property
    def answered(self) -> int:
        return self.applied + self.not_newer

    def __add__(self, other: Outcomes) -> Outcomes:
        return Outcomes(*(getattr(self, name) + getattr(other, name) for name in self.__slots__))


class Tally:
    """What the pages of one group show, and what became of their refetches."""

    def __init__(
        self,
        group: Group,
        at: Array,
        committed: Array,
        resource: Array,
        batch: Array,
        window: Span,
        spread: Spread,
        overtakes: bool = False,
        timeout: int | None = None,
    ) -> None:
        """*at*, *committed* (ns), *resource* (a number), *batch* (-1: it does not count): of all updates of the run.

        *overtakes*: a page's answers may come in another order than its refetches. *timeout* (ns): when pages give up.
        """
        self._group = group
        self._at = at[group.updates]
        self._committed = committed[group.updates]
        self._instants: list[int] = self._committed.tolist()
        self._resource = resource[group.updates]
        self._batch = batch[group.updates]
        counted = np.flatnonzero(self._batch >= 0)
        self._counted = (int(counted[0]), int(counted[-1]) + 1) if counted.size else (0, 0)
        """Updates from the first to before the last: those committed in the window follow each other."""
        self._window = window
        self._last_sent = window.stop - 1 if isinstance(group.policy, Polling) else window.end
        self._overtakes = overtakes
        self._answers = Answers(group, window.end, overtakes, timeout)
        self._spread = spread
        self._shown = self._best = Reading(-1, np.zeros(group.size, np.int64), None)
        """What each page shows, and the newest that it has shown; both are what it was loaded with at the run's start."""
        self._last_reached: tuple[Any, list[Array]] | None = None
        self.outcomes = Outcomes()
        self.regressions = 0
        """Answers of the whole run that replaced a newer state."""
        self.timeouts = 0
        """Refetches of the whole run that were given up."""
        self.total: Array = np.zeros(group.updates.size)
        """Per update of the group: sum of the times to fresh, ns (float64), over the pages that showed it."""
        self.pages: Array = np.zeros(group.updates.size, np.int64)
        """Per update of the group: pages that showed it."""

    def add(self, herd: Herd) -> None:
        """The next herd of the group, complete."""
        for final in self._answers.add(herd):
            self._settle(final)

    def finish(self) -> None:
        """No herd comes any more."""
        for final in self._answers.finish():
            self._settle(final)

    def show_payloads(self, events: Array, heard: Array) -> None:
        """Without a refetch: pages show what *events* (rows of the database) carry when they hear them (*heard* + offsets).

        Each payload is the whole state of its resource, so an event that was overtaken on its way is shown by the quicker one.
        """
        group, end = self._group, self._window.end
        at = np.full(group.updates.size, NEVER)
        _, place, event = np.intersect1d(group.updates, events, assume_unique=True, return_indices=True)
        at[place] = heard[event]
        profiles: dict[int | None, Profile] = {}
        for rows in by_value(self._resource).values():
            came = at[rows]
            first = np.minimum.accumulate(came[::-1])[::-1]
            order = np.argsort(came, kind="stable")
            for version, (update, since) in enumerate(zip(rows.tolist(), first.tolist(), strict=True)):
                if self._batch[update] < 0:
                    continue
                viewer = None if group.shown_by is None else int(group.viewers[update])
                if viewer not in profiles:
                    members = None if viewer is None or group.shown_by is None else group.shown_by[viewer]
                    profiles[viewer] = Profile(_of(group.offsets, members), rising=True)
                shown, offsets = profiles[viewer], profiles[viewer].values
                if self._committed[update] <= since + offsets[0]:
                    since = int(since)
                else:
                    instants = _first_shown(came[order], order, version, int(self._committed[update]), offsets)
                    shown, since = Profile(instants), 0
                if since + shown.least <= end:
                    inside = None if since + shown.largest <= end else since + shown.values <= end
                    self._note(np.array([update]), since, shown, inside)

    @property
    def owed(self) -> Array:
        """Per update of the group: pages that are to show it."""
        group = self._group
        if group.shown_by is None:
            return np.full(group.updates.size, group.size)
        sizes = {user: members.size for user, members in group.shown_by.items()}
        return np.array([sizes[user] for user in group.viewers.tolist()], np.int64)

    # --- what an answer brings -----------------------------------------------------------------------------------------

    def _settle(self, herd: Herd) -> None:
        """Each page hears this answer now, or nothing."""
        shown, best = self._shown, self._best
        counting = self._counting(herd)
        if herd.base + int(herd.begun[0]) >= 0 and herd.last_heard <= self._window.end:
            now, judged = herd.reading, counting
        else:
            _, begun, finished = herd.columns()
            heard = (begun >= 0) & (finished <= self._window.end)
            self._count_unheard(begun, finished, counting)
            if not heard.any():
                return
            now, judged = Reading.of_members(np.where(heard, begun, shown.members)), heard & counting
        if isinstance(judged, bool) and shown is best and self._together(herd, shown, now, judged):
            self._shown = self._best = now
            return
        self._judge(shown, now, judged)
        self._shown = self._best = now
        if self._overtakes and now.least < best.largest and (now.members < best.members).any():
            self._best = Reading.of_members(np.maximum(now.members, best.members))
        self._show(herd, best, self._best)

    def _together(self, herd: Herd, before: Reading, now: Reading, judged: bool) -> bool:
        """The usual herd in short: no update was committed while its pages read this time or the time before, so what it brings
        comes to all of them. False: it is not so, and nothing is counted."""
        instants, first = self._instants, now.least
        if self._group.shown_by is not None or first < before.largest:
            return False
        low, high = bisect_right(instants, before.largest), bisect_right(instants, first)
        if bisect_right(instants, before.least, 0, low) != low or bisect_right(instants, now.largest, high) != high:
            return False
        if judged:
            self.outcomes.applied += self._group.size * (high > low)
            self.outcomes.not_newer += self._group.size * (high == low)
        first_counted, last_counted = self._counted
        self._note(slice(max(low, first_counted), min(high, last_counted)), herd.base, herd.heard)
        return True

    def _counting(self, herd: Herd) -> Array | bool:
        """Is the refetch counted? By when it was sent: of all pages, or of each."""
        first, last = herd.base + herd.sent.least, herd.base + herd.sent.largest
        if self._window.start <= first and last <= self._last_sent:
            return True
        if last < self._window.start or first > self._last_sent:
            return False
        started = herd.columns()[0]
        return (started >= self._window.start) & (started <= self._last_sent)

    def _count_unheard(self, begun: Array, finished: Array, counting: Array | bool) -> None:
        """Columns in the order of members."""
        over = finished > self._window.end
        self.outcomes.running += int(np.count_nonzero(over & counting))
        failed = (begun == FAILED) & ~over
        self.timeouts += int(np.count_nonzero(failed))
        self.outcomes.failed += int(np.count_nonzero(failed & counting))
        self.outcomes.superseded += int(np.count_nonzero((begun == ABORTED) & ~over & counting))

    def _judge(self, shown: Reading, now: Reading, judged: Array | bool) -> None:
        """Count which answers bring a page another state than it shows. *judged*: at which pages (or at all, or at none)."""
        back = self._overtakes and now.least < shown.largest
        if judged is False and not back:
            return
        low, high = self._between(min(shown.least, now.least), max(shown.largest, now.largest))
        changed = 0
        for members, updates in self._views(low, high):
            committed = self._committed[updates]
            chosen = now.order if members is None else members
            mine = judged if isinstance(judged, bool) else _of(judged, chosen)
            if ((committed > shown.largest) & (committed <= now.least)).any():
                changed += _count(mine, self._group.size if members is None else members.size)
                continue
            had, has = self._reached(shown, now, committed, members, now.order)
            changed += int(np.count_nonzero((had != has) & mine))
            self.regressions += int(np.count_nonzero(had > has))
        self.outcomes.applied += changed
        self.outcomes.not_newer += _count(judged, self._group.size) - changed

    def _show(self, herd: Herd, before: Reading, now: Reading) -> None:
        """Count the updates that pages show for the first time: committed after what they showed *before*, and not after
        *now*. An update comes to all pages where all read before it then and after it now."""
        low, high = self._between(before.least, now.largest)
        for members, updates in self._views(max(low, self._counted[0]), min(high, self._counted[1])):
            committed = self._committed[updates]
            whole = (committed > before.largest) & (committed <= now.least) & (members is None)
            if not whole.all():
                self._show_to_some(herd, before, now, members, updates[~whole])
            self._note(updates[whole], herd.base, herd.heard)

    def _show_to_some(self, herd: Herd, before: Reading, now: Reading, members: Array | None, updates: Array) -> None:
        """The same of *updates* that come to some of the pages, by two levels of each page: how many of them it *had* seen before
        this answer, and how many it *has* seen now.

            page    had    has    of updates 0, 1, 2 this answer brings
            A        0      2     0 and 1
            B        1      1     none
            C        1      3     1 and 2
        """
        committed = self._committed[updates]
        which: Iterable[slice | Kinds | Array]
        if members is None and before.order is None and now.order is None and herd.order is None:
            # All columns are in the order of members, who read one after the other: an update comes to a range of them.
            starts = np.searchsorted(now.begun, committed - now.base).tolist()
            stops = np.searchsorted(before.begun, committed - before.base).tolist()
            profile, which = herd.heard, map(slice, starts, stops)
        else:
            had, has = self._reached(before, now, committed, members, herd.order)
            profile, which = herd.heard if members is None else herd.heard_by(members), _brought(had, has, updates.size)
        for update, pages in zip(updates.tolist(), which, strict=True):
            self._note(slice(update, update + 1), herd.base, profile, pages)

    def _reached(
        self, before: Reading, now: Reading, committed: Array, members: Array | None, order: Array | None
    ) -> list[Array]:
        """Of two states of the pages, how many of the sorted instants each contains: of all pages in the *order* of members, or
        of some *members*. It is asked for twice for each herd."""
        if members is not None:
            return [state.reached_by(committed, members) for state in (before, now)]
        key = (before, now, committed.tobytes(), id(order))
        if self._last_reached is None or self._last_reached[0] != key:
            self._last_reached = key, [state.reached(committed, order) for state in (before, now)]
        return self._last_reached[1]

    def _between(self, after: int, until: int) -> tuple[int, int]:
        """The updates of the group committed in (after, until], as a range of their numbers."""
        low, high = np.searchsorted(self._committed, [after, until], side="right").tolist()
        return low, max(low, high)

    def _views(self, low: int, high: int) -> Iterator[tuple[Array | None, Array]]:
        """(members, updates in [low, high) that just these show), in numbers of the group; members None: all."""
        if low == high:
            return
        updates = np.arange(low, high)
        if self._group.shown_by is None:
            yield None, updates
            return
        viewers = self._group.viewers[low:high]
        for number in np.unique(viewers).tolist():
            yield self._group.shown_by[number], updates[viewers == number]

    def _note(self, updates: slice | Array, base: int, profile: Profile, pages: slice | Kinds | Array | None = None) -> None:
        """These updates are on the screens (all of the profile, a range, of kinds or of a mask) at *base* and its durations."""
        shifts = base - self._at[updates]
        if shifts.size:
            total, count = self._spread.add_shifted(profile, shifts, self._batch[updates], pages)
            self.pages[updates] += count
            self.total[updates] += total + count * shifts.astype(float)


def _brought(had: Array, has: Array, updates: int) -> Iterator[Kinds | Array]:
    """Per update: the pages whose level passes it, from *had* to *has*. Pages of the same two levels are one kind, which is
    counted once for all updates; where there are too many kinds for a byte the pages are a mask."""
    levels = updates + 1
    of_kind = np.arange(levels * levels)
    if of_kind.size > 256:
        yield from ((had <= update) & (has > update) for update in range(updates))
        return
    kinds = (had * levels + has).astype(np.uint8, copy=False)
    for update in range(updates):
        yield Kinds(kinds, (of_kind // levels <= update) & (of_kind % levels > update))


def _count(chosen: Array | bool, size: int) -> int:
    """How many of *size* are chosen."""
    return size * chosen if isinstance(chosen, bool) else int(np.count_nonzero(chosen))


def _of(values: Array, members: Array | None) -> Array:
    return values if members is None else values[members]


def _first_shown(heard: Array, versions: Array, version: int, committed: int, offsets: Array) -> Array:
    """When pages that hear payloads at *heard* + offsets show one with at least this *version*, from its commit on; `NEVER`.

    Of an event on save the payload may be heard, and be replaced by an older one that is late, before its commit.
    """
    last = np.searchsorted(heard, committed - offsets, side="right") - 1
    holds = (last >= 0) & (versions[last] >= version)
    newer = np.append(np.flatnonzero(versions >= version), heard.size)
    following = newer[np.searchsorted(newer, last + 1)]
    return np.where(holds, committed, np.minimum(np.append(heard, NEVER)[following] + offsets, NEVER))
