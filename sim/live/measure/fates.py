"""The fate of each update, from both ends: the answer that the publisher got, and what the subscribers heard.

| the answer to the publisher          | heard     | not heard, pages listened | no page did     |
|--------------------------------------|-----------|---------------------------|-----------------|
| success, and when it was published   | committed | committed                 | committed       |
| success, not (yet) published         | committed | not_broadcast             | committed       |
| success, nothing about publication   | committed | unknown                   | committed       |
| not broadcast, by decision           | committed | not_broadcast             | not_broadcast   |
| no answer, or an unclear one         | committed | unknown                   | unknown         |
| refused, or could not connect        | committed | failed                    | failed          |
| committed when the run was over      | failed    | failed                    | failed          |

*unknown*, of a success: an application that says nothing about publication may have changed nothing, so that there was no event,
or may have lost the event. That is not called a loss of the broadcaster.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from sim.clock import SECOND
from sim.results import parts


def update_columns(
    rows: pd.DataFrame, first_at: pd.Series, posted_at: pd.Series, listened: np.ndarray, epoch: int, over: float
) -> dict[str, Any]:
    """Columns of the bundle's `updates`: float seconds since *epoch*.

    *rows*: the publisher's (`sent.SCHEMA`, nullable), without those that changed nothing. *first_at*: update -> first arrival at
    anybody. *posted_at*: update -> published_at of its payload. *listened*: see below. All instants ns since 1970.
    *over*: when the run was over, s since *epoch*. What was committed later is in no database of the run, and has no version.

    The instant of the commit is known from the application only; else there is none. The instant of the publication is that in
    the answer, else that in the payload, else the answer's end; never later than the first arrival.
    """
    heard = rows["update"].map(first_at).astype("Int64")
    known = rows["published_at"].fillna(rows["update"].map(posted_at).astype("Int64"))
    certain = (heard.notna() | known.notna()).to_numpy()
    status, tells = rows["status"].to_numpy(object), rows["tells"].to_numpy(bool)
    unheard = (status == "committed") & ~certain & listened
    fate = np.select([certain, unheard & tells, unheard], ["committed", "not_broadcast", "unknown"], default=status)
    late = (rows["committed_at"] > epoch + round(over * SECOND)).fillna(False).to_numpy(bool)
    fate = np.where(late, "failed", fate)
    published = known.fillna(rows["finished_at"].astype("Int64"))
    published = published.fillna(heard).where((published <= heard).fillna(True), heard).where(fate == "committed")
    committed = rows["committed_at"].where((fate == "committed") | (fate == "not_broadcast"))
    columns: dict[str, Any] = {name: rows[name].to_numpy() for name in ("update", "resource", "resource_id")}
    columns |= {name: pa.array(rows[name].mask(late), pa.int64(), from_pandas=True) for name in ("version", "sequence")}
    columns["intended_at"] = parts.seconds(rows["intended_at"].to_numpy("int64"), epoch)
    for name, at in (("committed_at", committed), ("published_at", published)):
        columns[name] = parts.seconds(at.fillna(parts.NEVER).to_numpy("int64"), epoch)
    return columns | {"status": fate.tolist()}


def listened(rows: pd.DataFrame, subscriptions: pd.DataFrame) -> np.ndarray:
    """Whether, for each row, a page was subscribed to one of its channels from when it was sent until it was answered.

    *subscriptions*: channel, subscribed_at_ns, ended_at_ns (`parts.NEVER`: still open).
    """
    spans = {
        str(channel): (mine["subscribed_at_ns"].to_numpy(), mine["ended_at_ns"].to_numpy())
        for channel, mine in subscriptions.groupby("channel", observed=True)
    }
    found = np.zeros(len(rows), bool)
    finished_at = rows["finished_at"].fillna(rows["started_at"])
    for i, (since, until, mine) in enumerate(zip(rows["started_at"], finished_at, rows["channels"], strict=True)):
        for began, ended in (spans[channel] for channel in mine if channel in spans):
            found[i] |= bool(((began <= since) & ((ended >= until) | (ended < 0))).any())
    return found


def without_change(rows: pd.DataFrame, heard: pd.Index) -> np.ndarray:
    """Whether a row's change changed nothing: the application says so, or it says nothing and answers with the version that the
    resource had before, and no page heard of it. (A version of whole seconds stays the same where there were two changes in one.)

    *rows*: the publisher's, in the order of the updates. *heard*: updates that some page heard of.
    """
    versions = rows["version"].where(rows["status"] == "committed")
    before = versions.groupby([rows["resource"], rows["resource_id"]]).transform(lambda known: known.ffill().shift())
    same = (versions == before).fillna(False).to_numpy(bool)
    silent = (rows["changed"].isna() & ~rows["update"].isin(heard)).to_numpy()
    return (rows["status"] == "unchanged").to_numpy() | (same & silent)


def without_broken_versions(rows: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The publisher's rows without the versions of resources whose versions went back, and without all sequence numbers where
    these did; and a line for each.

    Such a target counts anew (a restored backup, a counter in memory that a deploy has cleared), so a page that shows version 9
    need not contain version 2. A change that began when another had its answer must have at least its version.
    """
    lines = []
    for name, of, what in (("version", ["resource", "resource_id"], "versions of {} resources"), ("sequence", [], "sequence")):
        known = rows[rows[name].notna() & rows["finished_at"].notna()].astype({"started_at": "int64", "finished_at": "int64"})
        if known.empty:
            continue
        before = known.sort_values("finished_at")
        before["most"] = (before.groupby(of)[name] if of else before[name]).cummax()
        later = known.sort_values("started_at")
        found = pd.merge_asof(
            later, before[[*of, "finished_at", "most"]], left_on="started_at", right_on="finished_at", by=of or None
        )
        broken = found[(found["most"] > found[name]).fillna(False).to_numpy(bool)]
        if broken.empty:
            continue
        count = len(broken.drop_duplicates(of)) if of else 0
        mine = pd.MultiIndex.from_frame(rows[of]).isin(pd.MultiIndex.from_frame(broken[of])) if of else np.ones(len(rows), bool)
        rows = rows.assign(**{name: rows[name].mask(mine)})
        lines.append(f"the {what.format(count)} in the answers to changes went back: which update a page shows cannot be told")
    return rows, lines


def with_outcomes(rows: pd.DataFrame, path: Path) -> pd.DataFrame:
    """The publisher's rows with what the embedded application has noted of their events since it answered (a line of JSON each:
    update, outcome, at): a queue publishes later. Unchanged where there is no such file."""
    if not path.exists():
        return rows
    noted = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
    at = pd.Series({line["update"]: line["at"] for line in noted if line["outcome"] == "accepted"}, dtype="Int64")
    known = rows["update"].isin({line["update"] for line in noted})
    return rows.assign(
        published_at=rows["published_at"].fillna(rows["update"].map(at).astype("Int64")), tells=rows["tells"] | known
    )
