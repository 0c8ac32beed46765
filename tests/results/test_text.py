"""Figures as a person reads them: no more digits than are known, one figure where two read alike, columns that stay apart."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from sim.results import text
from sim.results.answers.sections import WIDTH, Section, to_markdown, to_text


@pytest.mark.parametrize(
    ("difference", "share", "words"),
    [
        (0.0424, False, "+4.24 %"),
        (-0.12, False, "−12 %"),
        (0.0, False, "±0 %"),
        (2.5e-6, False, "±0 %"),
        (-0.00313, False, "−0.31 %"),
        (1.5, False, "+150 %"),
        (-0.0201, True, "−2.01 points"),
        (1e-6, True, "±0 points"),
        (math.nan, False, "–"),
    ],
)
def test_a_difference_has_a_sign_and_no_noise(difference: float, share: bool, words: str) -> None:
    assert text.change(difference, share) == words


@pytest.mark.parametrize(
    ("ends", "words"),
    [
        ((3.2, 4.8), "3.2 s to 4.8 s"),
        ((3.0001, 3.0002), "3 s"),
        ((math.inf, math.inf), "never"),
        ((3.2, None), "3.2 s or more"),
        ((None, None), "–"),
        ((math.nan, 1.0), "–"),
    ],
)
def test_an_interval_whose_ends_read_alike_is_one_figure(ends: tuple[float | None, float | None], words: str) -> None:
    assert text.interval(*ends) == words


def test_a_figure_stands_with_its_interval_where_that_says_more() -> None:
    assert text.with_interval(4.0, 3.2, 4.8) == "4 s (3.2 s to 4.8 s)"
    assert text.with_interval(4.0, 4.0, 4.0) == text.with_interval(4.0, None, None) == "4 s"


def test_units_of_metrics() -> None:
    assert text.unit_of("cpu.broadcaster")(0.31) == "0.31 cores"
    assert text.unit_of("refetch_rate.peak")(3700.0) == "3,700/s"


def test_columns_stay_apart_however_long_a_name_is_and_words_begin_at_the_left() -> None:
    names = pd.Index(["network.to_subscriber.per_subscriber", "a label that is broken between its words"], name="key")
    rows = [("1 s", "a sentence of more than some letters"), ("12 ms", "none")]
    lines = text.aligned(pd.DataFrame(rows, names, columns=["value", "from"]))
    assert lines[0].split() == ["key", "value", "from"]
    assert lines[1].startswith("network.to_subscriber.per_subscriber    1 s  a sentence")
    assert [line[lines[1].index("a sentence") :][:4] for line in lines[:3]] == ["from", "a se", "none"]
    assert len(lines) == 4, "the second label takes two lines"


def test_a_page_of_sections_reads_the_same_on_a_terminal_and_in_markdown() -> None:
    table = pd.DataFrame({"got": ["1"]}, ["x"])
    sections = [
        Section("name: 1 threshold **fails**", ("one " * 40, "two"), listed=True),
        Section("full", table=table),
        Section("empty", table=table.head(0)),
    ]
    shown, written = to_text(sections), to_markdown(sections)
    assert shown.startswith("name: 1 threshold fails\n  one one")
    assert max(map(len, shown.splitlines())) <= WIDTH
    assert written.startswith("### name: 1 threshold **fails**\n\n- one")
    assert "#### full\n\n|  | got |\n| --- | --- |\n| x | 1 |\n" in written
    assert shown.endswith("empty\n  none\n")
    assert written.endswith("#### empty\n\nnone\n")


def test_a_label_is_given_once_for_several_lines() -> None:
    assert text.labelled([("a", "1"), *text.under("why", ["x", "y"])], 6) == "a     1\nwhy   x\n      y"
