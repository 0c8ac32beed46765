"""Every benchmark, one after the other: `python -m benchmarks`, or some of them: `python -m benchmarks fanout loadtest`.

Leave the machine alone meanwhile. Where a benchmark has a server and a client, each has a core of its own; where it has rivals,
all are measured in the same run, and their ratios are what to read. Each has a `--help` (`python -m benchmarks.fanout --help`).

The figures go to benchmarks/results.json, with the facts of the machine. Those of the run before go to
benchmarks/results.old.json, and the two are compared at the end. When only some benchmarks run, or the run is interrupted, the
figures go to benchmarks/results.part.json and are compared with those in results.json. `python -m benchmarks --compare OLD NEW`
compares any two files.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import results
from sim.errors import BadInput, Interrupted
from sim.signals import handled

ALL: dict[str, tuple[str, ...]] = {
    "fanout": ("--only", "fan-out", "connects", "publishes", "stalled", "nodes"),
    "loadtest": ("-n", "5000", "--only", "ours", "usual", "bare"),
    "many": ("-n", "1000", "50000"),
    "application": (),
    "application_race": (),
    "simulation": (),
    "reference": ("--share", "0.2"),
    "browsers": ("--subscribers", "50"),
    "explorer": (),
}
"""Benchmark -> arguments with which all together take less than a quarter of an hour; without them it does more."""
QUIET = 0.3
"""Average load of the last minute with which the machine counts as left alone."""
RESULTS, BEFORE, PART = (Path(__file__).with_name(f"results{which}.json") for which in ("", ".old", ".part"))


def main(arguments: list[str] | None = None) -> int:
    """Exit code: 1 when a benchmark failed, 2 for bad input, 130 when it was interrupted."""
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
        return BadInput.exit_code
    load, ended = os.getloadavg()[0], dict[int, list[str]]()
    if load > QUIET:
        print(f"other programs keep {load:.1f} processors busy: what is measured now will scatter", file=sys.stderr, flush=True)
    seconds, interrupted = {}, False
    with tempfile.NamedTemporaryFile("r", encoding="utf-8") as notes:
        for name in args.names or ALL:
            print(f"\n=== {name}", flush=True)
            started = time.monotonic()
            environment = os.environ | {results.FILE: notes.name, results.BENCHMARK: name}
            try:
                code = run([sys.executable, "-m", f"benchmarks.{name}", *ALL[name]], environment)
            except KeyboardInterrupt:
                interrupted = True
                break
            seconds[name] = time.monotonic() - started
            ended.setdefault(code, []).append(name)
        found = results.collect(notes.read(), seconds) | {"load_before": round(load, 2)}
    before, path = (RESULTS, PART) if args.names or interrupted else (BEFORE, RESULTS)
    if path is RESULTS and RESULTS.exists():
        RESULTS.replace(BEFORE)
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"\n{sum(seconds.values()) / 60:.1f} minutes; figures in {path}")
    if before.exists():
        print()
        compare(before, path)
    if lacking := ended.pop(BadInput.exit_code, None):
        print(f"not measured, because this machine lacks something (see above): {', '.join(lacking)}", file=sys.stderr)
    ended.pop(0, None)
    if ended:
        print(f"failed: {', '.join(name for names in ended.values() for name in names)}", file=sys.stderr)
    return 130 if interrupted else 1 if ended else 0


def run(command: list[str], environment: dict[str, str]) -> int:
    """The exit code. A benchmark that is interrupted gets one SIGINT and is waited for, so that it ends its servers. Raises
    KeyboardInterrupt then."""

    def interrupt(number: int, _: object) -> None:
        raise Interrupted(number)

    with handled(interrupt), subprocess.Popen(command, env=environment, start_new_session=True) as child:
        try:
            return child.wait()
        except KeyboardInterrupt:
            child.send_signal(signal.SIGINT)
            child.wait()
            raise


def compare(old: Path, new: Path) -> int:
    try:
        print(results.compare(*(results.read(path) for path in (old, new))))
    except (OSError, ValueError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
