"""One raw client connection: HTTP text and WebSocket frames as bytes, without the mercy of a library."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Any

OPCODES = {"continuation": 0, "text": 1, "binary": 2, "close": 8, "ping": 9, "pong": 10}
NAMES = {number: name for name, number in OPCODES.items()}
MASK = b"\x37\xfa\x21\x3d"


@dataclass(frozen=True)
class Frame:
    """A frame as received."""

    opcode: str
    payload: bytes

    @property
    def text(self) -> str:
        return self.payload.decode("utf-8", "replace")

    @property
    def code(self) -> int:
        return int.from_bytes(self.payload[:2], "big")

    @property
    def reason(self) -> str:
        return self.payload[2:].decode("utf-8", "replace")

    def __str__(self) -> str:
        return f"close {self.code} {self.reason!r}" if self.opcode == "close" else f"{self.opcode} {self.text}"


def encode(opcode: int | str, payload: bytes, how: dict[str, Any] | None = None) -> bytes:
    """A client's frame. *how* may say `mask` (false: unmasked), `fin` (false: to be continued), `rsv` (reserved bits)."""
    how = how or {}
    number = OPCODES[opcode] if isinstance(opcode, str) else opcode
    reserved = int(how.get("rsv", 0)) << 4 | sum(0x40 >> i for i in range(3) if how.get(f"rsv{i + 1}"))
    head = bytes([(0x80 if how.get("fin", True) else 0) | reserved | number])
    masked, size = how.get("mask", True), len(payload)
    bit = 0x80 if masked else 0
    if size < 126:
        head += bytes([bit | size])
    elif size < 65536:
        head += bytes([bit | 126]) + size.to_bytes(2, "big")
    else:
        head += bytes([bit | 127]) + size.to_bytes(8, "big")
    if not masked:
        return head + payload
    return head + MASK + bytes(byte ^ MASK[i % 4] for i, byte in enumerate(payload))


class Closed(Exception):
    """The server ended the connection where something was expected."""


class Silent(Exception):
    """Nothing came in time."""


class Wire:
    """A TCP connection that reads what is asked for: a head, a body, a frame, the end."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, timeout=5)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.gone = False

    def send(self, data: bytes) -> None:
        try:
            self.socket.sendall(data)
        except OSError:
            self.gone = True

    def _more(self, timeout: float) -> None:
        self.socket.settimeout(timeout)
        try:
            data = self.socket.recv(65536)
        except TimeoutError:
            raise Silent from None
        except OSError:
            data = b""
        if not data:
            raise Closed
        self.buffer += data

    def take(self, size: int, timeout: float) -> bytes:
        while len(self.buffer) < size:
            self._more(timeout)
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        return data

    def head(self, timeout: float) -> str:
        """Through the empty line."""
        while b"\r\n\r\n" not in self.buffer:
            self._more(timeout)
        return self.take(self.buffer.index(b"\r\n\r\n") + 4, timeout).decode("latin-1")

    def rest(self, timeout: float) -> bytes:
        """Everything until the server closes; raises `Silent` when it does not."""
        while True:
            try:
                self._more(timeout)
            except Closed:
                data, self.buffer = self.buffer, b""
                return data

    def frame(self, timeout: float) -> Frame:
        first, second = self.take(2, timeout)
        size = second & 0x7F
        if size >= 126:
            size = int.from_bytes(self.take(2 if size == 126 else 8, timeout), "big")
        return Frame(NAMES.get(first & 0x0F, str(first & 0x0F)), self.take(size, timeout))

    def close(self) -> None:
        self.socket.close()
