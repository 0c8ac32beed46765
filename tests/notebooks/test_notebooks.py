"""What makes a notebook a report: a question, short cells, computed numbers, run in order, outputs that nbval can compare."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).resolve().parent.parent.parent / "notebooks").glob("*.ipynb"))

CELLS, LINES = 25, 10

# A number that a sentence states as a result: digits, then a unit.
TYPED = re.compile(
    r"\d[\d,.]*\s*(%|‰|ms|µs|us|ns|s|min|h|seconds?|minutes?|bytes?|KiB|MiB|kB|MB|/s|times|per second|subscribers|updates)\b"
)

UNSTABLE = ("image/svg+xml", "application/vnd.jupyter.widget-view+json", "application/javascript")


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request: pytest.FixtureRequest) -> Any:
    return nbformat.read(request.param, as_version=4)


def code(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def compared(notebook: Any) -> list[Any]:
    return [cell for cell in code(notebook) if not {"nbval-skip", "nbval-ignore-output"} & set(cell.metadata.get("tags", []))]


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS


def test_its_title_is_a_question(notebook: Any) -> None:
    first = notebook.cells[0]
    assert first.cell_type == "markdown"
    title = first.source.splitlines()[0]
    assert title.startswith("# ")
    assert title.endswith("?")


def test_it_is_short(notebook: Any) -> None:
    assert len(notebook.cells) <= CELLS
    for cell in code(notebook):
        assert len(cell.source.splitlines()) <= LINES, cell.source


def test_it_defines_nothing_and_loops_over_nothing(notebook: Any) -> None:
    for cell in code(notebook):
        for node in ast.walk(ast.parse(cell.source)):
            kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.For, ast.While, ast.Try)
            assert not isinstance(node, kinds), f"{type(node).__name__} in a cell: {cell.source}"


def test_no_number_is_typed_in_prose(notebook: Any) -> None:
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            prose = re.sub(r"`[^`]*`|\]\([^)]*\)", "", cell.source)
            assert not TYPED.search(prose), f"{TYPED.search(prose)} in: {cell.source}"


def test_it_was_executed_in_order_and_kept_its_outputs(notebook: Any) -> None:
    cells = code(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert sum(bool(cell.outputs) for cell in cells) >= len(cells) // 2


def test_its_answer_comes_before_its_evidence(notebook: Any) -> None:
    shown = [(cell.source, output) for cell in code(notebook) for output in cell.outputs]
    # How the runs stand may come before it.
    source, first = next((source, output) for source, output in shown if "report.standing(" not in source)
    assert "text/markdown" in first.data, f"the first output is the computed answer, not that of {source}"
    assert first.data["text/markdown"].startswith("> **")


def test_every_output_can_be_compared(notebook: Any) -> None:
    for cell in compared(notebook):
        for output in cell.outputs:
            assert output.output_type in ("execute_result", "display_data"), f"{output.output_type}: {cell.source}"
            for kind in UNSTABLE:
                assert kind not in output.data, cell.source
            assert "style" not in output.data.get("text/html", "")[:40] or "<style scoped>" in output.data["text/html"], (
                cell.source
            )
            assert not re.search(r"at 0x[0-9a-f]{6,}", output.data.get("text/plain", "")), cell.source


def test_it_asserts_what_its_answer_needs(notebook: Any) -> None:
    assert any("assert " in cell.source for cell in code(notebook))


def test_it_shows_where_its_figures_come_from(notebook: Any) -> None:
    assert any(".provenance(" in cell.source for cell in code(notebook))


def test_it_names_its_limits(notebook: Any) -> None:
    headings = [cell.source.splitlines()[0] for cell in notebook.cells if cell.cell_type == "markdown"]
    assert any("imits" in heading for heading in headings)


def test_it_reaches_for_nothing_outside(notebook: Any) -> None:
    for cell in code(notebook):
        assert "../" not in cell.source
        assert "%" not in "".join(line[:1] for line in cell.source.splitlines())
        assert not re.search(r"https?://", cell.source)
