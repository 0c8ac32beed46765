"""How healthy was the target? What failed there is a result, not a fault of the harness, and it is said beside the verdict.

What failed must not remove itself from a ratio: an update that failed is expected of nobody, so all deliveries of a target that
is dead are there. These lines name what is missing.
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


def health(frames: Any, counters: Mapping[str, int]) -> Iterator[str]:
    """What went wrong with the target, a line each.

    *frames*: the tables of the bundle, over the whole run. *counters*: of the load processes.
    """
    status = frames.updates["status"].astype(str).value_counts()
    for name, what in WHAT.items():
        if count := int(status.get(name, 0)):
            yield f"{count} of {len(frames.updates)} {what}"
    outcomes = frames.refetches["outcome"].astype(str).value_counts()
    if failed := int(outcomes.get("failed", 0)):
        answers = frames.refetches.loc[frames.refetches["outcome"].astype(str) == "failed", "status"].tolist()
        kinds = Counter("no answer" if pd.isna(status) else f"HTTP {status}" for status in answers)
        said = ", ".join(f"{count} x {kind}" for kind, count in kinds.most_common())
        yield f"{failed} of {len(frames.refetches)} refetches failed ({said})"
    ended = frames.subscriptions[["subscriber", "reason"]].astype({"reason": str}).drop_duplicates()["reason"].value_counts()
    for reason in ("dropped", "refused"):
        if count := int(ended.get(reason, 0)):
            yield f"{count} pages were {reason}"
    if failures := counters.get("connect_failures", 0):
        yield f"{failures} attempts to connect failed"
    if (open_then := _open_when_it_broke(frames.subscriptions)) in SELECT:
        yield (
            f"{open_then} pages were subscribed when it broke: a Reverb without ext-uv or ext-ev ends at about 1,024 sockets "
            "(`php -m | grep -E 'uv|ev'` on its machine)"
        )


def _open_when_it_broke(subscriptions: pd.DataFrame) -> int:
    """Pages that were subscribed when the first of them was dropped; 0: none was."""
    dropped = subscriptions[subscriptions["reason"].astype(str) == "dropped"]
    if dropped.empty:
        return 0
    at = dropped["ended_at"].min()
    open_then = subscriptions[(subscriptions["subscribed_at"] <= at) & ~(subscriptions["ended_at"] < at)]
    return int(open_then["subscriber"].nunique())


def refusals_in(headers: Sequence[Mapping[str, Any]]) -> list[tuple[str, int]]:
    """What the target said in place of a connection, a subscription, a page; first why nobody could log in, as the others follow
    from it, then the most frequent."""
    total: Counter[str] = Counter()
    for header in headers:
        total.update(header.get("refusals", {}))
    return sorted(total.most_common(), key=lambda said: "login: " not in said[0])


def refused(frames: Any, headers: Sequence[Mapping[str, Any]], family: str = "REVERB") -> list[str]:
    """What the application or the broadcaster refused, with the remedy: what a run's result begins with, if there is any.
    *family*: see `remedy`."""
    outcomes = frames.refetches["outcome"].astype(str)
    statuses = Counter(int(status) for status in frames.refetches.loc[outcomes == "failed", "status"].dropna())
    lines = [
        f"{count} of {len(frames.refetches)} refetches, HTTP {status}: {advice}"
        for status, count in statuses.most_common()
        if (advice := remedy(f"HTTP {status}"))
    ]
    lines += [f"{count} x {text}: {advice}" for text, count in refusals_in(headers) if (advice := remedy(text, family))]
    return lines[:MOST]


def not_told(frames: Any, scenario: Scenario) -> Iterator[str]:
    """Figures that cannot be had because the application does not tell, and what would give them."""
    committed = frames.updates[frames.updates["status"].astype(str) == "committed"]
    if committed.empty or scenario.publisher.via != "routes":
        return
    if untold := int(committed["committed_at"].isna().sum()):
        yield (
            f"no time of the save for {untold} updates: the answers to changes do not say committed_at "
            "(workbench serve --members does)"
        )
    if scenario.load.refetch != "" or len(frames.refetches):
        path = scenario.load.version or "version"
        if unknown := int(committed["version"].isna().sum()):
            yield (
                f"no time to fresh for {unknown} updates: the answers to changes have no version at {path!r} (load.version names "
                "where both a change's answer and the resource have one)"
            )
