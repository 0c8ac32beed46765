"""What goes wrong during a run, and when. Frozen values, seconds since the run's start.

The simulator makes them happen in virtual time, a load test to the embedded target; to a target of one's own by `command`, which
is run at its time: `command = ["docker", "restart", "reverb"]`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from sim.marks import Number, Share, above_zero, at_least, load_test_only, shares

Command = Annotated[tuple[str, ...], load_test_only("virtual time has no target to run it against", promise=False)]


@dataclass(frozen=True, slots=True)
class Restart:
    """The broadcaster restarts: every connection drops, and what is published while it is down is lost."""

    kind: ClassVar[str] = "restart"
    at: float = 0.0
    """When it happens, seconds since the run's start."""
    down: float = 0.0
    """Seconds until it accepts connections again."""
    signal: Annotated[Literal["SIGTERM", "SIGKILL"], load_test_only("virtual time has no process", promise=False)] = "SIGTERM"
    """What ends it: asked to stop it closes its connections, killed it lets them drop."""
    command: Command = ()
    """What makes it happen to a target of one's own: program and arguments."""

    def __post_init__(self) -> None:
        at_least(0, self, "at", "down", unit=" s")


@dataclass(frozen=True, slots=True)
class Disconnect:
    """A share of the connections drops (a proxy restarts, a train enters a tunnel); the broadcaster stays up."""

    kind: ClassVar[str] = "disconnect"
    at: float = 0.0
    share: Share = 1.0
    """Share of the connections that drop, chosen at random."""
    command: Command = ()
    """What makes it happen to a target of one's own: program and arguments."""

    def __post_init__(self) -> None:
        at_least(0, self, "at", unit=" s")
        shares(self, "share", what="between 0 and 1")


@dataclass(frozen=True, slots=True)
class Outage:
    """No worker of the application begins a request; requests queue up."""

    kind: ClassVar[str] = "outage"
    at: float = 0.0
    duration: float = 0.0
    """Seconds that it lasts."""
    command: Command = ()
    """What makes it happen to a target of one's own: program and arguments."""

    def __post_init__(self) -> None:
        at_least(0, self, "at", "duration", unit=" s")


@dataclass(frozen=True, slots=True)
class Slowdown:
    """Requests that begin meanwhile take `factor` times as long (a cold cache, a slow database)."""

    kind: ClassVar[str] = "slowdown"
    at: float = 0.0
    duration: float = 0.0
    factor: Number = 1.0
    """How many times as long a request takes."""
    command: Command = ()
    """What makes it happen to a target of one's own: program and arguments."""

    def __post_init__(self) -> None:
        at_least(0, self, "at", "duration", unit=" s")
        above_zero(self, "factor")


@dataclass(frozen=True, slots=True)
class Deploy:
    """A release: application and broadcaster restart (what is asked of them meanwhile is refused), and Inertia pages of the old
    assets are told to load anew.

    Inertia answers the next refetch of such a page by 409, after the controller has done its work; the browser then loads the
    whole page and connects again.
    """

    kind: ClassVar[str] = "deploy"
    at: float = 0.0
    down: float = 0.0
    command: Command = ()
    """What makes it happen to a target of one's own: program and arguments."""

    def __post_init__(self) -> None:
        at_least(0, self, "at", "down", unit=" s")


Incident = Restart | Disconnect | Outage | Slowdown | Deploy
