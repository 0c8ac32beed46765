"""Who had to hear of an update, who did, and from when each page showed it.

The tables of a bundle say what happened at one end each; here they are joined:

    deliveries(tables, broadcast)   one row per (update, subscription that had to hear it)
    journeys(tables, scenario)      one row per (update, page that had to show it), with every instant on its way

Both are plain joins on sorted integer keys, so 500,000 rows take a fraction of a second. What did not happen stays as a row
with NaN: a missing delivery and an update that no refetch ever brought are results, not gaps.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import pandas as pd

from sim.scenario import Scenario

Array = np.ndarray[Any, Any]

GRACE = 1.0
"""Seconds for which a page that was closed on purpose may have missed what was on its way; it is not counted as a loss."""

INSTANTS = ["intended_at", "committed_at", "published_at", "received_at", "due_at", "started_at", "fresh_at"]
"""The stations of one update on its way to one page, in the usual order (a refetch may start before the notification comes)."""


class Tables(Protocol):
    """What a bundle and a simulator's result in memory have in common: frames by the schemas of `sim.results.run.TABLES`."""

    @property
    def updates(self) -> pd.DataFrame: ...
    @property
    def notifications(self) -> pd.DataFrame: ...
    @property
    def refetches(self) -> pd.DataFrame: ...
    @property
    def subscriptions(self) -> pd.DataFrame: ...
    @property
    def pages(self) -> pd.DataFrame: ...


def channels_of(resource: str, resource_id: int, scenario: Scenario) -> list[str]:
    """Names on the wire of the channels on which a change of this resource is broadcast, as `Broadcast.channels` says."""
    specific, generic = f"private-{resource}s.{resource_id}", f"private-{resource}s"
    match scenario.broadcast.channels:
        case "specific":
            return [specific]
        case "generic":
            return [generic]
        case "per_user":
            # Users own equal runs of ids, as the fleet is seeded.
            fleet = scenario.fleet
            each = max(fleet.sites_per_user if resource == "site" else fleet.servers_per_user, 1)
            return [specific, f"private-users.{(resource_id - 1) // each + 1}.{resource}s"]
        case _:
            return [specific, generic]


def whole(column: pd.Series) -> Array:
    """A nullable column of whole numbers as int64; -1: null."""
    return np.asarray(column.fillna(-1).to_numpy(), dtype=np.int64)


def attribute(tables: Tables, scenario: Scenario) -> pd.DataFrame:
    """The notifications, each with its update.

    A foreign target does not say which update a notification is of (-1 in the table). It then is taken to be of the latest update
    committed on its channel before it came; -1 stays where there is none. Returns the table itself where nothing is to be done.
    """
    notifications = tables.notifications
    unknown = whole(notifications["update"]) < 0
    if not unknown.any():
        return notifications
    sent = _sent(tables.updates, scenario).dropna(subset=["committed_at"]).sort_values("committed_at")
    asked = notifications.loc[unknown, ["channel", "received_at"]].astype({"channel": str}).sort_values("received_at")
    found = pd.merge_asof(
        asked.reset_index(), sent, left_on="received_at", right_on="committed_at", by="channel", direction="backward"
    )
    notifications = notifications.copy()
    notifications.loc[found["index"].to_numpy(), "update"] = found["update"].to_numpy(dtype=float, na_value=np.nan)
    return notifications


def _sent(updates: pd.DataFrame, scenario: Scenario) -> pd.DataFrame:
    """One row per (update, channel): position (of the update in its table), update, committed_at, channel."""
    pairs = [
        (i, channel)
        for i, (resource, resource_id) in enumerate(zip(updates["resource"], updates["resource_id"], strict=True))
        for channel in channels_of(resource, resource_id, scenario)
    ]
    position = np.array([i for i, _ in pairs], dtype=np.int64)
    rows = updates[["update", "committed_at"]].iloc[position].reset_index(drop=True)
    return rows.assign(position=position, channel=pd.Series([channel for _, channel in pairs], dtype=str))


def _silent(subscriptions: pd.DataFrame) -> Array:
    """Pages that listen to nothing: they poll."""
    return subscriptions["channel"].isna().to_numpy() | (subscriptions["channel"] == "").to_numpy()


def _codes(*columns: pd.Series) -> list[Array]:
    """The texts of several columns as integers, equal in all of them where the texts are; -1: none. Looks at categories only."""
    names: dict[str, int] = {}
    found = []
    for column in columns:
        kinds = column.astype("category").cat
        number = np.array([names.setdefault(str(name), len(names)) for name in kinds.categories] + [-1], dtype=np.int64)
        found.append(number[kinds.codes.to_numpy()])
    return found


