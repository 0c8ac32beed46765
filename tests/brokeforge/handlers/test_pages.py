"""What pages show, with how many statements, and how they speak Inertia and ETags."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event

from sim.brokeforge.context import ASSET_VERSION
from sim.brokeforge.http import Request, Response
from sim.scenario import Api, Fleet
from tests.brokeforge.conftest import MakeForge
from tests.brokeforge.forge import Forge

INERTIA = {"x-inertia": "true", "x-inertia-version": ASSET_VERSION}


@contextmanager
def statements(forge: Forge) -> Iterator[list[str]]:
    """The statements that the block sends to the database."""
    seen: list[str] = []

    def note(connection: object, cursor: object, statement: str, *rest: object) -> None:
        seen.append(statement)

    event.listen(forge.database.read().engine, "before_cursor_execute", note)
    yield seen
    event.remove(forge.database.read().engine, "before_cursor_execute", note)


def test_a_server_page_shows_all_of_the_resource(forge: Forge) -> None:
    page = forge.json("GET", "/servers/1")
    assert list(page) == [
        "id",
        "vanity_name",
        "connection",
        "provision_status",
        "provision",
        "monitoring_status",
        "scheduler_status",
        "supervisor_status",
        "isFirewallInstalled",
        "firewallStatus",
        "rules",
        "recentEvents",
        "latestMetrics",
        "version",
        "created_at",
        "updated_at",
    ]
    assert page["supervisor_status"] is None
    assert page["rules"][0] == {
        "id": 5,
        "name": "Redis",
        "port": "6379",
        "from_ip_address": None,
        "rule_type": "deny",
        "status": "active",
        "created_at": "2027-01-15T08:00:00.000000Z",
    }
    assert page["recentEvents"][0]["message"] == "server is ready"
    assert page["created_at"] == page["updated_at"] == "2027-01-15T08:00:00.000000Z"


def test_rules_and_events_are_newest_first_and_events_few(forge: Forge) -> None:
    for n in range(15):
        forge.step(1, f"s{n}", "installing")
    forge.json("POST", "/servers/1/firewall/rules", {"name": "newest", "port": 80}, status=201)
    page = forge.json("GET", "/servers/1")
    assert page["rules"][0]["name"] == "newest"
    assert [e["message"] for e in page["recentEvents"]] == [
        "rule newest: pending",
        *(f"s{n}: installing" for n in range(14, 5, -1)),
    ]


def test_the_firewall_page_is_a_part(forge: Forge) -> None:
    page, part = forge.json("GET", "/servers/1"), forge.json("GET", "/servers/1/firewall")
    assert part == {name: page[name] for name in part}
    assert "provision" not in part


def test_a_dashboard_shows_the_users_five_latest(make_forge: MakeForge) -> None:
    forge = make_forge(fleet_=Fleet(users=2, servers_per_user=7, sites_per_user=8))
    board = forge.json("GET", "/dashboard")
    assert [s["id"] for s in board["servers"]] == [7, 6, 5, 4, 3]
    assert [s["id"] for s in board["sites"]] == [8, 7, 6, 5, 4]
    assert board["activities"][0]["description"] == "signed up"
    other = forge.json("GET", "/dashboard", user=2)
    assert [s["id"] for s in other["servers"]] == [14, 13, 12, 11, 10]


def test_a_dashboard_says_how_many_servers_it_was_made_from_where_each_costs_time(make_forge: MakeForge) -> None:
    free, priced = (make_forge(fleet_=Fleet(users=2, servers_per_user=7), api=Api(service_per_row=cost)) for cost in (0.0, 0.001))
    everyones = make_forge(fleet_=Fleet(users=2, servers_per_user=7), api=Api(service_per_row=0.001, dashboard_of="everyone"))
    assert [forge.request("GET", "/dashboard").rows for forge in (free, priced, everyones)] == [0, 7, 14]


def test_the_documents_dashboard_shows_other_peoples_servers(make_forge: MakeForge) -> None:
    forge = make_forge(fleet_=Fleet(users=2, servers_per_user=3), api=Api(dashboard_of="everyone"))
    assert [s["id"] for s in forge.json("GET", "/dashboard", user=1)["servers"]] == [6, 5, 4, 3, 2]


def test_a_dashboards_version_is_the_newest_change_among_what_it_shows(make_forge: MakeForge) -> None:
    mine, everyones = make_forge(), make_forge(api=Api(dashboard_of="everyone"))
    changes: list[tuple[int, str, str, Any]] = [
        (1, "PATCH", "/servers/1", {"connection": "disconnected"}),
        (2, "PATCH", "/sites/2", {"health": "unhealthy"}),
        (2, "POST", "/servers/3/firewall/rules", {"name": "a", "port": 1}),
        (1, "DELETE", "/servers/2", None),
        (1, "PATCH", "/servers/1", {"connection": "disconnected"}),
        (1, "PATCH", "/tasks/1", {"status": "completed"}),  # broadcast whole, and on no dashboard
    ]
    newest = {1: [0, 1, 1, 1, 4, 4, 4], 2: [0, 0, 2, 3, 3, 3, 3]}
    for step in range(len(changes) + 1):
        for user, versions in newest.items():
            assert mine.json("GET", "/dashboard", user=user)["version"] == versions[step], (user, step)
            assert everyones.json("GET", "/dashboard", user=user)["version"] == max(v[step] for v in newest.values())
        if step < len(changes):
            user, method, path, body = changes[step]
            answers = [forge.request(method, path, body, user=user) for forge in (mine, everyones)]
            assert all(answer.status in (200, 201) for answer in answers)


@pytest.mark.parametrize(("path", "most"), [("/servers/1", 5), ("/servers/1/firewall", 4), ("/sites/1", 2), ("/dashboard", 6)])
def test_no_query_per_row(make_forge: MakeForge, path: str, most: int) -> None:
    """The user's own included; the same number for few rows and for many."""
    small = make_forge(fleet_=Fleet(users=1, servers_per_user=1, sites_per_user=1))
    large = make_forge(fleet_=Fleet(users=1, servers_per_user=9, sites_per_user=9))
    for n in range(40):
        large.json("POST", "/servers/1/firewall/rules", {"name": f"r{n}", "port": 1000 + n}, status=201)
    counts = []
    for forge in (small, large):
        with statements(forge) as seen:
            forge.json("GET", path)
        counts.append(len(seen))
    assert counts == [most, most]


