"""Model events: the one place from which changes of models become broadcasts.

`listen` hooks a session factory, so that no route and no job can forget to broadcast, or does it by itself. A flush is
Laravel's `save()`: per flush and per server or site at most one event, and one version more.

What counts as a change worth telling is each model's list of meaningful fields (`BROADCAST_FIELDS`), asked by `was_changed`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import event, inspect
from sqlalchemy.orm import Session, object_session, sessionmaker

from sim.brokeforge import queries
from sim.brokeforge.events import Event, ServerProvisionUpdated, ServerSiteUpdated, ServerUpdated, TaskCompleted
from sim.brokeforge.models import (
    LIVE_KINDS,
    Resource,
    Server,
    ServerEvent,
    ServerFirewall,
    ServerFirewallRule,
    ServerSite,
    Task,
)

Kind = Literal["created", "updated", "deleted"]

BROADCAST_FIELDS: dict[type, tuple[str, ...] | None] = {
    Server: (
        "provision",
        "provision_status",
        "connection",
        "monitoring_status",
        "scheduler_status",
        "supervisor_status",
    ),
    ServerSite: ("domain", "status", "health", "git_status", "ssl_enabled", "last_deployed_at"),
    ServerFirewall: None,
    ServerFirewallRule: None,
    ServerEvent: (),
    Task: ("status",),
}
"""Model -> its meaningful fields; None: all of them; empty: an update never tells."""

DOCUMENTED: dict[type, frozenset[Kind]] = {
    Server: frozenset({"updated"}),
    ServerSite: frozenset({"updated"}),
    ServerFirewall: frozenset({"created", "updated"}),
    ServerFirewallRule: frozenset({"created", "updated", "deleted"}),
    ServerEvent: frozenset({"created"}),
    Task: frozenset({"created", "updated"}),
}
"""The listeners that the pattern's document registers: no new server, no deleted server or firewall is ever told."""


@dataclass(slots=True)
class Change:
    """One saved change of one server or site. `sequence` is 0 until the commit gives it one."""

    kind: Kind
    resource: Resource
    fields: frozenset[str]
    events: tuple[Event, ...]
    version: int
    sequence: int = 0
    ended: tuple[Task, ...] = ()
    """Tasks that ended with this change; each is told of whole, on its own channel."""


@dataclass(frozen=True, slots=True)
class Observers:
    """How model events behave (`Scenario.broadcast`)."""

    all_fields: bool = False
    documented_only: bool = False
    provision_event: bool = True
    on_save: bool = False


def changed_fields(model: object) -> frozenset[str]:
    """The columns that a flush would write: set to something else than what was loaded."""
    state = inspect(model)
    # Only attributes that were set at all can have changed; asking each column's history would cost more than the flush.
    touched = state.committed_state.keys() & state.mapper.column_attrs.keys()
    return frozenset(name for name in touched if state.attrs[name].history.has_changes())


def was_changed(fields: Iterable[str], changed: frozenset[str]) -> bool:
    """Laravel's `wasChanged([...])`: any of *fields* is among the *changed*."""
    return not changed.isdisjoint(fields)


def resource_of(model: object) -> Resource | None:
    """Whose page a model is on: a rule's change is its server's."""
    match model:
        case Server() | ServerSite():
            return model
        case ServerFirewall():
            return model.server
        case ServerFirewallRule():
            return model.firewall.server
        case Task():
            return model.server
        case ServerEvent() if model.kind in LIVE_KINDS:
            return model.server or object_session(model).get(Server, model.server_id)  # type: ignore[union-attr]
    return None


