"""The mutation runner's own parts; what it found is run by hand (`python -m tests.mutation`)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests import mutation
from tests.mutation import MODULES, ROOT, equivalents, files_of, mutants, table


def test_the_page_s_table_is_made_from_what_was_found() -> None:
    found = json.loads((ROOT / "tests" / "data" / "mutation.json").read_text(encoding="utf-8"))
    assert "\n".join(table(found)) in (ROOT / "docs" / "robustness.md").read_text(encoding="utf-8")


def test_every_mutant_that_is_judged_equivalent_exists() -> None:
    judged = equivalents()
    known = {
        module: {mutant.name for mutant in mutants((ROOT / module).read_text(encoding="utf-8"), True)} for module, _ in judged
    }
    assert judged
    assert [(module, name) for module, name in sorted(judged) if name not in known[module]] == []


def test_every_module_that_decides_has_tests_of_its_own() -> None:
    for module in files_of(MODULES):
        names = mutation.tests_of(module, ROOT)
        assert names, module
        assert all((ROOT / name).is_file() for name in names), module


def test_a_table_counts_what_was_found_late_and_judged() -> None:
    module, same = min(equivalents())
    rows = {
        "a": {"line": 1, "found": True, "end": "failed", "seconds": 1.0},
        "b": {"line": 1, "found": True, "end": "late", "seconds": 1.0},
        "c": {"line": 1, "found": False, "end": "passed", "seconds": 1.0},
        same: {"line": 1, "found": False, "end": "passed", "seconds": 1.0},
    }
    lines = table({module: {"mutants": 9, "rows": rows}})
    assert lines[2:] == [f"| `{module}` | 9 | 4 | 1 | 2 | 1 |", "", f"- survived: `{module}` `` c ``"]


TOY = """
LIMIT = 3
TABLE = {"twice": lambda number: number * 2}


def capped(number):
    return min(number, LIMIT)


def untested(number):
    return number + 1


class Counter:
    step = 5

    def __init__(self):
        self.total = 0

    def add(self):
        self.total += self.step


def adder(by):
    def add(number):
        return number + by

    return add
"""
TESTS = """
import pytest

from sim.toy import Counter, TABLE, adder, capped


@pytest.fixture(scope="module")
def counter():
    counter = Counter()
    counter.add()
    return counter


def test_shared(counter):
    assert counter


def test_counter(counter):
    assert counter.total == 5


@pytest.mark.parametrize("number", [1, 9])
def test_capped(number):
    assert capped(number) == min(number, 3)


def test_others():
    assert TABLE["twice"](4) == 8
    assert adder(2)(3) == 5
"""


def test_what_no_test_notices_survives_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in {
        "sim/__init__.py": "",
        "sim/toy.py": TOY,
        "tests/test_toy.py": TESTS,
        "docs/robustness.md": "",
        "notebooks/x": "",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nmarkers =\n" + "\n".join(f" {mark}: x" for mark in ("slow", "torture", "interop", "browser", "service"))
    )
    monkeypatch.setattr(mutation, "ROOT", tmp_path)
    monkeypatch.setattr(mutation, "HEAVY", ())
    output = tmp_path / "found.json"
    assert mutation.main(["sim/toy.py", "--sample", "99", "-o", str(output)]) == 1
    rows = json.loads(output.read_text())["sim/toy.py"]["rows"]
    assert {name for name, row in rows.items() if not row["found"]} == {
        "untested: number + 1 -> number - 1",
        "untested: 1 -> 2",
        "untested: return number + 1 -> return None",
    }
    assert len(rows) == len(list(mutants(TOY))) > 12
    assert {row["end"] for row in rows.values()} == {"passed", "failed"}
    # What survived meets the tests that there are now; what was found is not run again.
    (tmp_path / "tests/test_toy.py").write_text("from sim.toy import untested\n\n\ndef test_it():\n    assert untested(1) == 2\n")
    assert mutation.main(["sim/toy.py", "--sample", "99", "-o", str(output)]) == 0
