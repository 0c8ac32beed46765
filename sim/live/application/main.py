"""One application process: `python -m sim.live.application`, configured by the first line of JSON on standard input.

    {"host": ..., "port": ..., "reuse_port": false, "ready": "<file>", "database": "<url>", "volatile": true,
     "broadcaster": {"host", "port", "app_id", "key", "secret"}, "scenario": {"broadcast": {...}, "api": {...}},
     "members": false, "outcomes": "<file>", "redis": null,
     "provision": {"servers": 2, "trace": "stack", "speed": 10}}

Secrets come in by standard input so that no process list shows them. The ready file is written when the port accepts. SIGTERM
or SIGINT: connections finish the request in hand, the queue's workers the job in hand, then the process ends.

While it runs, each further line is one control, a JSON object with one or more of these members:

    {"outage": true}          no worker begins a request any more; those that come wait, up to `api.queue_limit`
    {"outage": false}         they begin again
    {"slowdown": 5}           requests that begin from now on take five times as long; 1: as configured; 0: no longer than their
                              handlers, so that a crowd of pages can be let in before a run begins
    {"asset_version": "2"}    a release: Inertia visits of pages with other assets are answered 409

The end of standard input ends nothing.

`outcomes` names a file to which one line of JSON is appended for each event whose change came with an update id (`members`):
{"update": 17, "event": "ServerUpdated", "outcome": "accepted"|"dropped"|"lost", "at": ns since 1970 (null unless accepted),
"reason": "unique"|"debounced"|"missing"|""}. So it is known what a queue did later.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import uvloop

from sim.brokeforge.application import Application
from sim.brokeforge.broadcasting.dispatcher import BroadcastEvent, Cache, DispatchOutcome, JobQueue
from sim.brokeforge.context import Board
from sim.brokeforge.domain.database import Database
from sim.brokeforge.http import Response
from sim.brokeforge.outages import OutageLog
from sim.clock import SECOND
from sim.distributions import Distribution
from sim.files import replace_text
from sim.live.application.alarm import Alarm
from sim.live.application.edge import OpenConnections, ServedConnection
from sim.live.application.job_runner import JobRunner, ProvisionForever
from sim.live.application.publishing import BroadcasterAddress, HttpBroadcasterClient
from sim.live.application.queue import ThreadQueue
from sim.live.application.station import Station
from sim.live.sockets import bound, connection_capacity, this_machine_alone
from sim.scenario import Api, Broadcast, build
from sim.workload import Streams, load_traces

log = logging.getLogger("application")

BACKLOG = 2048
GRACE = 5.0
"""Seconds that requests in hand may still take at the end."""

MAX_THREADS = 64
"""Threads for what may wait. More workers than this hold their service time, but do not use the database at once."""
SEED = 1
"""Of the durations that are drawn, in each process."""
CHANGES = 16
"""Changes that are made at once where they need no worker; they wait for one another's locks, and for the broadcaster."""


class RunningQueue(JobQueue, Protocol):
    """A queue with workers of its own."""

    def start(self, work: Callable[[BroadcastEvent], object]) -> None: ...
    def close(self) -> None: ...


def make_application(config: dict[str, Any]) -> tuple[Application, RunningQueue, JobRunner]:
    """The application that *config* describes, its queue's workers and its provisioning runs going."""
    scenario = config.get("scenario", {})
    broadcast: Broadcast = build(Broadcast, scenario.get("broadcast", {}), "serve", "broadcast")
    api: Api = build(Api, scenario.get("api", {}), "serve", "api")
    database = Database(
        config["database"],
        latency=api.database_latency,
        volatile=config.get("volatile", False),
        pool=threads(api) + broadcast.queue_workers + 4,
        shared=config.get("reuse_port", False),
    )
    address = BroadcasterAddress(**config["broadcaster"])
    broadcaster = HttpBroadcasterClient(address, broadcast.connect_timeout, broadcast.timeout)
    queue, cache = queue_and_cache(config.get("redis"), broadcast.queue_workers, f"workbench:{address.app_id}")
    app = Application(
        database,
        broadcaster,
        queue,
        address.key,
        address.secret,
        now=time.time_ns,
        wait=time.sleep,
        broadcast=broadcast,
        api=api,
        cache=cache,
        members=config.get("members", False),
        save=draws_in_seconds(api.save, Streams(SEED)["save"]),
        board=board_of(config.get("host", "127.0.0.1"), address.port),
    )
    if outcomes := config.get("outcomes"):
        app.dispatcher.report = keep_outcomes(Path(outcomes))
    queue.start(app.dispatcher.work)
    runner = JobRunner(app)
    app.start = runner.start
    if provision := config.get("provision"):
        traces = load_traces(provision["trace"])
        for position in range(provision["servers"]):
            runner.start(ProvisionForever(position, traces, provision["speed"]))
    return app, queue, runner


def queue_and_cache(url: str | None, workers: int, name: str) -> tuple[RunningQueue, Cache | None]:
    """In the Redis at *url*, where the processes of an application share them; else in this process."""
    if not url:
        return ThreadQueue(workers), None
    from sim.live.application.redis_queue import RedisCache, RedisQueue

    outage = OutageLog("redis", log)
    return RedisQueue(url, workers, name, outage), RedisCache(url, name, outage)


def board_of(host: str, broadcaster_port: int) -> Board | None:
    """The page for eyes, where only this machine reaches *host*."""
    if not this_machine_alone(host):
        return None
    board = Board(broadcaster_port)
    return replace(board, hosts=board.hosts | {host.lower()})


