"""Parts are written by a thread, so that a slow disk does not keep the hub from reading.

The hub hands over rows and a header and goes on; the thread appends the rows to journals, then replaces the header. Rows that a
disk refuses are kept, within bounds, and written again into another file.
"""

from __future__ import annotations

import os
from _queue import SimpleQueue
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gevent import monkey

from sim.errors import BadInput
from sim.results import parts
from sim.results.journal import Journal

ROWS_WAITING = 1 << 21
"""Rows kept for a disk that takes none; older ones are lost, and counted."""

# The hub's own thread would be a greenlet: in a process with Locust the names of `threading` are gevent's.
_start_thread = monkey.get_original("_thread", "start_new_thread")
_new_lock = monkey.get_original("_thread", "allocate_lock")

Batch = tuple[str, Mapping[str, Any], int]
"""Table, its columns, how many rows."""


class PartWriter:
    """One per process and test. Call `add` and `write` from the hub, `finish` at the end; the rest belongs to the thread."""

    def __init__(self, directory: Path) -> None:
        """Raises OSError where nothing can be written."""
        self.directory = _free(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.rows = dict.fromkeys(parts.PARTS, 0)
        """Written so far."""
        self.lost = 0
        """Rows that no disk has taken."""
        self.faults = 0
        self.fault = ""
        self._journals: dict[str, Journal] = {}
        self._serials = dict.fromkeys(parts.PARTS, 0)
        self._given: list[Batch] = []
        self._waiting: deque[Batch] = deque()
        self._work: SimpleQueue[tuple[list[Batch], dict[str, Any]] | None] = SimpleQueue()
        self._over = _new_lock()
        self._over.acquire()
        _start_thread(self._run, ())

    def add(self, table: str, columns: Mapping[str, Any], rows: int) -> None:
        self._given.append((table, columns, rows))

    def write(self, header: dict[str, Any]) -> None:
        """Hand over what was added, then *header*, which gets the counts of what is on disk then."""
        given, self._given = self._given, []
        self._work.put((given, header))

    def finish(self, header: dict[str, Any]) -> None:
        """The same, and wait for it. Nothing may be added afterwards."""
        self.write(header)
        self._work.put(None)
        self._over.acquire()

    # ---- in the thread, where neither gevent nor logging may be used

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            batches, header = work
            self._waiting += batches
            try:
                self._append()
                self._forget()
                counted = {"rows": dict(self.rows), "fault": self.fault or header["fault"]}
                counters = header["counters"] | {"recording_faults": header["counters"]["recording_faults"] + self.faults}
                counters["rows_lost"] += self.lost
                whole = header["finished"] and not self._waiting
                parts.write_header(self.directory, header | counted | {"counters": counters, "finished": whole})
            except Exception as error:
                self._failed(error)
        for journal in self._journals.values():
            journal.close()
        self._over.release()

    def _append(self) -> None:
        while self._waiting:
            table, columns, rows = self._waiting[0]
            try:
                batch = parts.to_part(table, columns)
                if table not in self._journals:
                    path = parts.part_path(self.directory, table, os.getpid(), self._serials[table])
                    self._journals[table] = Journal(path, parts.PARTS[table])
                self._journals[table].append(batch)
            except (OSError, BadInput) as error:  # The disk: these and later rows wait.
                self._failed(error)
                if table in self._journals:
                    self._journals.pop(table).close()
                    self._serials[table] += 1
                return
            except Exception as error:  # These rows themselves.
                self._failed(error)
                self.lost += rows
            else:
                self.rows[table] += rows
            self._waiting.popleft()

    def _forget(self) -> None:
        while sum(rows for _, _, rows in self._waiting) > ROWS_WAITING:
            self.lost += self._waiting.popleft()[2]

    def _failed(self, error: Exception) -> None:
        self.faults += 1
        self.fault = f"{type(error).__name__}: {error}"


def _free(directory: Path) -> Path:
    """*directory*, or the one below it of this process's second test, third, ..."""
    place, number = directory, 1
    while (place / f"header-{os.getpid()}.json").exists():
        number += 1
        place = directory / f"test-{number}"
    return place
