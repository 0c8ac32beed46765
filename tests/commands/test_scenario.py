"""Named scenarios listed and shown, new ones begun, keys explained."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

from sim.cli import main
from sim.commands.scenario import START, start
from sim.scenario import Scenario, build, keys, load_scenario, scenario_names


def said(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert main(["scenario", *argv]) == 0
    return capsys.readouterr().out


def test_every_named_scenario_has_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys)
    assert [name for name in scenario_names() if not re.search(rf"^{name} +\w", text, re.MULTILINE)] == []
    assert max(map(len, text.splitlines())) <= 80
    assert set(json.loads(said(capsys, "--json"))["scenarios"]) == set(scenario_names())


def test_one_is_shown_as_its_file_and_changed_as_one_that_can_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    assert build(Scenario, tomllib.loads(said(capsys, "demo")) | {"name": "demo"}, where="demo") == load_scenario("demo")
    changed = tomllib.loads(said(capsys, "demo", "--set", "policy.wait=0.2", "--set", "pages[1].subscribers=7"))
    assert build(Scenario, changed, where="demo") == load_scenario("demo", {"policy.wait": 0.2, "pages.1.subscribers": 7})


def test_a_new_one_is_a_scenario_and_is_never_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.toml"
    said(capsys, str(path))
    assert path.read_text(encoding="utf-8") == start()
    scenario = load_scenario(path)
    assert scenario.subscribers > 0
    assert scenario.thresholds
    path.write_text("duration = 5\n", encoding="utf-8")
    assert said(capsys, str(path)) == "duration = 5\n"
    assert main(["scenario", str(tmp_path / "gone" / "mine.toml")]) == 2
    assert "its directory does not exist" in capsys.readouterr().err


def test_what_a_new_one_has_commented_out_are_the_defaults() -> None:
    lines = [line for line in start().splitlines() if re.match(r"# [a-z_.]+ = [^.]", line) and not line.startswith("# incidents")]
    tree = tomllib.loads("\n".join(line[2:] for line in lines))
    assert build(Scenario, tree, where="start") == Scenario()
    explained = start()
    assert [
        key for key in keys() if key.name not in ("name", "ignore") and key.table != "distribution" and key.name not in explained
    ] == []
    assert all(re.search(rf"^{table} = ", explained, re.MULTILINE) for table in START)


def test_every_key_is_printed_within_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "--keys")
    assert max(map(len, text.splitlines())) <= 80
    assert [key for key in keys() if not re.search(rf"^  {key.name} = ", text, re.MULTILINE)] == []
    assert {key["table"] for key in json.loads(said(capsys, "--keys", "api", "--json"))["keys"]} == {"api"}
    assert main(["scenario", "--keys", "polcy"]) == 2
    assert "did you mean 'policy'" in capsys.readouterr().err
