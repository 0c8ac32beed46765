"""The load client measured against a server that does nothing but send.

Two figures matter. The *floor* is the time from the server's write to the arrival that the client records (the kernel's time
where there is one): no target can be measured faster. The *drain rate* is how many messages a second one load process reads
when they come as fast as they can: above it, the client is what is measured.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from sim.clock import SECOND
from sim.errors import InvalidRun
from sim.files import replace_text
from sim.live.capacity import limits
from sim.live.capacity.minimal_server import MinimalServer
from sim.live.measure.sampling import Sampler
from sim.live.measure.swarm import Swarm, SwarmSettings
from sim.policy import FullPayload
from sim.results import parts
from sim.scenario import Load, Pages, Publisher, Scenario, to_toml
from sim.target import Target

CALM = 10
"""Broadcasts with a pause between them, for the floor."""

PAUSE = 0.3
"""Seconds between two of them."""

PATIENCE = 30.0
"""Seconds for the load process to start and the first 500 subscribers to come."""

CALM_FLOOR = 0.005
"""Seconds that the p99 of the floor may be: a time slice of the operating system. More comes from other programs that run just
now, and is no property of the machine."""

TRIES = 3

BURST = 40
"""Broadcasts without a pause, for the drain rate."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """What one load process can do on this machine. Durations in seconds."""

    subscribers: int
    floor_p50: float
    floor_p99: float
    lag_p50: float
    """From arrival to reading, in a broadcast to all."""
    lag_p99: float
    drain_rate: float
    """Messages/s."""
    cpu_per_message: float
    """Seconds of CPU for a message read in a burst."""
    connect_rate: float
    """Subscribers/s, from the first connection to the last subscription."""
    memory_per_subscriber: float
    """Bytes of resident memory."""
    memory_base: float
    """Bytes of a load process with no subscriber."""
    receive_stamp: str
    """kernel or read."""
    measured_at: str
    machine: str

    @property
    def is_calm(self) -> bool:
        """Whether the machine was quiet: figures of a busy machine say nothing about later runs."""
        return self.floor_p99 <= CALM_FLOOR


def machine_key() -> str:
    """The machine, kernel and Python that a calibration is valid for."""
    system = f"{platform.system()} {platform.release()}, {platform.machine()}, {os.cpu_count()} cores"
    return f"{system}, Python {platform.python_version()}"


def calibrate(subscribers: int = 500, note: Callable[[str], None] = lambda line: None) -> Calibration:
    """Measure, with *subscribers* in one load process; takes some ten seconds, and is repeated where the machine was busy. Raises
    `InvalidRun` when messages are missing, or when it is busy each time."""
    limits.require_descriptors(2 * limits.descriptors_needed(subscribers, 0), f"{subscribers} subscribers and their server")
    for again in range(TRIES):
        with tempfile.TemporaryDirectory(prefix="workbench-") as scratch:
            found = asyncio.run(_measure(subscribers, Path(scratch), note))
        if found.is_calm:
            return found
        busy = f"the floor's p99 is {found.floor_p99 * 1000:.1f} ms, with a median of {found.floor_p50 * 1000:.3f} ms"
        note(f"this machine is busy: {busy}" + ("; measuring again" if again < TRIES - 1 else ""))
    raise InvalidRun(f"this machine is too busy to calibrate: {busy} (limit {CALM_FLOOR * 1000:g} ms): try again when it is calm")


async def _measure(subscribers: int, scratch: Path, note: Callable[[str], None]) -> Calibration:
    async with MinimalServer() as server:
        swarm = Swarm(_settings(subscribers, scratch, server.port))
        sampler = Sampler()
        try:
            swarm.start()
            sampler.watch(swarm.pids())
            note(f"connecting {subscribers} subscribers")
            await _subscribed(swarm, subscribers)
            await asyncio.sleep(1.5)
            note("measuring the floor")
            calm = []
            for _ in range(CALM):
                await asyncio.sleep(PAUSE)
                calm.append(server.broadcast())
            await asyncio.sleep(1.5)
            sampler.sample()
            note("measuring the drain rate")
            burst = []
            for _ in range(BURST):
                burst.append(server.broadcast())
                # The event loop gets its turn to write to sockets that were full.
                await asyncio.sleep(0)
            await asyncio.sleep(1.5)
            sampler.sample()
        finally:
            await asyncio.to_thread(swarm.stop)
    return _evaluate(swarm, sampler, subscribers, calm, burst)


def _settings(subscribers: int, scratch: Path, port: int) -> SwarmSettings:
    """One load process with dashboards that show what they hear, so that nothing is refetched."""
    load = Load(connect_rate=2_000, auth="signed")
    pages = (Pages("dashboard", subscribers, policy=FullPayload()),)
    scenario = Scenario(name="calibration", pages=pages, load=load, publisher=Publisher(via="none"))
    for name in ("parts", "logs"):
        (scratch / name).mkdir()
    (scratch / "scenario.toml").write_text(to_toml(scenario), encoding="utf-8")
    Target("127.0.0.1", port, "http", "1", "calibration", "calibration").write(scratch / "target.json")
    return SwarmSettings(
        scenario=scratch / "scenario.toml",
        target=scratch / "target.json",
        parts=scratch / "parts",
        logs=scratch / "logs",
        subscribers=subscribers,
        connect_rate=load.connect_rate,
        variables={"WORKBENCH_AUTH": "signed"},
    )


async def _subscribed(swarm: Swarm, subscribers: int) -> None:
    """Wait until all are subscribed. Raises `InvalidRun` when that takes longer than `PATIENCE` and 500 a second."""
    deadline = time.monotonic() + PATIENCE + subscribers / 500
    while (progress := swarm.progress()).subscribed < subscribers:
        for child in swarm.ended():
            raise InvalidRun(f"the load process ended (exit {child.exit_code}): {child.last_words()}")
        if time.monotonic() > deadline:
            raise InvalidRun(
                f"only {progress.subscribed} of {subscribers} subscribers came: this machine is too busy to calibrate"
            )
        await asyncio.sleep(0.1)


def _evaluate(swarm: Swarm, sampler: Sampler, subscribers: int, calm: list[int], burst: list[int]) -> Calibration:
    rows = parts.read_table(swarm.settings.parts, "notifications")
    column = {name: rows[name].to_numpy() for name in ("update", "sent_at_ns", "received_at_ns", "read_at_ns")}
    expected = subscribers * (len(calm) + len(burst))
    if len(rows) != expected:
        raise InvalidRun(f"{len(rows)} of {expected} messages arrived: this machine is too busy to calibrate")
    slow, fast = np.isin(column["update"], calm), np.isin(column["update"], burst)
    floor = (column["received_at_ns"] - column["sent_at_ns"])[slow] / SECOND
    lag = (column["read_at_ns"] - column["received_at_ns"])[slow] / SECOND
    read = column["read_at_ns"][fast]
    # Few messages can all be read at one instant: then the time counts from the first arrival.
    drained = (read.max() - read.min()) or (read.max() - column["received_at_ns"][fast].min())
    header = swarm.headers()[0]
    used = [value for _, _, metric, value in sampler.rows if metric == "cpu_seconds"]
    own = parts.read_table(swarm.settings.parts, "metrics").to_pandas()
    # The load process's own rows: the first is written before its first subscriber connects.
    own = own[(own["metric"].astype(str) == "rss_bytes") & (own["at_ns"] < column["received_at_ns"].min())]
    memory = own.sort_values("at_ns")["value"].to_numpy()
    joined = parts.read_table(swarm.settings.parts, "subscriptions")["subscribed_at_ns"].to_numpy()
    return Calibration(
        subscribers=subscribers,
        floor_p50=float(np.percentile(floor, 50)),
        floor_p99=float(np.percentile(floor, 99)),
        lag_p50=float(np.percentile(lag, 50)),
        lag_p99=float(np.percentile(lag, 99)),
        drain_rate=float(len(read) / (drained / SECOND)),
        cpu_per_message=(used[-1] - used[-2]) / len(read),
        connect_rate=float(len(joined) / max((joined.max() - joined.min()) / SECOND, 1e-9)),
        memory_per_subscriber=float(memory[-1] - memory[0]) / subscribers,
        memory_base=float(memory[0]),
        receive_stamp="read" if header["counters"]["unstamped"] else "kernel",
        measured_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        machine=machine_key(),
    )


def cache_file() -> Path:
    """Where this user's calibration is kept: `$XDG_CACHE_HOME/notify-refetch-workbench/`."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "notify-refetch-workbench" / "calibration.json"


def stored() -> Calibration | None:
    """The calibration of this machine, if there is one, of this kernel and Python, and not taken while it was busy."""
    try:
        tree = json.loads(cache_file().read_text(encoding="utf-8"))
        found = Calibration(**{f.name: tree[f.name] for f in fields(Calibration)})
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if found.machine == machine_key() and found.is_calm else None


def store(calibration: Calibration) -> Path:
    """Keep it for later runs; returns the file."""
    path = cache_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_text(path, json.dumps(asdict(calibration), indent=1) + "\n")
    return path
