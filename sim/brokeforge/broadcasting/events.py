"""What is broadcast: four events, as in the pattern's document.

An event knows its channels (`broadcast_on`), its name (`broadcast_name`) and its payload (`broadcast_with`, made when it is
sent: a queued event tells of the state and the time at which the worker runs). It holds ids only, as `SerializesModels` does.
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


def _dual(plural: str, id: int, user_id: int, switch: ChannelsSwitch) -> list[str]:
    """The specific channel and the generic one, or what the switch leaves of them."""
    specific = private(f"{plural}.{id}")
    match switch:
        case "specific":
            return [specific]
        case "generic":
            return [private(plural)]
        case "per_user":
            return [specific, private(f"users.{user_id}.{plural}")]
    return [specific, private(plural)]


@dataclass(frozen=True, slots=True)
class ServerUpdated:
    name: ClassVar[str] = "ServerUpdated"
    resource: ClassVar[str] = "server"
    server_id: int
    user_id: int = 0
    """The owner; needed for the channel per user only, and never in the payload."""

    @property
    def key(self) -> str:
        """What a unique or debounced dispatch is unique by."""
        return f"{self.name}:{self.server_id}"

    def broadcast_on(self, switch: ChannelsSwitch) -> list[str]:
        return _dual("servers", self.server_id, self.user_id, switch)

    def broadcast_with(self, now_ns: int) -> dict[str, Any]:
        return {"server_id": self.server_id, "timestamp": iso8601(now_ns)}


@dataclass(frozen=True, slots=True)
class ServerSiteUpdated:
    name: ClassVar[str] = "ServerSiteUpdated"
    resource: ClassVar[str] = "site"
    site_id: int
    user_id: int = 0

    @property
    def key(self) -> str:
        return f"{self.name}:{self.site_id}"

    def broadcast_on(self, switch: ChannelsSwitch) -> list[str]:
        return _dual("sites", self.site_id, self.user_id, switch)

    def broadcast_with(self, now_ns: int) -> dict[str, Any]:
        return {"site_id": self.site_id, "timestamp": iso8601(now_ns)}


@dataclass(frozen=True, slots=True)
class ServerProvisionUpdated:
    """For the provision page alone; it always goes to its one channel."""

    name: ClassVar[str] = "ServerProvisionUpdated"
    resource: ClassVar[str] = "server"
    server_id: int

    @property
    def key(self) -> str:
        return f"{self.name}:{self.server_id}"

    def broadcast_on(self, switch: ChannelsSwitch) -> list[str]:
        return [private(f"servers.{self.server_id}.provision")]

    def broadcast_with(self, now_ns: int) -> dict[str, Any]:
        return {"server_id": self.server_id, "timestamp": iso8601(now_ns)}


@dataclass(frozen=True, slots=True)
class TaskCompleted:
    """The alternative pattern: the whole (small) thing is in the payload, nothing is fetched."""

    name: ClassVar[str] = "TaskCompleted"
    resource: ClassVar[str] = "task"
    task_id: int
    task: str
    completed: bool = True
    completed_at: int = 0
    """Microseconds since 1970."""

    @property
    def key(self) -> str:
        return f"{self.name}:{self.task_id}"

    def broadcast_on(self, switch: ChannelsSwitch) -> list[str]:
        return [private(f"tasks.{self.task_id}")]

    def broadcast_with(self, now_ns: int) -> dict[str, Any]:
        return {
            "task": {
                "id": self.task_id,
                "name": self.task,
                "completed": self.completed,
                "completed_at": iso8601(self.completed_at * 1_000),
            }
        }


Event = ServerUpdated | ServerSiteUpdated | ServerProvisionUpdated | TaskCompleted
EVENTS: dict[str, type[Event]] = {e.name: e for e in (ServerUpdated, ServerSiteUpdated, ServerProvisionUpdated, TaskCompleted)}


def broadcast_name(event: Event, broadcast_as: bool) -> str:
    """The name on the wire: the class with its namespace, or (`broadcast_as`) its base name alone.

    Echo's `listen('ServerUpdated')` hears the first, `listen('.ServerUpdated')` only the second.
    """
    return event.name if broadcast_as else NAMESPACE + event.name


def to_wire(event: Event) -> dict[str, Any]:
    """What a queue keeps of an event."""
    return {"event": event.name, **asdict(event)}


def from_wire(tree: dict[str, Any]) -> Event:
    members = dict(tree)
    return EVENTS[members.pop("event")](**members)
