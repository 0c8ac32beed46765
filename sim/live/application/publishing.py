"""Publishing to a broadcaster's HTTP API from the application's threads: blocking, signed, one keep-alive connection per thread.

Blocking on purpose: `ShouldBroadcastNow` holds up the request (or the queue's worker) that publishes, and that is what a user
of the pattern pays.
"""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import orjson

from sim.brokeforge.broadcasting.dispatcher import BroadcastFailed
from sim.pusher.auth import sign_request


@dataclass(frozen=True, slots=True)
class BroadcasterAddress:
    """Where to publish, and with the credentials of which app."""

    host: str
    port: int
    app_id: str
    key: str
    secret: str = field(repr=False)
    tls: bool = False


class HttpBroadcasterClient:
    """The dispatcher's `BroadcasterClient` over HTTP. Times in seconds: to connect, and for the whole request."""

    def __init__(
        self,
        address: BroadcasterAddress,
        connect_timeout: float = 10.0,
        timeout: float = 30.0,
        now: Callable[[], int] = time.time_ns,
    ) -> None:
        self.address = address
        self.connect_timeout = connect_timeout
        self.timeout = timeout
        self._now = now
        self._local = threading.local()
        self._path = f"/apps/{address.app_id}/events"

    def trigger(self, name: str, data: str, channels: list[str], socket_id: str | None) -> None:
        event = {"name": name, "data": data}
        where = {"channel": channels[0]} if len(channels) == 1 else {"channels": channels}
        sender = {"socket_id": socket_id} if socket_id else {}
        self._post(orjson.dumps(event | where | sender))

    def _post(self, body: bytes) -> None:
        address = self.address
        query = sign_request(address.key, address.secret, "POST", self._path, {}, body, self._now() // 1_000_000_000)
        target = f"{self._path}?{query}"
        # A kept connection may have been closed by the other side since; only such a one is tried a second time, because
        # the broadcaster then has not read the request.
        kept: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        try:
            if kept is not None:
                try:
                    return self._exchange(kept, target, body)
                except (ConnectionResetError, BrokenPipeError, http.client.RemoteDisconnected):
                    self._forget()
            self._exchange(self._connect(), target, body)
        except (OSError, http.client.HTTPException) as error:
            self._forget()
            raise BroadcastFailed(f"{address.host}:{address.port}: {error or type(error).__name__}") from error

    def _connect(self) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self.address.tls else http.client.HTTPConnection
        connection = kind(self.address.host, self.address.port, timeout=self.connect_timeout)
        connection.connect()
        connection.sock.settimeout(self.timeout)
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._local.connection = connection
        return connection

    def _exchange(self, connection: http.client.HTTPConnection, target: str, body: bytes) -> None:
        headers = {"Content-Type": "application/json", "X-Pusher-Library": "notify-refetch-workbench"}
        connection.request("POST", target, body, headers)
        answer = connection.getresponse()
        text = answer.read()
        if answer.will_close:
            self._forget()
        if answer.status != 200:
            raise BroadcastFailed(f"the broadcaster answered {answer.status}: {text[:200].decode(errors='replace')}")

    def _forget(self) -> None:
        connection = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()
        self._local.connection = None
