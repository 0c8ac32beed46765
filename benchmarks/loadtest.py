"""What a subscriber costs: this project's Locust user beside the usual ways, in one run.

    python -m benchmarks.loadtest                            1,000, 5,000 and 10,000 subscribers (about 8 minutes)
    python -m benchmarks.loadtest -n 5000 --only ours bare   a part of it

The server (benchmarks/fanout_peer.c, compiled with gcc) has core 0, the client core 1; both on 127.0.0.1, and both ahead of
other processes (SCHED_FIFO) where that is allowed. CPU is the client process's own, everything included: Locust, recording,
parts on disk. It is taken of broadcasts to all, 5,000 messages a second in all and, `busy`, 50,000: at 5,000 most of it is what
a process costs that wakes in a cold cache. `different` where each frame has the instant of its own send in it, from which
`delay` counts, so that the server's fan-out is not in it; `same` where all get the same bytes, as from a broadcaster. The bare
receiver has its turns beside each candidate: `us` is the median round, `x C` the median of the rounds' ratios to it. `lag` is
the delay that the client itself adds before it reads. `idle` is the CPU, in ms a second, of a process all of whose pages wait,
between two rounds of their pings.
`msg/s` is the highest rate, one subscriber after the other and each message different, at which that stays below 50 ms at p99;
then both are ahead of others by niceness only, because the system stops a process of real-time priority that takes a whole
core for 50 ms of each second. A sender that was itself late is named.
Absolute times depend on the machine; the ratios within one run are what to compare.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.fanout import CLIENT_CORE, SERVER_CORE, pinned
from benchmarks.results import note
from sim.errors import WorkbenchError
from sim.results.histogram import Histogram

HERE = Path(__file__).resolve().parent
RATE, BUSY = 5000, 50_000
"""Messages per second of the bursts, whatever the number of subscribers."""
PHASES = (("stamped", RATE), ("burst", RATE), ("stamped", BUSY), ("burst", BUSY))
LADDER = (15_000, 20_000, 27_000, 36_000, 48_000, 64_000, 80_000, 90_000, 100_000, 110_000, 125_000, 140_000, 160_000)
LIMIT_MS = 50.0
ROUNDS = 3
WRITTEN = 2.6
"""Seconds after which what was heard is in a header."""
IDLE = 4.0
"""Seconds in which nothing is sent: two of the looks that the load client takes at what it recorded."""
CPU_CLOCK = 2
"""Of another process's scheduler time, by whose id it is found: see clock_getcpuclockid(3), and `CPUCLOCK_SCHED` of Linux."""
CANDIDATES = {
    "ours": "this project",
    "epoll": "this project where io_uring is not allowed",
    "usual": "greenlet each, websocket-client, fire per message, FastHttpUser",
    "sync": "greenlet each, websockets.sync",
    "bare": "bare receiver in C: reads, and nothing else",
}
OURS = ("ours", "epoll")


@dataclass
class Row:
    """One candidate at one number of subscribers."""

    candidate: str
    subscribers: int
    connect_s: float = float("nan")
    kib: float = float("nan")
    idle: float = float("nan")
    """ms of CPU a second while nothing comes."""
    cpu: dict[tuple[str, int], list[tuple[float, float]]] = field(default_factory=dict)
    """(command, messages a second) -> CPU per message by rounds, us: its own, and that of the bare receiver in its turns."""
    p50_ms: float = float("nan")
    p99_ms: float = float("nan")
    lag_p99_ms: float = float("nan")
    knee: int | None = None
    us_per_cycle: float = float("nan")
    refetched: float = float("nan")
    notes: list[str] = field(default_factory=list)


def ahead(core: int) -> Callable[[], None]:
    """As `pinned`, and with a real-time priority where that is allowed."""

    def prepare() -> None:
        pinned(core)()
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))

    return prepare


def by_niceness(process: subprocess.Popen[Any]) -> None:
    """Take the real-time priority from all its threads."""
    for task in Path(f"/proc/{process.pid}/task").iterdir():
        with contextlib.suppress(OSError):
            os.sched_setscheduler(int(task.name), os.SCHED_OTHER, os.sched_param(0))


