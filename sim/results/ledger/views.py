"""What each page shows: the updates that it has to contain, and the answers that it applied, in one order of versions.

A *timeline* is a sequence of updates of which one state of a page contains all up to some point: those of one resource, ordered
by version; or, for dashboards, those of all resources of a user (of everyone, where the application shows everyone's), ordered by
sequence. A *view* is a page with one timeline. A page has one; a dashboard of full payloads, each of which brings one resource,
has one for each resource that it shows.

Versions are compared by *rank* only: how many updates of the timeline have at most that version. An answer contains an update
when its rank is at least the update's. So two updates that share a stamp are fresh together, and any whole number is a version.
Of updates with versions 10, 10 and 30 the ranks are 2, 2 and 3; an answer of version 20 has rank 2, and contains the first two.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from sim.arrays import Array
from sim.results.ledger.order import SortedGroups, place_of, ranges, whole
from sim.scenario import Scenario

SITE, TASK, KINDS = 1, 2, 3
"""Kinds of resources that are numbered apart; a foreign application's are all of one kind."""

NOBODY = -1
"""In the place of a user: whose dashboard shows a task."""

UNKNOWN = -1
"""Rank of an update or an answer whose version is not known."""

NONE = -1
"""In the place of a version, or of a refetch."""

ANSWERED = ("applied", "not_newer")