def _cross(keys: Array, others: Array) -> tuple[Array, Array]:
    """Indices (i, j) of all pairs with keys[i] == others[j], ordered by i: a join without a frame."""
    order = np.argsort(others, kind="stable")
    low = np.searchsorted(others[order], keys, side="left")
    count = np.searchsorted(others[order], keys, side="right") - low
    i = np.repeat(np.arange(len(keys)), count)
    within = np.arange(len(i)) - np.repeat(np.cumsum(count) - count, count)
    return i, order[np.repeat(low, count) + within]


def _listening(tables: Tables, scenario: Scenario) -> pd.DataFrame:
    """Pairs (update, subscription on a channel of it that was open when it was sent), as positions and instants."""
    updates, subscriptions = tables.updates, tables.subscriptions
    sent = _sent(updates, scenario)
    row, s = _cross(*_codes(sent["channel"], subscriptions["channel"]))
    u = sent["position"].to_numpy()[row]
    return _open(updates, subscriptions, u, s)


def _open(updates: pd.DataFrame, subscriptions: pd.DataFrame, u: Array, s: Array) -> pd.DataFrame:
    """Those of the pairs in which the subscription was there from before the commit until after the publication."""
    committed = updates["committed_at"].to_numpy()[u]
    published = updates["published_at"].to_numpy()[u]
    sent = np.where(np.isnan(published), committed, published)
    ended = subscriptions["ended_at"].fillna(np.inf).to_numpy()[s]
    keep = (subscriptions["subscribed_at"].to_numpy()[s] <= committed) & (ended > sent)
    return pd.DataFrame({"u": u[keep], "s": s[keep], "sent": sent[keep], "ended": ended[keep]})


def deliveries(tables: Tables, scenario: Scenario) -> pd.DataFrame:
    """One row per delivery that had to happen: update, subscriber, channel, received_at (NaN: missing), in order of the updates.

    Expected is every subscription that was open on a channel of a published update; not one that the page itself closed within
    `GRACE` of it without having received it.
    """
    updates, subscriptions = tables.updates, tables.subscriptions
    pairs = _listening(tables, scenario)
    pairs = pairs[updates["published_at"].notna().to_numpy()[pairs["u"].to_numpy()]]
    notifications = attribute(tables, scenario)
    expected = pd.DataFrame(
        {
            "update": updates["update"].to_numpy()[pairs["u"]],
            "subscriber": subscriptions["subscriber"].to_numpy()[pairs["s"]],
            "channel": subscriptions["channel"].astype("category").array[pairs["s"].to_numpy()],
        }
    )
    expected["received_at"] = _first_arrival(expected, notifications)
    own_will = subscriptions["reason"].isin(["closed", "end"]).to_numpy()[pairs["s"]]
    left = own_will & (pairs["ended"] - pairs["sent"] < GRACE).to_numpy()
    return expected[expected["received_at"].notna() | ~left].reset_index(drop=True)


def _keys(left: pd.DataFrame, right: pd.DataFrame) -> tuple[Array, Array]:
    """One integer per row for (update, subscriber, channel), equal in both frames where the rows mean the same delivery."""
    both = [np.concatenate([whole(left[name]), whole(right[name])]) for name in ("update", "subscriber")]
    channel = np.concatenate(_codes(left["channel"], right["channel"])) + 1
    channels, subscribers = int(channel.max(initial=0)) + 1, int(both[1].max(initial=0)) + 1
    keys = (both[0] * channels + channel) * subscribers + both[1]
    return keys[: len(left)], keys[len(left) :]


def _first_arrival(expected: pd.DataFrame, notifications: pd.DataFrame) -> Array:
    """received_at of the first notification of each expected delivery; NaN where none came."""
    wanted, came = _keys(expected, notifications)
    received = notifications["received_at"].to_numpy()
    order = np.lexsort((received, came))
    at = np.searchsorted(came[order], wanted)
    hit = at < len(order)
    hit[hit] = came[order][at[hit]] == wanted[hit]
    result = np.full(len(wanted), np.nan)
    result[hit] = received[order][at[hit]]
    return result


def duplicates(notifications: pd.DataFrame) -> int:
    """Arrivals beyond the first of the same update at the same subscriber on the same channel (updates known only)."""
    known = notifications[whole(notifications["update"]) >= 0]
    keys, _ = _keys(known, known.iloc[:0])
    keys.sort()
    return int((keys[1:] == keys[:-1]).sum())


