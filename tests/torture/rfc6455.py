"""RFC 6455 in the spirit of the Autobahn suite, against both ends: the broadcaster as a server, the load client as a client.

python -m tests.torture.rfc6455           # the table of results
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from loadtests.client.link import Link
from sim.pusher import frames
from tests.live.broadcasters import APP, Running, broadcaster
from tests.replay.wire import Closed, Silent, Wire, encode
from tests.torture.case import Stage, case, need

Sent = tuple[int, bytes, dict[str, Any]]
"""Opcode, payload, and how it is framed (`tests.replay.wire.encode`)."""

CONT, TEXT, BINARY, CLOSE, PING, PONG = frames.CONTINUATION, frames.TEXT, frames.BINARY, frames.CLOSE, frames.PING, frames.PONG
LIMIT = 1 << 20
"""Bytes of the longest message: the client's own limit; the broadcaster is told the same."""
UNFINISHED = {"fin": False}


@dataclass(frozen=True, slots=True)
class Rule:
    """What one end does with frames of the other."""

    section: str
    name: str
    sent: tuple[Sent, ...]
    expected: tuple[str, ...]
    """In order: `message` (it came through whole), `other`, `pong <payload>`, `close <code>` (some: `|`), `open`: it goes on."""
    pieces: int = 0
    """Bytes a piece in which it is sent; 0: all at once."""


def message(size: int = 0) -> bytes:
    """A message that a broadcaster answers and a client takes, padded to a size."""
    start, end = b'{"event":"pusher:ping","data":{"x":"', b'"}}'
    return start + b"x" * (size - len(start) - len(end)) + end


def code(number: int, reason: bytes = b"") -> bytes:
    return number.to_bytes(2, "big") + reason


def one(opcode: int, payload: bytes, **how: Any) -> tuple[Sent, ...]:
    return ((opcode, payload, how),)


SNOWMAN = '{"event":"pusher:ping","data":{"x":"κόσμε ☃ \U0001f600"}}'.encode()
BAD_UTF8 = {
    "an overlong form": b"\xc0\xaf",
    "a surrogate": b"\xed\xa0\x80",
    "beyond U+10FFFF": b"\xf4\x90\x80\x80",
    "a lone continuation": b"\x80",
    "a sequence that is cut off": b"\xe2\x98",
}
HALVES = message()[:20], message()[20:]


