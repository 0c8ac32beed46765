"""Is anybody there? A quick look at the target before anything is started."""

from __future__ import annotations

import socket

from sim.errors import Unreachable
from sim.live.client import Origin, reason_of
from sim.target import Target

TIMEOUT = 5.0


def require_reachable(target: Target) -> None:
    """Connect once to the broadcaster and to the application. Raises `Unreachable` that says which does not answer, and why."""
    places = {"broadcaster": Origin(target.host, target.port)}
    if target.api:
        places["application"] = Origin.parse(target.api)
    for name, origin in places.items():
        if reason := why_unreachable(origin.host, origin.port):
            raise Unreachable(f"{name} {origin.authority}: {reason} (is it running? workbench doctor says more)")


def why_unreachable(host: str, port: int) -> str:
    """Empty when a TCP connection can be made."""
    try:
        socket.create_connection((host, port), TIMEOUT).close()
    except (OSError, OverflowError, UnicodeError) as error:
        return reason_of(error)
    return ""
