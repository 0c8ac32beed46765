"""The sample fleet, row by row."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import create_engine, select
from sqlalchemy.orm import Session

from sim.brokeforge.domain import fleet
from sim.brokeforge.domain.models import (
    Activity,
    Base,
    Server,
    ServerEvent,
    ServerFirewall,
    ServerFirewallRule,
    ServerMetric,
    ServerSite,
    Task,
    User,
)
from sim.scenario import Fleet

NOW = 1_800_000_000_000_000
COUNTS = {User: 2, Server: 4, ServerFirewall: 4, ServerFirewallRule: 20, ServerEvent: 40, ServerMetric: 4, Task: 4}
COUNTS |= {ServerSite: 6, Activity: 2}
SHARES = {"cpu": (0.02, 0.6), "memory": (0.2, 0.8), "disk": (0.1, 0.7)}


@pytest.fixture(scope="module")
def rows() -> dict[type, list[Any]]:
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    with Session(engine, expire_on_commit=False) as session:
        fleet.seed(session, Fleet(users=2, servers_per_user=2, sites_per_user=3), 1, NOW)
        return {model: list(session.scalars(select(model).order_by(model.id))) for model in COUNTS}  # type: ignore[attr-defined]


def test_ids_count_from_one_and_belong_to_equal_runs_of_owners(rows: dict[type, list[Any]]) -> None:
    for model, count in COUNTS.items():
        assert [row.id for row in rows[model]] == list(range(1, count + 1)), model
    assert [server.user_id for server in rows[Server]] == [1, 1, 2, 2]
    assert [(site.user_id, site.server_id) for site in rows[ServerSite]] == [(1, 1), (1, 2), (1, 1), (2, 3), (2, 4), (2, 3)]
    for model, each in ((ServerFirewall, 1), (ServerEvent, 10), (ServerMetric, 1), (Task, 1)):
        assert [row.server_id for row in rows[model]] == [1 + i // each for i in range(4 * each)], model
    assert [rule.firewall_id for rule in rows[ServerFirewallRule]] == [1 + i // 5 for i in range(20)]
    assert len({user.token for user in rows[User]}) == 2


def test_what_a_sample_server_has(rows: dict[type, list[Any]]) -> None:
    for row in rows[Server] + rows[ServerSite] + rows[Task]:
        assert row.version == 1
    for task in rows[Task]:
        assert (task.name, task.status, task.recurring, task.completed_at) == ("backup", "completed", True, NOW)
    for server in rows[Server]:
        assert server.provision == {str(step): "completed" for step in range(1, 9)}
    history = rows[ServerEvent][:10]
    assert [event.message for event in history] == [*(f"step {n}: completed" for n in range(1, 9)), *["server is ready"] * 2]
    assert [event.created_at for event in history] == [NOW - second * 1_000_000 for second in range(9, -1, -1)]
    for metric in rows[ServerMetric]:
        for name, (low, high) in SHARES.items():
            share = getattr(metric, name)
            assert low <= share <= high
            assert share == round(share, 3), "as a page shows it"
