"""What benchmarks found, as a file; and two such files side by side.

A benchmark calls `note` for each figure that is worth comparing with another run: its name, its unit, and what each round gave.
The best round is the figure, because other work on the machine can only make it worse; the others show how far to trust it.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import platform
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

FILE = "WORKBENCH_BENCH_NOTES"
"""Environment variable: the file that `note` appends to; without it nothing is written."""

BENCHMARK = "WORKBENCH_BENCH"
"""Environment variable: the benchmark that runs."""

BAND = 0.05
"""Relative difference within which two figures count as the same."""

ALONE = 0.25
"""Relative uncertainty of a figure that one round gave."""

Figure = dict[str, Any]
"""benchmark, unit, more_is_better, rounds."""


def note(name: str, unit: str, rounds: Iterable[float], *, more_is_better: bool = False) -> None:
    """Keep a figure, with what each round gave (at least one round)."""
    if FILE in os.environ:
        figure = {"name": name, "benchmark": os.environ.get(BENCHMARK, ""), "unit": unit, "more_is_better": more_is_better}
        figure["rounds"] = [float(value) for value in rounds]
        with Path(os.environ[FILE]).open("a", encoding="utf-8") as file:
            file.write(json.dumps(figure) + "\n")


def collect(notes: str, seconds: Mapping[str, float]) -> dict[str, Any]:
    """The results of a run: *notes* as `note` has written them, *seconds* that each benchmark took."""
    figures = [json.loads(line) for line in notes.splitlines()]
    return {
        **machine(),
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "figures": {figure.pop("name"): figure for figure in figures},
    }


def machine() -> dict[str, Any]:
    """Of a run of benchmarks: when, of which commit, on which machine."""
    return {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": _commit(),
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
            "system": platform.platform(),
            "python": platform.python_version(),
        },
    }


def _processor() -> str:
    """Its model; where Linux does not say it, its architecture."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return platform.machine()


def _commit() -> str:
    done = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def best(figure: Figure) -> float:
    return max(figure["rounds"]) if figure["more_is_better"] else min(figure["rounds"])


def difference(old: Figure, new: Figure) -> tuple[float, float, float, str]:
    """(relative difference of the best rounds, low, high, verdict) of one figure in two runs.

    From *low* to *high* it is with any round against any other. Where a side has one round only, the interval is at least `ALONE`
    to either side. better, worse, same: the whole interval lies beyond the band, or within it; else undecided.
    """
    relative = _relative(best(new), best(old))
    pairs = [_relative(b, a) for a in old["rounds"] for b in new["rounds"]]
    low, high = min(pairs), max(pairs)
    if min(len(old["rounds"]), len(new["rounds"])) == 1:
        low, high = min(low, relative - ALONE), max(high, relative + ALONE)
    if low >= -BAND and high <= BAND:
        return relative, low, high, "same"
    if low > BAND or high < -BAND:
        return relative, low, high, "better" if (low > BAND) == new["more_is_better"] else "worse"
    return relative, low, high, "undecided"


def _relative(new: float, old: float) -> float:
    return new / old - 1 if old else (0.0 if new == old else math.inf)


def compare(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Figure by figure, for a terminal: both runs, difference, interval, verdict; then in words what is worse and what is better.

    The figures of a benchmark that only one of the two has run are left out.
    """
    rows = [("figure", "unit", "old", "new", "difference", "from", "to", "verdict")]
    words: dict[str, list[str]] = {"worse": [], "better": [], "same": [], "undecided": []}
    for name in [*old["figures"], *(name for name in new["figures"] if name not in old["figures"])]:
        a, b = old["figures"].get(name), new["figures"].get(name)
        if a is None or b is None:
            other = new if b is None else old
            if (a or b).get("benchmark", "") in ("", *other.get("seconds", {})):
                shown = ("-" if figure is None else f"{best(figure):.4g}" for figure in (a, b))
                rows.append((name, (a or b)["unit"], *shown, "", "", "", f"only in {'the new' if a is None else 'the old'} one"))
            continue
        relative, low, high, verdict = difference(a, b)
        words[verdict].append(f"{name} by {abs(relative):.0%}")
        rows.append(
            (name, b["unit"], f"{best(a):.4g}", f"{best(b):.4g}", f"{relative:+.1%}", f"{low:+.1%}", f"{high:+.1%}", verdict)
        )
    counts = ", ".join(f"{len(names)} {word}" for word, names in words.items() if names)
    if old["machine"] != new["machine"]:
        counts += "; the machines differ, so only figures that are ratios (x ...) can be compared"
    return "\n".join(
        [
            *aligned(rows, left=(0, 1, 7)),
            "",
            f"{old['commit']} ({old['at']}) against {new['commit']} ({new['at']}): {counts or 'nothing in common'}",
            *(f"{word}: {'; '.join(words[word])}" for word in ("worse", "better") if words[word]),
        ]
    )


def aligned(rows: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> list[str]:
    """Lines of a table; the columns *left* begin at the left, the others end at the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    padded = ([cell.ljust(widths[i]) if i in left else cell.rjust(widths[i]) for i, cell in enumerate(row)] for row in rows)
    return ["  ".join(row).rstrip() for row in padded]


def read(path: Path) -> dict[str, Any]:
    """Results of a run. Raises `ValueError` for anything else, `OSError`."""
    found = json.loads(path.read_text(encoding="utf-8"))
    if type(found) is not dict or not {"at", "commit", "machine", "figures"} <= found.keys():
        raise ValueError("no results of benchmarks")
    return found
