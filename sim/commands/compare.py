"""Compare two runs of one scenario: what differs, by how much, how sure, and whether it matters.

Prints Markdown for a pull request. Differences are relative to the first run, with 95 % intervals from batches of updates; what
lies within the band counts as the same, and what the interval does not decide is undecided, with the number of updates that
would. Runs of different scenarios, windows or harnesses are refused; --vary names the keys that are meant to differ. Exit code 0
whatever the differences are, or with --fail-on-worse 3 where a metric is worse.

examples:
  workbench compare runs/before runs/after
  workbench compare runs/debounce runs/window --vary policy
  workbench compare runs/demo runs/demo-simulated --vary source --band 0.1
  workbench compare runs/before runs/after --fail-on-worse -o comment.md
  workbench compare runs/before runs/after --json
"""

from __future__ import annotations

import argparse
from pathlib import Path

from sim.commands import options
from sim.errors import BadInput, ThresholdFailed
from sim.results.answers import compare
from sim.results.run import Run
from sim.results.text import percent


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("a", metavar="A", help="run bundle to compare against")
    parser.add_argument("b", metavar="B", help="run bundle that is judged")
    parser.add_argument("--band", type=float, default=compare.BAND, metavar="SHARE", help="counts as the same (default 0.05)")
    parser.add_argument(
        "--vary", action="append", default=[], metavar="KEY", help="scenario key (or source, duration, harness) that may differ"
    )
    parser.add_argument("--fail-on-worse", action="store_true", help="exit 3 where a metric is worse")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write the Markdown there instead")
    parser.add_argument("--json", action="store_true", help="print the differences as JSON")


def run(args: argparse.Namespace) -> int:
    if not 0 <= args.band < 1:
        raise BadInput(f"--band must be a share between 0 and 1, got {args.band}")
    a, b = Run(args.a), Run(args.b)
    found = compare.compare(a, b, args.band, args.vary)
    report = compare.to_markdown(found, *names(a, b), args.band)
    if args.json:
        options.print_json("compare", {"differences": [compare.jsonable(difference) for difference in found]})
    elif args.output is None:
        print(report, end="")
    if args.output is not None:
        options.write_text(args.output, report)
    worse = [difference for difference in found if difference.verdict.startswith("worse")]
    if args.fail_on_worse and worse:
        by = f" by {percent(abs(worse[0].relative))}" if worse[0].relative is not None else ""
        raise ThresholdFailed(f"{len(worse)} of {len(found)} metrics are worse: {worse[0].metric}{by}")
    return 0


def names(a: Run, b: Run) -> tuple[str, str]:
    """The runs' names, with their source where the names are the same."""
    return (a.name, b.name) if a.name != b.name else (f"{a.name} ({a.directory.parent})", f"{b.name} ({b.directory.parent})")
