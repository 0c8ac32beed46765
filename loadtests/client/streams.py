"""TCP and TLS byte streams on the mux: connect, send and receive, none of which waits; and when the kernel received the bytes.

Linux stamps arriving segments (`SO_TIMESTAMPNS`) and returns the stamp with the bytes, so the time that bytes wait for this
process to read them is not part of any latency. This works for TLS as well: decryption happens in memory, on what was read from
the plain socket, and the stamp is that of the last encrypted segment. When one read returns several messages, its stamp is that
of the last one; `sim.results.parts.STAMPS` says which rows that concerns.
"""

from __future__ import annotations

import _socket
import itertools
import os
import ssl
import struct
import sys
import time
from typing import Any, Protocol, cast
from urllib.parse import urlsplit

import gevent
from gevent import socket as gevent_socket

from loadtests.client.mux import READ, WRITE, Mux
from loadtests.client.ring import Taker

SO_TIMESTAMPNS = 35
"""From <asm-generic/socket.h>; the socket module has no name for it. It is also the type of the control message."""

HAS_STAMPS = sys.platform == "linux"
"""Elsewhere the option has other numbers and units, or does not exist; the time of arrival is then the time of reading."""

IP_BIND_ADDRESS_NO_PORT = 24
"""From <linux/in.h>: the port is chosen when the other end is known, so that one port can serve connections to several ends."""

RECEIVE = 65536
WAITING_LIMIT = 1 << 20
"""Bytes waiting to be sent at which a stream gives up: the peer does not read."""

_timespec = struct.Struct("qq").unpack
_monotonic = time.monotonic_ns


class Reader(Protocol):
    """The receiver of the bytes."""

    def received(self, data: bytes, arrived_at: int, read_at: int) -> None:
        """*arrived_at*: the kernel's stamp, or *read_at* where there is none."""


class Owner(Reader, Protocol):
    """The owner of a stream. All calls come from the mux and must not block."""

    def connected(self) -> None: ...

    def ended(self, reason: str) -> None:
        """The peer has closed the stream, or it has failed. No call follows. Not called after `close`."""


class Origin:
    """Scheme, host and port, resolved once to the addresses that answer. Creating one may block its greenlet."""

    def __init__(self, url: str, *, verify: bool = True, worker: int = 0) -> None:
        """*worker*: index of this load process on its machine."""
        self._worker = worker
        parts = urlsplit(url)
        self.host = parts.hostname or ""
        self.secure = parts.scheme in ("https", "wss")
        self.port = parts.port or (443 if self.secure else 80)
        shown = f"[{self.host}]" if ":" in self.host else self.host
        self.authority = shown if parts.port is None else f"{shown}:{parts.port}"
        self.tls: ssl.SSLContext | None = None
        if self.secure:
            self.tls = ssl.create_default_context()
            if not verify:
                self.tls.check_hostname, self.tls.verify_mode = False, ssl.CERT_NONE
        self.addresses = self._resolve()
        self._turn = itertools.cycle(self.addresses)

    def address(self) -> tuple[int, Any]:
        """(family, address) of the next connection. The host's addresses take turns, as with a crowd of browsers."""
        return next(self._turn)

    def source(self, address: Any) -> tuple[str, int] | None:
        """The local address for a connection to *address*; None: the system chooses. On this machine itself each load process
        takes a loopback address of its own, because the ports of one are few (on Linux all of 127.0.0.0/8 is loopback)."""
        if not self._worker or sys.platform != "linux" or not address[0].startswith("127."):
            return None
        return f"127.0.{self._worker // 250}.{self._worker % 250 + 1}", 0

    def _resolve(self) -> list[tuple[int, Any]]:
        """The addresses that accept a connection (`localhost` often has two). Where none does: the first."""
        found = gevent_socket.getaddrinfo(self.host, self.port, type=_socket.SOCK_STREAM)
        known = list(dict.fromkeys((int(family), address) for family, _, _, _, address in found))
        probes = [gevent.spawn(_accepts, *address) for address in known]
        gevent.joinall(probes)
        return [address for address, probe in zip(known, probes, strict=True) if probe.value] or known[:1]


def _accepts(family: int, address: Any) -> bool:
    with gevent_socket.socket(family, _socket.SOCK_STREAM) as probe:
        probe.settimeout(5)
        try:
            probe.connect(address)
        except OSError:
            return False
        return True


def open_stream(mux: Mux, origin: Origin, owner: Owner, stamp: bool, ring: bool = False) -> Stream:
    """Begin to connect. *ring*: *owner* is a `Taker`, read by io_uring where that may be and nothing is encrypted. Raises OSError
    when the system refuses outright (descriptors, ports)."""
    if origin.tls is not None:
        return TlsStream(mux, origin, owner, stamp)
    return Stream(mux, origin, owner, stamp, ring)


