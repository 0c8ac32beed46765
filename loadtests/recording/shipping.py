"""Parts of workers on other machines travel to the master, over Locust's own connection.

A worker sends what is new in its parts each second, and its header as a whole; the master writes them into a directory for that
worker, below its own parts. A worker on the master's machine writes there directly. A worker that has to send has WORKBENCH_SHIP
set (by `workbench loadtest --join`).
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, ClassVar

import gevent
from locust import events
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner

from loadtests.client.plant import Plant

PART = "workbench-part"
EVERY = 1.0
NAME = re.compile(r"[\w.-]+")
"""The names that are accepted for a file from the network."""


class Shipping:
    """What one worker process has sent so far."""

    here: ClassVar[Shipping | None] = None

    def __init__(self, runner: WorkerRunner, directory: Path) -> None:
        self._runner = runner
        self._directory = directory
        self._sent: dict[str, int] = {}
        gevent.spawn(self._run)

    def _run(self) -> None:
        while True:
            gevent.sleep(EVERY)
            self.ship()

    def ship(self) -> None:
        """Send what is new: of a part, which only grows, the bytes since the last time; of the header all."""
        for path in sorted(self._directory.glob(f"*-{os.getpid()}-*.arrows")):
            at = self._sent.get(path.name, 0)
            with path.open("rb") as part:
                part.seek(at)
                content = part.read()
            if content:
                self._sent[path.name] = at + len(content)
                self._runner.send_message(PART, {"name": path.name, "at": at, "content": content})
        for path in self._directory.glob(f"header-{os.getpid()}.json"):
            self._runner.send_message(PART, {"name": path.name, "content": path.read_bytes()})


def ship() -> None:
    """Send the rest. Call it when the last header is written."""
    if Shipping.here is not None:
        Shipping.here.ship()


def register() -> None:
    """Listen to Locust's events. Call once, from the locustfile."""
    events.init.add_listener(_start)


def _start(environment: Environment, **_: Any) -> None:
    settings = Plant.configured
    if settings is None or settings.parts is None:
        return
    directory = settings.parts
    if isinstance(environment.runner, MasterRunner):
        environment.runner.register_message(PART, lambda environment, msg, **_: receive(directory, msg.node_id, msg.data))
    elif isinstance(environment.runner, WorkerRunner) and settings.environment.get("WORKBENCH_SHIP"):
        Shipping.here = Shipping(environment.runner, directory)


def receive(directory: Path, worker: str, data: dict[str, Any]) -> None:
    """Write what *worker* has sent: the next bytes of a part, or a header. Raises ValueError for a name, which comes from the
    network, that is no plain file name."""
    name, folder = str(data["name"]), re.sub(r"[^\w.-]", "_", worker).strip(".") or "worker"
    if not NAME.fullmatch(name) or name.startswith("."):
        raise ValueError(f"not the name of a part: {name!r}")
    target = directory / folder
    target.mkdir(parents=True, exist_ok=True)
    if "at" in data:
        with (target / name).open("ab") as part:
            part.truncate(int(data["at"]))
            part.write(data["content"])
        return
    partial = target / f"{name}.partial"
    partial.write_bytes(data["content"])
    partial.replace(target / name)
