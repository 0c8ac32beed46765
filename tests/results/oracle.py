"""A run's figures once more, page by page in plain Python, straight from the definitions: slow, and shares no code with the
ledger.

Only for runs in which nothing ties: instants of one page that are equal have no order here.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from typing import Any

import pandas as pd

INF = math.inf


def rows_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as dictionaries; None for every null."""
    rows = []
    for row in frame.astype(object).to_dict("records"):
        rows.append({name: None if value is None or value is pd.NA or value != value else value for name, value in row.items()})
    return rows


def owner(resource: str, number: int, scenario: Any) -> int:
    each = scenario.fleet.sites_per_user if resource == "site" else scenario.fleet.servers_per_user
    return (number - 1) // max(each, 1) + 1


def channels(resource: str, number: int, scenario: Any) -> list[str]:
    specific, generic = f"private-{resource}s.{number}", f"private-{resource}s"
    if resource == "task":
        return [specific]
    per_user = f"private-users.{owner(resource, number, scenario)}.{resource}s"
    return {
        "specific": [specific],
        "generic": [generic],
        "both": [specific, generic],
        "per_user": [specific, per_user],
    }[scenario.broadcast.channels]


class Page:
    """One page: what it shows, and every state that it was in."""

    def __init__(self, row: dict[str, Any], run: Oracle) -> None:
        self.row, self.run = row, run
        self.weight = row["weight"]
        self.opened = row["opened_at"]
        closed = row["closed_at"]
        self.closed = INF if closed is None or closed >= run.over else closed
        self.board = row["resource"] == "dashboard"
        self.owes = [u for u in run.updates if u["at"] is not None and self.shows(u)]
        # What is on the screen, by resource for payloads: (instant, resource or None for all, version or None).
        self.states: list[tuple[float, Any, Any]] = []
        for refetch in run.refetches_of[row["subscriber"]]:
            if refetch["outcome"] == "applied" and refetch["finished_at"] is not None and refetch["finished_at"] >= self.opened:
                self.states.append((refetch["finished_at"], None, refetch["version"]))
        if row["policy"] == "full_payload":
            for heard in run.notifications_of[row["subscriber"]]:
                update = run.by_serial.get(heard["update"])
                if heard["received_at"] < self.opened:
                    continue
                if update is None:
                    self.states.append((heard["received_at"], "unknown", None))
                elif self.shows(update) and update["at"] is not None:
                    version = None if update["committed_at"] is None else update["version"]
                    self.states.append((heard["received_at"], (update["resource"], update["resource_id"]), version))
        self.states.sort(key=lambda state: state[0])

    def shows(self, update: dict[str, Any]) -> bool:
        if not self.board:
            return (self.row["resource"], self.row["resource_id"]) == (update["resource"], update["resource_id"])
        if update["resource"] == "task":
            return False
        everyone = self.run.scenario.api.dashboard_of == "everyone"
        return everyone or owner(update["resource"], update["resource_id"], self.run.scenario) == self.row["user"]

    @property
    def several(self) -> bool:
        return self.board and self.row["policy"] == "full_payload"

    def version(self, update: dict[str, Any]) -> Any:
        """What orders the update among those that the page shows; None: unknown, or when it was committed is."""
        if update["committed_at"] is None:
            return None
        return update["sequence"] if self.board and not self.several else update["version"]

    def contains(self, at: float, update: dict[str, Any], inclusive: bool = True) -> bool | None:
        """Whether what is shown at *at* contains the update; None: nobody knows."""
        found: bool | None = self.load_contains(update)
        for instant, resource, version in self.states:
            if instant > at or (instant == at and not inclusive):
                break
            if resource is None:
                wanted = update["sequence"] if self.board else update["version"]
                found = None if version is None or wanted is None else version >= wanted
            elif resource == "unknown":
                found = None
            elif resource == (update["resource"], update["resource_id"]):
                found = None if version is None or update["version"] is None else version >= update["version"]
        return found

    def load_contains(self, update: dict[str, Any]) -> bool | None:
        loaded = self.row["loaded_version"]
        if loaded is None:
            if update["at"] < self.opened:
                return True
            # All that was committed before it opened: in the order of versions.
            before = [self.version(u) for u in self.same_order(update) if u["at"] < self.opened]
            known = [version for version in before if version is not None]
            return bool(known) and self.version(update) is not None and max(known) >= self.version(update)
        wanted = update["sequence"] if self.board else update["version"]
        return None if wanted is None else loaded >= wanted

    def same_order(self, update: dict[str, Any]) -> list[dict[str, Any]]:
        if not self.several:
            return self.owes
        return [u for u in self.owes if (u["resource"], u["resource_id"]) == (update["resource"], update["resource_id"])]

    def fate(self, update: dict[str, Any]) -> tuple[str, float]:
        """(fate, first instant at which it was shown)."""
        limit = min(self.closed, self.run.over)
        committed = update["at"]
        if self.version(update) is None:
            return "unknown", INF
        if self.contains(committed, update):
            return "shown", committed
        place = (update["resource"], update["resource_id"])
        for at, resource, version in self.states:
            if committed < at < limit and resource in (None, "unknown", place):
                if version is None:
                    return "unknown", INF
                if self.contains(at, update):
                    return "shown", at
        return ("left", INF) if self.closed < INF else ("never", INF)

    def stale(self, at: float) -> bool | None:
        """Whether the page is stale just after *at*; None: nobody knows."""
        doubt = False
        orders: dict[Any, list[dict[str, Any]]] = defaultdict(list)
        for update in self.owes:
            if update["at"] <= at:
                orders[(update["resource"], update["resource_id"]) if self.several else None].append(update)
        for mine in orders.values():
            known = [u for u in mine if self.version(u) is not None]
            newest = max(known, key=self.version, default=None)
            # A load contains all that was committed before, whether its version is known or not.
            since = [u for u in mine if u["at"] >= self.opened]
            if not self.names_version(at, mine[0]):
                doubt = True
            elif newest is not None and not self.contains(at, newest):
                return True
            elif since and self.version(max(since, key=lambda u: u["at"])) is None:
                doubt = True
        return None if doubt else False

    def names_version(self, at: float, update: dict[str, Any]) -> bool:
        """Whether what is shown at *at* for the update's resource has a version; a load has."""
        place = (update["resource"], update["resource_id"])
        mine = [s for s in self.states if s[0] <= at and (s[1] in (None, "unknown") or s[1] == place)]
        return not mine or mine[-1][2] is not None

    def newest_contained(self, at: float) -> float | None:
        """Commit of the newest update that is shown just after *at*."""
        done = [u for u in self.owes if u["at"] <= at and self.version(u) is not None]
        shown = [u["at"] for u in done if self.contains(at, u)]
        return max(shown, default=None)

    def edges(self, start: float, end: float) -> list[float]:
        low, high = max(self.opened, start), min(self.closed, end)
        if high <= low:
            return []
        inner = {s[0] for s in self.states} | {u["at"] for u in self.owes}
        return sorted({low, high} | {at for at in inner if low < at < high})


