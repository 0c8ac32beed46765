"""The doctor on many set-ups of a stand-in application and a proxy, each with the finding that must be there."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from sim.live.doctor.checks import Finding
from tests.live.servers import self_signed
from tests.standin.cases import CASES, DOC, ROWS, Case, examine_all, matching, row

pytestmark = pytest.mark.loopback


@pytest.fixture(scope="module")
def examinations(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Finding]]:
    return asyncio.run(examine_all(self_signed(Path(tmp_path_factory.mktemp("tls")))))


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_what_the_doctor_says(case: Case, examinations: dict[str, list[Finding]]) -> None:
    findings = examinations[case.name]
    shown = "\n".join(finding.line() for finding in findings)
    found = matching(case, findings)
    assert found is not None, shown
    assert not case.unforeseen(findings), shown
    # What a machine under load does to a time must not fail a test; every other word of the table is as the doctor says it now.
    assert row(case, found) in DOC.read_text(encoding="utf-8"), "python -m tests.standin.cases"


def test_the_page_shows_no_case_that_is_not_tried() -> None:
    shown = DOC.read_text(encoding="utf-8").split(ROWS[0])[1].split(ROWS[1])[0].splitlines()
    named = [
        line.split(" | ")[0].removeprefix("| ") for line in shown if line.startswith("| ") and not line.startswith("| set-up")
    ]
    assert named == [case.name for case in CASES]