def out_of_order(tables: Tables, notifications: pd.DataFrame) -> int:
    """Arrivals that came after one of a later committed update, on the same channel at the same subscriber.

    Two updates whose publications overlap in time may be accepted in either order; the pattern tolerates it (the refetch reads
    the newest state), a client that applies payloads does not.
    """
    sequence = pd.Series(whole(tables.updates["sequence"]), index=tables.updates["update"].to_numpy())
    rank = sequence.reindex(whole(notifications["update"])).to_numpy()
    known = ~np.isnan(rank.astype(float))
    rank = rank[known].astype(np.int64)
    channel = _codes(notifications["channel"])[0][known] + 1
    subscriber = notifications["subscriber"].to_numpy()[known].astype(np.int64)
    group = subscriber * (channel.max(initial=0) + 1) + channel
    order = np.lexsort((notifications["received_at"].to_numpy()[known], group))
    # A group's ranks, lifted above all ranks of the groups before it: one running maximum then serves all groups.
    _, dense = np.unique(group, return_inverse=True)
    lifted = (rank + dense * (rank.max(initial=0) + 1))[order]
    return int((lifted < np.maximum.accumulate(lifted)).sum()) if len(lifted) else 0


def journeys(tables: Tables, scenario: Scenario) -> pd.DataFrame:
    """One row per (update, page that had to show it): update, subscriber, page, channel, the `INSTANTS`, ended_at (inf: the end).

    `fresh_at` is the end of the page's first applied refetch whose version holds the update (for a page of full payloads: its
    arrival); `due_at` and `started_at` are that refetch's. NaN: it never happened. Ordered by update, then subscriber.
    """
    pairs = _interested(tables, scenario)
    u, s = pairs["u"].to_numpy(), pairs["s"].to_numpy()
    updates, subscriptions = tables.updates, tables.subscriptions
    frame = updates.iloc[u][["update", "intended_at", "committed_at", "published_at"]].reset_index(drop=True)
    frame.insert(1, "subscriber", subscriptions["subscriber"].to_numpy()[s])
    for name in ("page", "channel"):
        frame[name] = subscriptions[name].astype("category").cat.remove_unused_categories().array[s]
    frame["received_at"] = _first_arrival(frame, attribute(tables, scenario))
    board = (subscriptions["resource"] == "dashboard").to_numpy()[s]
    wanted = np.where(board, whole(updates["sequence"])[u], whole(updates["version"])[u])
    refetch = _first_applied(tables.refetches, frame["subscriber"].to_numpy(), wanted)
    frame["due_at"], frame["started_at"], frame["fresh_at"] = refetch.T
    full = _full_payload(subscriptions, scenario)[s]
    if full.any():
        frame.loc[full, "fresh_at"] = np.fmin(frame["fresh_at"], _first_payload(frame))[full]
    frame["ended_at"] = pairs["ended"].to_numpy()
    frame = frame.sort_values(["update", "subscriber", "received_at"], kind="stable")
    # A page that hears an update on two channels is still one page: the first arrival counts.
    return frame.drop_duplicates(["update", "subscriber"]).reset_index(drop=True)


def _interested(tables: Tables, scenario: Scenario) -> pd.DataFrame:
    """Pairs (update, page that shows its resource): of those that listen to it, and of those without a channel, which poll.

    A detail page may hear of other servers (where everything goes out on the generic channel): it has nothing to show for them.
    """
    updates, subscriptions = tables.updates, tables.subscriptions
    board = (subscriptions["resource"] == "dashboard").to_numpy()
    shown = subscriptions["resource_id"].to_numpy().astype(np.int64) * 2 + (subscriptions["resource"] == "site").to_numpy()
    changed = updates["resource_id"].to_numpy().astype(np.int64) * 2 + (updates["resource"] == "site").to_numpy()
    heard = _listening(tables, scenario)
    u, s = heard["u"].to_numpy(), heard["s"].to_numpy()
    heard = heard[np.where(board[s], _on_board(tables, scenario)[u] == _shown_to(tables, scenario)[s], shown[s] == changed[u])]
    silent = _silent(subscriptions)
    if not silent.any():
        return heard
    boards, others = np.flatnonzero(silent & board), np.flatnonzero(silent & ~board)
    u1, s1 = _cross(_on_board(tables, scenario), _shown_to(tables, scenario)[boards])
    u2, s2 = _cross(changed, shown[others])
    polled = _open(updates, subscriptions, np.concatenate([u1, u2]), np.concatenate([boards[s1], others[s2]]))
    return pd.concat([heard, polled], ignore_index=True)


def _everyones(tables: Tables, scenario: Scenario) -> bool:
    """Whether dashboards show everyone's resources (in runs of version 1 their version counted everyone's changes)."""
    return scenario.api.dashboard_of == "everyone" or getattr(tables, "schema_version", 2) < 2


