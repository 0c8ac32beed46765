"""Children end with their parent's will, and nothing of them is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from sim.errors import WorkbenchError
from sim.live.processes import Child, stop_all

STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
PARENT = (
    "import subprocess, sys, time; child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); "
    "print(child.pid, flush=True); time.sleep(60)"
)


def python(code: str, log: Path, listens: bool = False) -> Child:
    return Child("child", [sys.executable, "-c", code], log, {"WORKBENCH_TEST": "yes"}, listens)


def said(log: Path) -> str:
    """What the child has printed, once it has printed anything."""
    deadline = time.monotonic() + 10
    while not (text := log.read_text()).endswith("\n"):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return text


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_output_environment_and_exit_code(tmp_path: Path) -> None:
    with python("import os; print(os.environ['WORKBENCH_TEST']); raise SystemExit(3)", tmp_path / "log") as child:
        assert child.wait(10)
        assert child.exit_code == 3
        assert child.last_words() == "yes"
        with pytest.raises(WorkbenchError, match=r"child ended early \(exit 3\): yes"):
            child.require_alive()


def test_an_interrupt_while_a_child_is_started_comes_afterwards_and_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    popen, started = subprocess.Popen, []

    def interrupted(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        signal.raise_signal(signal.SIGINT)
        started.append(popen(*arguments, **options))
        return started[0]

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(subprocess, "Popen", interrupted)
            with pytest.raises(KeyboardInterrupt):
                python("import time; time.sleep(60)", tmp_path / "log")
    finally:
        signal.signal(signal.SIGINT, before)
    assert started[0].poll() is not None
    with python("import signal; print(signal.pthread_sigmask(signal.SIG_BLOCK, ()))", tmp_path / "next") as child:
        assert child.wait(60)
        assert said(tmp_path / "next") == "set()\n"


def test_a_child_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    child = python(STUBBORN, tmp_path / "log")
    said(tmp_path / "log")
    child.stop(timeout=0.1)
    assert child.exit_code == -9


def test_what_the_child_started_goes_with_it(tmp_path: Path) -> None:
    child = python(PARENT, tmp_path / "log")
    grandchild = int(said(tmp_path / "log"))
    assert is_running(grandchild)
    child.stop(timeout=5)
    deadline = time.monotonic() + 5
    while is_running(grandchild):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_line_for_a_child_that_listens(tmp_path: Path) -> None:
    with python("print('heard', input())", tmp_path / "log", listens=True) as child:
        child.tell("zero")
        assert child.wait(10)
        assert child.last_words() == "heard zero"


def test_waiting_for_a_word(tmp_path: Path) -> None:
    with python("print('ready', flush=True); input()", tmp_path / "log", listens=True) as child:
        child.wait_until_it_says("ready", 10)
        with pytest.raises(WorkbenchError, match="was not ready within 0"):
            child.wait_until_it_says("steady", 0)
        child.tell("")
        with pytest.raises(WorkbenchError, match="ended early"):
            child.wait_until_it_says("steady", 10)


def test_a_child_that_has_ended_does_not_hear(tmp_path: Path) -> None:
    with python("pass", tmp_path / "log", listens=True) as child:
        assert child.wait(10)
        child.tell("nobody hears that")


def test_many_are_asked_before_the_first_is_waited_for(tmp_path: Path) -> None:
    children = [python("import time; print('up', flush=True); time.sleep(60)", tmp_path / f"{i}") for i in range(3)]
    for i in range(3):
        said(tmp_path / f"{i}")
    stop_all(children)
    assert [child.exit_code for child in children] == [-15] * 3


def test_the_kernel_ends_children_of_a_parent_that_is_killed_outright(tmp_path: Path) -> None:
    parent = (
        "import sys, time; from pathlib import Path; from sim.live.processes import Child; "
        f"c = Child('c', [sys.executable, '-c', 'import time; time.sleep(60)'], Path({str(tmp_path / 'inner')!r})); "
        "print(c.pid, flush=True); time.sleep(60)"
    )
    child = python(parent, tmp_path / "log")
    inner = int(said(tmp_path / "log"))
    os.kill(child.pid, 9)
    child.wait(5)
    deadline = time.monotonic() + 5
    while is_running(inner):
        assert time.monotonic() < deadline
        time.sleep(0.01)
