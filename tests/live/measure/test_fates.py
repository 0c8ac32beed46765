"""What became of an update is said by both ends: the publisher's answer and what was heard."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sim.clock import SECOND
from sim.live.drive import sent
from sim.live.drive.publisher import Sent
from sim.live.drive.requests import Receipt
from sim.live.measure.fates import listened, update_columns, with_outcomes, without_broken_versions, without_change
from sim.results import parts

EPOCH = 1_700_000_000 * SECOND
TELLING = Receipt(3, 4, EPOCH + 20, EPOCH + 60, tells=True)
WAITING = Receipt(3, 4, EPOCH + 20, tells=True)


def row(update: int = 0, http_status: int | None = 200, receipt: Receipt = WAITING, **more: Any) -> Sent:
    instants = {"intended_at": EPOCH, "ready_at": EPOCH, "started_at": EPOCH + 10, "finished_at": EPOCH + 90}
    return Sent(update, "server", 1, **(instants | {"http_status": http_status, "reason": "", "receipt": receipt} | more))


def test_versions_that_go_back_are_no_versions() -> None:
    """Two resources; the counter of the first begins anew in mid-run. What overlapped may be answered in any order."""

    def answered(update: int, resource_id: int, at: int, version: int, sequence: int, until: int = 5) -> Sent:
        receipt = Receipt(version, sequence, EPOCH + at, EPOCH + at)
        span = {"started_at": EPOCH + at, "finished_at": EPOCH + at + until}
        return replace(row(update, receipt=receipt, **span), resource_id=resource_id)

    orderly = [answered(0, 1, 0, 7, 1), answered(1, 2, 0, 3, 4, until=100), answered(2, 2, 50, 2, 3), answered(3, 1, 20, 8, 2)]
    rows, lines = without_broken_versions(frame(*orderly))
    assert lines == []
    pd.testing.assert_frame_equal(rows, frame(*orderly))
    rows, lines = without_broken_versions(frame(*orderly, answered(4, 1, 200, 2, 5), answered(5, 2, 200, 4, 6)))
    assert rows["version"].astype(object).where(rows["version"].notna(), None).tolist() == [None, 3, 2, None, None, 4]
    assert rows["sequence"].tolist() == [1, 4, 3, 2, 5, 6]
    assert [line.partition(" in the ")[0] for line in lines] == ["the versions of 1 resources"]
    rows, lines = without_broken_versions(frame(*orderly, answered(4, 1, 200, 9, 1)))
    assert rows["version"].tolist() == [7, 3, 2, 8, 9]
    assert rows["sequence"].isna().all()
    assert lines == ["the sequence in the answers to changes went back: which update a page shows cannot be told"]
    assert without_broken_versions(frame(row(http_status=None, receipt=Receipt(), finished_at=None)))[1] == []
    assert without_broken_versions(frame())[1] == []


def frame(*rows: Sent) -> pd.DataFrame:
    return sent.frame(sent.to_table(rows))


def ns(seconds: float) -> float | None:
    """Nanoseconds after the epoch; None for never."""
    return None if math.isnan(seconds) else round(seconds * SECOND)


@pytest.mark.parametrize(
    ("one", "heard", "open_pages", "status", "published"),
    [
        # An answer says when: that is so whether or not anybody heard; but nothing is heard before it is published.
        (row(receipt=TELLING), None, True, "committed", 60),
        (row(receipt=TELLING), 70, True, "committed", 60),
        (row(receipt=TELLING), 50, True, "committed", 50),
        # An application that would say when and does not: given up after three tries, or still in the queue when nobody listened.
        (row(), None, True, "not_broadcast", None),
        (row(), 80, True, "committed", 80),
        (row(), 500, True, "committed", 90),
        (row(), None, False, "committed", 90),
        # A foreign one says nothing: it may have changed nothing, and so nothing was lost.
        (row(receipt=Receipt()), None, True, "unknown", None),
        (row(receipt=Receipt()), 80, True, "committed", 80),
        (row(receipt=Receipt()), None, False, "committed", 90),
        (row(receipt=Receipt(broadcast=False)), None, True, "not_broadcast", None),
        # Timed out at the publisher, but delivered: so it was committed.
        (row(http_status=None, receipt=Receipt()), 80, True, "committed", 80),
        (row(http_status=None, receipt=Receipt()), None, True, "unknown", None),
        (row(http_status=None, receipt=Receipt(), reached=False), None, True, "failed", None),
        # The publisher was killed before it had an answer.
        (row(http_status=None, receipt=Receipt(), finished_at=None), None, True, "unknown", None),
        (row(http_status=None, receipt=Receipt(), finished_at=None), 80, True, "committed", 80),
        (row(http_status=422, receipt=Receipt()), None, True, "failed", None),
    ],
)
def test_the_table_of_fates(one: Sent, heard: int | None, open_pages: bool, status: str, published: int | None) -> None:
    first_at = pd.Series({} if heard is None else {0: EPOCH + heard}, dtype="int64")
    columns = update_columns(frame(one), first_at, pd.Series(dtype="int64"), np.array([open_pages]), EPOCH, 9.0)
    assert columns["status"] == [status]
    assert ns(columns["published_at"][0]) == published
    committed = 20 if one.receipt.committed_at and status in ("committed", "not_broadcast") else None
    assert ns(columns["committed_at"][0]) == committed, "only the application knows when it committed"
    assert columns["version"].to_pylist() == [one.receipt.version]


def test_a_commit_after_the_end_is_none_of_the_run() -> None:
    rows, nobody = frame(row(receipt=TELLING)), pd.Series(dtype="int64")
    columns = update_columns(rows, nobody, nobody, np.array([True]), EPOCH, 10e-9)
    assert columns["status"] == ["failed"]
    assert np.isnan([columns["committed_at"][0], columns["published_at"][0]]).all()
    assert columns["version"].to_pylist() == columns["sequence"].to_pylist() == [None]


def test_what_the_payload_says_comes_before_the_answer_s_end() -> None:
    told = pd.Series({0: EPOCH + 40}, dtype="int64")
    columns = update_columns(frame(row()), pd.Series({0: EPOCH + 70}), told, np.array([True]), EPOCH, 9.0)
    assert ns(columns["published_at"][0]) == 40


def test_a_queue_publishes_after_the_answer(tmp_path: Path) -> None:
    path = tmp_path / "outcomes.jsonl"
    untold = frame(row(0, receipt=Receipt()), row(1), row(2), row(3))
    assert with_outcomes(untold, path) is untold
    lines = [{"update": 1, "outcome": "accepted", "at": EPOCH + 400}, {"update": 2, "outcome": "lost", "at": None}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"update": 3, "outc')
    rows = with_outcomes(untold, path)
    columns = update_columns(rows, pd.Series(dtype="int64"), pd.Series(dtype="int64"), np.full(4, True), EPOCH, 9.0)
    assert columns["status"] == ["unknown", "committed", "not_broadcast", "not_broadcast"]
    assert [ns(at) for at in columns["published_at"]] == [None, 400, None, None]


def test_who_listened_did_so_all_the_time() -> None:
    rows = frame(row(channels=("b", "a")), row(1, channels=("b",)))
    for since, until, expected in (
        (0, parts.NEVER, True),
        (0, 95, True),
        (0, 50, False),
        (50, parts.NEVER, False),
    ):
        ended = until if until < 0 else EPOCH + until
        spans = pd.DataFrame({"channel": ["a"], "subscribed_at_ns": [EPOCH + since], "ended_at_ns": [ended]})
        assert listened(rows, spans).tolist() == [expected, False]


def test_the_same_version_once_more_is_no_change() -> None:
    def at(update: int, version: int | None, **more: Any) -> Sent:
        return row(update, receipt=Receipt(version, changed=more.pop("changed", None)), **more)

    rows = [at(0, 7), at(1, 7), at(2, 8), at(3, None), at(4, 8), at(5, 9, changed=False), at(6, 9), at(7, 9, changed=True)]
    failed = row(8, http_status=500, receipt=Receipt(9))
    asked = frame(*rows, failed)
    assert without_change(asked, pd.Index([])).tolist() == [False, True, False, False, True, True, False, False, False]
    # Two changes within the resolution of a time stamp: what somebody heard of was one.
    assert without_change(asked, pd.Index([1, 5])).tolist() == [False, False, False, False, True, True, False, False, False]
