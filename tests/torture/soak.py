"""Load with churn for long: does anything grow?"""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t as student

from sim.results.run import Run
from tests.torture.case import Stage, case, need
from tests.torture.commands import Command

SOAK = """
duration = {seconds}
warmup = 20
drain = 2
cooldown = 0
workload = {{kind = "poisson", rate = {rate}}}
policy = {{kind = "window", wait = 0.2}}
load = {{connect_rate = 100, http = "per_subscriber"}}
pages = [
    {{page = "detail", subscribers = {detail}, session = {{kind = "exponential", scale = 20}}}},
    {{page = "dashboard", subscribers = {dashboards}, session = {{kind = "exponential", scale = 20}}}},
]
"""
ROOT = Path(__file__).resolve().parents[2]
BATCHES = 12
GROWTH = 0.10
"""Share of its level by which a figure may surely (lower end of the interval) grow within the run: beyond that it is a leak."""


def slope(at: pd.Series[float], value: pd.Series[float]) -> tuple[float, float, float]:
    """(growth over the whole time as a share of the level, lower and upper end at 95 %) of a straight line through the means of
    batches of equal time: samples a second apart are not independent, batches nearly are."""
    batch = pd.cut(at, BATCHES, labels=False)
    y = value.groupby(batch).mean().to_numpy()
    x = at.groupby(batch).mean().to_numpy()
    n = len(y)
    x = (x - x.mean()) / (x.max() - x.min())
    b = float((x * (y - y.mean())).sum() / (x * x).sum())
    residual = y - y.mean() - b * x
    error = math.sqrt(float((residual**2).sum()) / (n - 2) / float((x * x).sum()))
    half = float(student.ppf(0.975, n - 2)) * error
    level = float(y.mean()) or 1.0
    return b / level, (b - half) / level, (b + half) / level


def figures(run: Run) -> Iterator[tuple[str, pd.Series[float], pd.Series[float]]]:
    """(name, instants, values) within the window (descriptors: in its second half): memory and descriptors of each process,
    latency of what was shown. Descriptors of the broadcaster are those for each connection that it knows: their number alone
    follows that of the pages, which are fewer while the machine is busy."""
    window = run.manifest.window
    metrics = run.metrics[run.metrics["at"].between(window["start"], window["end"])]
    for process in ("broadcaster", "application", "harness-0"):
        for metric in ("rss_bytes", "descriptors"):
            rows = metrics[(metrics["process"] == process) & (metrics["metric"] == metric)]
            if metric == "descriptors":
                # Connections to the database are opened as they are needed at once, and kept: two pools, full by then.
                rows = rows[rows["at"] > (window["start"] + window["end"]) / 2]
            name, at, value = f"{process} {metric}", rows["at"], rows["value"].astype(float)
            if (process, metric) == ("broadcaster", "descriptors"):
                known = _connections(metrics).set_index("at")["value"].reindex(at).set_axis(at.index)
                name, value = f"{name} per connection", (value / known)[known > 0]
            if len(value) > 2 * BATCHES:
                yield name, at[value.index], value
    heard = run.notifications.merge(run.updates[["update", "intended_at"]], on="update")
    heard = heard[heard["intended_at"].between(window["start"], window["end"])]
    yield "time to notified", heard["intended_at"], heard["received_at"] - heard["intended_at"]
    done = run.refetches[run.refetches["finished_at"].notna()]
    done = done[done["started_at"].between(window["start"], window["end"])]
    yield "refetch latency", done["started_at"], done["finished_at"] - done["started_at"]


@case
def soak_with_churn(stage: Stage) -> Iterator[str]:
    """Pages that come and go for minutes (--long: 30 minutes at 2,000): memory, descriptors, latency of target and load process
    do not grow; slopes with their 95 % intervals, over the window (descriptors: its second half) as a share of the level. Where
    the run says itself that the machine was too busy to trust it (exit 4), latencies are shown and not judged."""
    # A connection a page: with a shared pool refetches wait for one in the client, and the run does not trust its latencies.
    # Every dashboard hears every change: four times the pages at a quarter of the rate, so that the application keeps up.
    seconds, subscribers, rate = (1800, 2000, 1) if stage.long else (130, 500, 4)
    pages = {"detail": subscribers * 3 // 4, "dashboards": subscribers // 4}
    (stage.place / "soak.toml").write_text(SOAK.format(seconds=seconds, rate=rate, **pages))
    command = Command(stage.place, "loadtest", "soak.toml", "-o", "run", "--json")
    code = command.finish(seconds + 240)
    need(code in (0, 4), f"exit {code}: {command.said}")
    run = Run(command.output)
    stage.figures.update(measured(run) | {"pages": subscribers, "seconds": seconds, "exit": code})
    yield f"{subscribers} pages at a time, {stage.figures['lives']} in all, {seconds} s, exit {code}: {command.said}"
    grown = []
    for name, row in stage.figures["slopes"].items():
        yield f"{name} {_slope(row)}"
        if row["ci_low"] > GROWTH and (code == 0 or name not in ("time to notified", "refetch latency")):
            grown.append(f"{name} grows by {row['ci_low']:.1%} at least")
    need(not grown, "; ".join(grown))


def _connections(metrics: pd.DataFrame) -> pd.DataFrame:
    return metrics[metrics["metric"].astype(str).str.startswith("broadcaster_connections{")]


def measured(run: Run) -> dict[str, Any]:
    """What the JSON keeps of a soak: lives, pages that were connected at a time (mean), and the slopes."""
    window = run.manifest.window
    rows = run.metrics[run.metrics["at"].between(window["start"], window["end"])]
    connected = _connections(rows)["value"].mean()
    slopes = {}
    for name, at, value in figures(run):
        grows, low, high = slope(at, value)
        slopes[name] = {"level": float(np.mean(value)), "growth": grows, "ci_low": low, "ci_high": high}
    return {"lives": int(run.pages["subscriber"].nunique()), "connected": float(connected), "slopes": slopes}


def _slope(row: Mapping[str, float]) -> str:
    return f"{row['growth']:+.1%} [{row['ci_low']:+.1%}, {row['ci_high']:+.1%}]"


def markdown(figures: Mapping[str, Any]) -> str:
    """The table of docs/robustness.md, of `figures` in the JSON."""
    head = (
        f"{figures['pages']} pages wanted, {figures['connected']:.0f} connected at a time on average, {figures['lives']} lives, "
    )
    rows = [
        f"{head}{figures['seconds']} s, exit {figures['exit']}:",
        "",
        "| figure | level | growth, 95 % interval |",
        "| --- | --- | --- |",
    ]
    for name, row in figures["slopes"].items():
        level = (
            f"{row['level'] / 1e6:.1f} MB"
            if "bytes" in name
            else f"{row['level']:.3f}"
            if "per connection" in name
            else f"{row['level']:.0f}"
            if "desc" in name
            else f"{row['level']:.2f} s"
        )
        rows.append(f"| {name} | {level} | {_slope(row)} |")
    return "\n".join(rows)


@case
def storms(stage: Stage) -> Iterator[str]:
    """Ten thousand connections at once, all gone at once, three times: memory, connections and channels return."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-m",
        "torture",
        "tests/live/broadcaster/test_main.py",
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)
    need(done.returncode == 0, done.stdout[-600:])
    yield done.stdout.strip().splitlines()[-1]
