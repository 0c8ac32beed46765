"""How many load processes, machines, ports and descriptors a number of subscribers needs.

Counts with what was measured on this machine (`workbench calibrate`; measured now where that never happened) and with the update
rate and mixture of pages of a scenario.

    workbench plan --subscribers 10000
    workbench plan --subscribers 100000 --scenario herd
    workbench plan --subscribers 50000 --cores 8 --memory 32 --json
"""

from __future__ import annotations

import argparse
import os

import psutil

from sim.commands import options
from sim.commands.measuring.one import calibrated
from sim.commands.terminal import Terminal
from sim.errors import BadInput, InvalidRun
from sim.live.capacity import capacity, limits
from sim.results.text import number
from sim.scenario import Scenario, load_scenario


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--subscribers", type=int, required=True, metavar="N", help="pages that are to be open at once")
    parser.add_argument(
        "--scenario", metavar="SCENARIO", help="whose updates and mixture of pages (default: half dashboards, 1/s)"
    )
    parser.add_argument("--cores", type=int, metavar="N", help="of a load machine (default: as here)")
    parser.add_argument("--memory", type=float, metavar="GIB", help="of a load machine (default: as here)")
    parser.add_argument("--json", action="store_true", help="print the plan as JSON")


def run(args: argparse.Namespace) -> int:
    for name in ("subscribers", "cores", "memory"):
        if getattr(args, name) is not None and not 0 < getattr(args, name) < float("inf"):
            raise BadInput(f"--{name} must be > 0, got {getattr(args, name)}")
    scenario = _scenario(args)
    ruler = calibrated(Terminal(args.subscribers))
    if ruler is None:
        raise InvalidRun("this machine is too busy to measure what one process can do: try again, or run workbench calibrate")
    machine = capacity.Machine(
        cores=args.cores or os.cpu_count() or 1,
        memory=round(args.memory * 2**30) if args.memory else psutil.virtual_memory().total,
        descriptors=limits.descriptors(),
        ports=limits.local_ports(),
    )
    plan = capacity.plan(scenario, ruler, machine)
    if args.json:
        options.print_json("plan", plan.to_dict())
    else:
        print(_text(plan, machine))
    return 0


def _scenario(args: argparse.Namespace) -> Scenario:
    if args.scenario:
        return load_scenario(args.scenario).with_subscribers(args.subscribers)
    half = Scenario().replace({"pages": [{"page": "detail", "subscribers": 1}, {"page": "dashboard", "subscribers": 1}]})
    return half.with_subscribers(args.subscribers)


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
