"""What a delivery costs: this broadcaster beside the limit and beside the usual recipe, in one run.

    python -m benchmarks.fanout                      everything (about 5 minutes)
    python -m benchmarks.fanout --only fan-out -n 1000 --rounds 1
    python -m benchmarks.fanout --only publishes connects stalled nodes
    python -m benchmarks.fanout --only saturation --record saturation.json     from an idle server to a full one

The limit is a C program that does one `send` for each subscriber from an epoll loop (fanout_server.c); this broadcaster does
that only where io_uring is not allowed. The usual recipe is `websockets.broadcast` (fanout_stock.py). The server has core 0, the
client (fanout_client.c) core 1, and they talk over 127.0.0.1. CPU is the server process's own, from the kernel, per delivery: one
frame to one subscriber; `x C` is its ratio to the limit's. `1`, `4` and `16 in flight` are the publishes that are under way at
once. `first` and `last` are the first and the last receiver of one event, `ping` the answer to a ping meanwhile. Servers take
turns, and the best turn counts, because other work on the machine can only make it worse. Compare the ratios.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.results import aligned, note
from sim.errors import BadInput, WorkbenchError
from sim.live.broadcaster.main import command
from sim.live.broadcaster.settings import BroadcasterSettings
from sim.pusher import auth, frames, messages
from sim.pusher.server.apps import App
from sim.results.run import host
from sim.signals import end_with_parent

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
SERVER_CORE, CLIENT_CORE = 0, 1
APP = App("1", "key", "secret")
CHANNEL = "private-servers"
EVENT = "App\\Events\\ServerUpdated"
DATA = '{"server_id":5,"timestamp":"2026-01-01T00:00:00+00:00"}'
PARTS = ("fan-out", "connects", "publishes", "stalled", "nodes", "saturation")
BUSY = (0.1, 0.2, 0.4, 0.6, 0.9)
"""Shares of the rate at which the server is full with one event at a time, at which a delivery's cost is measured."""
IDLE = 2.0
"""Events per second at which a server has next to nothing to do."""
IN_FLIGHT = (1, 4, 16)
Result = dict[str, Any]


def pinned(core: int | None) -> Callable[[], None]:
    """What a child process does first: end with its parent, go to its core, and ahead of other processes where that is allowed.
    (Linux shares the processor among sessions; niceness counts within one.)"""

    def prepare() -> None:
        end_with_parent()
        if core is not None:
            os.sched_setaffinity(0, {core})
        with contextlib.suppress(OSError):
            os.setsid()
            os.nice(-19)
            Path("/proc/self/autogroup").write_text("-19", encoding="ascii")

    return prepare


class Bench:
    """The compiled programs and one scratch directory."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.programs = {name: self._compile(name) for name in ("fanout_server", "fanout_client")}

    def _compile(self, name: str) -> str:
        gcc = shutil.which("gcc")
        if gcc is None:
            raise BadInput("gcc is needed for the limit that the fan-out is measured against (apt-get install gcc libc6-dev)")
        program = str(self.scratch / name)
        subprocess.run([gcc, "-O2", "-o", program, str(HERE / f"{name}.c")], check=True)
        return program

    # ---- servers: each yields (port, pids, path, key) and the bytes of one publish

    @contextmanager
    def limit(self, data: str = DATA) -> Iterator[tuple[int, str, str, str, bytes]]:
        body = messages.event(EVENT, data, CHANNEL).encode()
        with self._running([self.programs["fanout_server"]]) as (process, port):
            yield port, str(process.pid), "/", "-", f"POST / HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body

    @contextmanager
    def usual(self, data: str = DATA) -> Iterator[tuple[int, str, str, str, bytes]]:
        body = messages.event(EVENT, data, CHANNEL).encode()
        with self._running([sys.executable, "-m", "benchmarks.fanout_stock"]) as (process, port):
            head = frames.encode(frames.TEXT, body)[: -len(body)]
            masked = head[:1] + bytes([head[1] | 0x80]) + head[2:] + bytes(4) + body
            yield port, str(process.pid), "/", "-", masked

    @contextmanager
    def ours(
        self, data: str = DATA, core: int | None = SERVER_CORE, **settings: Any
    ) -> Iterator[tuple[int, str, str, str, bytes]]:
        whole = BroadcasterSettings(**({"apps": (APP,), "port": 0, "max_request_size": 100_000} | settings))
        with self._running(command(), whole.to_json(), core) as (process, port):
            pids = [process.pid]
            if whole.nodes > 1:
                pids = [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
            body = json.dumps({"name": EVENT, "data": data, "channel": CHANNEL}).encode()
            query = auth.sign_request(APP.key, APP.secret, "POST", "/apps/1/events", {}, body, int(time.time()))
            head = f"POST /apps/1/events?{query} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            yield port, ",".join(map(str, pids)), f"/app/{APP.key}", APP.key, head.encode() + body

    @contextmanager
    def _running(
        self, arguments: list[str], text: str | None = None, core: int | None = SERVER_CORE
    ) -> Iterator[tuple[subprocess.Popen[str], int]]:
        process = subprocess.Popen(
            arguments,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            preexec_fn=pinned(core),
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            if text is not None:
                process.stdin.write(text)
                process.stdin.close()
            yield process, json.loads(process.stdout.readline())["port"]
        finally:
            process.terminate()
            process.wait(10)
            process.stdout.close()

    def measure(self, server: Any, subscribers: int, *phases: str, core: int | None = CLIENT_CORE) -> list[Result]:
        """Run the client's phases against a server; a result for the connecting and for each phase."""
        with server as (port, pids, path, key, publish):
            published = self.scratch / "publish"
            published.write_bytes(publish)
            arguments = [str(port), str(subscribers), pids, path, key, APP.secret, CHANNEL, str(published), *phases]
            client = [self.programs["fanout_client"], *arguments]
            done = subprocess.run(client, capture_output=True, text=True, preexec_fn=pinned(core), timeout=120)
        if done.returncode:
            raise WorkbenchError(f"the load client failed: {done.stderr.strip()}")
        return [json.loads(line) for line in done.stdout.splitlines()]


