"""Scenarios as text: TOML files, names of those that come with the workbench, and `--set` on a command line."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sim.errors import BadInput, did_you_mean
from sim.files import read_text
from sim.scenario.model import Scenario
from sim.scenario.tree import build, to_dict
from sim.shipped import shipped

SCENARIO_DIR = shipped("data") / "scenarios"


def load_scenario(source: str | Path, changes: Mapping[str, Any] | None = None) -> Scenario:
    """Read a scenario by path, or by name from data/scenarios. Raises `BadInput` naming file, key and remedy."""
    path = find_scenario(source)
    try:
        tree = tomllib.loads(read_text(path))
    except OSError as error:
        raise BadInput(f"scenario {path}: {error.strerror or error}") from error
    except RecursionError as error:
        raise BadInput(f"scenario {path}: nested too deeply") from error
    except ValueError as error:  # TOML, UTF-8, or a number of thousands of digits
        raise BadInput(f"scenario {path}: not valid TOML: {error}") from error
    tree.setdefault("name", path.stem)
    scenario: Scenario = build(Scenario, tree, where=str(path))
    return scenario.replace(changes) if changes else scenario


def scenario_names() -> list[str]:
    """The scenarios that come with the workbench."""
    return sorted(path.stem for path in SCENARIO_DIR.glob("*.toml"))


def find_scenario(source: str | Path) -> Path:
    """The file of a scenario, by path or by name; a directory of that name does not stand in its way. Raises `BadInput`."""
    path = Path(source)
    if path.suffix or path.is_file() or path.parent != Path():
        return path
    named = SCENARIO_DIR / f"{source}.toml"
    if not named.is_file():
        raise BadInput(f"scenario {str(source)[:200]!r} not found{did_you_mean(str(source)[:200], scenario_names())}")
    return named


def parse_value(text: str) -> Any:
    """A value given on the command line, as TOML would read it; what TOML cannot read is a text (`detail`)."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{text[:60]!r}...: cannot be read as a value: {error}") from error


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
    return "".join(f"{key} = {to_text(value)}\n" for key, value in to_dict(scenario).items())


def to_text(value: Any) -> str:
    """A plain tree as a TOML value: everything nested is inline; a JSON text is a TOML text as well."""
    if isinstance(value, Mapping):
        bare = re.compile(r"[A-Za-z0-9_-]+")
        return "{" + ", ".join(f"{k if bare.fullmatch(k) else json.dumps(k)} = {to_text(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(to_text(leaf) for leaf in value) + "]"
    return f"{value:.12g}" if isinstance(value, float) and float(f"{value:.12g}") == value else json.dumps(value)
