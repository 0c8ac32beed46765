"""Rows of version 1 as rows of version 2 (see `sim.results.schema`), as far as they tell.

Version 1 wrote -1, 0 and "" for what was unknown, closed every subscription at the end of a measured run, had no lives of pages,
and called a refetch that still ran at the end `cancelled`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from sim.arrays import Array
from sim.results.frames import typed
from sim.results.schema import TABLES, nullable


def upgraded(tables: Mapping[str, pd.DataFrame], weight: float = 1.0) -> dict[str, pd.DataFrame]:
    """The tables of version 1 in version 2. *weight*: how many pages each recorded one stands for.

    `pages` among them: as given where they are, else made from the subscriptions.
    """
    found = {name: without_sentinels(name, frame) for name, frame in tables.items()}
    subscriptions = found["subscriptions"]
    over = (subscriptions["reason"] == "end").to_numpy()
    subscriptions["ended_at"] = subscriptions["ended_at"].where(~over)
    if "pages" in found:
        pages = found["pages"]
    else:
        pages, number = lives(subscriptions, weight)
        for name, at in (("subscriptions", "subscribed_at"), ("notifications", "received_at"), ("refetches", "due_at")):
            rows = found[name]
            rows["subscriber"] = number(rows["subscriber"].to_numpy(), rows[at].to_numpy())
    refetches = found["refetches"][found["refetches"]["started_at"].notna()].reset_index(drop=True)
    closed = pages["subscriber"].to_numpy()[pages["closed_at"].notna().to_numpy()]
    running = (
        (refetches["outcome"] == "cancelled").to_numpy()
        & refetches["finished_at"].isna().to_numpy()
        & ~np.isin(refetches["subscriber"].to_numpy(), closed)
    )
    outcome = refetches["outcome"].astype(object)
    outcome[running] = "running"
    found["refetches"] = refetches.assign(outcome=pd.Categorical(outcome))
    return found | {"pages": pages}


def without_sentinels(name: str, frame: pd.DataFrame) -> pd.DataFrame:
    """A copy with nulls for -1 (and for an HTTP status of 0) in the columns that have nulls."""
    frame = frame.copy()
    for field in TABLES[name]:
        if nullable(field):
            column = frame[field.name].astype("Int64")
            nothing = column <= 0 if field.name == "status" else column < 0
            frame[field.name] = column.mask(nothing.fillna(False).astype(bool))
    return typed(name, frame)


def lives(subscriptions: pd.DataFrame, weight: float = 1.0) -> tuple[pd.DataFrame, Callable[[Array, Array], Array]]:
    """(`pages`, the number of the life to which a row of a subscriber at an instant belongs), from subscriptions.

    A page opens with its first subscription. What follows a subscription that the page itself closed is another page: a further
    life of a subscriber has a number above all others. A page that was dropped or refused is still open.
    """
    rows = subscriptions.assign(subscribed_at=subscriptions["subscribed_at"].fillna(subscriptions["ended_at"]).fillna(0.0))
    rows = rows.sort_values(["subscriber", "subscribed_at"], kind="stable")
    closings = np.where(rows["reason"] == "closed", rows["ended_at"], np.nan).tolist()
    opened: dict[int, list[float]] = {}
    first: list[int] = []
    closed: list[float] = []
    for place, (seat, began, ended) in enumerate(
        zip(rows["subscriber"].tolist(), rows["subscribed_at"].tolist(), closings, strict=True)
    ):
        mine = opened.setdefault(seat, [])
        if not mine or closed[-1] <= began:
            mine.append(began)
            first.append(place)
            closed.append(ended)
        else:
            # NaN where this channel, the last to end, was not closed by the page.
            closed[-1] = max(closed[-1], ended) if closed[-1] == closed[-1] and ended == ended else ended
    highest = max(opened, default=-1)
    numbers: dict[int, list[int]] = {}
    for seat, mine in opened.items():
        numbers[seat] = [seat, *range(highest + 1, highest + len(mine))]
        highest += len(mine) - 1
    chosen = rows.iloc[first]
    pages = typed(
        "pages",
        {
            **{name: chosen[name].array for name in ("page", "user", "resource", "resource_id", "policy")},
            "subscriber": [number for mine in numbers.values() for number in mine],
            "opened_at": chosen["subscribed_at"],
            "closed_at": closed,
            "reason": np.where(np.isnan(np.array(closed, dtype=float)), "end", "closed"),
            "loaded_version": [None] * len(first),
            "hidden": [False] * len(first),
            "weight": [weight] * len(first),
        },
    )

    def number(subscriber: Array, at: Array) -> Array:
        """What comes before a subscriber's first life belongs to it."""
        result = subscriber.astype(np.int32)
        for place in np.flatnonzero(np.isin(subscriber, [seat for seat, mine in opened.items() if len(mine) > 1])):
            seat = int(subscriber[place])
            result[place] = numbers[seat][max(bisect_right(opened[seat], at[place]) - 1, 0)]
        return result

    return pages, number
