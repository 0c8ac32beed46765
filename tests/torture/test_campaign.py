"""The campaign's own machinery: what it calls held, broken and skipped; and the RFC 6455 cases, which are fast."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.torture import __main__ as campaign
from tests.torture.case import CASES, Case, Skipped, Stage, judge, need
from tests.torture.rfc6455 import agrees, results
from tests.torture.soak import markdown, slope

ROBUSTNESS = Path(__file__).resolve().parents[2] / "docs" / "robustness.md"


def test_rfc_6455_at_both_ends() -> None:
    found = list(results())
    assert {result.end for result in found} == {"server", "client"}
    assert [result for result in found if result.verdict != "ok"] == []


def test_an_end_that_differs_is_seen() -> None:
    assert agrees(("close 1002",), ("close 1007|1002",))
    assert not agrees(("message", "open"), ("close 1002",))
    assert not agrees(("close 100",), ("close 1002",))
    assert not agrees(("open",), ("message", "open"))


def held(stage: Stage) -> Iterator[str]:
    stage.figures["n"] = 1
    yield f"in {stage.place.name}"


def broken(stage: Stage) -> Iterator[str]:
    yield "so far"
    need(False, "it did not hold")


def skipped(stage: Stage) -> Iterator[str]:
    raise Skipped("no such program")
    yield ""


def raises(stage: Stage) -> Iterator[str]:
    yield str(1 // 0)


def leaves(stage: Stage) -> Iterator[str]:
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield "started"


@pytest.mark.parametrize(
    ("run", "verdict", "reason"),
    [
        (held, "held", ""),
        (broken, "BROKEN", "it did not hold"),
        (skipped, "skipped", "no such program"),
        (raises, "BROKEN", "ZeroDivisionError"),
        (leaves, "BROKEN", "left alive"),
    ],
)
def test_a_verdict(run: Any, verdict: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.torture.case.PATIENCE", 0.1)
    judged = judge(Case("x", "it holds", run), Stage(tmp_path))
    assert judged.verdict == verdict
    assert reason in judged.reason


def test_the_table_the_file_and_the_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    for case in list(CASES):
        monkeypatch.delitem(CASES, case)
    monkeypatch.setitem(CASES, "held", Case("held", "it holds", held))
    out = tmp_path / "torture.json"
    assert campaign.main(["-o", str(out)]) == 0
    monkeypatch.setitem(CASES, "broken", Case("broken", "it holds", broken))
    assert campaign.main(["-o", str(out)]) == 1
    assert campaign.main(["-o", str(out), "--only", "held"]) == 0
    assert [case["verdict"] for case in json.loads(out.read_text())["cases"]] == ["held"]
    assert "1 held, 1 BROKEN, 0 skipped" in capsys.readouterr().out


def test_a_leak_is_told_from_noise() -> None:
    at = pd.Series(np.arange(600.0))
    noise = pd.Series(np.random.default_rng(1).normal(0, 2, 600))
    grows, low, high = slope(at, 100 + at * 0.05 + noise)
    assert low < grows < high
    assert low > 0.15
    assert slope(at, 100 + noise)[1] < 0.01


def test_the_page_names_every_case() -> None:
    text = ROBUSTNESS.read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `([^`]+)` \| [^|]+\|$", text, re.MULTILINE)) >= set(CASES)


def test_the_soak_s_table_is_made_from_its_figures() -> None:
    figures = json.loads((ROBUSTNESS.parents[1] / "tests" / "data" / "torture" / "soak.json").read_text())
    assert markdown(figures) in ROBUSTNESS.read_text(encoding="utf-8")
