"""What a run cost its processes: CPU, bytes and memory, from the counters that they kept. Bundle -> figures.

A measured run samples each process once a second or so: CPU seconds and resident memory from the kernel, messages and bytes from
the broadcaster's own counters. A simulated run has none of them; its figures are NaN.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from sim.results.ledger.book import Ledger, Samples, ledger_of
from sim.results.ledger.views import weight_of
from sim.results.run import Run


def level(ledger: Ledger, process: str, metric: str) -> float:
    """The largest value of a gauge in the window, summed over all processes of that name; NaN without samples.

    *process*: `broadcaster` also means its nodes (`broadcaster-1`, ...).
    """
    found = _samples(ledger, process, metric)
    return float(sum(one.value.max() for one in found)) if found else float("nan")


def _samples(ledger: Ledger, process: str, metric: str) -> list[Samples]:
    """The samples of the window of each process of that name that has some, in order of time."""
    start, end, _ = ledger.window
    found = []
    for (name, what), one in ledger.samples.items():
        if what == metric and (name == process or name.startswith(f"{process}-")):
            order = np.argsort(one.at, kind="stable")
            order = order[(one.at[order] >= start) & (one.at[order] <= end)]
            if len(order):
                found.append(Samples(one.at[order], one.value[order]))
    return found


def spent(ledger: Ledger, process: str, metric: str = "cpu_seconds") -> pd.DataFrame:
    """One row between two samples of a counter in the window; empty without samples.

    Columns: at (the later one), seconds, used (its growth, over all processes of that name), and what happened in the same time:
    events (commits), deliveries (received), refetches (answered).
    """
    found = _samples(ledger, process, metric)
    if metric == "cpu_seconds":
        # A load process counts for itself as well, from another beginning: the kernel's samples have its descriptors beside them.
        beside = [one.at for one in _samples(ledger, process, "descriptors")]
        kernels = [np.isin(one.at, np.concatenate(beside)) for one in found] if beside else []
        if any(kernel.any() for kernel in kernels):
            found = [Samples(one.at[kernel], one.value[kernel]) for one, kernel in zip(found, kernels, strict=True)]
    distinct = [np.unique(one.at, return_index=True) for one in found]
    parts = [Samples(at, one.value[place]) for one, (at, place) in zip(found, distinct, strict=True) if len(at) > 1]
    if not parts:
        return pd.DataFrame(columns=["at", "seconds", "used", "events", "deliveries", "refetches"], dtype=float)
    # Processes of one kind are sampled at nearly the same instant.
    count = min(len(one.at) for one in parts)
    edges = parts[0].at[:count]
    pages, heard, fetched = ledger.tables.pages, ledger.tables.notifications, ledger.tables.refetches

    def weighed(at: pd.Series, subscriber: pd.Series) -> np.ndarray:
        return np.histogram(at, edges, weights=weight_of(subscriber, pages))[0]

    return pd.DataFrame(
        {
            "at": edges[1:],
            "seconds": np.diff(edges),
            "used": sum(np.diff(one.value[:count]) for one in parts),
            "events": np.histogram(ledger.tables.updates["committed_at"].dropna(), edges)[0].astype(float),
            "deliveries": weighed(heard["received_at"], heard["subscriber"]),
            # A herd is sent at an instant and worked on for seconds: what was answered is what was done.
            "refetches": weighed(fetched["finished_at"].fillna(np.inf), fetched["subscriber"]),
        }
    )


def costs(run: Run) -> dict[str, float]:
    """Figures of one run; NaN where its processes kept no counter.

    events, deliveries, refetches: those that count. receivers (deliveries per event), bytes_per_refetch, memory (bytes of the
    broadcaster). By the counters, each over what happened between their first and last sample in the window: cpu_per_event and
    cpu_per_delivery (s of the broadcaster), cpu_per_refetch (s of the application, its changes included), bytes_per_delivery (of
    all frames that the broadcaster wrote).
    """
    ledger = ledger_of(run)
    events = float(len(ledger.counted))
    heard, sent = ledger.expected.dropna(subset=["received_at"]), ledger.refetches
    deliveries, refetches = float(heard["weight"].sum()), float(sent["weight"].sum())
    broadcaster, application = (spent(ledger, name).sum() for name in ("broadcaster", "application"))
    bytes_sent, frames = (
        float(spent(ledger, "broadcaster", f"broadcaster_{what}_sent_total")["used"].sum()) for what in ("bytes", "messages")
    )
    return {
        "events": events,
        "deliveries": deliveries,
        "receivers": _ratio(deliveries, events),
        "cpu_per_event": _ratio(broadcaster["used"], broadcaster["events"]),
        "cpu_per_delivery": _ratio(broadcaster["used"], broadcaster["deliveries"]),
        "bytes_per_delivery": _ratio(bytes_sent, frames),
        "memory": level(ledger, "broadcaster", "rss_bytes"),
        "refetches": refetches,
        "cpu_per_refetch": _ratio(application["used"], application["refetches"]),
        "bytes_per_refetch": _ratio(float((sent["bytes"] * sent["weight"]).sum()), refetches),
    }


def _ratio(amount: float, count: float) -> float:
    return float(amount / count) if count else float("nan")


def arrivals(run: Run) -> pd.DataFrame:
    """`Ledger.fan_outs` with median (s since the commit), first_rank and ranks: of which rank the first recorded receiver is, and
    how many ranks the last is behind it.

    Where rows are a random sample, k of N, the ranks are the expected ones: (N + 1) / (k + 1) and (N + 1) (k - 1) / (k + 1).
    """
    ledger = ledger_of(run)
    table = ledger.fan_outs
    committed = run.updates.set_index("update")["committed_at"].reindex(table.index)
    median = ledger.expected.groupby("update")["received_at"].median().reindex(table.index) - committed
    first = (table["receivers"] + 1) / (table["recorded"] + 1)
    ranks = first * (table["recorded"] - 1)
    return table.assign(median=median, first_rank=first, ranks=ranks).drop(columns="recorded")
