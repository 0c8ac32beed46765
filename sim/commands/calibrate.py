"""Measure what this machine can measure: the harness's floor, and its drain rate.

A load process listens to a server that does nothing but send, on loopback. The result is kept (in the user's cache directory)
and goes into every later run: a latency near the floor is the harness's own, a message rate above the drain rate cannot be
measured with one process. `workbench plan` counts with the same figures.

    workbench calibrate
    workbench calibrate --subscribers 5000
    workbench calibrate --json
"""

from __future__ import annotations

import argparse

from sim.commands import options
from sim.errors import BadInput
from sim.live.capacity import calibration
from sim.results.text import number, seconds


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--subscribers", type=int, default=1_000, metavar="N", help="in one process (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")


def run(args: argparse.Namespace) -> int:
    if args.subscribers < 1:
        raise BadInput(f"--subscribers must be >= 1, got {args.subscribers}")
    measured = calibration.calibrate(args.subscribers, options.say_on_terminal)
    path = calibration.store(measured)
    if args.json:
        options.print_json("calibrate", measured.to_dict())
        return 0
    print(f"{'floor':24}p50 {seconds(measured.floor_p50)}   p99 {seconds(measured.floor_p99)}   ({measured.receive_stamp} time)")
    print(f"{'reader lag':24}p50 {seconds(measured.lag_p50)}   p99 {seconds(measured.lag_p99)}   (one message to each)")
    print(f"{'drain rate':24}{number(round(measured.drain_rate))} messages/s in one process")
    print(f"{'CPU':24}{seconds(measured.cpu_per_message)} per message")
    print(f"{'connect':24}{number(round(measured.connect_rate))} subscribers/s")
    print(
        f"{'memory':24}{measured.memory_base / 2**20:.0f} MiB + {measured.memory_per_subscriber / 2**10:.1f} KiB per subscriber"
    )
    print(f"{'kept in':24}{path}")
    return 0