def listen(
    sessions: sessionmaker[Session],
    observers: Observers,
    dispatch: Callable[[Change, dict[str, Any]], None],
    now: Callable[[], int],
) -> None:
    """Hook *sessions*. `dispatch(change, session.info)` is called once per change: after the commit, or (`on_save`) before it.

    Afterwards `session.info["changes"]` holds the transaction's changes and `["committed_at"]` the instant (`now()`, ns).
    """

    @event.listens_for(sessions, "before_flush")
    def collect(session: Session, context: Any, instances: Any) -> None:
        saved: dict[tuple[type, int], Change] = {}
        for kind, models in (("created", session.new), ("updated", session.dirty), ("deleted", session.deleted)):
            for model in list(models):
                if type(model) in BROADCAST_FIELDS:
                    _save(saved, kind, model, observers)  # type: ignore[arg-type]
        pending = session.info.setdefault("pending", [])
        for change in saved.values():
            change.version += 1
            # The deleted row's last version is told, but there is no row to write it to.
            if change.kind != "deleted":
                change.resource.version = change.version
            pending.append(change)
        session.info["fresh"] = list(saved.values())

    @event.listens_for(sessions, "after_flush_postexec")
    def saved(session: Session, context: Any) -> None:
        for change in session.info.pop("fresh", ()):
            change.events = _events(change, observers)
            if observers.on_save:
                dispatch(change, session.info)

    @event.listens_for(sessions, "before_commit")
    def number(session: Session) -> None:
        session.flush()
        pending = session.info.get("pending", ())
        if pending:
            last = _count_up(session, len(pending))
            for back, change in enumerate(reversed(pending)):
                change.sequence = last - back

    @event.listens_for(sessions, "after_commit")
    def committed(session: Session) -> None:
        session.info["committed_at"] = now()
        changes = session.info.pop("pending", [])
        session.info.setdefault("changes", []).extend(changes)
        for change in changes:
            if not observers.on_save:
                dispatch(change, session.info)

    @event.listens_for(sessions, "after_rollback")
    def dropped(session: Session) -> None:
        session.info.pop("pending", None)
        session.info.pop("fresh", None)


def _count_up(session: Session, by: int) -> int:
    """Take the next *by* sequence numbers; the last of them. Holds the counter's row until the commit."""
    connection = session.connection()
    if connection.dialect.update_returning:
        return int(connection.execute(queries.COUNT_UP_RETURNING, {"by": by}).scalar_one())
    connection.execute(queries.COUNT_UP, {"by": by})
    return int(connection.execute(queries.SEQUENCE).scalar_one())


def _save(saved: dict[tuple[type, int], Change], kind: Kind, model: object, observers: Observers) -> None:
    changed = changed_fields(model)
    if kind == "updated" and not changed:
        return
    resource = resource_of(model)
    if resource is None:
        return
    # A rule that is created updates its server; only the server's own row can be created or deleted.
    of_resource: Kind = kind if model is resource else "updated"
    telling = _tells(kind, model, changed, observers)
    key = (type(resource), id(resource))
    present = saved.get(key)
    if present is None:
        present = saved[key] = Change(of_resource, resource, frozenset(), (), resource.version or 0)
    if model is resource:
        present.kind = of_resource
        present.fields |= changed
    if isinstance(model, Task) and kind == "updated" and model.status in ("completed", "failed"):
        present.ended += (model,)
    # Filled in for real when the ids are known; until then a marker that something is to be told.
    if telling and not present.events:
        present.events = _TOLD


_TOLD: tuple[Event, ...] = (ServerUpdated(0),)


def _tells(kind: Kind, model: object, changed: frozenset[str], observers: Observers) -> bool:
    if observers.documented_only and kind not in DOCUMENTED[type(model)]:
        return False
    meaningful = BROADCAST_FIELDS[type(model)]
    # Only an update asks: on a created model Laravel's wasChanged is empty, and a deleted one has no changes.
    return kind != "updated" or observers.all_fields or meaningful is None or was_changed(meaningful, changed)


def _events(change: Change, observers: Observers) -> tuple[Event, ...]:
    if change.events is not _TOLD:
        return ()
    resource = change.resource
    if isinstance(resource, ServerSite):
        return (ServerSiteUpdated(resource.id, resource.user_id),)
    told: tuple[Event, ...] = (ServerUpdated(resource.id, resource.user_id),)
    if observers.provision_event and "provision" in change.fields and change.kind == "updated":
        told += (ServerProvisionUpdated(resource.id),)
    return told + tuple(
        TaskCompleted(task.id, task.name, task.status == "completed", task.completed_at or 0) for task in change.ended
    )