@pytest.mark.parametrize("path", ["/servers/3", "/servers/3/firewall", "/sites/2"])
def test_what_is_anothers_is_403_and_what_is_not_there_404(forge: Forge, path: str) -> None:
    assert forge.request("GET", path).status == 403
    assert forge.request("GET", path.replace("3", "999").replace("2", "999")).status == 404
    assert forge.request("GET", path, user=None).status == 401


# --- Inertia ---


def test_an_inertia_visit_gets_the_page_object(forge: Forge) -> None:
    response = forge.request("GET", "/servers/1?tab=a", headers=INERTIA)
    assert dict(response.headers)["X-Inertia"] == "true"
    assert dict(response.headers)["Vary"] == "X-Inertia"
    page = json.loads(response.body)
    assert page == {
        "component": "servers/show",
        "props": {"errors": {}, "server": forge.json("GET", "/servers/1"), "auth": {"user": {"id": 1, "name": "Ada 1"}}},
        "url": "/servers/1?tab=a",
        "version": ASSET_VERSION,
        "clearHistory": False,
        "encryptHistory": False,
    }


@pytest.mark.parametrize(
    ("path", "component", "prop"),
    [
        ("/servers/1", "servers/show", "server"),
        ("/servers/1/firewall", "servers/firewall", "server"),
        ("/sites/1", "sites/show", "site"),
        ("/dashboard", "dashboard", "dashboard"),
    ],
)
def test_components(forge: Forge, path: str, component: str, prop: str) -> None:
    page = forge.json("GET", path, headers=INERTIA)
    assert page["component"] == component
    assert page["props"].keys() == {"errors", "auth", prop}
    assert page["props"][prop] == forge.json("GET", path)


