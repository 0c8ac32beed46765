"""Limits of descriptors and ports on this machine, checked before the first connection and not at the ten-thousandth."""

from __future__ import annotations

import math
import resource
import socket
import sys
from pathlib import Path

from sim.errors import BadInput
from sim.live.sockets import this_machine_alone

SPARE = 200
"""Descriptors that a process needs besides its subscribers: interpreter, logs, parts, epoll, publisher."""

UNEVEN = 1.05
"""Connections of the fullest of several processes that share a port, as a multiple of an even share."""

DEFAULT_PORTS = 28_232
"""Local ports that Linux hands out by default (32768-60999) to one target address and port."""


def descriptors_needed(subscribers: int, http_connections: int) -> int:
    """Descriptors of a load process: a WebSocket each, and its HTTP connections."""
    return subscribers + http_connections + SPARE


def require_descriptors(needed: int, what: str) -> None:
    """Raise the soft limit as far as *needed* asks and the hard limit allows. Raises `BadInput` with the command to run."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or needed <= soft:
        return
    if hard != resource.RLIM_INFINITY and needed > hard:
        raise BadInput(f"{what} need {needed} file descriptors a process, the limit is {hard}: run `ulimit -n {needed}` first")
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def local_ports() -> int:
    """Ephemeral ports towards one address and port of a target."""
    try:
        low, high = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return DEFAULT_PORTS
    return int(high) - int(low) + 1


def addresses_of(host: str) -> int:
    """The number of addresses of *host*: connections take them in turn, and local ports are counted for each."""
    try:
        return len({info[4][0] for info in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)})
    except (OSError, UnicodeError):
        return 1


def require_ports(connections: int, host: str, processes: int = 1) -> None:
    """Raise `BadInput` when this machine's *connections* to all addresses of *host* exceed the local ports. On loopback each of
    *processes* has an address of its own (Linux)."""
    own = processes if sys.platform == "linux" and this_machine_alone(host) else 1
    ports = local_ports() * addresses_of(host) * own
    if connections > ports:
        more = math.ceil(connections / ports)
        raise BadInput(
            f"{connections} connections to {host} need more than this machine's {ports} local ports: "
            f"widen net.ipv4.ip_local_port_range, or use {more} machines"
            + (f" or processes (--processes {more * processes})" if own == processes and this_machine_alone(host) else "")
        )


def descriptors() -> int:
    """The hard limit of one process."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return hard if hard != resource.RLIM_INFINITY else 1 << 20


def nodes_for(connections: int, descriptors: int) -> int:
    """Broadcaster processes of one machine for this many connections, which the kernel spreads over them not quite evenly."""
    return math.ceil(connections * UNEVEN / max(descriptors - SPARE, 1))
