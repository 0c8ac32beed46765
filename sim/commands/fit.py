"""Fit the simulator's parameters to measured runs: what a fan-out, a save and an answer cost, each with its interval.

Several runs of one target identify more than one run does: what grows with the number of subscribers shows between two sizes
only. Parameters that the runs do not identify are named, each with the run that would identify it. -o writes the fit, for
predict and plan.

examples:
  workbench loadtest fan-out --users 500 -o runs/500
  workbench loadtest fan-out --users 1000 -o runs/1000
  workbench fit runs/500 runs/1000 -o target.fit.json
  workbench predict --fit target.fit.json --set pages.0.subscribers=4000
  workbench fit runs/500 --json
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from sim.commands import options
from sim.prediction import Fit, Parameter
from sim.results.run import Run
from sim.results.text import NONE, aligned, change, interval, number, seconds, unit_of


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_directories", metavar="RUN", nargs="+", help="bundle of a measured run; all of one target")
    parser.add_argument("-o", "--output", type=Path, metavar="FIT", help="write the fit (JSON): what predict and plan read")
    parser.add_argument("--json", action="store_true", help="print the fit as JSON")


def run(args: argparse.Namespace) -> int:
    # Here and not above: SciPy and both engines, which a command's help need not wait for.
    from sim.prediction.fit import fit
    from sim.prediction.observations import observe

    options.require_place(args.output)
    found = fit(observe([Run(directory) for directory in args.run_directories]))
    if args.output is not None:
        found.write(args.output)
    if args.json:
        options.print_json("fit", {name: member for name, member in asdict(found).items() if name != "draws"})
        return 0
    for line in lines(found):
        print(line)
    if args.output is not None:
        print(f"\nfit  {args.output}")
    return 0


def lines(found: Fit) -> list[str]:
    """The tables: parameters, what is not identified, residuals."""
    rows = [(p.key, _value(p), _interval(p), p.made_from) for p in found.parameters if p.identified]
    lines = [*_table(rows, "parameter", "value", "95 % interval", "from"), *not_identified(found)]
    if found.residuals:
        units = [unit_of(row.metric) for row in found.residuals]
        residuals = [
            (row.metric, unit(row.measured), unit(row.fitted), change(row.off), row.run)
            for row, unit in zip(found.residuals, units, strict=True)
        ]
        lines += ["", *_table(residuals, "residuals", "measured", "fitted", "off", "run")]
    return lines


def _table(rows: Sequence[Sequence[str]], *names: str) -> list[str]:
    return aligned(pd.DataFrame(rows, columns=list(names)).set_index(names[0]))


def not_identified(found: Fit) -> list[str]:
    """Lines: each parameter that the runs do not identify, its range if that is known, and the run that would identify it."""
    lacking = [p for p in found.parameters if not p.identified]
    rows = [(p.key, _interval(p) if p.high is not None else "", p.needs) for p in lacking]
    return ["", *_table(rows, "not identified by the runs", "95 % interval", "what would identify it")] if rows else []


def _value(parameter: Parameter) -> str:
    mean = parameter.mean
    if mean is None:
        return NONE if parameter.value is None else str(parameter.value)
    words = _unit(parameter)(mean)
    shape = parameter.value["kind"] if isinstance(parameter.value, dict) else ""
    return words if shape in ("", "constant") else f"{words} ({shape})"


def _interval(parameter: Parameter) -> str:
    return interval(parameter.low, parameter.high, _unit(parameter))


def _unit(parameter: Parameter) -> Callable[[float | None], str]:
    return seconds if parameter.unit == "s" else number
