"""The wall clock set forward and back by an hour while a load test runs."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from sim.results.run import Run
from tests.torture.case import Stage, case, need
from tests.torture.commands import Command, kind_of_bundle
from tests.torture.signals import LOADTEST, parts

HOUR = 3600 * 10**9

STEPPED = """
import mmap, os, time
with open(os.environ["CLOCK_OFFSET"], "r+b") as file:
    offset = mmap.mmap(file.fileno(), 8)
real = time.time_ns
time.time_ns = lambda: real() + int.from_bytes(offset[:8], "little", signed=True)
time.time = lambda: time.time_ns() / 1e9
"""
"""`sitecustomize` of every process of the run: the wall clock that Python reads is as far off as a file says; the kernel's own
and the monotonic clocks go on."""


@case
def clock_steps(stage: Stage) -> Iterator[str]:
    """The wall clock set by an hour, forward or back, in mid-run: the run ends in its own time, exit 4, and the step is named."""
    (stage.place / "sitecustomize.py").write_text(STEPPED)
    for name, step in (("an hour on", HOUR), ("an hour back", -HOUR)):
        place = stage.place / name
        place.mkdir()
        offset = place / "offset"
        offset.write_bytes(bytes(8))
        places = os.pathsep.join(filter(None, (str(stage.place), os.environ.get("PYTHONPATH"))))
        environment = {"CLOCK_OFFSET": str(offset), "PYTHONPATH": places}
        command = Command(place, *LOADTEST, "--set", "duration=6", "--json", environment=environment)
        command.until(lambda command=command: parts(command), "its first notifications")
        began = time.monotonic()
        with offset.open("r+b") as file:
            file.write(step.to_bytes(8, "little", signed=True))
        code = command.finish(120)
        took = time.monotonic() - began
        command.require_orderly()
        need(code == 4, f"{name}: exit {code}: {command.said}")
        need("clock was set during the run" in command.out, f"{name}: nothing says that a clock was set: {command.said}")
        kind = kind_of_bundle(command.output, place)
        rows = len(Run(command.output).notifications)
        need(rows, f"{name}: no notification was kept")
        yield f"{name}: ended {took:.0f} s later, exit {code}, named, {kind} bundle with {rows} notifications"
