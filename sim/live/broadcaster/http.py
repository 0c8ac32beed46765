"""Requests as the parser delivers them, piece by piece, and as the API takes them, whole."""

from __future__ import annotations

from collections import deque

import httptools

from sim.pusher.http import HttpRequest


class HttpReader:
    """Requests of one connection, one after the other. Gone after an upgrade."""

    def __init__(self) -> None:
        self.parser = httptools.HttpRequestParser(self)
        self.waiting: deque[tuple[HttpRequest, bool]] = deque()
        """Requests that wait for the answer to the one before: (request, keep alive)."""
        self.busy = False
        """A request is being answered."""
        self.broken = False
        """What came after the requests that wait is not HTTP."""
        self.upgrading: HttpRequest | None = None
        self.unfinished = 0
        """Bytes since the last complete request."""
        self._fresh()

    def _fresh(self) -> None:
        self.url = b""
        self.body = b""
        self.headers: dict[str, str] = {}

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        request = HttpRequest(
            method=self.parser.get_method().decode("latin-1"),
            target=self.url.decode("latin-1"),
            headers=self.headers,
            body=self.body,
            version=self.parser.get_http_version(),
            chunked="transfer-encoding" in self.headers,
        )
        self.unfinished = 0
        if not self.parser.should_upgrade():
            self.waiting.append((request, self.parser.should_keep_alive()))
        else:
            self.upgrading = request
        self._fresh()


def wire_size(request: HttpRequest) -> int:
    """Bytes of the request as it was sent, with one space after each header's colon."""
    head = len(request.method) + len(request.target) + 12 + sum(len(n) + len(v) + 4 for n, v in request.headers.items())
    return head + 2 + len(request.body)