class Oracle:
    """All figures of one run."""

    def __init__(self, tables: Any, scenario: Any, start: float, end: float, over: float, measured: bool) -> None:
        self.scenario, self.start, self.end, self.over, self.measured = scenario, start, end, over, measured
        self.updates = rows_of(tables.updates)
        for update in self.updates:
            # Where it is not known when it was committed, it may have been since it was intended.
            may = None if update["status"] == "failed" else update["intended_at"]
            update["at"] = may if update["committed_at"] is None else update["committed_at"]
        self.by_serial = {u["update"]: u for u in self.updates}
        self.notifications, self.refetches = rows_of(tables.notifications), rows_of(tables.refetches)
        self.subscriptions = rows_of(tables.subscriptions)
        self.refetches_of: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for refetch in self.refetches:
            self.refetches_of[refetch["subscriber"]].append(refetch)
        self.notifications_of: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for heard in self.notifications:
            self.notifications_of[heard["subscriber"]].append(heard)
        self.pages = [Page(row, self) for row in rows_of(tables.pages)]
        self.weight = {page.row["subscriber"]: page.weight for page in self.pages}

    def counted(self, update: dict[str, Any]) -> bool:
        return update["at"] is not None and self.start <= update["at"] < self.end

    def sent(self, update: dict[str, Any]) -> bool:
        """Whether its deliveries count: by its commit, or by when it was accepted, where the commit is not known."""
        at = update["published_at"] if update["committed_at"] is None else update["committed_at"]
        return at is not None and update["status"] != "failed" and bool(self.start <= at < self.end)

    def figures(self) -> dict[str, Any]:
        return self.pairs() | self.deliveries() | self.staleness() | self.outcomes()

    def pairs(self) -> dict[str, Any]:
        count: dict[str, float] = defaultdict(float)
        delays: list[tuple[float, float]] = []
        starved = set()
        away = silent = 0.0
        for page in self.pages:
            for update in page.owes:
                if not self.counted(update) or not page.opened <= update["at"] < page.closed:
                    continue
                if page.row["loaded_version"] is not None and page.version(update) is not None and page.load_contains(update):
                    continue
                fate, fresh = page.fate(update)
                count[fate] += page.weight
                count["owed"] += page.weight
                if fate in ("shown", "never"):
                    delays.append((fresh - update["intended_at"], page.weight))
                if fate == "never":
                    starved.add(update["update"])
                if update["published_at"] is None:
                    silent += page.weight if update["committed_at"] is not None else 0.0
                elif page.row["policy"] != "polling" and not self.subscribed(update, page.row["subscriber"]):
                    away += page.weight
        asked = count["shown"] + count["never"]
        known = count["unknown"] <= 0.01 * count["owed"]
        figures = {f"pairs.{name}": count[name] for name in ("owed", "shown", "never", "left", "unknown")}
        figures |= {"deliveries.missed_while_away": away, "deliveries.not_broadcast": silent}
        figures["starved_ratio"] = count["never"] / asked if asked and known else None
        figures["starved_updates"] = len(starved) if known else None
        for p in (50, 95, 99):
            figures[f"time_to_fresh.p{p}"] = quantile(delays, p / 100) if known else None
        total = sum(delay * weight for delay, weight in delays)
        figures["time_to_fresh.mean"] = total / asked if asked and known else None
        return figures

    def expected(self) -> list[tuple[dict[str, Any], dict[str, Any], bool]]:
        """(update, subscription, whether it is certain) of each delivery that may have been expected."""
        found = []
        for update in self.updates:
            accepted = update["published_at"]
            if accepted is None:
                continue
            begun = update["intended_at"] if update["committed_at"] is None else update["committed_at"]
            earliest = min(accepted, begun) if self.measured else accepted
            for channel in channels(update["resource"], update["resource_id"], self.scenario):
                for subscription in self.subscriptions:
                    if subscription["channel"] != channel or subscription["reason"] == "refused":
                        continue
                    since = subscription["subscribed_at"]
                    ended = INF if subscription["ended_at"] is None else subscription["ended_at"]
                    if since <= accepted and ended > earliest:
                        found.append((update, subscription, since <= earliest and ended > accepted))
        return found

    def match(self) -> tuple[dict[tuple[int, int, str], float | None], list[tuple[dict[str, Any], str]]]:
        """(arrival of each expected delivery, what came beyond them and as what)."""
        may: dict[tuple[int, int, str], bool] = {}
        for update, subscription, certain in self.expected():
            key = (update["update"], subscription["subscriber"], subscription["channel"])
            may[key] = may.get(key, False) or certain
        arrival: dict[tuple[int, int, str], float | None] = {}
        beyond = []
        seen = set()
        for heard in sorted(self.notifications, key=lambda row: row["received_at"]):
            if heard["update"] is None:
                continue
            key = (heard["update"], heard["subscriber"], heard["channel"])
            if key in seen:
                beyond.append((heard, "duplicate"))
            elif key in may:
                arrival[key] = heard["received_at"]
            else:
                beyond.append((heard, "unexpected"))
            seen.add(key)
        for key, certain in may.items():
            if certain:
                arrival.setdefault(key, None)
        return arrival, beyond

    def subscribed(self, update: dict[str, Any], subscriber: int) -> bool:
        if not hasattr(self, "_matched"):
            self._matched = {(serial, page) for serial, page, _ in self.match()[0]}
        return (update["update"], subscriber) in self._matched

    def deliveries(self) -> dict[str, Any]:
        arrival, beyond = self.match()
        mine = {key: at for key, at in arrival.items() if self.sent(self.by_serial[key[0]])}
        expected = sum(self.weight[page] for _, page, _ in mine)
        received = sum(self.weight[page] for (_, page, _), at in mine.items() if at is not None)
        figures = {"deliveries.expected": expected, "deliveries.received": received, "deliveries.missing": expected - received}
        for kind in ("duplicate", "unexpected"):
            rows = [heard for heard, what in beyond if what == kind and self.sent(self.by_serial[heard["update"]])]
            figures[f"deliveries.{kind}"] = sum(self.weight[row["subscriber"]] for row in rows)
        delays, first, last = [], {}, {}
        for (serial, page, _), at in mine.items():
            if at is not None:
                update = self.by_serial[serial]
                delays.append((at - update["intended_at"], self.weight[page]))
                if update["committed_at"] is None:
                    continue
                since = at - update["committed_at"]
                first[serial], last[serial] = min(first.get(serial, INF), since), max(last.get(serial, -INF), since)
        for p in (50, 95, 99):
            figures[f"time_to_notified.p{p}"] = quantile(delays, p / 100)
        for name, values in (("first", first), ("last", last)):
            figures[f"fan_out.{name}.p50"] = quantile([(value, 1.0) for value in values.values()], 0.5)
        return figures

    def staleness(self) -> dict[str, Any]:
        stale = unknown = observed = age = aged = 0.0
        at_end = open_then = doubtful = 0.0
        for page in self.pages:
            edges = page.edges(self.start, self.end)
            for low, high in itertools.pairwise(edges):
                length = (high - low) * page.weight
                state = page.stale(low)
                observed += length
                stale += length if state else 0.0
                unknown += length if state is None else 0.0
                newest = page.newest_contained(low)
                if newest is not None:
                    aged += length
                    age += length * ((low + high) / 2 - newest)
            if page.closed == INF and page.opened < self.over:
                before = max([page.opened, *(at for at in page.edges(page.opened, self.over)[:-1])])
                state = page.stale(before)
                open_then += page.weight
                at_end += page.weight if state else 0.0
                doubtful += page.weight if state is None else 0.0
        known = observed - unknown
        told = doubtful <= 0.01 * open_then
        sure = known > 0 and unknown <= 0.01 * observed
        return {
            "stale_ratio": stale / known if sure else None,
            "age_of_information.mean": age / aged if aged and sure else None,
            "pages.stale_at_end": at_end if told else None,
            "pages.stale_at_end_ratio": at_end / (open_then - doubtful) if told and open_then > doubtful else None,
        }

    def outcomes(self) -> dict[str, Any]:
        polling = {page.row["subscriber"] for page in self.pages if page.row["policy"] == "polling"}
        count: dict[str, float] = defaultdict(float)
        for refetch in self.refetches:
            last = self.end if refetch["subscriber"] in polling else self.over
            if self.start <= refetch["started_at"] < last:
                count[refetch["outcome"]] += self.weight[refetch["subscriber"]]
        figures: dict[str, Any] = {"refetches": sum(count.values())}
        for name in ("applied", "not_newer", "superseded", "cancelled", "failed", "running"):
            figures[f"refetches.{name}"] = count[name]
        figures["refetches.wasted"] = count["not_newer"] + count["superseded"] + count["cancelled"]
        updates = sum(1 for update in self.updates if self.start <= update["intended_at"] < self.end)
        figures["refetches_per_update"] = figures["refetches"] / updates if updates else None
        return figures


def quantile(values: list[tuple[float, float]], p: float) -> float | None:
    """The smallest value that a share *p* of the weights does not exceed."""
    total = sum(weight for _, weight in values)
    reached = 0.0
    for value, weight in sorted(values):
        reached += weight
        if reached >= p * total - 1e-9:
            return value
    return None
