"""For all tests."""

from __future__ import annotations

import gc
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

# Its pytest plugin would else import it in the summary of a run without any of its tests, deep in the stack, where Python 3.11.7
# sometimes fails to parse it (SystemError: AST constructor recursion depth mismatch, python/cpython#106905).
import hypothesis
import psutil
import pytest

# A busy machine is no fault of a test.
hypothesis.settings.register_profile("here", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("here")

PATIENCE = 10.0
"""Seconds that what was asked to end has for it."""


MARK = "STARTED_BY_TESTS_OF"
"""Variable that whatever the tests start inherits; so is found what outlives the child that started it."""


@pytest.hookimpl(optionalhook=True)  # also where pytest-xdist is switched off
def pytest_xdist_auto_num_workers() -> int:
    """One more than processors: many tests wait for a child process or a socket, and would leave theirs idle."""
    return (psutil.cpu_count() or 1) + 1


def pytest_collection() -> None:
    gc.disable()  # until `pytest_collection_finish`: nothing goes before


LONG = {
    "test_advice.py",
    "test_engine.py",
    "test_explorer.py",
    "test_fit.py",
    "test_hostile_bundles.py",
    "test_oracle.py",
    "test_predict.py",
    "test_reports.py",
    "test_sweep.py",
}
"""Files of many tests that last long together; the first also compiles what others then load."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What lasts longest begins first (with `--no-loadscope-reorder`), or one worker ends long after the others."""
    long = {
        item.path for item in items if item.path.suffix == ".ipynb" or item.path.name in LONG or item.get_closest_marker("slow")
    }
    items.sort(key=lambda item: item.path not in long)


def pytest_collection_finish() -> None:
    """All modules and tests are there to stay: each full collection, of which every broadcaster's start is one, would else go
    through them again for a fifth of a second."""
    gc.freeze()
    gc.enable()


TIDY = ("board-", "chromium-", "forge-", "org.chromium.", "redis-", "torture-")
"""How the names of temporary directories begin that the tests themselves make, or have a browser make, and must remove."""


@pytest.fixture(scope="session", autouse=True)
def nothing_left() -> Iterator[None]:
    """At the end of the suite nothing runs any more that a test has started, and nothing of theirs is in the temporary directory,
    which is one of their own and goes with them (pytest's directories are not in it)."""
    here = psutil.Process()
    os.environ[MARK] = str(here.pid)
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="t-", ignore_cleanup_errors=True) as place:
        Path(place).chmod(0o1777)  # databases run as users of their own, and write there
        patch.setenv("TMPDIR", place)
        patch.setattr(tempfile, "tempdir", place)
        yield
        _, alive = psutil.wait_procs(started_by(here), PATIENCE)
        # Others' programs keep what they like there (it goes now), and one that a test has killed cannot tidy up.
        files = sorted(path.name for path in Path(place).iterdir() if path.name.startswith(TIDY))
    left = {process.pid: _command(process) for process in alive}
    assert not left, f"the tests have left processes behind: {left}"
    assert not files, f"the tests have left temporary files behind: {files}"


def started_by(here: psutil.Process) -> list[psutil.Process]:
    """What *here* has started and still runs, also where the child that started it has gone."""
    return [process for process in psutil.process_iter() if _was_started(process, here)]


def _was_started(process: psutil.Process, here: psutil.Process) -> bool:
    try:
        if process.ppid() == here.pid:
            # The tracker of shared resources is multiprocessing's own, and ends with this process.
            return "multiprocessing.resource_tracker" not in _command(process)
        return process.environ().get(MARK) == str(here.pid)
    except psutil.Error:
        return False  # gone, or another user's


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())[:200]
    except psutil.Error:
        return ""
