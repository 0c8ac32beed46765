"""Simulate a grid over any scenario keys: all points meet the same updates, and each is repeated until its mean is known.

A point is repeated (at least --replications times, at most --max-replications) until the 95 % interval of the mean of --metric
is within --precision of the mean; a point that does not get there is marked. --objective marks the settings that meet a
condition, and the cheapest of them. Uses all cores, or the Dask cluster at --scheduler.

-o writes sweep.parquet (a row per point and replication, with the varied keys and every figure of a run's summary) and front.png
(the figure over its cost; --plot: another file). A sweep that was stopped goes on when it is started again with the same
arguments.

    workbench sweep demo --vary policy.wait=0,0.1,0.5
    workbench sweep demo --vary policy.wait=0.1,0.5,1 --vary policy.kind=debounce,window -o runs/policies
    workbench sweep demo --vary policy.wait=0.1,0.5,1 --objective 'time_to_fresh.p99 < 2'
    workbench sweep demo --vary policy.wait=0.1,0.2,0.5,1 --vary policy.kind=debounce,window --plot front.png
    workbench sweep steady --vary pages.0.subscribers=100,1000,10000 --metric time_to_fresh.p99 --precision 0.02
    workbench sweep steady --vary api.workers=1,2,4,8 --set workload.rate=20 --show refetch_rate.peak --json
    workbench sweep hour --vary policy.wait=0.1,0.5 --scheduler tcp://10.0.0.5:8786
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from sim.commands import options
from sim.errors import BadInput, did_you_mean
from sim.results import text
from sim.scenario.keys import keys as scenario_keys
from sim.virtual import sweep as sweeps
from sim.virtual.workers import MOST_PROCESSES, workers

SHOWN = ("time_to_fresh.mean", "time_to_fresh.p95", "refetches_per_update", "refetch_rate.peak")


def configure(parser: argparse.ArgumentParser) -> None:
    options.add_scenario(parser, program="simulator")
    parser.add_argument(
        "--vary", action="append", default=[], metavar="KEY=A,B,...", help="a scenario key and its values (repeat for a grid)"
    )
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="write sweep.parquet there; a stopped sweep can go on")
    parser.add_argument(
        "--metric", default="time_to_fresh.mean", metavar="NAME", help="figure whose precision decides (default %(default)s)"
    )
    parser.add_argument(
        "--precision",
        type=float,
        default=0.05,
        metavar="SHARE",
        help="half of the interval, relative to the mean (default %(default)s)",
    )
    parser.add_argument("--replications", type=int, default=sweeps.LEAST, metavar="N", help="at least (default %(default)s)")
    parser.add_argument("--max-replications", type=int, default=20, metavar="N", help="at most (default %(default)s)")
    parser.add_argument(
        "--engine", choices=("auto", "reference", "fleet"), default="auto", help="auto: chosen for each point by its size"
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--processes", type=int, metavar="N", help="simulations at a time on this machine (default: its cores)")
    where.add_argument("--scheduler", metavar="ADDRESS", help="run on the Dask cluster of this scheduler")
    parser.add_argument("--objective", metavar="CONDITION", help="as 'time_to_fresh.p99 < 2' (s): mark the settings that meet it")
    parser.add_argument("--cost", default=sweeps.COST, metavar="NAME", help="figure that makes a setting cheap (%(default)s)")
    parser.add_argument("--show", action="append", default=[], metavar="NAME", help="figures to print (default: four)")
    parser.add_argument(
        "--plot",
        type=Path,
        metavar="FILE",
        help="draw --metric (or the objective's) over --cost, PNG, SVG or PDF; -o has front.png",
    )
    parser.add_argument("--json", action="store_true", help="print means and intervals as JSON")


def run(args: argparse.Namespace) -> int:
    if args.processes is not None and not 1 <= args.processes <= MOST_PROCESSES:
        raise BadInput(f"--processes must be >= 1 and <= {MOST_PROCESSES}, got {args.processes}")
    sweep = sweeps.Sweep(
        options.scenario(args),
        sweeps.parse_vary(args.vary),
        metric=args.metric,
        precision=args.precision,
        replications=args.replications,
        max_replications=args.max_replications,
        engine=args.engine,
    )
    objective = None if args.objective is None else sweeps.Objective.parse(args.objective)
    with workers(args.processes, args.scheduler) as pool, options.progress() as progress:
        frame = sweeps.run(sweep, pool, args.output, lambda done, expected: progress(done / expected))
    figure = args.metric if objective is None else objective.metric
    asked = [*args.show, *([figure, args.cost] if objective is not None or args.plot else [])]
    unknown = [name for name in asked if name not in frame]
    if unknown:
        raise BadInput(f"{unknown[0]!r}: the runs have no such figure{did_you_mean(unknown[0], map(str, frame.columns))}")
    shown = tuple(args.show) or tuple(dict.fromkeys((args.metric, *SHOWN)))
    drawn = sweeps.overview(sweep, frame, tuple(dict.fromkeys((*shown, figure, args.cost))), objective, args.cost)
    found = drawn[[column for column in drawn if str(column).removesuffix(" +-") not in {figure, args.cost} - set(shown)]]
    plots = [path for path in (args.plot, args.output and args.output / "front.png") if path is not None]
    for path in plots:
        _draw(sweep, drawn, args.cost, figure, objective, path)
    if args.json:
        rows = json.loads(found.replace(math.inf, "never").to_json(orient="records"))
        options.print_json("sweep", {"rows": rows})
        return 0
    print("\n".join(_table(sweep, found, shown, args.objective)))
    if not found["precise"].all():
        print(f"! {args.metric} is not known to {args.precision:.3g} of its value after {args.max_replications} replications")
    if args.output is not None:
        print(f"table: {args.output / 'sweep.parquet'}")
    for path in plots:
        print(f"front: {path}")
    return 0


def _draw(
    sweep: sweeps.Sweep, found: pd.DataFrame, cost: str, figure: str, objective: sweeps.Objective | None, path: Path
) -> None:
    """Cost against the figure, one line for each value of all keys but the first that are varied."""
    # Here and not above: a sweep that draws nothing does not wait for Matplotlib.
    from sim.results import fronts
    from sim.results.plots import plot_pareto

    first, *others = sweep.vary
    table = fronts.front(
        found.assign(
            setting=[f"{first.rpartition('.')[2]} {value} {_units().get(first, '')}".rstrip() for value in found[first]],
            policy=[", ".join(map(str, values)) for values in found[others].to_numpy()] if others else first,
        ).astype({cost: float, figure: float}),
        cost,
        figure,
    )
    limit = objective.limit if objective is not None and objective.op in ("<", "<=") else None
    chosen = table[table["cheapest"]].iloc[0] if objective is not None and table["cheapest"].any() else None
    axes = plot_pareto(
        table,
        load=cost,
        staleness=figure,
        objective=limit,
        chosen=chosen,
        n=f"{sweep.scenario.name}, {found['replications'].min()} runs a setting or more",
    )
    canvas = axes.figure.canvas
    if path.suffix.removeprefix(".").lower() not in canvas.get_supported_filetypes():
        raise BadInput(f"--plot {path}: write .png, .svg or .pdf")
    try:
        canvas.print_figure(path)
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror or error}") from error


def _table(sweep: sweeps.Sweep, found: pd.DataFrame, shown: Sequence[str], objective: str | None) -> list[str]:
    """Lines for a terminal; a figure as `743 ms ±2 %`. Four metrics and one varied key take less than 80 columns."""
    keys = list(sweep.vary)
    last = [key.rpartition(".")[2] for key in keys]
    short = last if len(set(last)) == len(last) else keys
    names = [f"{name} ({_units()[key]})" if key in _units() else name for name, key in zip(short, keys, strict=True)]
    table = pd.DataFrame({name: found[key].astype(str) for name, key in zip(names, keys, strict=True)})
    table["runs"] = [f"{n}{'' if precise else '!'}" for n, precise in zip(found["replications"], found["precise"], strict=True)]
    for metric in shown:
        family, dot, figure = metric.rpartition(".")
        halves = zip(found[metric].astype(float), found[f"{metric} +-"].astype(float), strict=True)
        heading = f"{family} {figure}" if dot else metric.replace("_", " ", 1)
        table[heading] = [_figure(text.unit_of(metric), mean, half) for mean, half in halves]
    if "objective" in found:
        marks = zip(found["objective"], found["cheapest"], strict=True)
        table["meets"] = [f"{met}{' *' if cheapest else ''}" for met, cheapest in marks]
    lines = text.aligned(table.set_index(names[0]))
    if objective is not None:
        best = "* the cheapest setting that surely meets the objective"
        lines.append(best if found["cheapest"].any() else f"no setting surely meets {objective}")
    return lines


def _units() -> dict[str, str]:
    """Scenario key -> its unit, where it has one."""
    return {key.dotted: key.unit for key in scenario_keys() if key.unit}


def _figure(unit: Callable[[float], str], mean: float, half: float) -> str:
    relative = 100 * half / abs(mean) if mean and math.isfinite(mean) else math.nan
    return unit(mean) + (f" ±{relative:.1f} %" if relative >= 0.05 else "")
