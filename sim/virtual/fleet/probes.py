"""Rows for some of the pages: a random sample of the subscribers, at the load of all.

A fleet's rows would fill disks, so a bundle holds those of a few pages, drawn uniformly without replacement. They live through
the full run (thinning the load would empty the queue), so every mean over them is unbiased; the summary beside them is exact.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from sim.arrays import Array
from sim.clock import SECOND, ns
from sim.scenario import Scenario
from sim.virtual.channels import Channels, owner, subscribed
from sim.virtual.database import Commits
from sim.virtual.fleet.groups import Group, Plan, answer_bytes, repeated_bytes
from sim.virtual.fleet.herds import NEVER, Herd
from sim.virtual.ledger import (
    NOT_YET,
    OUTCOME,
    PAGES,
    POLICIES,
    REASONS,
    REFETCH_WIDTH,
    RESOURCE,
    RESOURCES,
    Tables,
    metric_frame,
    notification_frame,
    page_frame,
    refetch_frame,
    subscription_frame,
    update_frame,
)
from sim.virtual.measures import Sample


class Probes:
    """Watches a run (`watch` is a `fleet.Watcher`) and makes tables of it."""

    def __init__(self, scenario: Scenario, database: Commits, plan: Plan, count: int, rng: np.random.Generator, end: int) -> None:
        self.scenario = scenario
        self.database = database
        self.plan = plan
        self.end = end
        total = scenario.subscribers
        self.chosen: Array = np.sort(rng.choice(total, min(count, total), replace=False)) if total else np.empty(0, np.int64)
        self.members = [np.flatnonzero(np.isin(group.seats.subscribers, self.chosen)) for group in plan.groups]
        self._seen: list[list[tuple[Array, Array, Array]]] = [[] for _ in plan.groups]

    @property
    def sampling(self) -> dict[str, Any]:
        """For the manifest: how rows relate to what happened."""
        total = self.scenario.subscribers
        if self.chosen.size == total:
            return {"method": "all"}
        return {"method": "subscribers", "share": self.chosen.size / total, "subscribers": int(self.chosen.size), "of": total}

    def watch(self, number: int, herd: Herd) -> None:
        members = self.members[number]
        if members.size:
            self._seen[number].append(herd.columns_of(members))

    def tables(self) -> Tables:
        """The frames of `sim.results.run.TABLES`; `metrics` is left to the caller."""
        pages = self._pages()
        return Tables(
            updates=update_frame(self.database, self.plan.published_at, self.end),
            notifications=self._notifications(),
            refetches=refetch_frame(self._refetches(), pages),
            subscriptions=self._subscriptions(pages),
            pages=page_frame(pages, self.scenario.subscribers / max(self.chosen.size, 1)),
            metrics=metric_frame([]),
            scenario=self.scenario,
        )

    def _notifications(self) -> pd.DataFrame:
        names, changed = Channels(self.scenario), self.database.updates
        codes: dict[str, int] = {}
        parts = [np.empty((4, 0), np.int64)]
        for group, members in zip(self.plan.groups, self.members, strict=True):
            update = group.events
            if not (members.size and update.size):
                continue
            heard_on = -1 if group.seats.resource == "dashboard" else 0
            resources = zip(changed.resource[update].tolist(), changed.resource_id[update].tolist(), strict=True)
            channel = [codes.setdefault(names(*resource)[heard_on], len(codes)) for resource in resources]
            subscriber = np.tile(group.seats.subscribers[members], update.size)
            at = (group.heard[:, None] + group.offsets[members]).ravel()
            parts.append(np.stack([np.repeat(update, members.size), subscriber, np.repeat(channel, members.size), at]))
        rows = np.concatenate(parts, axis=1)
        rows = rows[:, rows[3] <= self.end]
        update, subscriber, code, at = rows[:, np.argsort(rows[3], kind="stable")]
        return notification_frame(update, subscriber, code.astype(np.int32), at, list(codes))

    def _refetches(self) -> Array:
        """Rows of `refetch_frame`, in the order in which they ended."""
        parts = [self._group_refetches(number) for number, seen in enumerate(self._seen) if seen]
        rows = np.concatenate([np.empty((0, REFETCH_WIDTH), np.int64), *parts])
        return rows[np.argsort(np.where(rows[:, 3] == NOT_YET, NEVER, rows[:, 3]), kind="stable")]

    def _group_refetches(self, number: int) -> Array:
        group, members = self.plan.groups[number], self.members[number]
        started, begun, finished = (np.stack(column) for column in zip(*self._seen[number], strict=True))
        version = self._versions(group, members, begun)
        outcome = np.full(started.shape, OUTCOME["applied"])
        if self.scenario.api.timeout is not None:
            given_up = finished >= NEVER
            outcome[given_up] = OUTCOME["failed"]
            finished = np.where(given_up, started + ns(self.scenario.api.timeout), finished)
        if group.seats.in_flight == "cancel":
            aborted = np.zeros(started.shape, bool)
            aborted[:-1] = (finished[:-1] > started[1:]) & (started[1:] <= self.end)
            outcome[aborted] = OUTCOME["superseded"]
        outcome[(finished > self.end) & (outcome != OUTCOME["superseded"])] = OUTCOME["running"]
        finished = np.where((outcome == OUTCOME["superseded"]) | (outcome == OUTCOME["running"]), NEVER, finished)
        _note_repeated(version, finished, outcome)
        repeated, answered = outcome == OUTCOME["not_newer"], (outcome == OUTCOME["applied"]) | (outcome == OUTCOME["not_newer"])
        whole, short = (of(self.scenario, group.seats.resource) for of in (answer_bytes, repeated_bytes))
        columns = [
            np.broadcast_to(group.seats.subscribers[members], started.shape),
            started,
            started,
            np.where(finished < NEVER, finished, NOT_YET),
            np.where(answered, version, NOT_YET),
            np.where(answered, np.where(repeated & (self.scenario.api.not_modified_bytes is not None), 304, 200), NOT_YET),
            np.where(answered, np.where(repeated, short, whole), 0),
            np.broadcast_to(group.answered[: len(started), None], started.shape),
            outcome,
        ]
        rows = np.stack([column.ravel() for column in columns], axis=1)
        return rows[rows[:, 2] <= self.end]

    def _versions(self, group: Group, members: Array, begun: Array) -> Array:
        """What the pages of *members* are answered when reading at *begun* (herds x members)."""
        version = np.zeros(begun.shape, np.int64)
        shown_by = group.shown_by or {0: members}
        for user, all_of_user in shown_by.items():
            mine = np.isin(members, all_of_user)
            rows = group.updates[group.viewers == user] if group.shown_by else group.updates
            known = (self.database.sequence if group.seats.resource == "dashboard" else self.database.version)[rows]
            count = np.searchsorted(self.database.committed_at[rows], begun[:, mine], side="right")
            version[:, mine] = np.append(0, known)[count]
        return version

    def _pages(self) -> Array:
        """Rows of `page_frame`, by subscriber: each page is open from the run's start to its end."""
        fleet = self.scenario.fleet
        firsts = np.cumsum([0, *(pages.subscribers for pages in self.scenario.pages)])
        rows = [np.empty((0, 10), np.int64)]
        for group, members in zip(self.plan.groups, self.members, strict=True):
            seats = group.seats
            mine = np.zeros((members.size, 10), np.int64)
            mine[:, 0] = seats.subscribers[members]
            mine[:, 1] = PAGES.index(self.scenario.pages[seats.entry].page)
            if seats.resource == "dashboard":
                mine[:, 2] = (mine[:, 0] - firsts[seats.entry]) % fleet.users + 1
            else:
                mine[:, 2] = owner(seats.resource_id, fleet.each(seats.resource))
            mine[:, 3:5] = RESOURCE[seats.resource], seats.resource_id
            mine[:, 6], mine[:, 8] = NOT_YET, POLICIES.index(seats.policy.kind)
            rows.append(mine)
        found = np.concatenate(rows)
        return found[np.argsort(found[:, 0], kind="stable")]

    def _subscriptions(self, pages: Array) -> pd.DataFrame:
        """One row per page and channel; a page that polls has one without."""
        codes: dict[str, int] = {}
        rows = []
        for subscriber, page, user, shown, resource_id, *_, policy, _ in pages.tolist():
            names = subscribed(self.scenario, RESOURCES[shown], resource_id, user) if POLICIES[policy] != "polling" else []
            for code in [codes.setdefault(name, len(codes)) for name in names] or [NOT_YET]:
                rows.append([subscriber, page, user, shown, resource_id, code, 0, NOT_YET, REASONS.index("end"), policy])
        return subscription_frame(np.array(rows, np.int64).reshape(-1, 10), list(codes))


def _note_repeated(version: Array, finished: Array, outcome: Array) -> None:
    """An answer with the version that the page shows already is not newer. Columns: herds x members; *outcome* is changed."""
    heard = np.where(outcome == OUTCOME["applied"], finished, NEVER)
    order = np.argsort(heard, axis=0, kind="stable")
    version, ranked = np.take_along_axis(version, order, axis=0), np.take_along_axis(outcome, order, axis=0)
    shown = np.vstack([np.zeros((1, version.shape[1]), np.int64), version[:-1]])
    ranked[(ranked == OUTCOME["applied"]) & (version == shown)] = OUTCOME["not_newer"]
    np.put_along_axis(outcome, order, ranked, axis=0)


def load_samples(load: Array, start: int, step: int) -> list[Sample]:
    """Rows of `metrics`: refetches started per *step* (ns) that ends at `at`."""
    ends = (start + step * np.arange(1, load.size + 1)) / SECOND
    return [(at, "application", "refetches_started", value) for at, value in zip(ends.tolist(), load.tolist(), strict=True)]
