"""How large a load holds, and what a load takes: machines of the target, and of the load test that shows it.

With --subscribers: how many load processes, machines, ports and descriptors they need, counted with what was measured on this
machine (`workbench calibrate`; measured now where that never happened) and with the updates and pages of a scenario. With --fit
and --objective: the largest load that holds, by bisection of simulations with the fitted costs, with its nodes, workers, memory
and bandwidth; --measure then walks up to it by load tests, to the knee.

    workbench plan --subscribers 10000
    workbench plan --subscribers 100000 --scenario herd
    workbench plan --subscribers 50000 --cores 8 --memory 32 --json
    workbench plan --fit shop.fit.json --objective 'time_to_fresh.p99 < 2'
    workbench plan --fit shop.fit.json --objective 'time_to_fresh.p95 < 1' --scenario mine.toml --margin 0.3
    workbench plan --fit shop.fit.json --objective 'time_to_fresh.p95 < 1' --measure --target .env -o runs/knee

Exit codes: 0 there is a load that holds (with --measure: a measured one), 2 bad input, 3 there is none, 4 too busy to calibrate.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import os
import re
from pathlib import Path

import numpy as np
import psutil

from sim.commands import options
from sim.commands.measuring.one import Settings, calibrated
from sim.commands.measuring.search import USERS, Step, table, walk
from sim.commands.terminal import Terminal
from sim.errors import BadInput, InvalidRun, ThresholdFailed
from sim.experiments import scale
from sim.live.capacity import capacity, limits
from sim.prediction import Fit, read
from sim.results.text import number, percent, unit_of
from sim.scenario import Scenario, load_scenario
from sim.virtual.sweep import Objective
from sim.virtual.theory import usl_fit

DRAWS = 5
"""Joint draws of a fit that are bisected."""

STEPS = (0.1, 0.2, 0.35, 0.5, 0.7, 0.85, 1.0, 1.2, 1.5)
"""Shares of the predicted largest load at which --measure tries."""

DURATION = 20.0
"""Seconds that one of its load tests lasts at most."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--subscribers", type=int, metavar="N", help="pages that are to be open at once")
    parser.add_argument(
        "--scenario",
        metavar="SCENARIO",
        help="whose updates and pages (default: the fit's; else half dashboards, 1/s)",
    )
    parser.add_argument("--cores", type=int, metavar="N", help="of a load machine (default: as here)")
    parser.add_argument("--memory", type=float, metavar="GIB", help="of a load machine (default: as here)")
    parser.add_argument("--fit", type=Path, metavar="FIT", help="costs of the target, as workbench fit wrote them")
    parser.add_argument("--objective", metavar="CONDITION", help="what is to hold, as 'time_to_fresh.p99 < 2' (s)")
    parser.add_argument("--margin", type=float, default=0.2, metavar="SHARE", help="kept free (default: %(default)s)")
    parser.add_argument("--measure", action="store_true", help="walk up to the largest load by load tests")
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="bundles of --measure (default: below runs/)")
    options.add_target(parser, otherwise="with --measure: the embedded one")
    parser.add_argument("--json", action="store_true", help="print the plan as JSON")


def run(args: argparse.Namespace) -> int:
    _require_sense(args)
    objective = None if args.objective is None else Objective.parse(args.objective)
    limits_ = {"delivery_ratio": "value >= 1"} | threshold(objective) if objective is not None and args.measure else {}
    fit = None if args.fit is None else read(args.fit)
    scenario = dataclasses.replace(_scenario(args, fit), thresholds=limits_)
    found = None
    if objective is not None:
        draws = [] if fit is None else [fit.draw(np.random.default_rng(seed)) for seed in range(DRAWS)]
        found = scale.largest(scenario, objective, draws, args.margin, args.subscribers)
    planned = scenario.with_subscribers(args.subscribers if found is None else found.planned)
    machine, ruler = _machine(args), calibrated(Terminal(planned.subscribers))
    if ruler is None:
        raise InvalidRun("this machine is too busy to measure what one process can do: try again, or run workbench calibrate")
    plan = capacity.plan(planned, ruler, machine)
    tree = plan.to_dict() if found is None else plan.to_dict() | {"largest": _jsonable(found)}
    if args.json and not args.measure:
        options.print_json("plan", tree)
    elif not args.json:
        if found is not None:
            print(_said(found, fit, args.fit))
        print(_text(plan, machine))
    if found is not None and not found.subscribers:
        raise ThresholdFailed(f"not even one subscriber keeps {args.objective}: what is missing is no size ({found.cause})")
    return _measured(args, scenario, found, tree) if args.measure and found is not None else 0


