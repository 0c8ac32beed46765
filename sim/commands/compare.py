"""Compare runs of one scenario: what differs, by how much, how sure that is, and whether it matters.

Prints Markdown for a pull request; its first line says what changed and by how much. Differences are relative to the first run
(those of shares: in points). Their 95 % intervals are from batches of updates, or from runs where each side has four or more. A
difference within the band counts as the same; one that its interval does not decide is undecided, and the table says how many
updates would decide it. Runs of different scenarios, windows or harnesses are refused; --vary names the keys that are meant to
differ. Seeds may differ. A directory of bundles stands for all bundles in it.

Exit codes: 0 whatever the differences are, 2 bad input (a baseline that is invalid or partial is), 3 with --fail-on-worse where a
metric is worse, 4 a run that is judged is invalid.

examples:
  workbench compare runs/before runs/after
  workbench compare --baseline runs/main runs/after
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
from sim.errors import BadInput, InvalidRun, ThresholdFailed
from sim.results.answers import compare
from sim.results.run import Run
from sim.results.text import percent


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "runs",
        metavar="RUN",
        nargs="*",
        help="two runs: the second is judged against the first; with --baseline: the runs that are judged",
    )
    parser.add_argument(
        "--baseline",
        metavar="RUN",
        nargs="+",
        default=[],
        help="what to compare against: a bundle or a directory of bundles; several, then -- and the runs to judge",
    )
    parser.add_argument(
        "--band",
        type=float,
        default=compare.BAND,
        metavar="SHARE",
        help="a difference within it counts as the same (default 0.05)",
    )
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
    sources = {run.manifest.source for run in (*before, *after)}
    report = compare.written(found, *names(before, after), args.band, of_both_sources=len(sources) > 1)
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
    """The runs of both sides, each verified. Raises `BadInput`, or `InvalidRun` where one that is judged is invalid."""
    if baseline and not runs:
        baseline, runs = baseline[:1], baseline[1:]
    elif not baseline and len(runs) == 2:
        baseline, runs = runs[:1], runs[1:]
    if not baseline or not runs:
        raise BadInput(f"{len(runs)} runs: give two, or --baseline DIR NEW, or several a side as --baseline A1 A2 -- B1 B2")
    before, after = ([run for name in side for run in bundles(name)] for side in (baseline, runs))
    for run in (*before, *after):
        run.verify()
        if not run.manifest.validity["ok"] and not run.manifest.partial:
            why = f"the run is invalid: {(run.manifest.validity.get('reasons') or ['no reason given'])[0]}"
            raise InvalidRun(f"{run.directory}: {why}") if run in after else BadInput(f"baseline {run.directory}: {why}")
    return before, after


def bundles(name: str) -> list[Run]:
    """The bundle of this name, or all bundles in the directory of this name. Raises `BadInput`."""
    inside = sorted(path.parent for path in Path(name).glob("*/manifest.json"))
    return [Run(path) for path in inside] if inside and not (Path(name) / "manifest.json").exists() else [Run(name)]


def names(before: Sequence[Run], after: Sequence[Run]) -> tuple[str, str]:
    """The sides by the names of their runs, with their directory where the names are the same."""
    a, b = (", ".join(run.name for run in side) for side in (before, after))
    if a != b:
        return a, b
    return f"{a} ({before[0].directory.parent})", f"{b} ({after[0].directory.parent})"
