"""Models broadcast by themselves: when, what, and when not."""

from __future__ import annotations

import contextlib

import pytest

from sim.brokeforge.domain import change_set
from sim.brokeforge.domain.models import Server, ServerEvent, ServerFirewallRule, ServerSite, Task
from sim.brokeforge.domain.observers import BROADCAST_FIELDS, changed_fields, was_changed
from tests.brokeforge.conftest import MakeForge
from tests.brokeforge.forge import Forge, switched

UPDATED = "App\\Events\\ServerUpdated"


def change_and_fail(forge: Forge) -> None:
    """A save in a transaction that is rolled back."""
    with contextlib.suppress(RuntimeError), forge.app.transaction() as session:
        session.get_one(Server, 1).connection = "disconnected"
        session.flush()
        raise RuntimeError


def test_the_lists_are_those_of_the_pattern() -> None:
    assert BROADCAST_FIELDS[Server] == (
        "provision",
        "provision_status",
        "connection",
        "monitoring_status",
        "scheduler_status",
        "supervisor_status",
    )
    assert BROADCAST_FIELDS[ServerSite] == ("domain", "status", "health", "git_status", "ssl_enabled", "last_deployed_at")


def test_was_changed_is_any_of_the_fields() -> None:
    assert was_changed(["a", "b"], frozenset({"b", "c"}))
    assert not was_changed(["a"], frozenset({"b"}))
    assert not was_changed([], frozenset({"b"}))


def test_a_field_set_to_what_it_was_is_no_change(forge: Forge) -> None:
    with forge.database.sessions() as session:
        server = session.get_one(Server, 1)
        server.connection = "connected"
        assert changed_fields(server) == frozenset()
        server.provision = dict(server.provision)
        assert changed_fields(server) == frozenset()
        server.connection = "disconnected"
        assert changed_fields(server) == {"connection"}


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"connection": "disconnected"}, True),
        ({"provision_status": "installing"}, True),
        ({"monitoring_status": "failed"}, True),
        ({"scheduler_status": "failed"}, True),
        ({"supervisor_status": "installing"}, True),
        ({"vanity_name": "other"}, False),
        ({"vanity_name": "other", "connection": "disconnected"}, True),
        ({"connection": "connected"}, False),
    ],
)
def test_only_a_meaningful_field_of_a_server_is_told(forge: Forge, body: dict[str, str], told: bool) -> None:
    answer = forge.json("PATCH", "/servers/1", body)
    assert answer["broadcast"] is told
    assert forge.broadcaster.names() == [UPDATED] * told
    changed = body != {"connection": "connected"}
    assert (answer["changed"], answer["version"], answer["sequence"]) == (changed, 1 + changed, int(changed))


@pytest.mark.parametrize(
    "body",
    [
        {"domain": "new.example.test"},
        {"status": "deploying"},
        {"health": "unhealthy"},
        {"git_status": "updating"},
        {"ssl_enabled": False},
        {"last_deployed_at": "2027-01-16T08:00:00Z"},
    ],
)
def test_a_meaningful_field_of_a_site_is_told_to_site_channels(forge: Forge, body: dict[str, object]) -> None:
    assert forge.json("PATCH", "/sites/1", body)["version"] == 2
    (sent,) = forge.broadcaster.sent
    assert sent.name == "App\\Events\\ServerSiteUpdated"
    assert sent.channels == ["private-sites.1", "private-sites"]
    assert sent.data == {"site_id": 1, "timestamp": "2027-01-15T08:00:00+00:00"}
    assert forge.json("GET", "/servers/1")["version"] == 1, "a site's change is not its server's"


def test_all_fields_when_the_scenario_says_so(make_forge: MakeForge) -> None:
    forge = make_forge(broadcast=switched(all_fields=True))
    assert forge.json("PATCH", "/servers/1", {"vanity_name": "other"})["broadcast"]
    assert forge.broadcaster.names() == [UPDATED]


def test_the_event_is_an_id_and_a_time_on_two_channels(forge: Forge) -> None:
    forge.json("PATCH", "/servers/1", {"connection": "disconnected"})
    (sent,) = forge.broadcaster.sent
    assert sent.name == UPDATED
    assert sent.channels == ["private-servers.1", "private-servers"]
    assert sent.data == {"server_id": 1, "timestamp": "2027-01-15T08:00:00+00:00"}
    assert list(sent.data) == ["server_id", "timestamp"]


