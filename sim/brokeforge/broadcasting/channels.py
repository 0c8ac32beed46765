"""Who may listen: `routes/channels.php`, with Laravel's rules.

Patterns are tried in the order in which they were added. `{parameter}` stands for one or more characters that are no dots, and
its kind says what the text becomes: an `int`, a `str`, or a model found by its key. A callback that answers False ends the search
with 403; another empty answer lets later patterns try; anything else authorises, and on a presence channel is the user's info.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Connection, Select

from sim.brokeforge.domain import queries
from sim.brokeforge.http import HttpError, invalid
from sim.pusher.auth import channel_auth

PREFIXES = ("private-encrypted-", "private-", "presence-")
SOCKET_ID = re.compile(r"[0-9]{1,20}\.[0-9]{1,20}")
CHANNEL_NAME = re.compile(r"#?[-a-zA-Z0-9_=@,.;]+")


@dataclass(frozen=True, slots=True)
class Person:
    """The authenticated user."""

    id: int
    name: str


@dataclass(frozen=True, slots=True)
class Owned:
    """A model found by key: all that a channel asks is whose it is."""

    id: int
    user_id: int


Callback = Callable[..., Any]
ParameterKind = type[int] | type[str] | Select[Any]
"""What a parameter becomes; a statement finds the owner of a model by its `id`: 403 when there is none."""


class NotFound(Exception):
    """A parameter names no model: refused, as Laravel's route-model binding does."""


class ChannelRoutes:
    """Registered patterns, in order."""

    def __init__(self) -> None:
        self._patterns: list[tuple[re.Pattern[str], Callback, tuple[ParameterKind, ...]]] = []

    def add(self, pattern: str, callback: Callback, *kinds: ParameterKind) -> None:
        """`callback(user, ...)` is given a value of each of the *kinds*, as of `OWNER_OF_SERVER` for `servers.{server}`."""
        text = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^.]+)", re.escape(pattern))
        self._patterns.append((re.compile(text), callback, kinds))

    def verify(self, db: Connection, user: Person, name: str) -> Any:
        """The authorising answer for the undecorated channel *name*; None: refused."""
        for pattern, callback, kinds in self._patterns:
            found = pattern.fullmatch(name)
            if found is None:
                continue
            try:
                answer = callback(user, *(_bind(db, kind, text) for kind, text in zip(kinds, found.groups(), strict=True)))
            except NotFound:
                return None
            if answer is False:
                return None
            if answer:
                return answer
        return None


def _bind(db: Connection, kind: ParameterKind, text: str) -> Any:
    if kind is str:
        return text
    # A key that is no plain number names no row. (PHP would read "1abc" as a type error: 500.)
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise NotFound
    if isinstance(kind, type):
        return int(text)
    owner = db.execute(kind, {"id": int(text)}).scalar_one_or_none()
    if owner is None:
        raise NotFound
    return Owned(int(text), owner)


def authorise(
    channels: ChannelRoutes, db: Connection, user: Person, key: str, secret: str, fields: dict[str, str]
) -> dict[str, str]:
    """The answer of `/broadcasting/auth` to *user*. Raises `HttpError` 403, or 422 for what no signature can be made of."""
    name, socket_id = fields.get("channel_name", ""), fields.get("socket_id", "")
    if not name:
        raise HttpError(403, "Forbidden.")
    if not SOCKET_ID.fullmatch(socket_id):
        raise invalid({"socket_id": ["The socket id must be two numbers joined by a dot."]})
    if not CHANNEL_NAME.fullmatch(name) or len(name) > 200:
        raise invalid({"channel_name": ["The channel name has characters that the protocol does not allow, or is too long."]})
    plain = next((name.removeprefix(p) for p in PREFIXES if name.startswith(p)), name)
    answer = channels.verify(db, user, plain)
    if answer is None:
        raise HttpError(403, "Forbidden.")
    if name.startswith("private"):
        return {"auth": channel_auth(key, secret, socket_id, name)}
    data = orjson.dumps({"user_id": str(user.id), "user_info": answer}).decode()
    return {"auth": channel_auth(key, secret, socket_id, name, data), "channel_data": data}


def application_channels() -> ChannelRoutes:
    """The channels of the pattern, and those that its alternatives need."""

    def owns(user: Person, model: Owned) -> bool:
        return user.id == model.user_id

    def anybody(user: Person) -> dict[str, Any]:
        # Any authenticated user: every dashboard hears of every user's servers. Cheap to ask for, and the leak.
        return {"id": user.id}

    def oneself(user: Person, id: int) -> bool:
        return user.id == id

    def viewers(user: Person, server: Owned) -> Any:
        """Presence: who else looks at this server."""
        return {"id": user.id, "name": user.name} if owns(user, server) else False

    channels = ChannelRoutes()
    channels.add("servers.{server}", owns, queries.OWNER_OF_SERVER)
    channels.add("servers", anybody)
    channels.add("sites.{site}", owns, queries.OWNER_OF_SITE)
    channels.add("sites", anybody)
    channels.add("servers.{server}.provision", owns, queries.OWNER_OF_SERVER)
    channels.add("users.{id}.servers", oneself, int)
    channels.add("users.{id}.sites", oneself, int)
    channels.add("tasks.{task}", owns, queries.OWNER_OF_TASK)
    channels.add("servers.{server}.viewers", viewers, queries.OWNER_OF_SERVER)
    return channels
