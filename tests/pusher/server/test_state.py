"""Small rules of the hub's state."""

from __future__ import annotations

import pytest

from sim.pusher.errors import InvalidMessage
from sim.pusher.server.apps import App, RateLimiting
from sim.pusher.server.channels import kind_of
from sim.pusher.server.hub import Counters
from sim.pusher.server.quirks import as_php
from sim.pusher.server.state import CACHE_CHANNELS, Channel, Connection, Space
from sim.pusher.server.subscription import text_member
from sim.pusher.upgrade import refuse_as_reverb


def test_the_oldest_cached_channel_makes_room_and_a_new_event_renews_its_own() -> None:
    space = Space(App("1", "key", "secret"))
    for number in range(CACHE_CHANNELS):
        space.remember(f"cache-{number}", "frame", 1)
    space.remember("cache-0", "again", 2)
    space.remember("cache-new", "frame", 1)
    assert len(space.cache) == CACHE_CHANNELS == 10_000
    assert space.cache["cache-0"] == ("again", 2)
    assert "cache-1" not in space.cache


def test_a_connection_begins_without_a_past() -> None:
    fresh = Connection()
    assert (fresh.pinged, fresh.control_frames, fresh.attempts, fresh.space) == (False, False, 0, None)


def test_a_member_leaves_with_the_last_subscription_and_whoever_is_none_does_not() -> None:
    channel = Channel("presence-room", kind_of("presence-room"))
    assert [channel.arrive({"user_id": "1"}, node) for node in (None, None, "other")] == [True, False, False]
    leaves = [("2", None), ("1", "third"), ("1", None), ("1", "other"), (1, None), ("1", None)]
    assert [channel.depart(*who) for who in leaves] == [False, False, False, False, True, False]


def test_reverbs_own_rate() -> None:
    assert RateLimiting() == RateLimiting(60, 60, False)


def test_members_are_text_as_php_writes_them() -> None:
    data = {"text": "x", "true": True, "false": False, "int": 5, "float": 1.5, "list": []}
    assert [text_member(data, name) for name in ("text", "true", "false", "int", "float", "none")] == [
        "x",
        "1",
        "",
        "5",
        "1.5",
        None,
    ]
    with pytest.raises(InvalidMessage):
        text_member(data, "list")


def test_what_php_cannot_tell_apart() -> None:
    assert as_php({"0": {"1": 2.0}, "1": [3.5, 1e14, 1e15]}) == [{"1": 2}, [3.5, 10**14, 1e15]]
    assert repr(as_php([2.0, 1e15])) == "[2, 1000000000000000.0]"


def test_nothing_has_been_counted_at_first() -> None:
    counters = Counters()
    assert {name: getattr(counters, name) for name in Counters.__dataclass_fields__ if getattr(counters, name)} == {}


def test_loose_prefixes_lose_only_a_single_dash() -> None:
    """`private` is a kind for Reverb, `private-cache` is none."""
    assert kind_of("privatex", loose=True).guarded
    assert not kind_of("privatex").guarded
    assert not kind_of("private-cachex", loose=True).cache
    assert kind_of("private-cache-x", loose=True).cache


def test_a_refusal_as_reverb_writes_it_is_a_head() -> None:
    head = refuse_as_reverb(400, "Bad", (("X", "y"),))
    assert head.startswith(b"HTTP/1.1 400 Bad\r\nX: y\r\n")
    assert head.endswith(b"\r\n\r\n")
