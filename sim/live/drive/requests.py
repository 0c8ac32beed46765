"""What the publisher sends for an update: a change through the application's routes, or the event itself to the broadcaster.

`Routes` measures the whole pattern; `Direct` the fan-out alone (no application, nothing is stored, no version to refetch).
Both can add the members for measuring: serial of the update, intended time, time just before the event was posted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

from sim.brokeforge.broadcasting.events import ModelEvent, ServerSiteUpdated, ServerUpdated, TaskCompleted, broadcast_name
from sim.clock import SECOND
from sim.errors import BadInput
from sim.live.client import HttpAnswer, HttpOrigin
from sim.live.drive.changes import ChangeRequests
from sim.pusher import auth
from sim.resource_version import version_at
from sim.scenario import Broadcast, Scenario
from sim.target import Account, Key, Target
from sim.workload import Update


class Call(NamedTuple):
    """The arguments of `HttpConnection.request`."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


class Receipt(NamedTuple):
    """What an answer says about the update; None: it does not say. Instants in ns since 1970."""

    version: int | None = None
    sequence: int | None = None
    committed_at: int | None = None
    published_at: int | None = None
    broadcast: bool = True
    """False: the application has decided not to broadcast this change."""
    changed: bool | None = None
    """False: the target already was in the state that was asked for; None: it does not say."""
    refused: str = ""
    """Why the event was not accepted, though the status is that of a success; else what the answer says of its refusal."""
    tells: bool = False
    """Whether the answer would say when the event was published: then no `published_at` means not yet, or never."""


class _Resources:
    """The workload counts resources from 1; a target has ids of its own, and an owner for each; tables have numbers. A task has
    the id of its server."""

    def __init__(self, target: Target) -> None:
        lists = {"server": "servers", "site": "sites", "task": "servers"}
        self.owners: dict[str, dict[Key, Account]] = {
            kind: {id: user for user in target.users for id in user.ids(name)} for kind, name in lists.items()
        }
        self.keys = {kind: target.keys(name) for kind, name in lists.items()}
        self._users = target.keys("users")
        self._numbers = {kind: sorted(map(self.keys[kind].number, owners)) for kind, owners in self.owners.items()}

    def number(self, update: Update) -> int:
        numbers = self._numbers[update.resource]
        return numbers[(update.resource_id - 1) % len(numbers)] if numbers else update.resource_id

    def id(self, update: Update) -> Key:
        return self.keys[update.resource].key(self.number(update))

    def owner(self, update: Update) -> Account | None:
        return self.owners[update.resource].get(self.id(update))

    def channels(self, update: Update, broadcast: Broadcast) -> list[str]:
        owner = self.owner(update)
        return _event(update, self.number(update), self._users.number(owner.id) if owner else 0).broadcast_on(broadcast.channels)

    def event(self, update: Update) -> ModelEvent:
        """What the change is broadcast as."""
        owner = self.owner(update)
        return _event(update, self.id(update), owner.id if owner else 0)

    def require_owner(self, update: Update) -> Account:
        """Raises `BadInput` for a resource that nobody of the target's users may change."""
        owner = self.owner(update)
        if owner is None:
            raise BadInput(
                f"target: no user owns a {update.resource}, so nobody may change it "
                "(add users to target.json, or set publisher.via to broadcaster or none)"
            )
        return owner


