"""Who answered, before anything is advised."""

from __future__ import annotations

import pytest

from sim.live.client import HttpAnswer
from sim.live.doctor.answers import in_words, is_html, on_the_way, proxy_of

HTML = {"content-type": "text/html"}
NGINX = {"server": "nginx/1.24.0"}
PAGE = b"<html><head><title>\n 403 Forbidden</title></head></html>"


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (HttpAnswer(403, headers=NGINX | HTML, body=PAGE), "HTTP 403 (nginx/1.24.0, HTML: 403 Forbidden)"),
        (HttpAnswer(401, body=b"Authentication signature invalid."), "HTTP 401 (Authentication signature invalid.)"),
        (HttpAnswer(422, headers={"x-powered-by": "PHP/8.2"}, body=b'{"message": "No."}'), "HTTP 422 (PHP/8.2, No.)"),
        (HttpAnswer(404, body=b"{}"), "HTTP 404"),
        (HttpAnswer(301, headers=NGINX | {"location": "https://h/"}), "HTTP 301 (nginx/1.24.0, to https://h/)"),
        (HttpAnswer(0, "refused"), "refused"),
        (HttpAnswer(500, body=b"\xff" * 9 + b"[" * 100_000), "HTTP 500"),
    ],
)
def test_what_came_back_and_from_whom(answer: HttpAnswer, text: str) -> None:
    assert in_words(answer).startswith(text)


@pytest.mark.parametrize(
    ("answer", "proxy", "advice"),
    [
        (HttpAnswer(403, headers=NGINX | HTML, body=PAGE), "nginx/1.24.0", "refuses by itself"),
        (HttpAnswer(403, headers=NGINX, body=b'{"message": "no"}'), "", ""),
        (HttpAnswer(403, headers=NGINX | HTML | {"set-cookie": "a=b"}, body=PAGE), "", ""),
        (HttpAnswer(403, headers={"server": "Apache/2"} | HTML, body=PAGE), "Apache/2", "refuses by itself"),
        (HttpAnswer(403, headers=HTML, body=PAGE), "", ""),
        (HttpAnswer(502), "", "does not reach"),
        (HttpAnswer(503, headers=NGINX | HTML), "nginx/1.24.0", "does not reach"),
        (HttpAnswer(503, headers={"x-powered-by": "PHP"}), "", ""),
        (HttpAnswer(413, headers=NGINX | HTML), "nginx/1.24.0", "client_max_body_size"),
        (HttpAnswer(405, headers=NGINX | HTML), "nginx/1.24.0", "no location"),
        (HttpAnswer(301, headers={"location": "https://h/"}), "", "https://h/"),
        (HttpAnswer(302, headers={"location": "/login"}), "", ""),
        (HttpAnswer(401, headers={"www-authenticate": "Basic realm=x"}), "", "https://user:password@host"),
        (HttpAnswer(401), "", ""),
    ],
)
def test_whether_it_was_the_one_that_was_asked(answer: HttpAnswer, proxy: str, advice: str) -> None:
    assert proxy_of(answer) == proxy
    found = on_the_way(answer, "broadcaster")
    assert advice in found
    assert bool(advice) == bool(found)


def test_html_without_a_content_type() -> None:
    assert is_html(HttpAnswer(200, body=b"\n<!DOCTYPE html>"))
    assert not is_html(HttpAnswer(200, body=b"plain"))
