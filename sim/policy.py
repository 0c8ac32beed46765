"""When is a refetch due? One frozen value per answer.

A policy is what a scenario says (times in seconds). `policy.machine()` makes the running state of one page, in integer
nanoseconds (`sim.machines`, whose names this module gives as well).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal

from sim.clock import ns
from sim.machines import (
    NEVER,
    DebounceMachine,
    ImmediateMachine,
    Machine,
    PollingMachine,
    RateLimitMachine,
    SilentMachine,
    Timing,
    WindowMachine,
)
from sim.marks import above_zero, at_least

__all__ = [
    "NEVER",
    "Debounce",
    "DebounceMachine",
    "FullPayload",
    "Immediate",
    "ImmediateMachine",
    "InFlight",
    "Machine",
    "Policy",
    "Polling",
    "PollingMachine",
    "PollingMode",
    "RateLimit",
    "RateLimitMachine",
    "SilentMachine",
    "Throttle",
    "Timing",
    "Window",
    "WindowMachine",
    "fires",
]

InFlight = Literal["cancel", "overlap", "single_flight"]
"""What a new refetch does to a running one: Inertia 1, Inertia 2 and 3, one at a time with one re-run."""

PollingMode = Literal["overlap", "cancel", "rest"]
"""Inertia 3's: poll whatever still runs, abort what still runs, or count the interval from the answer."""


@dataclass(frozen=True, slots=True)
class Immediate:
    """Every notification is a refetch."""

    kind: ClassVar[str] = "immediate"
    waits_for_silence: ClassVar[bool] = False
    """Whether updates that keep coming can put its refetch off for ever. Every policy says it."""
    jitter: float = 0.0
    """A refetch starts up to this many seconds after it is due, uniformly at random. The same for every policy."""

    def __post_init__(self) -> None:
        at_least(0, self, "jitter", unit=" s")

    def machine(self) -> ImmediateMachine:
        return ImmediateMachine()


@dataclass(frozen=True, slots=True)
class Debounce:
    """lodash / use-debounce words: refetch after `wait` seconds of silence."""

    kind: ClassVar[str] = "debounce"
    wait: float = 0.5
    """Seconds of silence after the last notification (`window`: seconds that the window is open)."""
    leading: bool = False
    """Refetch at once on the first notification after a silence."""
    trailing: bool = True
    """Refetch once the silence is there."""
    max_wait: float | None = None
    """Seconds after which a storm is interrupted; less than `wait` counts as `wait`. None: a storm may starve the page."""
    timing: Timing = "use-debounce"
    """Whose timers: they differ where notifications go on without a pause."""
    jitter: float = 0.0

    def __post_init__(self) -> None:
        at_least(0, self, "wait", "max_wait", "jitter", unit=" s")

    @property
    def waits_for_silence(self) -> bool:
        return self.trailing and self.wait > 0 and self.max_wait is None

    def machine(self) -> DebounceMachine:
        cap = None if self.max_wait is None else ns(self.max_wait)
        return DebounceMachine(ns(self.wait), self.leading, self.trailing, cap, self.timing)


@dataclass(frozen=True, slots=True)
class Throttle:
    """`throttle(f, wait)` of the same libraries: a debounce whose `max_wait` is its `wait`, leading by default."""

    kind: ClassVar[str] = "throttle"
    waits_for_silence: ClassVar[bool] = False
    wait: float = 0.5
    leading: bool = True
    trailing: bool = True
    timing: Timing = "use-debounce"
    jitter: float = 0.0

    def __post_init__(self) -> None:
        at_least(0, self, "wait", "jitter", unit=" s")

    def machine(self) -> DebounceMachine:
        return DebounceMachine(ns(self.wait), self.leading, self.trailing, ns(self.wait), self.timing)


@dataclass(frozen=True, slots=True)
class Window:
    """The first notification opens a window of `wait` seconds; one refetch at its end covers all of it."""

    kind: ClassVar[str] = "window"
    waits_for_silence: ClassVar[bool] = False
    wait: float = 0.5
    jitter: float = 0.0

    def __post_init__(self) -> None:
        at_least(0, self, "wait", "jitter", unit=" s")

    def machine(self) -> WindowMachine:
        return WindowMachine(ns(self.wait))


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At once when idle, else `wait` seconds after the refetch before."""

    kind: ClassVar[str] = "rate_limit"
    waits_for_silence: ClassVar[bool] = False
    wait: float = 0.5
    jitter: float = 0.0

    def __post_init__(self) -> None:
        at_least(0, self, "wait", "jitter", unit=" s")

    def machine(self) -> RateLimitMachine:
        return RateLimitMachine(ns(self.wait))


@dataclass(frozen=True, slots=True)
class Polling:
    """No notifications: refetch every `interval` seconds, counted from when the page opens."""

    kind: ClassVar[str] = "polling"
    waits_for_silence: ClassVar[bool] = False
    interval: float = 5.0
    """Seconds between two polls."""
    mode: PollingMode = "overlap"
    """What a poll does to one that still runs: nothing, ends it, or waits (`rest`: the interval counts from the answer)."""
    jitter: float = 0.0

    def __post_init__(self) -> None:
        above_zero(self, "interval", unit=" s")
        at_least(0, self, "jitter", unit=" s")

    def machine(self) -> PollingMachine:
        return PollingMachine(ns(self.interval), rest=self.mode == "rest")


@dataclass(frozen=True, slots=True)
class FullPayload:
    """No refetch: the notification carries the state and is applied as it arrives."""

    kind: ClassVar[str] = "full_payload"
    waits_for_silence: ClassVar[bool] = False
    jitter: ClassVar[float] = 0.0

    def machine(self) -> SilentMachine:
        return SilentMachine()


Policy = Immediate | Debounce | Throttle | Window | RateLimit | Polling | FullPayload


def fires(policy: Policy, calls: Iterable[int], until: int = NEVER) -> list[int]:
    """Instants at which *policy* wants a refetch, given the sorted instants of the notifications, through *until*.

    Nanoseconds in and out. Without jitter; what polling wants is not a function of notifications and is left out.
    """
    machine: Machine = policy.machine()
    due = []
    for at in calls:
        while machine.next_at <= at:
            instant = machine.next_at
            if machine.ring(instant):
                due.append(instant)
        if machine.call(at):
            due.append(at)
    while machine.next_at < NEVER and machine.next_at <= until:
        instant = machine.next_at
        if machine.ring(instant):
            due.append(instant)
    return due
