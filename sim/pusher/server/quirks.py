"""Where this server differs on purpose from Laravel Reverb 1.10: the one table, and what the faithful profile needs to copy.

`faithful=True` (`--faithful`) copies Reverb in every row of `DIFFERENCES`; the default does what the row's `ours` says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sim.pusher import messages
from sim.pusher.errors import InvalidMessage

if TYPE_CHECKING:
    from sim.pusher.server.state import Channel


@dataclass(frozen=True, slots=True)
class ReverbDifference:
    reverb: str
    ours: str
    reason: str


DIFFERENCES = {
    "http_1_0": ReverbDifference(
        "answers HTTP/1.0 (errors HTTP/1.1 without a length) and closes",
        "HTTP/1.1 with Content-Length and keep-alive, pipelined requests answered in order",
        "a connection for each publish costs more than the publish",
    ),
    "http_500": ReverbDifference(
        "500 for a body that is no JSON object, and for a plain GET of /app/{key}",
        "400 that says what is wrong; 426 for the plain GET",
        "the fault is the caller's, and a caller retries 5xx",
    ),
    "batch_socket_id": ReverbDifference(
        "500 from batch_events when an excluded socket_id is connected", "200, and the socket is excluded", "documented API"
    ),
    "terminate_without_user": ReverbDifference(
        "500 from terminate_connections while some connection has no user", "200", "documented API"
    ),
    "not_http": ReverbDifference(
        "waits for the end of a head, also where TLS is spoken to its plain port, and says nothing until then",
        "400 for the first byte that is not HTTP",
        "a client with the wrong scheme should get an answer before its own time-out",
    ),
    "chunked": ReverbDifference("401 for a chunked body, which it never reads", "chunked bodies are read", "HTTP/1.1"),
    "empty_body_md5": ReverbDifference(
        "401 for a signed GET that carries the MD5 of its empty body", "200", "the PyPI package `pusher` signs that way"
    ),
    "head": ReverbDifference("sends a body with the answer to HEAD", "no body", "RFC 9110, 9.3.2"),
    "empty_list": ReverbDifference(
        'an empty object is written as `[]` ("channels":[], user_info [])',
        "`{}` stays `{}`",
        "PHP's arrays cannot tell; typed clients fail on the change of type",
    ),
    "pipelined_frame": ReverbDifference(
        "a frame in the handshake's own segment is lost", "it is handled", "a client may speak as soon as it has asked"
    ),
    "negotiation": ReverbDifference(
        "a failed negotiation (version, key, protocol) is answered 4xx, 505 and then goes on as an established connection",
        "the answer ends it",
        "RFC 6455, 4.2.2",
    ),
    "refused": ReverbDifference(
        "unknown app: TCP end; refused origin or quota: the connection stays and may subscribe",
        "the error frame, then close with the same code (4001, 4004, 4009)",
        "a refusal must refuse",
    ),
    "quota": ReverbDifference(
        "max_connections counts connections that hold a subscription",
        "it counts open connections",
        "a burst of connects passes Reverb's limit before any of them subscribes",
    ),
    "close_frame": ReverbDifference(
        "prune, terminate, rate limit and stop end TCP without a close frame",
        "close 4201, 4009, 4301 and 1001 first",
        "after an unclean end pusher-js pings more often for the page's life",
    ),
    "close_reason": ReverbDifference(
        'reasons of protocol errors begin "Ratchet detected"', "the same words without the name", "there is no Ratchet here"
    ),
    "upgrade_elsewhere": ReverbDifference(
        "an upgrade is accepted on any route, and followed by the bytes of a 500",
        "elsewhere than on /app/{key} the Upgrade header is ignored and the request answered",
        "RFC 9110, 7.8: a server may ignore it; Java's client sends one with each plain request",
    ),
    "auth_key": ReverbDifference(
        "the key before the colon of `auth` is not compared, and may be missing",
        "it must be the app's key",
        "a signature for another key is a mistake that should show",
    ),
    "request_key": ReverbDifference(
        "a signed request may carry another `auth_key`", "401", "a signature in another app's name is a mistake that should show"
    ),
    "request_age": ReverbDifference(
        "a signed request is good for ever", "401 beyond 600 seconds", "documented API: what was overheard cannot be sent again"
    ),
    "array_signature": ReverbDifference(
        "500 for `auth_signature[]=...`", "the one signature in it counts", "a name with brackets is a list of one"
    ),
    "own_established": ReverbDifference(
        "a client's own pusher:connection_established is answered by another one",
        "4200",
        "it is the server's event; a client that sends it is confused",
    ),
    "channel_zero": ReverbDifference(
        'the answer to a subscription to the channel "0" does not name it', "it does", 'PHP takes the text "0" for nothing'
    ),
    "bounds": ReverbDifference(
        "names of channels are as long as a message allows, and a connection may have any number of them",
        "200 characters (4200), 1,000 channels (4100)",
        "without a bound one stranger fills the memory",
    ),
    "unsigned_user": ReverbDifference(
        "channel_data of a public channel is kept, and counts as who the connection is",
        "it is ignored",
        "nobody has signed it",
    ),
    "presence_user": ReverbDifference(
        "a presence subscription without user_id is accepted and empties every roster while it lasts",
        "4200",
        "one bad client breaks the channel for all",
    ),
    "user_info": ReverbDifference(
        "a member without user_info is added, gets 4200, and so does every later join",
        "the roster shows null for it",
        "user_info is optional in the protocol",
    ),
    "empty_channel": ReverbDifference("an empty channel name can be subscribed", "4200", "nothing can be published to it"),
    "loose_kinds": ReverbDifference(
        "`private`, `presence`, `cache` make the kind without their dash", "with the dash, as pusher-js does", "documented"
    ),
    "cache_life": ReverbDifference(
        "a cache channel forgets when its last subscriber leaves, and stores nothing without one",
        "the last event is kept for 30 minutes",
        "documented: the cache exists for who comes later",
    ),
    "liveness": ReverbDifference(
        "only connections with a subscription are pinged and pruned", "all are", "half-open peers hold descriptors"
    ),
    "global_presence": ReverbDifference(
        "rosters, member events and user counts are per node",
        "they are global; a user on two nodes counts once",
        "who is present does not depend on which node one asks",
    ),
}


def as_php(value: Any) -> Any:
    """*value* as it looks after PHP has decoded and encoded it: `{}` and objects with keys 0, 1, ... become lists."""
    if type(value) is dict:
        if all(key == str(index) for index, key in enumerate(value)):
            return [as_php(item) for item in value.values()]
        return {key: as_php(item) for key, item in value.items()}
    if type(value) is list:
        return [as_php(item) for item in value]
    if type(value) is float and value.is_integer() and abs(value) < 1e15:
        return int(value)
    return value


def roster(channel: Channel) -> dict[str, Any]:
    """The roster with Reverb's two faults (rows `presence_user`, `user_info`). Raises `InvalidMessage`."""
    data = channel.subscribers.values()
    if any(entry.get("user_id") is None for entry in data):
        return {"count": 0, "ids": [], "hash": []}
    if any("user_info" not in entry for entry in data):
        raise InvalidMessage
    members = [(m.data["user_id"], as_php(m.data["user_info"])) for m in channel.members.values()]
    tree = messages.presence_roster(members)
    return tree | {"hash": as_php(tree["hash"])}
