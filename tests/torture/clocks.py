"""The wall clock set forward and back by an hour while a load test runs."""

from __future__ import annotations

import glob
import time
from collections.abc import Iterator

from sim.results.run import Run
from tests.torture.case import Skipped, Stage, case, need
from tests.torture.commands import Command, kind_of_bundle
from tests.torture.signals import LOADTEST, parts

LIBRARIES = "/usr/lib/*/faketime/libfaketimeMT.so.1"


@case
def clock_steps(stage: Stage) -> Iterator[str]:
    """The wall clock set by an hour, forward or back, in mid-run: the run ends in its own time, exit 4, and the step is named."""
    found = sorted(glob.glob(LIBRARIES))
    if not found:
        raise Skipped("libfaketime is not installed (apt-get install libfaketime)")
    for step in ("+3600s", "-3600s"):
        place = stage.place / step
        place.mkdir()
        now = place / "now"
        now.write_text("+0s")
        # Only the wall clock: no step moves the monotonic one.
        environment = {"LD_PRELOAD": found[0], "FAKETIME_TIMESTAMP_FILE": str(now), "FAKETIME_NO_CACHE": "1"}
        environment |= {"FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1"}
        command = Command(place, *LOADTEST, "--set", "duration=6", "--json", environment=environment)
        command.until(lambda command=command: parts(command), "its first notifications")
        began = time.monotonic()
        now.write_text(step)
        code = command.finish(90)
        took = time.monotonic() - began
        command.require_orderly()
        need(code == 4, f"{step}: exit {code}: {command.said}")
        need("clock was set during the run" in command.out, f"{step}: nothing says that a clock was set: {command.said}")
        kind = kind_of_bundle(command.output, place)
        rows = len(Run(command.output).notifications)
        need(rows, f"{step}: no notification was kept")
        yield f"{step}: ended {took:.0f} s later, exit {code}, named, {kind} bundle with {rows} notifications"