class Timelines:
    """Entries (an update in a timeline) sorted by timeline and commit. Columns: timeline, update (position in the table of
    updates), committed, rank (`UNKNOWN` where the version or the commit is not known)."""

    def __init__(self, updates: pd.DataFrame, scenario: Scenario) -> None:
        committed, told = commits(updates)
        rows = np.flatnonzero(~np.isnan(committed))
        kind = _kind(updates["resource"])[rows]
        number = updates["resource_id"].to_numpy(np.int64)[rows]
        self.everyone = scenario.api.dashboard_of == "everyone"
        user = np.zeros(len(rows), np.int64) if self.everyone else owner(kind == SITE, number, scenario)
        user[kind == TASK] = NOBODY
        self.resources, resource = np.unique(number * KINDS + kind, return_inverse=True)
        self.users, board = np.unique(user, return_inverse=True)
        self.owners = np.zeros(len(self.resources), np.int64)
        """The user whose dashboard shows each resource."""
        self.owners[resource] = user
        both = np.r_[rows, rows]
        timeline = np.r_[resource, len(self.resources) + board].astype(np.int64)
        self.commits = SortedGroups(timeline, committed[both])
        order = self.commits.order
        self.timeline, self.update = timeline[order], both[order]
        self.committed = committed[self.update]
        (version, has_version), (sequence, has_sequence) = (whole(updates[name]) for name in ("version", "sequence"))
        of_board = self.timeline >= len(self.resources)
        ordering = np.where(of_board, sequence[self.update], version[self.update])
        known = told[self.update] & np.where(of_board, has_sequence[self.update], has_version[self.update])
        self._known = np.flatnonzero(known)
        self._versions = SortedGroups(self.timeline[known], ordering[known])
        numbered = (told & has_sequence)[self.update]
        self._sequences = SortedGroups(self.timeline[numbered], sequence[self.update][numbered])
        self.rank = np.full(len(order), UNKNOWN, np.int64)
        self.rank[known] = self.rank_of(self.timeline[known], ordering[known])

    def of_pages(self, pages: pd.DataFrame, scenario: Scenario) -> tuple[Array, Array, Array]:
        """The views of all pages: (page, timeline, whether the page has several). A page whose resource never changes has
        none."""
        board = (pages["resource"] == "dashboard").to_numpy(bool)
        key = pages["resource_id"].to_numpy(np.int64) * KINDS + _kind(pages["resource"])
        user = np.zeros(len(pages), np.int64) if self.everyone else pages["user"].to_numpy(np.int64)
        mine, shown = place_of(self.resources, key), place_of(self.users, user)
        single = np.where(board, np.where(shown >= 0, shown + len(self.resources), UNKNOWN), mine)
        many = board & shows_payloads(pages, scenario)
        one = np.flatnonzero((single >= 0) & ~many)
        several = np.flatnonzero(many)
        by_owner = SortedGroups(self.owners, np.zeros(len(self.owners)))
        i, place = ranges(by_owner.start(user[several]), by_owner.start(user[several] + 1))
        timelines = np.r_[single[one], by_owner.order[place]].astype(np.int64)
        return np.r_[one, several[i]], timelines, np.r_[np.zeros(len(one), bool), np.ones(len(i), bool)]

    def rank_of(self, timeline: Array, version: Array, by_sequence: bool = False) -> Array:
        """How many updates of each timeline a state of that version contains. *by_sequence*: it is a dashboard's version."""
        order = self._sequences if by_sequence else self._versions
        return order.through(timeline, version) - order.start(timeline)

    def rank_at(self, timeline: Array, at: Array) -> Array:
        """The highest rank that was committed before each instant; 0: none."""
        place = self.commits.before(timeline, at)
        return np.r_[self._highest, 0][np.where(place > self.commits.start(timeline), place - 1, -1)]

    @cached_property
    def _highest(self) -> Array:
        """For each entry the highest rank committed up to it."""
        return pd.Series(np.maximum(self.rank, 0)).groupby(self.timeline).cummax().to_numpy(np.int64)

    def newest_contained(self, timeline: Array, rank: Array) -> Array:
        """Latest commit among the updates that a state of *rank* contains; NaN: none."""
        place = self._versions.start(timeline) + rank - 1
        return np.r_[self._by_rank[0], np.nan][np.where(rank > 0, place, -1)]

    def newest_contained_at(self, timeline: Array, rank: Array, at: Array) -> Array:
        """The same among what was committed up to each instant. Goes back commit by commit: for few questions only."""
        first, place = self.commits.start(timeline), self.commits.through(timeline, at) - 1
        found = np.full(len(rank), np.nan)
        left = np.flatnonzero(place >= first)
        while len(left):
            entry = place[left]
            hit = (self.rank[entry] != UNKNOWN) & (self.rank[entry] <= rank[left])
            found[left[hit]] = self.committed[entry[hit]]
            left = left[~hit]
            place[left] -= 1
            left = left[place[left] >= first[left]]
        return found

    def oldest_missing(self, timeline: Array, rank: Array) -> Array:
        """Earliest commit among the updates that a state of *rank* does not contain; inf: none."""
        place = self._versions.start(timeline) + rank
        return np.r_[self._by_rank[1], np.inf][np.where(place < self._versions.start(timeline + 1), place, -1)]

    @cached_property
    def _by_rank(self) -> tuple[Array, Array]:
        """In order of version: latest commit up to each, earliest commit from each on."""
        entry = self._known[self._versions.order]
        committed, timeline = pd.Series(self.committed[entry]), self.timeline[entry]
        backwards = committed[::-1].groupby(timeline[::-1]).cummin()[::-1]
        return committed.groupby(timeline).cummax().to_numpy(), backwards.to_numpy()


def commits(updates: pd.DataFrame) -> tuple[Array, Array]:
    """(when each update was committed, whether that is known). NaN: it was not.

    An update of which it is not known may have been committed from the instant on at which it was intended. It counts from then
    on, and as one whose version is not known: with too many of them there is no figure.
    """
    at = updates["committed_at"]
    earliest = updates["intended_at"].fillna(updates["published_at"]).where((updates["status"] != "failed").to_numpy(bool))
    return at.fillna(earliest).to_numpy(float), at.notna().to_numpy(bool)


@dataclass(frozen=True, eq=False)
class Views:
    """Columns by view: page (position in the table of pages), timeline, several (whether the page has more of them), opened,
    closed (inf: open at the end), load_rank, and load_known (whether the load named its version). Columns `answer_*` by answer,
    sorted by view and instant, the load first: view, at, rank (`UNKNOWN` where it named none), version (NONE), refetch (position
    in the table of refetches; NONE for a load or a payload), due, started (NaN for these)."""

    timelines: Timelines
    page: Array
    timeline: Array
    several: Array
    opened: Array
    closed: Array
    load_rank: Array
    load_known: Array
    answers: SortedGroups
    answer_view: Array
    answer_at: Array
    answer_rank: Array
    answer_version: Array
    answer_refetch: Array
    answer_due: Array
    answer_started: Array


