"""Parts of several workers become one table, on one clock; what is damaged or mixed is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from sim.errors import BadInput
from sim.results import parts
from sim.results.run import TABLES
from tests.results.raw import write_part

T0 = 1_800_000_000_000_000_000


def header(directory: Path, pid: int, worker: int, first: int, last: int) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    tree = {"part_version": parts.PART_VERSION, "pid": pid, "worker": worker, "subscribers": {"first": first, "last": last}}
    parts.write_header(directory, tree)


def metrics(directory: Path, pid: int, serial: int, at: list[int]) -> None:
    columns: dict[str, Any] = {
        "at_ns": at,
        "process": ["harness-0"] * len(at),
        "metric": ["x"] * len(at),
        "value": [1.0] * len(at),
    }
    write_part(directory, "metrics", pid, serial, columns)


def test_every_table_of_a_bundle_has_its_part() -> None:
    for name, schema in parts.PARTS.items():
        if name in TABLES:
            names = {f.name + "_ns" if pa.types.is_floating(f.type) and f.name.endswith("at") else f.name for f in TABLES[name]}
            assert names <= set(schema.names)
        for field in schema:
            assert not (field.name.endswith("_ns") and field.type != pa.int64())


def test_workers_are_read_in_order_and_put_on_one_clock(tmp_path: Path) -> None:
    header(tmp_path / "machine-b", 7, 1, 1_000_000, 1_000_001)
    header(tmp_path / "machine-a", 7, 0, 0, 1)
    metrics(tmp_path / "machine-a", 7, 10, [T0 + 3])
    metrics(tmp_path / "machine-a", 7, 9, [T0 + 1, T0 + 2])
    metrics(tmp_path / "machine-b", 7, 0, [T0 + 4, parts.NEVER])
    rows = parts.read_table(tmp_path, "metrics", lambda header: 1000 * header["worker"])
    assert rows["at_ns"].to_pylist() == [T0 + 1, T0 + 2, T0 + 3, T0 + 1004, parts.NEVER]
    columns = parts.run_columns("metrics", rows, T0)
    assert list(columns) == TABLES["metrics"].names
    assert columns["at"].to_pylist()[:4] == [1e-9, 2e-9, 3e-9, 1004e-9]
    assert np.isnan(columns["at"].to_pylist()[4])
    assert parts.read_table(tmp_path, "refetches").num_rows == 0


def test_seconds_keep_their_nanoseconds() -> None:
    assert parts.seconds(np.array([T0 + 1, T0 - 1, -1]), T0).tolist()[:2] == [1e-9, -1e-9]


def test_what_cannot_be_is_refused_by_name(tmp_path: Path) -> None:
    header(tmp_path, 7, 0, 0, 10)
    header(tmp_path, 8, 1, 10, 20)
    with pytest.raises(BadInput, match="workers 0 and 1 both recorded subscriber 10"):
        parts.read_table(tmp_path, "metrics")
    header(tmp_path, 8, 1, 11, 20)
    (tmp_path / "metrics-7-0.arrows").write_bytes(b"half a file of another kind")
    with pytest.raises(BadInput, match=r"metrics-7-0\.arrows"):
        parts.read_table(tmp_path, "metrics")
    (tmp_path / "header-9.json").write_text("{")
    with pytest.raises(BadInput, match=r"header-9\.json"):
        parts.read_headers(tmp_path)
    (tmp_path / "header-9.json").write_text('{"part_version": 99}')
    with pytest.raises(BadInput, match="part version 99"):
        parts.read_headers(tmp_path)


def test_nothing_half_written_is_there(tmp_path: Path) -> None:
    header(tmp_path, 7, 0, 0, 1)
    metrics(tmp_path, 7, 0, [T0])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["header-7.json", "metrics-7-0.arrows"]


def test_of_what_lasts_the_last_row_counts_in_the_order_of_the_beginnings(tmp_path: Path) -> None:
    """A process that dies leaves the rows of what it had open."""
    header(tmp_path, 7, 0, 0, 1)
    common: dict[str, Any] = {"page": ["detail"] * 4, "user": [1] * 4, "resource": ["server"] * 4, "resource_id": [5] * 4}
    rows = {
        "subscriber": [0, 1, 0, 0],
        "channel": ["a", "a", "a", "a"],
        "subscribed_at_ns": [T0, T0, T0, T0 + 9],
        "ended_at_ns": [parts.NEVER, parts.NEVER, T0 + 5, parts.NEVER],
        "reason": ["end", "end", "dropped", "end"],
        "policy": ["debounce"] * 4,
    }
    write_part(tmp_path, "subscriptions", 7, 0, common | rows)
    found = parts.read_table(tmp_path, "subscriptions").to_pylist()
    assert [(row["subscriber"], row["subscribed_at_ns"] - T0, row["reason"]) for row in found] == [
        (0, 0, "dropped"), (1, 0, "end"), (0, 9, "end")
    ]  # fmt: skip
    assert parts.read_table(tmp_path, "pages").num_rows == 0


def test_a_later_test_of_the_same_processes_is_read_by_itself(tmp_path: Path) -> None:
    header(tmp_path, 7, 0, 0, 1)
    header(tmp_path / "test-2", 7, 0, 0, 5)
    header(tmp_path / "other-machine" / "test-2", 8, 1, 10, 15)
    assert [h["subscribers"]["last"] for h in parts.read_headers(tmp_path)] == [1]
    assert [h["subscribers"]["last"] for h in parts.read_headers(tmp_path / "test-2")] == [5]


def test_events_of_different_contents_have_different_keys_however_they_are_counted_together() -> None:
    contents = [b"", b"\0", b"\0" * 8, b"\0" * 9, b"E {}", b"E {}\0"]
    contents += [b'E {"server_id":%d,"timestamp":"2026-11-27T16:%02d:03.123456Z"}' % (i // 60, i % 60) for i in range(6000)]
    contents += [bytes([1 << bit % 8]).rjust(bit // 8 + 1, b"\0").ljust(40, b"\0") for bit in range(320)]
    keys = parts.event_keys(contents)
    assert len(set(keys.tolist())) == len(contents)
    mixed = np.random.default_rng(1).permutation(len(contents))
    assert parts.event_keys(contents[i] for i in mixed).tolist() == keys[mixed].tolist()
    assert parts.event_keys([contents[70]]).tolist() == parts.keys_of(np.array([list(contents[70])], np.uint8)).tolist()
    # Each bit of the key is as often set as not, within five standard deviations.
    bits = np.unpackbits(keys[6:6006].view(np.uint8).reshape(-1, 8), axis=1).mean(axis=0)
    assert np.all(np.abs(bits - 0.5) < 5 * 0.5 / np.sqrt(6000))
    assert parts.event_keys([]).tolist() == []
