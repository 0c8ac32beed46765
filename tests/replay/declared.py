"""Which differences are on purpose: rules that recognise the rows of `sim.pusher.server.quirks.DIFFERENCES` in an exchange.

A rule is told what was expected and what came, and answers whether its row explains it. What no rule explains is undeclared.
`ends` are rows after which the connection is over here and goes on there: its remaining steps are not compared.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from sim.pusher.server.quirks import DIFFERENCES, as_php
from sim.pusher.server.subscription import MAX_NAME

Step = dict[str, Any]


@dataclass
class Seen:
    """One difference: the recorded step, what came instead, and what the case has shown before."""

    step: Step
    got: Any
    """`Frame`, `Answer`, "closed" or "silent"."""
    sent: dict[str, Any]
    """The last message sent on the connection, as JSON ({} when it was none)."""
    request: str
    """The last HTTP request sent in the case, as text."""
    key: str
    """The app's key."""
    established: bool = False
    """The connection has become a WebSocket."""
    rows: set[str] = field(default_factory=set)
    """Rows that explained something earlier in the case."""

    @property
    def expected(self) -> dict[str, Any]:
        """The recorded frame as JSON."""
        return frame_tree(self.step.get("payload", ""))

    @property
    def came(self) -> dict[str, Any]:
        return frame_tree(self.got.text) if hasattr(self.got, "text") else {}

    @property
    def channel(self) -> str:
        data = self.sent.get("data")
        return str(data.get("channel", "")) if isinstance(data, dict) else ""

    def answers(self, tree: dict[str, Any], event: str, code: int | None = None) -> bool:
        return tree.get("event") == event and (code is None or tree.get("data", {}).get("code") == code)


def frame_tree(text: str) -> dict[str, Any]:
    """A frame's JSON with its `data` decoded; {} when it is none."""
    try:
        tree = json.loads(text)
        if isinstance(tree.get("data"), str):
            tree["data"] = json.loads(tree["data"])
    except (ValueError, AttributeError):
        pass
    else:
        return tree
    return {}


SUCCEEDED = "pusher_internal:subscription_succeeded"
ERROR = "pusher:error"


def _error_for(seen: Seen, code: int) -> bool:
    """A subscription that Reverb accepts is refused here."""
    return seen.answers(seen.expected, SUCCEEDED) and seen.answers(seen.came, ERROR, code)


def _refused(seen: Seen) -> bool:
    """After its error frame the connection is closed with the same code; there, TCP ends (4001) or it goes on."""
    code = seen.got.code if getattr(seen.got, "opcode", "") == "close" else 0
    return code == 4001 or (code in (4004, 4009) and "tcp" not in seen.step)


def _close_frame(seen: Seen) -> bool:
    return (
        "tcp" in seen.step and getattr(seen.got, "opcode", "") == "close" and seen.got.code in (1001, 4009, 4201, 4301)
    ) or seen.answers(seen.came, ERROR, 4301)


def _empty_list(seen: Seen) -> bool:
    if "payload" in seen.step:
        return bool(seen.came) and as_php(seen.came) == as_php(seen.expected)
    try:
        return as_php(json.loads(seen.got.body)) == json.loads(seen.step["body"])
    except (ValueError, AttributeError, KeyError):
        return False


def _http_1_0(seen: Seen) -> bool:
    """The same status and body with other framing, or the connection is kept where it was closed."""
    if "tcp" in seen.step:
        return seen.got == "silent" and "HTTP/1.1" in seen.request and not seen.established
    head, _, body = str(seen.step.get("raw") or seen.step.get("http") or "").partition("\r\n\r\n")
    return hasattr(seen.got, "status") and f" {seen.got.status} " in head and seen.got.body == body


def _presence_user(seen: Seen) -> bool:
    data = seen.sent.get("data", {})
    user = frame_tree(data.get("channel_data") or "{}")
    return seen.channel.startswith("presence-") and user.get("user_id") is None and _error_for(seen, 4200)


def _was_500(seen: Seen) -> bool:
    text = seen.step.get("raw") or seen.step.get("http") or seen.step.get("tcp") or ""
    return "500 Internal Server Error" in text


def _route(seen: Seen) -> str:
    return seen.request.split(" ")[1].partition("?")[0].rpartition("/")[2] if " " in seen.request else ""


