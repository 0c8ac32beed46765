"""Find the largest load that holds, and count what a load takes: machines of the target, and of the load test.

--subscribers N: load processes, machines, ports and descriptors that a load test of N subscribers needs, from figures of this
machine (those of `workbench calibrate`, measured now where there are none) and the updates and pages of a scenario.

--objective CONDITION (best with --fit): the largest load that holds, by bisection of simulations with the fitted costs; and its
nodes, workers, memory and bandwidth.

--measure: load tests look for the largest load as well. They begin at half of the predicted one and end when the least load that
misses the objective is near the largest that keeps it. Then the command says whether prediction and measurement agree. Each load
test leaves its bundle. Ctrl-C ends with what is known by then.

    workbench plan --subscribers 10000
    workbench plan --subscribers 100000 --scenario herd
    workbench plan --subscribers 50000 --cores 8 --memory 32 --json
    workbench plan --fit shop.fit.json --objective 'time_to_fresh.p99 < 2'
    workbench plan --fit shop.fit.json --objective 'time_to_fresh.p95 < 1' --scenario mine.toml --margin 0.3
    workbench plan --fit shop.fit.json --objective 'time_to_fresh.p95 < 1' --measure --target .env -o runs/knee --within 10m
    workbench plan --scenario herd --set api.workers=1 --objective 'time_to_fresh.p95 < 2' --measure      # the embedded target

Exit codes: 0 there is a load that holds (with --measure: a measured one), 2 bad input, 3 there is none, 4 too busy to calibrate.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import os
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from sim.commands import options
from sim.commands.measuring.climb import Climb, climb, expected, heading, line
from sim.commands.measuring.one import LoadTestSettings, calibrated
from sim.commands.measuring.search import USERS, SearchStep, place, step
from sim.commands.terminal import Terminal
from sim.errors import BadInput, InvalidRun, ThresholdFailed
from sim.experiments import advised, scale
from sim.live.capacity import capacity, limits
from sim.prediction import Fit, read
from sim.results.text import labelled, number, percent, seconds, size, three, unit_of
from sim.results.thresholds import parse_all
from sim.scenario import Scenario, build, load_scenario, parse_assignments, require_honoured
from sim.virtual.sweep import Objective

DRAWS = 5
"""Further bisections, each with updates of its own and a joint draw of the fit."""

DURATION = 20.0
"""Seconds of updates that a load test of --measure has at most, and the simulations of its prediction as well."""

START = 0.5
"""Share of the predicted largest load at which --measure begins."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--subscribers", type=int, metavar="N", help="pages that are open at once")
    parser.add_argument(
        "--scenario",
        metavar="SCENARIO",
        help="updates and pages are those of this one (default: the fit's; else half dashboards, 1/s)",
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change one key (may be repeated)")
    parser.add_argument("--cores", type=int, metavar="N", help="processor cores of a load machine (default: as here)")
    parser.add_argument("--memory", type=float, metavar="GIB", help="memory of a load machine (default: as here)")
    parser.add_argument("--fit", type=Path, metavar="FIT", help="costs of the target, as workbench fit wrote them")
    parser.add_argument("--objective", metavar="CONDITION", help="what must hold, as 'time_to_fresh.p99 < 2' (s)")
    parser.add_argument(
        "--margin",
        type=float,
        default=0.2,
        metavar="SHARE",
        help="part of the largest load that is kept free (default: %(default)s)",
    )
    parser.add_argument("--measure", action="store_true", help="look for the largest load by load tests")
    parser.add_argument(
        "--within", default="15m", metavar="TIME", help="time that the load tests may take (default: %(default)s)"
    )
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="bundles of --measure (default: below runs/)")
    options.add_target(parser, otherwise="with --measure: the embedded one")
    parser.add_argument("--json", action="store_true", help="print the plan as JSON")


