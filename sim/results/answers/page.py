"""An executed notebook as one HTML page to send to a colleague: it loads nothing, runs nothing, and links to nothing beside it.

Title and standing come first, then contents, then the cells; code is there and folded away. A condition that failed
(`AssertionError` of a cell) is shown where it failed and named at the top.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from sim.results.answers.report import command_of
from sim.results.run import Run
from sim.results.text import is_words

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""Content-Security-Policy of the page: its own pictures and styles, no scripts, nothing from elsewhere."""

STYLE = """
:root { color: #1b1b1b; background: #fff; font: 15px/1.5 system-ui, "Segoe UI", "Helvetica Neue", "DejaVu Sans", sans-serif; }
body { max-width: 940px; margin: 0 auto; padding: 1.5em 1.6em 4em; }
h1 { font-size: 1.75em; line-height: 1.2; margin: 0.2em 0 0.5em; }
h2 { font-size: 1.25em; margin: 2.2em 0 0.6em; padding-top: 0.5em; border-top: 1px solid #ddd; }
h3 { font-size: 1.05em; }
a { color: #00568f; }
a.anchor-link { visibility: hidden; margin-left: 0.4em; text-decoration: none; }
h2:hover a.anchor-link { visibility: visible; }
nav { font-size: 0.93em; margin: 1.2em 0; }
nav ol { columns: 2; column-gap: 2em; margin: 0.3em 0; padding-left: 1.6em; }
blockquote { margin: 1em 0; padding: 0.6em 1em; border-left: 5px solid #0072b2; background: #eef5fa; font-size: 1.1em; }
blockquote p { margin: 0; }
img { max-width: 100%; height: auto; display: block; margin: 0.6em 0; }
.scroll { overflow-x: auto; margin: 0.8em 0; }
table { border-collapse: collapse; font-size: 0.87em; line-height: 1.35; font-variant-numeric: tabular-nums; }
th, td { padding: 0.28em 0.7em; border: 0; border-bottom: 1px solid #e3e3e3; text-align: right; vertical-align: top; }
thead th { border-bottom: 1.5px solid #888; vertical-align: bottom; }
td { white-space: nowrap; }
tbody th { font-weight: 500; }
.text { text-align: left; }
td.text { white-space: normal; overflow-wrap: anywhere; }
tr > :first-child { overflow-wrap: break-word; }
td small { color: #666; }
td strong, .failed strong { color: #b3261e; }
pre { background: #f6f6f6; padding: 0.7em 1em; overflow-x: auto; font-size: 0.85em; line-height: 1.4; }
code { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: 0.92em; overflow-wrap: anywhere; }
section { margin: 1em 0; padding: 0.2em 1em; border-left: 5px solid #2e7d4f; background: #f3f8f4; }
section.amiss { border-color: #b3261e; background: #fdf5f4; }
section strong { font-weight: 600; }
.failed { margin: 1em 0; padding: 0.6em 1em; border-left: 5px solid #b3261e; background: #fcefed; }
.failed p { margin: 0.2em 0; }
.run-again { font-size: 0.93em; }
.code { display: none; }
#code { margin-right: 0.4em; }
body:has(#code:checked) .code { display: block; }
.toggle { float: right; font-size: 0.87em; color: #555; }
@page { size: A4; margin: 14mm; }
@media print {
  :root { font-size: 11.5px; }
  body { max-width: none; padding: 0; }
  .toggle, a.anchor-link { display: none; }
  .scroll { overflow: visible; }
  th, td { padding: 0.2em 0.4em; }
  h2 { break-after: avoid; }
  img, tr, blockquote, .failed { break-inside: avoid; }
}
"""

RAN_AGAIN = "How to run it again"


def to_html(node: Any, runs: Sequence[Run] = (), *, notebook: str = "", code: bool = True) -> str:
    """The page. *runs*: those it was executed on, *notebook*: its name; both for the commands that make it again."""
    first = next((cell for cell in node.cells if "report.standing(" in cell.source and cell.cell_type == "code"), None)
    standing = "" if first is None else _standing("\n".join(_cell(first, code=False)))
    body = "\n".join(part for cell in node.cells if cell is not first for part in _cell(cell, code)) + _again(runs, notebook)
    # The heading of the first cell is the page's own.
    heading = re.search(r"<h1.*?</h1>", body, flags=re.DOTALL)
    head = heading.group() if heading else f"<h1>{html.escape(title(node))}</h1>"
    body = body.replace(head, "", 1)
    toggle = '<label class="toggle"><input type="checkbox" id="code">show the code</label>' if code else ""
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}"><title>{html.escape(title(node))}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>\n'
        f"<body>{toggle}{head}{standing}{_failed(failures(node))}{_contents(body)}\n{body}\n</body></html>\n"
    )


def _standing(text: str) -> str:
    """How the runs stand, marked by its colour."""
    amiss = re.search(r"<strong>(FAIL|fail|partial|invalid)", text)
    return f'<section class="{"amiss" if amiss else "well"}">{text}</section>'


def title(node: Any) -> str:
    """The notebook's question: its first heading."""
    for cell in node.cells:
        for line in cell.source.splitlines() if cell.cell_type == "markdown" else ():
            if line.startswith("# "):
                return str(line[2:].strip())
    return "Report"


