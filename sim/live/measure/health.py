"""What failed at the target. It is a result, not a fault of the harness, and is reported beside the verdict.

A failed update is expected at no page, so that a ratio of deliveries does not show it: a dead target would have delivered
everything. These lines name what is missing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from sim.live.remedies import remedy
from sim.scenario import Scenario

SELECT = range(950, 1_025)
"""Connections at which a PHP process that lives on `stream_select` ends."""

MOST = 3
"""Refusals that a result begins with."""

WHAT = {
    "failed": "updates failed",
    "unknown": "updates of which nobody knows whether they were committed",
    "not_broadcast": "updates committed, their event never accepted",
}
"""Status of an update -> the words for those that have it."""


def health(frames: Any, counters: Mapping[str, int], undisturbed: bool = True) -> Iterator[str]:
    """What went wrong with the target, a line each.

    *frames*: the tables of the bundle, over the whole run. *counters*: of the load processes. *undisturbed*: whether connections
    that broke may be the target's own doing: it is no target of this project, and the scenario broke nothing on purpose.
    """
    status = frames.updates["status"].astype(str).value_counts()
    for name, what in WHAT.items():
        if count := int(status.get(name, 0)):
            yield f"{count} of {len(frames.updates)} {what}"
    outcomes = frames.refetches["outcome"].astype(str).value_counts()
    if failed := int(outcomes.get("failed", 0)):
        answers = frames.refetches.loc[frames.refetches["outcome"].astype(str) == "failed", "status"].tolist()
        kinds = ["no answer" if pd.isna(status) else f"HTTP {status}" for status in answers]
        yield f"{failed} of {len(frames.refetches)} refetches failed ({_counted(kinds)})"
    yield from _ends(frames)
    if failures := counters.get("connect_failures", 0):
        yield f"{failures} attempts to connect failed"
    if undisturbed and (open_then := _open_when_it_broke(frames.subscriptions)) in SELECT:
        yield (
            f"{open_then} pages were subscribed when it broke: a Reverb without ext-uv or ext-ev ends at about 1,024 sockets "
            "(`php -m | grep -E 'uv|ev'` on its machine)"
        )


def _counted(kinds: Sequence[str]) -> str:
    return ", ".join(f"{count} x {kind}" for kind, count in Counter(kinds).most_common())


def _ends(frames: Any) -> Iterator[str]:
    """Pages that lost their subscriptions or never had them, and those that were still open then and heard nothing more."""
    subscriber, reason = frames.subscriptions["subscriber"], frames.subscriptions["reason"].astype(str)
    of: dict[str, set[int]] = {name: set(subscriber[reason == name]) for name in ("dropped", "refused", "end", "closed")}
    away = of["dropped"] - of["end"] - of["closed"] - set(frames.pages.loc[frames.pages["closed_at"].notna(), "subscriber"])
    if of["dropped"]:
        yield f"{len(of['dropped'])} pages were dropped" + (f", {len(away)} of them were not back at the end" if away else "")
    if of["refused"]:
        yield f"{len(of['refused'])} pages were refused"


def _open_when_it_broke(subscriptions: pd.DataFrame) -> int:
    """Pages that were subscribed when the first of them was dropped; 0: none was."""
    dropped = subscriptions[subscriptions["reason"].astype(str) == "dropped"]
    if dropped.empty:
        return 0
    at = dropped["ended_at"].min()
    open_then = subscriptions[(subscriptions["subscribed_at"] <= at) & ~(subscriptions["ended_at"] < at)]
    return int(open_then["subscriber"].nunique())


def _total(headers: Sequence[Mapping[str, Any]], name: str) -> Counter[str]:
    total: Counter[str] = Counter()
    for header in headers:
        total.update(header.get(name, {}))
    return total


def refusals_in(headers: Sequence[Mapping[str, Any]]) -> list[tuple[str, int]]:
    """The target's messages in place of a connection, a subscription or a page, with their counts: first why users could not log
    in, since the others follow from it, then the most frequent."""
    return sorted(_total(headers, "refusals").most_common(), key=lambda refusal: "login: " not in refusal[0])


def refused(frames: Any, headers: Sequence[Mapping[str, Any]], family: str = "REVERB") -> list[str]:
    """What the application or the broadcaster refused, with the remedy: a run's result begins with these lines.
    *family*: see `remedy`."""
    outcomes = frames.refetches["outcome"].astype(str)
    statuses = Counter(int(status) for status in frames.refetches.loc[outcomes == "failed", "status"].dropna())
    said = [(f"HTTP {status}" + " without JSON" * (200 <= status < 300), count) for status, count in statuses.most_common()]
    lines = [
        f"{count} of {len(frames.refetches)} refetches, {text}: {advice}" for text, count in said if (advice := remedy(text))
    ]
    lines += [f"{count} x {text}: {advice}" for text, count in refusals_in(headers) if (advice := remedy(text, family))]
    return lines[:MOST]


def missing_figures(frames: Any, scenario: Scenario, headers: Sequence[Mapping[str, Any]] = ()) -> Iterator[str]:
    """Figures that cannot be had because the application's answers do not contain what they need, and what would give them; and
    events to which no page listens. *headers*: of the load processes."""
    for name, count in _total(headers, "strangers").most_common(MOST):
        yield f"{count} events {name} came, to which no page listens ([[pages]] events, or broadcast.broadcast_as)"
    found = frames.refetches[frames.refetches["outcome"].astype(str) != "failed"]
    answered = found[found["status"].between(200, 299).fillna(False).to_numpy(bool)]
    if unnamed := int(answered["version"].isna().sum()):
        yield (
            f"no version in the answers to {unnamed} of {len(answered)} refetches (load.version, or the pages' own, names where "
            "their JSON has a number or a time that grows with each change)"
        )
    committed = frames.updates[frames.updates["status"].astype(str) == "committed"]
    if committed.empty or scenario.publisher.via != "routes":
        return
    if undated := int(committed["committed_at"].isna().sum()):
        yield (
            f"no time of the save for {undated} updates, so it is not known which pages owe them, and above one in a hundred of "
            "the pairs there is no freshness: the answers to changes do not say committed_at (workbench serve --members does)"
        )
    if scenario.load.refetch != "" or len(frames.refetches):
        path = scenario.load.version or "version"
        if unknown := int(committed["version"].isna().sum()):
            yield (
                f"no time to fresh for {unknown} updates: the answers to changes have no version at {path!r} (load.version names "
                "where both a change's answer and the resource have one)"
            )
