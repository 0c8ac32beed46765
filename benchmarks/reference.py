"""Notifications per second of the reference engine, and the memory that it takes.

    python -m benchmarks.reference                  the hour of 100 servers and 1,000 dashboards, plain and with everything on
    python -m benchmarks.reference --share 0.1      a tenth of the hour
    python -m benchmarks.reference --memory         bytes per page, notification and refetch (see `sim.virtual.measures`)

Processor time of one process, tables included; the best of three runs.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time

from benchmarks.results import note
from benchmarks.simulation import hour, provisioning
from sim.distributions import Constant
from sim.policy import Debounce, Immediate
from sim.scenario import Api, Broadcaster, Fleet, Pages, Scenario
from sim.virtual import reference
from sim.workload import Instants, Updates

EVERYTHING = {
    "pages.0.hidden": 0.1,
    "pages.0.session": {"kind": "exponential", "scale": 600.0},
    "pages.0.policy": {"kind": "debounce", "wait": 0.5, "max_wait": 5.0, "jitter": 0.05},
    "network.to_broadcaster": {"kind": "exponential", "scale": 0.002},
    "network.to_subscriber": {"kind": "lognormal", "scale": 0.03, "sigma": 0.3},
    "network.to_api": {"kind": "exponential", "scale": 0.01},
    "broadcast.dispatch": "queued",
    "broadcast.queue_workers": 2,
    "api.timeout": 5.0,
    "api.retries": 2,
    "api.retry_backoff": 0.1,
    "api.rate_limit": 600,
    "api.queue_limit": 5000,
    "incidents": [
        {"kind": "restart", "at": 200.0, "down": 2.0},
        {"kind": "slowdown", "at": 300.0, "duration": 20.0, "factor": 2.0},
    ],
}
"""All that costs something for each notification or refetch, at once."""


def measure(scenario: Scenario, updates: Updates) -> tuple[int, int, float]:
    """(notifications, refetches, processor seconds)."""
    before = time.process_time()
    tables = reference.run(scenario, updates=updates)
    return len(tables.notifications), len(tables.refetches), time.process_time() - before


def row(label: str, scenario: Scenario, updates: Updates) -> str:
    rounds = [measure(scenario, updates) for _ in range(3)]
    note(f"reference engine, {label}: notifications", "1/s", [each / cpu for each, _, cpu in rounds], more_is_better=True)
    notifications, refetches, seconds = min(rounds, key=lambda figures: figures[2])
    return (
        f"{label:28}{notifications:>12,} notifications{refetches:>12,} refetches{seconds:>8.1f} s"
        f"{notifications / seconds:>12,.0f} notifications/s"
    )


def speed(share: float) -> None:
    updates = provisioning()
    updates = updates[updates.at < round(3.6e12 * share)]
    scenario = hour().replace({"duration": 3600 * share, "drain": 10.0, "fleet.users": 50, "fleet.servers_per_user": 2})
    print(row("plain", scenario, updates))
    print(row("with everything on", scenario.replace(EVERYTHING), updates))


# --- memory ------------------------------------------------------------------------------------------------------------

SIZES = {
    "nothing": (0, 0, Immediate()),
    "pages": (100_000, 0, Immediate()),
    "notifications": (10_000, 300, Debounce(wait=1000.0)),
    "refetches": (10_000, 60, Immediate()),
}
"""Label -> dashboards, updates, policy."""


def occupy(label: str) -> None:
    """Run one of `SIZES` and print the peak of resident memory, bytes."""
    pages, updates, policy = SIZES[label]
    scenario = Scenario(
        duration=400,
        fleet=Fleet(users=1),
        workload=Instants(at=tuple(float(i) for i in range(updates))),
        pages=(Pages("dashboard", pages),),
        policy=policy,
        broadcaster=Broadcaster(per_subscriber=1e-6),
        api=Api(workers=1000, service=Constant(0.001)),
    )
    reference.run(scenario)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def memory() -> None:
    peak = {
        label: int(
            subprocess.run([sys.executable, "-m", __spec__.name, "--occupy", label], capture_output=True, check=True).stdout
        )
        for label in SIZES
    }
    page = (peak["pages"] - peak["nothing"]) / 100_000
    notification = (peak["notifications"] - peak["nothing"] - 10_000 * page) / (10_000 * 300)
    refetch = (peak["refetches"] - peak["nothing"] - 10_000 * page) / (10_000 * 60) - notification
    print(f"{page:,.0f} bytes per page, {notification:,.0f} per notification, {refetch:,.0f} per refetch")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=1.0, help="of the hour")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--occupy", choices=tuple(SIZES), help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.occupy:
        occupy(args.occupy)
    elif args.memory:
        memory()
    else:
        speed(args.share)


if __name__ == "__main__":
    main()
