"""Run a scenario with thousands of real subscribers, and say whether the result can be believed.

Starts the embedded target (unless --target), connects the subscribers with headless Locust, waits until all are subscribed,
sends the updates open loop, drains, stops everything, and writes a run bundle.

    workbench loadtest demo
    workbench loadtest demo --users 5000 --processes 2 -o runs/big
    workbench loadtest demo --target target.json --junit junit.xml --summary summary.md
    workbench loadtest demo --target .env --auth local --direct        # fan-out alone: events go to the broadcaster
    workbench loadtest demo --otlp http://127.0.0.1:4318               # live figures to an OpenTelemetry collector
    workbench loadtest demo --target .env --passive                    # only listen to a live application
    workbench loadtest steady --shape storm:every=10                   # everyone loses the connection, again and again
    workbench loadtest steady --search workload.rate=10,20,40,80,160   # where is the knee?

On several machines, with the same scenario; the first one is given the number of workers of the others:

    workbench loadtest demo --target target.json --remote-workers 4 --bind 10.0.0.1:5557
    workbench loadtest demo --target target.json --join 10.0.0.1:5557 --processes 2

Exit codes: 0 pass, 2 bad input, 3 a threshold failed, 4 the run is invalid (the harness or a clock was the limit), 5 the target
does not answer, 130 interrupted (the bundle holds what was measured, marked partial).
"""

from __future__ import annotations

import argparse
import importlib.util
import shlex
from pathlib import Path

from sim.commands import options
from sim.commands.measuring.one import LoadTestSettings, join, run_load_test
from sim.commands.measuring.search import search
from sim.errors import BadInput, Unreachable
from sim.live.client import HttpOrigin
from sim.live.probe import why_unreachable
from sim.scenario import Scenario

AUTH = {"endpoint": "bearer", "cookie": "cookie", "local": "signed"}
"""Flag -> the scenario's word: at the application with a bearer token, or with cookie and CSRF token; or signed here."""


def configure(parser: argparse.ArgumentParser) -> None:
    options.add_scenario(parser, program="load test")
    options.add_target(parser, otherwise="the embedded target, started for the run")
    parser.add_argument("--users", type=int, metavar="N", help="subscribers, in the scenario's mixture of pages")
    parser.add_argument("--processes", type=int, metavar="P", help="load processes on this machine")
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="run bundle (default: runs/SCENARIO-TIME)")
    parser.add_argument(
        "--auth", choices=tuple(AUTH), help="authorise channels at the application (by token, or by cookie), or sign them here"
    )
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--direct", action="store_true", help="publish to the broadcaster, without the application")
    way.add_argument("--passive", action="store_true", help="publish nothing, listen")
    parser.add_argument(
        "--shape", default="", metavar="SHAPE", help="subscribers over time: ramp, steps, spike, storm, soak[:KEY=VALUE,..]"
    )
    parser.add_argument(
        "--search", metavar="KEY=A,B,..", help="a run for each value of a scenario key until one does not hold: finds the knee"
    )
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write thresholds and validity as JUnit XML")
    parser.add_argument("--summary", type=Path, metavar="FILE", help="write the result as Markdown")
    parser.add_argument(
        "--locust", default="", metavar="ARGS", help="further arguments for Locust, as '--csv=locust --html=l.html'"
    )
    parser.add_argument(
        "--otlp", default="", metavar="URL", help="OpenTelemetry collector for live figures, as http://127.0.0.1:4318"
    )
    parser.add_argument("--remote-workers", type=int, default=0, metavar="N", help="load processes of other machines")
    parser.add_argument("--bind", default="127.0.0.1:0", metavar="HOST:PORT", help="address at which the master listens to them")
    parser.add_argument("--join", metavar="HOST:PORT", help="be such a machine: start --processes load processes for that master")
    parser.add_argument("--json", action="store_true", help="print summary, verdict and thresholds as JSON")


def run(args: argparse.Namespace) -> int:
    scenario = _scenario(args)
    for path in (args.junit, args.summary):
        options.require_place(path)
    if args.remote_workers < 0:
        raise BadInput(f"--remote-workers must be >= 0, got {args.remote_workers}")
    settings = LoadTestSettings(
        output=args.output,
        target=args.target,
        accounts=args.accounts,
        owned=args.i_own_this_target,
        remote_workers=args.remote_workers,
        master=options.host_and_port(args.join or args.bind),
        shape=args.shape,
        locust=_words(args.locust),
        otlp=_collector(args.otlp),
        command="workbench loadtest " + scenario.name,
    )
    if args.join:
        return join(scenario, settings)
    if args.search:
        return search(scenario, settings, args.search, args.json)
    outcome = run_load_test(scenario, settings)
    if args.junit:
        options.write_text(args.junit, outcome.junit())
    if args.summary:
        options.write_text(args.summary, outcome.markdown())
    if args.json:
        options.print_json("loadtest", outcome.to_dict())
    else:
        print(outcome.text())
    outcome.require_pass()
    return 0


def _collector(url: str) -> str:
    """The collector, which must answer before anything is started; that it ends later does not end a run."""
    if url:
        try:
            origin = HttpOrigin.parse(url)
        except BadInput as error:
            raise BadInput(f"--otlp: {error}") from error
        if importlib.util.find_spec("opentelemetry") is None:
            raise BadInput("--otlp needs the extra `otlp`: pip install 'notify-refetch-workbench[otlp]'")
        if reason := why_unreachable(origin.host, origin.port):
            raise Unreachable(f"--otlp {url}: {reason} (is a collector listening there for OTLP over HTTP?)")
    return url


def _words(text: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise BadInput(f"--locust {text!r}: {str(error).lower()}") from error


def _scenario(args: argparse.Namespace) -> Scenario:
    """The scenario with what the flags change."""
    scenario = options.scenario(args)
    if args.users is not None:
        if args.users < 1:
            raise BadInput(f"--users must be >= 1, got {args.users}")
        scenario = scenario.with_subscribers(args.users)
    changes = {
        "load.processes": args.processes,
        "load.auth": AUTH.get(args.auth),
        "publisher.via": "broadcaster" if args.direct else "none" if args.passive else None,
    }
    return scenario.replace({key: value for key, value in changes.items() if value is not None})
