"""What can be asked about an app's channels, and how the answers of several nodes become one.

A query is a JSON-able object, so that it travels between nodes; so is each node's answer:

    {"kind": "connections"}                        -> number
    {"kind": "channels", "names": [...]}           -> {name: facts}
    {"kind": "channels", "prefix": "presence-"}    -> {name: facts}, occupied channels only

facts = {"subscriptions": n, "users": [user id, ...] (presence kinds), "cache": frame's text (cache kinds)}.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sim.pusher import messages
from sim.pusher.server.state import Channel, Space

Facts = dict[str, Any]


def answer(space: Space, query: Mapping[str, Any], now: int) -> Any:
    """This node's answer."""
    if query["kind"] == "connections":
        return sum(1 for _ in space.subscribed())
    if "names" in query:
        names = [name for name in query["names"] if name in space.channels]
    else:
        names = [name for name in space.channels if name.startswith(query["prefix"])]
    return {name: _facts(space, space.channels[name], now) for name in names}


def _facts(space: Space, channel: Channel, now: int) -> Facts:
    facts: Facts = {"subscriptions": len(channel.subscribers)}
    if channel.kind.presence:
        facts["users"] = [member.data["user_id"] for member in channel.members.values()]
    if channel.kind.cache:
        facts["cache"] = space.recall(channel.name, now)
    return facts


def merge(kind: str, answers: Iterable[Any]) -> Any:
    """One answer of the nodes' answers: counts are summed, users are united by id."""
    if kind == "connections":
        return sum(answers)
    merged: dict[str, Facts] = {}
    for answer_ in answers:
        for name, facts in answer_.items():
            known = merged.setdefault(name, {"subscriptions": 0})
            known["subscriptions"] += facts["subscriptions"]
            if "users" in facts:
                ids = {str(user_id): user_id for user_id in known.get("users", [])}
                known["users"] = list((ids | {str(u): u for u in facts["users"] if str(u) not in ids}).values())
            if facts.get("cache") is not None:
                known["cache"] = facts["cache"]
    return merged


def describe(facts: Facts | None, info: Iterable[str]) -> dict[str, Any]:
    """The attributes of one channel that *info* asks for and that apply to its kind."""
    wanted = set(info)
    count = facts["subscriptions"] if facts else 0
    users = facts.get("users") if facts else None
    described: dict[str, Any] = {}
    if "occupied" in wanted:
        described["occupied"] = bool(count or users)
    if facts is None or not (count or users):
        return described
    if "user_count" in wanted and users is not None:
        described["user_count"] = len(users)
    if "subscription_count" in wanted and users is None:
        described["subscription_count"] = count
    if "cache" in wanted and facts.get("cache") is not None:
        described["cache"] = messages.loads(facts["cache"])
    return described