def rules() -> Iterator[Rule]:
    for size in (60, 125, 126, 127, 128, 65_535, 65_536, LIMIT):
        for name, opcode in (("text", TEXT), ("binary", BINARY)):
            yield Rule("1 framing", f"{name} of {size} bytes", one(opcode, message(size)), ("message", "open"))
    yield Rule("1 framing", "text octet by octet", one(TEXT, message(300)), ("message", "open"), pieces=1)
    yield Rule("1 framing", "long text in pieces of 997", one(TEXT, message(70_000)), ("message", "open"), pieces=997)
    yield Rule("1 framing", "three messages in one segment", 3 * one(TEXT, message()), ("message",) * 3 + ("open",))
    yield Rule("1 framing", "text beyond the limit", one(TEXT, message(LIMIT + 1)), ("close 1009",))

    yield Rule("2 pings", "an empty ping", one(PING, b""), ("pong ", "open"))
    yield Rule("2 pings", "a ping with text", one(PING, b"hello"), ("pong hello", "open"))
    yield Rule("2 pings", "a ping with bytes that are no text", one(PING, b"\x00\xff\xfe"), ("pong \x00ÿþ", "open"))
    yield Rule("2 pings", "a ping of 125 bytes", one(PING, b"x" * 125), ("pong " + "x" * 125, "open"))
    yield Rule("2 pings", "a ping of 126 bytes", one(PING, b"x" * 126), ("close 1002",))
    yield Rule("2 pings", "a ping octet by octet", one(PING, b"hello"), ("pong hello", "open"), pieces=1)
    yield Rule("2 pings", "a pong that nobody asked for", one(PONG, b"x"), ("open",))
    ten = tuple(sent for n in range(10) for sent in one(PING, b"%d" % n))
    yield Rule("2 pings", "ten pings in one segment", ten, (*(f"pong {n}" for n in range(10)), "open"))

    for bits in range(1, 8):
        yield Rule("3 reserved bits", f"RSV {bits} on a text", one(TEXT, message(), rsv=bits), ("close 1002",))
    yield Rule("3 reserved bits", "RSV 4 on a ping", one(PING, b"", rsv=4), ("close 1002",))
    after = (*one(TEXT, message()), *one(TEXT, message(), rsv=2))
    yield Rule("3 reserved bits", "RSV after a message that counts", after, ("message", "close 1002"))

    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        yield Rule("4 opcodes", f"reserved opcode {opcode}", one(opcode, b""), ("close 1002",))

    halves = ((TEXT, HALVES[0], UNFINISHED), (CONT, HALVES[1], {}))
    yield Rule("5 fragments", "a text in two", halves, ("message", "open"))
    yield Rule("5 fragments", "a text in two, octet by octet", halves, ("message", "open"), pieces=1)
    empty = ((TEXT, b"", UNFINISHED), (CONT, message(), UNFINISHED), (CONT, b"", {}))
    yield Rule("5 fragments", "empty first and last", empty, ("message", "open"))
    between = (halves[0], *one(PING, b"in between"), halves[1])
    yield Rule("5 fragments", "a ping in between", between, ("pong in between", "message", "open"))
    yield Rule("5 fragments", "a ping in fragments", one(PING, b"x", fin=False), ("close 1002",))
    yield Rule("5 fragments", "a pong in fragments", one(PONG, b"x", fin=False), ("close 1002",))
    yield Rule("5 fragments", "a close in fragments", one(CLOSE, code(1000), fin=False), ("close 1002",))
    yield Rule("5 fragments", "a continuation of nothing", one(CONT, b"x"), ("close 1002",))
    yield Rule("5 fragments", "an unfinished continuation of nothing", one(CONT, b"x", fin=False), ("close 1002",))
    yield Rule("5 fragments", "a text within a text", (halves[0], *one(TEXT, message())), ("close 1002",))
    many = ((TEXT, b"", UNFINISHED), *((CONT, bytes([b]), UNFINISHED) for b in message()), (CONT, b"", {}))
    yield Rule("5 fragments", "a fragment for each octet", many, ("message", "open"))
    large = ((TEXT, message(LIMIT), UNFINISHED), (CONT, b"x", {}))
    yield Rule("5 fragments", "beyond the limit together", large, ("close 1009",))

    yield Rule("6 UTF-8", "letters of two to four bytes", one(TEXT, SNOWMAN), ("message", "open"))
    cut = SNOWMAN.index("☃".encode()) + 1
    yield Rule(
        "6 UTF-8",
        "a letter cut by a fragment",
        ((TEXT, SNOWMAN[:cut], UNFINISHED), (CONT, SNOWMAN[cut:], {})),
        ("message", "open"),
    )
    for name, bad in BAD_UTF8.items():
        yield Rule("6 UTF-8", name, one(TEXT, b'{"event":"' + bad + b'"}'), ("close 1007",))
    yield Rule(
        "6 UTF-8",
        "bytes that are no text, in a binary message and fragments",
        ((BINARY, b"\xff", UNFINISHED), (CONT, b"\xff", {})),
        ("other", "open"),
    )

    yield Rule("7 closing", "an empty close", one(CLOSE, b""), ("close 1000|1005",))
    for number in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999):
        yield Rule("7 closing", f"code {number}", one(CLOSE, code(number, b"reason")), (f"close {number}",))
    for number in (0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999, 5000, 65535):
        yield Rule("7 closing", f"code {number}, which never travels", one(CLOSE, code(number)), ("close 1002",))
    yield Rule("7 closing", "a code of one byte", one(CLOSE, b"\x03"), ("close 1002",))
    yield Rule("7 closing", "a reason of 123 bytes", one(CLOSE, code(1000, b"x" * 123)), ("close 1000",))
    yield Rule("7 closing", "a reason of 124 bytes", one(CLOSE, code(1000, b"x" * 124)), ("close 1002",))
    yield Rule("7 closing", "a reason that is no UTF-8", one(CLOSE, code(1000, b"\xff")), ("close 1007|1002",))
    yield Rule("7 closing", "a message after the close", (*one(CLOSE, code(1000)), *one(TEXT, message())), ("close 1000",))
    yield Rule("7 closing", "a ping after the close", (*one(CLOSE, code(1000)), *one(PING, b"x")), ("close 1000",))

    yield Rule("8 masks", "a frame with the wrong mask", one(TEXT, message(), wrong_mask=True), ("close 1002",))
    yield Rule("8 masks", "a close with the wrong mask", one(CLOSE, code(1000), wrong_mask=True), ("close 1002",))


def on_the_wire(rule: Rule, from_client: bool) -> Iterator[bytes]:
    """Its bytes, masked as the sender must (or, where the rule says so, must not)."""
    whole = b"".join(
        encode(opcode, payload, {**how, "mask": from_client != bool(how.get("wrong_mask"))}) for opcode, payload, how in rule.sent
    )
    step = rule.pieces or len(whole)
    for start in range(0, len(whole), step):
        yield whole[start : start + step]


# --- the broadcaster ---------------------------------------------------------------------------------------------------

HELLO = (
    b"GET /app/%s HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n" % APP.key.encode()
)


