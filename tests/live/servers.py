"""Small HTTP servers on loopback, good and bad, in the test's own event loop."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

Behaviour = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]
"""Head and body of a request, and where to write."""


async def read_request(reader: asyncio.StreamReader) -> bytes:
    """Head and body of the next request. Raises `IncompleteReadError` when the client has gone."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next((int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
    return head + (await reader.readexactly(length) if length else b"")


@contextlib.asynccontextmanager
async def serving(behave: Behaviour, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A server on 127.0.0.1 that hands every request to *behave*; yields its port."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while not writer.is_closing():
                await behave(await read_request(reader), writer)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def self_signed(directory: Path) -> ssl.SSLContext:
    """A server's context with a certificate that nobody trusts, for localhost; `cert.pem` in *directory* is its own authority."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    key, certificate = directory / "key.pem", directory / "cert.pem"
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


def answer(body: bytes = b"{}", status: str = "200 OK", *headers: str) -> bytes:
    """A complete keep-alive answer."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def always(text: bytes, close: bool = False) -> Behaviour:
    """The same bytes for every request."""

    async def behave(request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(text)
        if close:
            writer.close()

    return behave
