"""Command lines that nobody should type: each ends in a documented exit code and at most one line, never in a traceback."""

from __future__ import annotations

import json
import multiprocessing.process
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

import sim.results.run
from sim.cli import main
from sim.errors import WorkbenchError
from sim.live.capacity import calibration
from sim.results.answers import execution
from sim.virtual import sweep

RUN = str(Path(__file__).resolve().parents[2] / "data" / "runs" / "start-here")
DIGITS = "9" * 60
VALUES = ["", " ", "-1", "0", "nan", "inf", "-inf", "9" * 400, "1e999", "[]", "{}", "true", '"x"', "é", "{kind=1}", "\ufeff1"]
VALUES += ['{kind="nope"}', "[" * 200 + "]" * 200, "x" * 300]
KEYS = "duration seed warmup drain policy.wait policy policy.kind pages pages.0.subscribers pages[0].subscribers pages.0.session"
KEYS += " workload workload.rate api.workers api.service broadcaster.per_subscriber network.to_api incidents thresholds"
KEYS += (
    " thresholds.x fleet.users name nope .. pages.99.subscribers pages.x broadcast.debounce load.processes publisher.connections"
)

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
    "/proc/nope/x",
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


def options() -> Iterator[list[str]]:
    """What the options take: numbers, conditions, addresses, places."""
    drawn = random.Random(18)
    short = ["--set", "duration=1", "--set", "warmup=0", "--set", "drain=0.2"]
    for key in ["", *KEYS.split()]:
        for value in drawn.sample(VALUES, 4):
            yield ["simulate", "steady", *short, "--set", f"{key}={value}"]
    for condition in ("p(..) < 1", "p(101) < 1", "p(-1) < 1", "value", "value < x", "value <> 1", "mean <= nan", "p(99) < 1 and"):
        yield ["check", RUN, "--threshold", f"time_to_fresh={condition}"]
        yield ["simulate", "steady", *short, "--set", f"thresholds.time_to_fresh={json.dumps(condition)}"]
    varied = ["sweep", "steady", "--vary", "policy.wait=0.1"]
    numbers = [
        ["plan", "--subscribers"],
        ["explain", RUN, "--worst"],
        ["explain", RUN, "--windows"],
        ["compare", RUN, RUN, "--band"],
    ]
    numbers += [[*varied, name] for name in ("--precision", "--replications", "--max-replications", "--processes")]
    numbers += [
        ["serve", name] for name in ("--users", "--seed", "--nodes", "--processes", "--provision", "--api-port", "--cost")
    ]
    numbers += [["loadtest", "demo", name] for name in ("--users", "--processes", "--remote-workers", "-o", "--bind", "--join")]
    for argv in [*numbers, ["calibrate", "--subscribers"], ["report", RUN, "--timeout"], ["listen", "--seconds"]]:
        for value in ("", "x", "-1", "nan", "inf", DIGITS, "1e999"):
            yield [*argv, value]
    for value in (
        "=",
        "policy.wait=",
        "policy.wait=x",
        "policy.wait=,",
        "nope=1",
        "policy.wait=nan",
        f"pages.0.subscribers={DIGITS}",
    ):
        yield ["sweep", "steady", "--vary", value]
    for name, values in {
        "--host": ("", "nope.invalid"),
        "--ready-file": (".", "/proc/nope/x"),
        "--database": ("", "x", "sqlite://", "oracle://u@h/x"),
        "--redis": ("", "redis://127.0.0.1:1", "redis://h:x", "redis://[::1"),
        "--trace": ("nope", ""),
        "--speed": ("0", "nan"),
    }.items():
        yield from (["serve", "--provision", "1", name, value] for value in values)
    for more in (
        "--locust 'x",
        "--target nope.json",
        "--target noise",
        "--shape nope",
        "--search x",
        "--auth x",
        "--bind 127.0.0.1:\N{SUPERSCRIPT TWO}",
        '--set thresholds.nope="p(99) < 1"',
    ):
        yield ["loadtest", "demo", *more.split(" ", 1)]
    yield from (["doctor", "--target", name] for name in ("nope.env", "noise", "deep.json"))
    yield from (["record", *more] for more in ([], ["--"], ["--", "/proc/nope/x"], ["--step-pattern", "(", "--", "true"]))
    yield ["record", "--step-pattern", "x", "--", "-x"]


class Started(WorkbenchError):
    """Something would have been started: these command lines are no worse than others. None may be, by this test."""

    exit_code = 0


@pytest.fixture
def nothing_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*_: Any, **__: Any) -> NoReturn:
        raise Started("it would start")

    for owner, name in (
        (subprocess.Popen, "__init__"),
        (multiprocessing.process.BaseProcess, "start"),
        (os, "fork"),
        (os, "posix_spawn"),
        (sweep, "run"),
        (execution, "execute"),
        (calibration, "stored"),  # a machine without a calibration says so in a line of its own, and measures first
    ):
        monkeypatch.setattr(owner, name, start)
    monkeypatch.setattr(sim.results.run, "git_state", dict)


REFUSED = [
    ["sweep", "steady", "--vary", "policy.wait=0.1", "--processes", DIGITS],
    ["sweep", "steady", "--vary", "policy.wait=0.1", "--precision", "inf"],
    ["sweep", "steady", "--vary", "policy.wait=0.1", "--precision", "1e999"],
    ["serve", "--seed", "-1"],
    ["serve", "--database", ""],
    ["serve", "--host", ""],
    ["loadtest", "demo", "--users", DIGITS],
    ["loadtest", "demo", "--remote-workers", "-1"],
]


@pytest.mark.usefixtures("nothing_starts")
@pytest.mark.parametrize("argv", REFUSED, ids=" ".join)
def test_refused_before_anything_starts(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.usefixtures("nothing_starts")
def test_a_redis_that_does_not_answer_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--redis", "redis://127.0.0.1:1"]) == 5
    assert "--redis 127.0.0.1:1: " in capsys.readouterr().err


@pytest.mark.usefixtures("nothing_starts")
def test_every_one_ends_in_a_line_and_a_code(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    wrong = []
    for argv in [*command_lines(), *options()]:
        try:
            code: object = main(argv)
        except SystemExit as stop:  # --help, --version
            code = stop.code
        except Exception as error:  # a traceback: all of them are wanted, not the first
            code = repr(error)
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
