"""target.json and Laravel's own settings."""

from __future__ import annotations

import dataclasses
import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from loadtests.settings import Settings
from sim.errors import BadInput
from sim.live.application.publishing import BroadcasterAddress
from sim.live.broadcaster.settings import BroadcasterSettings
from sim.pusher.server.apps import App
from sim.target import Account, Address, Login, Target

TARGET = Target("127.0.0.1", 8080, "http", "1", "key", "hidden", "http://127.0.0.1:8000", (Account(1, "token-1", (1, 2), (1,)),))


def written(**members: object) -> str:
    return json.dumps({"ws": {"host": "h", "port": 1}, "app": {"id": "1", "key": "k", "secret": "hidden"}, **members})


def test_a_target_survives_the_file_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "target.json"
    TARGET.write(path)
    assert Target.read(path) == TARGET
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert set(json.loads(path.read_text())) == {"ws", "app", "api", "users"}
    assert [p.name for p in tmp_path.iterdir()] == ["target.json"]


def test_what_a_bundle_may_keep_holds_no_secret_and_no_token() -> None:
    text = json.dumps(TARGET.public())
    assert "hidden" not in text
    assert "token-1" not in text


def test_urls() -> None:
    assert TARGET.websocket_url == "ws://127.0.0.1:8080/app/key"
    assert TARGET.http_url == "http://127.0.0.1:8080"
    assert TARGET.page_origin == "http://127.0.0.1:8000"
    behind = dataclasses.replace(TARGET, host="::1", path="/reverb", browser=Address("ws.example", 443, "https", "/r"))
    assert behind.http_url == "http://[::1]:8080/reverb"
    assert behind.websocket_url == "wss://ws.example:443/r/app/key"
    assert dataclasses.replace(TARGET, origin="https://shop.example/login?x").page_origin == "https://shop.example"
    assert behind.signed_path("/apps/1/events") == "/apps/1/events"
    assert dataclasses.replace(behind, sign="full").signed_path("/apps/1/events") == "/reverb/apps/1/events"


def test_optional_members_survive_the_file(tmp_path: Path) -> None:
    target = dataclasses.replace(
        TARGET,
        path="/reverb",
        sign="full",
        browser=Address("ws.example", 443, "https"),
        origin="https://shop.example",
        auth="/api/broadcasting/auth",
        headers=(("X-Tenant", "hidden"),),
        login=Login("/auth/login", "/csrf"),
    )
    target.write(tmp_path / "t.json")
    assert Target.read(tmp_path / "t.json") == target
    assert "hidden" not in f"{target!r}{target.public()}"


def test_what_an_earlier_run_left_readable_does_not_make_the_secret_readable(tmp_path: Path) -> None:
    for name in ("target.json", "target.json.partial"):
        (tmp_path / name).write_text("old")
        (tmp_path / name).chmod(0o644)
    TARGET.write(tmp_path / "target.json")
    assert stat.S_IMODE((tmp_path / "target.json").stat().st_mode) == 0o600
    assert Target.read(tmp_path / "target.json") == TARGET


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "not valid JSON"),
        ("{}", "member 'ws' is missing"),
        ('{"ws": {"host": "h", "port": "x"}, "app": {"id": "1", "key": "k"}}', "ws.port='x' must be a whole number"),
        ('{"ws": 3, "app": 4}', "target .*target.json: ws must be an object, as {...}, got a number"),
        ("[]", "a target must be an object"),
        (written(ws={"host": None, "port": 1}), "member 'host' is missing"),
        (written(ws={"host": ["h"], "port": 1}), "ws.host must be a text, got a list"),
        (written(ws={"host": "h", "port": True}), "ws.port=True must be a whole number"),
        (written(ws={"host": "h", "port": 1, "sign": "half"}), "ws.sign='half' must be bare or full"),
        (written(app={"id": "1", "key": "k ?"}), "app.key='k .' cannot stand in a path"),
        (written(app="hidden"), "app must be an object, as {...}, got a text"),
        (written(browser="https://ws.example"), "browser must be an object"),
        (written(api=5), "api must be a text, got a number"),
        (written(auth="https://shop.example/auth"), "auth='https://shop.example/auth' must be a path at the application"),
        (written(headers=["X-Key: hidden"]), "headers must be an object, got a list"),
        (written(headers={"X-Key": "a\r\nhidden: 1"}), "headers: 'X-Key' is no header that can be sent"),
        (written(login="/signin"), "login must be an object"),
        (written(users=5), "users must be a list, or the name of a file, got a number"),
        (written(users=["hidden"]), "a user must be an object"),
        (written(users=[{"id": 1}]), "a user has no token and no login: id"),
        (written(users=[{"token": "hidden"}]), "a user has no id: token"),
        (written(users=[{"id": 1, "token": "hidden\n"}]), "a token holds a blank"),
        (written(users=[{"id": 1, "token": "t", "servers": "1 2"}]), "a user's servers must be a list of ids, got '1 2'"),
        (written(users=[{"id": 1.5, "token": "t"}]), "an id must be a whole number or a text, got 1.5"),
    ],
)
def test_a_damaged_file_is_one_clear_line(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "target.json"
    path.write_text(text)
    with pytest.raises(BadInput, match=complaint) as error:
        Target.read(path)
    assert "hidden" not in str(error.value)


def test_a_member_that_is_not_known_is_said(tmp_path: Path) -> None:
    path = tmp_path / "target.json"
    path.write_text(written(ws={"host": "h", "port": 1, "paht": "/r"}, remark="x", login={"path": "sign-in"}, auth="api/auth"))
    target = Target.read(path)
    assert target.notes[1].text == "member ws.paht is not known - did you mean 'path'?"
    assert target.notes[0].text.startswith("member remark is not known (known: api, ")
    assert (target.login.path, target.auth) == ("/sign-in", "/api/auth")


def test_a_missing_file_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="workbench serve --ready-file"):
        Target.read(tmp_path / "target.json")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b'{"ws": {"host": "h"},\n "app": {}}\n', "target.jsn:1: an invalid name"),
        (b"\xff\xfe\x00", "cannot be read: not a text file"),
    ],
)
def test_what_is_no_dotenv_file_is_one_line(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "target.jsn"
    path.write_bytes(content)
    command = [sys.executable, "-m", "sim", "drive", "steady", "--target", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1, done.stderr
    assert complaint in done.stderr
    assert "read as .env: only *.json is JSON" in done.stderr


def test_what_is_printed_of_settings_holds_no_secret() -> None:
    target = dataclasses.replace(TARGET, secret="hunter2")
    settings = Settings(target=target, login={"password": "hunter2"}, environment={"REVERB_APP_SECRET": "hunter2"})
    broadcaster = BroadcasterSettings(apps=(App("1", "key", "hunter2"),), redis="redis://:hunter2@127.0.0.1")
    printed = f"{target!r} {settings!r} {broadcaster!r} {BroadcasterAddress('h', 1, '1', 'key', 'hunter2')!r}"
    assert "hunter2" not in printed
    assert "token-1" not in printed