def _require_sense(args: argparse.Namespace) -> None:
    for name in ("subscribers", "cores", "memory"):
        if getattr(args, name) is not None and not 0 < getattr(args, name) < float("inf"):
            raise BadInput(f"--{name} must be > 0, got {getattr(args, name)}")
    if not 0 <= args.margin < 1:
        raise BadInput(f"--margin must be a share between 0 and 1, got {args.margin}")
    if args.objective is None and args.subscribers is None:
        raise BadInput("say --subscribers N, or --objective CONDITION (with --fit FIT) for the largest load that holds")
    if args.objective is None and args.measure:
        raise BadInput("--measure needs --objective: it walks up until that is missed")


def _machine(args: argparse.Namespace) -> capacity.Machine:
    return capacity.Machine(
        cores=args.cores or os.cpu_count() or 1,
        memory=round(args.memory * 2**30) if args.memory else psutil.virtual_memory().total,
        descriptors=limits.descriptors(),
        ports=limits.local_ports(),
    )


def _scenario(args: argparse.Namespace, fit: Fit | None) -> Scenario:
    """The scenario that is scaled, with the fitted costs."""
    if args.scenario:
        found = load_scenario(args.scenario)
        return found if fit is None else fit.apply(found)
    if fit is not None:
        return fit.base()
    half = {"pages": [{"page": "detail", "subscribers": 100}, {"page": "dashboard", "subscribers": 100}]}
    return Scenario().replace(half)


def _said(found: scale.Largest, fit: Fit | None, path: Path | None) -> str:
    """The largest load, and what the planned one takes, as lines."""
    at, metric = found.at, found.objective.metric
    spread = f"   ({number(found.low)} to {number(found.high)} by what the fit leaves open)" if found.low < found.high else ""
    most = f"{number(found.subscribers)} subscribers{' and more' if found.beyond else ''} keep {_goal(found)}{spread}"
    planned = f"{number(found.planned)} subscribers: {metric} {unit_of(metric)(at['value'])}"
    refetches = f"{number(at['refetch_rate'])} refetches/s on the average, {number(at['peak'])} at the peak"
    rows = [
        ("largest load", most),
        ("stopped by", found.cause),
        ("planned", planned),
        (
            "nodes",
            f"{found.nodes}   (none busier than {percent(scale.UTILISATION)}; {scale.size_of(found.memory)} for connections)",
        ),
        ("app. workers", f"{found.workers}   ({refetches})"),
        ("bandwidth", f"{scale.size_of(found.bandwidth)}/s to the pages"),
    ]
    measured = math.inf if fit is None else fit.ranges.get("subscribers", (0.0, math.inf))[1]
    if fit is None:
        rows.append(("costs", "the scenario's own, not fitted ones (workbench fit RUN -o FIT, then --fit)"))
    elif found.planned > measured:
        beyond = found.planned / measured
        rows.append(("costs", f"of {path}, measured up to {number(measured)} subscribers: this is {beyond:.3g} times as many"))
    return "\n".join(f"{label:18}{text}" for label, text in rows) + "\n"


def _goal(found: scale.Largest) -> str:
    goal = found.objective
    return f"{goal.metric} {goal.op} {unit_of(goal.metric)(goal.limit)}"


