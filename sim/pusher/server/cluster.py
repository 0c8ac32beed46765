"""Several nodes as one broadcaster: what they tell each other, without the bus that carries it.

A node sends JSON objects to all others; each has `type` and `node`, the sender's id.

    message     app, channel, frame, socket_id     deliver to local subscribers, except that socket
    terminate   app, user_id                       end that user's connections
    arrival     app, channel, user                 a user's first subscription there to a presence channel
    departure   app, channel, user_id              the last one
    hello       state                              a node has come (back): answer with `state`
    state       to, state                          all users present there: {app: {channel: [channel_data, ...]}}
    alive                                          every `BEAT_SECONDS`
    bye                                            a clean end
    query       id, app, query                     answer from local state (see `queries`)
    answer      to, id, value

What is published is delivered here at once and sent to the others, so each subscriber of each node gets it once, and this node's
subscribers get it even while the bus is away. Presence is global: every node knows who is present on the others. A node that is
silent for `NODE_SECONDS` is dead, and its users have departed; time without a bus does not count.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sim.pusher.server import queries
from sim.pusher.server.api import HttpApi
from sim.pusher.server.channels import kind_of
from sim.pusher.server.hub import SECOND, Hub
from sim.pusher.server.state import Channel, Space

BEAT_SECONDS = 1
NODE_SECONDS = 4
QUERY_SECONDS = 1
"""A query is answered with what came until then."""

State = dict[str, dict[str, list[dict[str, Any]]]]


@dataclass(slots=True)
class Pending:
    """A query on its way."""

    kind: str
    answers: list[Any]
    waiting: set[str]
    deadline: int
    done: Callable[[Any], None]


class Cluster:
    """This node's part. Its owner calls `joined` and `lost` as the bus comes and goes, `receive` for each message, `tick` about
    twice a second, and `leave` at the end."""

    def __init__(self, hub: Hub, api: HttpApi, node: str, send: Callable[[str], None]) -> None:
        self.hub = hub
        self.node = node
        self._send_text = send
        self.nodes: dict[str, int] = {}
        """Other nodes, and when each was last heard."""
        self._members: dict[str, set[tuple[str, str, str]]] = {}
        """Node -> (app, channel, user id) present there."""
        self._queries: dict[str, Pending] = {}
        self._serial = 0
        self._connected = False
        self._beat_due = 0
        api.ask = self.ask
        api.announce = lambda space, message: self._send(message | {"app": space.app.id})
        hub.on_client_event = lambda space, channel, frame, socket_id: self._send(
            {"type": "message", "app": space.app.id, "channel": channel, "frame": frame, "socket_id": socket_id}
        )
        if not hub.faithful:
            hub.on_arrival = lambda space, channel, user: self._send(
                {"type": "arrival", "app": space.app.id, "channel": channel.name, "user": user}
            )
            hub.on_departure = lambda space, channel, user_id: self._send(
                {"type": "departure", "app": space.app.id, "channel": channel.name, "user_id": user_id}
            )

    def _send(self, message: dict[str, Any]) -> None:
        self._send_text(json.dumps(message | {"node": self.node}, separators=(",", ":")))

    # ---- the bus

    def joined(self, now: int) -> None:
        """The bus is there (again): everybody gets a fresh chance to be heard, and learns who is present here."""
        self._connected = True
        self.nodes = dict.fromkeys(self.nodes, now)
        self._beat_due = now + BEAT_SECONDS * SECOND
        self._send({"type": "hello", "state": self.state()})

    def lost(self) -> None:
        self._connected = False

    def leave(self) -> None:
        self._send({"type": "bye"})

    def tick(self, now: int) -> None:
        for key in [key for key, pending in self._queries.items() if now >= pending.deadline]:
            self._finish(key)
        if not self._connected:
            return
        if now >= self._beat_due:
            self._beat_due = now + BEAT_SECONDS * SECOND
            self._send({"type": "alive"})
        for node in [node for node, heard in self.nodes.items() if now - heard > NODE_SECONDS * SECOND]:
            self._forget(node)

    def receive(self, text: str, now: int) -> None:
        """A message from the bus; this node's own come back and are ignored. What makes no sense is ignored as well."""
        try:
            message = json.loads(text)
            node, arm = message["node"], ARMS[message["type"]]
            if node == self.node or message.get("to", self.node) != self.node:
                return
            if node not in self.nodes and message["type"] not in ("hello", "state", "bye"):
                self._send({"type": "hello", "state": self.state()})  # an unknown node: exchange states
            self.nodes[node] = now
            arm(self, node, message, now)
        except (ValueError, KeyError, TypeError, AttributeError):
            return

    # ---- what others say

    def _space(self, message: Mapping[str, Any]) -> Space:
        return self.hub.spaces[message["app"]]

    def _message(self, node: str, message: Mapping[str, Any], now: int) -> None:
        self.hub.deliver(self._space(message), message["channel"], message["frame"], message["socket_id"], now)

    def _terminate(self, node: str, message: Mapping[str, Any], now: int) -> None:
        self.hub.terminate(self._space(message), message["user_id"])

    def _arrival(self, node: str, message: Mapping[str, Any], now: int) -> None:
        space, name, user = self._space(message), message["channel"], message["user"]
        channel = space.channels.get(name)
        if channel is None:
            channel = space.channels[name] = Channel(name, kind_of(name))
        self._members.setdefault(node, set()).add((space.app.id, name, str(user["user_id"])))
        if channel.arrive(user, node):
            self.hub.member_added(channel, user)

    def _departure(self, node: str, message: Mapping[str, Any], now: int) -> None:
        entry = (message["app"], message["channel"], str(message["user_id"]))
        self._members.get(node, set()).discard(entry)
        self._depart(node, entry)

    def _depart(self, node: str, entry: tuple[str, str, str]) -> None:
        app_id, name, user_id = entry
        space = self.hub.spaces[app_id]
        channel = space.channels.get(name)
        if channel is None:
            return
        member = channel.members.get(user_id)
        if channel.depart(user_id, node) and member is not None:
            self.hub.member_removed(channel, member.data["user_id"])
        if channel.vacant:
            space.channels.pop(name, None)

    def _hello(self, node: str, message: Mapping[str, Any], now: int) -> None:
        self._state(node, message, now)
        self._send({"type": "state", "to": node, "state": self.state()})

    def _state(self, node: str, message: Mapping[str, Any], now: int) -> None:
        """All users present there: one that is new has arrived, one that is missing has departed."""
        present = {
            (app_id, name, str(user["user_id"])): user
            for app_id, channels in message["state"].items()
            for name, users in channels.items()
            for user in users
        }
        for entry in self._members.get(node, set()) - set(present):
            self._members[node].discard(entry)
            self._depart(node, entry)
        for (app_id, name, _), user in present.items():
            self._arrival(node, {"app": app_id, "channel": name, "user": user}, now)

    def _alive(self, node: str, message: Mapping[str, Any], now: int) -> None:
        """Being heard was noted already."""

    def _bye(self, node: str, message: Mapping[str, Any], now: int) -> None:
        self._forget(node)

    def _forget(self, node: str) -> None:
        self.nodes.pop(node, None)
        for entry in self._members.pop(node, set()):
            self._depart(node, entry)
        for key, pending in list(self._queries.items()):
            self._heard(key, pending, node)

    # ---- queries

    def ask(self, space: Space, query: Mapping[str, Any], now: int, done: Callable[[Any], None]) -> None:
        """*done* gets the merged answer of all nodes, at once when there is no other."""
        own = queries.answer(space, query, now)
        if not self.nodes or not self._connected:
            done(own)
            return
        self._serial += 1
        key = str(self._serial)
        self._queries[key] = Pending(query["kind"], [own], set(self.nodes), now + QUERY_SECONDS * SECOND, done)
        self._send({"type": "query", "id": key, "app": space.app.id, "query": query})

    def _query(self, node: str, message: Mapping[str, Any], now: int) -> None:
        value = queries.answer(self._space(message), message["query"], now)
        self._send({"type": "answer", "to": node, "id": message["id"], "value": value})

    def _answer(self, node: str, message: Mapping[str, Any], now: int) -> None:
        pending = self._queries.get(message["id"])
        if pending is not None and node in pending.waiting:
            pending.answers.append(message["value"])
            self._heard(message["id"], pending, node)

    def _heard(self, key: str, pending: Pending, node: str) -> None:
        pending.waiting.discard(node)
        if not pending.waiting:
            self._finish(key)

    def _finish(self, key: str) -> None:
        pending = self._queries.pop(key)
        pending.done(queries.merge(pending.kind, pending.answers))

    # ---- presence

    def state(self) -> State:
        """Who is present on this node."""
        if self.hub.faithful:
            return {}
        state: State = {}
        for app_id, space in self.hub.spaces.items():
            channels = {
                name: [member.data for member in channel.members.values() if member.local]
                for name, channel in space.channels.items()
                if channel.kind.presence
            }
            state[app_id] = {name: users for name, users in channels.items() if users}
        return state


ARMS: dict[str, Callable[[Cluster, str, Mapping[str, Any], int], None]] = {
    "message": Cluster._message,
    "terminate": Cluster._terminate,
    "arrival": Cluster._arrival,
    "departure": Cluster._departure,
    "hello": Cluster._hello,
    "state": Cluster._state,
    "alive": Cluster._alive,
    "bye": Cluster._bye,
    "query": Cluster._query,
    "answer": Cluster._answer,
}
