"""Where the files are that come with the workbench: beside the code in a checkout, inside the package where it is installed."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Literal

PACKAGE = Path(str(files("sim")))

CHECKOUT = PACKAGE.parent if (PACKAGE.parent / "pyproject.toml").is_file() else None
"""The checkout's root; None where the package is installed."""


def shipped(name: Literal["data", "notebooks"]) -> Path:
    """The directory of that name."""
    return (CHECKOUT or PACKAGE / "files") / name
