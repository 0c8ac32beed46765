"""The short table, the exit codes, `workbench check` and the search for the knee."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sim import cli
from sim.commands.measuring import search as searching
from sim.commands.measuring.abort import Abort
from sim.commands.measuring.one import LoadTestSettings
from sim.commands.measuring.outcome import LoadTestOutcome
from sim.errors import BadInput, InvalidRun, ThresholdFailed
from sim.results import parts
from sim.results.histogram import Histogram
from sim.results.run import RunWriter
from sim.results.thresholds import check, parse, parse_all
from sim.scenario import Scenario

SUMMARY = {
    "updates": {"value": 50, "n": 50},
    "delivery_ratio": {"value": 0.999, "n": 50},
    "deliveries.expected": {"value": 1000, "n": 50},
    "deliveries.received": {"value": 999, "n": 50},
    "time_to_fresh.p50": {"value": 0.6, "n": 50},
    "time_to_fresh.p99": {"value": None, "never": True, "n": 50},
    "updates.unknown": {"value": 2, "n": 50},
}
GOOD = LoadTestOutcome(
    directory=Path("runs/x"),
    name="x",
    summary=SUMMARY,
    harness={"floor_p50": 3e-6, "floor_p99": 6e-6, "lag_p50": 0.001, "lag_p99": 0.002},
    fates={"missing.target": 1, "missing.harness": 0, "not_connected": 4, "duplicate": 3},
    reasons=(),
    remarks=("listening only",),
    checks=check(parse_all({"delivery_ratio": "value >= 0.99"}), SUMMARY),
    duration=30.0,
)
FAILED = replace(GOOD, checks=check(parse_all({"delivery_ratio": "value >= 1"}), SUMMARY))
INVALID = replace(FAILED, reasons=("the load client read late",))
PARTIAL = replace(GOOD, interrupted="SIGINT")


@pytest.mark.parametrize(
    ("outcome", "verdict", "error"),
    [
        (GOOD, "valid", None),
        (FAILED, "valid, 1 of 1 thresholds failed", ThresholdFailed),
        (INVALID, "INVALID", InvalidRun),
        (PARTIAL, "partial (SIGINT)", KeyboardInterrupt),
    ],
)
def test_verdicts(outcome: LoadTestOutcome, verdict: str, error: type[BaseException] | None) -> None:
    assert outcome.verdict == verdict
    assert json.dumps(outcome.to_dict())
    if error is None:
        outcome.require_pass()
    else:
        with pytest.raises(error):
            outcome.require_pass()


def test_the_short_table_says_what_was_lost_and_what_never_was() -> None:
    text = GOOD.text()
    assert "999 of 1,000 expected   99.9 %" in text
    assert "updates           50   0 failed, 2 of unknown fate\n" in text
    assert "not received      1 lost by the target, 4 missed by pages that were not connected\n" in text
    assert "besides           3 came more than once\n" in text
    assert "p50 0.6 s   p99 never" in text or "p50 600 ms   p99 never" in text
    assert "harness floor     p50 3 µs   p99 6 µs" in text
    assert text.index("verdict") < text.index("listening only") < text.index("bundle")


def bundle(directory: Path, reasons: tuple[str, ...] = ()) -> Path:
    with RunWriter(directory, Scenario(thresholds={"delivery_ratio": "value >= 0.99"}), "measured") as run:
        run.summary = {
            name: {"value": row["value"], "ci_low": None, "ci_high": None, "n": row["n"]} for name, row in SUMMARY.items()
        }
        run.close(reasons=reasons)
    return directory


@pytest.mark.parametrize(
    ("arguments", "reasons", "code"),
    [
        ([], (), 0),
        (["--threshold", "delivery_ratio=value >= 1"], (), 3),
        (["--threshold", "time_to_fresh_ms=p(99) < 1500"], (), 3),
        ([], ("the load client read late",), 4),
        (["--threshold", "delivery_ratio"], (), 2),
        (["--threshold", "nonsense=value > 1"], (), 2),
    ],
)
def test_check(
    arguments: list[str], reasons: tuple[str, ...], code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = bundle(tmp_path / "run", reasons)
    files = ["--junit", str(tmp_path / "j.xml"), "--summary", str(tmp_path / "s.md"), "--json"]
    assert cli.main(["check", str(run), *arguments, *files]) == code
    captured = capsys.readouterr()
    if code == 2:
        assert captured.err.count("\n") == 1
        return
    assert json.loads(captured.out)["valid"] == (not reasons)
    assert (tmp_path / "j.xml").read_text().startswith("<?xml")
    assert (tmp_path / "s.md").read_text().startswith("### Load test")


def test_check_of_no_bundle_and_of_no_thresholds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", str(tmp_path)]) == 2
    with RunWriter(tmp_path / "run", Scenario(), "measured"):
        pass
    assert cli.main(["check", str(tmp_path / "run")]) == 2
    assert "has no thresholds" in capsys.readouterr().err


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[float]]:
    """Load tests that hold up to a rate."""

    def make(limit: float) -> list[float]:
        tried: list[float] = []

        def run(scenario: Scenario, settings: LoadTestSettings) -> LoadTestOutcome:
            rate = scenario.workload.rate  # type: ignore[union-attr]
            tried.append(rate)
            return GOOD if rate <= limit else FAILED

        monkeypatch.setattr(searching, "run_load_test", run)
        return tried

    return make


def test_the_search_stops_at_the_first_step_that_does_not_hold(
    runs: Callable[..., list[float]], capsys: pytest.CaptureFixture[str]
) -> None:
    tried = runs(20)
    assert searching.search(Scenario(), LoadTestSettings(), "workload.rate=10,20,40,80", as_json=True) == 0
    assert tried == [10, 20, 40]
    told = json.loads(capsys.readouterr().out)
    assert told["knee"] == 20
    assert [bool(step["fails"]) for step in told["steps"]] == [False, False, True]


def test_no_step_holds_or_all_do(runs: Callable[..., list[float]], capsys: pytest.CaptureFixture[str]) -> None:
    runs(5)
    assert searching.search(Scenario(), LoadTestSettings(), "workload.rate=10,20") == 3
    assert "begin below workload.rate = 10" in capsys.readouterr().out
    runs(50)
    assert searching.search(Scenario(), LoadTestSettings(), "workload.rate=10,20") == 0
    assert "the knee lies above" in capsys.readouterr().out


def test_without_thresholds_a_loss_is_a_failure() -> None:
    assert searching.fails(GOOD) == ""
    assert searching.fails(replace(GOOD, checks=())) == "1 deliveries lost"
    assert searching.fails(INVALID).startswith("invalid")


@pytest.mark.parametrize("text", ["workload.rate", "=1,2", "workload.rate=", "workload.rte=1"])
def test_what_is_no_search(text: str) -> None:
    with pytest.raises(BadInput):
        searching.search(Scenario(), LoadTestSettings(), text)


def test_abort_needs_three_failures_in_a_row(tmp_path: Path) -> None:
    def say(latency: int) -> None:
        histogram = Histogram()
        histogram.add([latency] * 10)
        header = {"part_version": parts.PART_VERSION, "pid": 1, "worker": 0, "histograms": {"time_to_fresh": histogram.to_dict()}}
        parts.write_header(tmp_path, header)

    assert Abort(parse("time_to_fresh_ms", "p(99) < 500"), tmp_path)() is None
    abort = Abort(parse("time_to_fresh_ms", "p(99) < 500 or abort"), tmp_path)
    assert abort() is None, "no samples yet"
    say(900_000_000)
    assert abort() is None
    assert abort() is None
    say(100_000_000)
    assert abort() is None
    say(900_000_000)
    assert [abort() is None for _ in range(3)] == [True, True, False]
