"""The publisher's command: what it leaves behind however it ends."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pyarrow as pa
import pytest

from sim.cli import main
from sim.live.drive import sent
from sim.target import Target


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
    Target("127.0.0.1", 1, "http", "1", "key", "secret", "http://127.0.0.1:1").write(tmp_path / "target.json")
    rows = tmp_path / "rows.parquet"
    keys = [
        'workload={kind="constant",rate=20}',
        "duration=0.2",
        "warmup=0",
        "cooldown=0",
        "drain=0",
        "publisher.via=broadcaster",
    ]
    chosen = [word for key in keys for word in ("--set", key)]
    code = main(["drive", "demo", "--target", str(tmp_path / "target.json"), "-o", str(rows), *chosen])
    assert code == 5, "nobody answers there"
    table, complete = sent.read(rows)
    assert complete
    assert table.num_rows > 1
