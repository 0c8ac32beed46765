"""RunFiles that are full, and files that cannot be written."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.torture.case import Stage, case, need
from tests.torture.commands import Command, kind_of_bundle
from tests.torture.signals import LOADTEST

SIMULATION = ("simulate", "steady", "--set", "duration=30", "--set", "pages.0.subscribers=200")


@contextmanager
def small_disk(place: Path, kib: int, read_only: bool = False) -> Iterator[Path | None]:
    """A file system of some KiB at *place*, where we may mount one; None: we may not."""
    place.mkdir(parents=True)
    options = f"size={kib}k,{'ro' if read_only else 'rw'}"
    if (
        os.geteuid()
        or subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], capture_output=True).returncode
    ):
        yield None
        return
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def small_files(kib: int) -> dict[str, object]:
    """Options of a process whose files may not grow beyond some KiB: the same errors, also without a file system of its own."""
    return {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (kib * 1024, kib * 1024))}


@case
def disk_full(stage: Stage) -> Iterator[str]:
    """A disk that is full before or while the run is written: one line and a documented code, what was written before is kept and
    reads, and nothing stays alive."""
    for name, arguments, kib in (
        ("simulate", SIMULATION, 16),
        ("sweep", ("sweep", "steady", "--vary", "policy.wait=0.1,0.2", "--processes", "1", "--set", "duration=5"), 8),
        ("loadtest", (*LOADTEST[:2], "--set", "duration=4"), 48),
    ):
        with small_disk(stage.place / name / "disk", kib) as disk:
            where = "disk/run" if disk else "run"
            options = {} if disk else small_files(kib)
            command = Command(stage.place / name, *arguments, "-o", where, **options)
            code = command.finish(180)
            command.require_orderly()
            need(code in (1, 2, 4), f"{name}: exit {code}: {command.said}")
            need(command.err.strip().splitlines()[-1].startswith("workbench: "), f"{name}: {command.said!r}")
            left = (
                "rows"
                if name == "sweep"
                else kind_of_bundle(stage.place / name / where, stage.place)
                if disk is None
                else "on it"
            )
            if disk is not None and name != "sweep":
                # What is on a full disk is copied to one with room, as somebody would who wants it back.
                if (disk / "run").exists():
                    shutil.copytree(disk / "run", stage.place / name / "rescued")
                left = kind_of_bundle(stage.place / name / "rescued", stage.place)
            yield f"{name} on {kib} KiB ({'tmpfs' if disk else 'RLIMIT_FSIZE'}): exit {code}, {left}: {command.said[-120:]}"


@case
def unwritable_places(stage: Stage) -> Iterator[str]:
    """An output that cannot be written is refused in one line before any work is done."""
    (stage.place / "file").write_text("")
    with small_disk(stage.place / "locked", 64, read_only=True) as locked:
        files = ["file/run", "/proc/run", *(["locked/run"] if locked else [])]
        for place in files:
            for arguments in (SIMULATION, LOADTEST[:2], ("sweep", "steady", "--vary", "policy.wait=0.1")):
                command = Command(stage.place, *arguments, "-o", place)
                code = command.finish()
                need(code == 2 and command.err.count("\n") == 1, f"{arguments[0]} -o {place}: exit {code}: {command.said}")
                need(
                    not any("locust" in line or "broadcaster" in line for line in command.seen.values()), "something was started"
                )
        yield f"{', '.join(files)}: exit 2 in one line"
