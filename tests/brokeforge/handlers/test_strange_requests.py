"""Requests derived from the table of routes and the tables of fields: each has an answer that the interface documents."""

from __future__ import annotations

import json
import random
from typing import Any

from sim.brokeforge.handlers import changes, work
from sim.brokeforge.handlers.routes import ROUTES
from tests.brokeforge.forge import Forge

REQUESTS = 2500
FIELDS = sorted({*changes.SERVER_FIELDS, *changes.SITE_FIELDS, *changes.RULE_FIELDS, *changes.EVENT_FIELDS, *work.FIELDS})
GOOD = [
    "installing",
    "pending",
    "active",
    "failed",
    "completed",
    "connected",
    "deploying",
    "provision",
    "log",
    "deploy",
    "database",
    "rule",
]
GOOD += [
    "package",
    "monitoring",
    "allow",
    "stack",
    "443",
    "8000:8100",
    "10.0.0.1",
    "2026-01-01T00:00:00Z",
    "server",
    1,
    2,
    31,
    0.5,
    True,
]
ODD: list[Any] = [None, "", " ", "x", "x" * 300, "\0", "\ud800", "é", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"]
ODD += ["99999:1", "::1%eth0", "10.0.0.0/33", -1, 0, 2**53, 2**63, 10**30, 1e308, False, [], [1], {}, {"x": 1}, "2026-W01-1"]
IDS = ["0", "1", "2", "3", "31", "99", "9" * 18, "9" * 19, "-1", "+1", "1.0", "é", "", "٣"]
STEPS = ["1", "2", "nginx", "x" * 64, "x" * 65, " ", "\0", "é", "'", "a b"]
RAW = [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b"\xef\xbb\xbf{}", b"[" * 5000, b'{"status": 1e999}', b'{"a": 1, "a": 2}']
HEADERS = [
    ("x-inertia", "true"),
    ("x-inertia-version", "old"),
    ("x-inertia-partial-data", "server,,x"),
    ("if-none-match", 'W/"1"'),
]
HEADERS += [("accept", "\x00"), ("x-socket-id", "1.1"), ("x-socket-id", "x" * 300), ("content-type", "application/json")]


def body(drawn: random.Random) -> Any:
    if drawn.random() < 0.1:
        return drawn.choice(RAW)
    asked = (*[["status"]] * 4, ["name", "port"], ["kind", "message"], ["job"], ["vanity_name"], ["domain"], ["name"])
    names = drawn.choice(asked) if drawn.random() < 0.6 else drawn.sample(FIELDS, 3)
    names = names + drawn.choice(([], [], [], ["user"], [""], ["x"]))
    return {name: drawn.choice((GOOD[:4] if name == "status" else GOOD) if drawn.random() < 0.7 else ODD) for name in names}


def test_every_answer_is_one_of_the_documented(forge: Forge) -> None:
    drawn = random.Random(6)
    wrong, seen = [], set()
    for _ in range(REQUESTS):
        route = drawn.choice(ROUTES)
        if route.method == "DELETE" and drawn.random() < 0.9:
            continue  # else there is soon nothing left to ask for
        path = route.pattern
        while "{id}" in path:
            path = path.replace("{id}", drawn.choice(IDS[1:3] if drawn.random() < 0.7 else IDS), 1)
        path = path.replace("{step}", drawn.choice(STEPS if drawn.random() < 0.4 else STEPS[:3])).replace(
            "{file}", drawn.choice([*STEPS, "..", "board.js"])
        )
        query = drawn.choice(["", "", "?", "?only=x", "?channel_name=%ff&socket_id", "?perPage=-1&page=9e9"])
        sent = body(drawn)
        headers = dict(drawn.sample(HEADERS, drawn.choice((0, 0, 1, 2))))
        method = drawn.choice((route.method, route.method, route.method, "HEAD", "OPTIONS", "X"))
        response = forge.request(method, path + query, sent, user=drawn.choice((1, 1, 1, 2, None)), headers=headers)
        seen.add((route.method, route.pattern, response.status < 300))
        kinds = {name.lower(): value for name, value in response.headers}
        if response.status >= 400 and "json" in kinds.get("content-type", ""):
            json.loads(response.body)
        if response.status not in (200, 201, 202, 204, 303, 304, 400, 401, 403, 404, 405, 409, 422, 429):
            wrong.append((method, path + query, sent, headers, response))
        forge.clock.pass_(1)
    assert wrong == []
    assert {(route.method, route.pattern) for route in ROUTES} == {seen_[:2] for seen_ in seen}
    # Not only refusals: else nothing behind the validation was reached.
    done = {method for method, _, well in seen if well}
    assert done >= {"GET", "POST", "PATCH", "PUT", "DELETE"}
