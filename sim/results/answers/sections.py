"""A page of findings, the same for a terminal, a pull request and a notebook: headings, sentences, tables."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from sim.results import text

WIDTH = 80
"""Columns of a terminal."""


class Section(NamedTuple):
    """A heading, with sentences and a table or code below it. What stands between ** is bold in Markdown."""

    title: str
    sentences: Sequence[str] = ()
    table: pd.DataFrame | None = None
    """Cells are texts. A table without rows reads `none`."""
    code: str = ""
    listed: bool = False
    """Whether the sentences are points of a list."""


def to_text(sections: Sequence[Section]) -> str:
    lines: list[str] = []
    for section in sections:
        lines += ([""] if lines else []) + textwrap.wrap(section.title.replace("**", ""), WIDTH)
        for words in section.sentences:
            lines += textwrap.wrap(words.replace("**", ""), WIDTH, initial_indent="  ", subsequent_indent="  ")
        lines += [f"    {line}".rstrip() for line in section.code.splitlines()]
        if section.table is not None:
            lines += [f"  {line}" for line in (text.aligned(section.table) if len(section.table) else ["none"])]
    return "\n".join(lines) + "\n"


def to_markdown(sections: Sequence[Section]) -> str:
    parts: list[str] = []
    for section in sections:
        parts.append(f"{'####' if parts else '###'} {section.title}")
        parts += ["\n".join(f"- {words}" for words in section.sentences)] if section.listed else section.sentences
        parts.append(f"```tsx\n{section.code}\n```" if section.code else "")
        if section.table is not None:
            parts.append(text.markdown(section.table) if len(section.table) else "none")
    return "\n\n".join(part.rstrip() for part in parts if part) + "\n"
