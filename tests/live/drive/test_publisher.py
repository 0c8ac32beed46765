"""Open loop: what leaves when, whatever the target does; every update is a row."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sim.clock import SECOND
from sim.errors import BadInput
from sim.live.client import HttpAnswer
from sim.live.drive import publisher, sent
from sim.live.drive.publisher import AWAKE, HELD_BACK, NAP, NO_ANSWER, NO_TURN, OpenLoopPublisher, Sent, event_loop
from sim.live.drive.requests import Direct, Receipt, Routes, refusal, via
from sim.pusher import auth
from sim.scenario import Scenario
from sim.target import Account, Target
from sim.workload import Update
from tests.live.servers import Behaviour, always, answer, serving

pytestmark = pytest.mark.loopback

USERS = (Account(1, "one", (11, 12), (5,)), Account(2, "two", (13,), (6,)))


def target(port: int) -> Target:
    return Target("127.0.0.1", port, "http", "app", "key", "secret", f"http://127.0.0.1:{port}", USERS)


def updates(count: int, every: float, servers: int = 3) -> Iterator[Update]:
    return (Update(round(i * every * SECOND), "server", i % servers + 1, 1, "pending") for i in range(count))


def publish(behave: Behaviour, count: int = 20, every: float = 0.005, servers: int = 3, timeout: float = 2.0) -> list[Sent]:
    async def main() -> list[Sent]:
        async with serving(behave) as port:
            owner = Account(1, "one", tuple(range(11, 11 + servers)))
            via = Routes(dataclasses.replace(target(port), users=(owner,)), Scenario())
            return await OpenLoopPublisher(via, time.time_ns() + SECOND // 20, 2, timeout).run(updates(count, every, servers))

    with asyncio.Runner(loop_factory=event_loop) as runner:
        return runner.run(main())


def test_rows_carry_what_the_answer_says() -> None:
    rows = publish(always(answer(b'{"version": 7, "sequence": 9, "committed_at": 5, "published_at": 6}')))
    assert [row.update for row in rows] == list(range(20))
    assert {row.receipt for row in rows} == {Receipt(7, 9, 5, 6, tells=True)}
    assert {row.resource_id for row in rows} == {11, 12, 13}
    assert {row.status for row in rows} == {"committed"}
    assert all(row.intended_at <= row.ready_at <= row.started_at <= row.finished_at for row in rows)


def test_intended_times_are_those_of_the_plan() -> None:
    rows = publish(always(answer()), count=10, every=0.01)
    assert [row.intended_at - rows[0].intended_at for row in rows] == [i * SECOND // 100 for i in range(10)]


def test_a_publisher_that_waits_sleeps_in_short_naps_and_is_awake_when_the_update_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    now, naps = time.monotonic_ns(), []

    async def sleep(seconds: float) -> None:
        nonlocal now
        naps.append(seconds)
        now += round(seconds * SECOND) or AWAKE

    async def main() -> bool:
        waiting = OpenLoopPublisher(Routes(target(1), Scenario()), 0)
        waiting._monotonic = 0
        return await waiting._wait_until(now + SECOND)

    monkeypatch.setattr(publisher.time, "monotonic_ns", lambda: now)
    monkeypatch.setattr(asyncio, "sleep", sleep)
    assert asyncio.run(main())
    assert naps == pytest.approx([NAP] * 4 + [NAP - AWAKE / SECOND, 0.0])


def test_a_slow_target_does_not_slow_the_publisher_down() -> None:
    """Each answer takes longer than the whole plan: a closed loop of two connections would send two updates."""
    together = 0

    async def slow(request: bytes, writer: asyncio.StreamWriter) -> None:
        nonlocal together
        together += 1
        while together < 20:
            await asyncio.sleep(0.01)
        writer.write(answer())

    rows = publish(slow, servers=20)
    assert together == 20
    assert len(rows) == 20
    assert not any(row.failure for row in rows)


def test_changes_of_one_server_wait_for_each_other_and_that_is_not_lateness() -> None:
    under_way = most = 0

    async def slow(request: bytes, writer: asyncio.StreamWriter) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.03)
        under_way -= 1
        writer.write(answer())

    rows = publish(slow, count=4, every=0.0, servers=1)
    assert most == 1
    assert [row.ready_at for row in rows[1:]] == [row.finished_at for row in rows[:-1]]
    assert len({row.intended_at for row in rows}) == 1


@pytest.mark.parametrize(
    ("behave", "failure", "status"),
    [
        (always(answer(status="429 Slow Down")), "HTTP 429", "failed"),
        (always(answer(status="403 Forbidden")), "HTTP 403", "failed"),
        (always(answer(b'{"message": "No way."}', status="422 No")), "HTTP 422 (No way.)", "failed"),
        (always(answer(b'{"message": [5]}', status="422 No")), "HTTP 422", "failed"),
        (always(answer(b"[" * 99_999, status="500 Oops")), "HTTP 500", "unknown"),
        # What comes after these may have been committed before.
        (always(answer(status="500 Oops")), "HTTP 500", "unknown"),
        (always(answer(status="504 Gateway Timeout")), "HTTP 504", "unknown"),
        (always(answer(status="302 Found")), "HTTP 302", "unknown"),
        (always(b"what?\r\n\r\n"), "garbage", "unknown"),
        (always(b"", close=True), "reset", "unknown"),
        (always(b""), "timeout", "unknown"),
    ],
)
def test_what_did_not_succeed_is_a_row_with_a_reason(behave: Behaviour, failure: str, status: str) -> None:
    rows = publish(behave, count=4, timeout=0.2)
    assert len(rows) == 4
    assert all(row.status == status and row.failure.startswith(failure) for row in rows)
    table = sent.to_table(rows)
    assert sent.summary(table) | {status: 4} == sent.summary(table)
    assert {receipt for row in rows for receipt in row.receipt[:4]} == {None}


def test_what_could_not_connect_has_certainly_changed_nothing() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        rows = asyncio.run(OpenLoopPublisher(Routes(target(port), Scenario()), time.time_ns()).run(updates(3, 0.001)))
    assert [(row.status, row.failure, row.http_status) for row in rows] == [("failed", "refused", None)] * 3


def test_a_target_that_dies_and_returns() -> None:
    seen = 0

    async def flaky(request: bytes, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        seen += 1
        writer.write(answer() if not 5 <= seen < 10 else b"")
        if 5 <= seen < 10:
            writer.close()

    rows = publish(flaky)
    assert sum(row.status == "unknown" for row in rows) == 5
    assert rows[-1].status == "committed"


def test_stop_ends_the_plan_and_keeps_the_rows() -> None:
    async def main() -> list[Sent]:
        async with serving(always(answer())) as port:
            publisher = OpenLoopPublisher(Routes(target(port), Scenario()), time.time_ns())
            asyncio.get_running_loop().call_later(0.2, publisher.stop)
            return await publisher.run(updates(1000, 0.02))

    rows = asyncio.run(main())
    assert 0 < len(rows) < 1000


def test_what_was_due_and_never_sent_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a publisher that comes too late nor a target that is too slow makes fewer updates of what was wanted."""
    monkeypatch.setattr(publisher, "GRACE", 0.05)
    monkeypatch.setattr(publisher, "IN_ORDER", 60.0)

    async def main() -> list[Sent]:
        async def stops(request: bytes, writer: asyncio.StreamWriter) -> None:
            slow.stop()

        async with serving(stops) as port:
            late = OpenLoopPublisher(Routes(target(port), Scenario()), time.time_ns())
            late.stop()
            slow = OpenLoopPublisher(Routes(target(port), Scenario()), time.time_ns())
            due = [Update(0, "server", 1, step, "pending") for step in range(2)]
            later = [Update(1000 * SECOND, "server", 1, 3, "pending")]
            return [*await late.run(due + later), *await slow.run(due + later)]

    rows = asyncio.run(main())
    assert [row.failure for row in rows] == [NO_TURN, NO_TURN, NO_ANSWER, HELD_BACK]
    assert [row.status for row in rows] == ["failed", "failed", "unknown", "failed"]
    summary = sent.summary(sent.to_table(rows))
    assert (summary["updates"], summary["failed"], summary["unknown"]) == (4, 3, 1)
    assert summary["answer_max"] >= 0


