"""The publisher's command: what it leaves behind however it ends."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from sim.cli import main
from sim.live.drive import sent
from sim.live.drive.publisher import OpenLoopPublisher, Sent
from sim.target import Target


def drive(directory: Path, duration: float) -> tuple[int, pa.Table]:
    """The exit code and the rows of a publisher to an address where nobody answers."""
    Target("127.0.0.1", 1, "http", "1", "key", "secret", "http://127.0.0.1:1").write(directory / "target.json")
    rows = directory / "rows.parquet"
    keys = [
        'workload={kind="constant",rate=20}',
        f"duration={duration}",
        "warmup=0",
        "cooldown=0",
        "drain=0",
        "publisher.via=broadcaster",
    ]
    chosen = [word for key in keys for word in ("--set", key)]
    code = main(["drive", "demo", "--target", str(directory / "target.json"), "-o", str(rows), *chosen])
    table, complete = sent.read(rows)
    assert complete
    return code, table


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_publisher_that_is_stopped_before_its_end_says_so(
    number: signal.Signals, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A load test must not take it for one that has sent all."""
    begin = OpenLoopPublisher._begin

    def begin_and_stop(self: OpenLoopPublisher, *given: Any) -> Sent:
        os.kill(os.getpid(), number)
        return begin(self, *given)

    monkeypatch.setattr(OpenLoopPublisher, "_begin", begin_and_stop)
    found, table = drive(tmp_path, 1000)
    assert found == code
    assert table.num_rows >= 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_comes_when_all_is_answered_takes_no_row(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A load test stops its publisher at the end of its window, which may be just then."""
    write = sent.write

    def write_when_asked_to_stop(path: Path, table: pa.Table) -> None:
        os.kill(os.getpid(), number)
        write(path, table)

    monkeypatch.setattr(sent, "write", write_when_asked_to_stop)
    code, table = drive(tmp_path, 0.2)
    assert code == 5, "nobody answers there"
    assert table.num_rows > 1
