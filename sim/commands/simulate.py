"""Run a scenario in virtual time: exact, and the same every time.

Prints the main figures; with -o it writes a run bundle as a load test does, for report, compare, check and explain.

    workbench simulate demo
    workbench simulate demo -o runs/demo-simulated
    workbench simulate demo --set policy.kind=window --set policy.wait=0.2
    workbench simulate collapse --set api.retries=0                     # without retries it recovers
    workbench simulate steady --set pages.0.subscribers=2000 --json
    workbench simulate steady --set pages.0.subscribers=100000 --engine fleet
    workbench simulate steady --set 'incidents=[{kind="restart", at=20, down=5}]'
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from sim import simulate
from sim.commands import options
from sim.results.answers.culprits import culprits
from sim.results.summary import Summary
from sim.results.text import figure, labelled, number, percent, seconds, size, under
from sim.scenario import not_honoured
from sim.virtual import engines, fleet

LARGE = 3_000_000
"""Notifications and refetches from which `auto` does without the rows of most pages: ten seconds and a gigabyte of them."""


def configure(parser: argparse.ArgumentParser) -> None:
    options.add_scenario(parser, program="simulator")
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="write a run bundle")
    parser.add_argument(
        "--engine",
        choices=("auto", "reference", "fleet"),
        default="auto",
        help="reference: event by event, all rows; fleet: any size, rows of some pages; auto: by size (default)",
    )
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")


def run(args: argparse.Namespace) -> int:
    scenario = options.scenario(args)
    engine = engines.choose(scenario, LARGE) if args.engine == "auto" else args.engine
    with options.progress() as progress:
        if args.output is None:
            made = engines.run(scenario, engine, progress)
            summary, updates = made.summary, made.tables.updates
        else:
            command = f"workbench simulate {args.scenario}"
            bundle = simulate(scenario, output=args.output, progress=progress, command=command, engine=engine)
            summary, updates = bundle.summary, bundle.updates
    if args.json:
        options.print_json("simulate", summary)
        return 0
    probes = f"fleet: figures of all pages, rows of {min(fleet.PROBES, scenario.subscribers)}"
    lines = [
        *([("engine", probes)] if engine == "fleet" else []),
        *(("left out", str(ignored)) for ignored in not_honoured(scenario, "simulator")),
        *rows(summary),
        *under("why", culprits(summary, scenario, updates)),
        *([("bundle", str(args.output))] if args.output is not None else []),
    ]
    print(labelled(lines, 20))
    return 0


def rows(summary: Summary) -> list[tuple[str, str]]:
    """The short table: label, figures."""

    def value(name: str) -> Any:
        return summary[name]["value"] if name in summary else None

    def count(name: str) -> str:
        return number(value(name))

    def spread(name: str) -> str:
        return "   ".join(f"{p} {figure(summary, f'{name}.{p}')}" for p in ("p50", "p95", "p99"))

    stale = f"{percent(value('stale_ratio'))} of the time"
    starved = f"{count('starved_updates')} updates that some page never showed"
    ended = f"{count('pages.stale_at_end')} pages ({percent(value('pages.stale_at_end_ratio'))})"
    older = f"{count('pages.regressions')} answers applied over a newer one"
    delivered = f"{count('deliveries.received')} of {count('deliveries.expected')} expected ({percent(value('delivery_ratio'))})"
    peak = f"{figure(summary, 'refetch_rate.peak')} in the fullest tenth of a second"
    sent = f"{count('refetches')}, {count('refetches_per_update')} per update, {peak}"
    lost = f"{count('refetches.wasted')} wasted, {count('refetches.failed')} failed"
    busy = f"{percent(value('application.busy_ratio'))} busy, at most {count('application.queue_peak')} waiting"
    trouble = f"{count('application.refused')} refused, {count('pages.timeouts')} timed out, {count('pages.retries')} retries"
    wire = f"{count('broadcaster.frames')} frames, {size(value('broadcaster.bytes'))}"
    return [
        ("updates", count("updates")),
        ("deliveries", f"{delivered}   {wire}"),
        ("time to notified", spread("time_to_notified")),
        ("time to fresh", spread("time_to_fresh")),
        ("age of information", f"mean {seconds(value('age_of_information.mean'))}"),
        ("stale", f"{stale}   {starved}"),
        ("stale at the end", f"{ended}   {older}"),
        ("refetches", f"{sent}   {lost}"),
        ("application", f"{busy}   {trouble}"),
    ]
