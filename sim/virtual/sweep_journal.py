"""What a sweep has done so far, on disk: it goes on from there."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sim.errors import BadInput

Row = dict[str, Any]
"""point, replication, seed, engine, seconds, the varied keys, then a column for each metric (None: undefined)."""


class SweepJournal:
    """`rows.jsonl` of a sweep's directory: one line per finished simulation, in the order in which they finished."""

    def __init__(self, directory: Path | None, identity: Mapping[str, Any], seed: int) -> None:
        """*identity*: what the directory is of; *seed*: of replication 0. Raises `BadInput` where it is another sweep's."""
        self.rows: dict[tuple[int, int], Row] = {}
        """(point, replication) -> row."""
        self._seed = seed
        self._file = None
        if directory is None:
            return
        try:
            directory.mkdir(parents=True, exist_ok=True)
            _claim(directory / "sweep.json", identity)
            path = directory / "rows.jsonl"
            whole = self._read(path)
            self._file = path.open("r+b" if path.exists() else "wb")
            # A line that was cut off by the end of the process is written anew.
            self._file.truncate(whole)
            self._file.seek(whole)
        except OSError as error:
            raise BadInput(f"cannot write to {directory}: {error.strerror or error}") from error

    def _read(self, path: Path) -> int:
        """Fill `rows`; returns the length of what is whole, bytes."""
        whole = 0
        for line in path.read_bytes().splitlines(keepends=True) if path.exists() else ():
            try:
                row = json.loads(line)
                if not line.endswith(b"\n"):
                    break
                self.rows[row["point"], row["replication"]] = row
            except (ValueError, KeyError, TypeError):
                break
            whole += len(line)
        return whole

    def keep(self, point: int, replication: int, found: Row) -> Row:
        seed = self._seed + replication
        row = {"point": point, "replication": replication, "seed": seed} | found
        self.rows[point, replication] = row
        if self._file is not None:
            self._file.write(json.dumps(row).encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        return row

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def _claim(path: Path, identity: Mapping[str, Any]) -> None:
    """The directory is this sweep's: what it is stands in `sweep.json`."""
    if not path.exists():
        path.write_text(json.dumps(identity, indent=1) + "\n", encoding="utf-8")
        return
    try:
        there = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadInput(f"{path}: damaged: {error}") from error
    if there != json.loads(json.dumps(identity)):
        raise BadInput(f"{path.parent} holds another sweep (choose another -o, or remove it)")
