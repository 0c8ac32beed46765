"""The offset of a worker's clock from its master's, where they are on two machines.

A worker asks its master for the time over Locust's own connection, quickly at first, then once a second; `sim.results.clocks`
makes an offset and a bound of its error from the answers. On one machine both read the same clock, so the offset is 0 and nothing
is estimated.
"""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path
from typing import Any, ClassVar

import gevent
from locust import events
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner

from sim.results.clocks import ClockEstimate, RoundTrip

ASK, ANSWER = "workbench-time", "workbench-time-is"
EAGER, EAGER_EVERY, CALM_EVERY = 40, 0.05, 1.0
"""Questions at first, and the seconds between them and later ones."""


class Clock:
    """This process's clock against its master's. One per process, made when Locust has its runner."""

    here: ClassVar[Clock | None] = None

    def __init__(self, runner: WorkerRunner) -> None:
        self.estimate = ClockEstimate()
        self.remote: bool | None = None
        """Whether the master is on another machine; None: it has not answered yet."""
        self._runner = runner
        runner.register_message(ANSWER, self._hear)
        gevent.spawn(self._ask)

    def members(self) -> dict[str, int]:
        """For the header's `clock`: nothing on the master's machine."""
        return self.estimate.members() if self.remote else {}

    def _ask(self) -> None:
        asked = 0
        while self.remote is not False:
            self._runner.send_message(ASK, {"asked": time.time_ns(), "machine": machine()})
            asked += 1
            gevent.sleep(EAGER_EVERY if asked < EAGER else CALM_EVERY)

    def _hear(self, environment: Environment, msg: Any, **_: Any) -> None:
        back = time.time_ns()
        self.remote = not msg.data["same"]
        self.estimate.add(RoundTrip(msg.data["asked"], msg.data["heard"], msg.data["answered"], back))


def members() -> dict[str, int]:
    """What the header says about this process's clock, besides the pair of readings."""
    return Clock.here.members() if Clock.here is not None else {}


def register() -> None:
    """Listen to Locust's events. Call once, from the locustfile."""
    events.init.add_listener(_start)


def _start(environment: Environment, **_: Any) -> None:
    runner = environment.runner
    if isinstance(runner, MasterRunner):
        runner.register_message(ASK, _answer)
    elif isinstance(runner, WorkerRunner):
        Clock.here = Clock(runner)


def _answer(environment: Environment, msg: Any, **_: Any) -> None:
    heard = time.time_ns()
    data = {"asked": msg.data["asked"], "heard": heard, "same": msg.data["machine"] == machine(), "answered": time.time_ns()}
    assert environment.runner is not None
    environment.runner.send_message(ANSWER, data, client_id=msg.node_id)


def machine() -> str:
    """A text that is the same for all processes that read the same clock: those of one boot of a machine, in all its containers.

    `WORKBENCH_MACHINE` overrides it. Two names for one machine are a test of the estimate: there the true offset is 0.
    """
    if named := os.environ.get("WORKBENCH_MACHINE"):
        return named
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return f"{uuid.getnode():x}"
