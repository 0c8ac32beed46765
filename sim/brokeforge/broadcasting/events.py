"""What is broadcast: four events, as in the pattern's document.

An event knows its channels (`broadcast_on`), its name (`broadcast_name`) and its payload (`broadcast_with`, made when it is
sent: a queued event has the time at which the worker runs). It holds ids only, as `SerializesModels` does.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar, Literal

NAMESPACE = "App\\Events\\"

ChannelsSwitch = Literal["both", "specific", "generic", "per_user"]


def private(name: str) -> str:
    return f"private-{name}"


def iso8601(at_ns: int) -> str:
    """Carbon's `toIso8601String`: whole seconds, UTC."""
    return datetime.fromtimestamp(at_ns // 1_000_000_000, UTC).isoformat()


@dataclass(frozen=True, slots=True)
class ModelEvent:
    """Something that happened to one resource: what all events share."""

    name: ClassVar[str]
    resource: ClassVar[str]

    id: int
    """Of the resource."""

    @property
    def key(self) -> str:
        """What a unique or debounced dispatch is unique by."""
        return f"{self.name}:{self.id}"

    def broadcast_on(self, switch: ChannelsSwitch) -> list[str]:
        """The channels on the wire."""
        raise NotImplementedError

    def broadcast_with(self, now_ns: int) -> dict[str, Any]:
        """The payload: which resource, and when; no more."""
        return {f"{self.resource}_id": self.id, "timestamp": iso8601(now_ns)}


@dataclass(frozen=True, slots=True)
class _Updated(ModelEvent):
    user_id: int = 0
    """The owner; needed for the channel per user only, and never in the payload."""

    def broadcast_on(self, switch: ChannelsSwitch) -> list[str]:
        """The specific channel and the generic one, or what the switch leaves of them."""
        plural = f"{self.resource}s"
        specific, generic = private(f"{plural}.{self.id}"), private(plural)
        of_user = private(f"users.{self.user_id}.{plural}")
        return {"specific": [specific], "generic": [generic], "per_user": [specific, of_user], "both": [specific, generic]}[
            switch
        ]


@dataclass(frozen=True, slots=True)
class ServerUpdated(_Updated):
    name: ClassVar[str] = "ServerUpdated"
    resource: ClassVar[str] = "server"


@dataclass(frozen=True, slots=True)
class ServerSiteUpdated(_Updated):
    name: ClassVar[str] = "ServerSiteUpdated"
    resource: ClassVar[str] = "site"


@dataclass(frozen=True, slots=True)
class ServerProvisionUpdated(ModelEvent):
    """For the provision page alone; it always goes to its one channel."""

    name: ClassVar[str] = "ServerProvisionUpdated"
    resource: ClassVar[str] = "server"

    def broadcast_on(self, switch: ChannelsSwitch) -> list[str]:
        return [private(f"servers.{self.id}.provision")]


@dataclass(frozen=True, slots=True)
class TaskCompleted(ModelEvent):
    """The alternative pattern: the whole (small) thing is in the payload, nothing is fetched."""

    name: ClassVar[str] = "TaskCompleted"
    resource: ClassVar[str] = "task"

    task: str
    completed: bool
    completed_at: int
    """Microseconds since 1970."""

    def broadcast_on(self, switch: ChannelsSwitch) -> list[str]:
        return [private(f"tasks.{self.id}")]

    def broadcast_with(self, now_ns: int) -> dict[str, Any]:
        ended = {"completed": self.completed, "completed_at": iso8601(self.completed_at * 1_000)}
        return {"task": {"id": self.id, "name": self.task, **ended}}


EVENTS: dict[str, type[ModelEvent]] = {
    e.name: e for e in (ServerUpdated, ServerSiteUpdated, ServerProvisionUpdated, TaskCompleted)
}


def broadcast_name(event: ModelEvent, broadcast_as: bool) -> str:
    """The name on the wire: the class with its namespace, or (`broadcast_as`) its base name alone.

    Echo's `listen('ServerUpdated')` hears the first, `listen('.ServerUpdated')` only the second.
    """
    return event.name if broadcast_as else NAMESPACE + event.name


def to_wire(event: ModelEvent) -> dict[str, Any]:
    """What a queue keeps of an event."""
    return {"event": event.name, **asdict(event)}


def from_wire(tree: dict[str, Any]) -> ModelEvent:
    members = dict(tree)
    return EVENTS[members.pop("event")](**members)
