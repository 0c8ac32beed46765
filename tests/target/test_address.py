"""Addresses as people write them: taken as meant, with a note, or refused by the variable's name."""

from __future__ import annotations

import re
from typing import Any

import pytest

from sim.errors import BadInput
from sim.target.address import Address, Names, read_address, read_url

NAMES = Names("REVERB_HOST", "REVERB_PORT", "REVERB_SCHEME", "REVERB_SERVER_PATH")


@pytest.mark.parametrize(
    ("written", "url", "notes"),
    [
        (("ws.example", "8080", "http"), "http://ws.example:8080", 0),
        (("ws.example", None, None), "https://ws.example:443", 0),
        (("ws.example", "", ""), "https://ws.example:443", 0),
        (("ws.example", 8080, "https", "/reverb/"), "https://ws.example:8080/reverb", 0),
        (("https://ws.example", None, None), "https://ws.example:443", 1),
        (("http://ws.example", None, None), "http://ws.example:80", 1),
        (("wss://ws.example:8443/", None, None), "https://ws.example:8443", 1),
        (("ws.example:8080", None, "http"), "http://ws.example:8080", 1),
        (("ws.example:8080", "8080", "http"), "http://ws.example:8080", 1),
        (("ws.example/", None, None), "https://ws.example:443", 1),
        (("::1", "8080", "http"), "http://[::1]:8080", 0),
        (("[::1]", "8080", "http"), "http://[::1]:8080", 0),
        (("[::1]:8080", None, "http"), "http://[::1]:8080", 1),
        (("0.0.0.0", "8080", "http"), "http://127.0.0.1:8080", 1),
        (("::", "8080", "http"), "http://[::1]:8080", 1),
        (("ws.example", "8080", "ws"), "http://ws.example:8080", 1),
        (("ws.example", "443", "WSS"), "https://ws.example:443", 1),
        (("ws.example", "443", "HTTPS"), "https://ws.example:443", 1),
        (("ws.example", "443", "https://"), "https://ws.example:443", 1),
        (("bücher.example", "443", "https"), "https://xn--bcher-kva.example:443", 0),
        (("*", "8080", "http"), "http://127.0.0.1:8080", 1),
        (("0", "8080", "http"), "http://127.0.0.1:8080", 1),
        (("0:0:0:0:0:0:0:0", "8080", "http"), "http://[::1]:8080", 1),
        (("::ffff:0.0.0.0", "8080", "http"), "http://127.0.0.1:8080", 1),
        (("http://[::]:8080/", None, None), "http://[::1]:8080", 2),
        (("ws.example:", "8080", "http"), "http://ws.example:8080", 1),
        (("fe80::1%eth0", "8080", "http"), "http://[fe80::1%eth0]:8080", 0),
        (("reverb_1", "8080", "http"), "http://reverb_1:8080", 0),
    ],
)
def test_what_is_meant(written: tuple[Any, ...], url: str, notes: int) -> None:
    address, said = read_address(NAMES, *written, default="https")
    assert address.url == url
    assert len(said) == notes, said
    assert all("REVERB_" in note.text and note.advice for note in said)


@pytest.mark.parametrize(
    ("written", "complaint"),
    [
        (("https://ws.example", None, "http"), "REVERB_HOST='https://ws.example' contradicts REVERB_SCHEME"),
        (("ws.example:8080", "9090", None), "contradicts REVERB_PORT='9090'"),
        (("ws.example/reverb", None, None), "a path goes into REVERB_SERVER_PATH"),
        (("ftp://ws.example", None, None), "REVERB_HOST='ftp://ws.example' must be a host name"),
        (("two words", None, None), "must be a host name"),
        (("${APP_HOST}", None, None), "a variable in it is not set"),
        (("user:pw@ws.example", None, None), "REVERB_HOST='ws.example' must be a host name"),
        (("1:2:3", None, None), "must be a host name"),
        (("ws.example;", None, None), "must be a host name"),
        (("a.example,b.example", None, None), "must be a host name"),
        (("ws.example:99999", None, None), "the port in REVERB_HOST='ws.example:99999' must be"),
        (("h", "${PORT}", None), "65535 (a variable in it is not set)"),
        (("h", None, "${SCHEME}"), "http or https (a variable in it is not set)"),
        (("[::1", None, None), "must be a host name"),
        (("", None, None), "must be a host name"),
        (("h", "x", None), "REVERB_PORT='x' must be a whole number from 1 to 65535"),
        (("h", "0", None), "REVERB_PORT='0'"),
        (("h", "65536", None), "REVERB_PORT='65536'"),
        (("h", "008080", None), "REVERB_PORT='008080'"),
        (("h", "8080/tcp", None), "REVERB_PORT"),
        (("h", True, None), "REVERB_PORT=True"),
        (("h", "9" * 400, None), "REVERB_PORT"),
        (("h", None, "tcp"), "REVERB_SCHEME='tcp' must be http or https"),
        (("h", None, None, "https://x/y"), "REVERB_SERVER_PATH='https://x/y' must be a path"),
    ],
)
def test_what_may_mean_two_things_is_refused_by_name(written: tuple[Any, ...], complaint: str) -> None:
    with pytest.raises(BadInput, match=re.escape(complaint)):
        read_address(NAMES, *written)


@pytest.mark.parametrize(
    ("written", "url", "credentials", "notes"),
    [
        ("https://shop.example/", "https://shop.example", "", 0),
        ("http://localhost:8000/app/", "http://localhost:8000/app", "", 0),
        ("http://[::1]:8000", "http://[::1]:8000", "", 0),
        ("https://user:p%40ss@shop.example", "https://shop.example", "user:p%40ss", 0),
        ("shop.example", "http://shop.example", "", 1),
        ("http://0.0.0.0:8000", "http://127.0.0.1:8000", "", 1),
        ("http://[::]:8000", "http://[::1]:8000", "", 1),
        ("https://Bücher.example", "https://xn--bcher-kva.example", "", 0),
        ("", "", "", 0),
    ],
)
def test_the_application_s_url(written: str, url: str, credentials: str, notes: int) -> None:
    got, found, said = read_url("APP_URL", written)
    assert (got, found, len(said)) == (url, credentials, notes)


@pytest.mark.parametrize("written", ["ftp://shop.example", "http://", "http://user:hunter2@", "http://h:x", "http://a b"])
def test_no_url_of_an_application(written: str) -> None:
    with pytest.raises(BadInput, match="APP_URL=") as error:
        read_url("APP_URL", written)
    assert "hunter2" not in str(error.value)


def test_ipv6_is_bracketed_where_urls_want_it() -> None:
    assert Address("::1", 8080).authority == "[::1]:8080"
    assert Address("ws.example", 443, "https", "/x").url == "https://ws.example:443/x"
