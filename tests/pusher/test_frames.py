"""The frame codec against another implementation's client, in pieces of any size, and against noise."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.frames import Opcode
from websockets.protocol import OPEN
from websockets.uri import parse_uri

from sim.pusher import frames
from sim.pusher.frames import BINARY, CLOSE, PING, PONG, TEXT, Decoder, Violation
from tests.torture.rfc6455 import LIMIT, Rule, agrees, on_the_wire, rules


def client() -> ClientProtocol:
    return ClientProtocol(parse_uri("ws://x/"), state=OPEN, max_size=2**20)


def masked(opcode: int, payload: bytes, fin: bool = True, rsv: int = 0) -> bytes:
    mask = b"\x01\x02\x03\x04"
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else bytes([0x80 | 126]) + size.to_bytes(2, "big")
    return bytes([(0x80 if fin else 0) | rsv | opcode]) + length + mask + frames.unmask(payload, mask)


def read(data: bytes, piece: int = 1 << 20, max_size: int = 10_000) -> list[tuple[int, bytes]]:
    decoder, found = Decoder(max_size), []
    for start in range(0, len(data), piece):
        found += list(decoder.feed(data[start : start + piece]))
    return found


SENT: list[tuple[Callable[[ClientProtocol], None], tuple[int, bytes]]] = [
    (lambda c: c.send_text(b"hello"), (TEXT, b"hello")),
    (lambda c: c.send_text(("\u00e9" * 200).encode()), (TEXT, ("\u00e9" * 200).encode())),
    (lambda c: c.send_binary(b"\x00" * 70_000), (BINARY, b"\x00" * 70_000)),
    (lambda c: c.send_ping(b"hb"), (PING, b"hb")),
    (lambda c: c.send_pong(b""), (PONG, b"")),
    (lambda c: c.send_close(1000, "bye"), (CLOSE, b"\x03\xe8bye")),
]


@pytest.mark.parametrize(("send", "expected"), SENT)
@pytest.mark.parametrize("piece", [1, 3, 1 << 20])
def test_what_another_client_sends(send: Callable[[ClientProtocol], None], expected: tuple[int, bytes], piece: int) -> None:
    sender = client()
    send(sender)
    assert read(b"".join(sender.data_to_send()), piece, 1 << 20) == [expected]


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536])
def test_another_client_reads_what_is_sent(size: int) -> None:
    receiver = client()
    receiver.receive_data(frames.encode(TEXT, b"x" * size) + frames.close(4001, "why"))
    text, close = receiver.events_received()
    assert (text.opcode, len(text.data)) == (Opcode.TEXT, size)
    assert (close.opcode, close.data) == (Opcode.CLOSE, (4001).to_bytes(2, "big") + b"why")


def test_fragments_with_a_ping_between_them() -> None:
    data = masked(TEXT, b"a", fin=False) + masked(PING, b"!") + masked(0, b"b", fin=False) + masked(0, b"c")
    assert read(data) == read(data, 1) == [(PING, b"!"), (TEXT, b"abc")]


def test_a_character_may_be_cut_by_a_fragment_but_not_by_the_end() -> None:
    first, second = "\u00e9".encode()[:1], "\u00e9".encode()[1:]
    assert read(masked(TEXT, first, fin=False) + masked(0, second)) == [(TEXT, "\u00e9".encode())]
    with pytest.raises(Violation) as refused:
        read(masked(TEXT, first))
    assert refused.value.code == 1007


VIOLATIONS = {
    "unmasked": (frames.encode(TEXT, b"x"), 1002),
    "reserved bit": (masked(TEXT, b"x", rsv=0x40), 1002),
    "reserved opcode": (masked(3, b"x"), 1002),
    "reserved control opcode": (masked(11, b"x"), 1002),
    "continuation of nothing": (masked(0, b"x"), 1002),
    "message within a message": (masked(TEXT, b"x", fin=False) + masked(TEXT, b"x"), 1002),
    "fragmented control frame": (masked(PING, b"x", fin=False), 1002),
    "long control frame": (masked(PING, b"x" * 126), 1002),
    "close of one byte": (masked(CLOSE, b"x"), 1002),
    "close code that never travels": (masked(CLOSE, b"\x03\xed"), 1002),
    "close reason that is no text": (masked(CLOSE, b"\x03\xe8\xff"), 1007),
    "text that is no text": (masked(TEXT, b"\xff"), 1007),
    "one frame too large": (masked(TEXT, b"x" * 10_001), 1009),
    "too large in sum": (masked(TEXT, b"x" * 6000, fin=False) + masked(0, b"x" * 6000), 1009),
    "absurd length, never waited for": (b"\x81\xff" + b"\x7f" + b"\xff" * 7, 1009),
}


@pytest.mark.parametrize(("data", "code"), VIOLATIONS.values(), ids=VIOLATIONS)
def test_violations(data: bytes, code: int) -> None:
    with pytest.raises(Violation) as refused:
        read(data)
    assert refused.value.code == code


def test_what_was_complete_before_a_violation_is_delivered() -> None:
    messages = Decoder(100).feed(masked(TEXT, b"good") + masked(3, b"bad"))
    assert next(messages) == (TEXT, b"good")
    with pytest.raises(Violation):
        next(messages)


def test_exactly_the_limit() -> None:
    assert read(masked(TEXT, b"x" * 10_000)) == [(TEXT, b"x" * 10_000)]


@given(st.binary(max_size=300), st.integers(1, 7))
def test_noise_is_read_or_refused_and_never_kept_beyond_the_limit(data: bytes, piece: int) -> None:
    decoder = Decoder(64)
    with contextlib.suppress(Violation):
        for start in range(0, len(data), piece):
            for opcode, payload in decoder.feed(data[start : start + piece]):
                assert opcode in (TEXT, BINARY, CLOSE, PING, PONG)
                assert len(payload) <= 125
    assert len(decoder._buffer) <= 125 + 14 + piece
    assert len(decoder._parts or b"") <= 64


@given(st.lists(st.tuples(st.sampled_from([TEXT, BINARY, PING]), st.text(max_size=30)), max_size=6), st.integers(1, 40))
def test_cutting_changes_nothing(sent: list[tuple[int, str]], piece: int) -> None:
    data = b"".join(masked(opcode, text.encode()[:125]) for opcode, text in sent if len(text.encode()) <= 125)
    assert read(data, piece) == read(data)


@pytest.mark.parametrize("rule", [rule for rule in rules() if not rule.pieces], ids=lambda rule: f"{rule.section}: {rule.name}")
def test_what_rfc_6455_asks_of_a_server(rule: Rule) -> None:
    """The same cases as against the running broadcaster (`tests.torture.rfc6455`), in memory: which frames come through, and with
    which code it closes."""
    seen: list[str] = []
    try:
        for opcode, payload in Decoder(LIMIT).feed(b"".join(on_the_wire(rule, from_client=True))):
            seen.append(f"close {int.from_bytes(payload[:2], 'big') or 1005}" if opcode == CLOSE else f"{opcode}")
            if opcode == CLOSE:
                break
    except Violation as violation:
        seen.append(f"close {violation.code}")
    ends = [word for word in rule.expected if word.startswith("close")]
    assert agrees(tuple(word for word in seen if word.startswith("close")), tuple(ends))
    assert len(seen) == len([word for word in rule.expected if word != "open"]) + sum(
        sent[0] == PONG and not ends for sent in rule.sent
    )


def test_a_head_is_refused_before_anything_follows_it() -> None:
    for head in (b"\xf1\x80", b"\x81\x01", b"\x83\x80", b"\x89\xfe\x00\x7e"):
        with pytest.raises(Violation):
            list(Decoder(100).feed(head))


def test_the_codes_that_we_send() -> None:
    assert (frames.NORMAL, frames.GOING_AWAY, frames.PROTOCOL_ERROR, frames.BAD_PAYLOAD, frames.TOO_BIG) == (
        1000,
        1001,
        1002,
        1007,
        1009,
    )