def threads(api: Api) -> int:
    """How many requests may use the database at once. Changes that need no worker do not wait for those of refetches."""
    return min(api.workers + (0 if api.changes_need_workers else CHANGES), MAX_THREADS)


class Workers:
    """An application's station at work: its timers, its threads and its random numbers. Used on *loop*'s thread."""

    def __init__(self, app: Application, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._alarm = Alarm(loop)
        # One more than may use the database, for the board's files and logins, which take no turn.
        self._pool = ThreadPoolExecutor(threads(app.api) + 1, thread_name_prefix="worker")
        self.station = Station(app, self._alarm, self._in_thread, draws(app.api.service, Streams(SEED)["service"]))
        app.metrics.watch("workers_busy", lambda: self.station.busy)
        app.metrics.watch("requests_waiting", lambda: self.station.waiting)

    def _in_thread(self, work: Callable[[], Response], done: Callable[[Response], None]) -> None:
        def finished(future: Future[Response]) -> None:
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(done, future.result())

        self._pool.submit(work).add_done_callback(finished)

    def close(self) -> None:
        """Wait for what is being worked on; what waits is dropped."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._alarm.close()


def draws(distribution: Distribution, rng: np.random.Generator) -> Callable[[], int]:
    """A function that gives the next duration of *distribution*, ns."""

    def drawn() -> Iterator[int]:
        while True:
            yield from np.rint(distribution.sample(rng, 1024) * SECOND).astype(np.int64).tolist()

    return drawn().__next__


def draws_in_seconds(distribution: Distribution, rng: np.random.Generator) -> Callable[[], float]:
    """The same in seconds, for any thread."""
    lock, draw = threading.Lock(), draws(distribution, rng)

    def drawn() -> float:
        with lock:
            return draw() / SECOND

    return drawn


def obey(line: str, app: Application, station: Station) -> None:
    """Carry out one control (see the module's text). What it does not understand is logged, and nothing is done."""
    try:
        control = json.loads(line)
        outage, slowdown = control.get("outage"), control.get("slowdown", app.factor)
        known = set(control) <= {"outage", "slowdown", "asset_version"} and isinstance(slowdown, int | float)
        if not control or not known or not slowdown >= 0 or outage not in (None, True, False):
            raise ValueError
    except (ValueError, TypeError, AttributeError):
        log.error("not a control: %.200s", line)
        return
    app.factor, app.asset_version = float(slowdown), str(control.get("asset_version", app.asset_version))
    if outage is not None:
        (station.stop_beginning if outage else station.begin_again)()


class StandardInput:
    """Lines of standard input as they come, without waiting for the next one."""

    def __init__(self, fd: int = 0) -> None:
        self._fd = fd
        self._rest = b""

    def read_line(self) -> str:
        """The next line; waits for it. Empty: the input has ended."""
        while b"\n" not in self._rest and (data := os.read(self._fd, 65536)):
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode()

    def follow(self, loop: asyncio.AbstractEventLoop, heard: Callable[[str], None]) -> None:
        """Call *heard* with each further line, until the input ends."""

        def readable() -> None:
            data = os.read(self._fd, 65536)
            if not data:
                loop.remove_reader(self._fd)
            *lines, self._rest = (self._rest + data).split(b"\n")
            for line in lines:
                heard(line.decode(errors="replace"))

        # A file or a closed input has nothing more to say, and no loop watches it.
        with contextlib.suppress(OSError, ValueError):
            loop.add_reader(self._fd, readable)


async def serve(
    app: Application, listener: socket.socket, ready: Path | None = None, controls: StandardInput | None = None
) -> None:
    """Answer on *listener* until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    workers = Workers(app, loop)
    if controls is not None:
        controls.follow(loop, lambda line: obey(line, app, workers.station))
    connections = OpenConnections(connection_capacity())
    sweeping = asyncio.create_task(connections.sweep())
    server = await loop.create_server(lambda: ServedConnection(app, workers.station, connections), sock=listener, backlog=BACKLOG)
    if ready is not None:
        replace_text(ready, json.dumps({"pid": os.getpid(), "port": listener.getsockname()[1]}))
    await stop.wait()
    server.close()
    connections.drain()
    deadline = loop.time() + GRACE
    while connections and loop.time() < deadline:
        await asyncio.sleep(0.01)
    sweeping.cancel()
    workers.close()


def keep_outcomes(path: Path) -> Callable[[BroadcastEvent, DispatchOutcome], None]:
    """A report for the dispatcher that appends a line to *path* for each event of an update."""
    file = path.open("ab", buffering=0)

    def report(job: BroadcastEvent, outcome: DispatchOutcome) -> None:
        if "update" in job.members:
            row = {"update": job.members["update"], "event": job.event.name, "outcome": outcome.state}
            line = json.dumps(row | {"at": outcome.accepted_at, "reason": outcome.reason}) + "\n"
            file.write(line.encode())  # one write to a file opened for appending: lines of several threads stay whole

    return report


def main() -> int:
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s", stream=sys.stderr)
    controls = StandardInput()
    config = json.loads(controls.read_line())
    listener = bound(config["host"], config["port"], shared=config.get("reuse_port", False))
    app, queue, jobs = make_application(config)
    ready = Path(config["ready"]) if config.get("ready") else None
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(app, listener, ready, controls))
    jobs.close()
    queue.close()
    app.database.close()
    return 0
