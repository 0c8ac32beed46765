"""The opening handshake (RFC 6455, section 4.2): a request in, the answer's head out."""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from hashlib import sha1

from sim.pusher.http import HttpRequest, HttpResponse

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
APP_PATH = re.compile(r"/app/([^/]+)")
POWERED_BY = ("X-Powered-By", "Laravel Reverb")
UPGRADE_HEADERS = (("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"))


def refusal(request: HttpRequest) -> tuple[int, str, tuple[tuple[str, str], ...]] | None:
    """Why the request opens no WebSocket: status, reason, headers. None when it does."""
    headers = request.headers
    if request.version != "1.1":
        return 505, "HTTP Version not supported", ()
    if not headers.get("host"):
        return 400, "Host header MUST be provided", ()
    if headers.get("upgrade", "").strip().lower() != "websocket":
        return 426, "Upgrade header MUST be provided", UPGRADE_HEADERS
    if "upgrade" not in [word.strip().lower() for word in headers.get("connection", "").split(",")]:
        return 400, "Connection Upgrade MUST be requested", ()
    try:
        key = b64decode(headers.get("sec-websocket-key", ""), validate=True)
    except NotBase64:
        key = b""
    if len(key) != 16:
        return 400, "Invalid Sec-WebSocket-Key", ()
    if headers.get("sec-websocket-version") != "13":
        return 426, "Upgrade Required", (("Sec-WebSocket-Version", "13"),)
    return None


def accept(request: HttpRequest) -> bytes:
    """The 101 answer to a request without a `refusal`."""
    digest = sha1((request.headers["sec-websocket-key"] + GUID).encode(), usedforsecurity=False).digest()
    lines = [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {b64encode(digest).decode()}",
        ": ".join(POWERED_BY),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def refuse(status: int, reason: str, headers: tuple[tuple[str, str], ...]) -> HttpResponse:
    return HttpResponse(status, reason, json=False, headers=headers)


def refuse_as_reverb(status: int, reason: str, headers: tuple[tuple[str, str], ...]) -> bytes:
    """A status line after which Reverb goes on as if it had accepted."""
    lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in (*headers, POWERED_BY))]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()
