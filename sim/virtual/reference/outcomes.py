"""What became of refetches whose answers change nothing that comes after them: all rows of the ledger at once, at the end.

Then a page only sends (`OneWay`, or `forward`), and what it does with an answer follows from columns: when each request was sent,
when its answer was there, when its page left. `OneWayRequests._ends` states the in-flight rules `cancel` and `overlap` of
`sim.refetch` a second time, because an event for each answer makes a run a fifth to a third slower; tests hold the tables of both
equal, bit for bit. Where two things happen at one instant and the columns do not show their order, `Undecided` is raised, and the
run has to be made event by event.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np

from sim.arrays import Array
from sim.clock import ns
from sim.distributions import Constant
from sim.incidents import Deploy
from sim.policy import Polling
from sim.refetch import Refetcher
from sim.scenario import Scenario
from sim.virtual.database import History
from sim.virtual.ledger import NOT_YET, OUTCOME, RunRows
from sim.virtual.reference.api import NO_ANSWER, NO_RELEASE, NOT_READ, ApiStation, View
from sim.virtual.reference.client import HttpClient

NEVER = 1 << 62

WIDTH = 4
_row = struct.Struct(f"={WIDTH}q")
request = _row.pack
"""Of one request: subscriber, due, sent (ns), notifications that it answers."""

FEW = 64
"""Up to this number of requests one answer after the other takes less time than columns."""


class Undecided(Exception):
    """The columns do not show what happens first at some instant."""


def is_one_way(scenario: Scenario) -> bool:
    """Whether no answer changes what is asked for later, or when, and requests arrive in the order in which they are sent."""
    if scenario.api.changes_need_workers or scenario.api.retries or not isinstance(scenario.network.to_api, Constant):
        return False
    released = any(isinstance(incident, Deploy) for incident in scenario.incidents)
    for pages in scenario.pages:
        policy = scenario.policy_of(pages)
        if scenario.in_flight_of(pages) == "single_flight" or (isinstance(policy, Polling) and policy.mode == "rest"):
            return False
        if released and pages.inertia:  # an answer may tell it to load anew
            return False
    return True


class Ends(NamedTuple):
    """How the requests of a run ended. Columns: one row per request, in the order in which they were sent."""

    superseded: Array
    """bool: aborted by the next request of its page."""
    cancelled: Array
    """bool: its page left."""
    running: Array
    """bool: the run was over."""
    at: Array
    """When, ns."""
    order: Array
    """Of those that end at one instant, that with the smaller number is first."""

    @property
    def unheard(self) -> Array:
        """bool: its page heard no answer, nor gave up."""
        return self.superseded | self.cancelled | self.running


class OneWayRequests:
    """The requests of a run, in the order in which they are sent, and what makes their outcomes."""

    def __init__(self, scenario: Scenario, api: ApiStation, client: HttpClient, ledger: RunRows, end: int) -> None:
        self._api = api
        self._client = client
        self._ledger = ledger
        self._end = end
        self._way = ns(scenario.network.to_api.mean())
        self._timeout = NEVER if scenario.api.timeout is None else ns(scenario.api.timeout)
        self._not_modified = scenario.api.not_modified_bytes
        self.rows = bytearray()
        """Packed by `request`, in the order in which they are sent."""
        self._answers = bytearray()
        """Of the first of these: when each leaves, when it read the database, status, bytes."""
        self._views: list[View] = []
        self._shown: dict[History, int] = {}
        self._history: list[int] = []
        self._cancels: list[bool] = []
        client.flush = self.flush

    def opens(self, view: View, cancels: bool) -> None:
        """The next subscriber shows *view*; a new refetch of it *cancels* the one that runs."""
        self._views.append(view)
        self._history.append(self._shown.setdefault(view.history, len(self._shown)))
        self._cancels.append(cancels)

    def flush(self) -> None:
        """Let the application have what it does not have yet."""
        fresh = self.rows[len(self._answers) :]
        if len(fresh) < FEW * _row.size:
            for subscriber, _, sent, _ in _row.iter_unpack(fresh):
                end, read_at, status, size = self._api.answer(self._views[subscriber], NO_RELEASE, sent + self._way)
                self._answers += request(end, NOT_READ if read_at is None else read_at, status, size)
        else:
            page, _, sent, _ = np.frombuffer(fresh, np.int64).reshape(-1, WIDTH).T
            self._answers += np.stack(self._api.answer_all(self._views, page, sent + self._way), axis=1).data

    def settle(self) -> None:
        """Write the ledger's rows."""
        self.flush()
        page, due, sent, answered = _columns(self.rows)
        finished, read_at, status, size, late = self._heard(sent)
        closed, loaded = self._lives()
        ends = self._ends(page, sent, finished, closed[page])
        unheard = ends.unheard
        self._client.timeouts += int(np.count_nonzero(late & ~unheard))
        finished[unheard], status[unheard], size[unheard], read_at[unheard] = NOT_YET, NOT_YET, 0, NOT_READ
        version = self._versions(page, read_at)
        repeats = _repeats(page, finished, version, loaded)
        if self._not_modified is not None:
            status[repeats], size[repeats] = 304, self._not_modified
        outcome = np.select(
            [ends.superseded, ends.cancelled, ends.running, version == NOT_YET, repeats],
            [OUTCOME[name] for name in ("superseded", "cancelled", "running", "failed", "not_newer")],
            OUTCOME["applied"],
        )
        rows = _as_they_end(page, ends)
        columns = (page, due, sent, finished, version, status, size, answered, outcome)
        table = np.empty((rows.size, len(columns)), np.int64)
        for place, column in enumerate(columns):
            table[:, place] = column[rows]
        self._ledger.refetch_rows += table.data

    def _heard(self, sent: Array) -> tuple[Array, Array, Array, Array, Array]:
        """What each page would hear if nothing aborted its request: when, read when, status, bytes; and (bool) whether it has
        given up before. An answer at the very instant of the time-out is too late."""
        finished, read_at, status, size = _columns(self._answers)
        finished += self._way
        status[status == NO_ANSWER] = NOT_YET
        late = finished - sent >= self._timeout
        finished[late], read_at[late], status[late], size[late] = sent[late] + self._timeout, NOT_READ, NOT_YET, 0
        return finished, read_at, status, size, late

    def _ends(self, page: Array, sent: Array, finished: Array, leaves: Array) -> Ends:
        """What comes first after a request was sent, of these, decides how it ends:

        its answer, or its time-out (*finished*)                  it is heard; its version decides the outcome
        the next request of its page, where that cancels it       superseded, just before that one is sent
        its page leaves (*leaves*)                                cancelled
        the end of the run                                        running
        """
        following = self._following(page)
        aborted = np.where(np.array(self._cancels, bool)[page], np.append(sent, NEVER)[following], NEVER)
        if (finished == aborted).any() or (finished == leaves).any():
            raise Undecided
        superseded = finished > aborted
        cancelled = ~superseded & (finished > leaves)
        running = ~(superseded | cancelled) & (finished > self._end)
        at = np.select([superseded, cancelled], [aborted, leaves], finished)
        return Ends(superseded, cancelled, running, at, np.where(superseded, following, np.arange(page.size)))

    def _lives(self) -> tuple[Array, Array]:
        """Per subscriber: when its page left (`NEVER`: it did not), and the version of its first load."""
        lives = np.array(self._ledger.page_rows, np.int64).reshape(-1, 10)
        closed, loaded = np.full((2, len(self._history)), NEVER)
        left = lives[:, 6] != NOT_YET
        closed[lives[left, 0]] = lives[left, 6]
        loaded[lives[:, 0]] = lives[:, 7]
        return closed, loaded

    @staticmethod
    def _following(page: Array) -> Array:
        """Row of the next request of the same page; their number: there is none."""
        order = np.argsort(page, kind="stable")
        following = np.full(page.size, page.size)
        follows = page[order[1:]] == page[order[:-1]]
        following[order[:-1][follows]] = order[1:][follows]
        return following

    def _versions(self, page: Array, read_at: Array) -> Array:
        """Versions of the answers that were read at these instants."""
        number = np.array(self._history, np.int64)
        version = np.full(page.size, NOT_YET)
        rows = np.flatnonzero(read_at != NOT_READ)
        rows = rows[np.argsort(number[page[rows]], kind="stable")]
        edges = np.searchsorted(number[page[rows]], np.arange(len(self._shown) + 1))
        for low, high, history in zip(edges[:-1], edges[1:], self._shown, strict=True):
            mine = rows[low:high]
            count = np.searchsorted(history.instants, read_at[mine], side="right")
            version[mine] = np.append(0, history.versions)[count]
        return version


