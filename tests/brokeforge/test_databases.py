"""The same on three databases: pages, changes, many writers at once. PostgreSQL and MariaDB are real servers."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, text

from sim.brokeforge.domain import change_set
from sim.brokeforge.domain.change_set import ChangeSet
from sim.brokeforge.domain.database import Turn
from sim.brokeforge.domain.models import Base, ServerEvent
from sim.errors import BadInput
from sim.scenario import Fleet
from tests.brokeforge.forge import Forge

BACKENDS = [
    "sqlite",
    pytest.param("postgresql", marks=pytest.mark.service),
    pytest.param("mariadb", marks=pytest.mark.service),
]
WRITERS, CHANGES = 8, 12


@pytest.fixture(params=BACKENDS)
def anywhere(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    url = f"sqlite:///{tmp_path / 'forge.sqlite'}" if request.param == "sqlite" else request.getfixturevalue(request.param)
    forge = Forge(url, fleet_=Fleet(users=2, servers_per_user=2, sites_per_user=2))
    yield forge
    Base.metadata.drop_all(forge.database.engine)
    forge.close()


def test_pages_show_the_sample_fleet(anywhere: Forge) -> None:
    server = anywhere.json("GET", "/servers/1")
    assert server["version"] == 1
    assert server["provision"] == {str(step): "completed" for step in range(1, 9)}
    assert [rule["name"] for rule in server["rules"]] == ["Redis", "MySQL", "HTTPS", "HTTP", "SSH"]
    assert len(server["recentEvents"]) == 10
    assert server["latestMetrics"].keys() == {"cpu", "memory", "disk", "measured_at"}
    dashboard = anywhere.json("GET", "/dashboard")
    assert [s["id"] for s in dashboard["servers"]] == [2, 1]
    assert [s["id"] for s in dashboard["sites"]] == [2, 1]
    assert [s["sites"] for s in dashboard["servers"]] == [[dashboard["sites"][0]["domain"]], [dashboard["sites"][1]["domain"]]]
    assert dashboard["version"] == 0


def test_a_life_of_a_server(anywhere: Forge) -> None:
    made = anywhere.json("POST", "/servers", {"vanity_name": "näxt <one>"}, status=201)
    id = made["server"]["id"]
    assert (id, made["version"], made["sequence"]) == (5, 1, 1)
    assert anywhere.step(id, "nginx", "installing")["version"] == 2
    rule = anywhere.json("POST", f"/servers/{id}/firewall/rules", {"name": "web", "port": 443}, status=201)["rule"]["id"]
    assert anywhere.json("PATCH", f"/servers/{id}/firewall/rules/{rule}", {"status": "installing"})["version"] == 4
    site = anywhere.json("POST", f"/servers/{id}/sites", {"domain": "a.example.test"}, status=201)["site"]["id"]
    assert anywhere.json("GET", f"/sites/{site}")["server"] == {"id": id, "vanity_name": "näxt <one>"}
    page = anywhere.json("GET", f"/servers/{id}")
    assert (page["version"], page["firewallStatus"], page["provision"]) == (4, "pending", {"nginx": "installing"})
    assert anywhere.json("DELETE", f"/servers/{id}")["version"] == 5
    assert anywhere.request("GET", f"/servers/{id}").status == 404
    assert anywhere.request("GET", f"/sites/{site}").status == 404
    # The server's own deletion and that of its site.
    assert anywhere.json("GET", "/dashboard")["version"] == 7


def test_no_update_is_lost_between_many_writers(anywhere: Forge) -> None:
    """Several writers on two servers, each on steps of its own in the same JSON column."""
    answers: list[tuple[int, int, int]] = []

    def write(writer: int) -> None:
        server = 1 + writer % 2
        for n in range(CHANGES):
            status = "installing" if n % 2 == 0 else "completed"
            body = anywhere.step(server, f"w{writer}", status)
            answers.append((server, body["version"], body["sequence"]))

    writers = [threading.Thread(target=write, args=(n,)) for n in range(WRITERS)]
    for thread in writers:
        thread.start()
    for thread in writers:
        thread.join()

    total = WRITERS * CHANGES
    assert len(answers) == total
    assert sorted(sequence for _, _, sequence in answers) == list(range(1, total + 1))
    for server in (1, 2):
        # Version by version in the order of the sequence: the order of the commits.
        mine = sorted((sequence, version) for s, version, sequence in answers if s == server)
        assert [version for _, version in mine] == list(range(2, total // 2 + 2))
        page = anywhere.json("GET", f"/servers/{server}")
        assert page["version"] == total // 2 + 1
        assert {step: status for step, status in page["provision"].items() if step.startswith("w")} == {
            f"w{writer}": "completed" for writer in range(WRITERS) if 1 + writer % 2 == server
        }
    assert len(anywhere.broadcaster.of("\\ServerUpdated")) == total
    assert anywhere.json("GET", "/dashboard")["version"] == total
    with anywhere.database.sessions() as session:
        assert session.scalar(select(func.count()).select_from(ServerEvent)) == 4 * 10 + total


def test_a_slow_broadcaster_does_not_hold_up_other_writers(anywhere: Forge) -> None:
    """A change is committed, and the next writer's turn has come, before its event is broadcast."""
    arrived, release = threading.Event(), threading.Event()
    waited = []
    original = anywhere.broadcaster.trigger

    def slow(name: str, data: str, channels: list[str], socket_id: str | None) -> None:
        if "private-servers.1" in channels:
            arrived.set()
            waited.append(release.wait(10))
        original(name, data, channels, socket_id)

    anywhere.broadcaster.trigger = slow  # type: ignore[method-assign]
    first = threading.Thread(target=anywhere.step, args=(1, "x", "installing"))
    first.start()
    assert arrived.wait(10)
    assert anywhere.step(2, "x", "installing")["sequence"] == 2
    release.set()
    assert anywhere.step(1, "x", "completed")["version"] == 3
    first.join()
    assert waited == [True, True], "nobody waited for the broadcast of another's change"


