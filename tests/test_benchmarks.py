"""What is kept of a run of the benchmarks, and two runs side by side. Nothing is measured here."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import __main__ as command
from benchmarks import results


def figure(*rounds: float, more: bool = False) -> results.Figure:
    return {"unit": "us", "more_is_better": more, "rounds": list(rounds)}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (figure(10.0, 10.2), figure(10.1, 10.0), "same"),
        (figure(10.0, 11.0), figure(8.0, 8.5), "better"),
        (figure(8.0, 8.5), figure(10.0, 11.0), "worse"),
        (figure(8.0, 8.5, more=True), figure(10.0, 11.0, more=True), "better"),
        (figure(10.0, 11.0, more=True), figure(8.0, 8.5, more=True), "worse"),
        (figure(10.0, 12.0), figure(9.0, 11.0), "undecided"),  # The rounds overlap.
        (figure(10.0), figure(8.5), "undecided"),  # One round says little,
        (figure(10.0), figure(5.0), "better"),  # but not nothing.
        (figure(0.0, 0.0), figure(0.0, 0.0), "same"),
    ],
)
def test_a_verdict_needs_all_rounds_on_one_side(old: results.Figure, new: results.Figure, expected: str) -> None:
    relative, low, high, verdict = results.difference(old, new)
    assert verdict == expected
    assert low <= relative <= high
    swapped = {"better": "worse", "worse": "better"}
    assert results.difference(new, old)[3] == swapped.get(expected, expected)


def test_what_is_noted_is_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    results.note("nobody asked", "us", [1.0])  # Without a file nothing is kept.
    paths = []
    for name, cpu in (("old", [2.0, 2.1]), ("new", [1.0, 1.1])):
        notes = tmp_path / f"{name}.notes"
        monkeypatch.setenv(results.FILE, str(notes))
        results.note("fan-out: CPU per delivery", "x C", cpu)
        results.note(f"only {name}", "per s", [5.0], more_is_better=True)
        paths.append(tmp_path / f"{name}.json")
        paths[-1].write_text(json.dumps(results.collect(notes.read_text(), {"fanout": 1.25})))
    assert command.main(["--compare", *map(str, paths)]) == 0
    lines = capsys.readouterr().out.splitlines()
    cells = [line.split("  ") for line in lines]
    assert [cell.strip() for cell in cells[1] if cell] == [
        "fan-out: CPU per delivery",
        "x C",
        "2",
        "1",
        "-50.0%",
        "-52.4%",
        "-45.0%",
        "better",
    ]
    assert "only in the old one" in lines[2]
    assert "only in the new one" in lines[3]
    assert lines[-2].endswith(": 1 better")
    assert lines[-1] == "better: fan-out: CPU per delivery by 50%"


def test_a_whole_run_takes_the_place_of_the_one_before_and_a_part_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("RESULTS", "BEFORE", "PART"):
        monkeypatch.setattr(command, name, tmp_path / name)
    cpu = {"fanout": 2.0, "explorer": 5.0}
    monkeypatch.setattr(command, "ALL", dict.fromkeys([*cpu, "broken", "lacking"], ()))

    def run(arguments: list[str], env: dict[str, str]) -> int:
        name = env[results.BENCHMARK]
        assert arguments[1:] == ["-m", f"benchmarks.{name}"]
        if name not in cpu:
            return 2 if name == "lacking" else 1
        if cpu[name] < 0:
            raise KeyboardInterrupt
        with monkeypatch.context() as patch:
            patch.setenv(results.FILE, env[results.FILE])
            patch.setenv(results.BENCHMARK, name)
            results.note(f"{name}: CPU", "us", [cpu[name], cpu[name] * 1.01])
        return 0

    monkeypatch.setattr(command, "run", run)
    monkeypatch.setattr(results, "_commit", lambda: "abc")
    assert command.main([]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == "failed: broken"
    assert "load_before" in results.read(command.RESULTS)
    assert command.main(["lacking"]) == 0
    assert "lacks something" in capsys.readouterr().err
    first = results.read(command.RESULTS)
    assert sorted(first["figures"]) == ["explorer: CPU", "fanout: CPU"]
    cpu["fanout"] = 4.0
    assert command.main(["fanout"]) == 0
    said = capsys.readouterr().out
    assert said.endswith(": 1 worse\nworse: fanout: CPU by 100%\n")
    assert "explorer" not in said  # It has not run again.
    cpu["explorer"] = -1.0
    assert command.main([]) == 130
    assert results.read(command.RESULTS) == first
    assert sorted(results.read(command.PART)["figures"]) == ["fanout: CPU"]
    cpu["explorer"] = 5.0
    assert command.main([]) == 1
    assert results.read(command.BEFORE) == first
    assert "1 worse, 1 same" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["{}", "[]", "not JSON"])
def test_a_file_that_holds_no_results_is_refused_in_a_line(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "results.json"
    path.write_text(text)
    assert command.main(["--compare", str(path), str(tmp_path / "missing.json")]) == 2
    assert command.main(["no-such-benchmark"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_each_benchmark_has_help_and_measures_nothing_for_it() -> None:
    for name in command.ALL:
        source = (Path(command.__file__).parent / f"{name}.py").read_text(encoding="utf-8")
        assert "ArgumentParser(" in source, name
        assert ".parse_args(" in source, name


def test_an_interrupted_benchmark_puts_its_servers_away(tmp_path: Path) -> None:
    """SIGTERM reaches `python -m benchmarks`; the benchmark in a session of its own gets SIGINT, and is waited for."""
    benchmark = (
        "import sys, time\ntry:\n    print('there', flush=True)\n    time.sleep(60)\nfinally:\n    print('put away', flush=True)"
    )
    program = f"import os, sys\nfrom benchmarks.__main__ import run\nrun([sys.executable, '-c', {benchmark!r}], dict(os.environ))"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as parent:
        assert parent.stdout
        assert parent.stdout.readline() == "there\n"
        os.kill(parent.pid, signal.SIGTERM)
        assert parent.stdout.read() == "put away\n"
        assert parent.wait(30) != 0
