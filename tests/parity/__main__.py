"""The comparison of virtual time and sockets: `python -m tests.parity`. Takes a quarter of an hour, alone on the machine.

    python -m tests.parity                              all cases; what was found goes to data/parity.json
    python -m tests.parity --only saves,cache -o FILE   some of them
    python -m tests.parity --bundles runs/parity        keep the measured runs, and go on where it was interrupted

Exit code 1 where a figure lies outside its band.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from sim.commands.measuring.one import Settings, run_load_test
from sim.errors import BadInput, did_you_mean
from sim.experiments import parity
from sim.results.answers import report
from sim.results.run import Run
from sim.scenario import Scenario, load_scenario
from tests.parity.cases import CASES, Case

TRIES = 3

FITTED = "fitted"
"""Bundle of the run to which the machine's costs are fitted."""


def measured(scenario: Scenario, directory: Path) -> Run:
    """The load test of *scenario*, run now unless it is there; up to `TRIES` times while it says of itself that it is invalid."""
    for _ in range(TRIES if not (directory / "manifest.json").exists() else 0):
        shutil.rmtree(directory, ignore_errors=True)
        before, began = _processor_time(), time.monotonic()
        outcome = run_load_test(scenario, Settings(output=directory, quiet=True, command="python -m tests.parity"))
        everything, own = (now - then for now, then in zip(_processor_time(), before, strict=True))
        others = (everything - own) / (time.monotonic() - began)
        (directory / "others.json").write_text(json.dumps(round(others, 3)), encoding="utf-8")
        said = "; ".join(map(str, outcome.reasons)) or "valid"
        print(
            f"{directory.name}: others took {others:.2f} of {psutil.cpu_count()} processors; {said}", file=sys.stderr, flush=True
        )
        if not outcome.reasons:
            break
    return Run(directory)


def _processor_time() -> tuple[float, float]:
    """Seconds that all processors have worked, and what of it this process and its children that have ended did."""
    times = psutil.cpu_times()
    own = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(times) - times.idle - getattr(times, "iowait", 0.0), sum(usage.ru_utime + usage.ru_stime for usage in own)


def fitted_run(bundles: Path) -> Run:
    """The run that says what this machine adds: `demo` at the size of the cases."""
    return measured(load_scenario("demo", {"duration": 12}).with_subscribers(100), bundles / FITTED)


def compared(case: Case, run: Run, costs: dict[str, Any]) -> dict[str, Any]:
    """What is kept of a case."""
    scenario = parity.as_it_happened(run.scenario, run.manifest.extra.get("incidents", []))
    rows = parity.compare(parity.figures(run.summary), parity.simulate(scenario, costs))
    said = {"others": json.loads((run.directory / "others.json").read_text(encoding="utf-8"))}
    if scenario.api.save == Scenario().api.save and not scenario.broadcast.commit_delay:
        said["pace"] = parity.pace(run, costs)
    return {
        "name": case.name,
        "why": case.why,
        "tables": case.tables,
        "keys": case.keys,
        "beyond": case.beyond,
        **said,
        "figures": rows,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.parity", description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--only", metavar="A,B", help="these cases")
    parser.add_argument("--bundles", type=Path, metavar="DIR", help="where measured runs are kept; those that are there count")
    parser.add_argument("--measure", action="store_true", help="only measure, into --bundles")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="default: data/parity.json, where all cases are run")
    args = parser.parse_args(arguments)
    cases = chosen(args.only)
    with tempfile.TemporaryDirectory() as scratch:
        bundles = args.bundles or Path(scratch)
        if args.measure:
            fitted_run(bundles)
            for case in cases:
                measured(case.scenario, bundles / case.name)
            return 0
        fitted = fitted_run(bundles)
        costs = parity.costs_of(fitted)
        card = report.provenance(fitted).iloc[:, 0].to_dict()
        found = {
            "provenance": card,
            "fit": costs,
            "cases": [compared(case, measured(case.scenario, bundles / case.name), costs) for case in cases],
        }
    place = args.output or (parity.PLACE if not args.only else None)
    if place is not None:
        place.write_text(_lines(_finite(found)), encoding="utf-8")
    rows = parity.table(found)
    print(parity.readable(rows).to_string(index=False))
    outside = rows[~rows["inside"]]
    print(f"{len(rows)} figures of {len(cases)} cases, {len(outside)} outside their bands")
    return 1 if len(outside) else 0


def chosen(only: str | None) -> list[Case]:
    """The cases by name. Raises `BadInput`."""
    names = [case.name for case in CASES]
    wanted = names if only is None else only.split(",")
    for name in wanted:
        if name not in names:
            raise BadInput(f"--only: no case {name!r}{did_you_mean(name, names)}")
    return [case for case in CASES if case.name in wanted]


def _lines(found: dict[str, Any]) -> str:
    """JSON with a line for each figure, so that a change is seen."""
    cases = []
    for case in found["cases"]:
        figures = ",\n  ".join(json.dumps(row, allow_nan=False) for row in case["figures"])
        head = json.dumps({key: value for key, value in case.items() if key != "figures"}, allow_nan=False)
        cases.append(f'{head[:-1]}, "figures": [\n  {figures}]}}')
    head = "".join(f'"{key}": {json.dumps(value)},\n' for key, value in found.items() if key != "cases")
    return f'{{{head}"cases": [\n' + ",\n".join(cases) + "]}\n"


def _finite(tree: Any) -> Any:
    """For JSON: six digits will do, and never is null."""
    if isinstance(tree, Mapping):
        return {key: _finite(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_finite(value) for value in tree]
    if not isinstance(tree, float):
        return tree
    return float(f"{tree:.6g}") if math.isfinite(tree) else None


def _run(program: Callable[[], int]) -> int:
    try:
        return program()
    except BadInput as error:
        print(f"python -m tests.parity: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(_run(main))
