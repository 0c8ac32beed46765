"""What both servers of the embedded target need of sockets: a bound one, enough descriptors, and an end that loses no answer."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import resource
import secrets
import socket

SPARE_DESCRIPTORS = 32
"""Kept free for files, a bus and the listener."""
LINGER_SECONDS = 2.0
"""Once everything was sent, a peer has this long to close its end."""
LINGER_BYTES = 1 << 24
"""What it may still send meanwhile; beyond this it is not read."""
FLUSH_SECONDS = 60.0
"""The longest time for a peer to read what waits for it."""
LISTENERS = range(20_000, 32_000)
"""Ports that no system gives to outgoing connections by itself (Linux: from 32768 on). Of the others, a page that connects while
nothing listens could take the very port that a server is about to open, or to open again."""


class LingeringClose(asyncio.Protocol):
    """The end of a connection after the last bytes were written to it, like `lingering_close` of nginx.

    A socket that is closed while bytes of its peer are unread sends a reset, which can overtake what was written. So this takes
    over from *protocol*: it closes our direction, drops what still comes, and ends the connection when the peer closes its own,
    or when the time is over. *protocol* hears of the end only (`connection_lost`). *heard_all*: the peer has closed its own.
    """

    def __init__(self, transport: asyncio.Transport, protocol: asyncio.BaseProtocol, *, heard_all: bool = False) -> None:
        self._transport = transport
        self._protocol = protocol
        self._may_send = LINGER_BYTES
        self._loop = asyncio.get_running_loop()
        self._until = self._loop.time() + FLUSH_SECONDS
        self._waiting = transport.get_write_buffer_size()
        self._timer = self._loop.call_later(LINGER_SECONDS, self._look)
        transport.set_protocol(self)
        if transport.is_closing():
            return
        try:
            if transport.can_write_eof() and not heard_all:
                transport.write_eof()
                transport.resume_reading()
            else:
                transport.close()  # TLS cannot half-close
        except OSError:
            transport.abort()  # reset by the peer a moment ago

    def data_received(self, data: bytes) -> None:
        self._may_send -= len(data)
        if self._may_send < 0:
            self._transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        self._protocol.connection_lost(exc)

    def _look(self) -> None:
        """Once in `LINGER_SECONDS`: end it, unless bytes waited for the peer a period ago and their time is not over."""
        if not self._waiting or self._loop.time() > self._until:
            self._transport.abort()
            return
        self._waiting = self._transport.get_write_buffer_size()
        self._timer = self._loop.call_later(LINGER_SECONDS, self._look)


def bound(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A TCP socket bound to *host* and *port* (0: any free one), not listening yet. Raises `OSError`, `OverflowError`.

    *shared*: other processes of this machine listen on the same port (SO_REUSEPORT).
    """
    # With the protocol named: asyncio leaves TCP_NODELAY off otherwise, and an event that follows another frame then waits 40 ms
    # for the client's delayed acknowledgement.
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((host, port))
    except (OSError, OverflowError):
        sock.close()
        raise
    sock.setblocking(False)
    return sock


def bound_later(host: str) -> socket.socket:
    """As `bound`, to a free port for a listener that another process opens, now or after a restart: one of `LISTENERS`."""
    for _ in range(100):
        with contextlib.suppress(OSError):
            return bound(host, secrets.choice(LISTENERS))
    return bound(host, 0)


def free_port(host: str = "127.0.0.1") -> int:
    """A port of `bound_later` that is free now."""
    with bound_later(host) as probe:
        return int(probe.getsockname()[1])


def this_machine_alone(host: str) -> bool:
    """Whether what is bound to *host* can be reached from this machine only. (No name but localhost is looked up.)"""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def connection_capacity() -> int:
    """Connections that this process may hold; the soft limit on descriptors is lifted to the hard one first."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARE_DESCRIPTORS
