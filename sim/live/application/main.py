"""One application process: `python -m sim.live.application`, configured by one line of JSON on standard input.

    {"host": ..., "port": ..., "reuse_port": false, "ready": "<file>", "database": "<url>", "volatile": true,
     "broadcaster": {"host", "port", "app_id", "key", "secret"}, "scenario": {"broadcast": {...}, "api": {...}},
     "members": false, "redis": null, "provision": {"servers": 2, "trace": "stack", "speed": 10}}

Secrets come in by standard input so that no process list shows them. The ready file is written when the port accepts. SIGTERM
or SIGINT: connections finish the request in hand, the queue's workers the job in hand, then the process ends.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import uvloop

from sim.brokeforge.application import Application
from sim.brokeforge.broadcasting.dispatcher import BroadcastEvent, Cache, Queue
from sim.brokeforge.context import Board
from sim.brokeforge.domain.database import Database
from sim.live.application.edge import Connection, Workers
from sim.live.application.job_runner import JobRunner, ProvisionForever
from sim.live.application.publishing import BroadcasterAddress, HttpBroadcasterClient
from sim.live.application.queue import ThreadQueue
from sim.scenario import Api, Broadcast, build
from sim.workload import load_traces

BACKLOG = 2048
GRACE = 5.0
"""Seconds that requests in hand may still take at the end."""

MIN_THREADS = 8
"""Threads for changes when nothing else bounds them: enough that lock waits of a few writers do not hold up the others."""


class RunningQueue(Queue, Protocol):
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
    queue: RunningQueue
    cache: Cache | None = None
    if url := config.get("redis"):
        from sim.live.application.redis_queue import RedisCache, RedisQueue

        queue = RedisQueue(url, broadcast.queue_workers, name=f"workbench:{address.app_id}")
        cache = RedisCache(url, name=f"workbench:{address.app_id}")
    else:
        queue = ThreadQueue(broadcast.queue_workers)
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
        board=Board(address.port) if is_loopback(config.get("host", "127.0.0.1")) else None,
    )
    queue.start(app.dispatcher.work)
    runner = JobRunner(app)
    app.start = runner.start
    if provision := config.get("provision"):
        traces = load_traces(provision["trace"])
        for position in range(provision["servers"]):
            runner.start(ProvisionForever(position, traces, provision["speed"]))
    return app, queue, runner


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens on *host*."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def threads(api: Api) -> int:
    """How many requests may wait together: `api.workers`, but for the embedded file at least a few writers."""
    return api.workers if api.workers > 1 or api.database_latency > 0 else MIN_THREADS


async def serve(app: Application, listener: socket.socket, ready: Path | None = None) -> None:
    """Answer on *listener* until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    workers = Workers(threads(app.api), app.api.queue_limit)
    connections: set[Connection] = set()
    server = await loop.create_server(lambda: Connection(app, workers, connections), sock=listener, backlog=BACKLOG)
    if ready is not None:
        partial = ready.with_name(ready.name + ".partial")
        partial.write_text(json.dumps({"pid": os.getpid(), "port": listener.getsockname()[1]}), encoding="utf-8")
        partial.replace(ready)
    await stop.wait()
    server.close()
    for connection in list(connections):
        connection.drain()
    deadline = loop.time() + GRACE
    while connections and loop.time() < deadline:
        await asyncio.sleep(0.01)
    workers.close()


def listen(host: str, port: int, reuse_port: bool = False) -> socket.socket:
    """A bound socket. Raises `OSError`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, as else TCP_NODELAY stays off.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener


def main() -> int:
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s", stream=sys.stderr)
    config = json.loads(sys.stdin.readline())
    listener = listen(config["host"], config["port"], config.get("reuse_port", False))
    app, queue, jobs = make_application(config)
    ready = Path(config["ready"]) if config.get("ready") else None
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(app, listener, ready))
    jobs.close()
    queue.close()
    app.database.close()
    return 0
