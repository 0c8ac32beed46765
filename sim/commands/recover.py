"""Make a bundle of what a killed load test has left: its directory holds what was measured from the first second.

    workbench recover runs/demo-20260101-120000

The bundle is marked partial and invalid, with the reason; its window ends where the load test did. (A load test that was killed
after its end, while its tables were written, has lost nothing: its bundle is whole.) Every command that reads bundles reads it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import psutil

from sim.commands import options
from sim.commands.measuring.finish import recover
from sim.errors import BadInput
from sim.live.measure.measured import RunFiles, RunRecord
from sim.results.thresholds import parse_all


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", metavar="DIR", type=Path, help="the directory that the load test was to write")
    parser.add_argument("--json", action="store_true", help="print summary and verdict as JSON")


def run(args: argparse.Namespace) -> int:
    files = RunFiles(args.directory)
    if (args.directory / "manifest.json").exists():
        raise BadInput(f"{args.directory} is a complete bundle: there is nothing to recover")
    measured = RunRecord.load(files)
    if _runs(measured.pid):
        raise BadInput(f"{args.directory}: its load test still runs (process {measured.pid}); end it first")
    outcome = recover(files, parse_all(measured.scenario.thresholds))
    if args.json:
        options.print_json("recover", outcome.to_dict())
    else:
        print(outcome.text())
    return 0


def _runs(pid: int) -> bool:
    """Whether that process still is a load test: the number may belong to another process by now."""
    try:
        return "loadtest" in psutil.Process(pid).cmdline()
    except psutil.Error:
        return False
