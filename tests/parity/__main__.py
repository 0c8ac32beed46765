"""The comparison of virtual time and sockets: `python -m tests.parity`. A repeat takes a quarter of an hour on a quiet machine.

    python -m tests.parity --repeat 3                   all cases, three runs each; what was found goes to data/parity.json
    python -m tests.parity --bundles runs/parity        keep the measured runs, and go on where it was interrupted
    python -m tests.parity --only saves,cache -o FILE   some of them; they take their place in FILE, by the costs of that FILE

Exit code 1 where a figure lies outside its interval.
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

from sim.commands.measuring.one import LoadTestSettings, run_load_test
from sim.errors import BadInput, did_you_mean
from sim.experiments import parity
from sim.results.answers import report
from sim.results.run import Run
from sim.scenario import Scenario, load_scenario
from tests.parity import simulations
from tests.parity.cases import CASES, Case

TRIES = 3

FITTED = "fitted"
"""Bundle of the run to which the machine's costs are fitted."""


def measured(scenario: Scenario, directory: Path) -> Run:
    """The load test of *scenario*, run now unless it is there; up to `TRIES` times while it says of itself that it is invalid."""
    # What was interrupted has a manifest, too, but this file comes last.
    for _ in range(TRIES if not (directory / "others.json").exists() else 0):
        shutil.rmtree(directory, ignore_errors=True)
        before, began = _processor_time(), time.monotonic()
        outcome = run_load_test(scenario, LoadTestSettings(output=directory, quiet=True, command="python -m tests.parity"))
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


def compared(case: Case, runs: Sequence[Run], costs: dict[str, Any], paces: float) -> dict[str, Any]:
    """What is kept of a case."""
    scenarios = [simulations.as_it_happened(run.scenario, run.manifest.extra.get("incidents", [])) for run in runs]
    return {
        "name": case.name,
        "why": case.why,
        "tables": case.tables,
        "keys": case.keys,
        "others": [json.loads((run.directory / "others.json").read_text(encoding="utf-8")) for run in runs],
        "figures": simulations.compare(
            [simulations.figures(run.summary) for run in runs], simulations.simulate(scenarios, costs, paces=paces)
        ),
    }


def paces_of(cases: Mapping[str, Sequence[Run]], costs: dict[str, Any]) -> list[float]:
    """How many times as long as in *costs* a change took, of each run that leaves it to the machine."""
    runs = [run for repeats in cases.values() for run in repeats]
    own = [run for run in runs if run.scenario.api.save == Scenario().api.save and not run.scenario.broadcast.commit_delay]
    return [pace for run in own if (pace := simulations.pace(run, costs)) is not None]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.parity", description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--only", metavar="A,B", help="these cases")
    parser.add_argument("--bundles", type=Path, metavar="DIR", help="where measured runs are kept; those that are there count")
    parser.add_argument("--repeat", type=int, default=2, metavar="N", help="load tests of each case (default: %(default)s)")
    parser.add_argument("--measure", action="store_true", help="only measure, into --bundles")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="default: data/parity.json, where all cases are run")
    args = parser.parse_args(arguments)
    cases = chosen(args.only)
    if args.repeat < 2:
        raise BadInput(f"--repeat must be at least 2, got {args.repeat}: a case that was measured once has no scatter")
    place = args.output or (parity.PLACE if not args.only else None)
    there = parity.read(place) if args.only and place is not None and place.exists() else None
    with tempfile.TemporaryDirectory() as scratch:
        bundles = args.bundles or Path(scratch)
        fitted = None if there else fitted_run(bundles)
        runs: dict[str, list[Run]] = {case.name: [] for case in cases}
        # All cases, then all again: what changes on the machine meanwhile is in the scatter of the repeats.
        for number in range(1, args.repeat + 1):
            for case in cases:
                name = case.name if number == 1 else f"{case.name}.{number}"
                runs[case.name].append(measured(case.scenario, bundles / name))
        if args.measure:
            return 0
        if fitted is not None:
            card, costs = report.provenance(fitted).iloc[:, 0].to_dict(), simulations.costs_of(fitted)
            paces = paces_of(runs, costs)
        else:
            card, costs, paces = there["provenance"], there["fit"], there["paces"]
        made = {case.name: compared(case, runs[case.name], costs, simulations.scatter(paces)) for case in cases}
    kept = {case["name"]: case for case in there["cases"]} if there else {}
    both = [(kept | made)[case.name] for case in CASES if case.name in kept | made]
    found = {"provenance": card, "fit": costs, "paces": paces, "cases": both}
    if place is not None:
        place.write_text(_lines(_finite(found)), encoding="utf-8")
    rows = parity.table(found)
    print(parity.readable(rows).to_string(index=False))
    outside = rows[~rows["inside"]]
    print(f"{len(rows)} figures of {len(both)} cases, {len(outside)} outside")
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
