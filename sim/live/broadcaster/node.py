"""One node: the event loop around a hub. Sockets, the clock, timers and `/metrics` are here; decisions are in `sim.pusher`."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import secrets
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable, Sequence
from email.utils import formatdate

from sim.errors import BadInput
from sim.live.broadcaster.bus import Bus
from sim.live.broadcaster.metrics import MEDIA_TYPE, NodeMetrics
from sim.live.broadcaster.pacing import Pacing
from sim.live.broadcaster.peer import Peer, write_all
from sim.live.broadcaster.settings import BroadcasterSettings
from sim.live.broadcaster.uring import SendRing
from sim.live.sockets import SPARE_DESCRIPTORS, bound, connection_capacity
from sim.pusher.http import HttpRequest, HttpResponse
from sim.pusher.server.api import HttpApi, Respond
from sim.pusher.server.cluster import BEAT_SECONDS, Cluster
from sim.pusher.server.hub import SECOND, TICK_SECONDS, Hub
from sim.pusher.server.outbox import Outbox, write_each
from sim.pusher.server.state import Connection

log = logging.getLogger("workbench.broadcaster")

BACKLOG = 4096
"""Connections that may wait in the kernel: a reconnecting crowd comes at once."""
ACCEPTS_PER_TURN = 64
"""Connections taken in one turn of the loop, so that a burst does not hold up those that are connected."""
WRITES_PER_TURN = 512
"""Writes of a fan-out in one turn of the loop: about 2 ms."""
WORTH_A_RING = 8
"""Writes from which on they leave in one system call, where the system has one for it."""
WORTH_GATHERING = 100
"""Deliveries from which on the loop goes round once more before they begin: several events then leave in one write each."""
GATHER_SECONDS = 1e-6, 0.002
"""The longest wait for more events: for each delivery that waits, about half of what its own write takes; and in all."""
LAG_SECONDS = 0.25
HTTP_IDLE_SECONDS = 120
"""An HTTP connection without a request, or with one that is not complete, is closed after this time: publishers open another,
half-open peers hold descriptors."""
GC_THRESHOLDS = (50_000, 20, 100)
GC_DEPARTURES = 1000
"""A full collection walks every object of every connection: 0.1 s at ten thousand. The defaults do it in the middle of a burst.
Only asyncio's transports need it, since each refers to itself; so it runs on the minute, after this many have gone."""