RULES: dict[str, Callable[[Seen], bool]] = {
    "quota": lambda s: s.answers(s.expected, "pusher:connection_established") and s.answers(s.came, ERROR, 4004),
    "close_frame": _close_frame,
    "close_reason": lambda s: (
        getattr(s.got, "opcode", "") == "close"
        and s.got.code == s.step.get("close_code")
        and s.step["close_reason"] == f"Ratchet detected {s.got.reason}"
    ),
    "negotiation": lambda s: (
        "http" in s.step and getattr(s.got, "status", 0) in (400, 426, 505) and f" {s.got.status} " in s.step["http"]
    ),
    "upgrade_elsewhere": lambda s: (
        "101 Switching" in s.step.get("http", "") and "/app/" not in s.request and getattr(s.got, "status", 101) != 101
    ),
    "batch_socket_id": lambda s: _was_500(s) and _route(s) == "batch_events" and getattr(s.got, "status", 0) == 200,
    "terminate_without_user": lambda s: (
        (_was_500(s) and _route(s) == "terminate_connections" and getattr(s.got, "status", 0) == 200)
        or ("terminate_without_user" in s.rows and (_route(s) == "connections" or getattr(s.got, "opcode", "") == "close"))
    ),
    "refused": _refused,
    "http_500": lambda s: _was_500(s) and getattr(s.got, "status", 0) in (400, 404, 426),
    "own_established": lambda s: (
        s.sent.get("event") == "pusher:connection_established"
        and s.answers(s.expected, "pusher:connection_established")
        and s.answers(s.came, ERROR, 4200)
    ),
    "channel_zero": lambda s: (
        s.channel == "0" and s.answers(s.expected, SUCCEEDED) and s.answers(s.came, SUCCEEDED) and s.came.get("channel") == "0"
    ),
    "array_signature": lambda s: _was_500(s) and "auth_signature[]" in unquote(s.request),
    "request_key": lambda s: getattr(s.got, "status", 0) == 401 and f"auth_key={s.key}&" not in s.request,
    "bounds": lambda s: _error_for(s, 4100) or (len(s.channel) > MAX_NAME and _error_for(s, 4200)),
    "chunked": lambda s: (
        "transfer-encoding: chunked" in s.request.lower()
        and "401" in s.step.get("status_line", "")
        and getattr(s.got, "status", 0) == 200
    ),
    "head": lambda s: (
        s.request.startswith("HEAD") and getattr(s.got, "body", None) == "" and str(s.got.status) in s.step["status_line"]
    ),
    "http_1_0": _http_1_0,
    "pipelined_frame": lambda s: "<masked text frame" in s.request and s.answers(s.came, "pusher:pong"),
    "auth_key": lambda s: not str(s.sent.get("data", {}).get("auth", "")).startswith(s.key + ":") and _error_for(s, 4009),
    "presence_user": _presence_user,
    "user_info": lambda s: (
        s.channel.startswith("presence-") and s.answers(s.expected, ERROR, 4200) and s.answers(s.came, SUCCEEDED)
    ),
    "empty_channel": lambda s: s.channel == "" and _error_for(s, 4200),
    "loose_kinds": lambda s: (
        s.channel.startswith(("private", "presence", "cache"))
        and not s.channel.startswith(("private-", "presence-", "cache-"))
        and s.answers(s.came, SUCCEEDED)
    ),
    "cache_life": lambda s: s.answers(s.expected, "pusher:cache_miss") and s.came.get("channel") == s.channel,
    "liveness": lambda s: s.sent.get("event") != "pusher:subscribe" and s.answers(s.came, "pusher:ping"),
    "empty_list": _empty_list,
}

ENDS = frozenset({"refused", "quota", "close_frame", "negotiation", "upgrade_elsewhere"})

UNSEEN = frozenset({"global_presence", "empty_body_md5", "request_age", "unsigned_user", "not_http"})
"""Rows that one recorded node cannot show, or that no recorded step depends on. (Recorded requests are signed anew.)"""

assert set(RULES) | UNSEEN == set(DIFFERENCES), set(RULES) ^ (set(DIFFERENCES) - UNSEEN)


def explain(seen: Seen) -> str | None:
    """The row that explains the difference; None: it is undeclared."""
    return next((row for row, rule in RULES.items() if rule(seen)), None)