def test_a_step_is_told_on_the_provision_channel_as_well(make_forge: MakeForge) -> None:
    forge = make_forge()
    forge.step(1, "5", "installing")
    assert [(s.name.split("\\")[-1], s.channels) for s in forge.broadcaster.sent] == [
        ("ServerUpdated", ["private-servers.1", "private-servers"]),
        ("ServerProvisionUpdated", ["private-servers.1.provision"]),
    ]
    silent = make_forge(broadcast=switched(provision_event=False))
    silent.step(1, "5", "installing")
    assert silent.broadcaster.names() == [UPDATED]


def test_a_rule_tells_its_server_in_all_its_life(forge: Forge) -> None:
    rule = forge.json("POST", "/servers/1/firewall/rules", {"name": "web", "port": "8000:8100"}, status=201)["rule"]["id"]
    for status in ("installing", "active", "deleting"):
        forge.json("PATCH", f"/servers/1/firewall/rules/{rule}", {"status": status})
    answer = forge.json("DELETE", f"/servers/1/firewall/rules/{rule}")
    assert answer["version"] == 6
    assert forge.broadcaster.names() == [UPDATED] * 5
    assert {tuple(s.channels) for s in forge.broadcaster.sent} == {("private-servers.1", "private-servers")}


def test_a_firewall_and_its_rules_that_go_together_are_one_change(forge: Forge) -> None:
    answer = forge.json("DELETE", "/servers/1/firewall")
    assert (answer["version"], answer["sequence"]) == (2, 1)
    assert forge.broadcaster.names() == [UPDATED]
    page = forge.json("GET", "/servers/1/firewall")
    assert (page["isFirewallInstalled"], page["firewallStatus"], page["rules"]) == (False, None, [])


def test_created_and_deleted_are_told_by_default(forge: Forge) -> None:
    id = forge.json("POST", "/servers", {"vanity_name": "new"}, status=201)["server"]["id"]
    forge.json("DELETE", f"/servers/{id}")
    site = forge.json("POST", "/servers/1/sites", {"domain": "b.example.test"}, status=201)["site"]["id"]
    forge.json("DELETE", f"/sites/{site}")
    assert [n.split("\\")[-1] for n in forge.broadcaster.names()] == ["ServerUpdated"] * 2 + ["ServerSiteUpdated"] * 2


def test_the_documented_listeners_leave_out_what_the_document_leaves_out(make_forge: MakeForge) -> None:
    """No new or deleted server or site, no deleted firewall; a rule in all its life."""
    forge = make_forge(broadcast=switched(listeners="documented"))
    id = forge.json("POST", "/servers", {"vanity_name": "new"}, status=201)["server"]["id"]
    forge.json("DELETE", f"/servers/{id}")
    site = forge.json("POST", "/servers/1/sites", {"domain": "b.example.test"}, status=201)["site"]["id"]
    forge.json("DELETE", f"/sites/{site}")
    assert forge.broadcaster.names() == []
    with forge.app.transaction() as session:
        # Without rules, whose own deletion would be told.
        firewall = session.get_one(Server, 2).firewall
        assert firewall is not None
        for rule in firewall.rules:
            session.delete(rule)
    assert forge.broadcaster.names() == [UPDATED]
    forge.json("DELETE", "/servers/2/firewall")
    assert forge.broadcaster.names() == [UPDATED], "the page goes on showing a firewall that is gone"
    forge.json("POST", "/servers/2/firewall/rules", {"name": "web", "port": 80}, status=201)
    assert forge.broadcaster.names() == [UPDATED] * 2


def test_a_new_model_has_no_changed_fields_to_ask_for(make_forge: MakeForge) -> None:
    """`wasChanged([...])` in a listener for `created` would never be true: only updates are asked."""
    forge = make_forge()
    forge.json("POST", "/servers", {"vanity_name": "new"}, status=201)
    assert forge.broadcaster.names() == [UPDATED]


