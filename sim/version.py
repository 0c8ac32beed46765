"""Which release of the workbench this is."""

from __future__ import annotations

import importlib.metadata


def version() -> str:
    """`0.3.0`, of the installed package."""
    try:
        return importlib.metadata.version("notify-refetch-workbench")
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
