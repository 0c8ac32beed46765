"""Choosing an engine, and what its import costs."""

from __future__ import annotations

import subprocess
import sys


def test_who_only_asks_pays_for_numpy_alone():
    """Frames, SciPy and compiled code are loaded by what needs them: a run, or the few formulas without a closed form."""
    heavy = ("scipy", "pandas", "pyarrow", "numba", "matplotlib")
    program = f"import sys, sim.virtual.theory, sim.virtual.engines; print([m for m in {heavy} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
