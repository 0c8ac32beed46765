"""What an Inertia page learns from its application, and how it reloads."""

from __future__ import annotations

import html
import json

import pytest

from loadtests.client.inertia import Inertia, page_object

PAGE = {
    "component": "Orders/Show",
    "props": {"order": {"name": "\"a\" & 'b'", "note": "<i data-page='5'>", "updated_at": "x"}},
    "url": "/o/1",
    "version": "v2",
}
TEXT = json.dumps(PAGE)


@pytest.mark.parametrize(
    "body",
    [
        f'<html><div id="app" data-page="{html.escape(TEXT)}"></div>',
        f"<html><div id='app' data-page='{html.escape(TEXT)}'></div>",
        f'<html><script data-page="app" type="application/json">{TEXT}</script><div id="app"></div>',
        TEXT,
    ],
    ids=["attribute", "single quotes", "script", "JSON"],
)
def test_the_page_object_is_found_wherever_it_stands(body: str) -> None:
    assert json.loads(page_object(body.encode())) == PAGE


@pytest.mark.parametrize("body", [b"", b"<html></html>", b"[1]", b'{"data": 1}', b'<div data-page="{">', b"\xff\xfe"])
def test_what_is_no_inertia_page_teaches_nothing(body: bytes) -> None:
    page = Inertia(("order",))
    page.learn(body)
    assert page.headers == b""


def test_a_reload_names_the_version_and_what_it_wants() -> None:
    page = Inertia(("order", "lines"))
    page.learn(TEXT.encode())
    assert page.headers.decode().split("\r\n")[:-1] == [
        "X-Inertia: true",
        "X-Inertia-Version: v2",
        "X-Inertia-Partial-Component: Orders/Show",
        "X-Inertia-Partial-Data: order,lines",
    ]
    whole = Inertia()
    whole.learn(TEXT.encode())
    assert b"Partial" not in whole.headers
