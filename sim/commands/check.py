"""Judge a run against its thresholds; the exit code is the answer.

The thresholds are those of the run's own scenario, of another scenario (--scenario), or given here (--threshold). A run that is
invalid or partial has no result.

    workbench check runs/demo
    workbench check runs/demo --threshold time_to_fresh_ms='p(99) < 1500' --threshold samples='deliveries >= 10000'
    workbench check runs/demo --scenario demo --junit junit.xml --summary summary.md

Exit codes: 0 all hold, 2 bad input, 3 one does not hold or has no samples, 4 the run is invalid.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from sim.commands import options
from sim.commands.measuring.outcome import require_checks
from sim.errors import BadInput, InvalidRun
from sim.results import thresholds
from sim.results.answers import outcomes
from sim.results.run import Run, over_at
from sim.scenario import load_scenario


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", metavar="RUN", type=Path, help="run bundle (directory)")
    parser.add_argument("--scenario", metavar="SCENARIO", help="take the thresholds of this scenario")
    parser.add_argument(
        "--threshold", action="append", default=[], metavar="METRIC=CONDITION", help="check this (may be repeated)"
    )
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write the result as JUnit XML")
    parser.add_argument("--summary", type=Path, metavar="FILE", help="write the result as Markdown")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    bundle = Run(args.bundle)
    bundle.verify()
    wanted = _thresholds(args, bundle)
    if not wanted:
        raise BadInput(f"{args.bundle}: its scenario has no thresholds (give --threshold or --scenario)")
    checks = thresholds.check(wanted, thresholds.complete(wanted, bundle))
    manifest = bundle.manifest
    reasons = [] if manifest.validity["ok"] and not manifest.partial else list(manifest.validity["reasons"] or ["partial"])
    name = str(manifest.scenario.get("name", bundle.name))
    if args.junit:
        window = manifest.window
        length = over_at(window)
        options.write_text(args.junit, outcomes.junit(name, checks, reasons, length))
    if args.summary:
        verdict = "INVALID" if reasons else "pass" if all(check.ok for check in checks) else "FAIL"
        options.write_text(args.summary, outcomes.markdown(name, [], checks, verdict))
    if args.json:
        found = {"valid": not reasons, "reasons": reasons, "thresholds": [check.to_dict() for check in checks]}
        options.print_json("check", found)
    else:
        print("\n".join(check.text for check in checks))
    if reasons:
        raise InvalidRun(f"{args.bundle}: the run is invalid: {reasons[0]}")
    require_checks(checks)
    return 0


def _thresholds(args: argparse.Namespace, bundle: Run) -> list[thresholds.Threshold]:
    if args.threshold:
        pairs = [text.partition("=") for text in args.threshold]
        for metric, equals, _ in pairs:
            if not equals or not metric:
                raise BadInput(f"--threshold {metric!r}: must be METRIC=CONDITION, as delivery_ratio='value >= 0.999'")
        return [threshold for metric, _, text in pairs for threshold in thresholds.parse(metric, text.strip())]
    scenario = load_scenario(args.scenario) if args.scenario else bundle.scenario
    return thresholds.parse_all(scenario.thresholds)
