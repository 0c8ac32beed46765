"""Advise on an objective: one page with the policy to set, the code to paste, head-room, what breaks first, and remedies.

SOURCE is a run, a bundle of `workbench listen`, a recorded trace, or a scenario file. The present policy and every usual setting
are simulated with the same updates. Costs are those of --fit, else those fitted to a measured run (as by workbench fit), else the
scenario's. Nothing is measured, and no target is needed.

examples:
  workbench advise runs/demo
  workbench advise runs/demo --fit shop.fit.json --objective 'time_to_fresh.p99 < 2'
  workbench advise heard --set pages.0.subscribers=500 --set pages.1.subscribers=50
  workbench advise data/traces/stack --markdown -o advice.md
  workbench advise mine.toml --objective 'stale_ratio < 0.05' --json

Exit codes: 0 a policy meets the objective, 2 bad input, 3 none does.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import pandas as pd

from sim.commands import options
from sim.errors import BadInput, ThresholdFailed
from sim.experiments import advice, advised
from sim.prediction import read
from sim.results.answers import heard, sections
from sim.results.answers.standing import verdict
from sim.results.run import Run
from sim.results.text import number
from sim.scenario import Fleet, Pages, Scenario, load_scenario, parse_assignments
from sim.virtual.sweep import Objective
from sim.workload import Replay, load_traces

OBJECTIVE = "time_to_fresh.p95 < 1"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE", help="run bundle, bundle of listen, trace, or scenario file (*.toml)")
    parser.add_argument("--objective", default=OBJECTIVE, metavar="CONDITION", help="what must hold (default: %(default)s, in s)")
    parser.add_argument("--fit", type=Path, metavar="FIT", help="costs of the target, as workbench fit wrote them")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change one key (may be repeated)")
    parser.add_argument("--markdown", action="store_true", help="print it as Markdown")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write it there instead")
    parser.add_argument("--json", action="store_true", help="print what was tried as JSON")


def run(args: argparse.Namespace) -> int:
    objective = Objective.parse(args.objective)
    options.require_place(args.output)
    scenario, source, of = subject(args.source)
    changes = parse_assignments(args.set)
    costs = advice.priced(scenario.replace(changes), of, None if args.fit is None else read(args.fit), str(args.fit))
    scenario = costs.scenario.replace(changes)
    scenario.check()
    options.say_on_terminal(f"simulating {scenario.name}, and every usual setting of its policy")
    found = advice.advise(scenario, objective, draws=[dict(draw) | changes for draw in costs.draws])
    if source.endswith(ASSUMED):
        pages = " and ".join(f"{number(some.subscribers)} {some.page} pages" for some in scenario.pages)
        source += f" {pages} with {advised.describe(scenario.policy)} are what --set says, or assumed."
    beside = [] if of is None else [advised.beside(found, of)]
    page = advised.page(found, f"{source} {costs.source}", [*beside, *costs.unknown])
    written = sections.to_markdown(page) if args.markdown else sections.to_text(page)
    if args.output is not None:
        options.write_text(args.output, written)
    if args.json:
        options.print_json("advise", jsonable(found, page))
    elif args.output is None:
        print(written, end="")
    if found.best is None:
        raise ThresholdFailed(f"no policy that was tried meets {advised.objective(objective)}")
    return 0


def subject(name: str) -> tuple[Scenario, str, Run | None]:
    """(scenario to advise on, what it is in words, the run that it is of). None: its pages and policy are assumed, or of a file.

    Raises `BadInput`.
    """
    path = Path(name)
    if (path / "manifest.json").exists():
        run = Run(name)
        run.verify()
        if heard.is_heard(run):
            words = f"For changes as heard in {run.scenario.duration:g} s ({run.name}): the same gaps, bursts and resources."
            return heard.scenario_of(run), f"{words} {ASSUMED}", None
        if run.manifest.partial or not run.manifest.validity["ok"]:
            raise BadInput(f"{name}: no advice on a run that is {verdict(run)}")
        return run.scenario, f"For the run {run.name} ({run.manifest.source}), with updates drawn anew.", run
    if path.suffix == ".toml":
        return load_scenario(path), f"For the scenario {path.stem}.", None
    if path.is_dir() and not list(path.glob("*.jsonl")):
        raise BadInput(f"{name} is neither a run bundle (no manifest.json) nor a trace (no *.jsonl)")
    traces = load_traces(name)
    length = max(trace.duration for trace in traces)
    scenario = Scenario(
        name=path.stem,
        duration=max(60.0, 2 * length),
        drain=5.0,
        fleet=Fleet(users=10),
        workload=Replay(trace=name, parallel=3),
        pages=(Pages("detail", 200), Pages("dashboard", 50)),
    )
    words = f"For the trace {path.stem} ({number(len(traces))} recordings), with 3 of 20 servers at a time."
    return scenario, f"{words} {ASSUMED}", None


ASSUMED = "It does not contain which pages are open, and their policy:"


def jsonable(found: advice.Advice, page: list[sections.Section]) -> dict[str, object]:
    def rows(frame: pd.DataFrame) -> object:
        plain = frame.drop(columns=["choice", "keys"], errors="ignore").replace([math.inf], "never")
        return json.loads(plain.to_json(orient="records"))

    best = None if found.best is None else advised.describe(found.recommended)
    return {
        "objective": advised.objective(found.objective),
        "recommended": best,
        "headline": advised.headline(found),
        "now": rows(pd.DataFrame([found.now]))[0],  # type: ignore[index]
        "best": None if found.best is None else rows(pd.DataFrame([found.best]))[0],  # type: ignore[index]
        "tried": rows(found.tried),
        "headroom": rows(found.headroom),
        "holds_up_to_times": {growth: "more" if math.isinf(top.times) else top.times for growth, top in found.limits.items()},
        "breaks": None if found.breaking is None else found.breaking["cause"],
        "remedies": rows(found.remedies),
        "not_known": list(page[-1].sentences),
    }