def fan_out(bench: Bench, sizes: list[int], rounds: int) -> None:
    """CPU per delivery, deliveries a second, first and last receiver, pings meanwhile; three servers side by side."""
    servers = {"C, one send each": bench.limit, "websockets.broadcast": bench.usual, "this broadcaster": bench.ours}
    for size in sizes:
        seen: dict[str, list[Result]] = defaultdict(list)
        for _ in range(rounds):
            for name, server in servers.items():
                seen[name] += bench.measure(server(), size, "sat:1:1.5", "sat:4:1", "sat:16:1", "one:40", "ping:1")
        least = {name: min(r["cpu"] for r in results if r.get("in_flight") == 1) for name, results in seen.items()}
        limit = least["C, one send each"]
        c, ours = seen["C, one send each"], seen["this broadcaster"]
        note(f"fan-out to {size:,}: CPU per delivery", "x C", _ratios(ours, c, "cpu", 1))
        for w in (1, 4, 16):
            rates = _ratios(ours, c, "deliveries_per_s", w)
            note(f"fan-out to {size:,}: deliveries/s, {w} in flight", "x C", rates, more_is_better=True)
        note(f"fan-out to {size:,}: last receiver", "ms", [r["last_p50"] / 1000 for r in ours if r["phase"] == "one"])
        note(f"fan-out to {size:,}: memory per connection", "KiB", [r["kib_each"] for r in ours if r["phase"] == "connect"])
        rows = []
        for name, results in seen.items():
            rate = {w: max(r["deliveries_per_s"] for r in results if r.get("in_flight") == w) for w in (1, 4, 16)}
            one = min((r for r in results if r["phase"] == "one"), key=lambda r: r["last_p50"])
            ping = min((r for r in results if r["phase"] == "ping"), key=lambda r: r["p99"])
            kib = min(r["kib_each"] for r in results if r["phase"] == "connect")
            cpu = [f"{least[name]:.2f}", f"{least[name] / limit:.2f}", *(f"{rate[w] / 1e6:.3f}" for w in (1, 4, 16))]
            times = [one["first_p50"], one["last_p50"], ping["p50"], ping["p99"]]
            rows.append([name, *cpu, *(f"{us / 1000:.2f}" for us in times), f"{kib:.1f}"])
        heads = [
            "server",
            "us CPU/delivery",
            "x C",
            "M/s, 1 in flight",
            "4",
            "16",
            "first ms",
            "last ms",
            "ping p50",
            "p99 ms",
            "KiB each",
        ]
        table(f"Fan-out to {size:,} subscribers", heads, rows)


def _ratios(ours: list[Result], limit: list[Result], figure: str, in_flight: int) -> list[float]:
    """Round by round."""
    mine, theirs = ([r[figure] for r in results if r.get("in_flight") == in_flight] for results in (ours, limit))
    return [a / b for a, b in zip(mine, theirs, strict=True)]


def connects(bench: Bench, rounds: int) -> None:
    results = [bench.measure(bench.ours(), 5000)[0] for _ in range(rounds)]
    best, least = max(r["per_s"] for r in results), min(r["cpu"] for r in results)
    kib = min(r["kib_each"] for r in results)
    note("connect and subscribe, 5,000 times", "per s", [r["per_s"] for r in results], more_is_better=True)
    table(
        "Connect and subscribe to a private channel, 5,000 times",
        ["per second", "us CPU each", "KiB each"],
        [[f"{best:,.0f}", f"{least:.0f}", f"{kib:.1f}"]],
    )


def publishes(bench: Bench, rounds: int) -> None:
    rows = []
    for window in (1, 16):
        results = [bench.measure(bench.ours(), 0, f"http:{window}:1.5")[1] for _ in range(rounds)]
        best, least = max(r["publishes_per_s"] for r in results), min(r["cpu"] for r in results)
        note(f"signed publishes, {window} connections", "us CPU", [r["cpu"] for r in results])
        rows.append([str(window), f"{best:,.0f}", f"{least:.1f}"])
    table("Signed publishes over keep-alive, no subscriber", ["connections", "per second", "us CPU each"], rows)