def of_server(rule: Rule, server: Running) -> tuple[str, ...]:
    """What a broadcaster did."""
    wire = Wire(("127.0.0.1", server.port))
    seen: list[str] = []
    try:
        wire.send(HELLO)
        wire.head(5)
        wire.frame(5)  # pusher:connection_established
        for piece in on_the_wire(rule, from_client=True):
            wire.send(piece)
        # A ping of our own at the end: its pong says that the connection goes on, and that nothing else will come before.
        wire.send(encode(PING, b"the end"))
        while True:
            frame = wire.frame(10)
            if frame.opcode == "close":
                seen.append(f"close {frame.code if frame.payload else 1005}")
                wire.rest(10)
                return tuple(seen)
            if frame.opcode == "pong" and frame.payload == b"the end":
                return (*seen, "open")
            if frame.opcode == "pong":
                seen.append(f"pong {frame.payload.decode('latin-1')}")
            else:
                seen.append("message" if json.loads(frame.payload)["event"] == "pusher:pong" else "other")
    except Closed:
        return (*seen, "gone without a close")
    except Silent:
        return (*seen, "silence")
    finally:
        wire.close()


# --- the load client ---------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Ear:
    """A link's listener, and the stream under it: what came through, and what was sent back."""

    heard: list[str] = field(default_factory=list)
    sent: bytes = b""
    gone: bool = False

    def opened(self) -> None: ...

    def text(self, payload: bytes, arrived_at: int, read_at: int, stamp: int) -> None:
        self._answers()
        self.heard.append("message" if payload.startswith(b'{"event":"pusher:ping"') else "other")

    def again(self, known: Any, arrived_at: int, read_at: int, stamp: int) -> None: ...

    def closed(self, number: int, reason: str) -> None:
        self._answers()
        self.gone = True

    def send(self, data: bytes) -> None:
        self.sent += data

    def close(self) -> None: ...

    def _answers(self) -> None:
        for opcode, payload in frames.Decoder(LIMIT).feed(self.sent):
            if opcode == PONG:
                self.heard.append(f"pong {payload.decode('latin-1')}")
            elif opcode == CLOSE:
                self.heard.append(f"close {int.from_bytes(payload[:2], 'big') if payload else 1005}")
        self.sent = b""


def link_of(ear: Ear) -> Link:
    """A link after its handshake, on no network."""
    link = Link.__new__(Link)
    link._listener, link._stream, link._frames = ear, ear, {}  # type: ignore[assignment]
    link._rest, link._fragment, link._protocol = b"", None, None
    link._binary = False
    return link


def of_client(rule: Rule) -> tuple[str, ...]:
    """What the load client did."""
    ear = Ear()
    link = link_of(ear)
    for piece in on_the_wire(rule, from_client=False):
        if not ear.gone:
            link.received(piece, 1, 2)
    ear._answers()
    return (*ear.heard, *(() if ear.gone else ("open",)))


# --- the table ---------------------------------------------------------------------------------------------------------


def agrees(seen: tuple[str, ...], expected: tuple[str, ...]) -> bool:
    if len(seen) != len(expected):
        return False
    for is_, wanted in zip(seen, expected, strict=True):
        if is_ != wanted and not (
            wanted.startswith("close ") and is_.removeprefix("close ") in wanted.removeprefix("close ").split("|")
        ):
            return False
    return True


@dataclass(frozen=True, slots=True)
class Result:
    end: str
    section: str
    name: str
    verdict: str
    """ok, differs"""
    expected: tuple[str, ...]
    seen: tuple[str, ...]


def results() -> Iterator[Result]:
    """Every rule at either end."""
    with broadcaster(replace(APP, max_message_size=LIMIT), max_request_size=2 * LIMIT) as server:
        for rule in rules():
            for end in ("server", "client"):
                seen = of_server(rule, server) if end == "server" else of_client(rule)
                verdict = "ok" if agrees(seen, rule.expected) else "differs"
                yield Result(end, rule.section, rule.name, verdict, rule.expected, seen)
        assert "Traceback" not in server.log, server.log


@case
def rfc_6455(stage: Stage) -> Iterator[str]:
    """Frames, pings, reserved bits, opcodes, fragments, UTF-8, closing, masks: broadcaster and load client do what RFC 6455 says
    of them."""
    found = list(results())
    stage.figures["results"] = [[r.end, r.section, r.name, r.verdict, *r.seen] for r in found]
    for end in ("server", "client"):
        mine = [result for result in found if result.end == end]
        good = sum(result.verdict == "ok" for result in mine)
        yield f"{'broadcaster' if end == 'server' else 'load client'}: {good} of {len(mine)}"
    bad = [f"{r.end}: {r.section}: {r.name}: {r.seen} for {r.expected}" for r in found if r.verdict != "ok"]
    need(not bad, "; ".join(bad[:5]))


if __name__ == "__main__":
    for r in results():
        print(f"{r.verdict:8}{r.end:8}{r.section:18}{r.name:56}{'' if r.verdict == 'ok' else ', '.join(r.seen)[:60]}")
    sys.exit()
