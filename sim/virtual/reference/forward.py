"""All refetches of a run at once, as columns, where nothing that a page does comes back to what pages hear and when they refetch.

Then only what happens up to the pages needs time to pass: updates, publishing, fan-out. What follows is made from all arrivals:

    arrivals -> fires (`sim.virtual.fires`) -> jitter -> requests, in the order in which they are sent -> `Api.answer`, one by one
             -> what each page hears, in order -> outcomes

Same rows, bit for bit, as by an event each, of which there are a few for each notification. What decides is the same code: the
policies' machines, the application, the database. Only the in-flight rule is written twice (`sim.refetch`); the test is that both
ways give equal tables.

Two pages that send at one instant are served in the order in which an event list would run them, as far as `fires.Cause` tells
it. Where it does not, `Undecided` is raised, and the run has to be made event by event.
"""

from __future__ import annotations

from itertools import groupby, pairwise
from typing import Any

import numpy as np

from sim.clock import ns
from sim.distributions import Constant
from sim.incidents import Outage, Slowdown
from sim.policy import Polling, PollingMachine
from sim.scenario import Scenario
from sim.virtual.database import feeds_back
from sim.virtual.fires import BY_CALL, Cause, drive, fires_of
from sim.virtual.ledger import NOT_YET, OUTCOME
from sim.virtual.reference.page import World

Array = np.ndarray[Any, Any]

NEVER = 1 << 62

Causes = tuple[dict[int, Cause | None], Array]
"""Of the fires of a page by instant, and the places of its notifications among all."""


class Undecided(Exception):
    """What happens first at some instant cannot be told from the columns."""


def feeds_forward(scenario: Scenario) -> bool:
    """Whether pages only hear: they are open and connected all the time, and an answer changes no later request."""
    if feeds_back(scenario) or scenario.api.retries or not isinstance(scenario.network.to_api, Constant):
        return False
    if not all(isinstance(incident, Outage | Slowdown) for incident in scenario.incidents):
        return False
    for pages in scenario.pages:
        policy = scenario.policy_of(pages)
        if pages.session is not None or pages.hidden or pages.behaviour != "good":
            return False
        if scenario.in_flight_of(pages) == "single_flight" or (isinstance(policy, Polling) and policy.mode == "rest"):
            return False
    return True


