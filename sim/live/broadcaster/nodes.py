"""Several nodes on one machine: processes that share a port (SO_REUSEPORT), and the parent that starts, joins and replaces them.

Without Redis the parent is also their bus: a text that one node sends goes to all others (`Relay`). A node that dies is replaced;
its clients reconnect, to whichever node the kernel gives them. When the parent dies, its nodes end by themselves.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Callable
from dataclasses import replace

from sim.errors import WorkbenchError
from sim.live.broadcaster.node import bind
from sim.live.broadcaster.settings import BroadcasterSettings

log = logging.getLogger("workbench.broadcaster")

RESTART_SECONDS = 1.0
STOP_SECONDS = 5.0
"""Seconds that a node has to end after its drain, before it is killed."""
RELAY_BUFFER = 1 << 25


class Relay:
    """Copies each line that a node sends to all other nodes."""

    def __init__(self) -> None:
        self._writers: set[asyncio.StreamWriter] = set()

    async def serve(self, sock: socket.socket) -> None:
        """One node's stream, until it ends."""
        sock.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=sock, limit=1 << 24)
        self._writers.add(writer)
        try:
            while line := await reader.readline():
                for other in self._writers - {writer}:
                    if other.transport.get_write_buffer_size() < RELAY_BUFFER:
                        other.write(line)
        except (OSError, ValueError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()


class Supervisor:
    """`nodes` child processes on one port."""

    def __init__(self, settings: BroadcasterSettings, command: list[str]) -> None:
        self._command = command
        bind(settings.host, settings.port).close()  # shared sockets would quietly join another server's
        self._reserved = bind(settings.host, settings.port, shared=True)  # holds the port; never listens
        self.port = self._reserved.getsockname()[1]
        self._settings = replace(settings, port=self.port)
        self._relay = Relay()
        self._stopping = False
        self._tasks: set[asyncio.Task[None]] = set()
        self.children: dict[int, asyncio.subprocess.Process] = {}

    async def run(self, ready: Callable[[int], None], stopped: asyncio.Event) -> None:
        """Start all nodes, call *ready* with the port once each accepts, replace those that die, stop all when *stopped*."""
        loop = asyncio.get_running_loop()
        started = [loop.create_future() for _ in range(self._settings.nodes)]
        keepers = [asyncio.create_task(self._keep(number, future)) for number, future in enumerate(started)]
        try:
            await asyncio.gather(*started)
            ready(self.port)
            await stopped.wait()
        finally:
            self._stopping = True
            for child in self.children.values():
                child.send_signal(signal.SIGTERM)
            await asyncio.wait(keepers, timeout=self._settings.drain + STOP_SECONDS)
            for child in self.children.values():
                child.kill()
            await asyncio.gather(*keepers, return_exceptions=True)
            self._reserved.close()

    async def _keep(self, number: int, started: asyncio.Future[None]) -> None:
        """Keep one child running: when it dies, another is started."""
        while not self._stopping:
            child = await self._start(number)
            assert child.stdout is not None
            line = await child.stdout.readline()
            if not line and not started.done():
                await child.wait()
                started.set_exception(WorkbenchError(f"node {number} did not start (exit code {child.returncode})"))
                return
            if not started.done():
                started.set_result(None)
            code = await child.wait()
            del self.children[number]
            if not self._stopping:
                log.error("node %d (pid %d) died with code %d; another takes its place", number, child.pid, code)
                await asyncio.sleep(RESTART_SECONDS)

    async def _start(self, number: int) -> asyncio.subprocess.Process:
        ours, theirs = socket.socketpair()
        child = await asyncio.create_subprocess_exec(
            *self._command,
            "--bus-fd",
            str(theirs.fileno()),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            pass_fds=(theirs.fileno(),),
            start_new_session=True,  # a Ctrl-C at the terminal is the parent's to handle
        )
        theirs.close()
        self.children[number] = child
        relaying = asyncio.create_task(self._relay.serve(ours))
        self._tasks.add(relaying)
        relaying.add_done_callback(self._tasks.discard)
        assert child.stdin is not None
        child.stdin.write(self._settings.to_json().encode())
        await child.stdin.drain()
        child.stdin.close()
        return child
