"""What a measured run says of its target's parameters: one row per event, sizes of answers, processor time. Bundle -> frames.

The only module that reads runs for a fit. A run that could mislead is refused by name, before anything is worked out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from typing import Any

import numpy as np
import pandas as pd

from sim.errors import BadInput
from sim.results.ledger import costs
from sim.results.ledger.book import Ledger, ledger_of
from sim.results.run import Run
from sim.results.schema import SCHEMA_VERSION
from sim.results.summary import Summary, summarise
from sim.scenario import Scenario

SHARED = (
    "broadcaster.model",
    "broadcaster.cost",
    "broadcaster.nodes",
    "broadcast.dispatch",
    "broadcast.payload",
    "publisher.via",
)
"""Keys of a scenario that runs of one target have in common: what is fitted belongs to them."""

IDLE = 0.0005
"""Seconds for which the broadcaster must have been silent for an event to count as alone."""

LOCAL = ("127.", "::1", "localhost", "[::1]")


@dataclass(frozen=True)
class Observed:
    """One run, in the terms of the model. Instants in seconds since the run's start."""

    run: Run

    @property
    def name(self) -> str:
        return self.run.name

    @property
    def scenario(self) -> Scenario:
        return self.run.scenario

    @property
    def ledger(self) -> Ledger:
        return ledger_of(self.run)

    @cached_property
    def summary(self) -> Summary:
        """Made anew from the tables: the file beside them may say anything."""
        return summarise(self.run)

    @property
    def seconds(self) -> float:
        start, end, _ = self.ledger.window
        return end - start

    @property
    def subscribers(self) -> int:
        """The most pages that were open at once, by their weights: one that leaves and is replaced is two rows."""
        pages = self.run.pages
        gone = pages[pages["closed_at"].notna()]
        at = np.r_[pages["opened_at"], gone["closed_at"]]
        change = np.r_[pages["weight"], -gone["weight"]]
        return round(float(np.cumsum(change[np.lexsort((change, at))]).max(initial=0.0)))

    @property
    def floor(self) -> float | None:
        """The least time from a write to the arrival that this machine was calibrated with; None: not known, or another host."""
        found = self.run.manifest.harness.get("floor_p50")
        return float(found) if found is not None and _is_local(self.run) else None

    @cached_property
    def answered(self) -> pd.Series:
        """Update -> when its change was answered: with `dispatch = "now"` the broadcaster had answered its publish by then, and
        not long before. NaN where it was not noted (`published_at` is no such instant: it is at most the first arrival)."""
        if self.scenario.broadcast.dispatch != "now":
            return pd.Series(np.nan, index=self.run.updates["update"])
        return self.sent + self._spans["answer_seconds"]

    @cached_property
    def sent(self) -> pd.Series:
        """Update -> when its change left the publisher. NaN where it was not noted."""
        intended = self.run.updates.set_index("update")["intended_at"]
        return intended + self._spans["waited_seconds"] + self._spans["lateness"]

    @cached_property
    def _spans(self) -> pd.DataFrame:
        """Update -> what the publisher noted of it: waited_seconds (for the one before), lateness, answer_seconds."""
        names = ["waited_seconds", "lateness", "answer_seconds"]
        rows = self.run.metrics[self.run.metrics["process"].astype(str) == "publisher"]
        spans = rows[rows["metric"].astype(str).isin(names)]
        took = spans.assign(place=spans.groupby(["at", "metric"], observed=True).cumcount())
        took = took.pivot_table(index=["at", "place"], columns="metric", values="value", observed=True)
        # By instant, and where several changes have one, in their order.
        updates = self.run.updates
        key = pd.MultiIndex.from_arrays([updates["intended_at"], updates.groupby("intended_at").cumcount()])
        return took.reindex(index=key, columns=names).set_axis(updates["update"], axis=0)

    @cached_property
    def events(self) -> pd.DataFrame:
        """One row per counted event that was received, in the order of their commits: update, intended, committed,
        answered (NaN: not noted), receivers (deliveries on all its channels, per node), first, last (instants, of the whole
        fan-out where rows are a sample), ranks (how many writes of a node lie between them), before (the last arrival of all
        events before it; -inf), alone (the broadcaster had been silent).
        """
        table, updates = costs.arrivals(self.run), self.run.updates.set_index("update")
        nodes = self.scenario.broadcaster.nodes
        rows = updates.reindex(table.index)
        committed = rows["committed_at"].to_numpy(float)
        receivers = np.maximum(table["receivers"].to_numpy(float) / nodes, 1.0)
        found = pd.DataFrame(
            {
                "update": table.index.to_numpy(),
                "intended": rows["intended_at"].to_numpy(float),
                "committed": committed,
                "answered": self.answered.reindex(table.index).to_numpy(float),
                "receivers": receivers,
                "first": committed + table["first"].to_numpy(float),
                "last": committed + table["last"].to_numpy(float),
                "ranks": np.maximum((table["ranks"].to_numpy(float) + 1) / nodes - 1, 0.0),
                "first_rank": np.maximum(table["first_rank"].to_numpy(float) / nodes, 1.0),
            }
        )
        found = found[np.isfinite(found["committed"])].sort_values("committed", kind="stable").reset_index(drop=True)
        last = found["last"].to_numpy()
        before = np.r_[-np.inf, np.maximum.accumulate(last)[:-1]] if len(last) else last
        return found.assign(before=before, alone=found["committed"].to_numpy() > before + IDLE)

    @cached_property
    def answers(self) -> pd.DataFrame:
        """Refetches that were answered, in the order of their answers: started, finished, bytes, status, board, weight."""
        sent = self.ledger.refetches
        done = sent[sent["finished_at"].notna() & sent["status"].isin((200, 304))].sort_values("finished_at", kind="stable")
        return pd.DataFrame(
            {
                "started": done["started_at"].to_numpy(float),
                "finished": done["finished_at"].to_numpy(float),
                "bytes": done["bytes"].to_numpy(float),
                "status": done["status"].to_numpy(np.int64),
                "board": (done["resource"] == "dashboard").to_numpy(bool),
                "weight": done["weight"].to_numpy(float),
            }
        )


