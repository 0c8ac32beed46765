"""The page of a report: what it shows first, what it keeps from the reader until asked, what it does not take with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest

from sim.results.answers import page, report
from tests.brokeforge.chrome import tab

SIX = [f"a-run-with-a-long-name-{i}" for i in range(6)]


def output(shown: Any) -> Any:
    html = shown.to_html() if isinstance(shown, pd.DataFrame) else None
    data = {"text/html": html} if html else {"text/markdown": shown}
    return nbformat.v4.new_output("execute_result", data | {"text/plain": "plain"})


def cell(source: str, *outputs: Any) -> Any:
    return nbformat.v4.new_code_cell(source, outputs=list(outputs))


def failure(words: str) -> Any:
    return nbformat.v4.new_output("error", ename="AssertionError", evalue=words, traceback=["\x1b[31mtrace"])


NODE = nbformat.v4.new_notebook(
    cells=[
        nbformat.v4.new_markdown_cell("# Which one?\n\nBefore [all](00_all.ipynb)."),
        cell("import os  # <secret>"),
        cell("report.standing(runs)", output("**one**: all pass")),
        nbformat.v4.new_markdown_cell("## The answer"),
        cell("report.answer()", output("> **Both.**")),
        nbformat.v4.new_markdown_cell("## Figures & more"),
        cell(
            "table",
            output(
                pd.DataFrame(
                    {name: ["1.24 s (1.1 s to 1.3 s)", "Linux 6.1, x86_64, 2 cores"] for name in SIX}
                    | {"meaning": ["m" * 60, "-"]},
                    index=pd.Index(["time_to_fresh.p50", "machine"], name="metric"),
                )
            ),
        ),
        cell("assert False", failure("too <few> updates")),
        cell("'behind'", nbformat.v4.new_output("execute_result", {"text/plain": "'behind'"})),
    ]
)


@pytest.fixture(scope="module")
def html() -> str:
    return page.to_html(NODE)


def test_how_the_runs_stand_comes_first_and_what_does_not_hold_next(html: str) -> None:
    order = ["Which one?", "<strong>one</strong>", "Does not hold:", "<nav>", "Before", "Both.", "behind"]
    places = [html.index(words, html.index("<body>")) for words in order]
    assert places == sorted(places)
    assert html.count("too &lt;few&gt; updates") == 2, "at the top, and where it failed"
    assert "\x1b" not in html
    assert page.failures(NODE) == ["too <few> updates"]


@pytest.mark.parametrize(
    ("said", "colour"),
    [("all 5 thresholds pass", "well"), ("1 of 5 thresholds **fails**", "amiss"), ("the run is **partial, valid**", "amiss")],
)
def test_how_the_runs_stand_has_a_colour(said: str, colour: str) -> None:
    html = page.to_html(nbformat.v4.new_notebook(cells=[cell("report.standing(runs)", output(said))]))
    assert f'<section class="{colour}">' in html


def test_contents_lead_to_headings(html: str) -> None:
    assert '<a href="#The-answer">The answer</a>' in html
    assert 'id="The-answer"' in html
    assert "Figures &amp; more</a>" in html


def test_code_is_folded_away_or_left_out(html: str) -> None:
    assert "import os  # &lt;secret&gt;" in html
    bare = page.to_html(NODE, code=False)
    assert "import os" not in bare
    assert 'type="checkbox"' not in bare


def test_what_lies_beside_the_notebook_is_a_name(html: str) -> None:
    assert "<code>all</code>" in html
    assert "ipynb" not in html


def test_a_table_says_the_name_of_its_index_once_and_stacks_intervals(html: str) -> None:
    assert '<th class="text">metric</th>' in html
    assert "1.24 s<br><small>1.1 s to 1.3 s</small>" in html


def test_a_text_that_all_columns_share_is_said_once() -> None:
    table = pd.DataFrame({name: ["Linux 6.1, x86_64, two cores", "5"] for name in SIX}, index=["machine", "n"])
    html = page.to_html(nbformat.v4.new_notebook(cells=[cell("t", output(table))]))
    assert html.count("Linux 6.1") == 1
    assert 'colspan="6"' in html
    assert html.count(">5</td>") == 6, "figures stay in their columns"


def test_a_script_of_a_bundle_is_no_script() -> None:
    node = nbformat.v4.new_notebook(cells=[cell("a", output("<script>alert(1)</script>x [y](javascript:alert)"))])
    html = page.to_html(node)
    assert "<script" not in html
    assert 'href="javascript' not in html
    with_stream = nbformat.v4.new_notebook(cells=[cell("a", nbformat.v4.new_output("stream", text="<b>"))])
    assert "&lt;b&gt;" in page.to_html(with_stream)


def test_the_samples_are_made_again_by_a_named_scenario_and_what_differs() -> None:
    run = report.sample("start-here-window")
    html = page.to_html(NODE, [run], notebook="07_explain_a_run")
    assert "workbench loadtest demo --set &#x27;policy={kind = &quot;window&quot;" in html
    assert "--notebook 07_explain_a_run" in html


@pytest.mark.browser
def test_in_a_browser_it_fits_its_page_and_shows_its_code_when_asked(html: str, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(html, encoding="utf-8")
    with tab() as browser:
        for width in (1000, 720):  # a window, and what A4 leaves between its margins
            browser.open(file.as_uri(), width=width)
            browser.wait_for("document.readyState === 'complete' && document.querySelector('table')")
            assert browser.evaluate("document.documentElement.scrollWidth") <= width
            assert width < 1000 or browser.evaluate(
                "[...document.querySelectorAll('.scroll')].every(e => e.scrollWidth <= e.clientWidth + 1)"
            )
        shown = "getComputedStyle(document.querySelector('.code')).display"
        assert browser.evaluate(shown) == "none"
        browser.evaluate("document.querySelector('#code').click()")
        assert browser.evaluate(shown) == "block"
        assert [url for url in browser.requests if not url.startswith("file:")] == []
        assert browser.errors == []
