"""Make the committed sample runs in data/runs anew, each by the command that its data card names.

    python data/samples.py                  # all (`make samples`)
    python data/samples.py start-here       # some, by name
    python data/samples.py --list

Measured samples take real time and a quiet machine: an invalid run is tried again, and in the end leaves the old sample alone.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from proof import apart

RUNS = Path(__file__).resolve().parent / "runs"
INVALID = 4
"""Exit code of a run whose harness cannot be trusted."""

BOARDS = ["--set", "duration=30", "--set", 'pages=[{page="dashboard",subscribers=20}]']
"""Few pages, all of them dashboards: what a policy does to a channel, and a bundle that stays small."""

HERDS = ["--set", "duration=60", "--set", "workload.rate=0.1"]
"""Herds of 5,000 pages, far enough apart to be told apart, and few, so that a bundle that holds each page's rows stays small."""

LARGE = [
    "--set",
    "duration=9",
    "--set",
    "broadcast.payload=full",
    "--set",
    "broadcast.payload_bytes=4096",
    "--set",
    "load.probes=100",
]

NODES = ["loadtest", "fan-out", "--set", "duration=20", "--set", "load.connect_rate=1500", "--set", "load.probes=20"]
"""So large that a tick of the kernel's processor time is small beside it; the rows of twenty pages keep the bundle small."""

SAMPLES: dict[str, list[str]] = {
    "start-here": ["loadtest", "demo"],
    "start-here-window": ["loadtest", "demo", "--set", 'policy={kind="window",wait=0.5}'],
    "start-here-simulated": ["simulate", "demo"],
    "steady-debounce-100ms": ["loadtest", "steady", *BOARDS, "--set", "policy.wait=0.1"],
    "steady-debounce-200ms": ["loadtest", "steady", *BOARDS, "--set", "policy.wait=0.2"],
    "steady-window-200ms": ["loadtest", "steady", *BOARDS, "--set", 'policy={kind="window",wait=0.2}'],
    "steady-window-500ms": ["loadtest", "steady", *BOARDS, "--set", 'policy={kind="window",wait=0.5}'],
    "steady-polling": ["loadtest", "polling", *BOARDS, "--set", "policy.interval=0.5"],
    "steady-full-payload": ["loadtest", "full-payload", *BOARDS, "--set", "broadcast.payload_bytes=0"],
    "fan-out-250": ["loadtest", "fan-out", "--users", "250"],
    "fan-out-1000": ["loadtest", "fan-out", "--users", "1000", "--set", "duration=9"],
    "fan-out-3000": ["loadtest", "fan-out", "--users", "3000", "--set", "duration=8"],
    "fan-out-1000-4kB": ["loadtest", "fan-out", "--users", "1000", *LARGE],
    "one-node-1000": [*NODES, "--users", "1000"],
    "one-node-4000": [*NODES, "--users", "4000"],
    "two-nodes": [*NODES, "--users", "4000", "--set", "broadcaster.nodes=2"],
    "herd": ["loadtest", "herd", *HERDS],
    "herd-jitter": ["loadtest", "herd", *HERDS, "--set", "policy.jitter=5", "--set", "load.probes=1500"],
}
"""Name -> the workbench's arguments; -o is added."""

APART = ("one-node-1000", "one-node-4000", "two-nodes")
"""Samples whose target and load client have a core each: what is asked of them is the target's processor time."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="samples to make; default: all")
    parser.add_argument("--tries", type=int, default=4, metavar="N", help="attempts at a valid run (default 4)")
    parser.add_argument("--list", action="store_true", help="only say what would be run")
    args = parser.parse_args()
    unknown = [name for name in args.names if name not in SAMPLES]
    if unknown:
        parser.error(f"no sample {unknown[0]!r} (known: {', '.join(SAMPLES)})")
    failed = []
    for name in args.names or SAMPLES:
        command = ["workbench", *SAMPLES[name], "-o", f"data/runs/{name}"]
        print(f"{name}: {shlex.join(command)}", flush=True)
        if not args.list and not make(name, args.tries):
            failed.append(name)
    if failed:
        print(f"kept as they were: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


def make(name: str, tries: int) -> bool:
    """Run one sample's command until it is valid; only then the old one gives way."""
    for attempt in range(1, tries + 1):
        with tempfile.TemporaryDirectory() as scratch:
            made = Path(scratch) / name
            command = [sys.executable, "-m", "sim", *SAMPLES[name], "-o", str(made)]
            code = apart(command) if name in APART else subprocess.run(command, check=False).returncode
            # A missed threshold (3) is a result like any other.
            if code in (0, 3):
                shutil.rmtree(RUNS / name, ignore_errors=True)
                RUNS.mkdir(exist_ok=True)
                shutil.move(made, RUNS / name)
                return True
            print(f"{name}: attempt {attempt} of {tries} ended with exit code {code}", file=sys.stderr)
            if code != INVALID:
                return False
    return False


if __name__ == "__main__":
    sys.exit(main())