Part = tuple[Array, Array, Array, Array, Array, Array, Array]
"""Answers in no order: view, at, rank, version, refetch, due, started."""


def views(tables: Any, scenario: Scenario, over: float, shown: tuple[str, ...] = ("applied",)) -> Views:
    """All views of a run. *over*: when it ended, s. *shown*: outcomes of the refetches whose answers count."""
    pages = tables.pages
    lines = Timelines(tables.updates, scenario)
    page, timeline, several = lines.of_pages(pages, scenario)
    opened, closed = pages["opened_at"].to_numpy(float)[page], until(pages, over)[page]
    version, named = (column[page] for column in whole(pages["loaded_version"]))
    loaded = lines.rank_at(timeline, opened)
    for rows, by_sequence in ((named & ~several, False), (named & several, True)):
        loaded[rows] = lines.rank_of(timeline[rows], version[rows], by_sequence)
    loads = np.where(named, version, NONE), *_no_refetch(len(page))
    parts: list[Part] = [(np.arange(len(page)), opened, loaded, *loads)]
    of_page = SortedGroups(page, timeline)
    refetches = tables.refetches[tables.refetches["outcome"].isin(shown).to_numpy(bool)]
    parts += _refetched(refetches, pages, of_page, timeline, several, lines)
    parts += _payloads(tables, scenario, of_page, page, timeline, lines)
    view, at, *others = (np.concatenate(column) for column in zip(*parts, strict=True))
    kept = at >= opened[view]
    order = SortedGroups(view[kept], at[kept])
    columns = (column[kept][order.order] for column in (view, at, *others))
    return Views(lines, page, timeline, several, opened, closed, loaded, named, order, *columns)


def with_payloads(tables: Any, scenario: Scenario, over: float) -> pd.DataFrame:
    """The refetches, with the outcomes that they have where pages show what their events carry.

    Whatever brings a page a version decides what it shows: an answer with the version that a payload has brought already is not
    newer. What sends refetches (`sim.refetch`) does not look into payloads, so this is found once all rows are there.
    """
    rows, pages = tables.refetches, tables.pages
    payloads = pages["subscriber"][shows_payloads(pages, scenario)]
    if payloads.empty:
        return rows
    answered = (rows["outcome"].isin(ANSWERED) & rows["subscriber"].isin(payloads)).to_numpy(bool)
    if not answered.any():
        return rows
    seen = views(tables, scenario, over, ANSWERED)
    changes = np.ones(len(seen.answer_view), bool)
    same_view = seen.answer_view[1:] == seen.answer_view[:-1]
    same_version = (seen.answer_version[1:] == seen.answer_version[:-1]) | seen.several[seen.answer_view[1:]]
    known = (seen.answer_rank[1:] == seen.answer_rank[:-1]) & (seen.answer_rank[1:] != UNKNOWN)
    changes[1:] = ~(same_view & same_version & known)
    refetch = seen.answer_refetch
    found, changed = np.unique(refetch[refetch != NONE]), np.unique(refetch[changes])
    outcome = rows["outcome"].astype(object).to_numpy(copy=True)
    outcome[answered & np.isin(np.arange(len(rows)), found)] = "not_newer"
    outcome[answered & np.isin(np.arange(len(rows)), changed)] = "applied"
    return rows.assign(outcome=pd.Categorical(outcome))


def _no_refetch(count: int) -> tuple[Array, Array, Array]:
    nothing = np.full(count, np.nan)
    return np.full(count, NONE), nothing, nothing


