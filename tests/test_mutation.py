"""The mutation runner's own parts; what it found is run by hand (`python -m tests.mutation`)."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from tests import mutation
from tests.mutation import MODULES, ROOT, equivalents, files_of, mutants, table


def test_the_page_s_table_is_made_from_what_was_found() -> None:
    found = json.loads((ROOT / "tests" / "data" / "mutation.json").read_text(encoding="utf-8"))
    assert "\n".join(table(found)) in (ROOT / "docs" / "robustness.md").read_text(encoding="utf-8")


def test_every_mutant_that_is_judged_equivalent_exists() -> None:
    judged = equivalents()
    known = {module: {mutant.name for mutant in mutants((ROOT / module).read_text(encoding="utf-8"))} for module, _ in judged}
    assert judged
    assert [(module, name) for module, name in sorted(judged) if name not in known[module]] == []


def test_every_module_that_decides_has_tests_of_its_own() -> None:
    for module in files_of(MODULES):
        first, others = mutation.tests_of(module)
        assert len(first) == 1, module
        assert not set(first) & set(others), module
        assert all((ROOT / name).is_file() for name in (*first, *others)), module


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


class FakeBench:
    """Each of a mutant's two sets of tests ends as said."""

    def __init__(self, ends: Sequence[str]) -> None:
        self.ends = ends
        self.met: list[Sequence[str]] = []
        self.limits: list[float] = []
        self.source: str | None = None

    def usual(self, tests: Sequence[str]) -> float:
        assert self.source is None, "what is usual is measured without a mutant"
        return 10.0 * (1 + len(self.met))

    @contextlib.contextmanager
    def mutated(self, module: str, source: str) -> Iterator[None]:
        self.source = source
        yield
        self.source = None

    def run(self, tests: Sequence[str], limit: float) -> tuple[str, float]:
        assert self.source != (ROOT / MODULE).read_text(encoding="utf-8")
        self.met.append(tests)
        self.limits.append(limit)
        return self.ends[len(self.met) - 1], 1.0


MODULE = "sim/results/ledger/costs.py"


@pytest.mark.parametrize(
    ("ends", "met", "found"),
    [(["failed"], 1, True), (["late"], 1, True), (["passed", "failed"], 2, True), (["passed", "passed"], 2, False)],
)
def test_a_mutant_meets_the_others_where_its_module_s_own_tests_pass(ends: list[str], met: int, found: bool) -> None:
    bench, known = FakeBench(ends), dict[str, Any]()
    mutation.examine(MODULE, 1, 1, known, bench, float("inf"))  # type: ignore[arg-type]
    assert bench.met == list(mutation.tests_of(MODULE))[:met]
    assert bench.limits == [60.0, 90.0][:met]
    (row,) = known["rows"].values()
    assert (row["found"], row["end"], row["seconds"], known["missing"]) == (found, ends[-1], met, 0)
    mutation.examine(MODULE, 1, 1, known, bench, float("inf"))  # type: ignore[arg-type]
    assert len(bench.met) == met, "what is known is not run again"
    mutation.examine(MODULE, 9, 1, known, bench, 0.0)  # type: ignore[arg-type]
    assert (len(known["rows"]), known["missing"] > 0) == (1, True), "after its time it begins no mutant"
