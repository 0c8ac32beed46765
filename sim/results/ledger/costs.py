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


def level(run: Run, process: str, metric: str) -> float:
    """The largest value of a gauge, summed over all processes of that name; NaN without samples.

    *process*: `broadcaster` also means its nodes (`broadcaster-1`, ...).
    """
    rows = _samples(run, process, metric)
    return float(rows.groupby("process", observed=True)["value"].max().sum()) if len(rows) else float("nan")


def _samples(run: Run, process: str, metric: str) -> pd.DataFrame:
    names = run.metrics["process"].astype(str)
    mine = (names == process) | names.str.startswith(f"{process}-")
    return run.metrics[mine & (run.metrics["metric"].astype(str) == metric)].sort_values("at", kind="stable")


def spent(run: Run, process: str, metric: str = "cpu_seconds") -> pd.DataFrame:
    """One row between two samples of a counter in the window: seconds, used (its growth, over all processes of that name), and
    what happened in the same time: events (commits), deliveries (received), refetches (answered). Empty without samples."""
    ledger = ledger_of(run)
    rows = _samples(run, process, metric)
    rows = rows[rows["at"].between(ledger.window.start, ledger.window.end)]
    if metric == "cpu_seconds":
        # A load process counts for itself as well, from another beginning: the kernel's samples have its descriptors beside them.
        kernels = rows["at"].isin(_samples(run, process, "descriptors")["at"])
        rows = rows[kernels] if kernels.any() else rows
    parts = [one for _, rows in rows.groupby("process", observed=True) if len(one := rows.drop_duplicates("at")) > 1]
    if not parts:
        return pd.DataFrame(columns=["seconds", "used", "events", "deliveries", "refetches"], dtype=float)
    # Processes of one kind are sampled at one instant, or as good as.
    count = min(map(len, parts))
    edges = parts[0]["at"].to_numpy(float)[:count]
    heard, fetched = run.notifications, run.refetches
    return pd.DataFrame(
        {
            "seconds": np.diff(edges),
            "used": sum(np.diff(one["value"].to_numpy(float)[:count]) for one in parts),
            "events": np.histogram(run.updates["committed_at"].dropna(), edges)[0].astype(float),
            "deliveries": np.histogram(heard["received_at"], edges, weights=weight_of(heard["subscriber"], run.pages))[0],
            # A herd is sent at an instant and worked on for seconds: what was answered is what was done.
            "refetches": np.histogram(
                fetched["finished_at"].fillna(np.inf), edges, weights=weight_of(fetched["subscriber"], run.pages)
            )[0],
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
    broadcaster, application = (spent(run, name).sum() for name in ("broadcaster", "application"))
    bytes_sent, frames = (
        float(spent(run, "broadcaster", f"broadcaster_{what}_sent_total")["used"].sum()) for what in ("bytes", "messages")
    )
    return {
        "events": events,
        "deliveries": deliveries,
        "receivers": _ratio(deliveries, events),
        "cpu_per_event": _ratio(broadcaster["used"], broadcaster["events"]),
        "cpu_per_delivery": _ratio(broadcaster["used"], broadcaster["deliveries"]),
        "bytes_per_delivery": _ratio(bytes_sent, frames),
        "memory": level(run, "broadcaster", "rss_bytes"),
        "refetches": refetches,
        "cpu_per_refetch": _ratio(application["used"], application["refetches"]),
        "bytes_per_refetch": _ratio(float((sent["bytes"] * sent["weight"]).sum()), refetches),
    }


def _ratio(amount: float, count: float) -> float:
    return float(amount / count) if count else float("nan")


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
    return pd.DataFrame({"at": at[1:][apart], "share": np.diff(used)[apart] / np.diff(at)[apart]})
