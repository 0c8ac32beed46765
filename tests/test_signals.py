"""Signals for the time of a block, and at the end of a parent."""

from __future__ import annotations

import subprocess
import sys

import pytest

CHILD = """
import os, signal, time
from sim.signals import end_with_parent
reading, writing = os.pipe()
if os.fork() == 0:
    end_with_parent(signal.SIGTERM)
    os.write(writing, b"x")
    time.sleep(600)
os.read(reading, 1)
os._exit(0)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's end")
def test_a_child_ends_with_its_parent() -> None:
    """The child holds the pipe of the output: nothing is at its end before the child is."""
    subprocess.run([sys.executable, "-c", CHILD], capture_output=True, timeout=60, check=True)
