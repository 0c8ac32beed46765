"""What the README and the documentation tell people to type is understood; the reference is complete; the site builds."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from sim import cli
from sim.results.run import TABLES
from sim.results.summary import DESCRIPTIONS
from sim.results.thresholds import parse_all
from sim.scenario import Scenario, build, keys, load_scenario, scenario_names
from tests.torture.soak import markdown

ROOT = Path(__file__).resolve().parents[1]
TEXTS = {path.name: path.read_text(encoding="utf-8") for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]}
SCENARIOS = [(name, block) for name, text in TEXTS.items() for block in re.findall(r"```toml\n(.*?)```", text, re.DOTALL)]
COMMANDS = [
    (name, line)
    for name, text in TEXTS.items()
    for block in re.findall(r"```(?:console)?\n(.*?)```", text, re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines()
    if line.startswith("workbench ")
]


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference", ROOT / "docs" / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("name", "block"), SCENARIOS)
def test_examples_are_scenarios_with_thresholds_that_can_be_read(name: str, block: str) -> None:
    scenario = build(Scenario, tomllib.loads(block), where=name)
    parse_all(scenario.thresholds)


@pytest.mark.parametrize(("name", "line"), COMMANDS)
def test_commands_are_understood(name: str, line: str) -> None:
    command, *arguments = shlex.split(line, comments=True)[1:]
    args = cli.build_parser(command).parse_args([command, *arguments])
    named = getattr(args, "scenario", None)
    if named is not None and not named.endswith(".toml"):
        load_scenario(named)


def test_the_readme_is_one_screen_with_two_commands() -> None:
    assert len(TEXTS["README.md"].splitlines()) <= 60
    assert re.findall(r"^make \w+", TEXTS["README.md"], re.MULTILINE) == ["make demo", "make lab"]


def test_no_measured_figure_is_typed_into_prose() -> None:
    """A time, a rate or a share that somebody measured belongs to the command that prints it."""
    prose = {name: re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.DOTALL) for name, text in TEXTS.items() if name != "doctor.md"}
    soak = json.loads((ROOT / "tests" / "data" / "torture" / "soak.json").read_text(encoding="utf-8"))
    prose["robustness.md"] = prose["robustness.md"].replace(markdown(soak), "")  # made from its figures
    found = {
        name: re.findall(r"\b\d[\d.,]* ?(?:ms|µs|us|%|per cent|MB|MiB|GB|events/s|/s)(?!\w)", text)
        for name, text in prose.items()
    }
    assert {name: some for name, some in found.items() if some} == {}


def test_every_scenario_that_comes_along_is_in_the_data_card() -> None:
    card = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
    assert [name for name in scenario_names() if f"`{name}`" not in card] == []


# --- the reference -----------------------------------------------------------------------------------------------------------


def test_the_reference_has_every_key_kind_metric_column_command_and_code(reference: ModuleType) -> None:
    pages = reference.pages()
    written = pages["reference/scenario.md"] + pages["reference/kinds.md"]
    assert [key.dotted for key in keys() if f"| `{key.name}` |" not in written] == []
    assert [key.dotted for key in keys() if key.kind and f"#{key.table}-{key.kind} }}" not in written] == []
    assert [name for name in DESCRIPTIONS if f"| `{name}` |" not in pages["reference/metrics.md"]] == []
    for table, schema in TABLES.items():
        part = pages["reference/tables.md"].partition(f"## {table}\n")[2].partition("\n## ")[0]
        assert [name for name in schema.names if f"| `{name}` |" not in part] == []
    measured = json.loads((ROOT / "data" / "browsers.json").read_text(encoding="utf-8"))
    first = {str(row[name]) for part, name in (("frames", "kind"), ("refetches", "at_once")) for row in measured[part]}
    assert [cell for cell in first if f"\n| {cell} | " not in pages["reference/browsers.md"]] == []
    grown = json.loads((ROOT / "data" / "growth.json").read_text(encoding="utf-8"))["rows"]
    assert [
        row["name"] for row in grown if f"| {row['pairs']:,} | {row['refetches']:,} |" not in pages["reference/growth.md"]
    ] == []
    commands = pages["reference/commands.md"]
    assert [name for name in cli.COMMANDS if f"## workbench {name}\n" not in commands] == []
    codes = {code for code in (0, 1, 2, 3, 4, 5, 130, 143) if f"| {code} |" in commands}
    assert codes == set(reference.EXIT_CODES) == set(map(int, re.findall(r"\b(\d+) [a-z]", cli.__doc__ or "")))


def test_the_reference_has_every_environment_variable_that_the_programs_read(reference: ModuleType) -> None:
    names = set()
    for package in ("sim", "loadtests"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    names |= set(re.findall(r"^(?:WORKBENCH|RUN)_[A-Z]+$", node.value))
    assert names - set(reference.ENVIRONMENT) == set()


def test_the_site_builds_without_a_network_and_its_links_lead_somewhere(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="mkdocs is in the extra 'docs'")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
    )
    assert (built.returncode, built.stdout + built.stderr) == (0, "")
    pages = {path.relative_to(tmp_path / "site").as_posix() for path in (tmp_path / "site").rglob("*.html")}
    assert {"index.html", "laravel.html", "reference/scenario.html"} <= pages
    html = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    assert re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="https?://[^"]*\.(?:js|css|png|woff2?)"', html) == []
