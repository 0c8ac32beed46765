"""Load for a machine that is not this one needs its owner's word: what will be sent is said first, capped, and asked for.

Loopback is always allowed. `--i-own-this-target` answers the question and lifts the caps.
"""

from __future__ import annotations

import ipaddress
import socket
import sys
from dataclasses import dataclass
from urllib.parse import urlsplit

from sim.errors import BadInput
from sim.scenario import Scenario
from sim.target import Target

METERED = {"pusher.com": "Pusher Channels", "pusherapp.com": "Pusher Channels", "ably.io": "Ably", "ably.net": "Ably"}
"""Services that bill connections and messages, by the end of the host's name."""


@dataclass(frozen=True, slots=True)
class Volume:
    """What a command will send at most, counted for the whole run."""

    connections: int = 0
    """WebSocket connections open at once."""
    publishes: int = 0
    """Changes or events sent."""
    deliveries: int = 0
    """Notifications that the target will send to our subscribers."""
    requests: int = 0
    """HTTP requests besides the publishes: authorisations and refetches."""

    @property
    def billed(self) -> int:
        """Messages as a metered service counts them: each publish, and each delivery."""
        return self.publishes + self.deliveries


CAP = Volume(connections=500, publishes=1_000, deliveries=100_000, requests=20_000)
"""Most that is sent to somebody else's host without `--i-own-this-target`, whatever is answered."""


def volume_of_publishing(scenario: Scenario, updates: int) -> Volume:
    """Of `workbench drive`: nobody of ours listens."""
    return Volume(publishes=updates)


def volume_of_load(scenario: Scenario, updates: int) -> Volume:
    """Of a load test, as an upper bound: every notification is refetched."""
    servers = max(1, scenario.fleet.servers)
    heard = sum(p.subscribers * (1.0 if p.page == "dashboard" else 1.0 / servers) for p in scenario.pages)
    deliveries = round(updates * heard)
    return Volume(scenario.subscribers, updates, deliveries, deliveries + 2 * scenario.subscribers)


def hosts(target: Target) -> list[str]:
    """The hosts that will be talked to."""
    api = urlsplit(target.api).hostname if target.api else None
    return list(dict.fromkeys(host for host in (target.host, target.subscribing.host, api) if host))


def is_loopback(host: str) -> bool:
    """Whether every address of *host* is this machine's own loopback. A name that does not resolve is not."""
    try:
        addresses = {info[4][0] for info in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):
        return False
    return all(ipaddress.ip_address(str(address).partition("%")[0]).is_loopback for address in addresses)


def require(volume: Volume, target: Target, owned: bool) -> None:
    """Return when the load may go out. Raises `BadInput` when it exceeds the caps, or nobody says yes."""
    remote = [host for host in hosts(target) if not is_loopback(host)]
    if owned or not remote:
        return
    print(describe(volume, remote), file=sys.stderr)
    over = [
        f"{getattr(volume, name)} {name} (cap {getattr(CAP, name)})"
        for name in Volume.__slots__
        if getattr(volume, name) > getattr(CAP, name)
    ]
    if over:
        raise BadInput(
            f"too much for {remote[0]}, which is not this machine: {', '.join(over)}; --i-own-this-target lifts the caps"
        )
    if not sys.stdin.isatty():
        raise BadInput(f"{remote[0]} is not this machine: say --i-own-this-target if you may send it this load")
    if input(f"Send this to {', '.join(remote)}? Type yes: ").strip().lower() != "yes":
        raise BadInput("not confirmed, nothing was sent")


def describe(volume: Volume, remote: list[str]) -> str:
    """What will be sent, in one paragraph."""
    lines = [
        f"This will send to {', '.join(remote)}, at most: {volume.connections} WebSocket connections, {volume.publishes} changes "
        f"or events, {volume.requests} other HTTP requests; the target will send {volume.deliveries} notifications."
    ]
    for host in remote:
        service = next((name for end, name in METERED.items() if host == end or host.endswith("." + end)), None)
        if service:
            lines.append(
                f"{service} bills about {volume.billed} messages and {volume.connections} concurrent connections for it."
            )
    return "\n".join(lines)
