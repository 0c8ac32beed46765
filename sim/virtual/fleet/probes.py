"""Rows for some of the pages: a random sample of the subscribers, at the load of all.

A fleet's rows would fill disks, so a bundle holds those of a few pages, drawn uniformly without replacement. They live through
the full run (thinning the load would empty the queue), so every mean over them is unbiased; the summary beside them is exact.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from sim.clock import SECOND, ns
from sim.policy import FullPayload
from sim.scenario import Scenario
from sim.virtual.database import Database
from sim.virtual.fleet.groups import Group, Plan, answer_bytes, repeated_bytes
from sim.virtual.fleet.herds import NEVER, Herd
from sim.virtual.ledger import OUTCOMES, PAGES, POLICIES, REASONS, Tables, frame, seconds, text, update_frame
from sim.virtual.ledger import RESOURCES as SHOWN
from sim.virtual.reference.publishing import Channels, generic_channel, owner, specific_channel, user_channel
from sim.workload import ON_DASHBOARD

Array = np.ndarray[Any, Any]

OUT = {name: code for code, name in enumerate(OUTCOMES)}
ANSWERED = (OUT["applied"], OUT["not_newer"])


class Probes:
    """Watches a run (`watch` is a `fleet.Watcher`) and makes tables of it."""

    def __init__(
        self, scenario: Scenario, database: Database, plan: Plan, count: int, rng: np.random.Generator, end: int
    ) -> None:
        self.scenario = scenario
        self.database = database
        self.plan = plan
        self.end = end
        total = scenario.subscribers
        self.chosen: Array = np.sort(rng.choice(total, min(count, total), replace=False)) if total else np.empty(0, np.int64)
        self.members = [np.flatnonzero(np.isin(group.subscribers, self.chosen)) for group in plan.groups]
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
        database, plan = self.database, self.plan
        return Tables(
            updates=update_frame(database, plan.published_at),
            notifications=self._notifications(),
            refetches=self._refetches(),
            subscriptions=self._subscriptions(),
            pages=self._pages(),
            metrics=metric_frame([]),
            scenario=self.scenario,
        )

    # --- notifications -------------------------------------------------------------------------------------------------

    def _notifications(self) -> pd.DataFrame:
        names = Channels(self.scenario)
        codes: dict[str, int] = {}
        parts = []
        for group, members in zip(self.plan.groups, self.members, strict=True):
            update = group.events
            if not (members.size and update.size):
                continue
            place = -1 if group.resource == "dashboard" else 0
            changed = self.database.updates
            channel = [
                codes.setdefault(names(resource, resource_id)[place], len(codes))
                for resource, resource_id in zip(
                    changed.resource[update].tolist(), changed.resource_id[update].tolist(), strict=True
                )
            ]
            at = group.heard[:, None] + group.offsets[members]
            parts.append(
                np.stack(
                    [
                        np.repeat(update, members.size),
                        np.tile(group.subscribers[members], update.size),
                        np.repeat(channel, members.size),
                        at.ravel(),
                    ]
                )
            )
        rows = np.concatenate([np.empty((4, 0), np.int64), *parts], axis=1)
        rows = rows[:, rows[3] <= self.end]
        rows = rows[:, np.argsort(rows[3], kind="stable")]
        received = seconds(rows[3])
        return frame(
            "notifications",
            {
                "update": rows[0],
                "subscriber": rows[1],
                "channel": text(rows[2].astype(np.int32), list(codes)),
                "received_at": received,
                "read_at": received,
            },
        )

    # --- refetches -----------------------------------------------------------------------------------------------------

    def _refetches(self) -> pd.DataFrame:
        parts = [self._group_refetches(number) for number, seen in enumerate(self._seen) if seen]
        rows = np.concatenate([np.empty((9, 0), np.int64), *parts], axis=1)
        rows = rows[:, np.argsort(rows[4], kind="stable")]
        unanswered = ~np.isin(rows[8], ANSWERED)
        repeated = (rows[8] == OUT["not_newer"]) & (self.scenario.api.not_modified_bytes is not None)
        return frame(
            "refetches",
            {
                "subscriber": rows[0],
                "resource": text(rows[1], SHOWN),
                "resource_id": rows[2],
                "due_at": seconds(rows[3]),
                "started_at": seconds(rows[3]),
                "finished_at": np.where(rows[4] < NEVER, rows[4] / SECOND, np.nan),
                "version": pd.arrays.IntegerArray(rows[5], unanswered),
                "status": pd.arrays.IntegerArray(np.where(repeated, 304, 200), unanswered),
                "bytes": np.where(unanswered, 0, rows[6]),
                "answered": rows[7],
                "outcome": text(rows[8], OUTCOMES),
            },
        )

    def _group_refetches(self, number: int) -> Array:
        """Columns subscriber, resource, id, started, finished (`NEVER`: no end), version, bytes, answered, outcome."""
        group, members = self.plan.groups[number], self.members[number]
        started, begun, finished = (np.stack(column) for column in zip(*self._seen[number], strict=True))
        version = self._versions(group, members, begun)
        outcome = np.full(started.shape, OUT["applied"])
        if self.scenario.api.timeout is not None:
            given_up = finished >= NEVER
            outcome[given_up] = OUT["failed"]
            finished = np.where(given_up, started + ns(self.scenario.api.timeout), finished)
        if group.in_flight == "cancel":
            aborted = np.zeros(started.shape, bool)
            aborted[:-1] = (finished[:-1] > started[1:]) & (started[1:] <= self.end)
            outcome[aborted] = OUT["superseded"]
        outcome[(finished > self.end) & (outcome != OUT["superseded"])] = OUT["running"]
        finished = np.where((outcome == OUT["superseded"]) | (outcome == OUT["running"]), NEVER, finished)
        _note_repeated(version, finished, outcome)
        columns = [
            np.broadcast_to(group.subscribers[members], started.shape),
            np.full(started.shape, SHOWN.index(group.resource)),
            np.full(started.shape, group.resource_id),
            started,
            finished,
            version,
            np.where(outcome == OUT["not_newer"], *(of(self.scenario, group.resource) for of in (repeated_bytes, answer_bytes))),
            np.broadcast_to(group.answered[: len(started), None], started.shape),
            outcome,
        ]
        rows = np.stack([column.ravel() for column in columns])
        return rows[:, rows[3] <= self.end]

    def _versions(self, group: Group, members: Array, begun: Array) -> Array:
        """What the pages of *members* are answered when reading at *begun* (herds x members)."""
        version = np.zeros(begun.shape, np.int64)
        shown_by = group.shown_by or {0: members}
        for user, all_of_user in shown_by.items():
            mine = np.isin(members, all_of_user)
            rows = group.updates[group.viewers == user] if group.shown_by else group.updates
            known = (self.database.sequence if group.resource == "dashboard" else self.database.version)[rows]
            count = np.searchsorted(self.database.committed_at[rows], begun[:, mine], side="right")
            version[:, mine] = np.append(0, known)[count]
        return version

    # --- subscriptions -------------------------------------------------------------------------------------------------

    def _subscriptions(self) -> pd.DataFrame:
        """One row per page and channel."""
        views = self._views()
        channels = [self._channels(self.plan.groups[number], user) for number, user in zip(views[0], views[3], strict=True)]
        rows = np.repeat(views, [len(mine) for mine in channels], axis=1)
        names = sorted({name for mine in channels for name in mine})
        return frame(
            "subscriptions",
            _view_columns(rows)
            | {
                "channel": text(np.array([names.index(name) for mine in channels for name in mine], np.int64), names),
                "subscribed_at": np.zeros(rows.shape[1]),
                "ended_at": np.full(rows.shape[1], np.nan),
                "reason": text(np.full(rows.shape[1], REASONS.index("end")), REASONS),
            },
        )

    def _pages(self) -> pd.DataFrame:
        """Each page is open from the run's start to its end."""
        rows = self._views()
        count = rows.shape[1]
        return frame(
            "pages",
            _view_columns(rows)
            | {
                "opened_at": np.zeros(count),
                "closed_at": np.full(count, np.nan),
                "reason": text(np.full(count, REASONS.index("end")), REASONS),
                "loaded_version": pd.arrays.IntegerArray(np.zeros(count, np.int64), np.zeros(count, bool)),
                "hidden": np.zeros(count, bool),
                "weight": np.full(count, self.scenario.subscribers / max(self.chosen.size, 1)),
            },
        )

    def _views(self) -> Array:
        """Columns group, subscriber, page, user, resource, id, policy of the chosen pages, by subscriber."""
        fleet = self.scenario.fleet
        firsts = np.cumsum([0, *(pages.subscribers for pages in self.scenario.pages)])
        parts = [np.empty((7, 0), np.int64)]
        for number, (group, members) in enumerate(zip(self.plan.groups, self.members, strict=True)):
            mine = group.subscribers[members]
            if group.resource == "dashboard":
                user = (mine - firsts[group.pages]) % fleet.users + 1
            else:
                user = np.full(mine.shape, owner(group.resource_id, fleet.each(group.resource)))
            same = (
                PAGES.index(self.scenario.pages[group.pages].page),
                SHOWN.index(group.resource),
                group.resource_id,
                POLICIES.index(group.policy.kind),
            )
            page, shown, resource_id, policy = (np.full(mine.shape, value) for value in same)
            parts.append(np.stack([np.full(mine.shape, number), mine, page, user, shown, resource_id, policy]))
        rows = np.concatenate(parts, axis=1)
        return rows[:, np.argsort(rows[1], kind="stable")]

    def _channels(self, group: Group, user: int) -> list[str]:
        """A page that polls listens to nothing: its row has an empty channel."""
        if not group.heard.size and not isinstance(group.policy, FullPayload) and group.fires.size:
            return [""]
        if group.resource != "dashboard":
            return [specific_channel(group.resource, group.resource_id)]
        if self.scenario.broadcast.channels == "per_user":
            return [user_channel(user, resource) for resource in ON_DASHBOARD]
        return [generic_channel(resource) for resource in ON_DASHBOARD]


