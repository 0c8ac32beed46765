"""The doctor on a healthy target, and on one that is ill in each known way."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.utils import accept_key

from sim import cli
from sim.commands.doctor import STEPS
from sim.live.doctor.checks import CheckStep, Finding, Patient, examine
from sim.live.doctor.network import warn_of_sockets, websocket
from sim.live.serve import embedded_target
from sim.pusher import messages
from sim.scenario import Scenario
from sim.target import Address, Target
from tests.live.servers import Behaviour, always, answer, self_signed, serving

pytestmark = pytest.mark.loopback


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    with embedded_target(Scenario()) as serving:
        yield serving.target


@pytest.fixture(scope="module")
def queued() -> Iterator[Target]:
    """A target whose events leave before the commit. (With one worker a refetch waits for the change, and nothing shows.)"""
    changes = {"broadcast.moment": "on_save", "broadcast.commit_delay": 0.2, "broadcast.channels": "specific", "api.workers": 2}
    with embedded_target(Scenario().replace({**changes, "broadcast.broadcast_as": True})) as serving:
        yield serving.target


def examined(target: Target, **members: object) -> dict[str, list[Finding]]:
    """Findings by step."""
    patient = dataclasses.replace(Patient(target, patience=2.0), **members)  # type: ignore[arg-type]
    found: dict[str, list[Finding]] = {}
    for finding in asyncio.run(examine(patient, STEPS)):
        found.setdefault(finding.step, []).append(finding)
    return found


def problems(found: dict[str, list[Finding]]) -> dict[str, str]:
    return {f.step: f"{f.detail} -> {f.advice}" for findings in found.values() for f in findings if f.status == "problem"}


def test_a_healthy_target_has_no_problem(target: Target) -> None:
    found = examined(target)
    assert problems(found) == {}
    assert [f.detail for f in found["private auth"]] == [
        "owner may listen to private-servers.1",
        "owner may listen to private-servers",
        "a stranger may not (403)",
        "a guest may not (401)",
    ]
    assert "listen('ServerUpdated')" in found["event name"][0].advice
    assert found["after commit"][0].detail.startswith("3 of 3")
    assert "sockets there" not in found  # It calls itself Reverb, but is ours.
    assert found["etag"][0].detail == "unchanged answers are 304"


def test_advice_is_in_the_names_of_the_settings_in_force() -> None:
    async def check(patient: Patient) -> list[Finding]:
        return [Finding("publish", "problem", "HTTP 404", "wrong REVERB_APP_ID")]

    patient = Patient(dataclasses.replace(Target("127.0.0.1", 1, "http", "1", "k", "s"), family="PUSHER"))
    told: list[Finding] = []
    assert asyncio.run(examine(patient, (CheckStep("publish", check),), told.append)) == told
    assert [finding.advice for finding in told] == ["wrong PUSHER_APP_ID"]


def test_a_refused_upgrade_is_asked_for_once_more_as_the_upgrade_that_it_was() -> None:
    """A proxy decides by the header `Connection`: asked without it, it would give another answer than the page gets."""
    heads: list[str] = []

    async def behave(request: bytes, writer: asyncio.StreamWriter) -> None:
        heads.append(request.decode().lower())
        writer.write(answer(b"no", "403 Forbidden"))

    async def look() -> list[Finding]:
        async with serving(behave) as port:
            return await websocket(Patient(Target("127.0.0.1", port, "http", "1", "k", "s")))

    assert asyncio.run(look())[0].status == "problem"
    assert len(heads) == 2
    for head in heads:
        assert "\r\nconnection: upgrade\r\n" in head
        assert "\r\nupgrade: websocket\r\n" in head


def named_as_reverb(metrics: bytes) -> Behaviour:
    """A broadcaster that says it is Reverb, and answers *metrics* to whoever asks for them (empty: 404)."""

    async def behave(request: bytes, writer: asyncio.StreamWriter) -> None:
        if b"Upgrade: websocket" not in request:
            writer.write(answer(metrics, "200 OK" if metrics else "404 Not Found"))
            return
        key = next(line.split(": ")[1] for line in request.decode().split("\r\n") if line.lower().startswith("sec-websocket-key"))
        upgrade = [
            "Upgrade: websocket",
            "Connection: Upgrade",
            "X-Powered-By: Laravel Reverb",
            f"Sec-WebSocket-Accept: {accept_key(key)}",
        ]
        writer.write("\r\n".join(["HTTP/1.1 101 Switching Protocols", *upgrade, "", ""]).encode())
        frame = b'{"event":"pusher:connection_established","data":"{\\"socket_id\\":\\"1.2\\",\\"activity_timeout\\":30}"}'
        writer.write(bytes([0x81, len(frame)]) + frame)

    return behave


@pytest.mark.parametrize(
    ("metrics", "hint"),
    [(b"", True), (b"# TYPE php_workers gauge\n", True), (b"# TYPE broadcaster_connections gauge\n", False)],
)
def test_only_a_real_reverb_is_told_of_its_socket_limit(metrics: bytes, hint: bool) -> None:
    async def main() -> list[Finding]:
        async with serving(named_as_reverb(metrics)) as port:
            return await examine(Patient(Target("127.0.0.1", port, "http", "a", "k", "s")), (CheckStep("websocket", websocket),))

    found = {finding.step: finding for finding in asyncio.run(main())}
    assert found["websocket"].status == "ok"
    assert ("sockets there" in found) == hint
    assert not hint or "ext-uv" in found["sockets there"].advice

    async def warned(connections: int) -> str:
        async with serving(named_as_reverb(metrics)) as port:
            return await warn_of_sockets(Target("127.0.0.1", port, "http", "a", "k", "s"), connections)

    assert ("ext-uv" in asyncio.run(warned(1_000))) == hint
    assert asyncio.run(warned(500)) == ""


def test_it_can_leave_the_target_as_it_is(target: Target) -> None:
    found = examined(target, changes=False)
    assert found["change"][0].status == found["after commit"][0].status == "skipped"
    assert problems(found) == {}


def test_a_subscription_that_soketi_refuses() -> None:
    async def soketi(connection: ServerConnection) -> None:
        await connection.send(messages.connection_established("1.2", 30))
        async for frame in connection:
            if "private-servers.1" in str(frame):
                error = {"type": "AuthError", "error": "The connection is unauthorized.", "status": 401}
                await connection.send(
                    json.dumps({"event": "pusher:subscription_error", "channel": "private-servers.1", "data": error})
                )

    async def main() -> list[Finding]:
        async with serve(soketi, "127.0.0.1", 0) as server:
            target = Target("127.0.0.1", server.sockets[0].getsockname()[1], "http", "1", "key", "secret")
            steps = tuple(step for step in STEPS if step.name in ("websocket", "private auth", "subscribe"))
            return await examine(Patient(target, patience=2.0, templates=("private-servers.1",)), steps)

    refused = asyncio.run(main())[-1]
    assert (refused.step, refused.status) == ("subscribe", "problem")
    assert "The connection is unauthorized" in refused.detail
    assert "secret differs" in refused.advice


def test_public_and_presence_channels(target: Target) -> None:
    found = examined(target, templates=("news.{id}", "presence-servers.{id}"), changes=False)
    said = {f.detail for f in found["private auth"] if f.status == "ok"}
    assert "news.1 is public: anybody may listen" in said
    assert found["subscribe"][0].detail == "news.1"
    alone = examined(dataclasses.replace(target, api=""), templates=("news.{id}", "presence-servers.{id}"))
    assert [f.detail for f in alone["subscribe"]] == ["news.1", "presence-servers.1"]
    assert problems(alone) == {}


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--change", "GET /servers/1"], "--change must look like"),
        (["--change", "PUT /servers/1 {status}"], "the body in JSON"),
        (["--channel", "private-orders.{id}"], "no user of the target owns any orders"),
        (["--ids", "lorries"], "no user of the target owns any lorries"),
    ],
)
def test_flags_that_cannot_be_meant(
    flags: list[str], complaint: str, target: Target, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target.write(tmp_path / "target.json")
    assert cli.main(["doctor", "--target", str(tmp_path / "target.json"), *flags]) == 2
    assert complaint in capsys.readouterr().err


def test_events_before_the_commit_on_one_channel_under_a_name_of_their_own(queued: Target) -> None:
    found = examined(queued)
    assert "afterCommit" in problems(found)["after commit"]
    assert found["double notification"][0].detail == "one event, on private-servers.1"
    assert "listen('.ServerUpdated')" in found["event name"][0].advice


@pytest.mark.parametrize(
    ("changed", "step", "said"),
    [
        ({"secret": "wrong"}, "private auth", "REVERB_APP_SECRET"),
        ({"secret": "wrong"}, "publish", "401"),
        ({"key": "wrong"}, "websocket", "4001"),
        ({"app_id": "wrong"}, "publish", "REVERB_APP_ID"),
        ({"port": 9}, "tcp", "refused"),
        ({"host": "no.such.host.invalid"}, "dns", "spelling"),
        ({"scheme": "https"}, "tls", "no TLS"),
    ],
)
def test_wrong_settings(target: Target, changed: dict[str, object], step: str, said: str) -> None:
    assert said in problems(examined(dataclasses.replace(target, **changed)))[step]  # type: ignore[arg-type]


def test_wrong_tokens(target: Target) -> None:
    users = tuple(dataclasses.replace(user, token="wrong") for user in target.users)
    found = examined(dataclasses.replace(target, users=users))
    assert "check the users" in problems(found)["private auth"]
    assert found["subscribe"][0].status == "skipped"


def test_what_is_sent_where_nobody_may_listen_is_not_missed(target: Target) -> None:
    users = (dataclasses.replace(target.users[0], servers=(999,)), *target.users[1:])
    found = examined(dataclasses.replace(target, users=users))
    assert "private-servers.999" in problems(found)["private auth"]
    assert found["receipt"][0].status == "skipped"


def test_host_and_port_swapped_with_the_application(target: Target) -> None:
    swapped = dataclasses.replace(target, port=int(target.api.rpartition(":")[2]))
    assert "broadcaster's port" in problems(examined(swapped))["websocket"]


def test_a_broadcaster_without_application_is_signed_for_here(target: Target) -> None:
    found = examined(dataclasses.replace(target, api="", users=()))
    assert problems(found) == {}
    assert found["receipt"][0].status == "ok"
    assert found["refetch"][0].status == "skipped"


def test_the_page_is_built_for_another_host(target: Target) -> None:
    assert "use the same" in examined(target)["browser settings"][0].detail
    elsewhere = dataclasses.replace(target, browser=Address("localhost", target.port))
    found = examined(elsewhere)
    assert problems(found) == {}
    assert "'localhost' in the page, '127.0.0.1' on the server" in found["browser settings"][0].detail
    assert {f.detail.split(" in ")[0] for f in found["tcp"]} >= {f"broadcaster for pages localhost:{target.port}"}
    assert "ws://localhost" in found["websocket"][0].detail


def test_whoever_is_down_the_others_are_examined(target: Target) -> None:
    found = examined(dataclasses.replace(target, api="http://127.0.0.1:9"))
    assert set(problems(found)) == {"tcp"}
    assert found["private auth"][0].detail == "signed here: the application does not answer"
    assert found["receipt"][0].status == "ok"
    found = examined(dataclasses.replace(target, port=9, browser=target.publishing))
    assert set(problems(found)) == {"tcp"}
    assert found["publish"][0].detail == "the broadcaster does not answer"
    assert found["subscribe"][0].status == found["refetch"][0].status == "ok"


@pytest.mark.parametrize(
    ("behave", "said"),
    [
        (always(answer(b"<h1>It works</h1>")), "HTTP 200"),
        (always(answer(status="500 Oops")), "look at its log"),
        (always(b"SSH-2.0-OpenSSH_9.2\r\n"), "no HTTP"),
        (always(b""), "silent"),
    ],
    ids=["a web server", "failing", "another protocol", "silent"],
)
def test_something_else_listens_there(behave: Behaviour, said: str) -> None:
    async def main() -> list[Finding]:
        async with serving(behave) as port:
            return await examine(Patient(Target("127.0.0.1", port, "http", "a", "k", "s"), patience=0.5), STEPS)

    found = {finding.step: finding for finding in asyncio.run(main()) if finding.status == "problem"}
    assert said in f"{found['websocket'].detail} {found['websocket'].advice}"


def test_a_certificate_that_nobody_trusts(tmp_path: Path) -> None:
    async def main() -> list[Finding]:
        async with serving(always(answer()), self_signed(tmp_path)) as port:
            return await examine(Patient(Target("127.0.0.1", port, "https", "a", "k", "s"), patience=2), STEPS)

    found = {finding.step: finding for finding in asyncio.run(main())}
    assert "certificate: self-signed" in found["tls"].detail
    assert "SSL_CERT_FILE" in found["tls"].advice


def test_what_depends_on_a_failed_step_is_skipped() -> None:
    async def fails(patient: Patient) -> list[Finding]:
        return [Finding("first", "problem", "broken", "mend it")]

    async def works(patient: Patient) -> list[Finding]:
        return [Finding("third", "ok", "fine")]

    steps = (CheckStep("first", fails), CheckStep("second", works, ("first",)), CheckStep("third", works))
    found = asyncio.run(examine(Patient(Target("h", 1, "http", "a", "k", "s")), steps))
    assert [(f.step, f.status) for f in found] == [("first", "problem"), ("second", "skipped"), ("third", "ok")]
    assert found[0].line() == f"problem {'first':24}broken\n{'':32}-> mend it"


@pytest.mark.parametrize(("changed", "code"), [({}, 0), ({"key": "wrong"}, 3), ({"port": 9}, 5)])
def test_exit_codes_and_json(
    target: Target, changed: dict[str, object], code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "target.json"
    dataclasses.replace(target, **changed).write(path)  # type: ignore[arg-type]
    assert cli.main(["doctor", "--target", str(path), "--json", "--timeout", "2"]) == code
    findings = json.loads(capsys.readouterr().out)["findings"]
    assert {tuple(finding) for finding in findings} == {("step", "status", "detail", "advice")}
