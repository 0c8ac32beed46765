"""Changes through the routes, and everything that is not as it should be: a JSON error, and nothing is written."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sim.brokeforge.domain.models import MAX_STEPS, Server
from sim.brokeforge.handlers.routes import ROUTES, Router
from sim.brokeforge.http import MAX_BODY
from sim.brokeforge.jobs import DeploySite, InstallRule, ProvisionServer, StreamLog
from sim.workload import STATUSES
from tests.brokeforge.conftest import MakeForge
from tests.brokeforge.forge import Forge


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "field"),
    [
        ("PATCH", "/servers/1", b"", 400, None),
        ("PATCH", "/servers/1", b"{", 400, None),
        ("PATCH", "/servers/1", b"\xff\xfe", 400, None),
        ("PATCH", "/servers/1", b"[1]", 400, None),
        ("PATCH", "/servers/1", b"null", 400, None),
        ("PATCH", "/servers/1", {}, 422, "body"),
        ("PATCH", "/servers/1", {"connecton": "connected"}, 422, "connecton"),
        ("PATCH", "/servers/1", {"version": 9}, 422, "version"),
        ("PATCH", "/servers/1", {"user_id": 2}, 422, "user_id"),
        ("PATCH", "/servers/1", {"vanity_name": 5}, 422, "vanity_name"),
        ("PATCH", "/servers/1", {"vanity_name": ""}, 422, "vanity_name"),
        ("PATCH", "/servers/1", {"vanity_name": "x" * 121}, 422, "vanity_name"),
        ("PATCH", "/servers/1", {"vanity_name": "a\x00b"}, 422, "vanity_name"),
        ("PATCH", "/servers/1", {"connection": "excellent"}, 422, "connection"),
        ("PATCH", "/servers/1", {"connection": None}, 422, "connection"),
        ("PATCH", "/servers/1", {"connection": ["connected"]}, 422, "connection"),
        ("PATCH", "/servers/1", {"provision_status": "pending"}, 422, "provision_status"),
        ("PUT", "/servers/1/provision/1", {}, 422, "status"),
        ("PUT", "/servers/1/provision/1", {"status": "done"}, 422, "status"),
        ("PUT", "/servers/1/provision/1", {"status": "failed"}, 422, "status"),
        ("PUT", "/servers/1/provision/new", {"status": "completed"}, 422, "status"),
        ("PUT", "/servers/1/provision/1", {"status": "installing", "at": 3}, 422, "at"),
        ("PUT", "/servers/1/provision/" + "x" * 65, {"status": "installing"}, 422, "step"),
        ("PUT", "/servers/1/provision/a b", {"status": "installing"}, 422, "step"),
        ("PATCH", "/sites/1", {"ssl_enabled": 1}, 422, "ssl_enabled"),
        ("PATCH", "/sites/1", {"last_deployed_at": "yesterday"}, 422, "last_deployed_at"),
        ("PATCH", "/sites/1", {"status": "pending"}, 422, "status"),
        ("POST", "/servers/1/firewall/rules", {"name": "x"}, 422, "port"),
        ("POST", "/servers/1/firewall/rules", {"name": "x" * 81, "port": 1}, 422, "name"),
        ("PATCH", "/sites/1", {"domain": "x" * 191}, 422, "domain"),
        ("POST", "/servers/1/events", {"kind": "log", "message": "x" * 501}, 422, "message"),
        ("POST", "/servers/1/tasks", {"name": "x" * 121}, 422, "name"),
        ("POST", "/servers/1/firewall/rules", {"name": "x", "port": 0}, 422, "port"),
        ("POST", "/servers/1/firewall/rules", {"name": "x", "port": 65536}, 422, "port"),
        ("POST", "/servers/1/firewall/rules", {"name": "x", "port": "90:80"}, 422, "port"),
        ("POST", "/servers/1/firewall/rules", {"name": "x", "port": True}, 422, "port"),
        ("POST", "/servers/1/firewall/rules", {"name": "x", "port": 80, "from_ip_address": "1.2.3"}, 422, "from_ip_address"),
        ("POST", "/servers/1/firewall/rules", {"name": "x", "port": 80, "rule_type": "maybe"}, 422, "rule_type"),
        ("POST", "/servers/1/firewall/rules", {"name": "x", "port": 80, "status": "active"}, 422, "status"),
        ("PATCH", "/servers/1/firewall/rules/1", {"status": "pending"}, 422, "status"),
        ("PATCH", "/servers/1/firewall/rules/6", {"name": "not this server's"}, 404, None),
        ("DELETE", "/servers/1/firewall/rules/6", None, 404, None),
        ("POST", "/servers", {}, 422, "vanity_name"),
        ("PATCH", "/servers/1/firewall", {"status": "failed"}, 422, "status"),
        ("PATCH", "/servers/1/firewall", {}, 422, "status"),
        ("POST", "/servers/1/events", {"kind": "rumour", "message": "x"}, 422, "kind"),
        ("POST", "/servers/1/tasks", {}, 422, "name"),
        ("PATCH", "/tasks/99", {"status": "completed"}, 404, None),
        ("GET", "/tasks/99", None, 404, None),
        ("PATCH", "/servers/3", {"connection": "disconnected"}, 403, None),
        ("DELETE", "/servers/3", None, 403, None),
        ("POST", "/servers/3/sites", {"domain": "x.example.test"}, 403, None),
        ("PATCH", "/sites/2", {"health": "unhealthy"}, 403, None),
        ("PATCH", "/servers/999", {"connection": "disconnected"}, 404, None),
        ("PATCH", "/servers/99999999999999999999", {"connection": "disconnected"}, 404, None),
        ("PATCH", "/servers/abc", {"connection": "disconnected"}, 404, None),
        ("PUT", "/servers/1", {"connection": "disconnected"}, 405, None),
        ("POST", "/dashboard", {}, 405, None),
        ("BREW", "/servers/1", None, 405, None),
        ("GET", "/servers", None, 405, None),
        ("GET", "/servers/", None, 404, None),
        ("GET", "//servers/1", None, 404, None),
        ("GET", "/servers/1/", None, 404, None),
        ("GET", "/etc/passwd", None, 404, None),
        ("PATCH", "/servers/1", b'{"vanity_name": "' + b"x" * MAX_BODY + b'"}', 413, None),
    ],
)
def test_what_is_wrong_is_said_and_changes_nothing(
    forge: Forge, method: str, path: str, body: Any, status: int, field: str | None
) -> None:
    response = forge.request(method, path, body)
    answer = json.loads(response.body)
    assert (response.status, set(answer)) == (status, {"message", "errors"} if field else {"message"}), answer
    assert answer["message"]
    assert ("Content-Type", "application/json") in response.headers
    if field:
        assert list(answer["errors"]) == [field]
        assert all(isinstance(text, str) for text in answer["errors"][field])
    if status == 405:
        assert dict(response.headers)["Allow"]
    assert forge.broadcaster.sent == []
    assert forge.json("GET", "/dashboard")["version"] == 0
    assert forge.json("GET", "/servers/1")["version"] == 1


@pytest.mark.parametrize("route", [r for r in ROUTES if r.guarded], ids=lambda r: f"{r.method} {r.pattern}")
def test_without_a_user_every_guarded_route_is_401(forge: Forge, route: Any) -> None:
    path = route.pattern.replace("{id}", "1").replace("{step}", "x")
    response = forge.request(route.method, path, b"not even JSON", user=None)
    assert (response.status, json.loads(response.body)) == (401, {"message": "Unauthenticated."})


def test_several_errors_are_summed_up_as_laravel_does(forge: Forge) -> None:
    answer = forge.json("PATCH", "/servers/1", {"vanity_name": 5, "connection": 5, "x": 1}, status=422)
    assert answer["message"].endswith("(and 2 more errors)")
    assert set(answer["errors"]) == {"vanity_name", "connection", "x"}


def test_an_error_of_ours_is_500_and_tells_nothing_of_it(forge: Forge, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr("sim.brokeforge.domain.resources.server_resource", broken)
    response = forge.request("GET", "/servers/1")
    assert (response.status, json.loads(response.body)) == (500, {"message": "Server Error"})


def test_a_change_answers_version_sequence_and_the_resource(forge: Forge) -> None:
    answer = forge.step(1, "nginx", "installing")
    assert answer.keys() == {"version", "sequence", "changed", "broadcast", "server"}
    assert answer["server"]["provision"]["nginx"] == "installing"
    assert (answer["version"], answer["sequence"], answer["server"]["version"]) == (2, 1, 2)
    again = forge.step(1, "nginx", "installing")
    assert (again["version"], again["sequence"], again["changed"], again["broadcast"]) == (2, 1, False, False)
    rule = forge.json("POST", "/servers/1/firewall/rules", {"name": "web", "port": 80}, status=201)
    assert rule["rule"] == {
        "id": 31,
        "name": "web",
        "port": "80",
        "from_ip_address": None,
        "rule_type": "allow",
        "status": "pending",
    }
    assert forge.json("PATCH", "/sites/1", {"last_deployed_at": None, "ssl_enabled": False})["site"]["ssl_enabled"] is False


def test_what_is_as_long_as_it_may_be_is_taken(forge: Forge) -> None:
    rule = forge.json("POST", "/servers/1/firewall/rules", {"name": "x" * 80, "port": 65535}, status=201)["rule"]
    assert len(rule["name"]) == 80
    for method, path, body in (
        ("PATCH", "/servers/1", {"vanity_name": "x" * 120}),
        ("PATCH", "/sites/1", {"domain": "x" * 190}),
        ("POST", "/servers/1/events", {"kind": "log", "message": "x" * 500}),
        ("POST", "/servers/1/tasks", {"name": "x" * 120}),
    ):
        assert forge.request(method, path, body).status in (200, 201), path


def test_each_change_is_a_line_of_the_history_and_one_that_changes_nothing_is_none(forge: Forge) -> None:
    lines = {
        ("PATCH", "/servers/1", '{"connection": "disconnected"}'): "connection disconnected",
        ("PATCH", "/servers/1", '{"monitoring_status": "uninstalling"}'): "monitoring_status uninstalling",
        ("PATCH", "/servers/1", '{"monitoring_status": null}'): "monitoring_status not installed",
        ("PUT", "/servers/1/provision/nginx", '{"status": "installing"}'): "nginx: installing",
        ("PATCH", "/servers/1/firewall/rules/1", '{"status": "deleting"}'): "rule SSH: deleting",
        ("DELETE", "/servers/1/firewall/rules/1", ""): "rule SSH: deleted",
        ("PATCH", "/servers/1/firewall", '{"status": "disabled"}'): "firewall disabled",
        ("DELETE", "/servers/1/firewall", ""): "firewall removed",
    }
    for number, ((method, path, body), line) in enumerate(lines.items(), 1):
        for _ in range(2 if method != "DELETE" else 1):
            assert forge.request(method, path, body.encode()).status == 200, line
            events = [event["message"] for event in forge.json("GET", "/servers/1")["recentEvents"]]
            assert events[: min(number, 10)] == list(reversed(list(lines.values())[:number])), "the same again is no change"


def test_what_is_made_and_what_goes_is_among_its_user_s_activities(forge: Forge) -> None:
    server = forge.json("POST", "/servers", {"vanity_name": "new"}, status=201)["server"]["id"]
    site = forge.json("POST", f"/servers/{server}/sites", {"domain": "a.example.test"}, status=201)["site"]["id"]
    forge.json("DELETE", f"/sites/{site}")
    forge.json("DELETE", f"/servers/{server}")
    done = [activity["description"] for activity in forge.json("GET", "/dashboard")["activities"]]
    assert done[:4] == ["deleted server new", "removed site a.example.test", "added site a.example.test", "created server new"]


def test_an_address_is_written_as_a_network_is(forge: Forge) -> None:
    body = {"name": "web", "port": 80, "from_ip_address": "10.1.2.3/8"}
    assert forge.json("POST", "/servers/1/firewall/rules", body, status=201)["rule"]["from_ip_address"] == "10.0.0.0/8"


def test_steps_are_bounded(forge: Forge) -> None:
    with forge.app.transaction() as session:
        session.get_one(Server, 1).provision = {f"p{n}": "installing" for n in range(MAX_STEPS)}
    answer = forge.json("PUT", "/servers/1/provision/more", {"status": "installing"}, status=422)
    assert answer["errors"]["status"] == [f"The server has at most {MAX_STEPS} provision steps."]
    forge.step(1, "p0", "completed")


def test_a_walk_over_all_statuses_of_a_step(forge: Forge) -> None:
    for version, status in enumerate(("pending", "installing", "completed", "pending", "installing", "failed", "installing"), 2):
        assert status in STATUSES
        assert forge.step(1, "9", status)["version"] == version


def test_head_is_get_without_telling(forge: Forge) -> None:
    assert forge.request("HEAD", "/servers/1").status == 200
    assert forge.request("HEAD", "/servers/999").status == 404


@pytest.mark.parametrize(
    ("method", "path", "waits"),
    [
        ("GET", "/servers/1", False),
        ("POST", "/broadcasting/auth", False),
        ("GET", "/up", False),
        ("PUT", "/servers/1/provision/x", True),
        ("POST", "/servers/1/firewall/rules", True),
    ],
)
def test_what_may_wait_is_known_beforehand(forge: Forge, method: str, path: str, waits: bool) -> None:
    from sim.brokeforge.http import Request

    assert forge.app.blocks(forge.app.arrive(Request(method, path))) is waits


def test_each_change_of_the_pattern_is_one_request_and_one_version(forge: Forge) -> None:
    """What pattern.md lists, in the order in which a page would see it."""
    changes: list[tuple[str, str, Any]] = [
        ("POST", "/servers/1/firewall/rules", {"name": "web", "port": 8080}),
        ("PATCH", "/servers/1/firewall/rules/{rule}", {"status": "installing"}),
        ("PATCH", "/servers/1/firewall/rules/{rule}", {"status": "active"}),
        ("PATCH", "/servers/1/firewall/rules/{rule}", {"port": 8081}),
        ("DELETE", "/servers/1/firewall/rules/{rule}", None),
        ("PATCH", "/servers/1/firewall", {"status": "disabled"}),
        ("PATCH", "/servers/1/firewall", {"status": "active"}),
        ("PATCH", "/servers/1", {"connection": "disconnected"}),
        ("PATCH", "/servers/1", {"monitoring_status": "uninstalling"}),
        ("PATCH", "/servers/1", {"monitoring_status": None}),
        ("PATCH", "/servers/1", {"scheduler_status": "failed"}),
        ("PATCH", "/servers/1", {"supervisor_status": "installing"}),
        ("PATCH", "/servers/1", {"provision_status": "installing"}),
        ("PUT", "/servers/1/provision/nginx", {"status": "installing"}),
        ("POST", "/servers/1/events", {"kind": "log", "message": "GET / 200"}),
        ("POST", "/servers/1/events", {"kind": "progress", "message": "database dump: 40 %"}),
        ("POST", "/servers/1/tasks", {"name": "dump app"}),
        ("PATCH", "/tasks/{task}", {"status": "running"}),
        ("PATCH", "/tasks/{task}", {"status": "completed"}),
    ]
    made: dict[str, int] = {}
    for version, (method, path, body) in enumerate(changes, 2):
        path = path.format(**made) if "{" in path else path
        answer = json.loads(forge.request(method, path, body).body)
        assert (answer["version"], answer["changed"], answer["broadcast"]) == (version, True, True), (method, path, answer)
        made |= {part: answer[part]["id"] for part in ("rule", "task") if part in answer}
    for version, (method, path, body) in enumerate(
        [
            ("PATCH", "/sites/1", {"status": "deploying"}),
            ("PATCH", "/sites/1", {"status": "active", "last_deployed_at": "2027-01-15T08:00:00+00:00"}),
            ("PATCH", "/sites/1", {"git_status": "updating"}),
            ("PATCH", "/sites/1", {"health": "unhealthy"}),
        ],
        2,
    ):
        assert forge.json(method, path, body)["version"] == version


def test_a_task_is_broadcast_whole_and_ends_once(forge: Forge) -> None:
    task = forge.json("POST", "/servers/1/tasks", {"name": "dump app"}, status=201)["task"]["id"]
    assert forge.json("GET", f"/tasks/{task}")["completed"] is False
    assert forge.request("GET", f"/tasks/{task}", user=2).status == 403
    assert forge.request("PATCH", f"/tasks/{task}", {"status": "failed"}, user=2).status == 403
    forge.json("PATCH", f"/tasks/{task}", {"status": "completed"})
    (sent,) = forge.broadcaster.of("TaskCompleted")
    page = forge.json("GET", f"/tasks/{task}")
    assert sent.channels == [f"private-tasks.{task}"]
    assert {name: page[name] for name in ("id", "name", "completed")} == {"id": task, "name": "dump app", "completed": True}
    assert sent.data["task"].keys() == {"id", "name", "completed", "completed_at"}
    assert "status" in forge.json("PATCH", f"/tasks/{task}", {"status": "failed"}, status=422)["errors"]
    assert forge.json("PATCH", f"/tasks/{task}", {"status": "completed"})["changed"] is False


def test_a_task_that_recurs_ends_again_and_again_and_changes_nothing_but_itself(forge: Forge) -> None:
    server = forge.json("GET", "/servers/1")["version"]
    for version, status in enumerate(("completed", "failed", "failed", "completed"), 2):
        answer = forge.json("PATCH", "/tasks/1", {"status": status})
        assert (answer["version"], answer["changed"], answer["broadcast"]) == (version, True, True)
        page = forge.json("GET", "/tasks/1")
        assert (page["version"], page["completed"]) == (version, status == "completed")
    sent = forge.broadcaster.of("TaskCompleted")
    assert [event.channels for event in sent] == [["private-tasks.1"]] * 4
    assert [event.data["task"]["completed"] for event in sent] == [True, False, False, True]
    assert not forge.broadcaster.of("ServerUpdated")
    assert forge.json("GET", "/servers/1")["version"] == server
    assert forge.json("GET", "/dashboard")["version"] == 0, "no dashboard shows it"
    assert forge.request("PATCH", "/tasks/1", {"status": "completed"}, user=2).status == 403


# --- jobs ---


@pytest.mark.parametrize(
    ("body", "job"),
    [
        ({"job": "provision", "speed": 20}, ProvisionServer),
        ({"job": "log", "lines": 5}, StreamLog),
        ({"job": "deploy"}, DeploySite),
        ({"job": "rule", "rule": 3, "seconds": 1}, InstallRule),
    ],
)
def test_work_is_begun(forge: Forge, body: dict[str, Any], job: type) -> None:
    assert forge.json("POST", "/servers/1/jobs", body, status=202) == {"job": body["job"], "server": 1}
    assert [type(j) for j in forge.started] == [job]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "job"),
        ({"job": "dance"}, "job"),
        ({"job": "provision", "trace": "nothing"}, "trace"),
        ({"job": "provision", "trace": "../../etc/passwd"}, "trace"),
        ({"job": "provision", "lines": 3}, "lines"),
        ({"job": "provision", "speed": 0}, "speed"),
        ({"job": "log", "per_second": 10_000}, "per_second"),
        ({"job": "rule"}, "rule"),
        ({"job": "rule", "rule": 6}, "rule"),
        ({"job": "deploy", "site": 2}, "site"),
        ({"job": "package", "package": "doom"}, "package"),
    ],
)
def test_work_that_cannot_be_done_is_not_begun(forge: Forge, body: dict[str, Any], field: str) -> None:
    assert field in forge.json("POST", "/servers/1/jobs", body, status=422)["errors"]
    assert forge.started == []


def test_work_for_others_is_not_begun_and_too_much_is_503(make_forge: MakeForge) -> None:
    forge = make_forge()
    assert forge.request("POST", "/servers/3/jobs", {"job": "log"}).status == 403
    assert forge.request("POST", "/servers/999/jobs", {"job": "log"}).status == 404
    forge.app.start = lambda job: False
    assert forge.request("POST", "/servers/1/jobs", {"job": "log"}).status == 503


# --- the router ---


def test_every_route_is_found_by_its_own_pattern() -> None:
    router = Router()
    for route in ROUTES:
        path = route.pattern.replace("{id}", "7").replace("{step}", "a+b").replace("{file}", "a+b")
        found, arguments = router.find(route.method, path)
        assert found is route
        assert arguments == [7] * path.count("7") + ["a+b"] * path.count("a+b")
