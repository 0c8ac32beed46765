"""What goes out after which cookies came in, and what a login's answer means."""

from __future__ import annotations

import pytest

from sim.target.session import Session, csrf_token, login_refusal, login_requests


def test_cookies_come_back_and_the_token_is_decoded() -> None:
    session = Session("https://shop.example")
    session.absorb(["nonsense", "=x", "XSRF-TOKEN=a%3D%3D; path=/; samesite=lax", "shop_session=s1; httponly", "old=1"])
    session.absorb(["old=x; Max-Age=0; path=/", "shop_session=s2"])
    assert session.headers("/login") == [
        ("Cookie", "XSRF-TOKEN=a%3D%3D; shop_session=s2"),
        ("X-XSRF-TOKEN", "a=="),
        ("Origin", "https://shop.example"),
        ("Referer", "https://shop.example/login"),
    ]
    assert Session().headers() == []


@pytest.mark.parametrize(
    ("sets", "asked"),
    [
        ("/sanctum/csrf-cookie", ["GET /sanctum/csrf-cookie", "POST /login"]),
        ("/login", ["GET /sanctum/csrf-cookie", "GET /login", "POST /login"]),
        ("", ["GET /sanctum/csrf-cookie", "GET /login", "POST /login"]),
    ],
)
def test_a_login_asks_for_the_form_where_nothing_else_gives_the_cookie(sets: str, asked: list[str]) -> None:
    session, done = Session(), []
    for method, path, body in login_requests(session, [("email", "a@b")], "/login", "/sanctum/csrf-cookie"):
        done.append(f"{method} {path}")
        session.absorb(["XSRF-TOKEN=x"] if path == sets else [])
        assert body == (b"email=a%40b" if method == "POST" else b"")
    assert done == asked


def test_a_token_that_only_pages_have_goes_into_the_form_and_is_asked_for_anew() -> None:
    session, done = Session(), list[str]()
    pages = {"/login": b'<input type="hidden" name="_token" value="a&amp;b">', "/home": b"<meta name='csrf-token' content=new>"}
    for method, path, body in login_requests(session, [("email", "x")], "/login", "/csrf"):
        done.append(f"{method} {path} {body.decode()}".strip())
        session.absorb(["shop_session=1"], pages.get(path, b"") if method == "GET" else b"", "http://shop.example/home")
    assert done == ["GET /csrf", "GET /login", "POST /login _token=a%26b&email=x", "GET /home"]
    assert session.headers() == [("Cookie", "shop_session=1"), ("X-CSRF-TOKEN", "new")]
    session.absorb(["XSRF-TOKEN=c"])
    assert ("X-XSRF-TOKEN", "c") in session.headers()
    assert "X-CSRF-TOKEN" not in dict(session.headers())


@pytest.mark.parametrize(
    ("page", "token"),
    [
        (b"", ""),
        (b'{"_token": "x"}', ""),
        (b'<input name="email" value="x"><INPUT VALUE="t" NAME="_token"/>', "t"),
        (b'<meta name="description" content="x"><meta content="t" name="csrf-token">', "t"),
        (b'<input name="_token" value="">', ""),
        (b"\xff<input name=_token value=t>", "t"),
        (b'<input data-name="_token" value="x">', ""),
    ],
)
def test_where_a_page_has_its_token(page: bytes, token: str) -> None:
    assert csrf_token(page) == token


@pytest.mark.parametrize(
    ("status", "location", "said"),
    [
        (200, "", ""),
        (204, "", ""),
        (302, "https://shop.example/dashboard", ""),
        (302, "/", ""),
        (302, "https://shop.example/login", "wrong credentials"),
        (302, "/login/", "wrong credentials"),
        (419, "", "CSRF"),
        (422, "", "wrong credentials"),
        (429, "", "five a minute"),
        (404, "", "there is no /login"),
        (500, "", "HTTP 500"),
        (0, "", "no answer"),
    ],
)
def test_a_login_is_accepted_or_says_why_not(status: int, location: str, said: str) -> None:
    refusal = login_refusal(status, location, "/login")
    assert said in refusal
    assert bool(said) == bool(refusal)
