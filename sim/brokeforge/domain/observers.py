"""Model events: the one place from which changes of models become broadcasts.

`listen` hooks a session factory, so that no route and no job can forget to broadcast, or does it by itself. A flush is
Laravel's `save()`: per flush and per resource at most one event, and one version more. A transaction goes through

    before_flush    collect: which resources change, and whether that is worth an event; each gets its next version
    after_flush     saved: the events are made, as new rows have ids now; with `on_save` they leave here
    before_commit   number: each change gets its sequence number, which orders them as the commits are
    after_commit    committed: the events leave (unless they have)
    after_rollback  dropped: nothing has happened

A change is broadcast where one of its model's meaningful fields has changed (`BROADCAST_FIELDS`, asked by `was_changed`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from sqlalchemy import event, insert, inspect
from sqlalchemy.orm import Session, object_session, sessionmaker

from sim.brokeforge.broadcasting.events import ModelEvent, ServerProvisionUpdated, ServerSiteUpdated, ServerUpdated, TaskCompleted
from sim.brokeforge.domain import change_set, queries
from sim.brokeforge.domain.change_set import ChangeKind, ChangeSet, ResourceChange
from sim.brokeforge.domain.models import (
    LIVE_KINDS,
    Counter,
    Resource,
    Server,
    ServerEvent,
    ServerFirewall,
    ServerFirewallRule,
    ServerSite,
    Task,
)
from sim.scenario import Broadcast

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
    Task: ("status", "completed_at"),
}
"""Model -> its meaningful fields; None: all of them; empty: an update is never broadcast."""

DOCUMENTED: dict[type, frozenset[ChangeKind]] = {
    Server: frozenset({"updated"}),
    ServerSite: frozenset({"updated"}),
    ServerFirewall: frozenset({"created", "updated"}),
    ServerFirewallRule: frozenset({"created", "updated", "deleted"}),
    ServerEvent: frozenset({"created"}),
    Task: frozenset({"created", "updated"}),
}
"""The listeners that the pattern's document registers: no new server, no deleted server or firewall is ever broadcast."""


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
    """The resource on whose page a model is shown: for a rule, its server."""
    match model:
        case Server() | ServerSite():
            return model
        case ServerFirewall():
            return model.server
        case ServerFirewallRule():
            return model.firewall.server
        case Task():
            return model if model.recurring else model.server
        case ServerEvent() if model.kind in LIVE_KINDS:
            return model.server or object_session(model).get(Server, model.server_id)  # type: ignore[union-attr]
    return None


def listen(
    sessions: sessionmaker[Session],
    settings: Broadcast,
    dispatch: Callable[[ResourceChange, ChangeSet], None],
    now: Callable[[], int],
) -> None:
    """Hook *sessions*; *settings* say which changes raise events, and when.

    `dispatch(change, change_set)` is called once per change: after the commit, or (`on_save`) before it.

    Afterwards the session's `ChangeSet` holds the committed changes and the instant of the commit (`now()`, ns).
    """

    @event.listens_for(sessions, "before_flush")
    def collect(session: Session, context: Any, instances: Any) -> None:
        saved: dict[Resource, ResourceChange] = {}
        for kind, models in (("created", session.new), ("updated", session.dirty), ("deleted", session.deleted)):
            for model in list(models):
                if type(model) in BROADCAST_FIELDS:
                    _save(saved, kind, model, settings)  # type: ignore[arg-type]
        changes = change_set.of(session)
        for change in saved.values():
            change.version += 1
            # The deleted row's last version is broadcast, but there is no row to write it to.
            if change.kind != "deleted":
                change.resource.version = change.version
        changes.flushed = list(saved.values())
        changes.pending += changes.flushed

    @event.listens_for(sessions, "after_flush_postexec")
    def saved(session: Session, context: Any) -> None:
        changes = change_set.of(session)
        flushed, changes.flushed = changes.flushed, []
        for change in flushed:
            change.events = _events(change, settings)
            if settings.moment == "on_save":
                dispatch(change, changes)

    @event.listens_for(sessions, "before_commit")
    def number(session: Session) -> None:
        session.flush()
        pending = change_set.of(session).pending
        if pending:
            last = _count_up(session, len(pending))
            for back, change in enumerate(reversed(pending)):
                change.sequence = last - back
            # No dashboard shows a task.
            shown = [change for change in pending if not isinstance(change.resource, Task)]
            _note_newest(session, {change.resource.user_id: change.sequence for change in shown})

    @event.listens_for(sessions, "after_commit")
    def committed(session: Session) -> None:
        changes = change_set.of(session)
        changes.committed_at = now()
        done, changes.pending = changes.pending, []
        changes.committed += done
        if settings.moment != "on_save":
            for change in done:
                dispatch(change, changes)

    @event.listens_for(sessions, "after_rollback")
    def dropped(session: Session) -> None:
        change_set.of(session).forget()