def run(args: argparse.Namespace) -> int:
    _require_sense(args)
    objective = None if args.objective is None else Objective.parse(args.objective)
    budget = options.seconds("--within", args.within)
    fit = None if args.fit is None else read(args.fit)
    changes = parse_assignments(args.set)
    scenario, fitted = _scenario(args, fit, changes)
    if objective is not None and args.measure:
        wanted = {"delivery_ratio": "value >= 1"} | threshold(objective)
        parse_all(wanted)
        if args.target is not None:
            options.read_target(args.target)
        if args.output is not None and args.output.exists() and (not args.output.is_dir() or any(args.output.iterdir())):
            raise BadInput(f"-o {args.output}: is there already (choose another directory)")
        require_honoured(scenario, "load test")
        duration = min(scenario.duration, DURATION)
        scenario = dataclasses.replace(scenario, thresholds=wanted, duration=duration)
        fitted = dataclasses.replace(fitted, duration=duration)
    found = None
    if objective is not None:
        costs = [{} if fit is None else fit.draw(np.random.default_rng(seed), fitted) for seed in range(DRAWS)]
        draws = [drawn | changes | {"seed": scenario.seed + 1 + i} for i, drawn in enumerate(costs)]
        options.say_on_terminal(f"simulating {fitted.name} with more and more pages, {1 + len(draws)} times")
        found = scale.largest(fitted, objective, draws, args.margin, args.subscribers)
    planned = scenario.with_subscribers(args.subscribers if found is None else found.planned)
    machine, known = _machine(args), calibrated(Terminal(planned.subscribers))
    if known is None:
        raise InvalidRun("this machine is too busy to measure what one process can do: try again, or run workbench calibrate")
    plan = capacity.plan(planned, known, machine)
    tree = plan.to_dict() if found is None else plan.to_dict() | {"largest": _jsonable(found)}
    if args.json and not args.measure:
        options.print_json("plan", tree)
    elif not args.json:
        if found is not None:
            print(_load(found, scenario.duration, fit, args.fit))
        print(_text(plan, machine))
    if found is not None and not found.subscribers:
        raise ThresholdFailed(f"not even one subscriber keeps {args.objective}: what is missing is no size ({found.cause})")
    return _measured(args, scenario, found, tree, budget) if args.measure and found is not None else 0


def _require_sense(args: argparse.Namespace) -> None:
    for name in ("subscribers", "cores", "memory"):
        if getattr(args, name) is not None and not 0 < getattr(args, name) < float("inf"):
            raise BadInput(f"--{name} must be > 0, got {getattr(args, name)}")
    if not 0 <= args.margin < 1:
        raise BadInput(f"--margin must be a share between 0 and 1, got {args.margin}")
    if args.objective is None and args.subscribers is None:
        raise BadInput("say --subscribers N, or --objective CONDITION (with --fit FIT) for the largest load that holds")
    if args.objective is None and args.measure:
        raise BadInput("--measure needs --objective: it looks for the load that misses it")


def _machine(args: argparse.Namespace) -> capacity.LoadMachine:
    return capacity.LoadMachine(
        cores=args.cores or os.cpu_count() or 1,
        memory=round(args.memory * 2**30) if args.memory else psutil.virtual_memory().total,
        descriptors=limits.descriptors(),
        ports=limits.local_ports(),
    )


def _scenario(args: argparse.Namespace, fit: Fit | None, changes: dict[str, Any]) -> tuple[Scenario, Scenario]:
    """(the scenario that is scaled, the same with the fitted costs). A load test is one of the first: the target has its own."""
    half = {"pages": [{"page": "detail", "subscribers": 100}, {"page": "dashboard", "subscribers": 100}]}
    if args.scenario:
        found = load_scenario(args.scenario)
    elif fit is not None:
        found = build(Scenario, dict(fit.scenario), where=f"{args.fit}, its scenario")
    else:
        found = Scenario().replace(half)
    found = found.replace(changes)
    found.check()
    return found, found if fit is None else fit.apply(found).replace(changes)


def _load(found: scale.Largest, length: float, fit: Fit | None, path: Path | None) -> str:
    """The largest load, and what the planned one takes, as lines."""
    at, metric = found.at, found.objective.metric
    most = f"{_range(found)}{' and more' if found.beyond else ''} keep {advised.objective(found.objective)}"
    planned = f"{number(found.planned)} subscribers: {metric} {unit_of(metric)(at['value'])} in one simulation"
    refetches = f"{three(at['refetch_rate'])} refetches/s on the average, {three(at['peak'])}/s in the fullest tenth of a second"
    rows = [
        ("largest load", most),
        ("stopped by", found.cause),
        ("planned", planned),
        (
            "nodes",
            f"{found.nodes}   (none busier than {percent(scale.UTILISATION)}; {size(found.memory)} for connections)",
        ),
        ("app. workers", f"{found.workers}   ({refetches})"),
        ("bandwidth", f"{size(found.bandwidth)}/s to the pages"),
    ]
    if found.searched < length:
        rows.append(("searched", f"in the first {seconds(found.searched)} of {seconds(length)} of updates"))
    if not found.low or found.cause.startswith("the policy"):
        rows.append(("not by size", "other updates miss it at any size: the policy does (workbench advise looks for another)"))
    measured = math.inf if fit is None else fit.ranges.get("subscribers", (0.0, math.inf))[1]
    if fit is None:
        rows.append(("costs", "the scenario's own, not fitted ones (workbench fit RUN -o FIT, then --fit)"))
    elif found.planned > measured:
        beyond = found.planned / measured
        rows.append(("costs", f"of {path}, measured up to {number(measured)} subscribers: this is {beyond:.3g} times as many"))
    return labelled(rows) + "\n"


