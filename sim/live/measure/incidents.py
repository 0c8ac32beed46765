"""What the scenario breaks on purpose, played against the real target at the scenario's times.

The embedded target is stopped, started, cut off and slowed down by its parent process (`sim.live.serve.Serving`). Any other
target is broken by a command of the scenario, whose exit code is kept:

    [[incidents]]
    kind = "restart"
    at = 20
    command = ["docker", "restart", "reverb"]

When each began and ended in fact is in the bundle's manifest (`extra.incidents`), in seconds since the run's zero.
"""

from __future__ import annotations

import heapq
import itertools
import signal
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sim.errors import BadInput
from sim.incidents import Deploy, Disconnect, Incident, Outage, Restart, Slowdown
from sim.live.processes import Child
from sim.live.serve import Serving

Row = dict[str, Any]
"""An incident as it happened: kind, at (of the scenario), began_at, ended_at (None: not yet), and facts of its kind."""

Step = Callable[[Row], bool]
"""Does what is due; returns whether the incident is over."""


def require_playable(incidents: Sequence[Incident], embedded: bool) -> None:
    """Raise `BadInput` where an incident cannot be played: a command is for a target that is not embedded, and only for that."""
    for position, incident in enumerate(incidents):
        what = f"incidents[{position}]: {incident.kind} of"
        if not embedded and not incident.command:
            raise BadInput(
                f'{what} a target that is not started by this command needs command = ["...", ...], which is run at its time '
                '(or leave it out: ignore = ["incidents"])'
            )
        if embedded and incident.command:
            raise BadInput(
                f"{what} the embedded target takes no command: this program does it by itself, and {incident.command[0]!r} would "
                "not be run (remove command, or give --target)"
            )


class Player:
    """Call `play` often; it never waits."""

    def __init__(self, incidents: Sequence[Incident], embedded: Serving | None, logs: Path | None = None) -> None:
        """*embedded*: None for any other target; then incidents run commands, whose output goes to *logs*."""
        self.rows: list[Row] = []
        self._embedded = embedded
        self._logs = logs
        self._order = itertools.count()
        self._due: list[tuple[float, int, Row, Step]] = []
        self._commands: list[Child] = []
        self._releases = 1
        for incident in incidents:
            row = {"kind": incident.kind, "at": incident.at, "began_at": None, "ended_at": None}
            step = self._of_command(incident.command) if embedded is None else self._of_embedded(embedded, incident)
            self._plan(incident.at, row, step)

    @property
    def pids(self) -> dict[str, int]:
        return self._embedded.pids if self._embedded is not None else {}

    def ended(self) -> list[Child]:
        return self._embedded.ended() if self._embedded is not None else []

    def let_in(self, crowd: bool) -> None:
        """Let the embedded application answer as fast as it can while a *crowd* of pages connects, before the run begins."""
        if self._embedded is not None:
            self._embedded.control(slowdown=0 if crowd else 1)

    def play(self, elapsed: float) -> list[Row]:
        """Do what is due at *elapsed* seconds of the run; the incidents that have begun or ended with it."""
        changed: list[Row] = []
        due = []
        while self._due and self._due[0][0] <= elapsed:
            due.append(heapq.heappop(self._due))
        for _, _, row, step in due:
            if row["began_at"] is None:
                row["began_at"] = elapsed
                self.rows.append(row)
                changed.append(row)
            if step(row):
                row["ended_at"] = elapsed
                changed += [row] if row not in changed else []
        return changed

    def close(self) -> None:
        """End the commands that still run."""
        for child in self._commands:
            child.stop()

    def _plan(self, at: float, row: Row, step: Step) -> None:
        heapq.heappush(self._due, (at, next(self._order), row, step))

    # ---- the embedded target

    def _of_embedded(self, embedded: Serving, incident: Incident) -> Step:
        match incident:
            case Restart(at=at, down=down, signal=number):
                return self._down_and_up(embedded, at + down, getattr(signal, number), "broadcaster")
            case Deploy(at=at, down=down):
                # A release: the pages that are open have the assets of the one before.
                self._releases += 1
                after = partial(embedded.control, asset_version=f"release {self._releases}")
                # A page that connects again finds the application that authorises it.
                return self._down_and_up(embedded, at + down, signal.SIGTERM, "application", "broadcaster", then=after)
            case Disconnect(share=share):
                return lambda row: _note(row, dropped=embedded.disconnect(share))
            case Outage(duration=duration):
                begin, end = (partial(embedded.control, outage=away) for away in (True, False))
                return self._between(begin, end, incident.at + duration)
            case Slowdown(duration=duration, factor=factor):
                begin, end = (partial(embedded.control, slowdown=times) for times in (factor, 1))
                return self._between(begin, end, incident.at + duration)

    def _down_and_up(
        self, embedded: Serving, back: float, number: int, *parts: str, then: Callable[[], object] = lambda: None
    ) -> Step:
        """*parts* go down together and come back one after the other, each when the one before it accepts."""

        def stop(row: Row) -> bool:
            for part in reversed(parts):
                embedded.take_down(part, number)
            self._plan(back, row, partial(start, parts))
            return False

        def start(rest: tuple[str, ...], row: Row) -> bool:
            embedded.bring_up(rest[0])
            return up(rest, row)

        def up(rest: tuple[str, ...], row: Row) -> bool:
            if not embedded.is_up(rest[0]):
                return self._later(row, partial(up, rest))
            if rest[1:]:
                return start(rest[1:], row)
            then()
            return True

        return stop

    def _between(self, begin: Callable[[], object], end: Callable[[], object], until: float) -> Step:
        def over(row: Row) -> bool:
            end()
            return True

        def first(row: Row) -> bool:
            begin()
            self._plan(until, row, over)
            return False

        return first

    def _later(self, row: Row, step: Step) -> bool:
        """Look again at the next call of `play`."""
        self._plan(float("-inf"), row, step)
        return False

    # ---- any other target

    def _of_command(self, command: Sequence[str]) -> Step:
        def begin(row: Row) -> bool:
            assert self._logs is not None
            row["command"] = list(command)
            try:
                child = Child(f"incident {len(self.rows)}", command, self._logs / f"incident-{len(self.rows)}.log")
            except OSError as error:
                row["exit_code"], row["said"] = None, error.strerror or str(error)
                return True
            self._commands.append(child)

            def ended(row: Row) -> bool:
                row["exit_code"] = child.exit_code
                return child.exit_code is not None or self._later(row, ended)

            return ended(row)

        return begin


def _note(row: Row, **facts: Any) -> bool:
    row |= facts
    return True