def stalled(bench: Bench, rounds: int) -> None:
    """Delay of healthy subscribers, with and without one in a hundred that stops reading; events of 8 KB fill its buffer."""
    data = json.dumps({"server": "x" * 8000})
    rows = []
    for share in (0, 10):
        phases = (f"stall:{share}", "one:400") if share else ("one:400",)
        results = [bench.measure(bench.ours(data), 1000, *phases)[1] for _ in range(rounds)]
        note(f"delay p99 with {share} of 1,000 stalled", "ms", [r["delay_p99"] / 1000 for r in results])
        rows.append([str(share), *(f"{min(r[f'delay_{q}'] for r in results) / 1000:.2f}" for q in ("p50", "p99"))])
    ratio = float(rows[1][2]) / float(rows[0][2])
    table("1,000 subscribers, some of which do not read", ["stalled", "delay p50 ms", "p99 ms"], rows)
    print(f"p99 with stalled / without: {ratio:.2f}")


def nodes(bench: Bench, rounds: int) -> None:
    """One node and two nodes, on the two cores that the client uses as well."""
    rows = []
    for count in (1, 2):
        results = [bench.measure(bench.ours(core=None, nodes=count), 4000, "share:4:2", core=None)[1] for _ in range(rounds)]
        best, least = max(r["deliveries_per_s"] for r in results), min(r["cpu"] for r in results)
        note(f"4,000 subscribers, {count} nodes", "us CPU/delivery", [r["cpu"] for r in results])
        rows.append([str(count), f"{best / 1e6:.3f}", f"{least:.2f}"])
    table(
        "4,000 subscribers, four events in flight, two cores for server and client",
        ["nodes", "M deliveries/s", "us CPU each"],
        rows,
    )


def saturation(bench: Bench, sizes: list[int], rounds: int, record: Path | None) -> None:
    """CPU of a delivery from an idle server to a full one: this broadcaster, and a bare sender for comparison.

    Receivers sleep when nothing comes, as browsers do: waking them, and their part of loopback's TCP, falls on the sender's core.
    """
    rows: list[Result] = []
    for size in sizes:
        for name, server in {"broadcaster": bench.ours, "bare sender": bench.limit}.items():
            full = bench.measure(server(), size, *[f"share:{events}:0.5" for events in IN_FLIGHT] * rounds)[1:]
            top = full[0]["deliveries_per_s"] / size
            rates = [(IDLE, 5.0), *((share * top, max(1.5, 6 / (share * top))) for share in BUSY)]
            below = bench.measure(server(), size, *(f"rate:{rate:.3f}:{lasts:.2f}" for rate, lasts in rates))[1:]
            for found in [*below, *full]:
                found.setdefault("events_per_s", found["deliveries_per_s"] / size)
                rows.append({"server": name, "subscribers": size, "in_flight": None} | found)
    table(
        "A delivery from an idle server to a full one",
        ["server", "subscribers", "in flight", "events/s", "busy", "us CPU each"],
        [
            [
                *(row["server"], f"{row['subscribers']:,}", str(row["in_flight"] or "-")),
                *(f"{row['events_per_s']:.1f}", f"{row['busy']:.3f}", f"{row['cpu']:.2f}"),
            ]
            for row in rows
        ],
    )
    if record is not None:
        columns = ("server", "subscribers", "in_flight", "events_per_s", "deliveries_per_s", "cpu", "busy", "event_bytes")
        found = {
            "command": f"python -m benchmarks.fanout --only saturation -n {' '.join(map(str, sizes))} --rounds {rounds}",
            "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "host": host(),
            "units": {"cpu": "microseconds of the server per delivery", "busy": "share of a core"},
            "rows": [{column: row[column] for column in columns} for row in rows],
        }
        record.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def table(title: str, heads: list[str], rows: list[list[str]]) -> None:
    print(f"\n{title}", *aligned([heads, *rows]), sep="\n", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fanout", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-n", type=int, nargs="+", default=[1000, 5000], metavar="N", help="subscribers (default: 1000 5000)")
    parser.add_argument("--rounds", type=int, default=3, metavar="K", help="turns of each server (default: 3)")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--record", type=Path, metavar="FILE", help="write what `saturation` measures as JSON")
    args = parser.parse_args()
    if os.cpu_count() == 1:
        print("fanout: one core only; server and client cannot be apart, so no figure would mean anything", file=sys.stderr)
        return 4
    with tempfile.TemporaryDirectory() as scratch:
        try:
            bench = Bench(Path(scratch))
            if "fan-out" in args.only:
                fan_out(bench, args.n, args.rounds)
            for part, measure in (("connects", connects), ("publishes", publishes), ("stalled", stalled), ("nodes", nodes)):
                if part in args.only:
                    measure(bench, args.rounds)
            if "saturation" in args.only:
                saturation(bench, args.n, args.rounds, args.record)
        except WorkbenchError as error:
            print(f"fanout: {error}", file=sys.stderr)
            return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