def _range(found: scale.Largest) -> str:
    """With what the draws make of it: costs of a fit, other updates."""
    spread = f" ({three(found.low)} to {three(found.high)})" if found.low < found.high else ""
    return f"{three(found.subscribers)}{spread} subscribers"


def _jsonable(found: scale.Largest) -> dict[str, object]:
    tree = {
        field.name: getattr(found, field.name) for field in dataclasses.fields(found) if field.name not in ("objective", "at")
    }
    at = {name: value if math.isfinite(value) else "never" for name, value in found.at.items() if value is not None}
    return {"objective": advised.objective(found.objective), **tree, "at": at}


def threshold(objective: Objective) -> dict[str, str]:
    """The objective as a threshold of a load test."""
    found = re.fullmatch(r"(\w+)\.(?:p([\d.]+)|(mean|max))", objective.metric)
    base, figure = (objective.metric, "value") if found is None else (found[1], found[3] or f"p({found[2]})")
    return {base: f"{figure} {objective.op} {objective.limit!r}"}


def _measured(
    args: argparse.Namespace, scenario: Scenario, largest: scale.Largest, tree: dict[str, object], budget: float
) -> int:
    """Load tests around the largest load; what is known is printed also where an error or an interrupt ends them."""
    settings = LoadTestSettings(
        args.output, args.target, args.accounts, args.i_own_this_target, command="workbench plan --measure"
    )
    root, found, metric = place(scenario, settings), Climb(), largest.objective.metric
    count, duration = expected(scenario, largest.subscribers)
    if duration / count > budget:
        raise BadInput(f"--within {args.within}: a single load test of this scenario takes {seconds(duration / count)}")
    about = f"{count} load tests or so take {seconds(duration)}; they end within {seconds(budget)} (--within)"
    print(f"measuring: {about}", file=sys.stderr)
    if not args.json:
        print(f"\n{heading(metric)}", flush=True)

    def test(size: int) -> SearchStep:
        print(f"{USERS} = {size}", file=sys.stderr)
        return step(scenario.with_subscribers(size), settings, root, USERS, size)

    try:
        for taken in climb(found, test, START * (scenario.subscribers if largest.beyond else largest.subscribers), budget):
            if not args.json:
                print(line(taken, metric), flush=True)
    finally:
        law, (same, agreement) = found.scalability(scenario.duration), found.agrees(largest.low, largest.high)
        if args.json and found.steps:
            options.print_json("plan", tree | {"measured": found.to_dict() | {"agrees": same, "scalability": law}})
        elif found.steps:
            rows = [("predicted", _range(largest)), ("measured", found.words()), ("agreement", agreement)]
            print("\n" + labelled([*rows, ("scalability", law), ("bundles", str(root))]))
    if found.steps and found.steps[-1].outcome.interrupted:
        found.steps[-1].outcome.require_pass()
    return 0 if found.bracket.held else 3


def _text(plan: capacity.LoadPlan, machine: capacity.LoadMachine) -> str:
    reasons = ", ".join(f"{name} {count}" for name, count in plan.limits.items() if name != "one at least")
    rows = [
        ("subscribers", f"{plan.subscribers:,}   {number(plan.messages_per_second)} messages/s on the average"),
        ("workers", f"{plan.workers} load processes   (for {reasons}; {plan.decided_by} decides)"),
        ("machines", f"{plan.machines} with {machine.cores} cores, {machine.memory / 2**30:.0f} GiB"),
        (
            "descriptors",
            f"{plan.descriptors_per_worker:,} a worker (`ulimit -n {plan.descriptors_per_worker}`; here {machine.descriptors:,})",
        ),
        ("ports", f"{plan.ports:,} of {machine.ports:,} local ports from each machine to one address of the target"),
        ("memory", f"{plan.memory_per_worker / 2**20:.0f} MiB a worker"),
        (
            "at the target",
            f"`ulimit -n {plan.descriptors_at_target}` for the broadcaster; Reverb needs ext-uv above 1,000 sockets",
        ),
    ]
    command = f"workbench loadtest SCENARIO --users {plan.subscribers} --processes"
    if plan.machines == 1:
        rows.append(("command", f"{command} {plan.workers}"))
    else:
        each = -(-plan.workers // plan.machines)
        shared = "workbench loadtest SCENARIO --target target.json"
        master = f"--remote-workers {each * (plan.machines - 1)} --bind ADDRESS:5557"
        rows.append(("first machine", f"{shared} --users {plan.subscribers} --processes {each} {master}"))
        rows.append(("the others", f"{shared} --join ADDRESS:5557 --processes {each}"))
    if plan.machines > 1 and plan.alone:
        nodes = f" --set broadcaster.nodes={plan.nodes_alone}" if plan.nodes_alone > 1 else ""
        rows.append(("on one, slower", f"{command} {plan.alone}{nodes}"))
        rows.append(("", "holds them all, target included, each process with a loopback address of its own"))
    return labelled(rows)