def _event(update: Update, id: Any, user: Any) -> ModelEvent:
    """A foreign application's ids may be texts."""
    match update.resource:
        case "server":
            return ServerUpdated(id, user)
        case "site":
            return ServerSiteUpdated(id, user)
    return TaskCompleted(id, "backup", update.status == "completed", update.at_ns // 1_000)


class Via:
    """A way to make updates happen."""

    ordered: ClassVar[bool]
    """Whether changes of one resource must be made one after the other."""

    def __init__(self, origin: HttpOrigin, target: Target, scenario: Scenario) -> None:
        self.origin = origin
        self._target = target
        self._scenario = scenario
        self._resources = _Resources(target)

    def resource_id(self, update: Update) -> int:
        """The number that tables hold for the workload's n-th resource of the target."""
        return self._resources.number(update)

    def channels(self, update: Update) -> list[str]:
        """On which its event is broadcast by the scenario, as tables name them: with numbers for ids."""
        return self._resources.channels(update, self._scenario.broadcast)

    def request(self, serial: int, update: Update, intended_at: int, now: int) -> Call:
        raise NotImplementedError

    def receipt(self, answer: HttpAnswer) -> Receipt:
        raise NotImplementedError


class Routes(Via):
    """Changes a model through the application, as its owner."""

    ordered = True

    def __init__(self, target: Target, scenario: Scenario) -> None:
        if not target.api:
            raise BadInput("target: no application (api is empty); set publisher.via to broadcaster or none")
        if not any(user.servers or user.sites for user in target.users):
            raise BadInput(
                "target: it names no user with a server, so nobody may change anything: add users to target.json, "
                "or publish to the broadcaster (--direct), or only listen (--passive)"
            )
        super().__init__(HttpOrigin.parse(target.api), target, scenario)
        self._changes = ChangeRequests()

    def request(self, serial: int, update: Update, intended_at: int, now: int) -> Call:
        id, owner = self._resources.id(update), self._resources.require_owner(update)
        method, path, body = self._changes.request(update, id)
        headers = [
            ("Authorization", f"Bearer {owner.token}"),
            ("Content-Type", "application/json"),
            ("Accept", "application/json"),
        ]
        if self._scenario.publisher.members:
            headers += [("X-Workbench-Update", str(serial)), ("X-Workbench-Sent", str(intended_at))]
        return Call(method, path, tuple(headers), json.dumps(body).encode())

    def receipt(self, answer: HttpAnswer) -> Receipt:
        try:
            tree = json.loads(answer.body)
        except (ValueError, RecursionError):
            return Receipt()
        if not isinstance(tree, dict):
            return Receipt()
        if not answer.ok:
            return Receipt(refused=said if isinstance(said := tree.get("message"), str) else "")
        self._changes.learn(tree)
        version = version_at(tree, (self._scenario.load.version or "version").split("."))
        return Receipt(
            version=version.order if version else None,
            sequence=_number(tree.get("sequence")),
            committed_at=_instant(tree.get("committed_at")),
            published_at=_instant(tree.get("published_at")),
            broadcast=tree.get("broadcast") is not False,
            changed=changed if isinstance(changed := tree.get("changed"), bool) else None,
            tells="published_at" in tree,
        )


def _number(value: Any) -> int | None:
    """A version or a sequence number; None for what is none, and for what no table can hold."""
    return value if type(value) is int and 0 <= value < 1 << 63 else None


def _instant(value: Any) -> int | None:
    """Nanoseconds since 1970; None for 0 as well, which stands for "not yet"."""
    return _number(value) or None


class Direct(Via):
    """Posts the event to the broadcaster's HTTP API, signed, in place of the application."""

    ordered = False

    def __init__(self, target: Target, scenario: Scenario) -> None:
        super().__init__(HttpOrigin.parse(target.http_url), target, scenario)

    def request(self, serial: int, update: Update, intended_at: int, now: int) -> Call:
        event, broadcast = self._resources.event(update), self._scenario.broadcast
        payload = event.broadcast_with(now)
        if broadcast.payload_bytes and (broadcast.payload == "full" or update.resource == "task"):
            # There is no application that could say what the resource looks like: its size is what the fan-out feels.
            payload["padding"] = "x" * broadcast.payload_bytes
        if self._scenario.publisher.members:
            payload |= {"update": serial, "sent_at": intended_at, "published_at": now}
        name = broadcast_name(event, broadcast.broadcast_as)
        return signed_event(self._target, name, event.broadcast_on(broadcast.channels), payload, now)

    def receipt(self, answer: HttpAnswer) -> Receipt:
        """The event is its own commit: it is there when it is sent, and published when the broadcaster has taken it."""
        if not answer.ok or (refused := refusal(answer)[1]):
            return Receipt(refused=refused if answer.ok else "")
        return Receipt(committed_at=answer.started_at, published_at=answer.finished_at, changed=True, tells=True)


def refusal(answer: HttpAnswer) -> tuple[int, str]:
    """(status, text) where a broadcaster refuses an event with a status of success: soketi has the real one in the body, and a
    web page is no broadcaster's. (0, "") where it was accepted."""
    try:
        tree = json.loads(answer.body) if answer.body else {}
    except (ValueError, RecursionError):
        tree = None
    if not isinstance(tree, dict):
        return 200, "not what a broadcaster answers"
    error, code = tree.get("error"), tree.get("code")
    return (code if isinstance(code, int) else 400, str(error)) if error else (0, "")


def signed_event(target: Target, name: str, channels: list[str], payload: Mapping[str, Any], now: int) -> Call:
    """`POST /apps/{id}/events`, signed at *now* (ns since 1970)."""
    path = f"/apps/{target.app_id}/events"
    data = json.dumps(payload, separators=(",", ":"))
    body = json.dumps({"name": name, "data": data, "channels": channels}, separators=(",", ":")).encode()
    query = auth.sign_request(target.key, target.secret, "POST", target.signed_path(path), {}, body, now // SECOND)
    return Call("POST", f"{path}?{query}", (("Content-Type", "application/json"),), body)


def via(target: Target, scenario: Scenario) -> Via:
    """The scenario's way (`publisher.via`)."""
    if scenario.publisher.via == "none":
        raise BadInput(f"scenario {scenario.name}: publisher.via is 'none', so there is nothing to drive")
    return Routes(target, scenario) if scenario.publisher.via == "routes" else Direct(target, scenario)
