"""`kill -9` at random instants: what is left is a valid bundle, a partial one that reads, or none."""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from sim.virtual.sweep import Sweep, identity, parse_vary
from sim.virtual.sweep_journal import SweepJournal
from tests.torture.case import Stage, case, need
from tests.torture.commands import PATIENCE, Command, kind_of_bundle

AT_ONCE = 2
SIMULATION = ("--set", "duration=20", "--set", "pages.0.subscribers=30")
VARY = "policy.wait=0.1,0.3"
ARGUMENTS = {
    "simulate": ("simulate", "steady", *SIMULATION, "-o", "run"),
    "sweep": ("sweep", "steady", "--vary", VARY, "--processes", "2", "--precision", "100", *SIMULATION, "-o", "run"),
    "loadtest": ("loadtest", "small.toml", "--set", "duration=1.5", "-o", "run"),
}


def kill_once(stage: Stage, kind: str, number: int, after: float) -> str:
    place = stage.place / f"{kind}-{number}"
    command = Command(place, *ARGUMENTS[kind])
    deadline = time.monotonic() + after
    while time.monotonic() < deadline and command.process.poll() is None:
        command.children()
        time.sleep(0.05)
    ended = command.process.poll() is not None
    if not ended:
        command.send(signal.SIGKILL)
    code = command.finish()
    need(ended or code == -signal.SIGKILL, f"{kind}: exit {code}: {command.said}")
    left = kind_of_sweep(command) if kind == "sweep" else kind_of_bundle(command.output, place)
    need(not ended or left == "whole", f"{kind} ended by itself, exit {code}, and left {left}: {command.said}")
    shutil.rmtree(place)
    return left


def kind_of_sweep(command: Command) -> str:
    """A sweep's directory goes on where it was: every line that was written whole is there, and the table only at the end."""
    if not (command.output / "sweep.json").exists():
        return "none"
    from sim.scenario import load_scenario

    scenario = load_scenario("steady").replace({"duration": 20, "pages.0.subscribers": 30})
    rows = (command.output / "rows.jsonl").read_bytes() if (command.output / "rows.jsonl").exists() else b""
    journal = SweepJournal(command.output, identity(Sweep(scenario, parse_vary([VARY]))), scenario.seed)
    journal.close()
    lines = rows.count(b"\n")
    need(len(journal.rows) == lines, f"{len(journal.rows)} rows of {lines} lines")
    if (command.output / "sweep.parquet").exists():
        import pandas as pd

        need(len(pd.read_parquet(command.output / "sweep.parquet")), "an empty table")
        return "whole"
    return "partial"


@case
def kill_at_random_instants(stage: Stage) -> Iterator[str]:
    """Load test, simulate and sweep killed by SIGKILL at random instants: a valid bundle, a partial one that reads, or none; and
    nothing that they started stays alive."""
    draw = random.Random(18)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for kind in ARGUMENTS:
            # How long it takes here and now, with as many at once: the instants are drawn from all of that.
            began = time.monotonic()
            found = Counter(pool.map(lambda n, kind=kind: kill_once(stage, kind, n, PATIENCE), range(-AT_ONCE, 0)))
            need(set(found) == {"whole"}, f"{kind}, not killed, leaves {dict(found)}")
            longest = 1.1 * (time.monotonic() - began)
            instants = [draw.uniform(0.1, longest) for _ in range(stage.repeats)]
            found = Counter(pool.map(lambda n, at, kind=kind: kill_once(stage, kind, n, at), range(stage.repeats), instants))
            need(set(found) != {"none"}, f"{kind}: nothing was ever written before an instant: nothing was tried")
            stage.figures[kind] = dict(found)
            yield f"{kind}, within {longest:.0f} s: {', '.join(f'{count} {what}' for what, count in sorted(found.items()))}"
