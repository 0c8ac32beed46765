"""What an application is where nothing is said of it, and whose pages it lets in."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sim.pusher.server.apps import App, RateLimiting

APP = App("1", "k", "s")


def test_defaults_are_reverbs() -> None:
    assert App("1", "k", "s", ("*",), 60, 30, None, 10_000, "members", None) == APP
    assert RateLimiting(60, 60, False) == RateLimiting()


@pytest.mark.parametrize(
    ("allowed", "origin", "may"),
    [
        (("*",), None, True),
        (("shop.example",), "https://shop.example:8443/x", True),
        (("shop.example",), "https://shop.example.evil", False),
        (("shop.example",), None, False),
        (("*.shop.example", "localhost"), "http://a.b.shop.example", True),
        (("*.shop.example", "localhost"), "http://shop.example", False),
        (("*.shop.example", "localhost"), "http://localhost", True),
        (("a.c",), "http://abc", False),
        (("shop.example",), "http://[::1", False),
        ((), "https://shop.example", False),
    ],
)
def test_the_host_of_a_page_s_origin_must_be_among_the_allowed(allowed: tuple[str, ...], origin: str | None, may: bool) -> None:
    assert replace(APP, allowed_origins=allowed).allows(origin) is may