def test_a_change_is_made_by_the_owner_with_the_measuring_headers() -> None:
    request = Routes(target(1), Scenario()).request(4, Update(0, "server", 3, 2, "failed"), 1234, 5678)
    assert request[:2] == ("PUT", "/servers/13/provision/2")
    assert dict(request.headers)["Authorization"] == "Bearer two"
    assert dict(request.headers)["X-Workbench-Update"] == "4"
    assert dict(request.headers)["X-Workbench-Sent"] == "1234"
    assert json.loads(request.body) == {"status": "failed"}
    assert Routes(target(1), Scenario()).request(0, Update(0, "site", 2, 0, "completed"), 0, 0)[:2] == ("PATCH", "/sites/6")


def test_a_direct_event_is_signed_and_says_when() -> None:
    request = Direct(target(1), Scenario()).request(4, Update(0, "server", 1, 2, "failed"), 1234, 5_000_000_000)
    path, _, query = request.path.partition("?")
    pairs = dict(pair.split("=") for pair in query.split("&"))
    assert auth.verify_request("secret", "POST", path, pairs, request.body)
    event = json.loads(request.body)
    assert event["name"] == "App\\Events\\ServerUpdated"
    assert event["channels"] == ["private-servers.11", "private-servers"]
    payload = json.loads(event["data"])
    assert payload.pop("timestamp").startswith("1970-01-01T00:00:05")
    assert payload == {"server_id": 11, "update": 4, "sent_at": 1234, "published_at": 5_000_000_000}


