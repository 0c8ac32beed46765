"""Kinds of channels: what a name means.

The kind follows from the name's prefix, first match wins. Reverb tests the short prefixes without their dash (`privateer` is
a private channel there); the clean rule is that of Pusher and of pusher-js, with the dash.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class ChannelKind:
    """What a channel of this kind does. `private-encrypted-` is private: its payloads are opaque to the server."""

    guarded: bool = False
    """A subscription needs a signature."""
    presence: bool = False
    """Members are known by user id; all subscribers get their arrivals and departures."""
    cache: bool = False
    """A new subscriber gets the last event."""


PUBLIC = ChannelKind()

KINDS = (
    ("private-cache-", ChannelKind(guarded=True, cache=True)),
    ("presence-cache-", ChannelKind(guarded=True, presence=True, cache=True)),
    ("cache-", ChannelKind(cache=True)),
    ("private-", ChannelKind(guarded=True)),
    ("presence-", ChannelKind(guarded=True, presence=True)),
)
LOOSE_KINDS = tuple((prefix if prefix.count("-") > 1 else prefix.rstrip("-"), kind) for prefix, kind in KINDS)


@lru_cache(maxsize=256)
def kind_of(name: str, loose: bool = False) -> ChannelKind:
    """*loose*: Reverb's prefixes without the dash."""
    for prefix, kind in LOOSE_KINDS if loose else KINDS:
        if name.startswith(prefix):
            return kind
    return PUBLIC
