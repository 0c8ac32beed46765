"""The broadcaster as a process: a Pusher-protocol server, WebSocket at `/app/{key}` and signed HTTP at `/apps/{id}/...`.

As a program (secrets come from the environment only, see `settings`):

    REVERB_APP_ID=1001 REVERB_APP_KEY=app-key REVERB_APP_SECRET=app-secret \\
        python -m sim.live.broadcaster --port 8080
    python -m sim.live.broadcaster --config reverb.toml --port 0 --ready-file ready.json
    python -m sim.live.broadcaster --nodes 2 --redis redis://127.0.0.1:6379/0 --drain 10

Once it accepts, it prints one line of JSON, `{"host": ..., "port": ..., "pid": ...}`, and writes the same to `--ready-file`.
SIGTERM or SIGINT stops it cleanly: no more connections are taken, those open are closed, over `--drain` seconds.

As a child process of another program: `command()` gives the argument list for `subprocess`; the settings go to the child's
standard input (`BroadcasterSettings.to_json()`), so no secret is in an argument list. In the same process: `main(settings, ...)`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from sim.errors import BadInput, WorkbenchError
from sim.files import replace_text
from sim.live.broadcaster.bus import NoMember, ParentBus, RedisBus
from sim.live.broadcaster.node import Node
from sim.live.broadcaster.nodes import Supervisor
from sim.live.broadcaster.settings import BroadcasterSettings, from_environment, read_file
from sim.target import laravel_settings


def command() -> list[str]:
    """How to start the broadcaster as a child: feed it `BroadcasterSettings.to_json()`, then read its one line (see above)."""
    return [sys.executable, "-m", "sim.live.broadcaster", "--settings-from-stdin"]


def main(settings: BroadcasterSettings, ready: Callable[[int], None], bus_fd: int | None = None) -> None:
    """Serve until SIGTERM or SIGINT. *ready* is called with the port once connections are accepted. Raises `BadInput`.

    *bus_fd*: this is one node of several, and that is its stream to the parent.
    """
    if not settings.apps:
        raise BadInput("broadcaster: no app (set REVERB_APP_ID, REVERB_APP_KEY and REVERB_APP_SECRET, or give --config)")
    asyncio.run(_serve(settings, ready, bus_fd))


async def _serve(settings: BroadcasterSettings, ready: Callable[[int], None], bus_fd: int | None) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stopped.set)
    if settings.nodes > 1 and bus_fd is None:
        await Supervisor(settings, command()).run(ready, stopped)
        return
    node = Node(settings)
    if settings.redis:
        node.join(RedisBus(settings.redis, settings.scaling_channel, node.metrics.lose))
    if bus_fd is not None:
        parent = ParentBus(bus_fd, node.metrics.lose, stopped.set)
        node.join(parent) if not settings.redis else parent.start(NoMember())
    ready(await node.listen())
    await stopped.wait()
    await node.stop()


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", help="address to listen on (default 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port; 0 for any free one (default 8080)")
    parser.add_argument("--path", help="prefix of every route")
    parser.add_argument("--config", metavar="FILE", help="JSON or TOML with the structure of Reverb's config/reverb.php")
    parser.add_argument("--faithful", action="store_true", default=None, help="copy Reverb's quirks")
    parser.add_argument("--nodes", type=int, metavar="N", help="processes that share the port (default 1)")
    parser.add_argument("--redis", metavar="URL", help="scale over machines through this Redis")
    parser.add_argument("--drain", type=float, metavar="SECONDS", help="spread the closing of connections at the stop")
    parser.add_argument("--local-cert", metavar="FILE", help="TLS certificate chain, PEM")
    parser.add_argument("--local-pk", metavar="FILE", help="TLS key, PEM")
    parser.add_argument("--ready-file", type=Path, metavar="FILE", help="where to write host and port once accepting")
    parser.add_argument("--settings-from-stdin", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--bus-fd", type=int, help=argparse.SUPPRESS)


def settings_of(args: argparse.Namespace) -> BroadcasterSettings:
    """File, then environment (and `.env`), then flags."""
    if args.settings_from_stdin:
        return BroadcasterSettings.from_json(sys.stdin.read())
    settings = from_environment(laravel_settings(), read_file(args.config) if args.config else None)
    names = ("host", "port", "path", "faithful", "nodes", "redis", "drain", "local_cert", "local_pk")
    return replace(settings, **{name: getattr(args, name) for name in names if getattr(args, name) is not None})


def _announce(settings: BroadcasterSettings, path: Path | None) -> Callable[[int], None]:
    def ready(port: int) -> None:
        line = json.dumps({"host": settings.host, "port": port, "pid": os.getpid()})
        if path is not None:
            replace_text(path, line + "\n")
        print(line, flush=True)

    return ready


def run(argv: Sequence[str] | None = None) -> int:
    summary, _, details = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        prog="python -m sim.live.broadcaster",
        description=summary,
        epilog=details,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    configure(parser)
    args = parser.parse_args(argv)
    logging.basicConfig(format="%(asctime)s %(name)s %(levelname)s %(message)s", level=logging.INFO, stream=sys.stderr)
    try:
        settings = settings_of(args)
        main(settings, _announce(settings, args.ready_file), args.bus_fd)
    except WorkbenchError as error:
        print(f"broadcaster: {error}", file=sys.stderr)
        return error.exit_code
    return 0
