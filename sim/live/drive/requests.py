"""What the publisher sends for an update: a change through the application's routes, or the event itself to the broadcaster.

`Routes` measures the whole pattern; `Direct` the fan-out alone (no application, nothing is stored, no version to refetch).
Both can add the members for measuring: serial of the update, intended time, time just before the event was posted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

from sim.brokeforge.broadcasting.events import ServerSiteUpdated, ServerUpdated, broadcast_name
from sim.clock import SECOND
from sim.errors import BadInput
from sim.live.client import Answer, Origin
from sim.live.drive.changes import Changes
from sim.pusher import auth
from sim.scenario import Scenario
from sim.target import Key, Target, User
from sim.workload import Update


class Request(NamedTuple):
    """The arguments of `Connection.request`."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


class Receipt(NamedTuple):
    """What an answer says about the update. Instants in ns since 1970, 0: not known; versions -1: not known."""

    version: int = -1
    sequence: int = -1
    committed_at: int = 0
    published_at: int = 0
    broadcast: bool = True
    changed: bool = True
    """False: the target already was in the state that was asked for."""


class Via(Protocol):
    """A way to make updates happen."""

    origin: Origin
    ordered: bool
    """Whether changes of one resource must be made one after the other."""

    def resource_id(self, update: Update) -> int:
        """The number that tables hold for the workload's n-th resource of the target."""
        ...

    def request(self, serial: int, update: Update, intended_at: int, now: int) -> Request: ...

    def receipt(self, answer: Answer) -> Receipt: ...


class _Resources:
    """The workload counts servers and sites from 1; a target has ids of its own, and an owner for each; tables have numbers."""

    def __init__(self, target: Target) -> None:
        self.owners: dict[str, dict[Key, User]] = {"server": {}, "site": {}}
        for user in target.users:
            self.owners["server"] |= dict.fromkeys(user.servers, user)
            self.owners["site"] |= dict.fromkeys(user.sites, user)
        self.keys = {kind: target.keys(f"{kind}s") for kind in self.owners}
        self._numbers = {kind: sorted(map(self.keys[kind].number, owners)) for kind, owners in self.owners.items()}

    def number(self, update: Update) -> int:
        numbers = self._numbers[update.resource]
        return numbers[(update.resource_id - 1) % len(numbers)] if numbers else update.resource_id

    def id(self, update: Update) -> Key:
        return self.keys[update.resource].key(self.number(update))

    def owner(self, update: Update) -> User | None:
        return self.owners[update.resource].get(self.id(update))

    def require_owner(self, update: Update) -> User:
        """Raises `BadInput` for a resource that nobody of the target's users may change."""
        owner = self.owner(update)
        if owner is None:
            raise BadInput(
                f"target: no user owns a {update.resource}, so nobody may change it "
                "(add users to target.json, or set publisher.via to broadcaster or none)"
            )
        return owner


class Routes:
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
        self.origin = Origin.parse(target.api)
        self._resources = _Resources(target)
        self._changes = Changes()
        self._members = scenario.publisher.members

    def resource_id(self, update: Update) -> int:
        return self._resources.number(update)

    def request(self, serial: int, update: Update, intended_at: int, now: int) -> Request:
        id, owner = self._resources.id(update), self._resources.require_owner(update)
        method, path, body = self._changes.request(update, id)
        headers = [
            ("Authorization", f"Bearer {owner.token}"),
            ("Content-Type", "application/json"),
            ("Accept", "application/json"),
        ]
        if self._members:
            headers += [("X-Workbench-Update", str(serial)), ("X-Workbench-Sent", str(intended_at))]
        return Request(method, path, tuple(headers), json.dumps(body).encode())

    def receipt(self, answer: Answer) -> Receipt:
        try:
            tree = json.loads(answer.body) if answer.ok else {}
            self._changes.learn(tree)
            return Receipt(
                version=int(tree.get("version", -1)),
                sequence=int(tree.get("sequence", -1)),
                committed_at=int(tree.get("committed_at", 0)),
                published_at=int(tree.get("published_at", 0)),
                broadcast=bool(tree.get("broadcast", True)),
                changed=bool(tree.get("changed", True)),
            )
        except (ValueError, TypeError, AttributeError):
            return Receipt()


class Direct:
    """Posts the event to the broadcaster's HTTP API, signed, in place of the application."""

    ordered = False

    def __init__(self, target: Target, scenario: Scenario) -> None:
        self.origin = Origin.parse(target.http_url)
        self._target = target
        self._resources = _Resources(target)
        self._broadcast = scenario.broadcast
        self._members = scenario.publisher.members

    def resource_id(self, update: Update) -> int:
        return self._resources.number(update)

    def request(self, serial: int, update: Update, intended_at: int, now: int) -> Request:
        event = event_of(update.resource, self._resources.id(update), self._resources.owner(update))
        payload = event.broadcast_with(now)
        if self._broadcast.payload == "full" and self._broadcast.payload_bytes:
            # There is no application that could say what the resource looks like: its size is what the fan-out feels.
            payload["padding"] = "x" * self._broadcast.payload_bytes
        if self._members:
            payload |= {"update": serial, "sent_at": intended_at, "published_at": now}
        name = broadcast_name(event, self._broadcast.broadcast_as)
        return signed_event(self._target, name, event.broadcast_on(self._broadcast.channels), payload, now)

    def receipt(self, answer: Answer) -> Receipt:
        """The event is its own commit: it is there when it is sent, and published when the broadcaster has taken it."""
        return Receipt(committed_at=answer.started_at, published_at=answer.finished_at) if answer.ok else Receipt()


def event_of(resource: str, id: Key, owner: User | None) -> ServerUpdated | ServerSiteUpdated:
    """What a change of this resource is broadcast as."""
    kind: Any = ServerUpdated if resource == "server" else ServerSiteUpdated  # A foreign application's ids may be texts.
    event: ServerUpdated | ServerSiteUpdated = kind(id, owner.id if owner else 0)
    return event


def channel_finder(target: Target, scenario: Scenario) -> Callable[[str, int], list[str]]:
    """A function of resource and its number in tables: on which channels, as tables name them, its changes are broadcast."""
    resources, users = _Resources(target), target.keys("users")

    def channels(resource: str, number: int) -> list[str]:
        owner = resources.owners[resource].get(resources.keys[resource].key(number))
        kind = ServerUpdated if resource == "server" else ServerSiteUpdated
        return kind(number, users.number(owner.id) if owner else 0).broadcast_on(scenario.broadcast.channels)

    return channels


def signed_event(target: Target, name: str, channels: list[str], payload: Mapping[str, Any], now: int) -> Request:
    """`POST /apps/{id}/events`, signed at *now* (ns since 1970)."""
    path = f"/apps/{target.app_id}/events"
    data = json.dumps(payload, separators=(",", ":"))
    body = json.dumps({"name": name, "data": data, "channels": channels}, separators=(",", ":")).encode()
    query = auth.sign_request(target.key, target.secret, "POST", target.signed_path(path), {}, body, now // SECOND)
    return Request("POST", f"{path}?{query}", (("Content-Type", "application/json"),), body)


def via(target: Target, scenario: Scenario) -> Via:
    """The scenario's way (`publisher.via`)."""
    if scenario.publisher.via == "none":
        raise BadInput(f"scenario {scenario.name}: publisher.via is 'none', so there is nothing to drive")
    return Routes(target, scenario) if scenario.publisher.via == "routes" else Direct(target, scenario)
