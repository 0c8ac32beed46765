"""target.json and Laravel's own settings."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from sim.errors import BadInput
from sim.target import Target, User

TARGET = Target("127.0.0.1", 8080, "http", "1", "key", "hidden", "http://127.0.0.1:8000", (User(1, "token-1", (1, 2), (1,)),))


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


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "not valid JSON"),
        ("{}", "member 'ws' is missing"),
        ('{"ws": {"host": "h", "port": "x"}, "app": {"id": "1", "key": "k"}}', "invalid literal"),
        ('{"ws": 3, "app": 4}', "target .*target.json"),
    ],
)
def test_a_damaged_file_is_one_clear_line(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "target.json"
    path.write_text(text)
    with pytest.raises(BadInput, match=complaint):
        Target.read(path)


def test_a_missing_file_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="workbench serve --ready-file"):
        Target.read(tmp_path / "target.json")


def test_laravel_names_from_a_dotenv_file_and_the_environment_wins(tmp_path: Path) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_text(
        'REVERB_APP_ID=7\nREVERB_APP_KEY=k\nREVERB_APP_SECRET=s\nREVERB_HOST="localhost"\nAPP_URL=http://localhost:8000/\n'
    )
    target = Target.from_environment({"REVERB_PORT": "9000", "REVERB_APP_KEY": "other"}, dotenv)
    assert (target.host, target.port, target.app_id, target.key, target.secret) == ("localhost", 9000, "7", "other", "s")
    assert target.api == "http://localhost:8000"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b'{"ws": {"host": "h"},\n "app": {}}\n', "REVERB_APP_SECRET not set"),
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


def test_what_the_environment_lacks_is_named() -> None:
    with pytest.raises(BadInput, match="REVERB_APP_KEY, REVERB_APP_SECRET not set"):
        Target.from_environment({"REVERB_APP_ID": "1"}, "no-such-file")