def _on_board(tables: Tables, scenario: Scenario) -> Array:
    """Per update: the user on whose dashboards it is to be seen; 0: on all."""
    updates, fleet = tables.updates, scenario.fleet
    if _everyones(tables, scenario):
        return np.zeros(len(updates), np.int64)
    each = np.where(updates["resource"] == "site", fleet.sites_per_user, fleet.servers_per_user)
    return (updates["resource_id"].to_numpy().astype(np.int64) - 1) // np.maximum(each, 1) + 1


def _shown_to(tables: Tables, scenario: Scenario) -> Array:
    """Per subscription: whose resources a dashboard shows; 0: everyone's."""
    user = tables.subscriptions["user"].to_numpy().astype(np.int64)
    return np.zeros_like(user) if _everyones(tables, scenario) else user


def _full_payload(subscriptions: pd.DataFrame, scenario: Scenario) -> Array:
    """Which subscriptions are of pages that show what the event carries instead of refetching.

    Subscribers are no guide to the scenario's `pages`: a load test numbers them by worker. So the recorded policy decides; where
    a run has none, the kind of page must do.
    """
    policy = subscriptions["policy"]
    known = (policy.notna() & (policy != "")).to_numpy()
    kinds = [pages.page for pages in scenario.pages if scenario.policy_of(pages).kind == "full_payload"]
    return np.where(known, policy == "full_payload", subscriptions["page"].isin(kinds))


def _first_payload(journeys: pd.DataFrame) -> Array:
    """When a full payload first brought the update: its own, or that of a later one, since each carries the whole state."""
    backwards = journeys[["subscriber", "received_at"]].iloc[::-1].fillna(np.inf)
    first = backwards.groupby("subscriber")["received_at"].cummin().iloc[::-1].to_numpy()
    return np.where(np.isfinite(first), first, np.nan)


def _first_applied(refetches: pd.DataFrame, subscriber: Array, version: Array) -> Array:
    """(due_at, started_at, finished_at) of each subscriber's first applied refetch with at least this version; NaN: none.

    Applied versions of one page only grow, so the running maximum per page is sorted and one binary search finds each.
    """
    applied = refetches[(refetches["outcome"] == "applied").to_numpy()]
    who = applied["subscriber"].to_numpy().astype(np.int64)
    got = whole(applied["version"])
    order = np.lexsort((applied["finished_at"].to_numpy(), who))
    span = int(max(got.max(initial=0), version.max(initial=0))) + 2
    lifted = np.maximum.accumulate(who[order] * span + np.maximum(got[order], 0)) if len(order) else who
    at = np.searchsorted(lifted, subscriber.astype(np.int64) * span + version)
    hit = at < len(order)
    hit[hit] = who[order][at[hit]] == subscriber[hit]
    result = np.full((len(subscriber), 3), np.nan)
    instants = applied[["due_at", "started_at", "finished_at"]].to_numpy(dtype=float)[order]
    result[hit] = instants[at[hit]]
    return result


def newest_update(refetches: pd.DataFrame, updates: pd.DataFrame) -> Array:
    """For each refetch the position in *updates* of the newest one that its answer held; by time where the answer does not say.

    An answer without a version of the run (failed, or older than it) belongs to the latest update intended before it was sent.
    *updates* must not be empty, and be in order of their instants.
    """
    kinds = {"server": 0, "site": 1, "dashboard": 2}
    position = np.arange(len(updates))
    site = (updates["resource"] == "site").to_numpy().astype(np.int64)
    version, sequence = whole(updates["version"]), whole(updates["sequence"])
    got = whole(refetches["version"])
    span = int(max(version.max(), sequence.max(), got.max(initial=0))) + 2
    place = updates["resource_id"].to_numpy().astype(np.int64) * 3 + site
    known = np.concatenate([place * span + version, np.full(len(updates), 2) * span + sequence])
    resource = refetches["resource"].astype("category").cat
    kind = np.array([kinds.get(str(name), -1) for name in resource.categories] + [-1], dtype=np.int64)[resource.codes.to_numpy()]
    wanted = (np.where(kind == 2, 0, refetches["resource_id"].to_numpy()) * 3 + kind) * span + got
    order = np.argsort(known, kind="stable")
    at = np.minimum(np.searchsorted(known[order], wanted), len(known) - 1)
    by_version = np.concatenate([position, position])[order][at]
    by_time = np.searchsorted(updates["intended_at"].to_numpy(), refetches["started_at"].to_numpy(), side="right") - 1
    return np.where((known[order][at] == wanted) & (got >= 0), by_version, np.maximum(by_time, 0))
