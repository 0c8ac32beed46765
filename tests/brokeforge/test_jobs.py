"""Long work, told the time: nothing here waits."""

from __future__ import annotations

from collections import Counter

import pytest
from sqlalchemy import select

from sim.brokeforge.domain.models import Task
from sim.brokeforge.jobs import (
    DatabaseOperation,
    DeploySite,
    Gone,
    InstallPackage,
    InstallRule,
    Job,
    ProvisionServer,
    StreamLog,
)
from sim.workload import Trace, load_trace
from sim.workload.traces import Transition
from tests.brokeforge.forge import Forge

TRACE = Trace(
    (
        Transition(0.0, 1, "nginx", "pending"),
        Transition(0.0, 2, "php", "pending"),
        Transition(1.0, 1, "nginx", "installing"),
        Transition(3.0, 1, "nginx", "completed"),
        Transition(3.0, 2, "php", "installing"),
        Transition(7.0, 2, "php", "completed"),
    )
)
BROKEN = Trace((*TRACE.transitions[:5], Transition(5.0, 2, "php", "failed"), Transition(6.0, 3, "redis", "installing")))


def run(forge: Forge, job: Job) -> float:
    """Do *job*; how many seconds it wanted to wait."""
    waited = 0.0
    for wait in job.handle(forge.app):
        forge.clock.pass_(wait)
        waited += wait
    return waited


def test_provisioning_goes_through_the_trace_and_is_told_step_by_step(forge: Forge) -> None:
    assert run(forge, ProvisionServer(1, TRACE)) == 7.0
    page = forge.json("GET", "/servers/1")
    assert (page["provision_status"], page["provision"]) == ("completed", {"1": "completed", "2": "completed"})
    assert [e["message"] for e in page["recentEvents"][:5]] == [
        "server is ready",
        "php: completed",
        "php: installing",
        "nginx: completed",
        "nginx: installing",
    ]
    # One save to begin, one per transition, one to end; each told once.
    assert page["version"] == 1 + 8
    assert len(forge.broadcaster.of("\\ServerUpdated")) == 8
    # The beginning empties the list of steps, which is a change of it.
    assert len(forge.broadcaster.of("\\ServerProvisionUpdated")) == 7
    assert forge.json("GET", "/dashboard")["activities"][0]["description"].endswith("server is ready")


def test_provisioning_keeps_the_traces_time_at_any_speed(forge: Forge) -> None:
    run(forge, ProvisionServer(1, TRACE, speed=2.0))
    at = [(s.at - forge.broadcaster.sent[0].at) / 1e9 for s in forge.broadcaster.of("\\ServerUpdated")]
    assert at == [0.0, 0.0, 0.0, 0.5, 1.5, 1.5, 3.5, 3.5]


def test_a_step_that_fails_ends_the_run(forge: Forge) -> None:
    assert run(forge, ProvisionServer(1, BROKEN)) == 5.0
    page = forge.json("GET", "/servers/1")
    assert (page["provision_status"], page["provision"]) == ("failed", {"1": "completed", "2": "failed"})
    assert page["recentEvents"][0]["message"] == "provisioning failed at php"
    run(forge, ProvisionServer(1, TRACE))
    assert forge.json("GET", "/servers/1")["provision_status"] == "completed", "it can be tried again"


def test_a_recorded_stack_can_be_provisioned(forge: Forge) -> None:
    trace = load_trace("stack")
    run(forge, ProvisionServer(1, trace))
    page = forge.json("GET", "/servers/1")
    assert Counter(page["provision"].values()) == Counter(step.status for step in trace.steps)


def test_a_server_that_is_deleted_meanwhile_ends_the_job(forge: Forge) -> None:
    job = ProvisionServer(1, TRACE).handle(forge.app)
    next(job)
    forge.json("DELETE", "/servers/1")
    with pytest.raises(Gone):
        list(job)


