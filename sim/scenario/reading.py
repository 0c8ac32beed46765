"""Scenarios as text: TOML files, names of those that come with the workbench, and `--set` on a command line."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sim.errors import BadInput, did_you_mean
from sim.scenario.model import Scenario
from sim.scenario.tree import build, to_dict

SCENARIO_DIR = Path(__file__).resolve().parents[2] / "data" / "scenarios"


def load_scenario(source: str | Path, changes: Mapping[str, Any] | None = None) -> Scenario:
    """Read a scenario by path, or by name from data/scenarios. Raises `BadInput` naming file, key and remedy."""
    path = Path(source)
    if not path.suffix and not path.exists():
        named = SCENARIO_DIR / f"{source}.toml"
        if not named.exists():
            known = [p.stem for p in SCENARIO_DIR.glob("*.toml")]
            raise BadInput(f"scenario {str(source)!r} not found{did_you_mean(str(source), known)}")
        path = named
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"scenario {path}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"scenario {path}: not valid TOML: {error}") from error
    tree.setdefault("name", path.stem)
    scenario: Scenario = build(Scenario, tree, where=str(path))
    return scenario.replace(changes) if changes else scenario


def parse_value(text: str) -> Any:
    """A value given on the command line, as TOML would read it; what TOML cannot read is a text (`detail`)."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def parse_assignments(assignments: Iterable[str]) -> dict[str, Any]:
    """`["policy.wait=0.1", ...]` of a `--set` flag as changes for `Scenario.replace`. Raises `BadInput`."""
    changes = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key.strip():
            raise BadInput(f"--set {assignment!r}: write KEY=VALUE, for example policy.wait=0.1")
        changes[key.strip()] = parse_value(text.strip())
    return changes


def to_toml(scenario: Scenario) -> str:
    """The scenario as a TOML file that `load_scenario` reads back as an equal one: how a run hands it to its processes."""
    return "".join(f"{key} = {_toml_value(value)}\n" for key, value in to_dict(scenario).items())


def _toml_value(value: Any) -> str:
    """Everything nested is inline; a JSON text is a TOML text as well."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml_value(leaf)}" for key, leaf in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_toml_value(leaf) for leaf in value) + "]"
    return json.dumps(value)