class Node:
    """Serves one listening socket: `listen`, then `stop`."""

    def __init__(self, settings: BroadcasterSettings) -> None:
        self.settings = settings
        self.metrics = NodeMetrics()
        self.hub = Hub(settings.apps, faithful=settings.faithful, outbox=Outbox(self._wake, self._write))
        path = settings.path.strip("/")
        self.api = HttpApi(self.hub, prefix=f"/{path}" if path else "")
        self._metrics_path = f"{self.api.prefix}/metrics"
        self.peers: set[Peer] = set()
        self.capacity = connection_capacity()
        self._started = time.monotonic_ns()
        self._woken = 0.0
        self._refusal_logged = float("-inf")
        self._departed = 0
        self._held: deque[tuple[HttpRequest, Respond]] = deque()
        """Publishes that wait until the outbox is no longer full, one for each connection at most: their publishers wait, as
        those of Reverb always do."""
        self._pacing = None if settings.timing is None else Pacing(settings.timing, self.hub.outbox)
        self._ring: SendRing | None = None
        self._bus: Bus | None = None
        self._cluster: Cluster | None = None

    # ---- other nodes

    def join(self, bus: Bus) -> None:
        """Be one node of several, which *bus* connects. Before `listen`."""
        self._bus = bus
        self._cluster = Cluster(self.hub, self.api, secrets.token_hex(8), bus.send)

    def joined(self) -> None:
        """The bus is connected."""
        if self._cluster is not None:
            self._cluster.joined(self.now())

    def lost(self) -> None:
        """The connection to the bus is lost."""
        if self._cluster is not None:
            self._cluster.lost()

    def receive(self, text: str) -> None:
        """A text came from another node, or from this one, since a bus may echo it."""
        if self._cluster is not None:
            self._cluster.receive(text, self.now())

    # ---- the clock

    def now(self) -> int:
        """The present instant as the hub counts it, nanoseconds."""
        elapsed = time.monotonic_ns() - self._started
        return elapsed if self.settings.clock_rate == 1 else int(elapsed * self.settings.clock_rate)

    @staticmethod
    def http_date() -> str:
        return formatdate(usegmt=True)

    # ---- peers

    def admit(self, peer: Peer) -> bool:
        """Count a new TCP connection; False when descriptors run short and it must be refused."""
        self.peers.add(peer)
        self.metrics.peers = len(self.peers)
        if len(self.peers) <= self.capacity:
            return True
        self.metrics.refused_descriptors += 1
        now = time.monotonic()
        if now - self._refusal_logged > 10:
            self._refusal_logged = now
            log.warning(
                "out of file descriptors: %d connections are open and `ulimit -n` is %d; new ones get 503",
                len(self.peers) - 1,
                self.capacity + SPARE_DESCRIPTORS,
            )
        return False

    def forget(self, peer: Peer) -> None:
        self.peers.discard(peer)
        self._departed += 1
        self.metrics.peers = len(self.peers)

    def serve(self, request: HttpRequest, respond: Respond) -> None:
        """Answer one HTTP request."""
        self.metrics.requests += 1
        if request.path == self._metrics_path and not self.settings.faithful:
            self.metrics.nodes = len(self._cluster.nodes) if self._cluster else 0
            self.metrics.send_ring = self._ring is not None and not self._ring.broken
            respond(HttpResponse(200, self.metrics.render(self.hub), json=False, media_type=MEDIA_TYPE))
            return
        if self._pacing is not None:
            self._pacing.publish(lambda answer: self.api.handle(request, self.now(), answer), respond)
        elif request.method == "POST" and (self._held or self.hub.outbox.full):
            self._held.append((request, respond))
        else:
            self.api.handle(request, self.now(), respond)

    # ---- fan-out

    def _wake(self) -> None:
        self._woken = time.perf_counter()
        loop = asyncio.get_running_loop()
        loop.call_soon(self._flush) if self._pacing is not None else loop.call_soon(self._gather, self.hub.outbox.taken)

    def _gather(self, taken: int) -> None:
        """Begin to send when a turn of the loop has brought nothing more: what is published together is written together."""
        outbox = self.hub.outbox
        each, most = GATHER_SECONDS
        waiting = outbox.taken - outbox.delivered
        patience = min(each * waiting, most) if waiting >= WORTH_GATHERING else 0.0
        if outbox.taken != taken and time.perf_counter() - self._woken < patience:
            asyncio.get_running_loop().call_soon(self._gather, outbox.taken)
        else:
            self._flush()

    def _write(self, connections: Sequence[Connection], frame: bytes) -> None:
        if self._ring is None or len(connections) < WORTH_A_RING:
            write_each(connections, frame)
        else:
            write_all(self._ring, connections, frame)

    def _flush(self) -> None:
        if self._pacing is not None:
            self._pacing.flush()
        elif self.hub.outbox.flush(WRITES_PER_TURN):
            asyncio.get_running_loop().call_soon(self._flush)
            self._serve_held()
            return
        self.metrics.fan_out.observe(time.perf_counter() - self._woken)
        self._serve_held()

    def _serve_held(self) -> None:
        while self._held and not self.hub.outbox.full:
            request, respond = self._held.popleft()
            self.api.handle(request, self.now(), respond)

    # ---- life

    async def listen(self, sock: socket.socket | None = None) -> int:
        """Begin to accept; returns the port. Raises `BadInput` when the address cannot be had."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._loop_error)
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        self._socket = sock or bind(self.settings.host, self.settings.port, shared=self.settings.nodes > 1)
        context = tls_context(self.settings)
        if context is None:  # What is encrypted does not leave by the bare socket.
            with contextlib.suppress(OSError):
                self._ring = SendRing()
        self._server = await loop.create_server(lambda: Peer(self), sock=self._socket, backlog=ACCEPTS_PER_TURN, ssl=context)
        self._socket.listen(BACKLOG)  # create_server's one number is both the queue's length and the accepts per turn
        self._timers = [
            asyncio.ensure_future(self._every(TICK_SECONDS / self.settings.clock_rate, self._tick)),
            asyncio.ensure_future(self._measure_lag()),
        ]
        if self._bus is not None and (cluster := self._cluster) is not None:
            self._bus.start(self)
            self._timers.append(asyncio.ensure_future(self._every(BEAT_SECONDS / 2, lambda: cluster.tick(self.now()))))
        return self._socket.getsockname()[1]

    def _tick(self) -> None:
        """Once a minute."""
        now = self.now()
        if self._departed >= GC_DEPARTURES:
            self._departed = 0
            gc.collect()
        self.hub.tick(now)
        if not self.settings.faithful:
            for peer in list(self.peers):
                peer.close_when_idle(now - HTTP_IDLE_SECONDS * SECOND)

    async def stop(self) -> None:
        """Accept no more connections, and close those that are open, spread over `drain` seconds."""
        self._server.close()
        connections = [c for space in self.hub.spaces.values() for c in space.connections.values()]
        if self.settings.drain > 0 and connections:
            log.info("draining %d connections over %g s", len(connections), self.settings.drain)
            slots = max(1, int(self.settings.drain * 20))
            for slot in range(slots):
                self.hub.stop(c for c in connections[slot::slots] if c.space is not None)
                await asyncio.sleep(self.settings.drain / slots)
        self.hub.stop([c for space in self.hub.spaces.values() for c in space.connections.values()])
        for timer in self._timers:
            timer.cancel()
        if self._bus is not None and self._cluster is not None:
            self._cluster.leave()
            await self._bus.close()
        for _ in range(40):
            if not self.peers:
                break
            await asyncio.sleep(0.01)
        for peer in list(self.peers):
            peer.abort()
        await asyncio.sleep(0)
        if self._ring is not None:
            self._ring.close()
            self._ring = None

    @staticmethod
    async def _every(seconds: float, action: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            due += seconds
            await asyncio.sleep(due - loop.time())
            try:
                action()
            except Exception:
                # The next tick may go well; a node without its timer would keep dead connections for ever.
                log.exception("a node's timer")

    async def _measure_lag(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LAG_SECONDS
            await asyncio.sleep(LAG_SECONDS)
            self.metrics.loop_lag.observe(max(0.0, loop.time() - due))

    @staticmethod
    def _loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        """One line for what asyncio reports on its own: descriptors exhausted, TLS handshakes that failed."""
        error = context.get("exception")
        if isinstance(error, ssl.SSLError | ConnectionError):
            return
        bug = error if isinstance(error, Exception) and not isinstance(error, OSError) else None
        log.error("%s%s", context.get("message"), f": {error}" if error else "", exc_info=bug)


def bind(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """As `sim.live.sockets.bound`. Raises `BadInput`."""
    try:
        return bound(host, port, shared=shared)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BadInput(f"broadcaster cannot listen on {host}:{port}: {reason} (choose another port, or 0 for any)") from error


def tls_context(settings: BroadcasterSettings) -> ssl.SSLContext | None:
    """The server's TLS context; None without a certificate. Raises `BadInput`."""
    if not settings.local_cert:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(settings.local_cert, settings.local_pk or None)
    except (OSError, ssl.SSLError) as error:
        raise BadInput(f"TLS certificate {settings.local_cert}: {error}") from error
    return context
