"""The opening handshake, condition by condition."""

from __future__ import annotations

from dataclasses import replace

import pytest
from websockets.client import ClientProtocol
from websockets.protocol import OPEN
from websockets.uri import parse_uri

from sim.pusher import upgrade
from sim.pusher.http import HttpRequest

GOOD = HttpRequest(
    "GET",
    "/app/key?protocol=7",
    {
        "host": "x",
        "upgrade": "websocket",
        "connection": "keep-alive, Upgrade",
        "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
        "sec-websocket-version": "13",
    },
)


def test_the_example_of_the_rfc() -> None:
    assert upgrade.refusal(GOOD) is None
    assert b"\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in upgrade.accept(GOOD)


def test_another_implementations_client_is_satisfied() -> None:
    client = ClientProtocol(parse_uri("ws://localhost/app/key"))
    request = client.connect()
    client.send_request(request)
    headers = {name.lower(): value for name, value in request.headers.raw_items()}
    ours = HttpRequest("GET", request.path, headers)
    assert upgrade.refusal(ours) is None
    client.receive_data(upgrade.accept(ours))
    client.events_received()
    assert client.handshake_exc is None
    assert client.state is OPEN


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": ""}, 400),
        ({"upgrade": "h2c"}, 426),
        ({"connection": "keep-alive"}, 400),
        ({"sec-websocket-key": ""}, 400),
        ({"sec-websocket-key": "c2hvcnQ="}, 400),
        ({"sec-websocket-key": "no base64!"}, 400),
        ({"sec-websocket-version": "8"}, 426),
    ],
)
def test_refusals(headers: dict[str, str], status: int) -> None:
    refusal = upgrade.refusal(replace(GOOD, headers={**GOOD.headers, **headers}))
    assert refusal is not None
    assert refusal[0] == status


def test_an_old_http_version() -> None:
    refusal = upgrade.refusal(replace(GOOD, version="1.0"))
    assert refusal is not None
    assert refusal[0] == 505
