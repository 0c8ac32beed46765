"""Text files: read as editors write them, and written in one step."""

from __future__ import annotations

import os
from pathlib import Path


def read_text(path: str | Path) -> str:
    """UTF-8, with or without a byte order mark. Raises `OSError`, `UnicodeDecodeError`."""
    return Path(path).read_text(encoding="utf-8-sig")


def replace_text(path: Path, text: str) -> None:
    """Write *path* in one step: nobody ever reads a part of it, and several processes may do so at once. Raises `OSError`."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
