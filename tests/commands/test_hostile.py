"""Command lines that nobody should type: each ends in a documented exit code and at most one line, never in a traceback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from sim.cli import main

FILES = {
    "noise": b"\xff\xfe\x00",
    "deep.toml": b"x = " + b"[" * 5000,
    "digits.toml": b"seed = " + b"9" * 5000,
    "nul.toml": b'name = "\\u0000"\nduration = "\\u0000"',
    "latin.toml": b'name = "\xe9"',
    "deep.json": b"[" * 100_000,
    "number.json": b"9" * 400,
    "deep.jsonl": b'{"trace": 1}\n' + b"[" * 100_000,
}
NAMES = [
    *FILES,
    "empty",
    "bundle",
    "x.toml/",
    "",
    "/nope/x",
    "x" * 300,
    "a\0b",
    "\udcff",
    "*",
    "--",
    "-",
    "http://[::1",
    "12:30:00",
    "../..",
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("hostile")
    for name, content in FILES.items():
        (place / name).write_bytes(content)
    (place / "empty").mkdir()
    (place / "bundle").mkdir()
    (place / "bundle" / "manifest.json").write_text(json.dumps({"schema_version": 2, "files": {"x": {}}}))
    return place


def command_lines() -> Iterator[list[str]]:
    short = ["--set", "duration=0.1", "--set", "pages.0.subscribers=1"]
    for name in NAMES:
        for command in ("check", "explain", "report", "scenario", "fit", "recover"):
            yield [command, name]
        yield ["compare", name, name]
        yield ["compare", name, name, "--band", name]
        yield ["check", "bundle", "--threshold", name]
        yield ["check", "bundle", "--scenario", name]
        yield ["simulate", name]
        yield ["simulate", "steady", *short, "-o", f"out/{name}" if name else name]
        yield ["simulate", "steady", *short, "--set", f"workload={{kind='replay',trace='{name}'}}"]
        yield ["simulate", "steady", *short, "--set", name]
        yield ["simulate", "steady", *short, "--ignore", name]
        yield ["sweep", name, "--vary", "policy.wait=1"]
        yield ["sweep", "steady", "--vary", name]
        yield ["drive", "demo", "--target", name or "nowhere"]
        yield ["plan", "--subscribers", name]
        yield ["scenario", "--keys", name]
        yield ["record", "--steps", "empty", "-o", name]
        yield [name]


def test_every_one_ends_in_a_line_and_a_code(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    wrong = []
    for argv in command_lines():
        try:
            code: object = main(argv)
        except SystemExit as stop:  # --help, --version
            code = stop.code
        error = capsys.readouterr().err
        if (
            code not in (0, 1, 2, 3, 4, 5)
            or error.count("\n") > 1
            or len(error) > 1000
            or "Traceback" in error
            or (code and not error)
        ):
            wrong.append((argv, code, error[:300]))
    assert wrong == []


def test_a_run_in_a_directory_with_a_colon_is_written_and_read(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    arguments = ["--set", "duration=1", "--set", "pages.0.subscribers=1", "-o", "2026-01-01T12:30:00"]
    assert main(["simulate", "steady", *arguments]) == 0
    assert main(["explain", "2026-01-01T12:30:00"]) == 0
