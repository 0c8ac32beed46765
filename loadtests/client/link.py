"""One WebSocket connection on the mux.

`websockets`' Sans-I/O protocol does the opening handshake, control frames, fragments and errors; a text message in one frame,
which is nearly every message of a broadcaster, is sliced out of what was read. The protocol object (3 KiB) is kept only while
something is going on that it must remember: the handshake, a fragmented message, the end.
"""

from __future__ import annotations

from typing import Any
from typing import Protocol as Interface

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import Protocol, Side, State
from websockets.uri import WebSocketURI

from loadtests.client.frames import WHOLE_TEXT, extent, is_one
from loadtests.client.mux import Mux
from loadtests.client.streams import Origin, open_stream

MAX_SIZE = 1 << 20
"""Largest message accepted, bytes; Reverb's own limit for a publish is 10,000."""
MAX_HEAD = 1 << 16

READ_STAMP, KERNEL_STAMP, COALESCED_STAMP = 0, 1, 2
"""Indices into `sim.results.parts.STAMPS`."""


class LinkListener(Interface):
    """What a link calls. All calls come from the mux and must not block."""

    def opened(self) -> None: ...

    def text(self, payload: bytes, arrived_at: int, read_at: int, stamp: int) -> Any:
        """A message. A value other than None is what `again` gets when the same frame comes again, on this link or another."""

    def again(self, known: Any, arrived_at: int, read_at: int, stamp: int) -> None: ...

    def closed(self, code: int, reason: str) -> None:
        """*code* as a browser would see it: 1006 without a close frame. Not called after `close`."""