@pytest.mark.parametrize("fails", [False, True])
def test_a_package(forge: Forge, fails: bool) -> None:
    assert run(forge, InstallPackage(1, "supervisor", seconds=4, fails=fails)) == 4
    assert forge.json("GET", "/servers/1")["supervisor_status"] == ("failed" if fails else "active")
    assert len(forge.broadcaster.sent) == 2
    run(forge, InstallPackage(1, "monitoring"))
    assert forge.json("GET", "/servers/1")["monitoring_status"] == "active", "what is there is installed anew"


@pytest.mark.parametrize("fails", [False, True])
def test_a_rule(forge: Forge, fails: bool) -> None:
    rule = forge.json("POST", "/servers/1/firewall/rules", {"name": "web", "port": 80}, status=201)["rule"]["id"]
    assert run(forge, InstallRule(1, rule, seconds=2, fails=fails)) == 2
    page = forge.json("GET", "/servers/1/firewall")
    assert page["rules"][0]["status"] == ("failed" if fails else "active")
    assert len(forge.broadcaster.sent) == 3


def test_a_rule_that_is_deleted_meanwhile_is_let_go(forge: Forge) -> None:
    rule = forge.json("POST", "/servers/1/firewall/rules", {"name": "web", "port": 80}, status=201)["rule"]["id"]
    job = InstallRule(1, rule).handle(forge.app)
    next(job)
    forge.json("DELETE", f"/servers/1/firewall/rules/{rule}")
    assert list(job) == []


@pytest.mark.parametrize("fails", [False, True])
def test_a_deployment(forge: Forge, fails: bool) -> None:
    before = forge.json("GET", "/sites/1")
    assert run(forge, DeploySite(1, seconds=10, fails=fails)) == pytest.approx(10)
    site = forge.json("GET", "/sites/1")
    assert site["status"] == ("failed" if fails else "active")
    assert (site["last_deployed_at"] == before["last_deployed_at"]) is fails
    assert site["updated_at"] > before["updated_at"]
    assert len(forge.broadcaster.of("ServerSiteUpdated")) == 2
    assert len(forge.broadcaster.of("\\ServerUpdated")) == 5, "its progress is on its server's page"


def test_a_deployment_by_default_takes_ten_seconds_and_is_dated_when_it_begins(forge: Forge) -> None:
    before = forge.json("GET", "/sites/1")["updated_at"]
    waits = DeploySite(1).handle(forge.app)
    forge.clock.pass_(1.0)
    first = next(waits)
    began = forge.json("GET", "/sites/1")
    assert (began["status"], began["updated_at"] > before) == ("deploying", True)
    assert first + sum(waits) == pytest.approx(10.0)
    assert forge.json("GET", "/sites/1")["status"] == "active"


@pytest.mark.parametrize("fails", [False, True])
def test_a_database_operation_ends_in_a_full_payload(forge: Forge, fails: bool) -> None:
    assert run(forge, DatabaseOperation(1, "dump app", seconds=4, fails=fails)) == pytest.approx(4), "in five parts"
    (sent,) = forge.broadcaster.of("TaskCompleted")
    assert (sent.data["task"]["name"], sent.data["task"]["completed"]) == ("dump app", not fails)
    with forge.database.sessions() as session:
        task = session.scalars(select(Task).where(Task.name == "dump app")).one()
    assert sent.channels == [f"private-tasks.{task.id}"]
    assert [e["message"] for e in forge.json("GET", "/servers/1")["recentEvents"][1:6]] == [
        f"database dump app: {part} %" for part in (100, 80, 60, 40, 20)
    ]


def test_a_log_is_many_small_changes(forge: Forge) -> None:
    assert run(forge, StreamLog(1, lines=50, per_second=20)) == pytest.approx(2.5)
    assert len(forge.broadcaster.sent) == 50
    page = forge.json("GET", "/servers/1")
    assert (page["version"], page["recentEvents"][0]["message"]) == (51, "line 50 of 50")
