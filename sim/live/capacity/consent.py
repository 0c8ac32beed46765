"""Before load goes to another machine, its volume is shown, compared with caps, and confirmed by the target's owner.

Loopback is always allowed. `--i-own-this-target` answers the question and lifts the caps.
"""

from __future__ import annotations

import ipaddress
import math
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import numpy as np

from sim.errors import BadInput
from sim.policy import FullPayload, Polling
from sim.scenario import Pages, Scenario
from sim.target import Target
from sim.workload import ON_DASHBOARD, RESOURCES, streams

METERED = {"pusher.com": "Pusher Channels", "pusherapp.com": "Pusher Channels", "ably.io": "Ably", "ably.net": "Ably"}
"""Services that bill connections and messages, by the end of the host's name."""


COUNTS = ("connections", "publishes", "deliveries", "requests")

RECONNECT = 1.0
"""Seconds after which pusher-js comes back at the earliest."""

MARGIN = 6.0
"""Standard deviations by which a drawn number is put above its mean."""


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
    """HTTP requests besides the publishes: page loads, logins, handshakes, authorisations, refetches."""
    besides: str = ""
    """What cannot be counted beforehand."""


CAP = Volume(connections=500, publishes=1_000, deliveries=100_000, requests=20_000)
"""Most that is sent to another host without `--i-own-this-target`, also where the user has confirmed it."""


def volume_of_load(scenario: Scenario, target: Target) -> Volume:
    """Of a load test, as an upper bound: updates are drawn by its seed and counted; other random numbers are put well above
    their mean.

    A notification causes one refetch at most, and a failed refetch as many further ones as `api.retries` allows. A page that
    leaves is replaced by another one, which loads. A page that reconnects again and again authorises each time. The changes of a
    live application (passive) are not known.
    """
    cooldown, drain = scenario.tail
    seconds = scenario.warmup + scenario.duration + cooldown
    passive, application = scenario.publisher.via == "none", bool(target.api)
    updates = scenario.draw_updates(streams(scenario.seed))
    total = 0 if passive else len(updates)
    changes = [0 if passive else int(n) for n in np.bincount(updates.resource, minlength=len(RESOURCES))]
    # Pages connect before the updates begin, and stay for the drain.
    span = seconds + drain + scenario.subscribers / scenario.load.connect_rate
    connections = deliveries = requests = 0
    for pages in scenario.pages:
        heard, channels = _heard(scenario, target, pages, changes)
        policy = scenario.policy_of(pages)
        refetching = application and not isinstance(policy, FullPayload)
        listening = 0 if isinstance(policy, Polling) else pages.subscribers
        lives = _lives(pages, span, scenario.seed)
        loops = listening * math.ceil(span / RECONNECT) if pages.behaviour == "reconnect_loop" else 0
        arrivals = (lives if listening else 0) + loops
        refetches = min(heard, pages.subscribers * total * channels) if refetching else 0
        if isinstance(policy, Polling):
            refetches = pages.subscribers * math.ceil(span / policy.interval) + lives
        if refetching and pages.refetch_on_reconnect:
            refetches += arrivals
        logins = 2 * pages.subscribers if scenario.load.auth == "cookie" or any(u.login for u in target.users) else 0
        connections += listening
        deliveries += heard
        loads = lives if application else 0
        requests += (refetches + loads) * (1 + scenario.api.retries) + arrivals * (1 + channels * application) + logins
    besides = "a refetch for every notification of the application's own changes" if passive and application else ""
    return Volume(connections, total, deliveries, requests, besides)


def _heard(scenario: Scenario, target: Target, pages: Pages, changes: Sequence[int]) -> tuple[int, int]:
    """(notifications at most, channels of each page) of one kind of page. *changes*: updates of each of `RESOURCES`."""
    if scenario.policy_of(pages).kind == "polling":
        return 0, 0
    everybody, processes = pages.subscribers, scenario.load.processes
    if pages.page == "dashboard":
        users = max(1, len(target.users) or scenario.fleet.users)
        share = everybody // users + processes if scenario.broadcast.channels == "per_user" else everybody
        return sum(changes[: len(ON_DASHBOARD)]) * share, 2
    kind = "sites" if pages.page == "site" else "servers"
    resources = sum(len(user.ids(kind)) for user in target.users) or scenario.fleet.count(pages.resource)
    # Pages spread evenly, in each load process.
    generic = scenario.broadcast.channels == "generic" and pages.resource in ON_DASHBOARD
    share = everybody if generic else everybody // max(1, resources) + processes
    return changes[RESOURCES.index(pages.resource)] * min(share, everybody), 1


def _lives(pages: Pages, span: float, seed: int) -> int:
    """Pages that are opened in *span* seconds: the first ones, and those that replace the ones that leave."""
    if pages.session is None or not pages.subscribers:
        return pages.subscribers
    rng = np.random.default_rng(seed)
    seats = min(pages.subscribers, 1_000)
    opened, until = np.zeros(seats, dtype=np.int64), np.zeros(seats)
    while (open_still := until < span).any() and opened.sum() < 1_000_000:
        opened += open_still
        until[open_still] += np.maximum(pages.session.sample(rng, int(open_still.sum())), 1e-3)
    mean = float(opened.mean()) * pages.subscribers
    return math.ceil(mean + MARGIN * (float(opened.std()) + 1) * math.sqrt(pages.subscribers) + MARGIN)


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
    """Return when the load may be sent. Raises `BadInput` when it exceeds the caps, or is not confirmed."""
    remote = [host for host in hosts(target) if not is_loopback(host)]
    if owned or not remote:
        return
    print(describe(volume, remote), file=sys.stderr)
    over = [
        f"{getattr(volume, name)} {name} (cap {getattr(CAP, name)})"
        for name in COUNTS
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
    """What will be sent, in words."""
    lines = [
        f"This will send to {', '.join(remote)}, at most: {volume.connections} WebSocket connections, {volume.publishes} changes "
        f"or events, {volume.requests} other HTTP requests; the target will send {volume.deliveries} notifications."
        + (f" Besides: {volume.besides}." if volume.besides else "")
    ]
    for host in remote:
        service = next((name for end, name in METERED.items() if host == end or host.endswith("." + end)), None)
        if service:
            billed = volume.publishes + volume.deliveries
            lines.append(f"{service} bills about {billed} messages and {volume.connections} concurrent connections for it.")
    return "\n".join(lines)