class Link:
    """One connection. It connects at once; `send` after `opened`. A closed link stays closed."""

    __slots__ = ("_audience", "_binary", "_fragment", "_frames", "_listener", "_protocol", "_rest", "_stream", "subscriber")

    def __init__(
        self,
        mux: Mux,
        origin: Origin,
        uri: WebSocketURI,
        listener: LinkListener,
        stamp: bool,
        browser_origin: str = "",
        frames: dict[bytes, Any] | None = None,
        audience: int = -1,
        subscriber: int = 0,
    ) -> None:
        """*frames*: frame -> the listener's value for it; several links may share it. *audience*: of a *subscriber* whose events
        are only recorded (`EventReader.audience`); -1: it has none. Raises OSError when the system refuses outright."""
        self._audience, self.subscriber = audience, subscriber
        self._listener, self._frames = listener, {} if frames is None else frames
        self._rest = b""
        self._fragment: bytes | None = None
        self._binary = False
        self._protocol: Protocol | None = ClientProtocol(uri, origin=browser_origin or None, max_size=MAX_SIZE)  # type: ignore[arg-type]
        self._stream = open_stream(mux, origin, self, stamp, True)

    # ---- stream's side

    @property
    def audience(self) -> int:
        """-1 also while the next bytes need not be a whole frame."""
        return self._audience if self._protocol is None and not self._rest else -1

    def connected(self) -> None:
        protocol = self._protocol
        assert isinstance(protocol, ClientProtocol)
        protocol.send_request(protocol.connect())
        self._flush(protocol)

    def received(self, data: bytes, arrived_at: int, read_at: int) -> None:
        if self._protocol is None and not self._rest:
            known = self._frames.get(data)
            if known is not None:
                self._listener.again(known, arrived_at, read_at, READ_STAMP if arrived_at == read_at else KERNEL_STAMP)
                return
            if is_one(data):
                stamp = READ_STAMP if arrived_at == read_at else KERNEL_STAMP
                if (known := self._text(data[4:], arrived_at, read_at, stamp)) is not None:
                    self._frames[data] = known
                return
        if self._rest:
            data, self._rest = self._rest + data, b""
        start = 0
        if self._protocol is not None and self._protocol.state is State.CONNECTING:
            start = self._handshake(self._protocol, data)
        listener, frames, size = self._listener, self._frames, len(data)
        while start < size and self._stream is not None:
            found = extent(data, start)
            if found is None:
                break
            payload, end = found
            if end - payload > MAX_SIZE:
                self._feed(data[start:], arrived_at, read_at, READ_STAMP)
                return
            if end > size:
                break
            stamp = READ_STAMP if arrived_at == read_at else KERNEL_STAMP if end == size else COALESCED_STAMP
            if data[start] == WHOLE_TEXT and self._protocol is None and data[start + 1] < 128:
                frame = data[start:end]
                known = frames.get(frame)
                if known is not None:
                    listener.again(known, arrived_at, read_at, stamp)
                elif (known := self._text(data[payload:end], arrived_at, read_at, stamp)) is not None:
                    frames[frame] = known
            else:
                self._feed(data[start:end], arrived_at, read_at, stamp)
            start = end
        if start < size:
            self._rest = data[start:]

    def ended(self, reason: str) -> None:
        self._stream = None  # type: ignore[assignment]
        self._listener.closed(1006, reason)

    # ---- handshake, control frames, fragments

    def _handshake(self, protocol: Protocol, data: bytes) -> int:
        """Feed the head of the answer; returns where the frames begin that came with it."""
        end = data.find(b"\r\n\r\n") + 4
        if end < 4:
            if len(data) > MAX_HEAD:
                self._fail(1006, "handshake: endless head")
            else:
                self._rest = data
            return len(data)
        protocol.receive_data(data[:end])
        refused = protocol.handshake_exc
        if refused is not None:
            answered = f"HTTP {refused.response.status_code}" if isinstance(refused, InvalidStatus) else str(refused)
            self._fail(1006, f"handshake: {answered}")
        elif not any(isinstance(event, Response) for event in protocol.events_received()):
            # A refusal whose body is still to come: the status is what matters.
            self._fail(1006, f"handshake: HTTP {data[:12].partition(b' ')[2].decode('latin-1')}")
        else:
            self._protocol = None
            self._listener.opened()
        return end

    def _feed(self, data: bytes, arrived_at: int, read_at: int, stamp: int) -> None:
        protocol = self._protocol
        if protocol is None:
            protocol = self._protocol = Protocol(Side.CLIENT, state=State.OPEN, max_size=MAX_SIZE)
        protocol.receive_data(data)
        for frame in protocol.events_received():
            if not isinstance(frame, Frame):
                continue
            if frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                if frame.opcode is not Opcode.CONT:
                    self._binary = frame.opcode is Opcode.BINARY
                self._fragment = (self._fragment or b"") + frame.data
                if frame.fin:
                    message, self._fragment = self._fragment, None
                    if self._binary:
                        self._listener.text(message, arrived_at, read_at, stamp)
                    else:
                        self._text(message, arrived_at, read_at, stamp)
        self._after(protocol)

    def _text(self, payload: bytes, arrived_at: int, read_at: int, stamp: int) -> Any:
        """A text message. One that is not UTF-8 ends the connection, as it does in a browser."""
        if not payload.isascii():
            try:
                payload.decode()
            except UnicodeDecodeError:
                protocol = self._protocol or Protocol(Side.CLIENT, state=State.OPEN)
                protocol.fail(CloseCode.INVALID_DATA, "not UTF-8")
                self._after(protocol)
                return None
        return self._listener.text(payload, arrived_at, read_at, stamp)

    def _after(self, protocol: Protocol) -> None:
        """Send what the protocol wants sent; drop the protocol object when nothing is going on any more."""
        self._flush(protocol)
        if protocol.state is not State.OPEN:
            closing = protocol.close_rcvd or protocol.close_sent
            if closing is None:
                self._fail(1006, "closed")
            else:
                self._fail(int(closing.code), closing.reason)
        elif self._fragment is None:
            self._protocol = None

    def _flush(self, protocol: Protocol) -> None:
        for data in protocol.data_to_send():
            if data and self._stream is not None:
                self._stream.send(data)

    def _fail(self, code: int, reason: str) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None  # type: ignore[assignment]
            self._listener.closed(code, reason)

    # ---- listener's side

    @property
    def heard_at(self) -> int:
        """When a frame was last recorded without a call of the listener (ns); 0: never."""
        return 0 if self._stream is None else self._stream.heard_at

    def send(self, text: str) -> None:
        """One text message. Ignored once the link is closed."""
        if self._stream is not None:
            self._stream.send(Frame(Opcode.TEXT, text.encode()).serialize(mask=True))

    def pause(self) -> None:
        """Never read again, without closing."""
        if self._stream is not None:
            self._stream.pause()

    def close(self, code: int = 1000) -> None:
        """Send a close frame and close the connection. The listener gets no call for it."""
        if self._stream is not None:
            if self._protocol is None or self._protocol.state is State.OPEN:
                self._stream.send(Frame(Opcode.CLOSE, code.to_bytes(2, "big")).serialize(mask=True))
            self._stream.close()
            self._stream = None  # type: ignore[assignment]
