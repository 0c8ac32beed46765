"""SIGINT and SIGTERM in every phase of the commands that work for long."""

from __future__ import annotations

import itertools
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from sim.results.run import Run
from tests.torture.case import Stage, case, need
from tests.torture.commands import ENDS, Command, kind_of_bundle

SAMPLE = Path(__file__).resolve().parents[2] / "data" / "runs" / "start-here"
LONG_SIMULATION = ("simulate", "steady", "--set", "duration=4000", "--set", "pages.0.subscribers=400", "--engine", "reference")
LONG_SWEEP = ("sweep", "steady", "--vary", "policy.wait=0.1,0.2,0.3", "--processes", "2", "--precision", "0.0001")
LONG_SWEEP += ("--max-replications", "500", "--set", "duration=60", "--set", "pages.0.subscribers=20")

Moment = Callable[[Command], object]


def rows(command: Command) -> bool:
    path = command.output / "rows.jsonl"
    return path.exists() and path.stat().st_size > 0


def parts(command: Command) -> bool:
    return any((command.output / "parts").glob("notifications-*"))


def kernel(command: Command) -> int:
    return command.child("ipykernel")


def later(seconds: float) -> Moment:
    """So long after the first look."""
    began: list[float] = []

    def passed(_: Command) -> bool:
        began.append(time.monotonic())
        return began[-1] - began[0] >= seconds

    return passed


LOADTEST = ("loadtest", "small.toml", "-o", "run")
PHASES: dict[str, tuple[tuple[str, ...], Moment]] = {
    "simulate, running": ((*LONG_SIMULATION, "-o", "run"), later(3.0)),
    "sweep, its first simulations": ((*LONG_SWEEP, "-o", "run"), lambda command: command.child("multiprocessing")),
    "sweep, with rows": ((*LONG_SWEEP, "-o", "run"), rows),
    "report, executing": (("report", "sample"), kernel),
    "loadtest, starting its target": (LOADTEST, lambda command: command.child("sim.live.broadcaster")),
    "loadtest, starting its subscribers": (LOADTEST, lambda command: command.child("locust")),
    "loadtest, connecting": ((*LOADTEST, "--set", "load.connect_rate=2"), lambda command: (command.output / "parts").exists()),
    "loadtest, running": (LOADTEST, parts),
    "loadtest, draining": ((*LOADTEST, "--set", "duration=0.5", "--set", "drain=60", "--set", "cooldown=0"), parts),
}


@case
def signals(stage: Stage) -> Iterator[str]:
    """SIGINT and SIGTERM in each phase of simulate, sweep, report and loadtest end it in order: exit 130 or 143, one line,
    nothing alive, and a bundle that reads or none."""
    for number, (name, (arguments, moment)) in enumerate(PHASES.items()):
        # The other signal at each second phase: both ways out are the same code, and each phase costs seconds.
        for sent in itertools.islice(itertools.cycle(ENDS), number, number + (2 if stage.long else 1)):
            place = stage.place / f"{number}-{sent}"
            place.mkdir()
            if "sample" in arguments:
                shutil.copytree(SAMPLE, place / "sample")
            command = Command(place, *arguments)
            command.until(lambda command=command, moment=moment: moment(command), name)
            command.send(sent)
            code, last = ENDS[sent]
            ended = command.finish()
            need(ended == code, f"{name}: exit {ended} after {signal.Signals(sent).name}: {command.said}")
            need(command.err.strip().endswith(last), f"{name}: {command.said!r} is not {last!r}")
            command.require_orderly()
            left = "rows" if arguments[0] == "sweep" else kind_of_bundle(command.output, place)
            if name == "loadtest, running":
                need(left == "partial" and len(Run(command.output).notifications), f"{name}: its bundle is {left}")
            yield f"{name}: {signal.Signals(sent).name}, exit {ended}, bundle {left}"


@case
def impatience(stage: Stage) -> Iterator[str]:
    """A second and a third Ctrl-C while a load test ends neither lose what was measured nor leave anything alive."""
    command = Command(stage.place, *LOADTEST)
    command.until(lambda: parts(command), "parts")
    for _ in range(3):
        command.send(signal.SIGINT)
        time.sleep(0.3)
    code = command.finish()
    need(code == 130, f"exit {code}: {command.said}")
    need(kind_of_bundle(command.output, stage.place) == "partial", "the bundle is not a partial one")
    yield f"exit {code}, partial bundle with {len(Run(command.output).notifications)} notifications"
