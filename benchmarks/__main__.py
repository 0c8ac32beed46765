"""Every benchmark, one after the other: `python -m benchmarks`, or `python -m benchmarks fanout loadtest`.

Leave the machine alone meanwhile: each pins a server to one core and its client to another, and compares what it measures in
one run. Each has a `--help` of its own (`python -m benchmarks.fanout --help`).

The figures are left in benchmarks/results.json, those of the run before in benchmarks/results.old.json, and the two are
compared at the end; `python -m benchmarks --compare OLD NEW` compares any two.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import results

ALL = {
    "fanout": (),
    "loadtest": ("-n", "5000", "--only", "ours", "usual", "bare"),
    "many": ("-n", "1000", "50000"),
    "application": (),
    "application_race": (),
    "simulation": (),
    "reference": (),
    "browsers": (),
    "explorer": (),
}
"""Benchmark -> arguments with which it keeps the whole under a quarter of an hour; by itself each does more."""
RESULTS = Path(__file__).with_name("results.json")
BEFORE = Path(__file__).with_name("results.old.json")


def main(arguments: list[str] | None = None) -> int:
    """Exit code: 1 when a benchmark failed, 2 for bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(ALL)} (default: all)")
    parser.add_argument("--compare", nargs=2, type=Path, metavar=("OLD", "NEW"), help="two files of results; nothing is run")
    args = parser.parse_args(arguments)
    if args.compare:
        return compare(*args.compare)
    unknown = [name for name in args.names if name not in ALL]
    if unknown:
        print(f"no benchmark {unknown[0]!r} (there are: {', '.join(ALL)})", file=sys.stderr)
        return 2
    failed, seconds = [], {}
    with tempfile.NamedTemporaryFile("r", encoding="utf-8") as notes:
        for name in args.names or ALL:
            print(f"\n=== {name}", flush=True)
            started = time.monotonic()
            environment = os.environ | {results.FILE: notes.name}
            if subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *ALL[name]], env=environment, check=False).returncode:
                failed.append(name)
            seconds[name] = time.monotonic() - started
        found = results.collect(notes.read(), seconds)
    if RESULTS.exists():
        RESULTS.replace(BEFORE)
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"\n{sum(seconds.values()) / 60:.1f} minutes; figures in {RESULTS}")
    if BEFORE.exists():
        print()
        compare(BEFORE, RESULTS)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def compare(old: Path, new: Path) -> int:
    try:
        print(results.compare(*(results.read(path) for path in (old, new))))
    except (OSError, ValueError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
