"""What all pages of one class in one process have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from websockets.uri import WebSocketURI

from loadtests.client.auth import Auth
from loadtests.client.http import Pool
from loadtests.client.streams import Origin
from sim.policy import InFlight, Policy

if TYPE_CHECKING:
    from loadtests.recording.recorder import Kind


@dataclass(frozen=True, slots=True)
class Spec:
    """One class of pages in one process. Templates are filled with the page's `{id}`, `{user}` and `{n}`."""

    kind: Kind
    channels: tuple[str, ...]
    events: frozenset[str]
    """Names on the wire of the events that count; empty: any."""
    refetch: str
    """URL path of the resource; empty: the page does not refetch."""
    version_path: tuple[str, ...]
    policy: Policy
    in_flight: InFlight
    auth: Auth
    uri: WebSocketURI
    broadcaster: Origin
    application: Origin | None
    prefix: str
    """The path of the application's base URL, which every request's path begins with."""
    browser_origin: str
    behaviour: str
    refetch_on_reconnect: bool
    stamp: bool
    pool: Pool | None
    """Shared by all pages; None: each has its own."""
    timeout: float
    """Seconds for a refetch."""
    inertia: bool = False
    """Whether the resource is an Inertia page."""
    only: tuple[str, ...] = ()
    """Props that an Inertia page reloads; empty: all."""

    @property
    def listens(self) -> bool:
        """Whether the page connects to the broadcaster; one that polls does not."""
        return self.policy.kind != "polling"

    @property
    def subscribes(self) -> bool:
        """Whether it subscribes to its channels once it is connected."""
        return self.listens and self.behaviour != "never_subscribe"