@pytest.mark.parametrize(
    ("component", "only", "excepted", "props"),
    [
        ("servers/show", "server", "", {"server"}),
        ("servers/show", "server,auth", "", {"server", "auth"}),
        ("servers/show", "server.rules", "", {"server"}),
        ("servers/show", "nothing", "", set()),
        ("servers/show", "", "server", {"auth"}),
        ("servers/show", "server", "server", set()),
        ("servers/show", "", "", {"server", "auth"}),
        ("servers/firewall", "auth", "", {"server", "auth"}),
        ("", "auth", "", {"server", "auth"}),
    ],
)
def test_partial_reloads(forge: Forge, component: str, only: str, excepted: str, props: set[str]) -> None:
    headers = INERTIA | {
        "x-inertia-partial-component": component,
        "x-inertia-partial-data": only,
        "x-inertia-partial-except": excepted,
    }
    page = forge.json("GET", "/servers/1", headers=headers)
    assert page["props"].keys() == props | {"errors"}


def test_a_prop_that_is_not_asked_for_costs_nothing(forge: Forge) -> None:
    only = INERTIA | {"x-inertia-partial-component": "servers/show", "x-inertia-partial-data": "auth"}
    with statements(forge) as seen:
        forge.json("GET", "/servers/1", headers=only)
    assert len(seen) == 2, "user and owner, no rules, events or metrics"


@pytest.mark.parametrize("version", [None, "", "0", "2"])
def test_a_page_of_another_asset_version_must_load_anew(forge: Forge, version: str | None) -> None:
    headers = {"x-inertia": "true"} | ({} if version is None else {"x-inertia-version": version})
    response = forge.request("GET", "/servers/1?tab=a", headers=headers)
    assert (response.status, response.body) == (409, b"")
    assert dict(response.headers)["X-Inertia-Location"] == "http://forge.test/servers/1?tab=a"


@pytest.mark.parametrize("path", ["/servers/1", "/dashboard", "/sites/1?tab=a"])
def test_a_browser_gets_a_document_around_the_same_page_object(forge: Forge, path: str) -> None:
    response = forge.request("GET", path, headers={"accept": "text/html, application/xhtml+xml"})
    assert dict(response.headers)["Content-Type"] == "text/html; charset=utf-8"
    held = re.search(r'data-page="([^"]*)"', response.body.decode())
    assert held is not None
    assert json.loads(html.unescape(held[1])) == forge.json("GET", path, headers=INERTIA)


def test_after_a_change_an_inertia_visit_is_sent_back(forge: Forge) -> None:
    headers = {"x-inertia": "true", "referer": "http://forge.test/servers/1"}
    response = forge.request("PATCH", "/servers/1", {"connection": "disconnected"}, headers=headers)
    assert (response.status, dict(response.headers)["Location"]) == (303, "http://forge.test/servers/1")
    response = forge.request("PATCH", "/sites/1", {"health": "unhealthy"}, headers={"x-inertia": "true"})
    assert (response.status, dict(response.headers)["Location"]) == (303, "/sites/1")


# --- ETag, limiter ---


@pytest.mark.parametrize("path", ["/servers/1", "/dashboard", "/sites/1", "/servers/1/firewall"])
def test_what_has_not_changed_is_304_without_a_body(forge: Forge, path: str) -> None:
    tag = dict(forge.request("GET", path).headers)["ETag"]
    for asked in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = forge.request("GET", path, headers={"if-none-match": asked})
        assert (again.status, again.body, dict(again.headers)["ETag"]) == (304, b"", tag)
    assert forge.request("GET", path, headers={"if-none-match": '"other"'}).status == 200
    forge.step(1, "nginx", "installing")
    forge.json("PATCH", "/sites/1", {"health": "unhealthy"})
    assert forge.request("GET", path, headers={"if-none-match": tag}).status == 200