@pytest.mark.parametrize(
    ("body", "refused"),
    [
        (b"{}", ""),
        (b"", ""),
        (b'{"ok":true}', ""),
        (b'{"error":"The secret authentication failed","code":401}', "The secret authentication failed"),
        (b"<html>Shop</html>", "not what a broadcaster answers"),
        (b"[]", "not what a broadcaster answers"),
    ],
)
def test_an_event_is_accepted_by_what_the_broadcaster_says(body: bytes, refused: str) -> None:
    answer = HttpAnswer(200, body=body, started_at=1, finished_at=2)
    receipt = Direct(Target("h", 1, "http", "1", "k", "s"), Scenario()).receipt(answer)
    assert refusal(answer) == (((401 if b"401" in body else 200) if refused else 0), refused)
    assert (receipt.refused, receipt.published_at) == (refused, None if refused else 2)
    row = Sent(1, "server", 1, 1, 1, 1, 2, 200, "", receipt)
    assert (row.status, row.failure) == ("failed" if refused else "committed", refused)


def test_the_default_payload_has_nothing_else() -> None:
    scenario = Scenario().replace({"publisher.members": False})
    request = Direct(target(1), scenario).request(4, Update(0, "server", 1, 2, "failed"), 1234, 5_000_000_000)
    assert set(json.loads(json.loads(request.body)["data"])) == {"server_id", "timestamp"}
    headers = dict(Routes(target(1), scenario).request(4, Update(0, "server", 1, 2, "failed"), 1, 2).headers)
    assert not any(name.startswith("X-Workbench") for name in headers)


@pytest.mark.parametrize(
    ("payload", "size", "resource", "padding"),
    [("notify", 500, "server", 0), ("full", 500, "server", 500), ("full", 0, "server", 0), ("notify", 500, "task", 500)],
)
def test_an_event_is_as_large_as_the_application_s_would_be(payload: str, size: int, resource: Any, padding: int) -> None:
    scenario = Scenario().replace({"broadcast.payload": payload, "broadcast.payload_bytes": size})
    request = Direct(target(1), scenario).request(4, Update(0, resource, 1, 2, "completed"), 1, 2)
    assert len(json.loads(json.loads(request.body)["data"]).get("padding", "")) == padding


def test_an_answer_that_is_no_json_says_nothing_about_versions() -> None:
    routes = Routes(target(1), Scenario())
    for body in (b"<html>", b"[1]", b'{"version": "x"}', b'{"version": 1e400}', b'{"sequence": -1}', b"\xff"):
        assert routes.receipt(HttpAnswer(200, body=body)) == Receipt()


def test_an_answer_that_says_not_yet_is_not_one_that_says_nothing() -> None:
    routes = Routes(target(1), Scenario())
    assert routes.receipt(HttpAnswer(200, body=b'{"version": 4, "committed_at": 5, "published_at": 0}')) == Receipt(
        4, None, 5, tells=True
    )
    assert not routes.receipt(HttpAnswer(200, body=b'{"version": 4}')).tells


