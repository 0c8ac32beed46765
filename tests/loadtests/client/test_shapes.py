"""What is read by a frame's shape against what is read of the frame itself."""

from __future__ import annotations

from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from loadtests.client.echo import Ear, told

KEYS = st.sampled_from(["update", "sent_at", "published_at", "server_id", "site_id", "id", "timestamp", "nested", "x"])
NUMBERS = st.integers(0, 10) | st.integers(0, 2**63 + 10**6) | st.integers(-5, 5) | st.floats(0, 100)
TEXTS = st.sampled_from(["2026-11-27T16:37:03.123456Z", "a/b", "\\", '"', "é", "", "v1.20", '"update":7'])
VALUES = st.recursive(
    NUMBERS | TEXTS | st.none() | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=4,
)


def written(name: str, channel: str, data: Any) -> bytes:
    text = orjson.dumps({"event": name, "data": data, "channel": channel, "more": "x" * 100})
    return Frame(Opcode.TEXT, text).serialize(mask=False)


@settings(max_examples=150, deadline=None)
@given(
    payload=st.dictionaries(KEYS, NUMBERS | VALUES, min_size=1, max_size=6),
    style=st.sampled_from(["text", "text", "text", "spaces", "object"]),
    channel=st.sampled_from(["private-servers", "private-servers.15"]),
    digits=st.lists(st.integers(0, 2**64), min_size=12, max_size=12),
    everywhere=st.booleans(),
)
def test_frames_that_differ_in_digits_say_what_each_says_by_itself(
    payload: dict[str, Any], style: str, channel: str, digits: list[int], everywhere: bool
) -> None:
    dumped = orjson.dumps(payload, option=orjson.OPT_INDENT_2 if style == "spaces" else None).decode()
    first = written("Server2Updated", channel, payload if style == "object" else dumped)
    start = first.index(b'"data"') if not everywhere else 4
    end = first.rindex(b'"channel"') if not everywhere else len(first)
    frames = [first, first]
    for number in digits:  # Each digit turned by another amount.
        turned = bytearray(first)
        for i in range(start, end):
            if 48 <= turned[i] < 58 and style != "object":
                turned[i] = 48 + (turned[i] - 48 + (number >> i % 57 & 15)) % 10
        frames.append(bytes(turned))
    by_shape, by_itself = Ear(lambda _: 0), Ear(lambda _: 0)
    found, true = [by_shape.read(frame) for frame in frames], [by_itself.hear(frame[4:]) for frame in frames]
    assert all(event is not None for event in found) or not first[4:].isascii()
    pairs = [(event, plain) for event, plain in zip(found, true, strict=True) if event is not None]
    for event, plain in pairs:
        assert (event.name, event.channel, event.came, event.data) == (plain.name, plain.channel, plain.came, plain.data)  # type: ignore[union-attr]
    measures, resources, contents = told([event for event, _ in pairs])
    rows = list(zip(*measures.tolist(), resources, contents, strict=True))
    assert rows == [plain.told() for _, plain in pairs]  # type: ignore[union-attr]


def test_what_a_broadcast_says_to_each_is_read_by_its_shape() -> None:
    ear, news = Ear(lambda _: 0), frozenset[str]()
    frames = [
        written(
            "E", "private-servers", orjson.dumps({"server_id": 5, "update": 7, "sent_at": 10**18 + i, "at": "10:00"}).decode()
        )
        for i in range(30)
    ]
    events = [ear.read(frame) for frame in frames]
    assert [event is not None and event.shape is not None for event in events] == [False] * 2 + [True] * 28
    one, other = ear.audience(frozenset({"private-servers"}), news), ear.audience(frozenset({"private-sites"}), news)
    last = events[-1]
    assert last is not None
    assert ear.is_news(last, one)
    assert not ear.is_news(last, other)
    later = ear.read(
        written("E", "private-servers", orjson.dumps({"server_id": 5, "update": 8, "sent_at": 10**18, "at": "11:00"}).decode())
    )
    assert later is not None
    assert later.audiences == {one}
    assert told([event for event in events if event is not None])[0][1].tolist() == [10**18 + i for i in range(30)]
