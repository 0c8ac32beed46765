"""Every benchmark, one after the other: `python -m benchmarks` (about twenty minutes), or `python -m benchmarks fanout loadtest`.

Leave the machine alone meanwhile: each pins a server to one core and its client to another, and compares what it measures in
one run. Each has a `--help` of its own (`python -m benchmarks.fanout --help`).
"""

from __future__ import annotations

import subprocess
import sys

ALL = ("fanout", "loadtest", "application", "application_race", "simulation", "reference")


def main(names: list[str]) -> int:
    """Run *names* (all of them when empty); returns 2 for a name that there is not, 1 when a benchmark failed."""
    unknown = [name for name in names if name not in ALL]
    if unknown:
        print(f"no benchmark {unknown[0]!r} (there are: {', '.join(ALL)})", file=sys.stderr)
        return 2
    failed = []
    for name in names or ALL:
        print(f"\n=== {name}", flush=True)
        if subprocess.run([sys.executable, "-m", f"benchmarks.{name}"]).returncode:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
