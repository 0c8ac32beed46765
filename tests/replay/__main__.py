"""Replay recorded exchanges with a Pusher-protocol server, and say where this one differs.

    python -m tests.replay tests/data/reverb-transcripts.jsonl
    python -m tests.replay FILE --faithful
    python -m tests.replay FILE --target 127.0.0.1:8080 --case http_

FILE has one JSON object a line: `case`, `app`, `steps`. Without --target a broadcaster of this project is started with the apps
of the recording; a target must have them (id 1001, key bench-key, secret bench-secret, and ids `origin`, `clientall`, ... with
keys `key-<id>` and secrets `secret-<id>`). Prints a line for each case: same, declared (rows of `sim.pusher.server.quirks`),
differs (where). Exit code 1 when something differs that is not declared, 2 when FILE cannot be read.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from sim.live.broadcaster.main import command
from sim.live.broadcaster.settings import BroadcasterSettings
from sim.pusher import messages
from sim.pusher.server.apps import App, RateLimiting
from tests.replay.player import Player, Undeclared
from tests.replay.wire import Wire, encode

BASE = App("1001", "bench-key", "bench-secret")
VARIANTS: dict[str, dict[str, Any]] = {
    "origin": {"allowed_origins": ("laravel.com", "*.example.com")},
    "clientall": {"accept_client_events_from": "all"},
    "clientnone": {"accept_client_events_from": "none"},
    "maxone": {"max_connections": 1},
    "rate": {"rate_limiting": RateLimiting(3, 60)},
    "rateterm": {"rate_limiting": RateLimiting(3, 60, True)},
    "fastping": {"ping_interval": 5, "activity_timeout": 7},
}
APPS = (BASE, *(replace(BASE, id=i, key=f"key-{i}", secret=f"secret-{i}", **changes) for i, changes in VARIANTS.items()))
LONG_MS = 5000
"""Cases that take longer in the recording are played against a server whose clock runs faster."""
CLOCK_RATE = 60.0


@contextmanager
def server(faithful: bool, clock_rate: float = 1.0) -> Iterator[tuple[tuple[str, int], subprocess.Popen[str]]]:
    """A broadcaster of our own with the apps of the recording, on a free port: its address and process."""
    settings = BroadcasterSettings(apps=APPS, port=0, faithful=faithful, clock_rate=clock_rate)
    process = subprocess.Popen(command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(settings.to_json())
        process.stdin.close()
        yield ("127.0.0.1", json.loads(process.stdout.readline())["port"]), process
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


@contextmanager
def background(case: dict[str, Any], address: tuple[str, int]) -> Iterator[None]:
    """Subscribers to `idle-default` that were there during the recording and that its answers show."""
    needed = '"idle-default' in json.dumps(case).replace("\\", "")
    first_count = next((s["body"] for s in case["steps"] if s.get("body", "").startswith('{"connections":')), "")
    subscribed_before = any("subscription_succeeded" in s.get("payload", "") for s in case["steps"][:3])
    needed = needed or (first_count == '{"connections":1}' and not subscribed_before)
    if not needed:
        yield
        return
    wire = Wire(address)
    key = next(app.key for app in APPS if app.id == case["app"])
    wire.send(
        f"GET /app/{key} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    wire.head(3)
    wire.frame(3)
    wire.send(encode("text", messages.subscribe("idle-default").encode()))
    wire.frame(3)
    try:
        yield
    finally:
        wire.close()


def play(case: dict[str, Any], address: tuple[str, int], faithful: bool, **options: Any) -> tuple[bool, str]:
    """(all differences are declared, the line that says so)."""
    apps = {app.id: (app.key, app.secret) for app in APPS}
    try:
        with background(case, address):
            rows = Player(case, address, apps, faithful, **options).play()
    except Undeclared as difference:
        return False, f"differs   {case['case']}: {difference}"
    except (OSError, KeyError, TypeError, ValueError) as error:
        return False, f"differs   {case['case']}: cannot be played: {type(error).__name__} {error}"
    return True, f"declared  {case['case']}: {', '.join(sorted(rows))}" if rows else f"same      {case['case']}"


def read(path: str) -> list[dict[str, Any]]:
    """The cases of a file. Exits 2 with one line when there are none to read."""
    cases, number = [], 0
    try:
        for line in Path(path).read_text(encoding="utf-8").splitlines():
            number += 1
            if line.strip():
                case = json.loads(line)
                if not _is_case(case):
                    raise ValueError("needs case, app and steps, each step with dir and conn")
                cases.append(case)
    except OSError as error:
        sys.exit(_complain(f"{path}: {error.strerror}"))
    except ValueError as error:
        sys.exit(_complain(f"{path}:{number}: {error}"))
    return cases


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return host, int(port)


def _is_case(case: Any) -> bool:
    steps = case.get("steps") if isinstance(case, dict) and isinstance(case.get("case"), str) and "app" in case else None
    return isinstance(steps, list) and all(isinstance(step, dict) and {"dir", "conn"} <= set(step) for step in steps)


def _ends_at(case: dict[str, Any]) -> float:
    """Milliseconds that the case took."""
    return max((step.get("t_ms", 0) for step in case["steps"]), default=0)


def _complain(message: str) -> int:
    print(f"replay: {message}", file=sys.stderr)
    return 2


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.replay", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file")
    parser.add_argument("--target", type=_address, metavar="HOST:PORT", help="a server that is running")
    parser.add_argument("--faithful", action="store_true", help="expect no difference at all (own server: with Reverb's quirks)")
    parser.add_argument("--case", default="", metavar="TEXT", help="only cases whose name contains it")
    args = parser.parse_args(argv)
    cases = [case for case in read(args.file) if args.case in case["case"]]
    long = [case for case in cases if _ends_at(case) > LONG_MS and not _stops(case)]
    failures = 0
    with ExitStack() as stack, ThreadPoolExecutor(max_workers=max(1, len(long))) as pool:
        if args.target:
            address = slow = args.target
            pace = 1.0
        else:
            address, _ = stack.enter_context(server(args.faithful))
            slow, _ = stack.enter_context(server(args.faithful, CLOCK_RATE)) if long else (address, None)
            pace = CLOCK_RATE
        waiting = {id(case): pool.submit(play, case, slow, args.faithful, pace=pace) for case in long}
        for case in cases:
            if id(case) in waiting:
                good, line = waiting[id(case)].result()
            elif not _stops(case):
                good, line = play(case, address, args.faithful)
            elif args.target:
                good, line = True, f"skipped   {case['case']}: stops the server"
            else:
                with server(args.faithful) as (own, process):
                    number = getattr(signal, f"SIG{case['case'].rpartition('_sig')[2].upper()}", signal.SIGTERM)
                    good, line = play(case, own, args.faithful, stop_server=lambda p=process, n=number: p.send_signal(n))
            failures += not good
            print(line, flush=True)
    print(f"{len(cases)} cases, {failures} with undeclared differences")
    return 1 if failures else 0


def _stops(case: dict[str, Any]) -> bool:
    return "_sig" in case["case"] and case["case"].startswith("server")


if __name__ == "__main__":
    sys.exit(main())
