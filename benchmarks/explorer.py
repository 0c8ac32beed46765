"""How long the explorer takes from a slider's move to the sentence and the picture: `python -m benchmarks.explorer`

It measures what the kernel does for one move, over moves that a user may make: each slider over its range, each policy. It leaves
out the way to the browser and back. The processor time is what an idle machine takes; on a busy one the clock shows more.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from statistics import median

from benchmarks.results import note
from sim import explorer

MOVES = 60


def main() -> int:
    argparse.ArgumentParser(
        prog="python -m benchmarks.explorer", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    draw = random.Random(1)
    explorer.picture(explorer.Setting())  # What is done once: fonts, and the closed forms of the usual waits.
    took, worked = [], []
    for _ in range(MOVES):
        at = explorer.Setting(
            policy=draw.choice(list(explorer.POLICIES)),
            wait=round(draw.uniform(0.05, 3.0), 2),
            max_wait=draw.randint(4, 20) / 2,
            rate=10 ** draw.uniform(-1.0, 1.4),
            subscribers=draw.randint(1, 5000),
            service=10 ** draw.uniform(-3.3, 0),
            workers=draw.randint(1, 64),
        )
        began, before = time.perf_counter(), time.process_time()
        explorer.words(at)
        explorer.picture(at)
        took.append((time.perf_counter() - began) * 1000)
        worked.append((time.process_time() - before) * 1000)
    note("explorer: a slider's move", "ms of the processor", [median(worked)])
    for name, all_of in (("by the clock", took), ("of the processor", worked)):
        longest, most = max(all_of), sorted(all_of)[int(0.95 * MOVES)]
        print(f"{MOVES} moves, {name}: median {median(all_of):.0f} ms, 95 % within {most:.0f} ms, longest {longest:.0f} ms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
