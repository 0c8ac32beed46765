"""Show where the time went in a run: verdict, stages, windows, the worst updates, and what was never shown.

    stages     mean, p50, p95 and p99 of save, broadcast, fan-out, debounce, wait, refetch (means add up to the total)
    windows    the run in equal parts: updates, p95 of time to notified and to fresh, refetches; the slowest is marked
    worst      the updates that took longest to their slowest page, and the stage in which most of it passed
    never      updates that were never shown on a page that was open until the end

examples:
  workbench explain runs/demo
  workbench explain runs/demo --worst 20 --windows 10
  workbench explain runs/demo --markdown > comment.md
  workbench explain runs/demo --json | jq .stages.debounce.share
"""

from __future__ import annotations

import argparse

from sim.commands import options
from sim.errors import BadInput
from sim.results.answers import explain
from sim.results.answers.sections import to_markdown, to_text
from sim.results.run import Run


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_directory", metavar="RUN", help="run bundle (directory)")
    parser.add_argument("--worst", type=int, default=5, metavar="N", help="number of worst updates (default 5)")
    parser.add_argument("--windows", type=int, default=8, metavar="N", help="number of parts of the run (default 8)")
    parser.add_argument("--markdown", action="store_true", help="print Markdown tables")
    parser.add_argument("--json", action="store_true", help="print all figures as JSON")


def run(args: argparse.Namespace) -> int:
    for name in ("worst", "windows"):
        if not 1 <= getattr(args, name) <= 1000:
            raise BadInput(f"--{name} must be between 1 and 1000, got {getattr(args, name)}")
    bundle = Run(args.run_directory)
    bundle.verify()
    found = explain.explain(bundle, worst=args.worst, windows=args.windows)
    if args.json:
        options.print_json("explain", found.to_dict())
    else:
        print((to_markdown if args.markdown else to_text)(found.sections()), end="")
    return 0
