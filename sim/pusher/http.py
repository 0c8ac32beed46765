"""HTTP as the API needs it: a request that has been read whole, and a response that knows how it looks on the wire."""

from __future__ import annotations

import contextlib
import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote_plus

MOST = 16 * 1024 * 1024
"""Bytes of a body once it is unpacked; more is cut off."""


def decoded(body: bytes, encoding: str) -> bytes:
    """*body* without its `Content-Encoding`; as it is where that is another than gzip or deflate, or it does not fit. Some
    servers compress though nobody asks for it."""
    if encoding.strip().lower() in ("gzip", "x-gzip", "deflate"):
        with contextlib.suppress(zlib.error):
            return zlib.decompressobj(32 + zlib.MAX_WBITS).decompress(body, MOST)
    return body


@dataclass(slots=True)
class HttpRequest:
    """A whole request. Header names are lower-case; *target* is as sent, without scheme and host; *path* is what precedes `?`."""

    method: str
    target: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    version: str = "1.1"
    chunked: bool = False
    path: str = field(init=False)
    _query: str = field(init=False)

    def __post_init__(self) -> None:
        self.target = origin_form(self.target)
        self.path, _, self._query = self.target.partition("?")

    def query(self) -> dict[str, str]:
        """Decoded parameters; `name[]=a&name[]=b` is joined by commas, as it is for a signature."""
        values: dict[str, str] = {}
        encoded = "%" in self._query or "+" in self._query
        for pair in self._query.split("&"):
            name, equals, value = pair.partition("=")
            if not (name or equals):
                continue
            if encoded:
                name, value = unquote_plus(name), unquote_plus(value)
            if name.endswith("[]"):
                name = name[:-2]
                value = f"{values[name]},{value}" if name in values else value
            values[name] = value
        return values


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """*body* as text; *json* says whether it is JSON or a plain sentence."""

    status: int
    body: str
    json: bool = True
    headers: tuple[tuple[str, str], ...] = ()
    media_type: str = ""

    def encode(self, *, keep_alive: bool, head: bool = False) -> bytes:
        """HTTP/1.1 with a length. *head*: the answer to HEAD, which has no body."""
        body = self.body.encode()
        media_type = self.media_type or ("application/json" if self.json else "text/plain; charset=utf-8")
        lines = [f"HTTP/1.1 {self.status} {phrase(self.status)}", f"Content-Type: {media_type}", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        if not keep_alive:
            lines.append("Connection: close")
        start = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
        return start if head else start + body

    def encode_as_reverb(self, date: str) -> bytes:
        """HTTP/1.0 for JSON, a bare HTTP/1.1 for an error; the connection is closed after either."""
        if not self.json:
            lines = [f"HTTP/1.1 {self.status} {phrase(self.status)}", *(f"{name}: {value}" for name, value in self.headers)]
            return ("\r\n".join(lines) + f"\r\n\r\n{self.body}").encode()
        headers = {
            "Cache-Control": "no-cache, private",
            "Content-Length": str(len(self.body.encode())),
            "Content-Type": "application/json",
            "Date": date,
        }
        lines = [f"{name + ':':<15} {value}\r\n" for name, value in headers.items()]
        return f"HTTP/1.0 {self.status} {phrase(self.status)}\r\n{''.join(lines)}\r\n{self.body}".encode()


_ABSOLUTE = re.compile(r"https?://[^/?#]*", re.IGNORECASE)


def origin_form(target: str) -> str:
    """A request's target without scheme and host, which a server must accept there (RFC 9112, 3.2.2)."""
    if target[:1] == "/" or (match := _ABSOLUTE.match(target)) is None:
        return target
    rest = target[match.end() :]
    return rest if rest[:1] == "/" else f"/{rest}"


def head_without_upgrade(method: str, target: str, headers: Mapping[str, str]) -> bytes:
    """The head of a request, as the last one of its connection, that asks for no other protocol (RFC 9110, 7.8)."""
    kept = [f"{name}: {value}\r\n" for name, value in headers.items() if name not in ("upgrade", "connection")]
    return f"{method} {target} HTTP/1.1\r\n{''.join(kept)}Connection: close\r\n\r\n".encode("latin-1")


@cache
def phrase(status: int) -> str:
    """The reason phrase; Python's own for 413 and 422 changed between versions."""
    return {413: "Request Entity Too Large", 422: "Unprocessable Content"}.get(status) or HTTPStatus(status).phrase


_SPECIAL = re.compile(r"\\(.)|[<>&\']")


def dumps(value: Any) -> str:
    """JSON as Laravel's responses have it: safe inside HTML, so `< > & ' "` within strings are `\\u00XX`."""
    text = json.dumps(value, separators=(",", ":")).replace("/", "\\/")

    def escape(match: re.Match[str]) -> str:
        if match[1] is None:
            return f"\\u{ord(match[0]):04X}"
        return "\\u0022" if match[1] == '"' else match[0]

    return _SPECIAL.sub(escape, text)
