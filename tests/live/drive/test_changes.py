"""Each change of every workload is one request that the application of the pattern takes, and that changes something."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from sim import distributions as d
from sim.live.client import HttpAnswer
from sim.live.drive.requests import Routes
from sim.scenario import Fleet, Scenario
from sim.target import Account, Target
from sim.workload import (
    ASPECTS,
    DatabaseOperations,
    Deployments,
    Firewall,
    Logs,
    Packages,
    Poisson,
    Provisioning,
    Replay,
    Statuses,
    Superposition,
    Tasks,
    Update,
    Workload,
    streams,
)
from tests.brokeforge.forge import Forge

FLEET = Fleet(users=3, servers_per_user=2, sites_per_user=1)
SHORT = d.Uniform(1.0, 4.0)
PARTS: tuple[Workload, ...] = (
    Poisson(rate=3.0, site_share=0.3),
    Replay(trace="nginx", parallel=2),
    Provisioning(steps=3, step_time=SHORT, failure=0.3, parallel=3),
    Logs(rate=5.0, servers=2, batch=3),
    Statuses(rate=4.0),
    Deployments(deploying=SHORT, per_minute=20, stages=3, burst=4, failure=0.3),
    Firewall(takes=SHORT, per_minute=40, failure=0.4),
    Packages(takes=SHORT, per_minute=60, failure=0.4),
    DatabaseOperations(takes=SHORT, per_minute=30, failure=0.3),
    Tasks(takes=SHORT, per_minute=30, failure=0.3),
)


def drive(workload: Workload, url: str) -> list[Update]:
    forge = Forge(url, fleet_=FLEET)
    try:
        users = tuple(Account(u["id"], u["token"], tuple(u["servers"]), tuple(u["sites"])) for u in forge.users)
        routes = Routes(Target("127.0.0.1", 1, "http", "a", "k", "s", "http://127.0.0.1:2", users), Scenario(fleet=FLEET))
        seen: Counter[tuple[str, int]] = Counter()
        done = []
        for serial, update in enumerate(workload.updates(streams(1)["workload"], 20.0, FLEET.servers, FLEET.users)):
            method, path, headers, body = routes.request(serial, update, 0, 0)
            owner = next(n for n, u in enumerate(forge.users, 1) if f"Bearer {u['token']}" == dict(headers)["Authorization"])
            answer = forge.request(method, path, body, user=owner)
            receipt = routes.receipt(HttpAnswer(answer.status, body=answer.body))
            assert answer.status in (200, 201), (update, method, path, body, answer)
            assert (receipt.changed, receipt.broadcast) == (True, True), (update, answer.body)
            resource = (update.resource, update.resource_id)
            seen[resource] += 1
            assert receipt.version == seen[resource] + 1, "one version for each update: a sample resource begins with version 1"
            done.append(update)
        return done
    finally:
        forge.close()


@pytest.mark.parametrize(
    "workload", [*PARTS, Superposition((*PARTS, Packages(takes=SHORT, per_minute=60)))], ids=lambda w: w.kind
)
def test_every_update_is_taken_changes_something_and_is_broadcast(workload: Workload, tmp_path: Path) -> None:
    assert len(drive(workload, f"sqlite:///{tmp_path / 'forge.sqlite'}")) >= 10


def test_the_kinds_together_change_every_aspect() -> None:
    drawn = {u.aspect for part in PARTS for u in part.updates(streams(1)["workload"], 20.0, FLEET.servers, FLEET.users)}
    assert drawn == set(ASPECTS)


def test_a_rule_whose_creation_was_not_answered_is_not_there() -> None:
    routes = Routes(Target("h", 1, "http", "a", "k", "s", "http://h:2", (Account(1, "t", (5,), ()),)), Scenario())
    assert routes.request(0, Update(0, "server", 1, 9, "installing", "rule"), 0, 0).path == "/servers/5/firewall/rules/0"
    routes.receipt(HttpAnswer(201, body=b'{"server": {"id": 5}, "rule": {"id": 31, "name": "rule 9"}}'))
    assert routes.request(0, Update(0, "server", 1, 9, "installing", "rule"), 0, 0).path == "/servers/5/firewall/rules/31"
    for body in (b'["not", "an", "object"]', *(b'{"server": {"id": 5}, "rule": %s}' % rule for rule in OTHERS)):
        routes.receipt(HttpAnswer(201, body=body))
    assert routes.request(0, Update(0, "server", 1, 9, "installing", "rule"), 0, 0).path == "/servers/5/firewall/rules/31"
    made = [json.loads(routes.request(0, Update(0, "server", 1, step, "pending", "rule"), 0, 0).body) for step in (9, 61_000)]
    assert made == [{"name": "rule 9", "port": "1033"}, {"name": "rule 61000", "port": "2024"}]


OTHERS = (b'{"id": 32, "name": "web"}', b'{"id": "32", "name": "rule 9"}', b'{"name": "rule 9"}', b"31")
"""What is no rule of ours."""