def test_the_embedded_file_is_locked_from_the_beginning_of_a_change(tmp_path: Path) -> None:
    forge = Forge(f"sqlite:///{tmp_path / 'forge.sqlite'}", fleet_=Fleet(users=1))
    with forge.database.change(changes=ChangeSet(now=lambda: 5)) as session:
        assert change_set.of(session).locked_at == 5
        assert forge.database._turn._lock.locked()
    assert not forge.database._turn._lock.locked()
    forge.close()


def test_a_change_that_fails_gives_its_turn_away(anywhere: Forge) -> None:
    assert anywhere.request("PATCH", "/servers/1", {"connection": "pending"}).status == 422
    with contextlib.suppress(RuntimeError), anywhere.app.transaction():
        raise RuntimeError
    assert anywhere.step(1, "x", "installing")["version"] == 2


def test_a_full_payload_is_the_page_itself(anywhere: Forge) -> None:
    body = anywhere.json("GET", "/servers/1")
    assert anywhere.app.dispatcher.full is not None
    event = next(iter(anywhere.app.dispatcher.full(e) for e in _server_events(1)))
    assert event == body


def _server_events(id: int) -> list[Any]:
    from sim.brokeforge.broadcasting.events import ServerUpdated

    return [ServerUpdated(id)]


@pytest.mark.service
def test_a_database_that_drops_its_connections_costs_one_answer(postgresql: str) -> None:
    forge = Forge(postgresql, fleet_=Fleet(users=1))
    try:
        forge.step(1, "x", "installing")
        with forge.database.engine.connect() as other:
            other.execute(text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"))
        answers = [forge.request("GET", "/servers/1").status for _ in range(3)]
        assert answers in ([503, 200, 200], [200, 200, 200])
        assert forge.step(1, "x", "completed")["version"] == 3
    finally:
        Base.metadata.drop_all(forge.database.engine)
        forge.close()


def test_writers_of_several_processes_stand_in_one_line(tmp_path: Path) -> None:
    """Two `Turn`s on one file are two processes to each other."""
    path = str(tmp_path / "turn")
    mine, yours = Turn(path), Turn(path)
    mine.acquire()
    came = threading.Event()

    def wait_and_go() -> None:
        yours.acquire()
        came.set()
        yours.release()

    other = threading.Thread(target=wait_and_go)
    other.start()
    assert not came.wait(0.1)
    mine.release()
    assert came.wait(5)
    other.join()
    for turn in (mine, yours):
        turn.close()
    assert list(tmp_path.iterdir()) == []


def test_a_database_is_kept_as_it_is(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'kept.sqlite'}"
    first = Forge(url)
    first.step(1, "nginx", "installing")
    tokens = [user["token"] for user in first.users]
    first.close()
    second = Forge(url, fleet_=Fleet(users=7))
    assert [user["token"] for user in second.users] == tokens
    assert second.json("GET", "/servers/1")["version"] == 2
    second.close()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("nonsense", "must be a URL"),
        ("oracle://x/y", "not supported"),
        ("sqlite://", "must be a file"),
        ("sqlite:////nonexistent/place/x.db", "unable to open database file"),
        ("postgresql://nobody@127.0.0.1:1/x", "127.0.0.1"),
        ("mariadb://nobody:hush@127.0.0.1:1/x", "127.0.0.1"),
    ],
)
def test_a_url_that_cannot_be_used_is_one_clear_line(url: str, says: str) -> None:
    with pytest.raises(BadInput) as caught:
        Forge(url)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "hush" not in str(caught.value)
