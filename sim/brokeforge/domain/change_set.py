"""What one transaction changed, and for whom: the one thing that database, observers, application and handlers share of it.

A session has exactly one (`of(session)`). The database makes it, the observers fill it, the handlers read it after the commit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy.orm import Session

from sim.brokeforge.broadcasting.events import ModelEvent
from sim.brokeforge.domain.models import Resource, Task

ChangeKind = Literal["created", "updated", "deleted"]

KEY = "change_set"


@dataclass(slots=True)
class ResourceChange:
    """One saved change of one resource."""

    kind: ChangeKind
    resource: Resource
    version: int
    fields: frozenset[str] = frozenset()
    broadcasts: bool = False
    """A meaningful field changed: there will be events."""
    events: tuple[ModelEvent, ...] = ()
    """Made when the row is written, as a new row has its id only then."""
    sequence: int | None = None
    """Its number among all changes; None until the commit gives it one."""
    ended: tuple[Task, ...] = ()
    """Tasks that ended with this change; each is broadcast whole, on its own channel."""


@dataclass(slots=True)
class ChangeSet:
    """One transaction's changes, from the first save to what came of the broadcast."""

    socket_id: str | None = None
    """The connection that `toOthers` leaves out."""
    members: dict[str, Any] = field(default_factory=dict)
    """Members for measuring, for every event's payload."""
    flushed: list[ResourceChange] = field(default_factory=list)
    """Changes of the flush in hand, whose events are not made yet."""
    pending: list[ResourceChange] = field(default_factory=list)
    """Saved, not committed."""
    committed: list[ResourceChange] = field(default_factory=list)
    committed_at: int | None = None
    """ns since 1970; None: not committed."""
    published_at: int | None = None
    """When the broadcaster accepted the first event, ns since 1970; None: not yet, or never."""
    on_its_way: bool = False
    """At least one event was accepted, or is still to be sent."""
    now: Callable[[], int] | None = None
    """The clock that `lock_taken` reads."""
    locked_at: int | None = None
    """When the transaction had its first lock, ns; None: not yet."""
    end_turn: Callable[[], None] | None = None
    """Lets the next writer of the embedded file begin; None: it was called, or there is no such turn."""

    def lock_taken(self) -> None:
        """The transaction has a lock now; the first one counts."""
        if self.locked_at is None and self.now is not None:
            self.locked_at = self.now()

    def forget(self) -> None:
        """The transaction was rolled back."""
        self.flushed.clear()
        self.pending.clear()


def of(session: Session) -> ChangeSet:
    """The session's change set; one that was made elsewhere has an empty one."""
    found: ChangeSet = session.info.setdefault(KEY, ChangeSet())
    return found
