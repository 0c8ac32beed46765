"""A secret that is given to a command is in nothing that the command writes or says. Load tests' bundles: tests/live/measure."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sim.cli import main
from sim.commands.measuring import one

SECRET = "s3cr3t-planted"
CLOSED = "127.0.0.1:1"


def test_no_command_repeats_a_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    given, written = tmp_path / "given", tmp_path / "written"
    given.mkdir()
    written.mkdir()
    settings = {"REVERB_APP_ID": "1", "REVERB_APP_KEY": "key", "REVERB_APP_SECRET": SECRET, "REVERB_HOST": "127.0.0.1"}
    settings |= {"REVERB_PORT": "1", "REVERB_SCHEME": "http", "APP_URL": f"http://user:{SECRET}@{CLOSED}"}
    dotenv = given / "target.env"
    dotenv.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    target = {"host": "127.0.0.1", "port": 1, "scheme": "http", "app_id": "1", "key": "key", "secret": SECRET, "api": ""}
    (given / "target.json").write_text(json.dumps(target))
    (given / "odd.json").write_text(json.dumps(target | {"api": f"http://user:{SECRET}@{CLOSED}", "port": SECRET}))
    accounts = given / "accounts.csv"
    accounts.write_text(f"id,email,password\n1,a@example.com,{SECRET}\nx,a@example.com,{SECRET}\n")
    monkeypatch.chdir(written)
    monkeypatch.setattr(one, "calibrated", lambda observer: None)
    commands = [
        [
            "record",
            "--replicas",
            "1",
            "-o",
            "trace.jsonl",
            "--",
            "sh",
            "-c",
            "true",
            f"--password={SECRET}",
            f"DB_PASSWORD={SECRET}",
        ],
        ["serve", "--database", f"nope://user:{SECRET}@{CLOSED}/x"],
        ["serve", "--database", f"postgresql://user:{SECRET}@{CLOSED}:x/y"],
        ["serve", "--redis", f"redis://:{SECRET}@{CLOSED}"],
        ["serve", "--redis", f"rediss://:{SECRET}@h:x"],
        ["serve", "--redis", f"http://:{SECRET}@{CLOSED}"],
    ]
    for name in (str(dotenv), str(given / "target.json"), str(given / "odd.json")):
        commands += [
            ["doctor", "--target", name, "--timeout", "0.2"],
            ["doctor", "--target", name, "--timeout", "0.2", "--json"],
            ["drive", "demo", "--target", name],
            ["loadtest", "demo", "--target", name, "-o", "run"],
            ["loadtest", "demo", "--target", name, "--accounts", str(accounts), "-o", "run"],
            ["listen", "--target", name, "--seconds", "0.1"],
        ]
    told = []
    for argv in commands:
        main(argv)
        said = capsys.readouterr()
        files = {str(file): file.read_bytes() for file in written.rglob("*") if file.is_file()}
        places = {"stdout": said.out.encode(), "stderr": said.err.encode(), **files}
        told += [(argv[:2], place) for place, content in places.items() if SECRET.encode() in content]
    assert told == []
    assert (written / "trace.jsonl").stat().st_size > 0
