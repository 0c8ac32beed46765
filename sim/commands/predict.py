"""Predict a load that was not measured: the simulator with the parameters of a fit, every figure with an interval.

Without SCENARIO that of the first fitted run is taken. Intervals are those of one further run on the target. They contain the
uncertainty of the parameters, the differences from run to run, and the misfit of the model to the fitted runs; figures whose
interval lacks one of these are named. A mark says where a figure lies outside the measured range, and how far. Last come the
parameters that the runs did not identify: for these the scenario's values are used.

examples:
  workbench predict --fit target.fit.json
  workbench predict --fit target.fit.json --set pages.0.subscribers=40000
  workbench predict demo --fit target.fit.json --users 4000
  workbench predict demo --fit target.fit.json --set policy.wait=1 --json
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from pathlib import Path

import pandas as pd

from sim.commands import options
from sim.commands.fit import not_identified
from sim.errors import BadInput
from sim.prediction import read
from sim.results.text import aligned, interval, number, unit_of
from sim.scenario import load_scenario, parse_assignments, require_honoured


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("scenario", metavar="SCENARIO", nargs="?", help="name, or path of a TOML file; default: the fitted one")
    parser.add_argument("--fit", type=Path, required=True, metavar="FIT", help="what workbench fit -o wrote")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change one key (may be repeated)")
    parser.add_argument("--users", type=int, metavar="N", help="subscribers, in the scenario's mixture of pages")
    parser.add_argument(
        "--ignore", action="append", default=[], metavar="KEY", help="go on without a key that is for load tests only"
    )
    parser.add_argument("--draws", type=int, default=20, metavar="N", help="simulations, each with a draw of the parameters")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")


def run(args: argparse.Namespace) -> int:
    # Here and not above: SciPy and both engines, which a command's help need not wait for.
    from sim.prediction.predict import predict

    fit = read(args.fit)
    changes = parse_assignments(args.set)
    scenario = load_scenario(args.scenario, changes) if args.scenario else fit.base().replace(changes)
    scenario = scenario if args.users is None else scenario.with_subscribers(args.users)
    scenario.check()
    scenario = dataclasses.replace(scenario, ignore=(*scenario.ignore, *args.ignore))
    require_honoured(scenario, "simulator")
    if args.draws < 2:
        raise BadInput(f"--draws must be 2 or more (an interval needs several), got {args.draws}")
    with options.progress() as progress:
        found = predict(fit, scenario, args.draws, kept=changes, progress=progress)
    unknown = {parameter.key: parameter.needs for parameter in fit.parameters if not parameter.identified}
    if args.json:
        figures = {}
        for metric, figure in found.figures.items():
            ends = {name: "never" if end == math.inf else end for name, end in dataclasses.asdict(figure).items()}
            figures[metric] = ends | {"outside": found.mark(metric)}
        members = dataclasses.asdict(found) | {"figures": figures, "not_identified": unknown}
        options.print_json("predict", members)
        return 0
    print(f"{scenario.name}, {number(scenario.subscribers)} subscribers: {found.draws} simulations ({found.engine} engine)\n")
    rows = [
        (unit_of(metric)(figure.value), interval(figure.low, figure.high, unit_of(metric)), found.mark(metric))
        for metric, figure in found.figures.items()
    ]
    names = pd.Index(found.figures, name="figure")
    print("\n".join(aligned(pd.DataFrame(rows, names, columns=["predicted", "95 % of runs", "outside"]))))
    for words in dict.fromkeys(figure.lacks for figure in found.figures.values() if figure.lacks):
        print(f"\n{', '.join(metric for metric, figure in found.figures.items() if figure.lacks == words)}: {words}")
    for metric, count in found.missing.items():
        print(f"\n{metric}: no figure, for only {count} of the simulations have one")
    print(*not_identified(fit), sep="\n")
    return 0
