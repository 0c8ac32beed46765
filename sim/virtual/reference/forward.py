"""All requests of a run at once, as columns, where nothing comes back to what pages hear and when they refetch.

Then only what happens up to the pages needs time to pass: updates, publishing, fan-out. What follows is made from all arrivals:

    arrivals -> fires (`sim.virtual.fires`) -> jitter -> requests, in the order in which they are sent -> `outcomes`

Same rows, bit for bit, as by an event each, of which there are a few for each notification. What decides is the same code: the
policies' machines, the application, the database.

Two pages that send at one instant are served in the order in which an event list would run them, as far as `fires.Cause` tells
it. Where it does not, `Undecided` is raised, and the run has to be made event by event.
"""

from __future__ import annotations

from itertools import groupby, pairwise

import numpy as np

from sim.arrays import Array
from sim.clock import ns
from sim.incidents import Outage, Slowdown
from sim.policy import Polling, PollingMachine
from sim.scenario import Scenario
from sim.virtual.fires import BY_CALL, Cause, drive, fires_of
from sim.virtual.ledger import NOT_YET
from sim.virtual.reference.outcomes import Undecided, is_one_way
from sim.virtual.reference.page import World

Causes = tuple[dict[int, Cause | None], Array]
"""Of the fires of a page by instant, and the places of its notifications among all."""


def feeds_forward(scenario: Scenario) -> bool:
    """Whether pages only hear: they are open and connected all the time, and an answer changes no later request."""
    return (
        is_one_way(scenario)
        and all(isinstance(incident, Outage | Slowdown) for incident in scenario.incidents)
        and all(pages.session is None and not pages.hidden and pages.behaviour == "good" for pages in scenario.pages)
    )


class Forward:
    """The refetches of the pages of *world*, all of which were open before the run began."""

    def __init__(self, world: World, end: int) -> None:
        self._world = world
        self._end = end
        self._pages = list(world.open_pages.values())
        self._policies = [page.group.policy for page in self._pages]
        self._phases = [
            int(world.jitter.random() * ns(policy.interval)) if isinstance(policy, Polling) else NOT_YET
            for policy in self._policies
        ]
        """When each page that polls does so first."""

    def refetch(self) -> None:
        """Send all requests, once all arrivals are known."""
        assert self._world.sent is not None
        page, due, answered = self._in_order(*self._fires())
        self._world.sent.rows += np.stack([page, due, due, answered], axis=1).data

    # --- what pages hear, and when they want to refetch -----------------------------------------------------------------

    def _heard(self) -> tuple[Array, Array, Array]:
        """(page, place among all by time, instant) of each notification, by page, and of a page by time."""
        subscriber, at = self._world.ledger.arrivals()[1:]
        at = at[: np.searchsorted(at, self._end, side="right")]
        bits = at.size.bit_length()
        keys = subscriber[: at.size].astype(np.int64) << bits
        keys |= np.arange(at.size)
        keys.sort()  # four times as fast as an indirect sort
        page = keys >> bits
        keys &= (1 << bits) - 1
        return page, keys, at[keys]

    def _fires(self) -> tuple[Array, Array, Array]:
        """(page, instant, notifications answered), in the order in which they happen."""
        subscriber, place, heard = self._heard()
        parts = [np.empty((3, 0), np.int64)]
        for _, found in groupby(self._pages, key=lambda page: page.group):
            pages = list(found)
            policy = pages[0].group.policy
            if isinstance(policy, Polling):
                for page in pages:
                    at = np.arange(self._phases[page.subscriber], self._end + 1, ns(policy.interval), dtype=np.int64)
                    parts.append(np.stack([np.full_like(at, page.subscriber), at, np.zeros_like(at)]))
            else:
                low, high = np.searchsorted(subscriber, [pages[0].subscriber, pages[-1].subscriber + 1])
                first = np.flatnonzero(np.diff(subscriber[low:high], prepend=-1))
                at, answered, one = fires_of(policy, heard[low:high], first)
                parts.append(np.stack([subscriber[low + one], at, answered]))
        page, at, answered = np.concatenate(parts, axis=1)
        order = np.argsort(at, kind="stable")
        order = order[: np.searchsorted(at[order], self._end, side="right")]
        page, at, answered = page[order], at[order], answered[order]
        tied = np.flatnonzero(at[1:] == at[:-1])
        if tied.size:
            order = _by_cause(page, at, tied, self._causes(np.unique(page[np.union1d(tied, tied + 1)]), subscriber, place, heard))
            page, answered = page[order], answered[order]
        return page, at, answered

    def _causes(self, pages: Array, subscriber: Array, place: Array, heard: Array) -> dict[int, Causes]:
        """Page -> why it fires, for some pages. Those that hear the same at the same instants are driven once."""
        known: dict[tuple[int, int, bytes], dict[int, Cause | None]] = {}
        found = {}
        low, high = np.searchsorted(subscriber, [pages, pages + 1])
        for number, start, stop in zip(pages.tolist(), low.tolist(), high.tolist(), strict=True):
            policy, phase = self._policies[number], self._phases[number]
            key = id(policy), phase, heard[start:stop].tobytes()
            if key not in known:
                machine = policy.machine()
                if isinstance(machine, PollingMachine):
                    machine.open(phase)
                known[key] = {fire.at: fire.cause for fire in drive(machine, heard[start:stop].tolist(), self._end)}
            found[number] = known[key], np.array([number]) if phase != NOT_YET else place[start:stop]
        return found

    def _in_order(self, page: Array, at: Array, answered: Array) -> tuple[Array, Array, Array]:
        """(page, instant, answered) of what is sent, in this order: after its jitter."""
        jitter = np.array([ns(policy.jitter) for policy in self._policies], np.int64)[page]
        if not jitter.any():
            return page, at, answered
        random = self._world.jitter.random
        due = at + np.array([int(random() * most) if most else 0 for most in jitter.tolist()], np.int64)
        order = np.argsort(due, kind="stable")
        order = order[: np.searchsorted(due[order], self._end, side="right")]
        due, jittered = due[order], jitter[order] > 0
        if ((due[1:] == due[:-1]) & (jittered[1:] != jittered[:-1])).any():
            raise Undecided
        return page[order], due, answered[order]


def _by_cause(page: Array, at: Array, tied: Array, causes: dict[int, Causes]) -> Array:
    """The order of fires whose instants *at* are sorted, where *tied* are of the same instant as the next."""
    order = np.arange(at.size)
    for group in np.split(tied, np.flatnonzero(np.diff(tied) > 1) + 1):
        rows, instant = np.append(group, group[-1] + 1), int(at[group[0]])
        ranked = []
        for number, row in zip(page[rows].tolist(), rows.tolist(), strict=True):
            fires, place = causes[number]
            cause = fires[instant]
            if cause is None:
                raise Undecided
            ranked.append((cause.armed_at, int(place[cause.call]), cause.history, number, row))
        ranked.sort()
        for one, other in pairwise(ranked):
            by_call = one[0] == BY_CALL
            if one[3] == other[3] or by_call != (other[0] == BY_CALL) or (one[0] == other[0] and one[2] != other[2]):
                raise Undecided
        order[rows] = [row for *_, row in ranked]
    return order