def test_who_cannot_drive_says_what_to_do() -> None:
    with pytest.raises(BadInput, match=r"publisher\.via"):
        via(target(1), Scenario().replace({"publisher.via": "none"}))
    with pytest.raises(BadInput, match="no application"):
        via(Target("h", 1, "http", "a", "k", "s"), Scenario())
    with pytest.raises(BadInput, match="--direct"):
        via(Target("h", 1, "http", "a", "k", "s", "http://h"), Scenario())


def test_a_change_that_nobody_may_make_ends_the_plan() -> None:
    async def main() -> None:
        async with serving(always(answer())) as port:
            users = (Account(1, "one", (), (5,)),)
            alone = Target("h", 1, "http", "a", "k", "s", f"http://127.0.0.1:{port}", users)
            await OpenLoopPublisher(Routes(alone, Scenario()), time.time_ns()).run(updates(3, 0.01))

    with pytest.raises(BadInput, match="no user owns a server"):
        asyncio.run(main())


def test_rows_survive_the_file(tmp_path: Path) -> None:
    rows = publish(always(answer(b'{"version": 7, "sequence": 9}')), count=3)
    sent.write(tmp_path / "sent.parquet", sent.to_table(rows))
    table, complete = sent.read(tmp_path / "sent.parquet")
    assert complete
    assert table.to_pylist() == sent.to_table(rows).to_pylist()
    metrics = sent.metric_columns(table, rows[0].intended_at)
    assert {len(column) for column in metrics.values()} == {12}
    with pytest.raises(BadInput, match="cannot be read"):
        sent.read(tmp_path / "none.parquet")


def test_rows_are_on_disk_while_the_publisher_still_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "FLUSH", 0.01)
    path, seen = tmp_path / "sent.parquet", []

    async def watch(request: bytes, writer: asyncio.StreamWriter) -> None:
        seen.append(len(sent.read(path)[0]) if path.with_name("sent.parquet.partial").stat().st_size else 0)
        writer.write(answer())

    async def main() -> list[Sent]:
        async with serving(watch) as port:
            with sent.open_journal(path) as rows:
                write = lambda batch: rows.append(sent.to_table(batch))  # noqa: E731
                return await OpenLoopPublisher(Routes(target(port), Scenario()), time.time_ns(), 2, write=write).run(
                    updates(10, 0.05)
                )

    rows = asyncio.run(main())
    table, complete = sent.read(path)
    assert not complete
    assert sorted(table["update"].to_pylist()) == [row.update for row in rows]
    assert seen[-1] > 0, "a killed publisher would have left these"
    # Torn in the middle of a batch: what came before it is there.
    journal = path.with_name("sent.parquet.partial")
    whole = journal.read_bytes()
    journal.write_bytes(whole[: len(whole) // 2 + 3])
    left = sent.read(path)[0]["update"].to_pylist()
    assert left == list(range(len(left)))
    assert len(left) < 10


def test_an_update_is_written_down_before_it_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "FLUSH", 0.01)
    written: list[Sent] = []

    async def patient(request: bytes, writer: asyncio.StreamWriter) -> None:
        while not written:
            await asyncio.sleep(0.01)
        writer.write(answer())

    async def main() -> None:
        async with serving(patient) as port:
            await OpenLoopPublisher(Routes(target(port), Scenario()), time.time_ns(), 1, write=written.extend).run(
                updates(1, 0.0)
            )

    asyncio.run(main())
    assert [(row.finished_at is None, row.status) for row in written] == [(True, "unknown"), (False, "committed")]


def test_stop_does_not_wait_for_a_target_that_never_answers() -> None:
    async def main() -> list[Sent]:
        async with serving(always(b"")) as port:
            # Stopped once something was sent, however long that takes.
            publisher = OpenLoopPublisher(
                Direct(target(port), Scenario()), time.time_ns(), timeout=60, write=lambda rows: publisher.stop()
            )
            return await publisher.run(updates(5, 0.001))

    rows = asyncio.run(main())
    # One server's second change waits for the answer to the first: what was never sent is no row.
    assert {(row.failure, row.status) for row in rows} == {("stopped before the answer", "unknown")}
