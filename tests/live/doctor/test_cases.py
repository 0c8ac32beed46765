"""The doctor on some forty set-ups of a stand-in application and a proxy, each with the finding that must be there."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest

from tests.live.servers import self_signed
from tests.standin.cases import CASES, DOC, ROWS, Case, examined, matching, row

pytestmark = pytest.mark.loopback


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    return self_signed(Path(tmp_path_factory.mktemp("tls")))


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_what_the_doctor_says(case: Case, tls: ssl.SSLContext) -> None:
    findings = asyncio.run(examined(case, tls))
    shown = "\n".join(finding.line() for finding in findings)
    found = matching(case, findings)
    assert found is not None, shown
    problems = {f.step for f in findings if f.status == "problem"}
    expected = case.problems if case.problems is not None else {case.step} if case.status == "problem" else set()
    assert problems <= set(expected) or "*" in expected, shown
    # What a machine under load does to a time must not fail a test; every other word of the table is as the doctor says it now.
    assert row(case, found) in DOC.read_text(encoding="utf-8"), "python -m tests.standin.cases"


def test_the_page_shows_no_case_that_is_not_tried() -> None:
    shown = DOC.read_text(encoding="utf-8").split(ROWS[0])[1].split(ROWS[1])[0].splitlines()
    named = [
        line.split(" | ")[0].removeprefix("| ") for line in shown if line.startswith("| ") and not line.startswith("| set-up")
    ]
    assert named == [case.name for case in CASES]
