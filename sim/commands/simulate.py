"""Run a scenario in virtual time: exact, the same every time, and as fast as the machine counts.

Prints what it came to; with -o it writes a run bundle as a load test does, for report, compare, check and explain.

    workbench simulate demo
    workbench simulate demo -o runs/demo-simulated
    workbench simulate demo --set policy.kind=window --set policy.wait=0.2
    workbench simulate collapse --set api.retries=0                     # without retries it recovers
    workbench simulate steady --set pages.0.subscribers=2000 --json
    workbench simulate steady --set 'incidents=[{kind="restart", at=20, down=5}]'
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

import sim
from sim.commands import options
from sim.results.summary import summarise
from sim.results.text import number, percent, seconds
from sim.virtual.reference import Progress

Figures = dict[str, dict[str, Any]]


def configure(parser: argparse.ArgumentParser) -> None:
    options.add_scenario(parser)
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="write a run bundle")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")


def run(args: argparse.Namespace) -> int:
    scenario = options.scenario(args)
    with _bar() as progress:
        if args.output is None:
            tables = sim.simulate(scenario, progress=progress)
            summary, metrics = summarise(tables), tables.metrics
        else:
            bundle = sim.simulate(scenario, output=args.output, progress=progress, command=f"workbench simulate {args.scenario}")
            summary, metrics = bundle.summary, bundle.metrics
    if args.json:
        print(json.dumps(summary, indent=1))
        return 0
    for label, figure in rows(summary, _last(metrics)):
        print(f"{label:20}{figure}")
    if args.output is not None:
        print(f"{'bundle':20}{args.output}")
    return 0


def rows(summary: Figures, totals: dict[str, float]) -> Iterator[tuple[str, str]]:
    """The short table: label, figure. *totals*: the engine's own counts (last samples of the `metrics` table)."""

    def value(name: str) -> Any:
        return summary[name]["value"]

    def spread(name: str) -> str:
        never = "never" if summary[f"{name}.p50"]["n"] else "-"
        figures = ((p, value(f"{name}.{p}")) for p in ("p50", "p95", "p99"))
        return "   ".join(f"{p} {never if figure is None else seconds(figure)}" for p, figure in figures)

    yield "updates", number(value("updates"))
    delivered, wanted = value("deliveries.received"), value("deliveries.expected")
    yield "deliveries", f"{number(delivered)} of {number(wanted)} expected   {percent(value('delivery_ratio'))}"
    yield "time to notified", spread("time_to_notified")
    yield "time to fresh", spread("time_to_fresh")
    yield "age of information", f"mean {seconds(value('age_of_information.mean'))}"
    yield (
        "stale",
        f"{percent(value('stale_ratio'))} of the time   {number(value('starved_updates'))} updates never shown somewhere",
    )
    stale, pages = totals.get("stale_at_end", 0), totals.get("open_at_end", 0)
    yield (
        "stale at the end",
        f"{number(stale)} of {number(pages)} pages   {number(totals.get('regressions'))} answers out of order",
    )
    yield (
        "refetches",
        (
            f"{number(value('refetches'))}   {number(value('refetches_per_update'))} per update   "
            f"{number(value('refetches.wasted'))} wasted   {number(value('refetches.failed'))} failed"
        ),
    )
    yield (
        "application",
        (
            f"{percent(totals.get('busy_ratio'))} busy   at most {number(totals.get('in_flight_peak'))} at once   "
            f"{number(totals.get('refused'))} refused   {number(totals.get('timeouts'))} timed out   "
            f"{number(totals.get('retries'))} retries"
        ),
    )


def _last(metrics: Any) -> dict[str, float]:
    """Metric -> its last sample; the busy share as the mean over the run."""
    found = dict(zip(metrics["metric"], metrics["value"], strict=True))
    busy = metrics.loc[metrics["metric"] == "busy_ratio", "value"]
    return found | {"busy_ratio": float(busy.mean()) if len(busy) else 0.0}


@contextmanager
def _bar() -> Iterator[Progress]:
    """A progress bar, on a terminal and once two seconds have gone by."""
    with tqdm(total=100, unit="%", delay=2, leave=False, disable=not sys.stderr.isatty()) as bar:
        yield lambda share: bar.update(100 * share - bar.n)
