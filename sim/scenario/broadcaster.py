"""What a fan-out costs: keys of the scenario, the broadcasters that they are preset from, and the costs that come of it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

from sim.marks import Number, Unit, above_zero, at_least

Answered = Literal["before", "after"]


@dataclass(frozen=True, slots=True)
class FanOut:
    """Costs of one event on one node, seconds (`Broadcaster.costs`)."""

    fixed: float
    compose_per_subscriber: float
    per_subscriber: float
    per_byte: float
    answer: Answered
    nagle: bool
    keep_alive: bool

    def between(self, payload_bytes: int) -> float:
        """Seconds between two writes of an event with *payload_bytes* more than a bare notification has."""
        return self.per_subscriber + self.per_byte * payload_bytes

    def last(self, subscribers: float, payload_bytes: int = 0) -> float:
        """Seconds from taking up an event to its last write, for this many subscribers on the node."""
        return self.fixed + subscribers * (self.compose_per_subscriber + self.between(payload_bytes))


MODELS: dict[str, FanOut] = {
    "workbench": FanOut(0.0001, 0.0, 0.0000045, 1e-9, "before", nagle=False, keep_alive=True),
    # Laravel Reverb 1.10 with ext-uv, measured (medians): first and last receiver 15 and 31 ms for 500 subscribers, 24 and 54 for
    # 1,000 on a quiet machine, 85 and 181 for 3,000; 1,000 publishes a second on no channel. With 200 it was slower (10, 20).
    "reverb": FanOut(0.001, 0.000025, 0.000031, 1e-9, "after", nagle=True, keep_alive=False),
}


@dataclass(frozen=True, slots=True)
class Broadcaster:
    """The broadcaster, in virtual time and as embedded. An event takes a node `fixed` seconds, then a frame is composed
    for each subscriber, then one after the other is written: the k-th of n leaves
    `fixed + n * compose_per_subscriber + k * per_subscriber` after the node took it up, plus `per_byte` for each byte of a full
    payload. With all keys at their defaults the embedded broadcaster is as fast as it can be; else it takes these times, or its
    own where those are longer."""

    model: Literal["workbench", "reverb"] = "workbench"
    """Whose costs stand where a key of this table is not set: the embedded broadcaster's, or Laravel Reverb's as measured. As
    `reverb` the embedded broadcaster has Reverb's manners as well (HTTP/1.0, no close frames ...)."""
    cost: Number = 1.0
    """Factor on all times of this table: a machine that is slower (2) or faster (0.5) than the one they were measured on."""
    fixed: float | None = None
    """Seconds of work per event before anything else. None: the model's (workbench 0.0001, reverb 0.001)."""
    compose_per_subscriber: float | None = None
    """Seconds per subscriber and event before the first write. None: the model's (workbench 0, reverb 0.000025)."""
    per_subscriber: float | None = None
    """Seconds per subscriber and event between two writes. None: the model's (workbench 0.0000045, reverb 0.000031)."""
    per_byte: Annotated[float | None, Unit("s/byte")] = None
    """Seconds between two writes for each byte that a full payload has beyond a bare notification. None: the model's
    (0.000000001: a gigabyte per second, assumed)."""
    answer: Answered | None = None
    """When a publish is answered: `before` the first write, or `after` the last one. None: the model's (workbench `before`,
    reverb `after`)."""
    nagle: bool | None = None
    """Nagle's algorithm is on (no TCP_NODELAY): a second frame to one connection waits for the acknowledgement of the first. In
    virtual time the client delays that by 40 ms; on sockets its kernel decides, and Linux acknowledges as soon as a page that
    only listens has read. None: the model's (workbench false, reverb true)."""
    keep_alive: bool | None = None
    """Publishes share a connection. False: each opens its own, one more round trip of `network.to_broadcaster`. None: the
    model's (workbench true, reverb false)."""
    nodes: int = 1
    """Broadcaster processes among which the pages are divided."""

    def __post_init__(self) -> None:
        if self.model not in MODELS:
            raise ValueError(f"model must be one of {', '.join(MODELS)}, got {self.model!r}")
        at_least(0, self, "cost", "fixed", "compose_per_subscriber", "per_subscriber", "per_byte")
        above_zero(self, "nodes")

    @property
    def costs(self) -> FanOut:
        """The keys that are set, the model's for the others, times `cost`."""
        preset = MODELS[self.model]
        found: dict[str, Any] = {}
        for name in (f.name for f in fields(FanOut)):
            value = getattr(self, name)
            value = getattr(preset, name) if value is None else value
            found[name] = value if isinstance(value, bool | str) else value * self.cost
        return FanOut(**found)
