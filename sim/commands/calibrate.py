"""Measure the limits of load tests on this machine: the harness floor and the drain rate.

A load process listens to a server that only sends, on loopback. The result is kept (in the user's cache directory) and used by
every later run: a latency near the floor is the harness's own, and one process cannot measure more messages a second than the
drain rate. `workbench plan` uses the same figures.

    workbench calibrate
    workbench calibrate --subscribers 5000
    workbench calibrate --json
"""

from __future__ import annotations

import argparse
from dataclasses import asdict

from sim.commands import options
from sim.errors import BadInput
from sim.live.capacity import calibration
from sim.results.text import labelled, number, seconds, size


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--subscribers", type=int, default=1_000, metavar="N", help="in one process (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")


def run(args: argparse.Namespace) -> int:
    if args.subscribers < 1:
        raise BadInput(f"--subscribers must be >= 1, got {args.subscribers}")
    measured = calibration.calibrate(args.subscribers, options.say_on_terminal)
    path = calibration.store(measured)
    if args.json:
        options.print_json("calibrate", asdict(measured))
        return 0
    rows = [
        ("floor", f"p50 {seconds(measured.floor_p50)}   p99 {seconds(measured.floor_p99)}   ({measured.receive_stamp} time)"),
        ("reader lag", f"p50 {seconds(measured.lag_p50)}   p99 {seconds(measured.lag_p99)}   (one message to each)"),
        ("drain rate", f"{number(round(measured.drain_rate))} messages/s in one process"),
        ("CPU", f"{seconds(measured.cpu_per_message)} per message"),
        ("connect", f"{number(round(measured.connect_rate))} subscribers/s"),
        ("memory", f"{size(measured.memory_base)} + {size(measured.memory_per_subscriber)} per subscriber"),
        ("kept in", str(path)),
    ]
    print(labelled(rows))
    return 0
