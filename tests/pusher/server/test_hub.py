"""What each message does, by the rules of the protocol, at instants that the test sets."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from sim.pusher import messages
from sim.pusher.frames import PING, TEXT
from sim.pusher.server import outbox
from sim.pusher.server.apps import App, RateLimiting
from sim.pusher.server.channels import kind_of
from sim.pusher.server.subscription import MAX_CHANNELS
from tests.pusher.peers import APP, House, Peer


@pytest.fixture
def house() -> House:
    return House()


def code(peer: Peer) -> int:
    (frame,) = peer.received()
    assert frame["event"] == "pusher:error"
    return frame["data"]["code"]


# ---- opening


def test_a_connection_is_told_its_socket_id_and_the_activity_timeout(house: House) -> None:
    peer = house.open()
    established = {"socket_id": "1.2", "activity_timeout": 30}
    assert peer.received() == [{"event": "pusher:connection_established", "data": established}]


def test_an_unknown_app_is_refused(house: House) -> None:
    peer = house.open("nobody")
    assert peer.received()[0]["data"] == {"code": 4001, "message": "Application does not exist"}
    assert peer.ended


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("https://laravel.com", True),
        ("https://a.b.example.com:8443", True),
        ("http://evil.test", False),
        (None, False),
        ("http://[", False),
        ("https://example.com.evil.test", False),
    ],
)
def test_origins_are_hosts_with_wildcards(origin: str | None, allowed: bool) -> None:
    house = House(replace(APP, allowed_origins=("laravel.com", "*.example.com")))
    assert house.open(origin=origin).ended is not allowed


def test_the_quota_counts_open_connections_and_frees_them() -> None:
    house = House(replace(APP, max_connections=1))
    first, second = house.open(), house.open()
    assert (first.ended, second.ended) == (False, True)
    assert second.frames()[1][1][:2] == (4004).to_bytes(2, "big")
    house.hub.closed(first)
    assert not house.open().ended


def test_faithful_quota_counts_subscribers_and_a_refused_connection_goes_on() -> None:
    house = House(replace(APP, max_connections=1), faithful=True)
    house.member("news")
    third = house.open()
    assert code(third) == 4004
    house.subscribe(third, "news")
    assert third.events() == ["pusher_internal:subscription_succeeded"]


# ---- subscribing


KINDS = {
    "news": (False, False, False),
    "cache-x": (False, False, True),
    "private-x": (True, False, False),
    "private-cache-x": (True, False, True),
    "private-encrypted-x": (True, False, False),
    "presence-x": (True, True, False),
    "presence-cache-x": (True, True, True),
    "privateer": (False, False, False),
}


@pytest.mark.parametrize(("name", "kind"), KINDS.items())
def test_kinds_by_prefix(name: str, kind: tuple[bool, bool, bool]) -> None:
    found = kind_of(name)
    assert (found.guarded, found.presence, found.cache) == kind


def test_loose_kinds_are_reverbs() -> None:
    assert kind_of("privateer", loose=True).guarded
    assert kind_of("cached", loose=True).cache


@pytest.mark.parametrize("name", ["private-x", "presence-x", "private-cache-x", "presence-cache-x", "private-encrypted-x"])
def test_a_guarded_channel_needs_the_right_signature(house: House, name: str) -> None:
    peer = house.open()
    peer.received()
    for auth in ("", "key:", "key:" + "0" * 64, "x"):
        house.send(peer, messages.subscribe(name, auth, '{"user_id":"1"}'))
        assert code(peer) == 4009
    house.publish(name)
    assert peer.received() == []
    assert house.hub.spaces["1"].channels == {}


def test_a_signature_is_for_one_connection_and_one_channel(house: House) -> None:
    from sim.pusher.auth import channel_auth

    peer, other = house.open(), house.open()
    peer.received()
    house.send(peer, messages.subscribe("private-x", channel_auth("key", "secret", other.socket_id, "private-x")))
    assert code(peer) == 4009
    house.send(peer, messages.subscribe("private-y", channel_auth("key", "secret", peer.socket_id, "private-x")))
    assert code(peer) == 4009


def test_events_reach_subscribers_once_until_they_leave(house: House) -> None:
    peer = house.member("news")
    house.subscribe(peer, "news")  # a second time
    peer.received()
    house.publish("news")
    assert peer.events() == ["e"]
    house.send(peer, messages.unsubscribe("news"))
    house.publish("news")
    assert peer.received() == []
    assert house.hub.spaces["1"].channels == {}


def test_the_excluded_socket_gets_nothing(house: House) -> None:
    a, b = house.member("news"), house.member("news")
    house.publish("news", excluded=a.socket_id)
    house.publish("news", excluded="9.9")
    assert (a.events(), b.events()) == (["e"], ["e", "e"])


def test_a_cache_channel_replays_its_last_event_for_half_an_hour(house: House) -> None:
    first = house.open()
    house.subscribe(first, "cache-x")
    assert first.events()[1:] == ["pusher_internal:subscription_succeeded", "pusher:cache_miss"]
    house.publish("cache-x", "old")
    house.publish("cache-x", "new")
    house.hub.closed(first)
    second = house.open()
    house.subscribe(second, "cache-x")
    assert second.events()[2:] == ["new"]
    house.wait(1800)
    house.hub.tick(house.now)
    assert house.hub.spaces["1"].cache == {}
    house.subscribe(second, "cache-x")
    assert second.events()[-1] == "pusher:cache_miss"


# ---- presence


def user(number: int, **info: object) -> dict[str, object]:
    return {"user_id": str(number), "user_info": info}


def test_a_roster_has_each_user_once_and_the_others_hear_of_first_and_last(house: House) -> None:
    ada = house.member("presence-room", user(1, name="Ada"))
    ada_again = house.member("presence-room", user(1, name="Ada"))
    assert ada.received() == []
    bo = house.open()
    house.subscribe(bo, "presence-room", user(2, name="Bo"))
    presence = {"count": 2, "ids": ["1", "2"], "hash": {"1": {"name": "Ada"}, "2": {"name": "Bo"}}}
    assert bo.received()[1]["data"] == {"presence": presence}
    added = {"event": "pusher_internal:member_added", "data": user(2, name="Bo"), "channel": "presence-room"}
    assert ada.received() == [added]
    assert ada_again.received() == [added]
    house.hub.closed(ada)
    house.outbox.flush()
    assert bo.received() == []
    house.send(ada_again, messages.unsubscribe("presence-room"))
    removed = {"event": "pusher_internal:member_removed", "data": {"user_id": "1"}, "channel": "presence-room"}
    assert bo.received() == [removed]


@pytest.mark.parametrize(
    "data", ["{}", "[]", "5", "null", '"x"', "{oops", '{"user_id":null}', '{"user_id":{}}', '{"user_id":true}']
)
def test_presence_needs_a_usable_user_id(house: House, data: str) -> None:
    from sim.pusher.auth import channel_auth

    peer = house.open()
    peer.received()
    house.send(peer, messages.subscribe("presence-x", channel_auth("key", "secret", peer.socket_id, "presence-x", data), data))
    assert code(peer) == 4200


def test_subscribing_again_as_somebody_else_replaces_the_first(house: House) -> None:
    watcher = house.member("presence-x", user(9))
    peer = house.member("presence-x", user(1))
    watcher.received()
    house.subscribe(peer, "presence-x", user(2))
    assert watcher.events() == ["pusher_internal:member_removed", "pusher_internal:member_added"]
    assert list(house.hub.spaces["1"].channels["presence-x"].members) == ["9", "2"]


# ---- messages


BAD = [
    "{not json",
    "123",
    "[]",
    '"hi"',
    '{"event":5}',
    '{"event":""}',
    '{"event":"pusher:nope"}',
    '{"event":"pusher:signin","data":{}}',
    '{"event":"pusher:ping","data":"hello"}',
    '{"event":"pusher:ping","data":5}',
    '{"event":"pusher:subscribe","data":{}}',
    '{"event":"pusher:subscribe","data":[]}',
    '{"event":"pusher:subscribe","data":{"channel":""}}',
    '{"event":"pusher:subscribe","data":{"channel":["x"]}}',
    '{"event":"pusher:subscribe","data":{"channel":"private-x","auth":["x"]}}',
    '{"event":"pusher:unsubscribe","data":{}}',
    '{"event":"client-x","data":{}}',
    '{"event":"client-x","channel":7,"data":{}}',
    '{"event":"client-x","channel":"private-x","data":"text"}',
    '{"event":"foo"}',
    b"\xff\xfe",
]


@pytest.mark.parametrize("text", BAD, ids=repr)
def test_a_bad_message_is_answered_4200_and_the_connection_goes_on(house: House, text: str | bytes) -> None:
    peer = house.open()
    peer.received()
    house.send(peer, text)
    assert code(peer) == 4200
    house.send(peer, messages.CLIENT_PING)
    assert peer.received() == [{"event": "pusher:pong"}]


@pytest.mark.parametrize(
    "text",
    ['{"event":"pusher:ping"}', '{"event":"pusher:ping","data":"{}"}', '{"event":"pusher:ping","data":[],"more":1}'],
)
def test_forms_of_a_ping(house: House, text: str) -> None:
    peer = house.open()
    peer.received()
    house.send(peer, text)
    assert peer.events() == ["pusher:pong"]


def test_client_events_go_to_the_other_members_as_they_are(house: House) -> None:
    a, b = house.member("presence-x", user(1)), house.member("presence-x", user(2))
    a.received()
    house.send(a, '{"event":"client-typing","channel":"presence-x","data":{"x":1},"user_id":"fake","foo":1}')
    opcode, payload = b.frames()[0]
    assert (opcode, payload) == (TEXT, b'{"event":"client-typing","channel":"presence-x","data":{"x":1},"user_id":"1"}')
    assert a.received() == []
    outsider = house.open()
    outsider.received()
    house.send(outsider, messages.client_event("client-typing", {}, "presence-x"))
    assert code(outsider) == 4009
    house.send(a, messages.client_event("typing", {}, "presence-x"))
    assert a.received() == b.received() == []


def test_client_events_are_refused_while_more_waits_than_can_leave(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = house.member("private-x"), house.member("private-x")
    monkeypatch.setattr(outbox, "FULL_BYTES", 10)
    for peer in (a, b):
        peer.received()
    event = messages.client_event("client-x", {"a": 1}, "private-x")
    for _ in range(2):
        house.hub.receive(a, event.encode(), house.now)
    assert code(a) == 4301
    house.hub.outbox.flush()
    assert len(b.received()) == 1
    house.send(a, event)
    assert len(b.received()) == 1


def test_each_thing_is_counted_once(house: House) -> None:
    house.open("nobody")
    a, _ = house.member("presence-x", user(1)), house.member("presence-x", user(2))
    house.send(a, messages.client_event("client-x", {}, "presence-x"))
    house.send(a, "no JSON")
    house.hub.publish(house.hub.spaces["1"], "presence-x", "{}", None, house.now)
    counters = house.hub.counters
    assert (counters.opened, counters.refused, counters.messages, counters.errors) == (2, 1, 4, 1)
    assert (counters.published, counters.client_events, counters.pruned) == (1, 1, 0)


def test_client_events_of_anybody_or_of_nobody() -> None:
    everybody, nobody = (
        House(replace(APP, accept_client_events_from="all")),
        House(replace(APP, accept_client_events_from="none")),
    )
    member, outsider = everybody.member("news"), everybody.open()
    everybody.send(outsider, '{"event":"client-x","channel":"news","data":{"a":1},"more":2}')
    assert member.received() == [{"event": "client-x", "channel": "news", "data": {"a": 1}, "more": 2}]
    peer = nobody.member("private-x")
    nobody.send(peer, messages.client_event("client-x", {}, "private-x"))
    assert code(peer) == 4301


def test_the_rate_limit_is_a_window_that_the_first_message_opens() -> None:
    house = House(replace(APP, rate_limiting=RateLimiting(3, 60)))
    peer = house.open()
    peer.received()
    house.wait(10)
    for _ in range(5):
        house.send(peer, messages.CLIENT_PING)
    assert peer.events() == ["pusher:pong"] * 3 + ["pusher:error"] * 2
    house.wait(59)
    house.send(peer, messages.CLIENT_PING)
    assert peer.events() == ["pusher:error"]
    house.wait(1)
    house.send(peer, messages.CLIENT_PING)
    assert peer.events() == ["pusher:pong"]


def test_the_rate_limit_may_end_the_connection() -> None:
    house = House(replace(APP, rate_limiting=RateLimiting(1, 60, terminate_on_limit=True)))
    peer = house.member("news")
    house.send(peer, messages.CLIENT_PING)
    assert peer.ended
    assert house.hub.spaces["1"].connections == {}


# ---- liveness


def test_a_silent_connection_is_pinged_and_a_minute_later_pruned(house: House) -> None:
    silent, speaks = house.member("presence-x", user(1)), house.member("presence-x", user(2))
    silent.received()
    for minute, events in enumerate((["pusher:ping"], ["pusher:ping"])):
        house.wait(60)
        house.hub.tick(house.now)
        assert speaks.events() == events
        if minute == 0:
            assert silent.events() == events
        house.outbox.flush()
        house.send(speaks, messages.CLIENT_PONG)
    assert silent.ended
    sent = silent.frames()
    assert json.loads(json.loads(sent[0][1])["data"])["code"] == 4201
    assert sent[1][1][:2] == (4201).to_bytes(2, "big")
    assert speaks.events() == ["pusher_internal:member_removed"]
    assert house.hub.counters.pruned == 1


def test_who_speaks_control_frames_is_pinged_by_control_frames(house: House) -> None:
    peer = house.member("news")
    house.hub.touch(peer, house.now)
    house.wait(60)
    house.hub.tick(house.now)
    assert peer.frames() == [(PING, b"")]


def test_faithful_liveness_leaves_connections_without_subscription_alone() -> None:
    for faithful in (True, False):
        house = House(faithful=faithful)
        peer = house.open()
        peer.received()
        house.wait(200)
        house.hub.tick(house.now)
        assert bool(peer.received()) is not faithful


# ---- several apps, ending


def test_apps_share_nothing() -> None:
    house = House(APP, App("2", "key2", "secret2"))
    first, second = house.open(), house.open("key2")
    house.subscribe(first, "news")
    house.subscribe(second, "news")
    first.received()
    second.received()
    house.publish("news")
    assert (first.events(), second.events()) == (["e"], [])


def test_terminate_ends_every_connection_of_a_user(house: House) -> None:
    ada, ada_private, bo = house.member("presence-x", user(1)), house.open(), house.member("presence-x", user(2))
    house.subscribe(ada_private, "private-x", user(1))
    assert house.hub.terminate(house.hub.spaces["1"], "1") == 2
    assert (ada.ended, ada_private.ended, bo.ended) == (True, True, False)


def test_closing_costs_by_the_connections_own_channels_and_is_idempotent(house: House) -> None:
    peer = house.member("news")
    house.hub.closed(peer)
    house.hub.closed(peer)
    house.send(peer, messages.CLIENT_PING)
    assert house.hub.spaces["1"].connections == {}
    assert house.hub.spaces["1"].channels == {}


def test_an_app_does_not_show_its_secret() -> None:
    assert "secret" not in repr(APP)


# ---- what a stranger can do


def test_a_name_has_an_end_and_a_connection_a_number_of_channels(house: House) -> None:
    peer = house.open()
    peer.received()
    house.send(peer, messages.subscribe("x" * 200))
    assert peer.events() == ["pusher_internal:subscription_succeeded"]
    house.send(peer, messages.subscribe("x" * 201))
    assert code(peer) == 4200
    for number in range(1, MAX_CHANNELS):
        house.send(peer, messages.subscribe(str(number)))
    assert set(peer.events()) == {"pusher_internal:subscription_succeeded"}
    house.send(peer, messages.subscribe("one more"))
    assert code(peer) == 4100
    house.send(peer, messages.unsubscribe("1"))
    house.send(peer, messages.subscribe("one more"))
    assert peer.events() == ["pusher_internal:subscription_succeeded"]
    assert len(house.hub.spaces["1"].channels) == MAX_CHANNELS


def test_what_nobody_signed_is_not_kept_and_makes_nobody(house: House) -> None:
    peer = house.open()
    house.subscribe(peer, "news", {"user_id": "7", "user_info": ["x" * 5_000]})
    (data,) = house.hub.spaces["1"].channels["news"].subscribers.values()
    assert data == {}
    assert house.hub.terminate(house.hub.spaces["1"], "7") == 0
    faithful = House(faithful=True)
    faithful.subscribe(faithful.open(), "news", {"user_id": "7"})
    assert faithful.hub.terminate(faithful.hub.spaces["1"], "7") == 1


@pytest.mark.parametrize("accept", ["all", "members"])
@pytest.mark.parametrize("number", ["1e999", "-1e999", "[1e400]"])
def test_a_client_event_that_cannot_be_written_as_json_is_not_relayed(accept: str, number: str) -> None:
    house = House(replace(APP, accept_client_events_from=accept))
    one, other = house.member("private-x"), house.member("private-x")
    house.send(one, f'{{"event":"client-a","channel":"private-x","data":{{"n":{number}}}}}')
    assert code(one) == 4200
    assert other.received() == []
    house.send(one, '{"event":"client-a","channel":"private-x","data":{"n":1e300}}')
    assert other.received()[0]["data"] == {"n": 1e300}


def test_the_servers_own_event_from_a_client_is_an_error_or_as_reverb_has_it_another_welcome(house: House) -> None:
    peer = house.open()
    peer.received()
    house.send(peer, '{"event":"pusher:connection_established"}')
    assert code(peer) == 4200
    faithful = House(faithful=True)
    peer = faithful.open()
    welcome = peer.received()
    faithful.send(peer, '{"event":"pusher:connection_established"}')
    assert peer.received() == welcome


def test_a_channel_named_zero_is_named_in_its_answer_except_as_php_has_it() -> None:
    for faithful, named in ((False, True), (True, False)):
        house = House(faithful=faithful)
        peer = house.open()
        peer.received()
        house.send(peer, messages.subscribe("0"))
        assert (peer.received()[0].get("channel") == "0") is named


def test_a_quiet_client_that_answers_with_control_frames_alone_is_kept(house: House) -> None:
    """Its pong takes back that it was pinged, at each silence anew."""
    peer = house.member("news")
    house.hub.touch(peer, house.now)
    for _ in range(4):
        house.wait(61)
        house.hub.tick(house.now)
        assert [opcode for opcode, _ in peer.frames()] == [PING]
        house.hub.touch(peer, house.now)
    assert not peer.ended
    house.wait(61)
    house.hub.tick(house.now)
    house.wait(61)
    house.hub.tick(house.now)
    assert peer.ended, "one that does not answer is not"
