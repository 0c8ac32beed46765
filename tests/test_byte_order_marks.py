"""Text files that an editor has put a byte order mark in front of say what they say without it."""

from __future__ import annotations

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