def test_one_answer_serves_those_who_have_it_and_those_who_do_not(forge: Forge) -> None:
    """The cache keeps an answer for both; only as it leaves it becomes 304."""
    plain = Request("GET", "/servers/1", headers={"authorization": "Bearer t"})
    known = Request("GET", "/servers/1", headers={"authorization": "Bearer t", "if-none-match": '"known"'})
    visits = [forge.app.arrive(request) for request in (plain, known)]
    assert visits[0].cache_key is not None
    assert visits[0].cache_key == visits[1].cache_key
    made = Response(200, b"{}", (("Content-Type", "application/json"), ("ETag", '"known"'), ("Vary", "X-Inertia")))
    left = [forge.app.leave(visit, made) for visit in visits]
    assert [response.status for response in left] == [200, 304]
    assert left[1].headers == (("ETag", '"known"'), ("Vary", "X-Inertia"))


def test_the_crowd_that_connects_before_a_load_test_does_not_count(make_forge: MakeForge) -> None:
    forge = make_forge(api=Api(rate_limit=1))
    forge.app.factor = 0.0
    assert [forge.request("GET", "/servers/1").status for _ in range(3)] == [200] * 3
    forge.app.factor = 1.0
    assert [forge.request("GET", "/servers/1").status for _ in range(2)] == [200, 429]


def test_the_rate_limiter_counts_per_user_and_minute(make_forge: MakeForge) -> None:
    forge = make_forge(api=Api(rate_limit=3))
    left = [dict(forge.request("GET", "/dashboard").headers)["X-RateLimit-Remaining"] for _ in range(3)]
    assert left == ["2", "1", "0"]
    forge.clock.pass_(20)
    refused = forge.request("GET", "/dashboard")
    headers = dict(refused.headers)
    assert (refused.status, json.loads(refused.body)) == (429, {"message": "Too Many Attempts."})
    assert (headers["Retry-After"], headers["X-RateLimit-Limit"], headers["X-RateLimit-Remaining"]) == ("40", "3", "0")
    assert int(headers["X-RateLimit-Reset"]) == forge.clock.now() // 10**9 + 40
    assert forge.request("PATCH", "/servers/1", {"connection": "disconnected"}).status == 200, "made elsewhere"
    assert forge.request("GET", "/dashboard", user=2).status == 200
    assert forge.request("GET", "/up", user=None).status == 200
    forge.clock.pass_(40)
    assert forge.request("GET", "/dashboard").status == 200
    assert forge.app.metrics.value("throttled_total") == 1


def test_metrics_are_prometheus_text(forge: Forge) -> None:
    forge.request("GET", "/servers/1")
    forge.request("GET", "/servers/3")
    forge.step(1, "nginx", "installing")
    response = forge.request("GET", "/metrics", user=None)
    lines = response.body.decode().splitlines()
    assert 'http_requests_total{method="GET",route="/servers/{id}",status="200"} 1.0' in lines
    assert 'http_requests_total{method="GET",route="/servers/{id}",status="403"} 1.0' in lines
    assert 'http_request_seconds_count{route="/servers/{id}"} 2.0' in lines
    assert 'http_request_seconds_bucket{le="+Inf",route="/servers/{id}"} 2.0' in lines
    assert 'broadcast_published_total{event="ServerUpdated"} 1.0' in lines
    assert "queue_depth 0.0" in lines
    for line in lines:
        assert line.startswith(("# HELP ", "# TYPE ")) or float(line.rpartition(" ")[2]) >= 0
    assert all(user["token"] not in response.body.decode() for user in forge.users)


def test_a_slow_database_is_slow_at_every_statement(make_forge: MakeForge, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("sim.brokeforge.domain.database.time.sleep", slept.append)
    make_forge().json("GET", "/servers/1")
    assert slept == []
    forge = make_forge(api=Api(database_latency=0.002))
    slept.clear()
    forge.json("GET", "/servers/1")
    assert slept == [0.002] * 5