class Stream:
    """One TCP connection."""

    __slots__ = (
        "_descriptor",
        "_mux",
        "_open",
        "_owner",
        "_paused",
        "_reader",
        "_ring",
        "_socket",
        "_stamp",
        "_token",
        "_waiting",
    )

    def __init__(self, mux: Mux, origin: Origin, owner: Owner, stamp: bool, ring: bool = False) -> None:
        family, address = origin.address()
        sock = _socket.socket(family, _socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            if (source := origin.source(address)) is not None:
                sock.setsockopt(_socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
                sock.bind(source)
            sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
            if stamp:
                sock.setsockopt(_socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            sock.connect_ex(address)
            mux.watch(sock.fileno(), self, WRITE)
        except OSError:
            sock.close()
            raise
        self._mux, self._owner, self._socket, self._stamp = mux, owner, sock, stamp
        self._reader: Reader = owner
        self._descriptor = sock.fileno()
        self._waiting: bytearray | None = None
        self._open = self._paused = False
        self._ring, self._token = mux.ring if ring else None, 0

    def ready(self, events: int) -> None:
        if events != READ and not self._may_read(events):
            return
        while True:
            try:
                if self._stamp:
                    data, ancillary, _, _ = self._socket.recvmsg(RECEIVE, 64)
                else:
                    data, ancillary = self._socket.recv(RECEIVE), None
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self.over(error.errno or 0)
                return
            arrived_at = read_at = _monotonic() + self._mux.offset
            if not data:
                self.over(0)
                return
            if ancillary:  # The stamp is the only control message that was asked for.
                seconds, nanoseconds = _timespec(ancillary[0][2])
                arrived_at = seconds * 1_000_000_000 + nanoseconds
            self._reader.received(data, arrived_at, read_at)
            # A read that does not fill its buffer has taken all there was, unless the end of the stream comes after it.
            if (len(data) < RECEIVE and not events & ~(READ | WRITE)) or self._paused or self._descriptor < 0:
                return

    def _may_read(self, events: int) -> bool:
        """Handle the rare events: connected, failed, room to send again. Whether there may be something to read as well."""
        if not self._open:
            self._connected()
            return False
        if events & WRITE:
            self._drain()
        return bool(events & ~WRITE) and self._descriptor >= 0 and self._ring is None

    def _connected(self) -> None:
        error = self._socket.getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR)
        if error:
            self._end(f"connect: {os.strerror(error).lower()}")
            return
        self._open = True
        self._watch()
        if self._ring is not None and not self._paused:
            try:
                self._token = self._ring.add(self._descriptor, cast(Taker, self._reader), self.over)
            except OSError as refused:
                self.over(refused.errno or 0)
                return
        self._established()

    def _established(self) -> None:
        self._owner.connected()

    def send(self, data: bytes) -> None:
        """Send as much as fits now, and the rest when the socket takes it. Does nothing once the stream is closed."""
        if self._descriptor < 0:
            return
        if self._waiting is not None:
            self._waiting += data
            if len(self._waiting) > WAITING_LIMIT:
                self._end("the peer does not read")
            return
        try:
            sent = self._socket.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as error:
            self.over(error.errno or 0)
            return
        if sent < len(data):
            self._waiting = bytearray(data[sent:])
            self._watch()

    def _drain(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting:
            Stream.send(self, bytes(waiting))  # Not an override: what waits is encrypted already.
        if self._waiting is None and self._descriptor >= 0:
            self._watch()

    def pause(self) -> None:
        """Stop reading for good, as a page does that hangs."""
        self._paused = True
        if self._ring is not None:
            self._ring.drop(self._token)
        else:
            self._watch()

    @property
    def heard_at(self) -> int:
        """When the ring last recorded something without a call of the reader."""
        return 0 if self._ring is None else self._ring.heard_at(self._token)

    def over(self, error: int) -> None:
        """The stream has ended; *error*: the system's number, 0 where the peer has closed it."""
        self._end(os.strerror(error).lower() if error else "closed by the peer")

    def _watch(self) -> None:
        if self._ring is not None:  # The ring reports the end.
            if self._waiting is None:
                self._mux.forget(self._descriptor)
            else:
                self._mux.watch(self._descriptor, self, WRITE)
            return
        self._mux.watch(self._descriptor, self, (0 if self._paused else READ) | (0 if self._waiting is None else WRITE))

    def _end(self, reason: str) -> None:
        if self._descriptor >= 0:
            self.close()
            self._owner.ended(reason)

    def close(self) -> None:
        """Close the socket. The owner gets no call for it."""
        if self._descriptor >= 0:
            self._mux.forget(self._descriptor)
            if self._ring is not None:  # It holds the socket open.
                self._ring.drop(self._token)
            self._socket.close()
            self._descriptor = -1


class TlsStream(Stream):
    """One TLS connection: the plain socket of `Stream`, and OpenSSL working in memory."""

    __slots__ = ("_encrypted", "_incoming", "_shaken", "_tls")

    def __init__(self, mux: Mux, origin: Origin, owner: Owner, stamp: bool) -> None:
        assert origin.tls is not None
        self._incoming, self._encrypted = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = origin.tls.wrap_bio(self._incoming, self._encrypted, server_hostname=origin.host)
        self._shaken = False
        super().__init__(mux, origin, owner, stamp)
        self._reader = self

    def _established(self) -> None:
        self._shake()

    def _shake(self) -> None:
        try:
            self._tls.do_handshake()
            self._shaken = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLCertVerificationError as error:
            self._end(f"certificate: {error.verify_message}")
            return
        except ssl.SSLError as error:
            self._end(f"TLS: {error.reason or error}")
            return
        self._flush()
        if self._shaken:
            self._owner.connected()

    def received(self, data: bytes, arrived_at: int, read_at: int) -> None:
        """Encrypted bytes, from the plain socket."""
        self._incoming.write(data)
        if not self._shaken:
            self._shake()
            if not self._shaken:
                return
        plain = bytearray()
        ended = ""
        while True:
            try:
                piece = self._tls.read(RECEIVE)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLError as error:
                ended = "closed by the peer" if isinstance(error, ssl.SSLZeroReturnError) else f"TLS: {error.reason or error}"
                break
            if not piece:
                ended = "closed by the peer"
                break
            plain += piece
        self._flush()
        if plain and self._descriptor >= 0:
            self._owner.received(bytes(plain), arrived_at, read_at)
        if ended:
            self._end(ended)

    def send(self, data: bytes) -> None:
        if self._descriptor >= 0:
            self._tls.write(data)
            self._flush()

    def _flush(self) -> None:
        if self._encrypted.pending:
            super().send(self._encrypted.read())
