"""The slice path of a link against the whole of `websockets`' protocol: same messages, same answers, whatever the splits."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side, State
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from loadtests.client import link as link_module
from loadtests.client.frames import extent, is_one
from loadtests.client.link import COALESCED_STAMP, KERNEL_STAMP, READ_STAMP, Link

URI = parse_uri("ws://127.0.0.1:8080/app/key?protocol=7")


class Pipe:
    """A stream that keeps what it is given."""

    def __init__(self) -> None:
        self.sent = b""
        self.closed = False

    def send(self, data: bytes) -> None:
        assert not self.closed
        self.sent += data

    def close(self) -> None:
        self.closed = True


class Listener:
    def __init__(self) -> None:
        self.opened_times = 0
        self.messages: list[bytes] = []
        self.stamps: list[int] = []
        self.ends: list[tuple[int, str]] = []

    def opened(self) -> None:
        self.opened_times += 1

    def text(self, payload: bytes, arrived_at: int, read_at: int, stamp: int) -> None:
        self.messages.append(payload)
        self.stamps.append(stamp)

    def closed(self, code: int, reason: str) -> None:
        self.ends.append((code, reason))


def connect() -> tuple[Link, Pipe, Listener, ServerProtocol, bytes]:
    """A link that has sent its request, and the answer that the server would give."""
    pipe, listener = Pipe(), Listener()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(link_module, "open_stream", lambda *_: pipe)
        link = Link(None, None, URI, listener, stamp=True)  # type: ignore[arg-type]
    link.connected()
    server = ServerProtocol()
    server.receive_data(pipe.sent)
    (request,) = server.events_received()
    server.send_response(server.accept(request))
    pipe.sent = b""
    return link, pipe, listener, server, b"".join(server.data_to_send())


def frame(opcode: Opcode, data: bytes, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=False)


@st.composite
def streams(draw: Any) -> list[bytes]:
    """Frames as a server may send them: whole messages, fragmented ones with pings in between, pings, pongs."""
    payload = st.text(max_size=300).map(str.encode)
    frames: list[bytes] = []
    for _ in range(draw(st.integers(0, 8))):
        match draw(st.sampled_from(["whole", "whole", "long", "fragments", "ping", "pong"])):
            case "whole":
                frames.append(frame(Opcode.TEXT, draw(payload)))
            case "long":
                frames.append(frame(Opcode.TEXT, b"x" * draw(st.sampled_from([125, 126, 127, 4000, 65535, 65536]))))
            case "ping":
                frames.append(frame(Opcode.PING, draw(st.binary(max_size=125))))
            case "pong":
                frames.append(frame(Opcode.PONG, draw(st.binary(max_size=125))))
            case _:
                pieces = draw(st.lists(payload, min_size=2, max_size=4))
                for i, piece in enumerate(pieces):
                    frames.append(frame(Opcode.CONT if i else Opcode.TEXT, piece, fin=i == len(pieces) - 1))
                    if i < len(pieces) - 1 and draw(st.booleans()):
                        frames.append(frame(Opcode.PING, b"between"))
    return frames


def by_the_protocol(data: bytes) -> list[bytes]:
    """Messages of the stream as the protocol of `websockets` has them."""
    client = Protocol(Side.CLIENT, state=State.OPEN)
    client.receive_data(data)
    messages, parts = [], b""
    for event in client.events_received():
        if isinstance(event, Frame) and event.opcode in (Opcode.TEXT, Opcode.CONT):
            parts += bytes(event.data)
            if event.fin:
                messages.append(parts)
                parts = b""
    return messages


@settings(max_examples=100, deadline=None)
@given(frames=streams(), data=st.data())
def test_any_split_gives_the_messages_that_the_protocol_gives(frames: list[bytes], data: Any) -> None:
    link, pipe, listener, server, response = connect()
    stream = response + b"".join(frames)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(stream)), max_size=12)) | {0, len(stream)})
    for start, end in itertools.pairwise(cuts):
        link.received(stream[start:end], 1, 2)
    assert listener.opened_times == 1
    assert listener.messages == by_the_protocol(b"".join(frames))
    assert listener.ends == []
    server.receive_data(pipe.sent)
    pongs = [bytes(event.data) for event in server.events_received() if isinstance(event, Frame)]
    pings = [f[2:] for f in frames if f[0] == 0x80 | Opcode.PING]
    assert pongs == pings


@given(length=st.integers(0, 1 << 40), mask=st.booleans(), before=st.binary(max_size=4))
@example(0, False, b"")
@example(125, True, b"ab")
@example(126, False, b"abcde")
@example(65_535, True, b"abcde")
@example(65_536, False, b"abcde")
def test_extent_reads_what_the_header_says(length: int, mask: bool, before: bytes) -> None:
    bit = 128 if mask else 0
    if length < 126:
        head = bytes([0x81, bit | length])
    elif length < 65536:
        head = bytes([0x81, bit | 126]) + length.to_bytes(2, "big")
    else:
        head = bytes([0x81, bit | 127]) + length.to_bytes(8, "big")
    payload = len(before) + len(head) + (4 if mask else 0)
    assert extent(before + head, len(before)) == (payload, payload + length)
    for short in range(len(head)):
        assert extent(before + head[:short], len(before)) is None


@pytest.mark.parametrize("length", [126, 255, 256, 65535])
def test_whether_a_read_is_one_middling_message_and_nothing_else(length: int) -> None:
    head = bytes([0x81, 126]) + length.to_bytes(2, "big")
    assert is_one(head + b"x" * length)
    assert not is_one(head + b"x" * (length - 1))
    assert not is_one(head + b"x" * (length + 1))
    assert not is_one(b"\x82" + head[1:] + b"x" * length)
    assert not any(is_one((bytes([0x81, 126, 0, 0]))[:short]) for short in range(5))


def test_only_the_last_message_of_a_read_has_its_own_arrival() -> None:
    link, _, listener, _, response = connect()
    link.received(response, 1, 2)
    one = frame(Opcode.TEXT, b"{}")
    link.received(one, 10, 20)
    link.received(one * 3, 10, 20)
    link.received(one + one[:2], 10, 20)
    link.received(one[2:], 10, 20)
    link.received(one, 20, 20)
    stamps = [KERNEL_STAMP, COALESCED_STAMP, COALESCED_STAMP, KERNEL_STAMP, COALESCED_STAMP, KERNEL_STAMP, READ_STAMP]
    assert listener.stamps == stamps


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(Opcode.CLOSE, (4200).to_bytes(2, "big") + b"again"), 4200),
        (frame(Opcode.CLOSE, b""), 1005),
        (b"\x81\x84abcdxxxx", 1002),  # masked by the server
        (b"\x81\x80abcd", 1002),  # the same without content
        (b"\xc1\x00", 1002),  # reserved bit
        (b"\x83\x00", 1002),  # reserved opcode
        (frame(Opcode.CONT, b"x"), 1002),
        (b"\x81\x7f" + (1 << 30).to_bytes(8, "big"), 1009),
    ],
)
def test_what_ends_a_connection(data: bytes, code: int) -> None:
    link, pipe, listener, _, response = connect()
    link.received(response, 1, 2)
    link.received(data, 3, 4)
    assert [end[0] for end in listener.ends] == [code]
    assert pipe.closed
    link.send("ignored from here on")
    link.close()


@pytest.mark.parametrize(
    ("more", "goodbye"),
    [(None, b""), (b"", b"\x88"), (frame(Opcode.TEXT, b"{", fin=False), b"\x88")],
    ids=["during the handshake", "between messages", "within a message"],
)
def test_goodbye_is_said_as_soon_as_there_is_a_connection(more: bytes | None, goodbye: bytes) -> None:
    link, pipe, _, _, response = connect()
    if more is not None:
        link.received(response + more, 1, 2)
    link.close(4001)
    assert pipe.sent[:1] == goodbye
    assert pipe.closed


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "handshake: HTTP 403"),
        (b"HTTP/1.1 500 Oops\r\nContent-Length: 100\r\n\r\nbut the body never comes", "handshake: HTTP 500"),
        (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n",
            "handshake",
        ),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "handshake"),
        (b"x" * 70_000, "handshake: endless head"),
    ],
)
def test_a_refused_handshake_says_why(answer: bytes, reason: str) -> None:
    link, pipe, listener, _, _ = connect()
    link.received(answer, 1, 2)
    assert pipe.closed
    ((code, said),) = listener.ends
    assert code == 1006
    assert said.startswith(reason)