class Forward:
    """The refetches of the pages of *world*, all of which were open before the run began."""

    def __init__(self, world: World, scenario: Scenario, end: int) -> None:
        self._world = world
        self._end = end
        self._way = ns(scenario.network.to_api.mean())
        self._timeout = NEVER if scenario.api.timeout is None else ns(scenario.api.timeout)
        self._pages = list(world.open_pages.values())
        self._policies = [page.group.policy for page in self._pages]
        self._phases = [
            int(world.jitter.random() * ns(policy.interval)) if isinstance(policy, Polling) else NOT_YET
            for policy in self._policies
        ]
        """When each page that polls does so first."""

    def refetch(self) -> None:
        """Make the ledger's rows, once all arrivals are known."""
        page, due, answered = self._sent(*self._fires())
        world, end = self._world, self._end
        finished, read_at, status, size = self._answers(page, due)
        late = finished - due >= self._timeout
        finished[late], read_at[late], status[late], size[late] = due[late] + self._timeout, NOT_YET, NOT_YET, 0

        superseded, until = self._superseded(page, due, finished)
        running = ~superseded & (finished > end)
        heard = ~(superseded | running)
        world.client.timeouts += int(np.count_nonzero(late & heard))
        finished[~heard], status[~heard], size[~heard], read_at[~heard] = NOT_YET, NOT_YET, 0, NOT_YET
        version = self._versions(page, read_at)
        outcome = np.select(
            [superseded, running, version == NOT_YET, _repeats(page, finished, version)],
            [OUTCOME[name] for name in ("superseded", "running", "failed", "not_newer")],
            OUTCOME["applied"],
        )
        columns = (page, due, due, finished, version, status, size, answered, outcome)
        rows = _as_they_end(page, np.where(superseded, until, finished), superseded, running)
        table = np.empty((rows.size, len(columns)), np.int64)
        for place, column in enumerate(columns):
            table[:, place] = column[rows]
        world.ledger.refetch_rows += table.data

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
        who, place, heard = self._heard()
        parts = [np.empty((3, 0), np.int64)]
        for _, found in groupby(self._pages, key=lambda page: page.group):
            pages = list(found)
            policy = pages[0].group.policy
            if isinstance(policy, Polling):
                for page in pages:
                    at = np.arange(self._phases[page.subscriber], self._end + 1, ns(policy.interval), dtype=np.int64)
                    parts.append(np.stack([np.full_like(at, page.subscriber), at, np.zeros_like(at)]))
            else:
                low, high = np.searchsorted(who, [pages[0].subscriber, pages[-1].subscriber + 1])
                first = np.flatnonzero(np.diff(who[low:high], prepend=-1))
                at, answered, one = fires_of(policy, heard[low:high], first)
                parts.append(np.stack([who[low + one], at, answered]))
        page, at, answered = np.concatenate(parts, axis=1)
        order = np.argsort(at, kind="stable")
        order = order[: np.searchsorted(at[order], self._end, side="right")]
        page, at, answered = page[order], at[order], answered[order]
        tied = np.flatnonzero(at[1:] == at[:-1])
        if tied.size:
            order = _by_cause(page, at, tied, self._causes(np.unique(page[np.union1d(tied, tied + 1)]), who, place, heard))
            page, answered = page[order], answered[order]
        return page, at, answered

    def _causes(self, pages: Array, who: Array, place: Array, heard: Array) -> dict[int, Causes]:
        """Page -> why it fires, for some pages. Those that hear the same at the same instants are driven once."""
        known: dict[tuple[int, int, bytes], dict[int, Cause | None]] = {}
        found = {}
        low, high = np.searchsorted(who, [pages, pages + 1])
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

    def _sent(self, page: Array, at: Array, answered: Array) -> tuple[Array, Array, Array]:
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

    # --- what becomes of a request -------------------------------------------------------------------------------------

    def _answers(self, page: Array, sent: Array) -> tuple[Array, Array, Array, Array]:
        """(instant at which the page has the answer, when it was read from the database, status, bytes)."""
        views = [page.view for page in self._pages]
        ends, read_at, status, size = self._world.api.answer_all(views, page, sent + self._way)
        return ends + self._way, read_at, status, size

    def _superseded(self, page: Array, sent: Array, finished: Array) -> tuple[Array, Array]:
        """(which requests are aborted by the next one of their page, when that is sent)."""
        rules = [(page.group.in_flight == "cancel", page.group.policy) for page in self._pages]
        cancels = np.array([rule or (isinstance(policy, Polling) and policy.mode == "cancel") for rule, policy in rules], bool)
        order = np.argsort(page, kind="stable")
        until = np.full(page.size, NEVER)
        follows = page[order[1:]] == page[order[:-1]]
        until[order[:-1][follows]] = sent[order[1:][follows]]
        mine = cancels[page]
        if (mine & (finished == until)).any():
            raise Undecided
        return mine & (finished > until), until

    def _versions(self, page: Array, read_at: Array) -> Array:
        """Versions of the answers that were read at these instants."""
        histories: dict[int, Any] = {}
        number = np.array(
            [histories.setdefault(id(page.view.history), (len(histories), page.view.history))[0] for page in self._pages]
        )
        version = np.full(page.size, NOT_YET)
        rows = np.flatnonzero(read_at != NOT_YET)
        rows = rows[np.argsort(number[page[rows]], kind="stable")]
        edges = np.searchsorted(number[page[rows]], np.arange(len(histories) + 1))
        for low, high, (_, history) in zip(edges[:-1], edges[1:], histories.values(), strict=True):
            mine = rows[low:high]
            count = np.searchsorted(history.instants, read_at[mine], side="right")
            version[mine] = np.append(0, history.versions)[count]
        return version


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


def _repeats(page: Array, finished: Array, version: Array) -> Array:
    """Which answers have the version that their page shows when it hears them; every page was loaded with 0."""
    rows = np.flatnonzero(version != NOT_YET)
    rows = rows[np.lexsort((finished[rows], page[rows]))]
    shown = np.append(0, version[rows[:-1]])
    shown[np.diff(page[rows], prepend=-1) != 0] = 0
    repeats = np.zeros(page.size, bool)
    repeats[rows] = version[rows] == shown
    return repeats


def _as_they_end(page: Array, ended: Array, superseded: Array, running: Array) -> Array:
    """The rows in the order in which they end: an answer by when it was asked for, an aborted one by when the next is sent. Those
    that run at the end are the last, page by page."""
    rows = np.flatnonzero(~running)
    rows = rows[np.argsort(ended[rows], kind="stable")]
    tied = ended[rows[1:]] == ended[rows[:-1]]
    if (tied & (superseded[rows[1:]] | superseded[rows[:-1]])).any():
        raise Undecided
    last = np.flatnonzero(running)
    return np.concatenate([rows, last[np.argsort(page[last], kind="stable")]])
