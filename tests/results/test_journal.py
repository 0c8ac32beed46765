"""A journal is readable at every moment: cut anywhere, on a disk that fills, by another schema."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from sim.errors import BadInput
from sim.results.journal import Journal, read

SCHEMA = pa.schema([("a", pa.int64()), ("name", pa.dictionary(pa.int32(), pa.string()))])


def rows(*values: int) -> dict[str, Any]:
    return {"a": list(values), "name": pa.array([f"n{value}" for value in values]).dictionary_encode()}


def test_what_was_appended_is_there_at_once_and_wherever_the_file_is_cut(tmp_path: Path) -> None:
    path, ends = tmp_path / "j", []
    with Journal(path, SCHEMA) as growing:
        for value in range(3):
            growing.append(rows(value, 10 + value))
            ends.append(path.stat().st_size)
            assert read(path, SCHEMA)["a"].to_pylist() == [v for i in range(value + 1) for v in (i, 10 + i)]
        growing.append(rows())
    whole = path.read_bytes()
    head = ends[0]
    for size in range(head, len(whole), 7):
        path.write_bytes(whole[:size])
        found = read(path, SCHEMA)
        assert found.num_rows == 2 * sum(end <= size for end in ends)
        assert found["name"].to_pylist() == [f"n{value}" for value in found["a"].to_pylist()]
    path.write_bytes(b"")
    assert read(path, SCHEMA).num_rows == 0


@pytest.mark.parametrize("content", [b"PAR1 half a file", b"\0" * 100])
def test_another_file_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other"
    path.write_bytes(content)
    with pytest.raises(BadInput, match="other"):
        read(path, SCHEMA)
    with Journal(path, SCHEMA) as growing:
        growing.append(rows(1))
    with pytest.raises(BadInput, match=r"expected \['b'\]"):
        read(path, pa.schema([("b", pa.int64())]))
    with pytest.raises(BadInput, match="nowhere"):
        Journal(tmp_path / "nowhere" / "j", SCHEMA)


def test_a_disk_that_fills_leaves_what_was_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Like a real one it takes part of a write first, and refuses the rest."""
    path = tmp_path / "j"
    growing = Journal(path, SCHEMA)
    growing.append(rows(1))
    size = path.stat().st_size
    file = growing._file._file

    class Full:
        room = 100

        def write(self, data: memoryview) -> int:
            if not self.room:
                raise OSError(errno.ENOSPC, "No space left on device")
            taken = file.write(data[: self.room])
            self.room -= taken or 0
            return taken or 0

        def __getattr__(self, name: str) -> Any:
            return getattr(file, name)

    monkeypatch.setattr(growing._file, "_file", Full())
    with pytest.raises(OSError, match="No space"):
        growing.append(rows(*range(100)))
    assert path.stat().st_size == size
    growing.close()
    assert read(path, SCHEMA)["a"].to_pylist() == [1]
