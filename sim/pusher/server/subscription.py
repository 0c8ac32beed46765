"""What a client asks for when it subscribes, and whether it may."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sim.pusher import messages
from sim.pusher.auth import verify_channel
from sim.pusher.errors import InvalidMessage, Unauthorized
from sim.pusher.server.apps import App
from sim.pusher.server.channels import ChannelKind, kind_of

MAX_NAME = 200
"""Characters of a channel's name that can be subscribed to (Pusher's limit for a name with its prefix)."""
NOBODY: dict[str, Any] = {}
"""The user of every subscription without `channel_data`."""
MAX_CHANNELS = 1_000
"""Channels of one connection. At this bound a stranger's connection holds about a megabyte."""


@dataclass(frozen=True, slots=True)
class SubscribeRequest:
    """The data of a `pusher:subscribe`, read. `user` is the decoded `channel_data`, {} without one."""

    channel: str
    kind: ChannelKind
    auth: str
    channel_data: str
    user: dict[str, Any]

    @classmethod
    def read(cls, data: Any, *, faithful: bool = False) -> SubscribeRequest:
        """Raises `InvalidMessage`. *faithful*: Reverb's channel kinds, and it subscribes to the empty name as well."""
        channel = text_member(data, "channel")
        auth, channel_data = text_member(data, "auth") or "", text_member(data, "channel_data") or ""
        if channel is None or (not faithful and not 0 < len(channel) <= MAX_NAME):
            raise InvalidMessage
        kind = kind_of(channel, loose=faithful)
        user = _user(channel_data)
        # What nobody has signed is not kept: it would be memory that any stranger can fill, and a name that anybody can take.
        return cls(channel, kind, auth, channel_data, user if kind.guarded or faithful else NOBODY)

    def verify(self, app: App, socket_id: str, *, faithful: bool = False) -> None:
        """Raises `Unauthorized` for a missing or wrong signature, `InvalidMessage` for presence without a user id."""
        if self.kind.guarded and not verify_channel(
            app.key, app.secret, socket_id, self.channel, self.auth, self.channel_data, check_key=not faithful
        ):
            raise Unauthorized
        if self.kind.presence and self.user.get("user_id") is None and not faithful:
            raise InvalidMessage


def text_member(data: Any, member: str) -> str | None:
    """A member of a message's data as text: numbers and booleans as PHP would write them. Raises `InvalidMessage`."""
    value = data.get(member) if type(data) is dict else None
    if value is None or type(value) is str:
        return value
    if type(value) is bool:
        return "1" if value else ""
    if type(value) in (int, float):
        return str(value)
    raise InvalidMessage


def _user(channel_data: str | None) -> dict[str, Any]:
    """The decoded `channel_data`, {} without one. Raises `InvalidMessage` for one that is no object or has no usable id."""
    if not channel_data:
        return NOBODY
    try:
        user = messages.loads(channel_data)
    except messages.Malformed:
        raise InvalidMessage from None
    if type(user) is not dict:
        raise InvalidMessage
    if type(user.get("user_id")) not in (str, int, float, type(None)):
        raise InvalidMessage
    return user
