"""Execute the notebook that fits these runs, and write it as one HTML file.

The notebook is an ordinary one from notebooks/, run in a fresh kernel with the runs in place of its sample. The page begins with
the runs' thresholds, needs no network and no file beside it to be read, and folds the code away. By default it is written into
the (first) run's directory.

An invalid or partial run has a report too, and so has one that fails an assertion of the notebook: the page says so at its top,
and the exit code is 4. Missed thresholds are shown and change no exit code: `workbench check` judges them.

The fitting notebook: 00_start_here for one run, 07_explain_a_run for several, which takes the last apart and compares it with the
first. Any other is chosen with --notebook.

examples:
  workbench report runs/demo
  workbench report runs/demo --notebook 02_latency
  workbench report runs/demo --notebook 01_choose_a_debounce --set objective=0.5
  workbench report runs/before runs/after -o difference.html
  workbench report runs/demo --no-code --execute-only notebook.ipynb
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from sim.commands import options
from sim.errors import BadInput, InvalidRun, did_you_mean
from sim.results.answers import execution, page
from sim.results.answers.standing import verdict
from sim.results.run import Run
from sim.scenario import parse_assignments
from sim.shipped import shipped

NOTEBOOKS = shipped("notebooks")


LONGEST = 86_400
"""Seconds that one cell may be given: a day."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run bundle (directory)")
    parser.add_argument("--notebook", metavar="NAME", help="notebook by name or path; default: the one that fits")
    parser.add_argument("-o", "--output", metavar="FILE", help="HTML file; default: report-<notebook>.html in the first run")
    parser.add_argument("--execute-only", metavar="FILE", help="also keep the executed notebook")
    parser.add_argument("--no-code", action="store_true", help="leave the code out of the HTML, in place of folding it away")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a parameter of the notebook, as objective=0.5"
    )
    parser.add_argument("--timeout", type=float, default=600, metavar="SECONDS", help="for one cell (default 600)")
    parser.add_argument("--json", action="store_true", help="print what was written as JSON")


def run(args: argparse.Namespace) -> int:
    runs = [Run(path) for path in args.runs]
    notebook = fitting(runs) if args.notebook is None else named(args.notebook)
    output = runs[0].directory / f"report-{notebook.stem}.html" if args.output is None else Path(args.output)
    if not 0 < args.timeout <= LONGEST:
        raise BadInput(f"--timeout must be > 0 s and at most {LONGEST} s, got {args.timeout:g}")
    kept = Path(args.execute_only) if args.execute_only else None
    for path in (output, kept):
        options.require_place(path)
    for found in runs:
        found.verify()
    executed = execution.execute(notebook, runs, args.timeout, parse_assignments(args.set))
    if kept is not None:
        import nbformat

        options.write_text(kept, nbformat.writes(executed))
    options.write_text(output, page.to_html(executed, runs, notebook=notebook.stem, code=not args.no_code))
    doubts = doubts_about(runs, executed)
    if args.json:
        written = {"notebook": notebook.name, "html": str(output), "runs": [str(r.directory) for r in runs], "doubts": doubts}
        options.print_json("report", written)
    else:
        print(f"{output}  ({notebook.stem} on {', '.join(r.name for r in runs)})")
    if doubts:
        raise InvalidRun(f"the report is written, and is not to be believed: {'; '.join(doubts)}")
    return 0


def doubts_about(runs: list[Run], executed: Any) -> list[str]:
    """Why a report is not to be believed: runs that are not valid, and assertions of the notebook that failed. Empty: it is."""
    states = [(run.name, verdict(run)) for run in runs]
    doubts = [f"{name} is {state}" for name, state in states if state != "valid"]
    # An assertion that a run is valid repeats what stands above.
    return doubts + [
        f"this does not hold: {text}" for text in page.failures(executed) if not any(state in text for _, state in states)
    ]


def named(name: str) -> Path:
    """A notebook by path, or by its name in notebooks/ (with or without number and suffix)."""
    path = Path(name)
    if path.suffix == ".ipynb" and path.is_file():
        return path
    known = {p.stem: p for p in sorted(NOTEBOOKS.glob("*.ipynb"))}
    for stem, found in known.items():
        if Path(name).stem in (stem, stem.partition("_")[2]):
            return found
    raise BadInput(f"no notebook {name!r}{did_you_mean(name, known)}")


def fitting(runs: list[Run]) -> Path:
    """The notebook whose question these runs answer."""
    return named("00_start_here" if len(runs) == 1 else "07_explain_a_run")
