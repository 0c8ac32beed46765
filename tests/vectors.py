"""Replay recorded call and fire sequences of real debounce libraries: `python -m tests.vectors FILE`.

Prints a line per case and library; exit code 1 when one differs, 2 when the file cannot be used. The file's own `meta` says
how it was recorded. In short: times are milliseconds; actions of the same instant run back to back; `order` says whether
timers that are due at an action's instant run before it (`timer-first`) or after it (`call-first`).
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from sim.policy import DebounceMachine, Timing

MILLISECOND = 1_000_000


@dataclass
class Outcome:
    """What a library did; the members of a recording's `results` that hold it."""

    fires: list[dict[str, Any]] = field(default_factory=list)
    call_returns: list[str | None] = field(default_factory=list)
    pending_after_step: list[bool] = field(default_factory=list)
    pending_at_end: bool = False

    @property
    def fire_times(self) -> list[int]:
        return [fire["t"] for fire in self.fires]


class Player:
    """Drives one machine through one recording, and keeps what a machine does not: arguments and return values."""

    def __init__(self, machine: DebounceMachine, flush_on_exit: bool) -> None:
        self.machine = machine
        self.flush_on_exit = flush_on_exit
        self.outcome = Outcome()
        self.argument: Any = None
        self.result: str | None = None

    def timers(self, until: int, *, through: bool) -> None:
        """Ring what is due before instant *until* (ns), or *through* it."""
        while self.machine.next_at < until or (through and self.machine.next_at == until):
            at = self.machine.next_at
            self._fired(self.machine.ring(at), at, "timer")

    def act(self, action: dict[str, Any]) -> None:
        machine, at = self.machine, action["t"] * MILLISECOND
        match action["op"]:
            case "call":
                self.argument = action.get("arg")
                self._fired(machine.call(at), at, "call")
                self.outcome.call_returns.append(self.result)
            case "flush":
                self._fired(machine.flush(at), at, "flush")
                self.outcome.call_returns.append(self.result)
            case "unmount":
                self._fired(machine.unmount(at, self.flush_on_exit), at, "unmount")
            case "cancel":
                machine.cancel()
            case "probe":
                pass
            case other:
                raise ValueError(f"unknown op {other!r}")
        self.outcome.pending_after_step.append(machine.is_pending)

    def _fired(self, fired: bool, at: int, via: str) -> None:
        if fired:
            self.outcome.fires.append({"t": at // MILLISECOND, "arg": self.argument, "via": via})
            self.result = f"R:{self.argument}"


def timing_of(library: str) -> Timing:
    """`lodash@4.18.1 debounce` and other releases from 4.17.21 on clear their timer; everything else leaves it running."""
    release = re.match(r"lodash@(\d+)\.(\d+)\.(\d+)", library)
    return "lodash" if release and tuple(map(int, release.groups())) >= (4, 17, 21) else "use-debounce"


def machine_of(vector: dict[str, Any], library: str) -> DebounceMachine:
    """The machine that *library* makes of the recorded arguments, its defaults filled in."""
    options, wait = vector["options"], vector["wait"] * MILLISECOND
    throttles = "throttle" in library.lower()
    if throttles:
        cap = wait
    else:  # the key counts, not its value: maxWait undefined or null is 0, and at least the wait
        cap = (options["maxWait"] or 0) * MILLISECOND if "maxWait" in options else None
    leading = bool(options.get("leading", throttles))
    machine = DebounceMachine(wait, leading, bool(options.get("trailing", True)), cap, timing_of(library))
    if machine.delay == 0 and vector["order"] == "call-first":
        machine.delay = MILLISECOND  # the actions were timers themselves, and a timer's setTimeout(0) takes 1 ms
    return machine


def play(vector: dict[str, Any], library: str) -> Outcome:
    """What our machine does where *library* was recorded."""
    player = Player(machine_of(vector, library), bool(vector["options"].get("flushOnExit")))
    for instant, actions in groupby(vector["actions"], key=lambda action: action["t"]):
        player.timers(instant * MILLISECOND, through=vector["order"] == "timer-first")
        for action in actions:
            player.act(action)
    player.timers(vector["until"] * MILLISECOND, through=True)
    player.outcome.pending_at_end = player.machine.is_pending
    return player.outcome


def compare(vector: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(library, difference) for each library recorded; an empty difference is a pass."""
    for library, recorded in vector["results"].items():
        outcome = play(vector, library)
        differences = [
            f"{name}: recorded {expected}, got {getattr(outcome, name)}"
            for name, expected in recorded.items()
            if hasattr(outcome, name) and getattr(outcome, name) != expected
        ]
        yield library, "; ".join(differences)


def load(path: str | Path) -> list[dict[str, Any]]:
    vectors: list[dict[str, Any]] = json.loads(Path(path).read_text(encoding="utf-8"))["vectors"]
    return vectors


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.vectors", description=__doc__.splitlines()[0])
    parser.add_argument("file", help="recorded sequences (JSON)")
    args = parser.parse_args(argv)
    try:
        vectors = load(args.file)
        cases = [(vector, library, difference) for vector in vectors for library, difference in compare(vector)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        print(f"vectors: {args.file}: {type(error).__name__}: {error}", file=sys.stderr)
        return 2
    for vector, library, difference in cases:
        print(f"{'FAIL' if difference else 'ok  '} {vector['id']} {vector['order']:11} {library}: {vector['title']}")
        if difference:
            print(f"     {difference}")
    failed = sum(1 for *_, difference in cases if difference)
    print(f"{len(cases) - failed} of {len(cases)} cases agree ({len(vectors)} vectors)")
    return 1 if failed or not cases else 0


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` is no error; for this process, and not for a test's
    sys.exit(main())