def observe(runs: Sequence[Run]) -> list[Observed]:
    """The runs, each verified. Raises `BadInput` that names the run and what is wrong with it, or what two runs do not share."""
    for run in runs:
        _require_sound(run)
    names = [run.manifest.run_id for run in runs]
    if len(set(names)) < len(names):
        twice = next(run.name for run in runs if names.count(run.manifest.run_id) > 1)
        raise BadInput(f"{twice} is given twice: one run says no more by being counted twice")
    first = runs[0]
    for other in runs[1:]:
        for what, ours, theirs in zip(("machine", *SHARED), _identity(first), _identity(other), strict=True):
            if ours != theirs:
                raise BadInput(
                    f"{first.name} and {other.name} are not of one target: {what} is {ours!r} and {theirs!r} (fit them apart)"
                )
    return [Observed(run) for run in runs]


def _identity(run: Run) -> tuple[Any, ...]:
    host = run.manifest.host
    scenario = run.scenario
    machine = f"{host.get('machine', '?')}, {host.get('cores', '?')} cores, {'loopback' if _is_local(run) else _host(run)}"
    return (machine, *(attrgetter(key)(scenario) for key in SHARED))


def _host(run: Run) -> str:
    return str(((run.manifest.target or {}).get("ws") or {}).get("host", ""))


def _is_local(run: Run) -> bool:
    return _host(run).startswith(LOCAL)


def _require_sound(run: Run) -> None:
    manifest = run.manifest
    if manifest.source != "measured":
        raise BadInput(f"{run.directory} is simulated: its parameters are in its scenario already")
    if run.schema_version != SCHEMA_VERSION:
        raise BadInput(f"{run.directory} is of schema version {run.schema_version}: a fit reads {SCHEMA_VERSION} (measure anew)")
    if manifest.partial:
        raise BadInput(f"{run.directory} is partial: it was interrupted (measure it anew)")
    if not manifest.validity.get("ok"):
        reasons = "; ".join(map(str, manifest.validity.get("reasons", []))) or "no reason given"
        raise BadInput(f"{run.directory} is invalid: {reasons}")
    run.verify()
    if run.scenario.incidents:
        raise BadInput(f"{run.directory} has incidents: what a target does in trouble are not its costs (measure a run without)")
    for name in ("updates", "notifications", "refetches", "subscriptions", "pages", "metrics"):
        run.table(name)