def _view_columns(rows: Array) -> dict[str, Any]:
    """What the tables `pages` and `subscriptions` both say of a page; columns as in `Probes._views`."""
    return {
        "subscriber": rows[1],
        "page": text(rows[2], PAGES),
        "user": rows[3],
        "resource": text(rows[4], SHOWN),
        "resource_id": rows[5],
        "policy": text(rows[6], POLICIES),
    }


def _note_repeated(version: Array, finished: Array, outcome: Array) -> None:
    """An answer with the version that the page shows already is not newer. Columns: herds x members; *outcome* is changed."""
    heard = np.where(outcome == OUT["applied"], finished, NEVER)
    order = np.argsort(heard, axis=0, kind="stable")
    version, ranked = np.take_along_axis(version, order, axis=0), np.take_along_axis(outcome, order, axis=0)
    shown = np.vstack([np.zeros((1, version.shape[1]), np.int64), version[:-1]])
    ranked[(ranked == OUT["applied"]) & (version == shown)] = OUT["not_newer"]
    np.put_along_axis(outcome, order, ranked, axis=0)


Sample = tuple[float, str, str, float]


def metric_frame(rows: list[Sample]) -> pd.DataFrame:
    """Rows (at, process, metric, value) as the table `metrics`."""
    at, process, metric, value = zip(*rows, strict=True) if rows else ((), (), (), ())
    return frame("metrics", {"at": at, "process": pd.Categorical(process), "metric": pd.Categorical(metric), "value": value})


def load_samples(load: Array, start: int, step: int) -> list[Sample]:
    """Rows of `metrics`: refetches started per *step* (ns) that ends at `at`."""
    ends = (start + step * np.arange(1, load.size + 1)) / SECOND
    return [(at, "application", "refetches_started", value) for at, value in zip(ends.tolist(), load.tolist(), strict=True)]
