"""The ledger of one run: everything that a figure is made from, worked out once when it is asked for.

Bundles and a simulator's tables in memory are read alike. The modules that make the figures define them: `pairs`, `matching`,
`staleness`, `views`.
"""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np
import pandas as pd

from sim.arrays import Array
from sim.results.ledger import matching, pairs, staleness, views
from sim.results.ledger.order import place_of
from sim.results.run import over_at, window_of
from sim.scenario import Scenario

INSTANTS = ["intended_at", "committed_at", "published_at", "received_at", "due_at", "started_at", "fresh_at"]
"""The stations of one update on its way to one page, in the usual order (a refetch may start before the notification comes)."""


class RunTables(Protocol):
    """What a bundle and a simulator's result in memory have in common: frames by the schemas of `sim.results.schema.TABLES`."""

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
    @property
    def metrics(self) -> pd.DataFrame: ...


class RunWindow(NamedTuple):
    """[start, end) is counted; the run was over at *over*. Seconds since the run's start."""

    start: float
    end: float
    over: float


class Samples(NamedTuple):
    """The samples of one metric of one process, in the order of the table."""

    at: Array
    value: Array


class Ledger:
    """The ledger of a bundle, or of tables in memory (then with their *scenario*). Each part is computed once, when asked for."""

    def __init__(self, tables: RunTables, scenario: Scenario | None = None) -> None:
        self.tables = tables
        self.scenario: Scenario = tables.scenario if scenario is None else scenario  # type: ignore[attr-defined]
        manifest = getattr(tables, "manifest", None)
        self.measured = manifest is not None and manifest.source == "measured"
        self.window = _window(manifest.window if manifest is not None else {}, self.scenario)

    @cached_property
    def sampled(self) -> bool:
        """Whether rows stand for more pages than their own."""
        return bool((self.tables.pages["weight"] != 1).any())

    @cached_property
    def samples(self) -> dict[tuple[str, str], Samples]:
        """(process, metric) -> its samples, by the names of the processes, then of the metrics."""
        rows = self.tables.metrics
        process, metric = (rows[name].astype("category").cat for name in ("process", "metric"))
        kinds = len(metric.categories)
        key = process.codes.to_numpy(np.int64) * kinds + metric.codes.to_numpy(np.int64)
        order = np.argsort(key, kind="stable")
        at, value = (rows[name].to_numpy(float)[order] for name in ("at", "value"))
        keys, first = np.unique(key[order], return_index=True)
        pieces = zip(keys.tolist(), first.tolist(), [*first[1:].tolist(), len(order)][: len(keys)], strict=True)
        return {
            (str(process.categories[key // kinds]), str(metric.categories[key % kinds])): Samples(at[low:high], value[low:high])
            for key, low, high in pieces
        }

    @cached_property
    def counted(self) -> pd.DataFrame:
        """The updates that count: intended inside the window; where that is not known, accepted inside it."""
        at = self.tables.updates["intended_at"].fillna(self.tables.updates["published_at"])
        return self.tables.updates[(at >= self.window.start) & (at < self.window.end)]

    @cached_property
    def views(self) -> views.Views:
        return views.views(self.tables, self.scenario, self.window.over)

    @cached_property
    def pairs(self) -> pd.DataFrame:
        """`pairs.pairs`, with the pages' weight and kind, the update's intended_at, the time to fresh from then on (`delay`, s;
        inf: never), and whether its event was accepted and was missed: missed_while_away (the page listens and had no confirmed
        subscription then), not_broadcast (though it is known to be committed)."""
        found = pairs.pairs(self.views, *self.window)
        pages, updates = self.tables.pages, self.tables.updates
        page, update = found["page"].to_numpy(), found["update"].to_numpy()
        accepted, committed = (updates[name].notna().to_numpy(bool)[update] for name in ("published_at", "committed_at"))
        polls = views.polls(pages, self.scenario)[page]
        intended = updates["intended_at"].to_numpy(float)[update]
        return found.assign(
            weight=pages["weight"].to_numpy(float)[page],
            kind=pages["page"].astype("category").array[page],
            intended_at=intended,
            delay=np.where(found["fate"] == "never", np.inf, found["fresh_at"] - intended),
            missed_while_away=accepted & ~polls & ~self._covered(update, page),
            not_broadcast=~accepted & committed,
        )

    def _covered(self, update: Array, page: Array) -> Array:
        """Whether the page was expected to hear of the update on some channel."""
        expected = self.deliveries.expected
        number = self.tables.pages["subscriber"].to_numpy(np.int64)[page]
        serial = self.tables.updates["update"].to_numpy(np.int64)[update]
        hearing = expected["subscriber"].to_numpy(np.int64)
        span = int(max(number.max(initial=0), hearing.max(initial=0))) + 1
        known = np.unique(expected["update"].to_numpy(np.int64) * span + hearing)
        return place_of(known, serial * span + number) >= 0

    @cached_property
    def deliveries(self) -> matching.Deliveries:
        """Of the whole run."""
        return matching.deliveries(self.tables, self.scenario, self.measured)

    @cached_property
    def window_serials(self) -> Array:
        """Serials of the updates committed in the window, sorted: of them deliveries and pairs are counted. An application that
        does not tell when it committed has done so before the event was accepted, which then decides for the deliveries. An event
        that was sent on save may be of a change that failed."""
        updates = self.tables.updates
        accepted = updates["published_at"].where((updates["status"] != "failed").to_numpy(bool))
        at = updates["committed_at"].fillna(accepted)
        return np.sort(updates["update"].to_numpy(np.int64)[((at >= self.window.start) & (at < self.window.end)).to_numpy(bool)])

    @cached_property
    def expected(self) -> pd.DataFrame:
        """The expected deliveries that count, with the reason for which one did not arrive (`matching.REASONS`), the update's
        intended_at, and the time to notified from then on (`delay`, s; NaN: it did not arrive, or since when is not known)."""
        rows, updates = self.deliveries.expected, self.tables.updates
        intended = updates["intended_at"].to_numpy(float)[place_of(updates["update"], rows["update"])]
        reason = matching.missing(self.deliveries, self.window.over, self.measured)
        rows = rows.assign(reason=reason, intended_at=intended, delay=rows["received_at"].to_numpy(float) - intended)
        return rows[np.isin(rows["update"].to_numpy(), self.window_serials)].reset_index(drop=True)

    @cached_property
    def beyond(self) -> pd.DataFrame:
        """The further arrivals (`matching.Deliveries`) that count: of the same updates, or of an unknown one."""
        rows = self.deliveries.beyond
        return rows[(rows["update"].isna() | rows["update"].isin(self.window_serials)).to_numpy(bool)]

    @cached_property
    def fan_outs(self) -> pd.DataFrame:
        """One row per update (serial) of which some delivery that counts arrived, in order: recorded (rows), receivers (the pages
        behind them), first, last (s since the commit; NaN: that is not known) and spread (s between the two)."""
        came = self.expected["received_at"].notna().to_numpy(bool)
        serial, at, weight = (self.expected[name].to_numpy()[came] for name in ("update", "received_at", "weight"))
        edge = np.flatnonzero(np.r_[True, serial[1:] != serial[:-1]]) if len(serial) else np.zeros(0, np.int64)
        first, last = np.minimum.reduceat(at, edge), np.maximum.reduceat(at, edge)
        updates, index = self.tables.updates, pd.Index(serial[edge], name="update")
        committed = updates["committed_at"].to_numpy(float)[place_of(updates["update"], index)]
        columns = {"recorded": np.diff(edge, append=len(serial)), "receivers": np.add.reduceat(weight, edge)}
        return pd.DataFrame(columns | {"first": first - committed, "last": last - committed, "spread": last - first}, index)

    @cached_property
    def states(self) -> staleness.States:
        return staleness.states(self.views)

    def staleness(self, start: float | None = None, end: float | None = None) -> pd.DataFrame:
        """`staleness.staleness` over a part of the run; the window, where none is given."""
        window = self.window
        part = (window.start if start is None else start, window.end if end is None else end)
        return staleness.staleness(self.states, self.tables.pages, *part, window.over)

    @cached_property
    def refetches(self) -> pd.DataFrame:
        """The refetches that count, in order of their start, with weight and whether the page polls: sent in the window, the
        cool-down or the drain; polls in the window only."""
        rows, pages = self.tables.refetches, self.tables.pages
        at = rows["started_at"].to_numpy(float)
        # The place of a page that is not recorded is -1: the last.
        of_poll = np.r_[views.polls(pages, self.scenario), False][place_of(pages["subscriber"], rows["subscriber"])]
        last = np.where(of_poll, self.window.end, self.window.over)
        kept = (at >= self.window.start) & (at < last)
        rows = rows.assign(weight=views.weight_of(rows["subscriber"], pages), polled=of_poll)
        return rows[kept].sort_values("started_at", kind="stable").reset_index(drop=True)

    @cached_property
    def journeys(self) -> pd.DataFrame:
        """One row per owed pair: update (serial), subscriber, page (its kind), fate, weight, and the `INSTANTS` (NaN: it never
        happened, or is not known). Ordered by update, then subscriber."""
        found, updates, pages = self.pairs, self.tables.updates, self.tables.pages
        update, page = found["update"].to_numpy(), found["page"].to_numpy()
        frame = pd.DataFrame(
            {
                "update": updates["update"].to_numpy(np.int64)[update],
                "subscriber": pages["subscriber"].to_numpy(np.int64)[page],
                "page": found["kind"].cat.remove_unused_categories(),
                "fate": found["fate"],
                "weight": found["weight"],
                **{name: updates[name].to_numpy(float)[update] for name in ("intended_at", "committed_at", "published_at")},
            }
        )
        # A page that hears an update on two channels is still one page: the first arrival counts.
        first = self.deliveries.expected.groupby(["update", "subscriber"])["received_at"].min()
        heard = pd.MultiIndex.from_arrays([frame["update"], frame["subscriber"]])
        frame["received_at"] = first.reindex(heard).to_numpy(float)
        for name in ("due_at", "started_at", "fresh_at"):
            frame[name] = found[name]
        return frame


def ledger_of(run: RunTables) -> Ledger:
    """The ledger of a bundle, kept with the bundle so that each part is computed once."""
    kept = vars(run)
    if "_ledger" not in kept:
        kept["_ledger"] = Ledger(run)
    ledger: Ledger = kept["_ledger"]
    return ledger


def _window(window: dict[str, float], scenario: Scenario) -> RunWindow:
    known = window or window_of(scenario)
    return RunWindow(known["start"], known["end"], over_at(known))
