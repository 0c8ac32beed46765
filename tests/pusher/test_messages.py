"""Frames byte for byte, and reading what a peer may send."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.pusher import messages

WRITTEN = {
    messages.connection_established("912345.77120", 30): (
        r'{"event":"pusher:connection_established","data":"{\"socket_id\":\"912345.77120\",\"activity_timeout\":30}"}'
    ),
    messages.error(4009, "Connection is unauthorized"): (
        r'{"event":"pusher:error","data":"{\"code\":4009,\"message\":\"Connection is unauthorized\"}"}'
    ),
    messages.PING: '{"event":"pusher:ping"}',
    messages.PONG: '{"event":"pusher:pong"}',
    messages.subscription_succeeded("private-servers.7"): (
        '{"event":"pusher_internal:subscription_succeeded","data":"{}","channel":"private-servers.7"}'
    ),
    messages.subscription_succeeded("p", messages.presence_roster([("42", {"name": "Ada"}), (43, None)])): (
        r'{"event":"pusher_internal:subscription_succeeded","data":"{\"presence\":{\"count\":2,\"ids\":[\"42\",43],'
        r'\"hash\":{\"42\":{\"name\":\"Ada\"},\"43\":null}}}","channel":"p"}'
    ),
    messages.member_added("p", {"user_id": "44", "user_info": {"name": "Cy"}}): (
        r'{"event":"pusher_internal:member_added","data":"{\"user_id\":\"44\",\"user_info\":{\"name\":\"Cy\"}}","channel":"p"}'
    ),
    messages.member_removed("p", "44"): (
        r'{"event":"pusher_internal:member_removed","data":"{\"user_id\":\"44\"}","channel":"p"}'
    ),
    messages.cache_miss("cache-status"): '{"event":"pusher:cache_miss","channel":"cache-status"}',
    messages.event("App\\Events\\ServerUpdated", '{"id":7}', "private-servers.7"): (
        r'{"event":"App\\Events\\ServerUpdated","data":"{\"id\":7}","channel":"private-servers.7"}'
    ),
    messages.event("e", {"a": "b/\u00e9"}, "c"): r'{"event":"e","data":"{\"a\":\"b\/\\u00e9\"}","channel":"c"}',
    messages.relayed_client_event("client-typing", "presence-room.1", {"on": True}, "42"): (
        '{"event":"client-typing","channel":"presence-room.1","data":{"on":true},"user_id":"42"}'
    ),
    messages.subscribe("news"): '{"event":"pusher:subscribe","data":{"auth":"","channel":"news"}}',
    messages.subscribe("presence-x", "k:s", '{"user_id":"1"}'): (
        r'{"event":"pusher:subscribe","data":{"auth":"k:s","channel_data":"{\"user_id\":\"1\"}","channel":"presence-x"}}'
    ),
    messages.unsubscribe("news"): '{"event":"pusher:unsubscribe","data":{"channel":"news"}}',
    messages.client_event("client-a", {"x": 1}, "private-b"): '{"event":"client-a","data":{"x":1},"channel":"private-b"}',
}


@pytest.mark.parametrize(("made", "wire"), WRITTEN.items(), ids=lambda text: text[:40])
def test_bytes_on_the_wire(made: str, wire: str) -> None:
    assert made == wire


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ('{"event":"e","data":"{\\"a\\":1}"}', {"a": 1}),
        ('{"event":"e","data":{"a":1}}', {"a": 1}),
        ('{"event":"e","data":"hello"}', "hello"),
        ('{"event":"e","data":"5"}', 5),
        ('{"event":"e"}', None),
    ],
)
def test_data_that_holds_json_is_decoded_once_more(text: str, data: object) -> None:
    assert messages.parse(text).data == data


BAD = ["", "{", "5", "[]", '"e"', "null", '{"event":5}', '{"event":""}', "{}", '{"event":"e","data":NaN}', "[" * 5000]
BAD += ['{"event":"\\ud800"}', '{"event":"e","data":' + "[" * 512 + "]" * 512 + "}", '{"event":' + "9" * 5000 + "}"]


@pytest.mark.parametrize("text", BAD, ids=lambda text: text[:20])
def test_no_frame(text: str) -> None:
    with pytest.raises(messages.Malformed):
        messages.parse(text)


def test_the_version_of_the_protocol() -> None:
    assert messages.PROTOCOL == 7


def test_nesting_up_to_the_limit() -> None:
    assert messages.parse('{"event":"e","data":' + "[" * 511 + "]" * 511 + "}").event == "e"


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        message = messages.parse(text)
    except messages.Malformed:
        return
    assert message.event


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=10,
)


@given(VALUES)
def test_what_one_end_writes_the_other_reads(value: object) -> None:
    assert (
        messages.parse(messages.client_event("client-x", value, "private-c")).data
        == messages.parse(messages.event("client-x", value, "private-c")).data
    )
    assert json.loads(messages.dumps(value)) == value


def test_nesting_has_a_bound() -> None:
    deepest = messages.MAX_DEPTH
    assert messages.loads("[" * deepest + "]" * deepest) is not None
    with pytest.raises(messages.Malformed, match="nested too deeply"):
        messages.loads("[" * (deepest + 1) + "]" * (deepest + 1))


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_what_counts_is_the_depth_and_not_how_much_there_is(opening: str, closing: str) -> None:
    deep = opening * (messages.MAX_DEPTH - 1) + "1" + closing * (messages.MAX_DEPTH - 1)
    assert messages._depth(messages.loads(f"[[],{deep}]")) == messages.MAX_DEPTH
    with pytest.raises(messages.Malformed):
        messages.loads(f"[[],[{deep}]]")