class OneWay(Refetcher):
    """A page that sends, and hears no answers."""

    __slots__ = ("_left", "_rows", "_subscriber")

    def goes_to(self, sent: OneWayRequests, subscriber: int) -> None:
        """Before anything is due."""
        self._left, self._rows, self._subscriber = False, sent.rows, subscriber

    def _due(self, at: int, answered: int) -> None:
        if self._jitter:
            assert self._rng is not None
            at += int(self._rng.random() * self._jitter)
            self._clock.call_at(at, self._go, at, answered)
        else:
            self._rows += request(self._subscriber, at, self._clock.now(), answered)

    def _go(self, due: int, answered: int) -> None:
        if not self._left:
            self._rows += request(self._subscriber, due, self._clock.now(), answered)

    def _end_all(self, outcome: str) -> None:
        super()._end_all(outcome)
        self._left = True


def _columns(rows: bytearray) -> tuple[Array, ...]:
    """The columns of rows that `request` has packed."""
    return tuple(np.frombuffer(rows, np.int64).reshape(-1, WIDTH).T.copy())


def _repeats(page: Array, finished: Array, version: Array, loaded: Array) -> Array:
    """Which answers have the version that their page shows when it hears them. *loaded*: that of each page's first load."""
    rows = np.flatnonzero(version != NOT_YET)
    rows = rows[np.lexsort((finished[rows], page[rows]))]
    shown = np.append(0, version[rows[:-1]])
    first = np.diff(page[rows], prepend=-1) != 0
    shown[first] = loaded[page[rows[first]]]
    repeats = np.zeros(page.size, bool)
    repeats[rows] = version[rows] == shown
    return repeats


def _as_they_end(page: Array, ends: Ends) -> Array:
    """The rows in the order in which they end, those of one instant by `Ends.order`: an answer has its own place, what is aborted
    that of the next. Those that run at the end are the last, page by page."""
    superseded, cancelled, running, at, order = ends
    rows = np.flatnonzero(~running)
    rows = rows[np.lexsort((order[rows], at[rows]))]
    one, other = rows[:-1], rows[1:]
    differ = (superseded[one] != superseded[other]) | (cancelled[one] != cancelled[other])
    leave = cancelled[one] & cancelled[other] & (page[one] != page[other])
    if ((at[one] == at[other]) & (differ | leave)).any():
        raise Undecided
    last = np.flatnonzero(running)
    return np.concatenate([rows, last[np.argsort(page[last], kind="stable")]])
