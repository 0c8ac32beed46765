"""Fit the simulator's parameters to a measured run: fan-out cost, way to the broadcaster, service time, size of an answer.

Prints what was fitted, from how much, and the lines of TOML that say so. With -o the run's whole scenario is written with the
fitted values in place, ready to be simulated, with more subscribers than could be measured, say. What cannot be told apart from
the outside (the network's shares of a round trip) stays as the scenario had it.

examples:
  workbench fit runs/demo
  workbench fit runs/demo -o fitted.toml
  workbench simulate fitted.toml --set pages.1.subscribers=5000
  workbench fit runs/demo --json
"""

from __future__ import annotations

import argparse
from pathlib import Path

from sim.commands import options
from sim.errors import BadInput
from sim.results.answers.fit import Parameter, fit, fitted
from sim.results.run import Run
from sim.results.text import interval, number, seconds
from sim.scenario import to_toml


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_directory", metavar="RUN", help="bundle of a measured run")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write the fitted scenario as TOML")
    parser.add_argument("--json", action="store_true", help="print the parameters as JSON")


def run(args: argparse.Namespace) -> int:
    measured = Run(args.run_directory)
    if measured.manifest.source != "measured":
        raise BadInput(f"{measured.name} is simulated: its parameters are in its scenario already")
    parameters = fit(measured)
    scenario = fitted(measured, parameters)
    if args.output is not None:
        options.write_text(args.output, to_toml(scenario))
    if args.json:
        options.print_json("fit", {"parameters": [_jsonable(parameter) for parameter in parameters]})
        return 0
    for parameter in parameters:
        unit = number if "bytes" in parameter.key else seconds
        figure = f"{unit(parameter.mean.value)} ({interval(parameter.mean.low, parameter.mean.high, unit)})"
        print(f"{parameter.key:28}{figure:32}{parameter.made_from}")
    print()
    for parameter in parameters:
        print(f"{parameter.key} = {_toml(parameter.value)}")
    if args.output is not None:
        print(f"\nscenario  {args.output}")
    return 0


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + "}"
    return f'"{value}"' if isinstance(value, str) else repr(value)


def _jsonable(parameter: Parameter) -> dict[str, object]:
    return {"key": parameter.key, "value": parameter.value, "mean": parameter.mean.row(), "made_from": parameter.made_from}