def test_nothing_is_told_of_a_change_that_is_rolled_back(forge: Forge) -> None:
    change_and_fail(forge)
    assert forge.broadcaster.sent == []
    assert forge.json("GET", "/servers/1")["version"] == 1
    assert forge.json("GET", "/dashboard")["version"] == 0


def test_each_save_of_a_transaction_is_a_change_of_its_own(forge: Forge) -> None:
    with forge.app.transaction() as session:
        server = session.get_one(Server, 1)
        server.put_step("5", "installing")
        session.flush()
        server.put_step("5", "completed")
        server.put_step("6", "installing")
        session.flush()
        session.get_one(ServerSite, 1).health = "unhealthy"
    assert [(c.version, c.sequence) for c in change_set.of(session).committed] == [(2, 1), (3, 2), (2, 3)]
    assert len(forge.broadcaster.of("\\ServerUpdated")) == 2
    assert len(forge.broadcaster.of("\\ServerSiteUpdated")) == 1


def test_a_plain_session_broadcasts_too(forge: Forge) -> None:
    """Whoever commits a model, by whatever way: it cannot be forgotten."""
    with forge.database.sessions() as session:
        session.get_one(ServerFirewallRule, 1).status = "deleting"
        session.commit()
    assert forge.broadcaster.names() == [UPDATED]


def test_lines_of_running_work_are_told_and_history_is_not(forge: Forge) -> None:
    with forge.app.transaction() as session:
        session.add(ServerEvent(server_id=1, kind="note", message="x", created_at=0))
    assert forge.broadcaster.sent == []
    with forge.app.transaction() as session:
        session.add(ServerEvent(server_id=1, kind="log", message="x", created_at=0))
    assert forge.broadcaster.names() == [UPDATED]
    assert forge.json("GET", "/servers/1")["version"] == 2


def test_the_end_of_a_task_is_told_whole(forge: Forge) -> None:
    with forge.app.transaction() as session:
        task = Task(server=session.get_one(Server, 1), name="dump", status="running", created_at=0)
        session.add(task)
    forge.broadcaster.sent.clear()
    with forge.app.transaction() as session:
        ended = session.get_one(Task, task.id)
        ended.status, ended.completed_at = "completed", 1_800_000_000_000_000
    sent = forge.broadcaster.sent[-1]
    assert (sent.name, sent.channels) == ("App\\Events\\TaskCompleted", [f"private-tasks.{task.id}"])
    assert sent.data == {"task": {"id": task.id, "name": "dump", "completed": True, "completed_at": "2027-01-15T08:00:00+00:00"}}


def test_saved_before_the_commit_the_event_overtakes_its_change(make_forge: MakeForge) -> None:
    """The race of `on_save`: who refetches at once reads the old row, and nothing tells them again."""
    forge = make_forge(broadcast=switched(moment="on_save", commit_delay=0.05), members=True)
    seen: list[int] = []
    original = forge.broadcaster.trigger

    def trigger(*event: object) -> None:
        original(*event)  # type: ignore[arg-type]
        seen.append(forge.json("GET", "/servers/1")["version"])

    forge.broadcaster.trigger = trigger  # type: ignore[method-assign]
    answer = forge.json("PATCH", "/servers/1", {"connection": "disconnected"})
    assert (answer["version"], seen) == (2, [1])
    assert answer["committed_at"] - answer["published_at"] == 50_000_000
    assert "broadcast_lead_seconds_count 1.0" in forge.app.metrics.render()

    right = make_forge(broadcast=switched(commit_delay=0.05), members=True)
    seen.clear()
    original = right.broadcaster.trigger

    def trigger_after(*event: object) -> None:
        original(*event)  # type: ignore[arg-type]
        seen.append(right.json("GET", "/servers/1")["version"])

    right.broadcaster.trigger = trigger_after  # type: ignore[method-assign]
    answer = right.json("PATCH", "/servers/1", {"connection": "disconnected"})
    assert (answer["version"], seen) == (2, [2])
    assert answer["committed_at"] <= answer["published_at"]


def test_saved_before_a_rollback_the_event_tells_of_nothing(make_forge: MakeForge) -> None:
    forge = make_forge(broadcast=switched(moment="on_save"))
    change_and_fail(forge)
    assert forge.broadcaster.names() == [UPDATED]
    assert forge.json("GET", "/servers/1")["version"] == 1
