"""Rows on disk as they come, so that they can be read after the process was killed.

A journal is an Arrow IPC stream: a schema, then batches, each complete in itself. Rows survive the death of the process (not that
of the machine) once `append` has returned; `read` takes all whole batches and stops at the first torn one.
"""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import pyarrow as pa

from sim.errors import BadInput


class _Whole(io.RawIOBase):
    """Writes everything or raises: a disk that is nearly full takes a part, and reports an error only at the next write."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb", buffering=0)

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        rest = memoryview(data).cast("B")
        size = len(rest)
        while rest:
            rest = rest[self._file.write(rest) or 0 :]
        return size

    def tell(self) -> int:
        return self._file.tell()

    def cut(self, size: int) -> None:
        self._file.truncate(size)

    def close(self) -> None:
        self._file.close()
        super().close()


class Journal:
    """A file that grows. Use as a context manager, or call `close`."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        """Raises `BadInput` where the file cannot be made."""
        self.schema = schema
        try:
            self._file = _Whole(path)
        except OSError as error:
            raise BadInput(f"cannot write {path}: {error.strerror or error}") from error
        self._writer = pa.ipc.new_stream(self._file, schema)

    def append(self, columns: pa.Table | dict[str, Any]) -> None:
        """Raises `OSError` when the disk is full: then the journal is closed, and what was appended before stays readable."""
        table = columns if isinstance(columns, pa.Table) else pa.table(columns, schema=self.schema)
        if not table.num_rows:
            return
        before = self._file.tell()
        try:
            self._writer.write_table(table.combine_chunks())
        except OSError:
            self._file.cut(before)
            self._file.close()
            raise

    def close(self) -> None:
        if not self._file.closed:
            with contextlib.suppress(OSError):  # The mark of the end, which a reader does without.
                self._writer.close()
            self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def read(path: Path, schema: pa.Schema) -> pa.Table:
    """All whole batches; none of a journal whose first bytes never came. Raises `BadInput` for another file or schema."""
    batches = []
    try:
        with pa.OSFile(str(path)) as source:
            if source.size() == 0:
                return schema.empty_table()
            reader = pa.ipc.open_stream(source)
            if not reader.schema.equals(schema):
                raise BadInput(f"{path}: columns {reader.schema.names}, expected {schema.names}")
            batches = _whole(reader)
    except (OSError, pa.ArrowInvalid) as error:
        raise BadInput(f"{path}: cannot be read: {error}") from error
    return pa.Table.from_batches(batches, schema)


def _whole(reader: pa.RecordBatchReader) -> list[pa.RecordBatch]:
    batches: list[pa.RecordBatch] = []
    while True:
        try:
            batches.append(reader.read_next_batch())
        except (StopIteration, OSError, pa.ArrowInvalid):
            return batches