def failures(node: Any) -> list[str]:
    """What the notebook's assertions found not to hold."""
    errors = (output for cell in node.cells for output in cell.get("outputs", ()) if output["output_type"] == "error")
    return [output["evalue"] or output["ename"] for output in errors]


def _contents(body: str) -> str:
    headings = re.findall(r'<h2 id="([^"]*)">(.*?)(?:<a class="anchor-link"|</h2>)', body, flags=re.DOTALL)
    items = "".join(f'<li><a href="#{name}">{words}</a></li>' for name, words in headings)
    return f"<nav><ol>{items}</ol></nav>" if items else ""


def _failed(reasons: Iterable[str]) -> str:
    return "".join(
        f'<div class="failed"><p><strong>Does not hold:</strong> {html.escape(reason)}</p></div>' for reason in reasons
    )


def _again(runs: Sequence[Run], notebook: str) -> str:
    """The commands of the runs and of this page."""
    if not runs:
        return ""
    commands = map(command_of, runs)
    report = " ".join(["workbench report", *(str(run.directory) for run in runs)])
    lines = [*dict.fromkeys(commands), f"{report} --notebook {notebook}" if notebook else report]
    return f'<h2 id="run-again">{RAN_AGAIN}</h2><pre>{html.escape(chr(10).join(lines))}</pre>'


def _cell(cell: Any, code: bool) -> Iterator[str]:
    if cell.cell_type == "markdown":
        yield _markdown(cell.source)
    if cell.cell_type != "code":
        return
    if code:
        yield f'<pre class="code"><code>{html.escape(cell.source)}</code></pre>'
    for output in cell.outputs:
        yield _output(output)


def _output(output: Any) -> str:
    if output["output_type"] == "error":
        return _failed([output["evalue"] or output["ename"]])
    if output["output_type"] == "stream":
        return f"<pre>{html.escape(output['text'])}</pre>"
    data = output["data"]
    if "image/png" in data:
        return f'<img alt="figure" src="data:image/png;base64,{data["image/png"].strip()}">'
    if "text/markdown" in data:
        return _markdown(data["text/markdown"])
    if "text/html" in data:
        return _table(data["text/html"])
    plain = str(data.get("text/plain", ""))
    return f"<p>{html.escape(plain[1:-1])}</p>" if plain[:1] in "'\"" else f"<pre>{html.escape(plain)}</pre>"


def _markdown(source: str) -> str:
    from nbconvert.filters.markdown_mistune import markdown2html_mistune

    text = re.sub(r"<(script|style)\b.*?</\1>", "", markdown2html_mistune(source), flags=re.DOTALL)
    # What lies beside the notebook does not travel with the page: its name stays.
    text = re.sub(r'<a href="(?!https?:|#)[^"]*">(.*?)</a>', r"<code>\1</code>", text, flags=re.DOTALL)
    return _table(text)


def _table(text: str) -> str:
    """Tables that scroll where they must, with words at the left and figures at the right."""
    text = re.sub(r"<(script|style)\b.*?</\1>", "", text, flags=re.DOTALL)
    return re.sub(
        r"<table.*?</table>", lambda found: f'<div class="scroll">{_aligned(found.group())}</div>', text, flags=re.DOTALL
    )


ROW = re.compile(r"<tr[^>]*>(.*?)</tr>", re.DOTALL)
CELL = re.compile(r"<(t[dh])[^>]*>(.*?)</t[dh]>", re.DOTALL)


def _aligned(table: str) -> str:
    rows = [CELL.findall(row) for row in ROW.findall(table)]
    heads = [[words for _, words in row] for row in rows if row and all(kind == "th" for kind, _ in row)]
    body = [row for row in rows if any(kind == "td" for kind, _ in row)]
    if len(heads) > 1 and not heads[0][0] and not any(heads[1][1:]):
        # pandas gives the name of the index a row of its own.
        heads = [[heads[1][0], *heads[0][1:]]]

    width = max(map(len, [*heads, *body]), default=0)

    def is_text(place: int) -> bool:
        cells = [re.sub(r"<[^>]*>", "", row[place][1]) for row in body if place < len(row)]
        return place == 0 or any(map(is_words, cells)) or not any(re.search(r"\d", cell) for cell in cells)

    kinds = [' class="text"' if is_text(place) else "" for place in range(width)]

    def line(row: Sequence[tuple[str, str]]) -> str:
        (tag, first), *others = row
        same = len(others) > 1 and len({words for _, words in others}) == 1 and is_words(others[0][1])
        if same:
            # One text for all columns is written once.
            return f'<tr><{tag}{kinds[0]}>{first}</{tag}><td class="text" colspan="{len(others)}">{others[0][1]}</td></tr>'
        return "<tr>" + "".join(f"<{tag}{kinds[i]}>{_stacked(words)}</{tag}>" for i, (tag, words) in enumerate(row)) + "</tr>"

    head = "".join(line([("th", words) for words in row]) for row in heads)
    return f"<table><thead>{head}</thead><tbody>{''.join(map(line, body))}</tbody></table>"


def _stacked(words: str) -> str:
    """A figure above its interval."""
    found = re.fullmatch(r"([-−+]?[\d.,]+[^()]*) \(([^()]*(?: to | or more)[^()]*)\)", words)
    return f"{found[1]}<br><small>{found[2]}</small>" if found else words