def _jsonable(found: scale.Largest) -> dict[str, object]:
    tree = {
        field.name: getattr(found, field.name) for field in dataclasses.fields(found) if field.name not in ("objective", "at")
    }
    at = {name: value if math.isfinite(value) else "never" for name, value in found.at.items() if value is not None}
    return {"objective": _goal(found), **tree, "at": at}


def threshold(objective: Objective) -> dict[str, str]:
    """The objective as a threshold of a load test. Raises `BadInput` for one that is not of time to fresh or to notified."""
    named = re.fullmatch(r"(time_to_\w+)\.p([\d.]+)", objective.metric)
    if named is None:
        raise BadInput(f"--measure: {objective.metric} cannot be walked up to (a percentile of time_to_fresh or _notified can)")
    return {f"{named[1]}_ms": f"p({named[2]}) {objective.op} {objective.limit * 1000:g}"}


def _measured(args: argparse.Namespace, scenario: Scenario, found: scale.Largest, tree: dict[str, object]) -> int:
    """Load tests at shares of the largest load, up to the first that does not hold."""
    tested = dataclasses.replace(scenario, duration=min(scenario.duration, DURATION))
    sizes = sorted({max(1, round(found.subscribers * share)) for share in STEPS})
    settings = Settings(args.output, args.target, args.accounts, args.i_own_this_target, command="workbench plan --measure")
    knee, steps = walk(tested, settings, USERS, sizes)
    law = scalability(steps, tested.duration)
    if args.json:
        rows = [{"subscribers": value, "bundle": str(outcome.directory), "fails": why} for value, outcome, why in steps]
        options.print_json("plan", tree | {"measured": {"knee": knee, "steps": rows, "scalability": law}})
    else:
        print(f"\n{table(USERS, steps, knee)}")
        if knee is not None:
            ended = " (the walk ended at an invalid run, not at the knee)" if steps[-1][1].reasons else ""
            print(f"predicted: {number(found.subscribers)} subscribers; measured: {number(knee)} held{ended}")
        print(f"scalability: {law}")
    return 0 if knee is not None else 3


def scalability(steps: list[Step], duration: float) -> str:
    """The universal scalability law of deliveries per second over subscribers, or why there is none."""
    seen = [(float(value), outcome.summary.get("deliveries.received", {}).get("value")) for value, outcome, _ in steps]
    points = [(n, float(got) / duration) for n, got in seen if got]
    try:
        law = usl_fit([n for n, _ in points], [rate for _, rate in points])
    except BadInput as error:
        return f"not fitted: {error}"
    peak = "never falls" if math.isinf(law.peak) else f"is largest at {number(round(law.peak))} subscribers"
    return f"contention {law.contention:.3g}, coherence {law.coherence:.3g}: throughput {peak}"


def _text(plan: capacity.Plan, machine: capacity.Machine) -> str:
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
    lines = [f"{label:18}{text}" for label, text in rows]
    if plan.machines == 1:
        lines.append(f"{'command':18}workbench loadtest SCENARIO --users {plan.subscribers} --processes {plan.workers}")
    else:
        each = -(-plan.workers // plan.machines)
        lines += [
            f"{'first machine':18}workbench loadtest SCENARIO --target target.json --users {plan.subscribers} --processes {each} "
            f"--remote-workers {each * (plan.machines - 1)} --bind ADDRESS:5557",
            f"{'the others':18}workbench loadtest SCENARIO --target target.json --join ADDRESS:5557 --processes {each}",
        ]
    if plan.machines > 1 and plan.alone:
        nodes = f" --set broadcaster.nodes={plan.nodes_alone}" if plan.nodes_alone > 1 else ""
        lines += [
            f"{'on one, slower':18}workbench loadtest SCENARIO --users {plan.subscribers} --processes {plan.alone}{nodes}",
            f"{'':18}holds them all, target included, each process with a loopback address of its own",
        ]
    return "\n".join(lines)
