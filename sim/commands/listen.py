"""Listen to a live application, and change nothing: what it broadcasts, when, and for which resources.

One page subscribes to the channel of each resource that the target's users own, and one page to each generic channel; no page
fetches anything. The run bundle is that of a passive load test. `workbench scenario NEW.toml --from heard` makes a scenario of
it, with the same gaps, bursts and resources; `workbench advise heard` says which policy to set for it.

    workbench listen --target ../shop/.env --accounts users.csv --for 10m -o heard
    workbench listen --target target.json --for 60 --channel 'private-orders.{id}' --ids orders
    workbench listen --target .env --for 5m --channel private-servers --json       # signed with the app's secret

Exit codes: 0 something was heard, 2 bad input, 4 nothing was heard, 5 the target does not answer or lets no page subscribe.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sim.commands import options
from sim.commands.measuring.one import LoadTestSettings, run_load_test
from sim.errors import BadInput, InvalidRun
from sim.results.answers.heard import figures
from sim.results.run import Run
from sim.results.text import labelled, number, per_second, seconds
from sim.scenario import Load, Pages, Publisher, Scenario
from sim.target import Target, list_of

CHANNELS = ("private-servers.{id}", "private-servers", "private-sites.{id}", "private-sites")
"""Where none is given; of what no user owns, the generic channel alone."""


def configure(parser: argparse.ArgumentParser) -> None:
    options.add_target(parser, otherwise=".env")
    parser.add_argument("--for", dest="duration", default="1m", metavar="TIME", help="as 90, 90s, 10m, 1h (default: %(default)s)")
    options.add_channels(parser, ", ".join(CHANNELS))
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("heard"), metavar="DIR", help="run bundle (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print what was heard as JSON")


def run(args: argparse.Namespace) -> int:
    path = args.target or ".env"
    target = options.with_accounts(options.read_target(path), args.accounts)
    scenario = _scenario(target, options.seconds("--for", args.duration), args.channel, args.ids)
    settings = LoadTestSettings(
        args.output, path, args.accounts, args.i_own_this_target, command="workbench listen", quiet=args.json
    )
    outcome = run_load_test(scenario, settings)
    found = figures(Run(outcome.directory))
    if args.json:
        options.print_json("listen", {"bundle": str(outcome.directory), "seconds": scenario.duration, "heard": found})
    else:
        print(labelled([*_rows(found, scenario.duration), ("bundle", str(outcome.directory))]))
    for line in outcome.refused:
        print(f"note: {line}", file=sys.stderr)
    if not found:
        raise InvalidRun(f"nothing was heard in {seconds(scenario.duration)}: did anything change meanwhile? (workbench doctor)")
    return 0


def _scenario(target: Target, duration: float, channels: list[str], ids: str) -> Scenario:
    """Pages that listen to *channels*, or to those of the pattern. Raises `BadInput` where there would be none."""
    pages = []
    for channel in channels or CHANNELS:
        kind = ids or list_of(channel)
        count = target.keys(kind).count if "{id}" in channel else 1
        if not count and not channels:
            continue
        if not count:
            raise BadInput(f"--channel {channel}: no user of the target owns any {kind} (--ids LIST, --accounts users.csv)")
        pages.append(Pages(subscribers=count, channels=(channel,), ids=kind))
    return Scenario(
        name="listen",
        duration=duration,
        drain=0.0,
        cooldown=0.0,
        pages=tuple(pages),
        publisher=Publisher(via="none", members=False),
        load=Load(connect_rate=50.0),
    )


def _rows(found: dict[str, dict[str, Any]], duration: float) -> Iterator[tuple[str, str]]:
    for resource, f in found.items():
        yield resource, f"{number(f['events'])} events of {number(f['resources'])}, {per_second(f['events'] / duration)}"
        if f["gap_p50"] is not None:
            yield "", f"gaps p50 {seconds(f['gap_p50'])}, max {seconds(f['gap_max'])}"
        if f["bursts"]:
            mean = f"{number(f['burst_mean'])} events each"
            yield "", f"{number(f['bursts'])} bursts of one, {mean}, at most {number(f['burst_max'])}"
