"""The README's scenario, thresholds and table of keys are those of the code."""

from __future__ import annotations

import dataclasses
import re
import tomllib
import typing
from pathlib import Path

import pytest

from sim.cli import COMMANDS
from sim.results.thresholds import parse_all
from sim.scenario import Scenario, build

README = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
SCENARIO = README.partition("\n## A scenario")[2].partition("\n## ")[0]
ROWS = re.findall(r"^\| (?:\(top\)|(`.+?`)) \| ([^|]*) \| ([^|]*) \|$", SCENARIO, re.MULTILINE)


def words(wanted: object, seen: set[object]) -> set[str]:
    """Every key, kind and choice below the type *wanted*."""
    if wanted in seen:
        return set()
    seen.add(wanted)
    found = {word for word in typing.get_args(wanted) if isinstance(word, str)}
    for inner in typing.get_args(wanted):
        found |= set() if isinstance(inner, str) else words(inner, seen)
    if dataclasses.is_dataclass(wanted):
        hints = typing.get_type_hints(wanted)
        found |= {f.name for f in dataclasses.fields(wanted)} | {getattr(wanted, "kind", "")}
        for field in dataclasses.fields(wanted):
            found |= words(hints[field.name], seen)
    return found


@pytest.mark.parametrize("block", BLOCKS)
def test_examples_are_scenarios_with_thresholds_that_can_be_read(block: str) -> None:
    scenario = build(Scenario, tomllib.loads(block), where="README.md")
    parse_all(scenario.thresholds)


def test_the_table_names_every_table_of_a_scenario_and_only_keys_that_exist() -> None:
    tables = {name for row in ROWS for name in re.findall(r"[a-z_]+", row[0])}
    plain = set(re.findall(r"`([a-z_]+)`", next(row[2] for row in ROWS if not row[0])))
    assert tables | plain >= {field.name for field in dataclasses.fields(Scenario)}
    hints = typing.get_type_hints(Scenario)
    for names, _, keys in ROWS:
        for_these = set().union(*(words(hints[name], set()) for name in re.findall(r"[a-z_]+", names)))
        known = for_these or words(Scenario, set())
        assert set(re.findall(r"`([a-z_]+)`", keys)) <= known, names


def test_every_command_is_in_the_table_of_commands() -> None:
    table = README.partition("### The commands")[2].partition("\n## ")[0]
    assert [name for name in COMMANDS if not re.search(rf"\b{name}\b", table)] == []