class Server:
    """The C peer, told by lines and answering in JSON."""

    def __init__(self, program: Path) -> None:
        self.process = subprocess.Popen(
            [str(program), "serve", "0"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=ahead(SERVER_CORE),
        )
        self.port = self._read()["port"]

    def _read(self) -> dict[str, float]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise WorkbenchError("the benchmark's server has died")
        return json.loads(line)

    def ask(self, command: str) -> dict[str, float]:
        """For a load: returns when it is over."""
        assert self.process.stdin is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self._read()

    def stop(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(10)


class Client:
    """One candidate's process: its CPU, its memory, and what it says of itself in a header of parts."""

    def __init__(
        self, candidate: str, program: Path, port: int, subscribers: int, directory: Path, refetch: bool, stamp: str
    ) -> None:
        self.directory = directory
        environment = os.environ | {"PORT": str(port), "PARTS": str(directory), "REFETCH": str(int(refetch)), "STAMP": stamp}
        environment["CLIENT"] = {"usual": "websocket-client", "sync": "websockets.sync"}.get(candidate, candidate)
        if candidate == "bare":
            command = [str(program), "receive", str(port), str(subscribers)]
        else:
            locustfile = HERE / ("loadtest_pages.py" if candidate in OURS else "loadtest_usual.py")
            command = [sys.executable, "-m", "locust", "-f", str(locustfile), "--headless", "--only-summary"]
            command += ["-u", str(subscribers), "-r", str(subscribers), "--stop-timeout", "1"]
        self.process = subprocess.Popen(
            command,
            preexec_fn=ahead(CLIENT_CORE),
            env=environment,
            cwd=HERE.parent,
            stdout=subprocess.DEVNULL,
            stderr=(directory / "client.log").open("w"),
        )

    def cpu(self) -> float:
        """Seconds on a CPU, of all threads that there have been."""
        return time.clock_gettime(~self.process.pid << 3 | CPU_CLOCK)

    def resident(self) -> float:
        """KiB."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1024

    def header(self) -> dict | None:
        found = list(self.directory.glob("header-*.json"))
        return json.loads(found[0].read_text()) if found else None

    def count(self, name: str) -> int:
        header = self.header()
        return header["counters"][name] if header else 0

    def histogram(self, name: str) -> Histogram:
        header = self.header()
        return Histogram.from_dict(header["histograms"][name]) if header and name in header["histograms"] else Histogram()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextlib.contextmanager
def connected(
    candidate: str, program: Path, subscribers: int, refetch: bool = False, stamp: str = "kernel"
) -> Iterator[tuple[Server, Client, float]]:
    """Server, client with all subscribed, seconds from the first connection to the last subscription."""
    directory = Path(tempfile.mkdtemp(prefix="workbench-"))
    server = Server(program)
    client = Client(candidate, program, server.port, subscribers, directory, refetch, stamp)
    try:
        first = 0.0
        patience = time.monotonic() + 60
        while True:
            there = server.ask("stat")
            first = first or (time.monotonic() if there["open"] else 0.0)
            if there["subscribed"] == subscribers:
                break
            if time.monotonic() > patience or client.process.poll() is not None:
                said = (directory / "client.log").read_text()[-500:]
                raise WorkbenchError(f"{candidate}: {there['subscribed']:.0f} of {subscribers} subscribed in 60 s: {said}")
            time.sleep(0.02)
        yield server, client, time.monotonic() - first
    finally:
        client.stop()
        server.stop()
        shutil.rmtree(directory, ignore_errors=True)


def cpu_per_message(server: Server, client: Client, command: str, hertz: float, seconds: float) -> tuple[float, float]:
    """(CPU per message, us; messages sent) of one round."""
    cpu = client.cpu()
    sent = server.ask(f"{command} {hertz} {seconds}")["sent"]
    time.sleep(0.6)
    return (client.cpu() - cpu) / sent * 1e6, sent


def measure(candidate: str, program: Path, subscribers: int, knee: bool, seconds: float) -> Row:
    """A candidate, with the bare receiver beside it: they take turns, so that what slows the machine for a while slows both."""
    row = Row(candidate, subscribers)
    alone = memory_of_one(candidate, program)
    with (
        connected(candidate, program, subscribers) as (server, client, took),
        connected("bare", program, subscribers) as (
            its_server,
            bare,
            _,
        ),
    ):
        row.connect_s = took
        time.sleep(2.0)
        row.kib = (client.resident() - alone) / (subscribers - 1)
        cpu = client.cpu()
        time.sleep(IDLE)
        row.idle = (client.cpu() - cpu) / IDLE * 1e3
        notified, read = client.histogram("time_to_notified"), client.histogram("reader_lag")
        total = 0.0

        def take_turns(command: str, rate: int) -> float:
            hertz = rate / subscribers
            lasts = max(seconds / ROUNDS, 1 / hertz)
            mine, sent = cpu_per_message(server, client, command, hertz, lasts)
            theirs, _ = cpu_per_message(its_server, bare, command, hertz, lasts)
            row.cpu.setdefault((command, rate), []).append((mine, theirs))
            return sent

        for _ in range(ROUNDS):
            total += take_turns("stamped", RATE)
        time.sleep(WRITTEN)
        delay, lag = client.histogram("time_to_notified").since(notified), client.histogram("reader_lag").since(read)
        row.p50_ms, row.p99_ms = delay.quantile(0.5) * 1e3, delay.quantile(0.99) * 1e3
        row.lag_p99_ms = lag.quantile(0.99) * 1e3
        if candidate != "bare" and delay.count != total:
            row.notes.append(f"{delay.count} of {total:.0f} received")
        for command, rate in PHASES[1:] if candidate in (*OURS, "bare") else PHASES[1:2]:
            for _ in range(ROUNDS):
                take_turns(command, rate)
        if knee and candidate != "bare":
            find_knee(row, server, client)
    if candidate in ("ours", "usual"):
        measure_cycle(row, program, seconds)
    return row


@cache
def memory_of_one(candidate: str, program: Path) -> float:
    """KiB of the same process with one subscriber: what is not a subscriber's."""
    with connected(candidate, program, 1) as (_, client, _):
        time.sleep(2.0)
        return client.resident()


def find_knee(row: Row, server: Server, client: Client) -> None:
    """The highest rate of the ladder at which the delay that the client itself adds stays below 50 ms at p99."""
    name = "reader_lag" if row.candidate in OURS else "time_to_notified"
    row.knee = 0
    by_niceness(server.process)
    by_niceness(client.process)
    for rate in LADDER:
        before, count = client.histogram(name), client.count("notifications")
        said = server.ask(f"spread {rate} 2")
        time.sleep(WRITTEN)
        p99 = client.histogram(name).since(before).quantile(0.99) * 1e3
        if said["late_ms"] > LIMIT_MS / 10:
            row.notes.append(f"at {rate:,}/s the sender was up to {said['late_ms']:.0f} ms late")
        if not p99 <= LIMIT_MS or client.count("notifications") - count < 0.98 * said["sent"]:
            break
        row.knee = rate


def measure_cycle(row: Row, program: Path, seconds: float) -> None:
    """One broadcast a second to everyone, each answered by a refetch 0.2 s later."""
    with connected(row.candidate, program, row.subscribers, refetch=True) as (server, client, _):
        time.sleep(1.0)
        cpu, done = client.cpu(), server.ask("stat")["requests"]
        sent = server.ask(f"burst {min(RATE / row.subscribers, 1.0)} {seconds}")["sent"]
        time.sleep(1.5)
        cycles = server.ask("stat")["requests"] - done
        row.us_per_cycle = (client.cpu() - cpu) / max(cycles, 1) * 1e6
        row.refetched = cycles / sent


def refetch_rate(program: Path, seconds: float) -> tuple[float, float]:
    """(per second of CPU, us each) of the HTTP client alone."""
    server = Server(program)
    command = [sys.executable, "-m", "benchmarks.loadtest_refetches", str(server.port), str(seconds)]
    done = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, check=True, preexec_fn=ahead(CLIENT_CORE))
    server.stop()
    count, cpu = map(float, done.stdout.split())
    return count / cpu, cpu / count * 1e6


COLUMNS = (
    "subscribers",
    "client",
    "connect s",
    "KiB each",
    "idle",
    "different us",
    "x C",
    "     same us",
    "x C",
    "diff. busy us",
    "x C",
    "same busy us",
    "x C",
    "delay p50 ms",
    "p99 ms",
)
MORE = ("lag p99 ms", "msg/s", "us/cycle", "refetched")


def show(rows: list[Row]) -> None:
    """One line per candidate, and what is kept for a comparison with another run."""
    print("  ".join((*COLUMNS, *MORE)))
    for row in rows:
        cells = [f"{row.subscribers:>11,}", f"{row.candidate:6}", _number(row.connect_s, 9, 2), _number(row.kib, 8, 1)]
        cells.append(_number(row.idle, 4, 1))
        for phase in PHASES:
            rounds = row.cpu.get(phase, [])
            cells += [_number(median(us for us, _ in rounds) if rounds else math.nan, 12, 1)]
            cells += [_number(median(ratios(rounds)) if rounds else math.nan, 4, 2)]
        cells += [
            _number(row.p50_ms, 12, 3),
            _number(row.p99_ms, 6, 3),
            _number(row.lag_p99_ms, 10, 1),
            f"{'-' if row.knee is None else f'{row.knee:,}':>5}",
            _number(row.us_per_cycle, 8, 0),
            f"{'-' if math.isnan(row.refetched) else f'{row.refetched:.1%}':>9}",
        ]
        print("  ".join(cells) + "".join(f"  ({remark})" for remark in row.notes), flush=True)
        if row.candidate == "ours":
            keep(row)


def keep(row: Row) -> None:
    title = f"load client, {row.subscribers:,} subscribers"
    for (command, rate), rounds in row.cpu.items():
        name = f"{'every frame different' if command == 'stamped' else 'same bytes'}, {rate:,} a second"
        note(f"{title}: CPU per message, {name}", "x C", ratios(rounds))
    note(f"{title}: memory each", "KiB", [row.kib])
    note(f"{title}: while nothing comes", "ms CPU/s", [row.idle])
    if row.knee is not None:
        note(f"{title}: rate before 50 ms lag", "messages/s", [row.knee], more_is_better=True)
    note(f"{title}: cycle of notification and refetch", "us CPU", [row.us_per_cycle])


def ratios(rounds: list[tuple[float, float]]) -> list[float]:
    """Round by round."""
    return [mine / theirs for mine, theirs in rounds]


def _number(value: float, width: int, digits: int) -> str:
    return f"{'-':>{width}}" if math.isnan(value) else f"{value:{width}.{digits}f}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", "--subscribers", type=int, nargs="+", default=[1000, 5000, 10000])
    parser.add_argument("--only", nargs="+", choices=CANDIDATES, default=list(CANDIDATES))
    parser.add_argument("--seconds", type=float, default=6.0, help="of each burst phase")
    parser.add_argument("--no-knee", action="store_true", help="skip the search for the highest rate")
    options = parser.parse_args()
    if shutil.which("gcc") is None:
        print("benchmarks.loadtest: gcc is needed for the peer (apt-get install gcc)", file=sys.stderr)
        return 2
    if len(os.sched_getaffinity(0)) < 2:
        print("benchmarks.loadtest: two cores are needed, one for each end", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as directory:
        program = Path(directory) / "fanout_peer"
        subprocess.run(["gcc", "-O2", "-o", program, HERE / "fanout_peer.c"], check=True)
        for candidate in options.only:
            print(f"{candidate:8} {CANDIDATES[candidate]}")
        rate, each = refetch_rate(program, 3.0)
        note("load client: refetch alone", "us CPU", [each])
        print(f"refetches alone: {rate:,.0f} per second of CPU, {each:.1f} us each\n")
        rows, failed = [], list[str]()
        for subscribers in options.subscribers:
            for candidate in options.only:
                if candidate == "sync" and subscribers > 6000:
                    continue  # three descriptors each
                try:
                    rows.append(measure(candidate, program, subscribers, not options.no_knee, options.seconds))
                except WorkbenchError as error:
                    failed.append(f"{candidate} at {subscribers:,}: {error}")
                    continue
                print(f"  measured {candidate} at {subscribers:,}", file=sys.stderr, flush=True)
        show(rows)
    for line in failed:
        print(line, file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
