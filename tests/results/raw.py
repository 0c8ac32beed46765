"""Raw parts as a process of a load test leaves them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sim.results import journal, parts


def write_part(directory: Path, table: str, pid: int, serial: int, columns: Mapping[str, Any]) -> None:
    """A part of these rows and no more."""
    with journal.Journal(parts.part_path(directory, table, pid, serial), parts.PARTS[table]) as part:
        part.append(parts.to_part(table, columns))
