"""The Locust processes of a load test: one by itself, or a master and its workers.

Their environment says what they are to do (`loadtests.settings`). Each of them writes its progress into the header of its parts,
every two seconds and more often at first. Locust itself is never imported here.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sim.errors import WorkbenchError
from sim.live.processes import Child, python, stop_all
from sim.live.sockets import free_port
from sim.results import parts

END = 60.0
"""Seconds that a process gets to write its last rows and pages before it is killed: a busy machine needs them."""

LEAVE = 3.0
"""Seconds that workers get to end by themselves once their master has."""


@dataclass(frozen=True, slots=True)
class SwarmSettings:
    """What a swarm is to do; files have been written by the caller."""

    scenario: Path
    target: Path
    parts: Path
    logs: Path
    subscribers: int
    connect_rate: float
    processes: int = 1
    remote_workers: int = 0
    """Workers that other machines bring; > 0 makes the master listen to them."""
    bind: str = "127.0.0.1"
    port: int = 0
    """Of the master; 0: any free one."""
    shape: str = ""
    """The number of subscribers over time (`loadtests.shapes`), as `ramp:rise=60`; empty: all from the beginning."""
    extra: tuple[str, ...] = ()
    """Further arguments of Locust, as `--csv=prefix`."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Further environment: `WORKBENCH_AUTH` and the like."""

    @property
    def workers(self) -> int:
        """Processes that hold subscribers."""
        return self.processes + self.remote_workers


@dataclass(frozen=True, slots=True)
class Progress:
    """Sums over the headers written so far."""

    workers: int = 0
    opened: int = 0
    subscribed: int = 0
    wanted: int = 0
    """Of those opened, pages that subscribe at all."""
    loaded: int = 0
    """Pages that had their first load, with those that have left."""


def locust_command(*arguments: str) -> list[str]:
    """The command line of Locust with this project's locustfile, and without settings from elsewhere (`loadtests.alone`). Locust
    prints its table at the end only, so that the last lines of a process that dies say why."""
    spec = importlib.util.find_spec("loadtests")
    if spec is None or not spec.submodule_search_locations:
        raise WorkbenchError("the package loadtests is not installed (make install)")
    locustfile = Path(next(iter(spec.submodule_search_locations))) / "locustfile.py"
    return python("-m", "loadtests.alone", "-f", str(locustfile), "--headless", "--only-summary", *arguments)


def environment(settings: SwarmSettings) -> dict[str, str]:
    return {
        "WORKBENCH_TARGET": str(settings.target),
        "WORKBENCH_SCENARIO": str(settings.scenario),
        "WORKBENCH_PARTS": str(settings.parts),
        **({"WORKBENCH_SHAPE": settings.shape} if settings.shape else {}),
        **settings.variables,
    }


class Swarm:
    """`start` them, look at `progress` and `ended`, and `stop` them."""

    def __init__(self, settings: SwarmSettings) -> None:
        self.settings = settings
        self.port = settings.port or free_port()
        self.children: list[Child] = []

    def start(self) -> None:
        # A shape brings its own numbers, and Locust then takes no others.
        numbers = [] if self.settings.shape else ["-u", str(self.settings.subscribers), "-r", f"{self.settings.connect_rate:g}"]
        size = [*numbers, *self.settings.extra]
        if self.settings.workers == 1 and not self.settings.remote_workers:
            self._spawn("harness-0", *size)
            return
        address = ["--master-bind-host", self.settings.bind, "--master-bind-port", str(self.port)]
        self._spawn("master", "--master", *address, "--expect-workers", str(self.settings.workers), *size)
        everywhere = self.settings.bind in ("0.0.0.0", "::", "*")
        for i in range(self.settings.processes):
            self._spawn(f"harness-{i}", *worker_arguments("127.0.0.1" if everywhere else self.settings.bind, self.port))

    def _spawn(self, name: str, *arguments: str) -> None:
        log = self.settings.logs / f"{name}.log"
        self.children.append(Child(name, locust_command(*arguments), log, environment(self.settings)))

    def pids(self) -> dict[str, int]:
        return {child.name: child.pid for child in self.children}

    def headers(self) -> list[dict[str, Any]]:
        return parts.read_headers(self.settings.parts)

    def progress(self) -> Progress:
        return progress_of(self.headers())

    def ended(self) -> list[Child]:
        """Processes that have ended by themselves."""
        return [child for child in self.children if child.exit_code is not None]

    def last_words(self) -> str:
        """Of each process of this machine."""
        return "; ".join(f"{child.name}: {child.last_words(1)}" for child in self.children)

    def stop(self) -> None:
        """End all processes; each writes its last parts. The master ends first: it stops its workers, also those of other
        machines, and waits for what they still send."""
        masters = [child for child in self.children if child.name == "master"]
        workers = [child for child in self.children if child not in masters]
        stop_all(masters, END)
        if masters:
            for child in workers:
                child.wait(LEAVE)
        stop_all(workers, END)


def join(settings: SwarmSettings, master: tuple[str, int]) -> list[Child]:
    """Workers that this machine brings to a master elsewhere; their parts travel to it."""
    variables = environment(settings) | {"WORKBENCH_SHIP": "1"}
    command = locust_command(*worker_arguments(*master))
    names = [f"worker-{i}" for i in range(settings.processes)]
    return [Child(name, command, settings.logs / f"{name}.log", variables) for name in names]


def worker_arguments(host: str, port: int) -> list[str]:
    return ["--worker", "--master-host", host, "--master-port", str(port)]


def progress_of(headers: Iterable[dict[str, Any]]) -> Progress:
    counts = [header["subscribers"] for header in headers]
    return Progress(len(counts), *(sum(int(row[name]) for row in counts) for name in ("opened", "subscribed", "wanted", "lives")))
