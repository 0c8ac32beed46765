"""Which program has answered, and what its answer means at each place of the pattern: status, server, kind of text.

A proxy's own 403 page, a login form with status 200 and the broadcaster's 403 are three different things; only one of them is
about REVERB_APP_KEY.
"""

from __future__ import annotations

import json
import re
from typing import Any

from sim.live.client import HttpAnswer

PROXIES = ("nginx", "openresty", "apache", "caddy", "cloudflare", "traefik", "envoy", "haproxy", "varnish", "litespeed", "awselb")
"""Beginnings of `Server` headers of proxies."""

CSRF = "a CSRF check stands before it, and no token of this session came: the page must send X-CSRF-TOKEN or X-XSRF-TOKEN"

TITLE = re.compile(rb"<title[^>]*>\s*([^<]{1,60})", re.IGNORECASE)


def is_html(answer: HttpAnswer) -> bool:
    kind = answer.headers.get("content-type", "")
    return "html" in kind or (not kind and answer.body[:200].lstrip()[:9].lower().startswith((b"<!doctype", b"<html")))


def json_object(answer: HttpAnswer) -> dict[str, Any] | None:
    """The JSON object that it holds; None where it holds none."""
    try:
        tree = json.loads(answer.body)
    except (ValueError, RecursionError):
        return None
    return tree if isinstance(tree, dict) else None


def json_of(answer: HttpAnswer) -> dict[str, Any]:
    """The same; empty where it holds none."""
    return json_object(answer) or {}


def proxy_of(answer: HttpAnswer) -> str:
    """The proxy, where the answer is its own; empty: the program behind it has answered."""
    server = answer.headers.get("server", "")
    known = next((name for name in PROXIES if server.lower().startswith(name)), "")
    gateway = answer.status in (502, 503, 504)
    # Programs behind a proxy are known by their answers: Reverb's are plain text or JSON, Laravel's have its headers.
    theirs = "x-powered-by" in answer.headers or "set-cookie" in answer.headers or json_object(answer) is not None
    own = known and not theirs and (is_html(answer) or gateway or 300 <= answer.status < 400)
    return server if own else ""


def in_words(answer: HttpAnswer) -> str:
    """The answer and its sender: `HTTP 403 (nginx/1.24.0, HTML: 403 Forbidden)`."""
    if answer.status == 0:
        return answer.reason
    server = answer.headers.get("server", "") or answer.headers.get("x-powered-by", "")
    if is_html(answer):
        title = TITLE.search(answer.body)
        text = "HTML" + (f": {title[1].decode('utf-8', 'replace').strip()}" if title else "")
    else:
        text = _text(answer)
    target = f"to {answer.headers['location']}" if 300 <= answer.status < 400 and "location" in answer.headers else ""
    details = ", ".join(part for part in (server, target or text) if part)
    return f"HTTP {answer.status} ({details})" if details else f"HTTP {answer.status}"


def _text(answer: HttpAnswer) -> str:
    """The first words of a plain answer, or the message of a JSON one."""
    tree = json_object(answer)
    message = tree.get("message") if tree is not None else answer.body[:300].decode("utf-8", "replace")
    text = message if isinstance(message, str) else ""
    words = " ".join(text.split())
    return words if len(words) <= 80 else f"{words[:77]}..."


def on_the_way(answer: HttpAnswer, what: str) -> str:
    """Advice where a proxy, or another program, has answered in place of the *what* (broadcaster, application). Empty: it was the
    right one, as far as its answer shows."""
    location = answer.headers.get("location", "")
    proxy = proxy_of(answer)
    if 300 <= answer.status < 400 and "login" not in location:
        return f"it redirects: use the address that it names ({location or 'none'}), with its scheme and port"
    if answer.status == 401 and answer.headers.get("www-authenticate", "").lower().startswith("basic"):
        return f"a password stands before the {what}: write it into the URL, as https://user:password@host"
    if answer.status in (502, 504) or (answer.status == 503 and proxy):
        return f"{proxy or 'a proxy'} does not reach the {what} behind it: is it running where the proxy looks for it?"
    if proxy and answer.status in (401, 403):
        return f"{proxy} refuses by itself, the {what} was not asked: look at its allow and deny rules, or the firewall (WAF)"
    if proxy and answer.status == 413:
        return f"{proxy} refuses by size: raise its limit (nginx: client_max_body_size)"
    if proxy and answer.status in (404, 405):
        return f"{proxy} answers by itself: it has no location that leads to the {what} for this path"
    return ""
