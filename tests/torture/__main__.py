"""The campaign: break it on purpose, and see what holds.

    python -m tests.torture
    python -m tests.torture --only signals --only "disk full"
    python -m tests.torture --long -o torture.json

Prints a line for each case as it ends and a table at the end; exit code 1 when a promise was not kept. The promises, and what
is not covered: docs/robustness.md.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import dataclasses
import json
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from tests.conftest import MARK, started_by
from tests.torture import clocks, databases, deaths, disks, fuzzing, kills, rfc6455, signals, soak  # noqa: F401  (their cases)
from tests.torture.case import CASES, Stage, Verdict, judge


def table(verdicts: Sequence[Verdict]) -> str:
    lines = [f"{'case':34}{'verdict':9}{'time':>7}  evidence"]
    for one in verdicts:
        said = one.reason or "; ".join(one.evidence)
        lines.append(f"{one.case:34}{one.verdict:9}{one.seconds:6.0f}s  {said if len(said) <= 300 else said[:297] + '...'}")
    counts = {word: sum(one.verdict == word for one in verdicts) for word in ("held", "BROKEN", "skipped")}
    return "\n".join([*lines, ", ".join(f"{count} {word}" for word, count in counts.items())])


def end_all() -> None:
    """Whatever ends the campaign ends what it has started."""
    for process in started_by(psutil.Process()):
        with contextlib.suppress(psutil.Error):
            process.kill()


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.torture", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", action="append", default=[], metavar="CASE", help="cases whose name contains it (repeatable)")
    parser.add_argument("--long", action="store_true", help="the soak takes 30 minutes at 2,000 subscribers, the fuzzing ten")
    parser.add_argument(
        "--repeats", type=int, default=34, metavar="N", help="kills of each command at random instants (default: 34)"
    )
    parser.add_argument("--list", action="store_true", help="names and promises, and nothing more")
    parser.add_argument("-o", "--output", type=Path, default=Path("torture.json"), metavar="FILE", help="default: torture.json")
    args = parser.parse_args(argv)
    chosen = [one for one in CASES.values() if not args.only or any(part in one.name for part in args.only)]
    if not chosen:
        parser.error(f"no case has {' or '.join(args.only)} in its name (they are {', '.join(CASES)})")
    if args.list:
        print("\n".join(f"{one.name:34}{one.promise}" for one in chosen))
        return 0
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it, and so would what is started here
    os.environ[MARK] = str(os.getpid())  # inherited by whatever is started: so is found what outlives its parent
    began, verdicts = time.time(), []
    for one in chosen:
        with tempfile.TemporaryDirectory(prefix="torture-", ignore_cleanup_errors=True) as place:
            verdict = judge(one, Stage(Path(place), args.long, args.repeats))
        verdicts.append(verdict)
        print(
            f"{verdict.verdict:9}{one.name} ({verdict.seconds:.0f} s){f': {verdict.reason}' if verdict.reason else ''}",
            flush=True,
        )
        whole = {
            "began": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began)),
            "seconds": round(time.time() - began),
            "python": platform.python_version(),
            "processors": os.cpu_count(),
            "long": args.long,
            "cases": [dataclasses.asdict(verdict) for verdict in verdicts],
        }
        args.output.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    print(table(verdicts))
    return 1 if any(verdict.verdict == "BROKEN" for verdict in verdicts) else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    atexit.register(end_all)
    sys.exit(main())
