"""Changes as what they are in an application: requests that wait for a worker and for a lock, are saved, and are broadcast.

    arrives    when it is intended and the change before it of the same resource is answered, or a second late (`IN_ORDER`); waits
               with the refetches for a worker (`ApiStation.change`)
    saved      `api.save` after the worker has begun it and the change before it has left its lock
    committed  `broadcast.commit_delay` later; then the lock is free
    broadcast  when it is committed, or when it is saved (`broadcast.moment`)
    done       its worker is free when it is committed and, with `dispatch = "now"`, the broadcaster has answered

This is needed only where changes share their workers with refetches: else every commit is known in advance (`Commits`).
"""

from __future__ import annotations

from collections.abc import Callable

from sim.clock import EventList, ns
from sim.scenario import Scenario
from sim.virtual.database import Commits
from sim.virtual.reference.api import ApiStation
from sim.virtual.reference.publishing import Publishing
from sim.workload import IN_ORDER


class Changes:
    """Makes every update of the database's columns, by number."""

    def __init__(
        self,
        scenario: Scenario,
        clock: EventList,
        database: Commits,
        api: ApiStation,
        publishing: Publishing,
        save: Callable[[], int],
    ) -> None:
        self._clock = clock
        self._database = database
        self._api = api
        self._publishing = publishing
        self._save = save
        self._delay = ns(scenario.broadcast.commit_delay)
        self._patience = ns(IN_ORDER)
        self._on_save = scenario.broadcast.moment == "on_save"
        self._waits = publishing.answers
        self._one_lock = scenario.api.save_lock == "database"
        self._lock_free: dict[tuple[int, int], int] = {}
        self._latest: dict[tuple[int, int], int] = {}
        """Resource -> its latest change, answered or not."""
        self._next: dict[int, int] = {}
        """Change that is not answered yet -> the one that waits for that (itself: none does)."""
        self._held: dict[int, tuple[int, int, int]] = {}
        """Update whose worker waits for the broadcaster -> (its arrival, when it was begun, its commit)."""
        clock.call_each(database.intended_at.tolist(), range(len(database.updates)), self._arrives)

    def _arrives(self, update: int, at: int) -> None:
        key = self._publishing.key(update)
        before, self._latest[key] = self._latest.get(key), update
        self._next[update] = update
        if before in self._next:
            self._next[before] = update
            self._clock.post(at + self._patience, self._follow, before)
        else:
            self._asks(update)

    def _asks(self, update: int) -> None:
        now = self._clock.now()
        if not self._api.change(now, lambda begin: self._begins(update, now, begin)):
            self._follow(update)  # refused

    def _follow(self, update: int) -> None:
        """*update* is answered, or the next of its resource has waited for that long enough."""
        follower = self._next.pop(update, update)
        if follower != update:
            self._asks(follower)

    def _begins(self, update: int, at: int, begin: int) -> int | None:
        """A worker begins it; returns when it is done, None where the broadcaster has to answer first."""
        key = (0, 0) if self._one_lock else self._publishing.key(update)
        locked = max(begin, self._lock_free.get(key, 0))
        saved = locked + self._api.slowed(locked, self._save())
        committed = self._lock_free[key] = saved + self._delay
        if self._on_save:
            self._clock.post(saved, self._dispatch, update)
        self._clock.post(committed, self._commit, update)
        if not self._waits:
            self._clock.post(committed, self._follow, update)
            return committed
        self._held[update] = at, begin, committed
        return None

    def _commit(self, update: int) -> None:
        self._database.commit(update, self._clock.now())
        if not self._on_save:
            self._dispatch(update)

    def _dispatch(self, update: int) -> None:
        self._publishing.dispatch(update, self._clock.now(), self._answered if self._waits else None)

    def _answered(self, update: int) -> None:
        """The broadcaster has answered, or was not there."""
        at, begin, committed = self._held[update]
        if self._clock.now() < committed:  # broadcast when it was saved; its transaction goes on
            self._clock.post(committed, self._answered, update)
        else:
            del self._held[update]
            self._api.release(at, begin)
            self._follow(update)
