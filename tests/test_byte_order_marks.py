"""Text files that an editor has put a byte order mark in front of say what they say without it."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sim.commands.record import _read_steps
from sim.experiments import fan_out
from sim.live.broadcaster.settings import read_file
from sim.prediction import parameters
from sim.results.run import Run
from sim.scenario import load_scenario
from sim.target.descriptor import Target
from sim.target.laravel import laravel_settings
from sim.target.users import read_users
from sim.workload.traces import load_trace

DATA = Path(__file__).resolve().parent.parent / "data"
TARGET = '{"ws": {"host": "h", "port": 1}, "app": {"id": "1", "key": "k", "secret": "s"}, "api": "http://h", "users": []}'
APPS = '{"apps": {"apps": [{"id": "1", "key": "k", "secret": "s"}]}}'
APPS_TOML = '[[apps.apps]]\nid = "1"\nkey = "k"\nsecret = "s"\n'
THRESHOLDS = 'duration = 5\n[thresholds]\ndelivery_ratio = "value >= 1"\n'

READERS: list[tuple[str, Callable[[Path], Any], str | Path]] = [
    ("mine.toml", load_scenario, DATA / "scenarios" / "herd.toml"),
    ("thresholds.toml", lambda path: load_scenario(path).thresholds, THRESHOLDS),
    ("01.jsonl", load_trace, DATA / "traces" / "deploy" / "01.jsonl"),
    ("deploy.steps", lambda path: _read_steps(str(path)), DATA / "traces" / "deploy.steps"),
    ("target.json", Target.read, TARGET),
    ("users.csv", read_users, "id,token\n1,a\n2,b\n"),
    (".env", lambda path: laravel_settings({}, path), "REVERB_APP_ID=1\nREVERB_APP_KEY=k\n"),
    ("a.fit.json", parameters.read, DATA / "fits" / "workbench.fit.json"),
    ("reverb.json", read_file, APPS),
    ("reverb.toml", read_file, APPS_TOML),
    ("saturation.json", fan_out.saturation, DATA / "saturation.json"),
    ("manifest.json", lambda path: Run(path.parent).manifest, DATA / "runs" / "herd" / "manifest.json"),
]


@pytest.mark.parametrize(("name", "read", "content"), READERS, ids=[name for name, *_ in READERS])
def test_with_and_without_a_mark(name: str, read: Callable[[Path], Any], content: str | Path, tmp_path: Path) -> None:
    text = content.read_text(encoding="utf-8") if isinstance(content, Path) else content
    found = []
    for mark in ("", "\ufeff"):
        path = tmp_path / name
        path.write_text(mark + text, encoding="utf-8")
        found.append(repr(read(path)))
    assert found[0] == found[1]
    assert "\ufeff" not in found[1]


OWN = {
    "sim/files.py": "the one reader of what users write",
    "sim/live/capacity/calibration.py": "the cache",
    "sim/live/capacity/limits.py": "/proc",
    "sim/live/measure/fates.py": "the application's outcomes",
    "sim/live/measure/measured.py": "the record of a run that goes on",
    "sim/live/processes.py": "logs of children",
    "sim/live/record/recorder.py": "/dev/tty",
    "sim/live/serve.py": "logs of children",
    "sim/results/parts.py": "headers of load processes",
    "sim/virtual/sweep_journal.py": "a sweep's journal",
    "sim/virtual/reference/page.py": "opens pages, no files",
    "loadtests/recording/clocks.py": "/proc",
}
"""Modules that read a text file of the workbench's own, or of the system's."""


def readers(tree: ast.AST) -> set[str]:
    """How a module opens text files to read them: `read_text`, `open` without a mode for bytes or for writing."""
    found = set()
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        modes = [*call.args, *(k.value for k in call.keywords if k.arg == "mode")]
        texts = {str(mode.value) for mode in modes if isinstance(mode, ast.Constant)}
        for_bytes_or_writing = any(len(text) < 4 and set(text) & set("bwax") for text in texts)
        if isinstance(call.func, ast.Attribute):
            # A method `open` that takes something else than a mode is no path's.
            of_path = ast.unparse(call.func.value) != "os" and (not call.args or bool(texts))
            if call.func.attr == "read_text" or (call.func.attr == "open" and of_path and not for_bytes_or_writing):
                found.add(call.func.attr)
        elif isinstance(call.func, ast.Name) and call.func.id == "open" and not for_bytes_or_writing:
            found.add("open")
    return found


def test_what_users_write_is_read_in_one_place() -> None:
    """A reader of its own forgets the byte order mark: `sim.files.read_text`."""
    root = DATA.parent
    paths = [path for package in ("sim", "loadtests") for path in sorted((root / package).rglob("*.py"))]
    found = {str(path.relative_to(root)): readers(ast.parse(path.read_text(encoding="utf-8"))) for path in paths}
    assert {name: how for name, how in found.items() if how and name not in OWN} == {}
    assert [name for name in OWN if not found.get(name)] == []


def test_a_reader_of_its_own_is_seen() -> None:
    for source in ("open(path)", "open(path, encoding='utf-8')", "path.open()", "path.open('r')"):
        assert readers(ast.parse(source)) == {"open"}, source
    assert readers(ast.parse("path.read_text(encoding='utf-8')")) == {"read_text"}
    for source in ("open(path, mode='rb')", "path.open('ab')", "os.open(path, 0)", "read_text(path)", "machine.open(at)"):
        assert readers(ast.parse(source)) == set(), source
