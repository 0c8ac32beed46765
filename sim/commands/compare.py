"""Compare runs of one scenario: what differs, by how much, how sure, and whether it matters.

Prints Markdown for a pull request; its first line says what changed and by how much. Differences are relative to the first run
(of shares: in points), with 95 % intervals from batches of updates, or from runs where there are four on each side; what lies
within the band counts as the same, and what the interval does not decide is undecided, with the number of updates that would.
Runs of different scenarios, windows or harnesses are refused; --vary names the keys that are meant to differ. Seeds may differ.
Exit code 0 whatever the differences are, or with --fail-on-worse 3 where a metric is worse.

examples:
  workbench compare runs/before runs/after
  workbench compare --baseline runs/before-1 runs/before-2 -- runs/after-1 runs/after-2
  workbench compare runs/debounce runs/window --vary policy
  workbench compare runs/demo runs/demo-simulated --vary source --band 0.1
  workbench compare runs/before runs/after --fail-on-worse -o comment.md
  workbench compare runs/before runs/after --json
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from sim.commands import options
from sim.errors import BadInput, ThresholdFailed
from sim.results.answers import compare
from sim.results.run import Run
from sim.results.text import percent


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "runs", metavar="RUN", nargs="+", help="A B: judge B against A; with --baseline: the runs that are judged"
    )
    parser.add_argument(
        "--baseline", metavar="RUN", nargs="+", default=[], help="runs to compare against (then -- and the others)"
    )
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
    before, after = sides(args.baseline, args.runs)
    found = compare.compare(before, after, args.band, args.vary)
    report = compare.to_markdown(found, *names(before, after), args.band)
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


def sides(baseline: Sequence[str], runs: Sequence[str]) -> tuple[list[Run], list[Run]]:
    """The runs of both sides, each verified. Raises `BadInput`."""
    if not baseline:
        if len(runs) != 2:
            raise BadInput(f"{len(runs)} runs: give two, or several a side as --baseline A1 A2 -- B1 B2")
        baseline, runs = runs[:1], runs[1:]
    found = [[Run(name) for name in side] for side in (baseline, runs)]
    for run in (*found[0], *found[1]):
        run.verify()
    return found[0], found[1]


def names(before: Sequence[Run], after: Sequence[Run]) -> tuple[str, str]:
    """The sides by the names of their runs, with their directory where the names are the same."""
    a, b = (", ".join(run.name for run in side) for side in (before, after))
    if a != b:
        return a, b
    return f"{a} ({before[0].directory.parent})", f"{b} ({after[0].directory.parent})"
