"""What is fuzzed: functions of bytes that may raise nothing but what is documented, and whose answer does not depend on where a
network has cut the bytes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httptools

from loadtests.client.frames import extent
from sim.brokeforge.http import HttpError, Request
from sim.errors import BadInput
from sim.live.application.edge import OpenConnections, ServedConnection
from sim.live.broadcaster.http import HttpReader
from sim.pusher import frames, messages
from sim.pusher.server.apps import App
from sim.pusher.server.hub import Hub
from sim.pusher.server.state import Connection
from sim.results.run import Run
from sim.scenario import load_scenario
from sim.target import Target
from sim.target.dotenv import MalformedDotenv, parse
from sim.workload.traces import load_trace
from tests.torture.rfc6455 import Ear, link_of

SCRATCH = Path(tempfile.gettempdir())


def _frames(data: bytes, step: int) -> list[Any]:
    decoder, found = frames.Decoder(1 << 16), []
    try:
        for start in range(0, len(data), step):
            found += decoder.feed(data[start : start + step])
    except frames.Violation as violation:
        found.append((violation.code, violation.reason))
    return found


def server_frames(data: bytes) -> None:
    """The broadcaster's decoder: whole, and octet by octet."""
    assert _frames(data, max(1, len(data))) == _frames(data, 1)


def _heard(data: bytes, step: int) -> list[str]:
    ear = Ear()
    link = link_of(ear)
    for start in range(0, len(data), step):
        if not ear.gone:
            link.received(data[start : start + step], 1, 2)
    ear._answers()
    return [*ear.heard, "gone" if ear.gone else "open"]


def client_frames(data: bytes) -> None:
    """The load client's: whole, and octet by octet."""
    found = extent(data, 0)
    assert found is None or 0 < found[0] <= found[1]
    assert _heard(data, max(1, len(data))) == _heard(data, 1)


class Peer(Connection):
    """A connection of the hub's that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []

    def write(self, frame: bytes) -> None:
        self.written.append(frame)

    def end(self, frame: bytes = b"") -> None: ...


def hub_messages(data: bytes) -> None:
    """Messages of one client, a line each, to a hub with two: every answer is JSON, and what goes out is a frame."""
    hub = Hub([App("1", "key", "secret", accept_client_events_from="all")])
    first, second = Peer(), Peer()
    for peer in (first, second):
        hub.open(peer, "key", None, 0)
    for line in data.split(b"\n"):
        hub.receive(first, line, 1)
    hub.receive(second, messages.subscribe("c").encode(), 2)
    for peer in (first, second):
        for frame in peer.written:
            if frame[0] & 0x0F == frames.TEXT:
                json.loads(frame[extent(frame, 0)[0] :])  # type: ignore[index]
    hub.closed(first)
    hub.closed(second)
    assert not hub.spaces["1"].connections


def _requests(data: bytes, step: int) -> list[Any]:
    reader = HttpReader()
    with contextlib.suppress(httptools.HttpParserError, httptools.HttpParserUpgrade):
        for start in range(0, len(data), step):
            reader.parser.feed_data(data[start : start + step])
    found = list(reader.waiting)
    for request, _, size in found:
        request.query()
        assert size > 0
    return found


def broadcaster_http(data: bytes) -> None:
    """Requests to the broadcaster: whole, and octet by octet."""
    assert _requests(data, max(1, len(data))) == _requests(data, 1)


class Edge:
    """Transport, application and station of one HTTP connection."""

    def __init__(self) -> None:
        self.written = b""
        self.over = False
        self.asked: list[Request] = []

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.over = True

    abort = close

    def is_closing(self) -> bool:
        return self.over

    def can_write_eof(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def set_protocol(self, protocol: Any) -> None: ...

    def get_extra_info(self, name: str) -> Any:
        return None

    def set_write_buffer_limits(self, high: int) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def arrive(self, request: Request) -> Request:
        return request

    def submit(self, request: Request, done: Callable[..., Any]) -> None:
        self.asked.append(request)
        for read in (request.form, request.json):
            with contextlib.suppress(HttpError):
                read()


def application_http(data: bytes) -> None:
    """Requests to the application: each ends in an answer or waits for more; bodies are read or refused."""
    edge = Edge()

    async def talk() -> None:
        connection = ServedConnection(edge, edge, OpenConnections(10))  # type: ignore[arg-type]
        connection.connection_made(edge)
        for start in range(0, len(data), 7):
            connection.data_received(data[start : start + 7])
        connection.connection_lost(None)

    asyncio.run(talk())
    assert all(part.startswith(b"HTTP/1.1 ") for part in [edge.written] if part)


@contextlib.contextmanager
def _refused_in_one_line() -> Iterator[None]:
    refusal = ""
    try:
        yield
    except BadInput as error:
        refusal = str(error)
    assert "\n" not in refusal


def _file(name: str, data: bytes) -> Path:
    path = SCRATCH / f"fuzzed-{name}"
    path.write_bytes(data)
    return path


def scenario(data: bytes) -> None:
    """A scenario's file is read or refused in one line."""
    path = _file("scenario.toml", data)
    with _refused_in_one_line():
        load_scenario(str(path))
    path.unlink()


def trace(data: bytes) -> None:
    """A trace's file likewise."""
    path = _file("trace.jsonl", data)
    with _refused_in_one_line():
        load_trace(path)
    path.unlink()


def manifest(data: bytes) -> None:
    """A bundle's manifest: a run is refused in one line, or all of it that is not a table can be read."""
    directory = SCRATCH / "fuzzed-bundle"
    directory.mkdir(exist_ok=True)
    (directory / "manifest.json").write_bytes(data)
    with _refused_in_one_line():
        run = Run(directory)
        run.verify()


def target(data: bytes) -> None:
    """A target's description, and a .env file."""
    path = _file("target.json", data)
    with _refused_in_one_line():
        Target.read(path)
    path.unlink()
    with contextlib.suppress(MalformedDotenv):
        parse(data.decode("utf-8", "replace"), {})


TARGETS: dict[str, Callable[[bytes], None]] = {
    function.__name__: function
    for function in (
        server_frames,
        client_frames,
        hub_messages,
        broadcaster_http,
        application_http,
        scenario,
        trace,
        manifest,
        target,
    )
}
