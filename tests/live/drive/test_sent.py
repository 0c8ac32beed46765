"""What a publisher leaves behind, from rows made by hand."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from sim.clock import SECOND, ns
from sim.live.drive import sent
from sim.live.drive.publisher import Sent
from sim.live.drive.requests import Receipt

ROW = Sent(0, "server", 1, ns(101.0), ns(101.25), ns(101.5), ns(103.5), 200, "", Receipt(7, 9))
"""Intended a second after the epoch of 100 s; its predecessor took 0.25 s, it left 0.25 s late and was answered after 2 s."""
LOST = replace(ROW, update=1, intended_at=ns(102.0), ready_at=ns(102.0), started_at=ns(102.0), http_status=None, reason="reset")
WAITING = replace(LOST, update=2, finished_at=None)


def test_metrics_of_each_update() -> None:
    columns = sent.metric_columns(sent.to_table([ROW, LOST, WAITING]), 100 * SECOND)
    assert set(columns.pop("process")) == {"publisher"}
    assert list(zip(*columns.values(), strict=True)) == [
        (1.0, "lateness", 0.25),
        (1.0, "waited_seconds", 0.25),
        (1.0, "answer_seconds", 2.0),
        (1.0, "http_status", 200.0),
        (2.0, "lateness", 0.0),
        (2.0, "waited_seconds", 0.0),
        (2.0, "answer_seconds", 1.5),
        (2.0, "lateness", 0.0),
        (2.0, "waited_seconds", 0.0),
    ]
    assert sent.metric_columns(sent.to_table([]), 0) == {"at": [], "process": [], "metric": [], "value": []}


def test_nothing_is_imported_any_more_when_the_first_rows_are_written(tmp_path: Path) -> None:
    probe = f"""
import sys
from pathlib import Path
from sim.live.drive import sent
with sent.open_journal(Path({str(tmp_path / "sent")!r})) as journal:
    before = set(sys.modules)
    journal.append(sent.to_table([]))
    print(set(sys.modules) - before)
"""
    assert subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_a_summary_counts_failures_and_the_unknown_and_has_times_in_seconds() -> None:
    found = sent.summary(sent.to_table([ROW, LOST, replace(ROW, update=2, http_status=403)]))
    assert (found["updates"], found["failed"], found["unknown"], found["failures"]) == (3, 1, 1, {"reset": 1, "HTTP 403": 1})
    assert [found[f"{name}_max"] for name in ("lateness", "waited", "answer")] == [0.25, 0.25, 2.0]
    assert [found[f"{name}_p50"] for name in ("lateness", "waited", "answer")] == [0.25, 0.25, 2.0]
    assert sent.summary(sent.to_table([]))["answer_p99"] is None
    refused = replace(ROW, update=3, receipt=Receipt(refused="The app 7\ncould not be found."))
    (line,) = sent.trouble(sent.to_table([ROW, LOST, WAITING, refused]))
    assert line == "3 of 4 changes were not answered by a success (2 x reset, 1 x The app 7\\ncould not be found.)"
    assert sent.trouble(sent.to_table([ROW])) == []


def test_a_publisher_has_begun_when_there_is_a_journal_or_a_file(tmp_path: Path) -> None:
    path = tmp_path / "sent.parquet"
    assert (sent.begun(path), sent.count(path)) == (False, 0)
    with sent.open_journal(path) as journal:
        journal.append(sent.to_table([WAITING, ROW, LOST]))
        journal.append(sent.to_table([replace(WAITING, finished_at=ns(104.0))]))
    assert (sent.begun(path), sent.count(path)) == (True, 3)
    rows, whole = sent.read(path)
    assert (rows["update"].to_pylist(), rows["finished_at"].to_pylist()[2], whole) == ([0, 1, 2], ns(104.0), False)
    sent.write(path, rows)
    assert (sent.begun(path), sent.count(path), sent.read(path)[1]) == (True, 3, True)
    assert list(tmp_path.iterdir()) == [path]
