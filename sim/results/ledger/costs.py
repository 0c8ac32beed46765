"""What a run cost its processes: CPU, bytes and memory, from the counters that they kept. Bundle -> figures.

A measured run samples each process once a second or so: CPU seconds and resident memory from the kernel, messages and bytes from
the broadcaster's own counters. A simulated run has none of them; its figures are NaN.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from sim.results.ledger.book import ledger_of
from sim.results.ledger.views import weight_of
from sim.results.run import Run


def growth(run: Run, process: str, metric: str) -> float:
    """By how much a counter grew from its first sample to its last, over all processes of that name; NaN without samples.

    *process*: `broadcaster` also means its nodes (`broadcaster-1`, ...).
    """
    rows = _samples(run, process, metric)
    if rows.empty:
        return float("nan")
    by = rows.groupby("process", observed=True)["value"]
    return float((by.last() - by.first()).sum())


def level(run: Run, process: str, metric: str) -> float:
    """The largest value of a gauge, summed over all processes of that name; NaN without samples."""
    rows = _samples(run, process, metric)
    return float(rows.groupby("process", observed=True)["value"].max().sum()) if len(rows) else float("nan")


def _samples(run: Run, process: str, metric: str) -> pd.DataFrame:
    names = run.metrics["process"].astype(str)
    mine = (names == process) | names.str.startswith(f"{process}-")
    return run.metrics[mine & (run.metrics["metric"].astype(str) == metric)].sort_values("at", kind="stable")


def costs(run: Run) -> dict[str, float]:
    """Figures of one run; NaN where its processes kept no counter.

    events, deliveries (frames the broadcaster sent), receivers (deliveries per event), cpu_per_event (s of the broadcaster),
    cpu_per_delivery (s), bytes_per_delivery, memory (bytes of the broadcaster), refetches, cpu_per_refetch (s of the application,
    its changes included), bytes_per_refetch.
    """
    ledger = ledger_of(run)
    events = len(ledger.counted)
    counted = deliveries = growth(run, "broadcaster", "broadcaster_messages_sent_total")
    if np.isnan(deliveries) or run.scenario.broadcaster.nodes > 1:  # the counters are then those of one node
        deliveries = float(weight_of(run.notifications["subscriber"], run.pages).sum())
    broadcaster, application = (growth(run, name, "cpu_seconds") for name in ("broadcaster", "application"))
    sent = ledger.refetches
    weight = sent["weight"].to_numpy(dtype=float)
    refetches = float(weight.sum())
    return {
        "events": float(events),
        "deliveries": deliveries,
        "receivers": deliveries / events if events else float("nan"),
        "cpu_per_event": broadcaster / events if events else float("nan"),
        "cpu_per_delivery": broadcaster / deliveries if deliveries else float("nan"),
        "bytes_per_delivery": growth(run, "broadcaster", "broadcaster_bytes_sent_total") / counted if counted else float("nan"),
        "memory": level(run, "broadcaster", "rss_bytes"),
        "refetches": refetches,
        "cpu_per_refetch": application / refetches if refetches else float("nan"),
        "bytes_per_refetch": float(np.average(sent["bytes"], weights=weight)) if len(sent) else float("nan"),
    }


def arrivals(run: Run) -> pd.DataFrame:
    """One row per counted event: receivers, first, median, last (s since it was committed), spread (first to last, s), first_rank
    and ranks: of which rank the first recorded receiver is, and how many ranks the last is behind it.

    Where rows are a random sample, k of N, the ranks are the expected ones: (N + 1) / (k + 1) and (N + 1) (k - 1) / (k + 1).
    """
    ledger = ledger_of(run)
    came = ledger.expected.dropna(subset=["received_at"])
    committed = run.updates.set_index("update")["committed_at"].reindex(came["update"]).to_numpy()
    grouped = came.assign(delay=came["received_at"].to_numpy() - committed).groupby("update")
    table = grouped.agg(
        receivers=("weight", "sum"),
        recorded=("delay", "size"),
        first=("delay", "min"),
        median=("delay", "median"),
        last=("delay", "max"),
    )
    first = (table["receivers"] + 1) / (table["recorded"] + 1)
    ranks = first * (table["recorded"] - 1)
    return table.assign(spread=table["last"] - table["first"], first_rank=first, ranks=ranks).drop(columns="recorded")


def cpu_share(run: Run, process: str = "application") -> pd.DataFrame:
    """CPU of a process over time: at (s), share (of one core), between its samples."""
    rows = _samples(run, process, "cpu_seconds")
    at, used = rows["at"].to_numpy(dtype=float), rows["value"].to_numpy(dtype=float)
    apart = np.diff(at) > 0
    return pd.DataFrame({"at": at[1:][apart], "share": (np.diff(used) / np.where(np.diff(at) > 0, np.diff(at), 1))[apart]})