def _refetched(
    refetches: pd.DataFrame, pages: pd.DataFrame, of_page: SortedGroups, timeline: Array, several: Array, lines: Timelines
) -> Iterator[Part]:
    """Answers to refetches; that of a dashboard of full payloads counts for each resource that it shows."""
    mine = place_of(pages["subscriber"], refetches["subscriber"])
    kept = (mine >= 0) & refetches["finished_at"].notna().to_numpy(bool)
    applied, mine = refetches[kept], mine[kept]
    version, named = whole(applied["version"])
    row, place = ranges(of_page.start(mine), of_page.start(mine + 1))
    view = of_page.order[place]
    rank = np.full(len(row), UNKNOWN, np.int64)
    for by_sequence in (False, True):
        rows = named[row] & (several[view] == by_sequence)
        rank[rows] = lines.rank_of(timeline[view[rows]], version[row[rows]], by_sequence)
    at, due, started = (applied[name].to_numpy(float)[row] for name in ("finished_at", "due_at", "started_at"))
    number = np.where(named, version, NONE)[row]
    yield view, at, rank, number, refetches.index.to_numpy()[kept][row], due, started


def _payloads(
    tables: Any, scenario: Scenario, of_page: SortedGroups, page: Array, timeline: Array, lines: Timelines
) -> Iterator[Part]:
    """Notifications at pages that show what they carry: an answer with the update's version, for the update's resource."""
    shows = shows_payloads(tables.pages, scenario)
    if not shows.any():
        return
    heard = tables.notifications
    mine = place_of(tables.pages["subscriber"], heard["subscriber"])
    carried = (mine >= 0) & shows[mine]
    heard, mine = heard[carried], mine[carried]
    serial, named = whole(heard["update"])
    update = np.where(named, place_of(tables.updates["update"], serial), -1)
    of_resources = np.flatnonzero(lines.timeline < len(lines.resources))
    entry = np.r_[of_resources, -1][place_of(lines.update[of_resources], update)]
    line = np.r_[lines.timeline, -1][entry]
    row, place = ranges(of_page.start(mine), of_page.start(mine + 1))
    view = of_page.order[place]
    # A payload of an update that is not known may have been of any resource that the page shows.
    meant = (timeline[view] == line[row]) | (update[row] < 0)
    row, view = row[meant], view[meant]
    rank = np.r_[lines.rank, UNKNOWN][entry[row]]
    version, named = whole(tables.updates["version"])
    carries = np.r_[np.where(named, version, NONE), NONE][update[row]]
    yield view, heard["received_at"].to_numpy(float)[row], rank, carries, *_no_refetch(len(row))


def until(pages: pd.DataFrame, over: float) -> Array:
    """Until when each page was open; inf: it still was when the run was over."""
    closed = pages["closed_at"].to_numpy(float)
    return np.where(np.isnan(closed) | (closed >= over), np.inf, closed)


def weight_of(subscriber: pd.Series | Array, pages: pd.DataFrame) -> Array:
    """How many pages stand behind each row; that of the heaviest page where a row's own is not recorded."""
    weight = pages["weight"].to_numpy(float)
    return np.r_[weight, weight.max() if len(weight) else 1.0][place_of(pages["subscriber"], subscriber)]


def shows_payloads(pages: pd.DataFrame, scenario: Scenario) -> Array:
    """Which pages show what the event carries instead of refetching."""
    return _of_policy(pages, "full_payload", scenario)


def polls(pages: pd.DataFrame, scenario: Scenario) -> Array:
    """Which pages poll."""
    return _of_policy(pages, "polling", scenario)


def _of_policy(pages: pd.DataFrame, kind: str, scenario: Scenario) -> Array:
    """Pages by the policy of their row; where it is not known, by the scenario's policy for such pages."""
    policy = pages["policy"].astype(object)
    known = (policy.notna() & (policy != "")).to_numpy(bool)
    kinds = [group.page for group in scenario.pages if scenario.policy_of(group).kind == kind]
    return np.where(known, (policy == kind).to_numpy(bool), pages["page"].isin(kinds).to_numpy(bool))


def _kind(resource: pd.Series) -> Array:
    return np.select([(resource == name).to_numpy(bool) for name in ("site", "task")], [SITE, TASK])


def owner(site: Array, resource_id: Array, scenario: Scenario) -> Array:
    """The user of each resource (*site*: whether it is one): users own equal runs of ids, as the fleet is seeded."""
    fleet = scenario.fleet
    each = np.where(site, max(fleet.sites_per_user, 1), max(fleet.servers_per_user, 1))
    return (resource_id - 1) // each + 1
