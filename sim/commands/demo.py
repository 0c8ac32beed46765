"""The main job, end to end: `make demo` (also `python -m sim.commands.demo`).

Real provisioning updates, replayed from a recorded trace, are broadcast by the embedded target to a thousand real WebSocket
subscribers; the same scenario is simulated in virtual time; a notebook puts the two side by side and becomes a report.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
import time
from pathlib import Path

from sim import simulate
from sim.commands import report
from sim.commands.measuring.one import LoadTestSettings, run_load_test
from sim.commands.measuring.outcome import LoadTestOutcome
from sim.errors import ThresholdFailed, WorkbenchError
from sim.results.answers import execution, page
from sim.results.run import Run
from sim.results.text import labelled
from sim.scenario import Scenario, load_scenario

NOTEBOOK = "00_start_here"


def main(argv: list[str] | None = None) -> int:
    """Run the demo; returns the exit code (see `exit_code`)."""
    parser = argparse.ArgumentParser(prog="python -m sim.commands.demo", description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, help="directory for both bundles and the report (default: runs/demo-TIME)")
    parser.add_argument("--scenario", default="demo", help="name in data/scenarios, or path (default: demo)")
    args = parser.parse_args(argv)
    try:
        return demo(load_scenario(args.scenario), args.output or Path("runs") / f"demo-{time.strftime('%Y%m%d-%H%M%S')}")
    except WorkbenchError as error:
        print(f"workbench: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("workbench: interrupted", file=sys.stderr)
        return 130


def demo(scenario: Scenario, directory: Path) -> int:
    measured, simulated = directory / "measured", directory / "simulated"
    print(
        f"1/3  load test: {scenario.subscribers:,} subscribers, {scenario.duration:g} s of updates against the embedded target",
        file=sys.stderr,
    )
    outcome = run_load_test(scenario, LoadTestSettings(output=measured, command="make demo"))
    if outcome.interrupted:
        raise KeyboardInterrupt
    print("2/3  simulation of the same scenario in virtual time", file=sys.stderr)
    simulate(scenario, output=simulated, command="make demo")
    print("3/3  report", file=sys.stderr)
    html = directory / "report.html"
    problem = None
    try:
        write_report(html, measured, simulated)
    except WorkbenchError as error:
        # What was measured is shown all the same.
        problem = error
    print(outcome.text())
    print(after(measured, simulated, str(html) if problem is None else f"none: {problem}"))
    code = exit_code(outcome)
    return code or (problem.exit_code if problem is not None else 0)


def write_report(path: Path, *runs: Path) -> None:
    """The first notebook, executed on both bundles, as HTML."""
    bundles = [Run(directory) for directory in runs]
    executed = execution.execute(report.named(NOTEBOOK), bundles, timeout=120)
    path.write_text(page.to_html(executed, bundles, notebook=NOTEBOOK), encoding="utf-8")


def after(measured: Path, simulated: Path, html: str) -> str:
    """Where things are, and what is worth trying next."""
    workbench = command()
    return f"""{labelled([("simulated", str(simulated)), ("report", html)])}

worth trying next:
  {workbench} compare --vary source {measured} {simulated}
  {workbench} explain {measured}
  {workbench} sweep demo --vary policy.wait=0,0.1,0.5,1"""


def command() -> str:
    """`workbench` as it can be typed here: by its path where its environment is not activated."""
    installed = Path(sys.executable).with_name("workbench")
    found = shutil.which("workbench")
    if found is not None and Path(found) == installed:
        return "workbench"
    if not installed.exists():
        return f"{shlex.quote(sys.executable)} -m sim"
    here = Path.cwd()
    return shlex.quote(str(installed.relative_to(here) if installed.is_relative_to(here) else installed))


def exit_code(outcome: LoadTestOutcome) -> int:
    """As `workbench loadtest`, the reason on standard error; but a missed threshold is a finding here, and no error of `make`."""
    try:
        outcome.require_pass()
    except ThresholdFailed as missed:
        print(f"the demo's own objective is missed on this machine, now: {missed}", file=sys.stderr)
    except WorkbenchError as error:
        print(f"workbench: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
