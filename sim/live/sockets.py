"""What both servers of the embedded target need of the operating system: a bound socket, and enough descriptors."""

from __future__ import annotations

import contextlib
import ipaddress
import resource
import socket

SPARE_DESCRIPTORS = 32
"""Kept free for files, a bus and the listener."""


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