def _count_up(session: Session, by: int) -> int:
    """Take the next *by* sequence numbers; the last of them. Holds the counter's row until the commit."""
    connection = session.connection()
    if connection.dialect.update_returning:
        return int(connection.execute(queries.COUNT_UP_RETURNING, {"by": by}).scalar_one())
    connection.execute(queries.COUNT_UP, {"by": by})
    return int(connection.execute(queries.SEQUENCE).scalar_one())


def _note_newest(session: Session, newest: dict[int, int | None]) -> None:
    """Write down each user's newest change, which is the version of their dashboard. Under the counter's lock, so in order."""
    connection = session.connection()
    for user, sequence in newest.items():
        row = {"counter": queries.newest_of(user), "sequence": sequence}
        if connection.execute(queries.SET_NEWEST, row).rowcount == 0:
            connection.execute(insert(Counter), {"name": row["counter"], "value": sequence})


def _save(saved: dict[Resource, ResourceChange], kind: ChangeKind, model: object, settings: Broadcast) -> None:
    changed = changed_fields(model)
    if kind == "updated" and not changed:
        return
    resource = resource_of(model)
    if resource is None:
        return
    # A rule that is created updates its server; only the server's own row can be created or deleted.
    of_resource: ChangeKind = kind if model is resource else "updated"
    broadcasts = _is_broadcast(kind, model, changed, settings)
    present = saved.get(resource)
    if present is None:
        present = saved[resource] = ResourceChange(of_resource, resource, resource.version or 0)
    if model is resource:
        present.kind = of_resource
        present.fields |= changed
    if isinstance(model, Task) and kind == "updated" and model.status in ("completed", "failed"):
        present.ended += (model,)
    present.broadcasts |= broadcasts


def _is_broadcast(kind: ChangeKind, model: object, changed: frozenset[str], settings: Broadcast) -> bool:
    if settings.listeners == "documented" and kind not in DOCUMENTED[type(model)]:
        return False
    meaningful = BROADCAST_FIELDS[type(model)]
    # Only an update asks: on a created model Laravel's wasChanged is empty, and a deleted one has no changes.
    return kind != "updated" or settings.all_fields or meaningful is None or was_changed(meaningful, changed)


def _events(change: ResourceChange, settings: Broadcast) -> tuple[ModelEvent, ...]:
    """The events of a saved change; a created row has its id only now."""
    if not change.broadcasts:
        return ()
    resource = change.resource
    if isinstance(resource, ServerSite):
        return (ServerSiteUpdated(resource.id, resource.user_id),)
    ended = tuple(TaskCompleted(task.id, task.name, task.status == "completed", task.completed_at or 0) for task in change.ended)
    if isinstance(resource, Task):
        return ended
    events: tuple[ModelEvent, ...] = (ServerUpdated(resource.id, resource.user_id),)
    if settings.provision_event and "provision" in change.fields and change.kind == "updated":
        events += (ServerProvisionUpdated(resource.id),)
    return events + ended
