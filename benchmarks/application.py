"""What a refetch and an authorisation cost the embedded application, per core, and where a refetch's time goes.

    python -m benchmarks.application [--seconds 5] [--connections 16]

The application has core 0, the load client core 1, over loopback; the database is SQLite, and each server has 5 rules and 10
events. A request's cost is the application's own CPU time, which other work on the machine disturbs less than a rate; `per core`
is its inverse: the requests that one core serves in a second when it does nothing else. `asked` is the goal for it.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import pstats
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psutil

from benchmarks.results import note
from sim.brokeforge.application import Application
from sim.brokeforge.broadcasting.dispatcher import BroadcastEvent
from sim.brokeforge.domain.database import Database
from sim.brokeforge.http import Request
from sim.live.processes import Child
from sim.live.serve import prepare_database
from sim.scenario import Fleet, Scenario
from sim.target import Account

EDGES = {"own": "sim.live.application", "starlette": "benchmarks.application_starlette"}
"""Edge -> module that serves through it; `starlette` needs `pip install starlette uvicorn`."""

WANTED = {"refetch of a server page": 1_500, "channel authorisation": 2_500}
"""Requests per second and core: the goals."""

ROUNDS = 3
"""Rounds of each kind of request. The cheapest counts, because other work on the machine can only add."""

FLEET = Fleet(users=50, servers_per_user=4, sites_per_user=2)


@dataclass(frozen=True, slots=True)
class Measured:
    """One kind of request under load."""

    name: str
    per_second: float
    cpu_us: float
    """CPU time of the application per request."""
    p50_ms: float
    p99_ms: float
    statuses: dict[str, int]


def main(argv: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.application", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=5.0, help="for each kind of request")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--edge", choices=EDGES, default="own", help="what reads requests and writes answers")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as place:
        url = f"sqlite:///{place}/application.sqlite"
        users = prepare_database(url, Scenario(fleet=FLEET), [], volatile=True)
        config = {
            "host": "127.0.0.1",
            "port": 0,
            "ready": f"{place}/ready",
            "database": url,
            "volatile": True,
            # Nothing listens there: only reads are measured, and those publish nothing.
            "broadcaster": {"host": "127.0.0.1", "port": 1, "app_id": "1", "key": "key", "secret": "secret"},
            # No longer than the handler takes: what is measured is the application, not what a scenario makes of it.
            "scenario": {"api": {"service": 0.0}},
        }
        with Child("application", pinned(0, EDGES[args.edge]), Path(place) / "log", listens=True) as child:
            child.tell(json.dumps(config))
            port = _port(child, Path(place) / "ready")
            rows = []
            for name, requests in workloads(users).items():
                rounds = [load(child.pid, port, args.seconds / ROUNDS, args.connections, name, requests) for _ in range(ROUNDS)]
                note(f"application: {name}", "us CPU", [found.cpu_us for found in rounds])
                rows.append(min(rounds, key=lambda found: found.cpu_us))
        print(f"{'':28}{'per s':>8}{'asked':>8}{'CPU us':>8}{'per core':>9}{'p50 ms':>8}{'p99 ms':>8}  answers")
        for row in rows:
            asked = WANTED.get(row.name)
            rates = f"{row.per_second:8.0f}{asked or '':>8}{row.cpu_us:8.0f}{1e6 / row.cpu_us:9.0f}"
            answers = ", ".join(f"{n} x {status}" for status, n in row.statuses.items())
            print(f"{row.name:28}{rates}{row.p50_ms:8.2f}{row.p99_ms:8.2f}  {answers}")
        profile(url, users)
    return 0


def pinned(core: int, module: str, *arguments: str) -> list[str]:
    """The command that runs *module* on one core (anywhere, where there is only one)."""
    several = (os.cpu_count() or 1) > core
    return [*(["taskset", "-c", str(core)] if several else []), sys.executable, "-m", module, *arguments]


def workloads(users: tuple[Account, ...]) -> dict[str, list[str]]:
    """Name -> requests. The sample servers have 5 rules and 10 events each."""

    def get(user: Account, path: str, more: str = "") -> str:
        return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {user.token}\r\n{more}\r\n"

    def authorise(user: Account, channel: str) -> str:
        form = f"socket_id=1234.5678&channel_name={quote(channel)}"
        return (
            f"POST /broadcasting/auth HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {user.token}\r\n"
            f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(form)}\r\n\r\n{form}"
        )

    inertia = "".join(
        f"X-Inertia{name}: {value}\r\n"
        for name, value in (("", "true"), ("-Version", "1"), ("-Partial-Component", "servers/show"), ("-Partial-Data", "server"))
    )
    owned = [(user, server) for user in users for server in user.servers]
    return {
        "refetch of a server page": [get(user, f"/servers/{server}") for user, server in owned],
        "the same, Inertia partial": [get(user, f"/servers/{server}", inertia) for user, server in owned],
        "firewall page": [get(user, f"/servers/{server}/firewall") for user, server in owned],
        "site page": [get(user, f"/sites/{site}") for user in users for site in user.sites],
        "dashboard": [get(user, "/dashboard") for user in users],
        "channel authorisation": [authorise(user, f"private-servers.{server}") for user, server in owned],
        "health": ["GET /up HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"],
    }


def load(pid: int, port: int, seconds: float, connections: int, name: str, requests: list[str]) -> Measured:
    """Load the application with *requests* for *seconds*."""
    command = pinned(1, "benchmarks.application_client", str(port), str(connections), str(seconds))
    lines = "".join(json.dumps(request) + "\n" for request in requests)
    process = psutil.Process(pid)
    before = process.cpu_times()
    done = subprocess.run(command, input=lines, capture_output=True, text=True, check=True)
    after = process.cpu_times()
    result = json.loads(done.stdout)
    answers = sum(result["statuses"].values())
    cpu = after.user + after.system - before.user - before.system
    return Measured(name, answers / result["seconds"], cpu / answers * 1e6, result["p50"], result["p99"], result["statuses"])


def profile(url: str, users: tuple[Account, ...], count: int = 3_000) -> None:
    """Where a refetch's time goes inside the application, without sockets: shares of a deterministic profile."""

    class Nobody:
        def trigger(self, *event: object) -> None: ...
        def push(self, job: BroadcastEvent, delay: float) -> None: ...
        def __len__(self) -> int:
            return 0

    database = Database(url)
    app = Application(database, Nobody(), Nobody(), "key", "secret", time.time_ns, time.sleep)
    requests = [Request("GET", f"/servers/{user.servers[0]}", "", {"authorization": f"Bearer {user.token}"}) for user in users]
    for request in requests:
        app.handle(request)
    started = time.process_time()
    for n in range(count):
        app.handle(requests[n % len(requests)])
    plain = (time.process_time() - started) / count * 1e6
    profiler = cProfile.Profile()
    profiler.enable()
    for n in range(count):
        app.handle(requests[n % len(requests)])
    profiler.disable()
    stats = pstats.Stats(profiler).stats  # type: ignore[attr-defined]
    total = sum(own for _, _, own, _, _ in stats.values())
    parts = {"database driver (SQLite)": 0.0, "SQLAlchemy": 0.0, "serialise": 0.0, "application": 0.0}
    for (file, _, function), (_, _, own, _, _) in stats.items():
        parts[_part(file, function)] += own
    print(f"\nA refetch without sockets: {plain:.0f} us CPU. Shares of its own time under the profiler:")
    for part, own in parts.items():
        print(f"  {part:28}{own / total:6.0%}{plain * own / total:8.0f} us")
    database.close()


def _part(file: str, function: str) -> str:
    if "sqlite3" in function or "Cursor" in function:
        return "database driver (SQLite)"
    if "sqlalchemy" in file or "sqlalchemy" in function:
        return "SQLAlchemy"
    if "orjson" in function or "blake2" in function or "datetime" in function or "resources.py" in file:
        return "serialise"
    return "application"


def _port(child: Child, ready: Path) -> int:
    deadline = time.monotonic() + 30
    while not ready.exists():
        child.require_alive()
        if time.monotonic() > deadline:
            raise TimeoutError("the application did not start")
        time.sleep(0.01)
    return int(json.loads(ready.read_text())["port"])


if __name__ == "__main__":
    sys.exit(main())
