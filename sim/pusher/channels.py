"""Channels: what a name means, who is subscribed, who is present.

The kind follows from the name's prefix, first match wins. Reverb tests the short prefixes without their dash (`privateer` is
a private channel there); the clean rule is that of Pusher and of pusher-js, with the dash.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sim.pusher import messages

if TYPE_CHECKING:
    from sim.pusher.outbox import Run
    from sim.pusher.space import Connection


@dataclass(frozen=True, slots=True)
class Kind:
    """What a channel of this kind does. `private-encrypted-` is private: its payloads are opaque to the server."""

    guarded: bool = False
    """A subscription needs a signature."""
    presence: bool = False
    """Members are known by user id; the others are told of arrivals and departures."""
    cache: bool = False
    """A new subscriber gets the last event."""


PUBLIC = Kind()

KINDS = (
    ("private-cache-", Kind(guarded=True, cache=True)),
    ("presence-cache-", Kind(guarded=True, presence=True, cache=True)),
    ("cache-", Kind(cache=True)),
    ("private-", Kind(guarded=True)),
    ("presence-", Kind(guarded=True, presence=True)),
)
LOOSE_KINDS = tuple((prefix if prefix.count("-") > 1 else prefix.rstrip("-"), kind) for prefix, kind in KINDS)


def kind_of(name: str, loose: bool = False) -> Kind:
    """*loose*: Reverb's prefixes without the dash."""
    for prefix, kind in LOOSE_KINDS if loose else KINDS:
        if name.startswith(prefix):
            return kind
    return PUBLIC


@dataclass(slots=True)
class Member:
    """One user id on a presence channel: what they showed of themselves first, and by how many subscriptions."""

    data: dict[str, Any]
    """The decoded `channel_data`: `user_id`, `user_info` and whatever else the application signed."""
    local: int = 0
    """Subscriptions on this node."""
    nodes: frozenset[str] = frozenset()
    """Other nodes that have some."""

    @property
    def gone(self) -> bool:
        return not self.local and not self.nodes


class Channel:
    """One channel of one app on this node. It exists while it has a subscriber here, or a member on another node."""

    __slots__ = ("_snapshot", "cached", "kind", "members", "name", "run", "subscribers")

    def __init__(self, name: str, kind: Kind) -> None:
        self.name = name
        self.kind = kind
        self.subscribers: dict[Connection, dict[str, Any]] = {}
        """Connection -> its decoded `channel_data` (empty when it gave none)."""
        self.members: dict[str, Member] = {}
        self.cached: str | None = None
        """The last event as a frame's text, on cache channels."""
        self.run: Run | None = None
        """The delivery that the next frame may still join (see `outbox`)."""
        self._snapshot: tuple[Connection, ...] | None = None

    def add(self, connection: Connection, data: dict[str, Any]) -> None:
        self.subscribers[connection] = data
        self._snapshot = self.run = None

    def remove(self, connection: Connection) -> dict[str, Any] | None:
        """The data it was subscribed with; None when it was not."""
        data = self.subscribers.pop(connection, None)
        if data is not None:
            self._snapshot = self.run = None
        return data

    def snapshot(self) -> tuple[Connection, ...]:
        """The subscribers at this moment; made anew only after somebody came or went."""
        if self._snapshot is None:
            self._snapshot = tuple(self.subscribers)
        return self._snapshot

    @property
    def vacant(self) -> bool:
        return not self.subscribers and not self.members

    # ---- presence

    def arrive(self, data: dict[str, Any], node: str | None = None) -> bool:
        """Count one more subscription of `data["user_id"]` (*node* None: here). True when it is the user's first anywhere."""
        key = str(data["user_id"])
        member = self.members.get(key)
        first = member is None
        if member is None:
            member = self.members[key] = Member(data)
        if node is None:
            member.local += 1
        else:
            member.nodes |= {node}
        return first

    def depart(self, user_id: Any, node: str | None = None) -> bool:
        """Count one less. True when it was the user's last anywhere."""
        key = str(user_id)
        member = self.members.get(key)
        if member is None:
            return False
        if node is None:
            member.local -= 1
        else:
            member.nodes -= {node}
        if member.gone:
            del self.members[key]
        return member.gone

    def roster(self) -> dict[str, Any]:
        """The `presence` member of `subscription_succeeded`."""
        return messages.presence_roster((m.data["user_id"], m.data.get("user_info")) for m in self.members.values())
