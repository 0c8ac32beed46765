"""What frames that came together are taken for, against what each says by itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from loadtests.client.reader import FEW, Event, EventReader, EventSeries, facts_of
from sim.results.parts import event_keys

KEYS = st.sampled_from(["update", "sent_at", "published_at", "server_id", "site_id", "id", "timestamp", "nested", "x"])
NUMBERS = st.integers(0, 10) | st.integers(0, 2**63 + 10**6) | st.integers(-5, 5) | st.floats(0, 100)
TEXTS = st.sampled_from(["2026-11-27T16:37:03.123456Z", "a/b", "\\", '"', "é", "", "v1.20", '"update":7'])
VALUES = st.recursive(
    NUMBERS | TEXTS | st.none() | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=4,
)


class Heard:
    """A reader, and what it gave numbers to."""

    def __init__(self) -> None:
        self.events: list[Event | EventSeries] = []
        self.count = 0
        self.reader = EventReader(self.number)

    def number(self, event: Event | EventSeries) -> int:
        self.events.append(event)
        first, self.count = self.count, self.count + (len(event.frames) if isinstance(event, EventSeries) else 1)
        return first

    def codes(self, frames: list[bytes], audiences: list[int]) -> list[int]:
        rows = np.frombuffer(b"".join(frames), np.uint8).reshape(len(frames), -1)
        return self.reader.codes(rows, np.array(audiences)).tolist()  # type: ignore[no-any-return]

    def rows(self) -> list[tuple[Any, ...]]:
        """By number: channel and what tables say."""
        measures, resources, named, keys = facts_of(self.events)
        counts = [len(event.frames) if isinstance(event, EventSeries) else 1 for event in self.events]
        channels = np.repeat([event.channel for event in self.events], counts).tolist()
        known = [resource if there else None for resource, there in zip(resources.tolist(), named.tolist(), strict=True)]
        return list(zip(channels, *measures.tolist(), known, keys.tolist(), strict=True))


def written(name: str, channel: str, data: Any) -> bytes:
    text = orjson.dumps({"event": name, "data": data, "channel": channel, "more": "x" * 100})
    return Frame(Opcode.TEXT, text).serialize(mask=False)


def row_of(event: Event) -> tuple[Any, ...]:
    *measures, resource, content = event.facts()
    return event.channel, *measures, resource, event_keys([content]).tolist()[0]


@settings(max_examples=200, deadline=None)
@given(
    payload=st.dictionaries(KEYS, NUMBERS | VALUES, min_size=1, max_size=6),
    timed=st.booleans(),
    style=st.sampled_from(["text", "text", "text", "spaces", "object"]),
    channel=st.sampled_from(["private-servers", "private-servers.15"]),
    digits=st.lists(st.integers(0, 2**64), min_size=2, max_size=24),
    repeats=st.integers(1, 3),
    everywhere=st.booleans(),
    audiences=st.lists(st.integers(0, 2), min_size=200, max_size=200),
)
def test_frames_that_came_together_say_what_each_says_by_itself(
    payload: dict[str, Any],
    timed: bool,
    style: str,
    channel: str,
    digits: list[int],
    repeats: int,
    everywhere: bool,
    audiences: list[int],
) -> None:
    if timed:
        payload = {"update": 10, "sent_at": 1_800_000_000_000_000_000, "published_at": 1_800_000_000_000_000_001} | payload
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
    frames *= repeats
    heard = Heard()
    assert [heard.reader.audience(frozenset({name}), frozenset(names)) for name, names in AUDIENCES] == [0, 1, 2]
    pages = audiences[: len(frames)]
    codes = heard.codes(frames[: len(frames) // 2], pages) + heard.codes(frames[len(frames) // 2 :], pages[len(frames) // 2 :])
    rows, other = heard.rows(), Heard().reader
    for frame, audience, code in zip(frames, pages, codes, strict=True):
        event = other.read(frame)
        (wanted, names) = AUDIENCES[audience]
        if event is None or event.channel != wanted or (names and event.name not in names):
            assert code == -1
        else:
            assert rows[code >> 2] == row_of(event)
    # Two frames have one number only if they are the same.
    assert len({(frame, code) for frame, code in zip(frames, codes, strict=True)}) == len(set(codes) - {-1}) + len(
        {frame for frame, code in zip(frames, codes, strict=True) if code == -1}
    )


AUDIENCES: list[tuple[str, set[str]]] = [
    ("private-servers", set()),
    ("private-servers", {"Server2Updated"}),
    ("private-servers.15", {"Other"}),
]


def timed(sent_at: int, update: int = 7, **more: Any) -> bytes:
    data = {"server_id": 5, "update": update, "sent_at": sent_at, "published_at": 10**18, "at": "10:00"} | more
    return written("E", "private-servers", orjson.dumps(data).decode())


def test_what_a_broadcast_says_to_each_is_read_by_its_shape() -> None:
    heard = Heard()
    assert heard.reader.audience(frozenset({"private-servers"}), frozenset()) == 0
    frames = [timed(10**18 + i) for i in range(60)]
    codes = heard.codes(frames, [0] * 60)
    assert len(set(codes)) == 60
    # The first two one by one; from then on there is a shape.
    assert [isinstance(event, EventSeries) for event in heard.events] == [False, False, True]
    assert [heard.rows()[code >> 2][2] for code in codes] == [10**18 + i for i in range(60)]
    # Numbers from none to the longest that tables hold by themselves.
    for server_id in (0, 10**15 - 1):
        before = len(heard.events)
        codes = heard.codes([timed(10**18 + i, server_id=server_id) for i in range(60)], [0] * 60)
        assert {heard.rows()[code >> 2][4] for code in codes} == {server_id}
        assert isinstance(heard.events[-1], EventSeries)
        assert len(heard.events) <= before + 3
    # What begins with a zero is no number, and what is beyond a table's is none that one holds.
    odd = [timed(10**18 + i).replace(b'"sent_at\\":1', b'"sent_at\\":0') for i in range(30)]
    codes = heard.codes(frames[:1] + odd, [0] * 31)
    assert {heard.rows()[code >> 2][1:4] for code in codes[1:]} == {(-1, -1, -1)}
    far = [timed(9 * 10**18 + i * 10**17) for i in range(9)]
    codes = heard.codes([frames[0], *far, *far], [0] * 19)
    sent_at = [9 * 10**18 + i * 10**17 for i in range(9)]
    assert [heard.rows()[code >> 2][2] for code in codes[1:10]] == [at if at < 2**63 else -1 for at in sent_at]


def test_events_that_say_no_time_are_one_event_however_many_come_at_a_time() -> None:
    """Their latency counts from the first arrival of the event at any page: each different frame has one number."""
    heard = Heard()
    heard.reader.audience(frozenset({"private-servers"}), frozenset())
    texts = [orjson.dumps({"server_id": 5, "timestamp": f"2026-11-27T16:37:{i:02}.000000Z"}).decode() for i in range(40)]
    frames = [written("E", "private-servers", text) for text in texts] * 3
    codes = heard.codes(frames, [0] * len(frames))
    assert codes[:40] == codes[40:80] == codes[80:]
    assert len(set(codes)) == 40


def test_frames_are_remembered_as_long_as_their_numbers_are_recent() -> None:
    heard = Heard()
    heard.reader.audience(frozenset({"private-servers"}), frozenset())
    for batch in range(40):
        heard.codes([timed(10**18 + 1000 * batch + i) for i in range(100)], [0] * 100)
        oldest = min((event.code >> 2 for event in heard.reader.frames.values()), default=heard.count)
        assert heard.count - oldest <= EventReader.REMEMBERED
    assert heard.count == 40 * 100
    assert len(heard.events) < 40 * FEW
