"""WebSocket frames (RFC 6455), the server's side: bytes in, messages out; messages in, bytes out.

There are no extensions: a reserved bit is a violation. `Decoder.feed` yields what is complete and raises `Violation`, whose
code and reason belong in the close frame, after whatever was complete before it.
"""

from __future__ import annotations

from collections.abc import Iterator

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10

NORMAL, GOING_AWAY, PROTOCOL_ERROR, BAD_PAYLOAD, TOO_BIG = 1000, 1001, 1002, 1007, 1009

CLOSE_CODES = frozenset({1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011})
"""What a peer may send besides 3000..4999 (section 7.4; 1004..1006 and 1015 never travel)."""


class Violation(Exception):
    """The peer broke RFC 6455: close with this code and reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


def encode(opcode: int, payload: bytes) -> bytes:
    """One final, unmasked frame."""
    size = len(payload)
    if size < 126:
        return bytes((0x80 | opcode, size)) + payload
    if size < 65536:
        return bytes((0x80 | opcode, 126)) + size.to_bytes(2, "big") + payload
    return bytes((0x80 | opcode, 127)) + size.to_bytes(8, "big") + payload


def text(message: str) -> bytes:
    return encode(TEXT, message.encode())


def close(code: int, reason: str = "") -> bytes:
    return encode(CLOSE, code.to_bytes(2, "big") + reason.encode()[:123])


def unmask(payload: bytes, mask: bytes) -> bytes:
    """XOR with the repeated mask, as one operation on big integers: no byte is touched in Python."""
    size = len(payload)
    pad = int.from_bytes((mask * (size // 4 + 1))[:size], "little")
    return (int.from_bytes(payload, "little") ^ pad).to_bytes(size, "little")


class Decoder:
    """Reads one connection's frames. *max_size* bounds one message, all fragments together, in bytes."""

    __slots__ = ("_buffer", "_opcode", "_parts", "max_size")

    def __init__(self, max_size: int) -> None:
        self.max_size = max_size
        self._buffer = b""
        self._opcode = CONTINUATION
        self._parts: bytearray | None = None  # of the fragmented message under way

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """(opcode, payload) of each complete message (TEXT, BINARY) and control frame (CLOSE, PING, PONG).

        A TEXT payload is valid UTF-8. Raises `Violation`; the decoder is of no use afterwards.
        """
        buffer = self._buffer + data if self._buffer else data
        start, available = 0, len(buffer)
        try:
            while available - start >= 2:
                head, length = buffer[start], buffer[start + 1]
                opcode, size, body = head & 0x0F, length & 0x7F, start + 6
                if size >= 126:
                    width = 2 if size == 126 else 8
                    if available - start < 2 + width:
                        break
                    size = int.from_bytes(buffer[start + 2 : start + 2 + width], "big")
                    body += width
                self._check(head, bool(length & 0x80), size)
                if available < body + size:
                    break
                payload = unmask(buffer[body : body + size], buffer[body - 4 : body])
                start = body + size
                if opcode >= CLOSE:
                    yield opcode, self._closing(payload) if opcode == CLOSE else payload
                else:
                    message = self._assemble(opcode, payload, final=bool(head & 0x80))
                    if message is not None:
                        yield message
        finally:
            self._buffer = buffer[start:] if start < available else b""

    def _check(self, head: int, masked: bool, size: int) -> None:
        """Everything that can be refused from a frame's head alone, so that an absurd length is never waited for."""
        opcode = head & 0x0F
        if head & 0x70:
            raise Violation(PROTOCOL_ERROR, "an invalid reserve code")
        if not masked:
            raise Violation(PROTOCOL_ERROR, "an incorrect frame mask")
        if opcode > BINARY:
            if size > 125 or not head & 0x80:
                raise Violation(PROTOCOL_ERROR, "a mismatch between final bit and indicated payload length")
            if opcode not in (CLOSE, PING, PONG):
                raise Violation(PROTOCOL_ERROR, "an invalid OP code")
            return
        if opcode == CONTINUATION and self._parts is None:
            raise Violation(PROTOCOL_ERROR, "the first frame of a message was a continue")
        if opcode != CONTINUATION and self._parts is not None:
            raise Violation(PROTOCOL_ERROR, "invalid OP code when expecting continue frame")
        if len(self._parts or b"") + size > self.max_size:
            raise Violation(TOO_BIG, "Maximum message size exceeded")

    def _assemble(self, opcode: int, payload: bytes, final: bool) -> tuple[int, bytes] | None:
        if self._parts is None:
            if not final:
                self._opcode, self._parts = opcode, bytearray(payload)
                return None
        else:
            self._parts += payload
            if not final:
                return None
            opcode, payload, self._parts = self._opcode, bytes(self._parts), None
        if opcode == TEXT and not payload.isascii():
            try:
                payload.decode()
            except UnicodeDecodeError:
                raise Violation(BAD_PAYLOAD, "an invalid message payload") from None
        return opcode, payload

    @staticmethod
    def _closing(payload: bytes) -> bytes:
        """A close frame's payload when it may be echoed: empty, or a valid code and a reason in UTF-8."""
        if payload:
            code = int.from_bytes(payload[:2], "big")
            if len(payload) < 2 or not (code in CLOSE_CODES or 3000 <= code <= 4999):
                raise Violation(PROTOCOL_ERROR, "an invalid close code")
            try:
                payload[2:].decode()
            except UnicodeDecodeError:
                raise Violation(BAD_PAYLOAD, "an invalid UTF-8 payload in the close reason") from None
        return payload
