"""The frames of the Pusher protocol (version 7), as texts: what a server sends, what a client sends, and how either reads.

A server's frames are, byte for byte, those of Laravel Reverb: compact JSON as PHP writes it (`/` as `\\/`, everything beyond
ASCII as `\\uXXXX`) and `data` as a *string* that holds JSON again, except for client events, whose `data` is relayed as it
is, and for `pusher:ping`, `pusher:pong` and `pusher:cache_miss`, which have none. A client's frames are those of pusher-js.

`parse` is the same at both ends: `data` that holds JSON is replaced by its value, any other string is kept.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from json.encoder import encode_basestring_ascii as _string
from math import isinf
from typing import Any, NoReturn

PROTOCOL = 7
MAX_DEPTH = 512
"""Nesting that a text may have; PHP's limit."""

# Server to client.
ESTABLISHED = "pusher:connection_established"
ERROR = "pusher:error"
PING = '{"event":"pusher:ping"}'
PONG = '{"event":"pusher:pong"}'
SUBSCRIBED = "pusher_internal:subscription_succeeded"
SUBSCRIPTION_ERROR = "pusher:subscription_error"
"""How soketi refuses a subscription; Reverb and Pusher send an `ERROR`."""
MEMBER_ADDED = "pusher_internal:member_added"
MEMBER_REMOVED = "pusher_internal:member_removed"

# Client to server.
CLIENT_PING = '{"event":"pusher:ping","data":{}}'
CLIENT_PONG = '{"event":"pusher:pong","data":{}}'


class Malformed(ValueError):
    """A text that is no frame: not JSON, not an object, or without an event name."""


@dataclass(frozen=True, slots=True)
class Message:
    """One frame as read. `channel` and `user_id` are None where the frame had none; `data` is decoded."""

    event: str
    channel: Any = None
    data: Any = None
    user_id: Any = None


def _refuse(constant: str) -> NoReturn:
    raise Malformed(f"{constant} is not JSON")


def _number(text: str) -> float:
    """A fraction or power of ten; one that no double holds cannot be written as JSON again."""
    value = float(text)
    if isinf(value):
        raise Malformed(f"{text[:20]} is too large")
    return value


_decode = json.JSONDecoder(parse_constant=_refuse, parse_float=_number).decode


def _depth(value: Any) -> int:
    level, depth = [value], 0
    while level := [item for item in level if type(item) in (list, dict)]:
        depth += 1
        level = [child for item in level for child in (item.values() if type(item) is dict else item)]
    return depth


def loads(text: str) -> Any:
    """The value of a JSON text by RFC 8259, in Unicode that can be written again.

    Stricter than `json.loads`: no NaN, no number that is too large (`1e999`) and no lone surrogates; and nesting that is too
    deep is an error like any other.
    Raises `Malformed`.
    """
    try:
        value = _decode(text)
        if len(text) > MAX_DEPTH and text.count("[") + text.count("{") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
            raise Malformed("nested too deeply")
        if "\\u" in text and "\\ud" in text.lower():
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise Malformed(str(error)) from error
    return value


def dumps(value: Any) -> str:
    """JSON as PHP writes it by default."""
    return json.dumps(value, separators=(",", ":")).replace("/", "\\/")


def _data(value: Any) -> str:
    """`value` as the string member that holds JSON."""
    return _string(dumps(value)).replace("/", "\\/")


def _once_more(text: str) -> Any:
    try:
        return loads(text)
    except Malformed:
        return text


def parse(text: str) -> Message:
    """Read one frame. Raises `Malformed`."""
    tree = loads(text)
    if type(tree) is not dict:
        raise Malformed("not an object")
    event = tree.get("event")
    if type(event) is not str or not event:
        raise Malformed("no event name")
    data = tree.get("data")
    return Message(event, tree.get("channel"), _once_more(data) if type(data) is str else data, tree.get("user_id"))


# ---- server to client


def event(name: str, data: Any, channel: str) -> str:
    """A published event. A *data* that is no string is written as JSON first; a string is passed on as it is."""
    text = data if type(data) is str else json.dumps(data, separators=(",", ":"))
    return f'{{"event":{_string(name)},"data":{_string(text)},"channel":{_string(channel)}}}'.replace("/", "\\/")


def batch_event(name: str, data: str, channel: str) -> str:
    """The same as an item of a batch, whose members Reverb writes in another order."""
    return f'{{"event":{_string(name)},"channel":{_string(channel)},"data":{_string(data)}}}'.replace("/", "\\/")


def connection_established(socket_id: str, activity_timeout: int) -> str:
    """*activity_timeout* in seconds: a client that has received nothing for this long pings."""
    return f'{{"event":"{ESTABLISHED}","data":{_data({"socket_id": socket_id, "activity_timeout": activity_timeout})}}}'


def error(code: int, message: str) -> str:
    return f'{{"event":"{ERROR}","data":{_data({"code": code, "message": message})}}}'


def subscription_succeeded(channel: str, roster: Mapping[str, Any] | None = None) -> str:
    """*roster*, on presence channels, is what `presence_roster` makes."""
    data = {} if roster is None else {"presence": roster}
    name = f',"channel":{dumps(channel)}' if channel else ""
    return f'{{"event":"{SUBSCRIBED}","data":{_data(data)}{name}}}'


def presence_roster(members: Iterable[tuple[Any, Any]]) -> dict[str, Any]:
    """The `presence` member of `subscription_succeeded`, from (user id, user info) pairs with distinct ids."""
    hash_ = dict(members)
    return {"count": len(hash_), "ids": list(hash_), "hash": hash_}


def member_added(channel: str, user: Mapping[str, Any]) -> str:
    """*user* is the newcomer's decoded `channel_data`: `user_id`, `user_info` and whatever else was signed."""
    return f'{{"event":"{MEMBER_ADDED}","data":{_data(user)},"channel":{dumps(channel)}}}'


def member_removed(channel: str, user_id: Any) -> str:
    return f'{{"event":"{MEMBER_REMOVED}","data":{_data({"user_id": user_id})},"channel":{dumps(channel)}}}'


def cache_miss(channel: str) -> str:
    return f'{{"event":"pusher:cache_miss","channel":{dumps(channel)}}}'


def relayed_client_event(name: str, channel: str, data: Any, user_id: Any = None) -> str:
    """A client event on its way to the other members; its `data` is a value, not a string."""
    tree = {"event": name, "channel": channel, "data": data}
    if user_id is not None:
        tree["user_id"] = user_id
    return dumps(tree)


# ---- client to server


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def subscribe(channel: str, auth: str = "", channel_data: str | None = None) -> str:
    """*auth* and *channel_data* as the authorisation endpoint gave them; both absent for a public channel."""
    data = {"auth": auth, "channel": channel}
    if channel_data is not None:
        data = {"auth": auth, "channel_data": channel_data, "channel": channel}
    return _compact({"event": "pusher:subscribe", "data": data})


def unsubscribe(channel: str) -> str:
    return _compact({"event": "pusher:unsubscribe", "data": {"channel": channel}})


def client_event(name: str, data: Any, channel: str) -> str:
    """*name* must begin `client-`, and the server must allow client events."""
    return _compact({"event": name, "data": data, "channel": channel})
