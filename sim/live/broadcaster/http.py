"""Requests as the parser delivers them, piece by piece, and as the API takes them, whole."""

from __future__ import annotations

from collections import deque

import httptools

from sim.pusher.http import HttpRequest


class HttpReader:
    """Requests of one connection, one after the other. Gone after an upgrade."""

    def __init__(self) -> None:
        self.parser = httptools.HttpRequestParser(self)
        self.waiting: deque[tuple[HttpRequest, bool, int]] = deque()
        """Requests that wait for the answer to the one before: (request, keep alive, bytes as sent, with one space after each
        header's colon)."""
        self.busy = False
        """A request is being answered."""
        self.scheduled = False
        """The requests that wait are served in the loop's next turn."""
        self.broken = False
        """What came after the requests that wait is not HTTP."""
        self.heard_all = False
        """The peer has closed its direction."""
        self.expecting: int | None = None
        """Bytes of a body that the peer will send once it is asked to (`Expect: 100-continue`)."""
        self.upgrading: HttpRequest | None = None
        self.unfinished = 0
        """Bytes since the last complete request."""

    def restart(self) -> None:
        """Forget the request that was being read: its head comes again."""
        self.parser = httptools.HttpRequestParser(self)
        self.upgrading = None
        self.unfinished = 0

    def on_message_begin(self) -> None:
        self.url = b""
        self.body = b""
        self.headers: dict[str, str] = {}
        self.size = len("  HTTP/1.1\r\n\r\n")
        self.in_head = True

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.in_head:
            return  # a trailer
        self.size += len(name) + len(value) + 4
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        self.headers[key] = f"{self.headers[key]}, {text}" if key in self.headers else text

    def on_headers_complete(self) -> None:
        self.in_head = False
        if "expect" in self.headers and self.headers["expect"].lower() == "100-continue" and not self.parser.should_upgrade():
            length = self.headers.get("content-length", "0").lstrip("0")
            self.expecting = int(length[:18] or 0)

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
        if self.parser.should_upgrade():
            self.upgrading = request
            return
        self.expecting = None
        self.unfinished = 0
        size = self.size + len(request.method) + len(request.target) + len(request.body)
        self.waiting.append((request, self.parser.should_keep_alive(), size))
