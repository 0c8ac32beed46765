"""How fast the engines are, side by side with SimPy, on one scenario; and the fleet engine at ten billion notifications.

    python -m benchmarks.simulation                     everything (about three minutes on a quiet machine)
    python -m benchmarks.simulation --only hour         100 servers x 1,000 dashboards x 1 h
    python -m benchmarks.simulation --only billions     1,000,000 subscribers x 10,000 updates
    python -m benchmarks.simulation --only formulas     closed forms, and what a notebook imports
    python -m benchmarks.simulation --growth            cost and memory from 10**6 to 10**10 notifications
    python -m benchmarks.simulation --growth --record data/growth.json     and keep it; the documentation shows that file
    python -m benchmarks.simulation --json

Each row is a process of its own: `cold` is from its start to the answer, imports and compiled code read from disk included;
`warm` the best of the runs after that, `cpu` the processor time of that one (it counts two threads twice). All engines of the
first scenario are given the same updates and the same service times, so mean and p99 must be the same. Ratios are of
notifications for each second of processor time, which a busy machine disturbs less, against SimPy's in the same run.

Measured and rejected (two cores, AVX-512; figures are of processor time):

* the loop of events compiled: all that a page does would be written twice, where now only the in-flight rule is;
* each answer an event: an entry in the event list without a call, a refetch without its constructor and a version found by its
  bounds 1 % together; answers in a lane of their own, sorted by insertion, no less (a request as a function made once for each
  page: 3 %, taken);
* `Api.answer` for each request of the columns: 1.5 million notifications/s, with one loop over all 2.0 million;
* free times of 16 workers in a heap: 18 ns for each request, without a branch in it 14 ns, in a row sorted by insertion 12 ns, by
  least and largest in memory 7 ns (what is left there waits for its own stores), in registers as integers of 64 bits 5 ns, of 32
  bits 2.2 ns in two registers and 1.7 ns in one (taken: see `sim.virtual.fleet.loops`);
* a compiled radix sort of arrivals: 18 ns; NumPy's sort 7 ns, with AVX2 13 ns, without vector instructions 57 ns;
* what each page has read as an instant: 4.4 ns to put it in the order of members, as a byte 1.6 ns;
* 10**10 with jitter: of 30 ns for each refetch beside other programs, to draw and sort the starts takes 10, to draw service 4, to
  serve, answer and observe 6, to know which page had read what 3, to count 3. With the row of workers in memory, and service
  drawn and rounded in steps of NumPy, it was 36 ns; by part of a herd with NumPy, and counted once more for updates that come to
  all, 53 ns;
* the generator of random numbers in four streams at a time: 1.1 to 1.5 ns a number for 1.8, and all its arithmetic written anew;
* the same without the thread that draws and sorts ahead: no less processor time.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.results import machine, note
from sim.clock import SECOND, ns
from sim.distributions import Constant, Exponential, Lognormal
from sim.policy import Debounce
from sim.scenario import Api, Broadcaster, Fleet, Network, Pages, Scenario
from sim.virtual.draws import columns
from sim.virtual.reference.page import Mode
from sim.workload import Poisson, Updates, streams

NETWORK = Network(to_broadcaster=Constant(0.0), to_subscriber=Constant(0.03), to_api=Constant(0.03))


# --- the scenarios -----------------------------------------------------------------------------------------------------


def hour(dashboards: int = 1000) -> Scenario:
    """Provisioning on 100 servers, seen by dashboards: 6 million notifications, 1.4 million refetches on 16 workers."""
    return Scenario(
        name="hour",
        duration=3600,
        drain=1800,
        fleet=Fleet(users=1, servers_per_user=100),
        pages=(Pages("dashboard", dashboards),),
        policy=Debounce(wait=0.5),
        network=NETWORK,
        broadcaster=Broadcaster(fixed=0.0, per_subscriber=20e-6),
        api=Api(workers=16, service=Lognormal(0.010, 0.5)),
    )


def restless(dashboards: int) -> Scenario:
    """The hour with pages that stay ten minutes, a tenth of the tabs hidden, and a restart of the broadcaster."""
    return hour(dashboards).replace(
        {
            "pages.0.session": {"kind": "exponential", "scale": 600.0},
            "pages.0.hidden": 0.1,
            "incidents": [{"kind": "restart", "at": 1800.0, "down": 5.0}],
        }
    )


def provisioning(servers: int = 100, steps: int = 20, step: float = 40.0, horizon: float = 3600.0) -> Updates:
    """Each server runs one script in the hour: steps of log-normal length, each pending, installing within 0.2 s, completed."""
    rng = np.random.default_rng([1, 0])
    start = rng.uniform(0, horizon - 1.2 * steps * step, servers)
    length = rng.lognormal(np.log(step) - 0.5, 1.0, (servers, steps))
    completed = start[:, None] + np.cumsum(length, axis=1)
    pending = completed - length
    installing = pending + np.minimum(rng.uniform(0, 0.2, length.shape), length)
    at = np.stack([pending, installing, completed], axis=2).reshape(servers, -1)
    server = np.repeat(np.arange(1, servers + 1), at.shape[1])
    return Updates.of((at.ravel() * SECOND).astype(np.int64), 0, server, 4)


def billions(
    service: Constant | Exponential, workers: int, jitter: float, dashboards: int = 1_000_000, updates: int = 10_000
) -> Scenario:
    """10,000 updates to 1,000,000 dashboards on 20 nodes: 10**10 notifications, 1.3 * 10**9 refetches."""
    return Scenario(
        name="billions",
        duration=updates,
        drain=60,
        fleet=Fleet(users=1, servers_per_user=100),
        workload=Poisson(1.0),
        pages=(Pages("dashboard", dashboards),),
        policy=Debounce(wait=2.0, jitter=jitter),
        network=NETWORK,
        broadcaster=Broadcaster(nodes=20),
        api=Api(workers=workers, service=service),
    )


# --- the engines -------------------------------------------------------------------------------------------------------


def with_simpy(scenario: Scenario, updates: Updates) -> dict[str, float]:
    """The same in SimPy, by callbacks: its fastest form (a process for each page takes ten times as long)."""
    import simpy

    dashboards, workers = scenario.pages[0].subscribers, scenario.api.workers
    wait, net, each = ns(0.5), ns(0.03), ns(scenario.broadcaster.costs.per_subscriber)
    at = updates.at.tolist()
    service = iter(columns(scenario.api.service, streams(scenario.seed)["service"], 4_000_000).tolist())
    env = simpy.Environment(initial_time=0)
    last, armed, shown = [0] * dashboards, [False] * dashboards, [0] * dashboards
    queue: deque[int] = deque()
    free, committed, written = workers, 0, 0
    latency = array("q")

    def after(delay: int, value: Any, callback: Any) -> None:
        event = env.timeout(delay, value)
        event.callbacks.append(callback)

    def publish(event: Any) -> None:
        nonlocal committed, written
        committed += 1
        begin = max(int(env.now), written)
        written = begin + each * dashboards
        for page in range(dashboards):
            after(begin - int(env.now) + each * (page + 1) + net, page, notified)
        if event.value + 1 < len(at):
            after(at[event.value + 1] - int(env.now), event.value + 1, publish)

    def notified(event: Any) -> None:
        page = event.value
        last[page] = int(env.now)
        if not armed[page]:
            armed[page] = True
            after(wait, page, ring)

    def ring(event: Any) -> None:
        page = event.value
        left = last[page] + wait - env.now
        if left > 0:
            after(left, page, ring)
        else:
            armed[page] = False
            after(net, page, arrive)

    def arrive(event: Any) -> None:
        nonlocal free
        if free:
            free -= 1
            after(next(service), (event.value, committed), answered)
        else:
            queue.append(event.value)

    def answered(event: Any) -> None:
        nonlocal free
        after(net, event.value, applied)
        if queue:
            after(next(service), (queue.popleft(), committed), answered)
        else:
            free += 1

    def applied(event: Any) -> None:
        page, version = event.value
        for update in range(shown[page], version):
            latency.append(env.now - at[update])
        shown[page] = max(shown[page], version)

    after(at[0], 0, publish)
    env.run()
    delays = np.frombuffer(latency, np.int64)
    return {"pairs": delays.size, "mean": float(delays.mean()) / SECOND, "p99": float(np.quantile(delays, 0.99)) / SECOND}


def with_reference(scenario: Scenario, updates: Updates | None, mode: Mode | None = None) -> dict[str, Any]:
    from sim.virtual import reference

    tables = reference.run(scenario, updates=updates, mode=mode)

    def figures() -> dict[str, float]:
        from sim.results.summary import summarise

        summary = summarise(tables)
        return {name: summary[f"time_to_fresh.{name}"]["value"] for name in ("mean", "p99")}

    return {"pairs": len(tables.notifications), "refetches": len(tables.refetches), "figures": figures}


def with_fleet(scenario: Scenario, updates: Updates | None, numba: bool) -> dict[str, float]:
    from sim.virtual import fleet
    from sim.virtual.fleet import compiled

    compiled.ENABLED, compiled.INSTALLED = numba and compiled.INSTALLED, numba and compiled.INSTALLED
    result = fleet.run(scenario, updates=updates)
    return {
        "pairs": result.notifications,
        "refetches": result.refetches,
        "mean": result.time_to_fresh.mean,
        "p99": result.time_to_fresh.quantile(0.99),
    }


def formulas() -> Iterator[tuple[str, float, str]]:
    """(what, seconds, what was asked) of the slowest closed forms and of the imports that a notebook makes."""
    from sim.virtual import theory

    calls: dict[str, Callable[[], object]] = {
        "figures of a trailing debounce": lambda: theory.predict(Debounce(wait=0.5), 1.0),
        "max_wait, lodash": lambda: theory.max_wait.lodash_max_wait.__wrapped__(10, 0.5, 1),
    }
    for name, call in calls.items():
        call()
        started = time.process_time()
        for _ in range(50):
            call()
        yield name, (time.process_time() - started) / 50, "<= 0.001 s"
    for module in ("sim.virtual.theory", "sim.virtual.engines"):
        program = f"import time; t = time.process_time(); import {module}; print(time.process_time() - t)"
        done = subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.PIPE, text=True)
        yield f"import {module}", float(done.stdout), "<= 2 s"


FIXED = (Constant(0.002), 1000, 0.0)
JITTERED = (Exponential(30e-6), 16, 1.0)

ROWS: dict[str, tuple[str, Any, int]] = {
    # name: (part, function, runs after the first)
    "SimPy, callbacks": ("hour", lambda: with_simpy(hour(), provisioning()), 0),
    "reference, all refetches at once": ("hour", lambda: with_reference(hour(), provisioning()), 1),
    "reference, pages come and go, 100 dashboards": ("hour", lambda: with_reference(restless(100), provisioning()), 1),
    "reference, sent by events, 100 dashboards": ("hour", lambda: with_reference(hour(100), provisioning(), "one_way"), 1),
    "reference, each answer an event, 100 dashboards": (
        "hour",
        lambda: with_reference(hour(100), provisioning(), "by_event"),
        1,
    ),
    "fleet, NumPy alone": ("hour", lambda: with_fleet(hour(), provisioning(), numba=False), 3),
    "fleet, with Numba": ("hour", lambda: with_fleet(hour(), provisioning(), numba=True), 3),
    "fleet, constant service, 1,000 workers": ("billions", lambda: with_fleet(billions(*FIXED), None, numba=False), 0),
    "fleet, jitter 1 s, exponential service, 16 workers": (
        "billions",
        lambda: with_fleet(billions(*JITTERED), None, numba=True),
        0,
    ),
}

ASKED = {
    "reference, all refetches at once": ">= 4 x SimPy",
    "reference, pages come and go, 100 dashboards": ">= 4 x SimPy",
    "reference, sent by events, 100 dashboards": ">= 4 x SimPy",
    "reference, each answer an event, 100 dashboards": ">= 4 x SimPy",
    "fleet, with Numba": ">= 100 x SimPy",
    "fleet, constant service, 1,000 workers": "<= 5 s, < 0.5 GB",
    "fleet, jitter 1 s, exponential service, 16 workers": "<= 40 s, < 0.5 GB",
}

GROWTH: dict[str, tuple[str, int, int, tuple[Any, int, float]]] = {
    f"{label}, 10**{power}": (engine, dashboards, updates, load)
    for label, engine, most, load in (
        ("reference", "reference", 7, FIXED),
        ("fleet, constant service", "fleet", 10, FIXED),
        ("fleet, jitter and exponential service", "fleet", 10, JITTERED),
    )
    for power, dashboards, updates in (
        (6, 1_000, 1_000),
        (7, 10_000, 1_000),
        (8, 100_000, 1_000),
        (9, 1_000_000, 1_000),
        (10, 1_000_000, 10_000),
    )
    if power <= most
}
"""Label -> engine, dashboards, updates, and the load of the application (service, workers, jitter)."""


def grown(name: str) -> dict[str, Any]:
    engine, dashboards, updates, (service, workers, jitter) = GROWTH[name]
    scenario = billions(service, workers, jitter, dashboards, updates)
    found = with_reference(scenario, None) if engine == "reference" else with_fleet(scenario, None, numba=True)
    return {name: found[name] for name in ("pairs", "refetches")}


def measure(name: str) -> dict[str, Any]:
    """In a process of its own: one row."""
    _, function, again = ROWS[name] if name in ROWS else ("growth", lambda: grown(name), 0)
    found, times = {}, []
    for _ in range(1 + again):
        wall, cpu = time.perf_counter(), time.process_time()
        found = function()
        times.append((time.perf_counter() - wall, time.process_time() - cpu))
    warm, cpu = min(times[1:] or times)
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    wall = time.perf_counter()
    found |= found.pop("figures", dict)()
    later = time.perf_counter() - wall + sum(wall for wall, _ in times[1:])
    return {
        "later": later,
        "warm": warm,
        "cpu": cpu,
        "rss": rss,
        "rounds": [cpu for _, cpu in times[1:] or times],
        **found,
    }


def in_a_process(name: str) -> dict[str, Any]:
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.simulation", "--row", name], check=True, stdout=subprocess.PIPE, text=True
    )
    row = json.loads(done.stdout)
    # Start and imports belong to a cold run; runs after the first, and what is computed of the result, do not.
    row["cold"] = time.perf_counter() - started - row.pop("later")
    return row


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.simulation", description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=("hour", "billions", "formulas"))
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--record", type=Path, help="with --growth: the file that keeps the table")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.row:
        print(json.dumps(measure(args.row)))
        return
    if args.growth:
        growth(args.record)
        return
    rows: dict[str, dict[str, Any]] = {}
    for name, (part, _, _) in ROWS.items():
        if args.only in (None, part):
            row = rows[name] = in_a_process(name)
            note(f"{name}: notifications", "1/s", [row["pairs"] / cpu for cpu in row["rounds"]], more_is_better=True)
            if not args.json:
                print(line(name, rows[name], rows.get("SimPy, callbacks") if part == "hour" else None), flush=True)
    if args.only in (None, "formulas"):
        for name, seconds, asked in formulas():
            rows[name] = {"cpu": seconds}
            if not args.json:
                print(f"{name:52}  cpu {seconds:9.6f} s  asked: {asked}")
    if args.json:
        print(json.dumps(rows, indent=1))


def growth(record: Path | None) -> None:
    """A table of what more notifications cost; into *record* row by row, where rows that this commit has put there stay."""
    found: dict[str, Any] = {"command": "python -m benchmarks.simulation --growth", **machine(), "rows": []}
    if record is not None and record.exists():
        before = json.loads(record.read_text(encoding="utf-8"))
        found["rows"] = (
            before["rows"] if before["commit"].removesuffix("-dirty") == found["commit"].removesuffix("-dirty") else []
        )
    print(f"{'':45}{'notifications':>14}{'refetches':>15}{'cpu s':>9}{'ns each':>9}{'GB':>7}")
    for name, (_, dashboards, updates, (service, workers, jitter)) in GROWTH.items():
        row = next((row for row in found["rows"] if row["name"] == name), None)
        if row is None:
            measured = in_a_process(name)
            load = {"workers": workers, "service_us": round(service.mean() * 1e6), "jitter": jitter}
            row = {"name": name, "dashboards": dashboards, "updates": updates} | load
            row |= {key: measured[key] for key in ("pairs", "refetches", "cpu", "rss")}
            found["rows"].append(row)
            if record is not None:
                record.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        each = row["cpu"] / row["pairs"] * 1e9
        print(f"{name:45}{row['pairs']:>14,}{row['refetches']:>15,}{row['cpu']:>9.2f}{each:>9.2f}{row['rss']:>7.2f}", flush=True)


def line(name: str, row: dict[str, Any], simpy: dict[str, Any] | None) -> str:
    """One row of the report."""
    cells = [
        f"{name:52}",
        f"cold {row['cold']:7.2f} s",
        f"warm {row['warm']:7.3f} s",
        f"cpu {row['cpu']:7.3f} s",
        f"{row['pairs'] / row['cpu']:9.3g} notifications/s",
        f"{row['rss']:5.2f} GB",
        f"{row['pairs'] / row['cpu'] * simpy['cpu'] / simpy['pairs']:5.1f} x SimPy" if simpy and simpy is not row else "",
        f"mean {row['mean']:.6f} s  p99 {row['p99']:.4f} s" if "mean" in row else "",
        f"asked: {ASKED[name]}" if name in ASKED else "",
    ]
    return "  ".join(cell for cell in cells if cell)


if __name__ == "__main__":
    main()
