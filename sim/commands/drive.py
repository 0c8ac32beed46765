"""Send a scenario's updates to a target, open loop.

Every update leaves at its intended time, whatever the target does; lateness, answers and failures are recorded. The scenario's
`publisher.via` says where they go: to the application's change routes, or straight to the broadcaster's HTTP API.

    workbench drive demo --target target.json
    workbench drive demo --target target.json --set workload.speed=20 -o updates.parquet
    workbench drive demo --set publisher.via=broadcaster --json      # target from .env: REVERB_APP_ID, REVERB_APP_KEY, ...
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from tqdm import tqdm

from sim.clock import SECOND
from sim.commands import options
from sim.errors import BadInput, Interrupted, Unreachable
from sim.live.capacity import consent
from sim.live.drive import sent
from sim.live.drive.publisher import READY, OpenLoopPublisher, Sent, event_loop
from sim.live.drive.requests import via
from sim.results.journal import Journal
from sim.results.text import labelled, seconds, under
from sim.workload import Updates, streams

SHOWN = 5
"""Reasons that are printed, the most frequent first; `--json` has all."""
PRIORITY = -10
"""Niceness of the publisher, where the user may set it: its few milliseconds of work a second must not wait for others."""


def configure(parser: argparse.ArgumentParser) -> None:
    options.add_scenario(parser, program="load test")
    options.add_target(parser)
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write the rows to this Parquet file")
    parser.add_argument("--epoch", metavar="NS", help="start of the run, ns since 1970; - : read from standard input")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    scenario = options.scenario(args)
    target = options.target(args)
    route = via(target, scenario)
    updates = scenario.draw_updates(streams(scenario.seed))
    consent.require(consent.Volume(publishes=len(updates)), target, args.i_own_this_target)
    options.require_place(args.output)
    with contextlib.ExitStack() as stack:
        journal = stack.enter_context(sent.open_journal(args.output)) if args.output else None
        publisher = OpenLoopPublisher(route, _epoch(args.epoch), scenario.publisher.connections, write=_to(journal))
        rows, table, number = _publish(publisher, updates, args.output)
    result = sent.summary(table)
    if args.json:
        options.print_json("drive", result)
    else:
        print(labelled(_rows(result)))
    if number:
        raise Interrupted(number)
    if rows and all(row.http_status is None for row in rows):
        raise Unreachable(f"{route.origin.authority}: none of {len(rows)} updates was answered ({rows[-1].reason})")
    return 0


def _epoch(text: str | None) -> int:
    """The run's zero. Waiting for it on standard input lets this process be ready before the subscribers are."""
    if text is None:
        return time.time_ns() + SECOND // 2
    if text == "-":
        print(READY, file=sys.stderr, flush=True)
        text = sys.stdin.readline().strip()
    if not text.isdecimal():
        raise BadInput(f"--epoch: must be whole nanoseconds since 1970, got {text!r}")
    return int(text)


def _to(journal: Journal | None) -> Callable[[Sequence[Sent]], object]:
    return lambda rows: journal.append(sent.to_table(rows)) if journal is not None else None


def _publish(publisher: OpenLoopPublisher, updates: Updates, output: Path | None) -> tuple[list[Sent], pa.Table, int]:
    """Run the publisher until it is done or a signal stops it, and write *output*: its rows, as objects and as a table, and the
    signal's number (0: it came to its end)."""
    came: list[int] = []

    def stop(number: int) -> None:
        came.append(number)
        publisher.stop()

    # A publisher that waits for the processor measures that, not the target. Not every user may raise a priority.
    with contextlib.suppress(PermissionError):
        os.nice(PRIORITY)
    quiet = not sys.stderr.isatty() or (len(updates) > 0 and updates.at[-1] < 2 * SECOND)
    with asyncio.Runner(loop_factory=event_loop) as runner, tqdm(total=len(updates), unit="update", disable=quiet) as bar:

        async def publish() -> tuple[list[Sent], pa.Table, int]:
            with contextlib.ExitStack() as stack:
                for number in (signal.SIGINT, signal.SIGTERM):
                    asyncio.get_running_loop().add_signal_handler(number, stop, number)
                    stack.callback(asyncio.get_running_loop().remove_signal_handler, number)
                rows = await publisher.run(updates, bar.update)
                # A load test stops its publisher at the end of its window. That may be just when all is answered: the signal
                # must not take from the run that its rows are complete.
                table = sent.to_table(rows)
                if output:
                    sent.write(output, table)
                return rows, table, came[0] if came and len(rows) < len(updates) else 0

        return runner.run(publish())


def _rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    def spread(name: str) -> str:
        return "   ".join(f"{p} {seconds(result[f'{name}_{p}'])}" for p in ("p50", "p99", "max"))

    return [
        ("updates", f"{result['updates']} sent, {result['failed']} failed, {result['unknown']} of unknown fate"),
        ("lateness", spread("lateness")),
        ("waited", f"{spread('waited')}   (for the change before)"),
        ("answer", spread("answer")),
        *under("no success", [f"{count} × {reason}" for reason, count in Counter(result["failures"]).most_common(SHOWN)]),
    ]
