"""Whether the target accepts connections, looked at before anything is started."""

from __future__ import annotations

import socket

from sim.errors import Unreachable
from sim.live.client import HttpOrigin, reason_of
from sim.target import Target

TIMEOUT = 5.0


def require_reachable(target: Target) -> None:
    """Connect once to every address of the target. Raises `Unreachable` that says which does not answer, and why."""
    for name, origin in places(target).items():
        if reason := why_unreachable(origin.host, origin.port):
            raise Unreachable(f"{name} {origin.authority}: {reason} (is it running? workbench doctor says more)")


def places(target: Target) -> dict[str, HttpOrigin]:
    """Where the target listens: for events, for pages where that is another address, and the application."""
    found = {"broadcaster": HttpOrigin.parse(target.http_url)}
    if target.subscribing != target.publishing:
        found["broadcaster for pages"] = HttpOrigin.parse(target.subscribing.url)
    return found | ({"application": HttpOrigin.parse(target.api)} if target.api else {})


def why_unreachable(host: str, port: int) -> str:
    """Empty when a TCP connection can be made."""
    try:
        socket.create_connection((host, port), TIMEOUT).close()
    except (OSError, OverflowError, UnicodeError) as error:
        return reason_of(error)
    return ""
