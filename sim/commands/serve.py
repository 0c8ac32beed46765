"""Start the embedded target: the application (a server-management product whose models broadcast) and a broadcaster that
speaks the Pusher protocol. Ctrl-C or SIGTERM stops both and leaves nothing behind.

Without --database the data lives in a temporary SQLite file that is removed at the end. A scenario sets what the pattern
leaves open: when and on which channels is broadcast, with what payload, through which queue ([broadcast]), and what a refetch
costs ([api]). Credentials come from REVERB_APP_ID, REVERB_APP_KEY and REVERB_APP_SECRET (environment or .env file), else
they are made up; the ready file has them.

examples:
  workbench serve
  workbench serve --ready-file target.json --api-port 0 --reverb-port 0
  workbench serve --users 100 --servers-per-user 10 --seed 7
  workbench serve --scenario data/scenarios/starvation.toml --set broadcast.channels=per_user
  workbench serve --database postgresql://postgres@localhost/brokeforge --processes 2
  workbench serve --provision 3 --speed 5
  workbench serve --nodes 2
  workbench serve --like reverb
  workbench serve --redis redis://127.0.0.1:6379/0 --set broadcast.dispatch=queued --set broadcast.queue_workers=4

  TOKEN=$(jq -r '.users[0].token' target.json)
  curl -X PUT -H "Authorization: Bearer $TOKEN" -d '{"status": "installing"}' \\
      http://127.0.0.1:8000/servers/1/provision/nginx
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import sys
import threading
from pathlib import Path
from types import FrameType
from urllib.parse import urlsplit

from sim.commands.options import require_place
from sim.errors import BadInput, Unreachable
from sim.live.application.job_runner import MOST
from sim.live.probe import why_unreachable
from sim.live.serve import Options, embedded_target
from sim.scenario import Scenario, load_scenario, parse_assignments
from sim.signals import handled
from sim.target import Target, laravel_settings
from sim.workload import load_traces


def configure(parser: argparse.ArgumentParser) -> None:
    """Flags of `workbench serve`."""
    parser.add_argument("--ready-file", type=Path, metavar="FILE", help="write the target descriptor here once both accept")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--api-port", type=int, default=8000, metavar="PORT", help="application (default: %(default)s; 0: any)")
    parser.add_argument(
        "--reverb-port", type=int, default=8080, metavar="PORT", help="broadcaster (default: %(default)s; 0: any)"
    )
    parser.add_argument(
        "--database", metavar="URL", help="sqlite:///file, postgresql://..., mariadb://... (default: temporary SQLite)"
    )
    parser.add_argument("--users", type=int, metavar="N", help="sample users (default: the scenario's, 10)")
    parser.add_argument("--servers-per-user", type=int, metavar="N", help="(default: the scenario's, 2)")
    parser.add_argument("--sites-per-user", type=int, metavar="N", help="(default: the scenario's, 1)")
    parser.add_argument("--seed", type=int, metavar="N", help="of the sample data's names (default: the scenario's)")
    parser.add_argument(
        "--redis", metavar="URL", help="bus of broadcasters on several machines; queue and locks of the application"
    )
    parser.add_argument("--nodes", type=int, default=1, metavar="N", help="broadcaster processes (default: %(default)s)")
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="application processes (default: %(default)s)")
    parser.add_argument("--members", action="store_true", help="add members for measuring to payloads when a change asks for it")
    parser.add_argument(
        "--provision",
        type=int,
        default=0,
        metavar="N",
        help="keep provisioning the first N servers (default: none); who marks their steps as well is refused now and then",
    )
    parser.add_argument(
        "--trace", default="stack", metavar="TRACE", help="recorded trace that --provision replays (default: %(default)s)"
    )
    parser.add_argument("--speed", type=float, default=1.0, metavar="X", help="times as fast as recorded (default: %(default)s)")
    parser.add_argument(
        "--like",
        choices=("workbench", "reverb"),
        help="behave as this server, in times and rules (broadcaster.model)",
    )
    parser.add_argument("--cost", type=float, metavar="X", help="times as slow as measured (broadcaster.cost; default: 1)")
    parser.add_argument("--scenario", metavar="SCENARIO", help="name or file: its [fleet], [broadcast] and [api] count")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change one key of the scenario")


def run(args: argparse.Namespace) -> int:
    """Serve until a signal asks for the end."""
    scenario = _scenario(args)
    _require_sense(args)
    settings = laravel_settings()
    flags = {field.name: getattr(args, field.name) for field in dataclasses.fields(Options) if hasattr(args, field.name)}
    options = Options(
        **flags,
        app_id=settings.get("REVERB_APP_ID", ""),
        key=settings.get("REVERB_APP_KEY", ""),
        secret=settings.get("REVERB_APP_SECRET", ""),
    )
    _serve(scenario, options, args.ready_file)
    return 0


def _serve(scenario: Scenario, options: Options, ready_file: Path | None) -> None:
    """Until a signal asks for the end."""
    stop, up = threading.Event(), threading.Event()

    def ask_to_stop(number: int, frame: FrameType | None) -> None:
        # While the processes still come up, the way out is an exception; afterwards it is the end of the wait below. A second
        # Ctrl-C must not interrupt the stopping.
        first = not stop.is_set()
        stop.set()
        if first and not up.is_set():
            raise KeyboardInterrupt

    with handled(ask_to_stop), contextlib.ExitStack() as stack, embedded_target(scenario, options) as serving:
        up.set()
        if ready_file is not None:
            stack.callback(ready_file.unlink, missing_ok=True)
            _write(serving.target, ready_file)
        for note in serving.notes:
            print(f"note: {note}", file=sys.stderr)
        print(f"application {serving.target.api}/ (in a browser: the live board)", flush=True)
        print(f"broadcaster {serving.target.websocket_url}", flush=True)
        while not stop.wait(0.5):
            for line in serving.complaints():
                print(line, file=sys.stderr)
            serving.require_alive()


def _require_sense(args: argparse.Namespace) -> None:
    """Raise `BadInput` for flags that cannot be, before anything is started."""
    for name in ("nodes", "processes"):
        if getattr(args, name) < 1:
            raise BadInput(f"--{name} must be at least 1, got {getattr(args, name)}")
    if not 0 <= args.provision <= MOST:
        raise BadInput(f"--provision must be between 0 and {MOST} servers, got {args.provision}")
    require_place(args.ready_file)
    if not args.speed > 0:
        raise BadInput(f"--speed must be > 0, got {args.speed:g}")
    _require_redis(args.redis)
    if args.provision:
        load_traces(args.trace)


def _require_redis(url: str | None) -> None:
    """Raise `BadInput` for what is no URL of Redis, and `Unreachable` where none answers: queue and locks would wait for it."""
    if url is None:
        return
    refused = "--redis must be a URL such as redis://127.0.0.1:6379/0"  # not repeated: it may hold a password
    if not url.startswith(("redis://", "rediss://", "unix://")):
        raise BadInput(refused)
    if url.startswith("unix://"):
        return
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "localhost", parts.port or 6379
    except ValueError as error:
        raise BadInput(refused) from error
    if reason := why_unreachable(host, port):
        raise Unreachable(f"--redis {host}:{port}: {reason} (is it running?)")


def _write(target: Target, path: Path) -> None:
    try:
        target.write(path)
    except OSError as error:
        raise BadInput(f"--ready-file {path}: {error.strerror or error}") from error


def _scenario(args: argparse.Namespace) -> Scenario:
    changes = parse_assignments(args.set)
    flags = {"broadcaster.model": args.like, "broadcaster.cost": args.cost}
    changes |= {key: value for key, value in flags.items() if value is not None}
    if args.scenario:
        scenario = load_scenario(args.scenario, changes)
    else:
        scenario = Scenario().replace(changes)
    given = {name: getattr(args, name) for name in ("users", "servers_per_user", "sites_per_user")}
    try:
        fleet = dataclasses.replace(scenario.fleet, **{name: n for name, n in given.items() if n is not None})
        return dataclasses.replace(scenario, fleet=fleet, seed=scenario.seed if args.seed is None else args.seed)
    except ValueError as error:
        raise BadInput(f"--{str(error).replace('_', '-', 2)}") from error
