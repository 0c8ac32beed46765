"""How a run stands, in words; what each threshold got."""

from __future__ import annotations

import pytest

import sim
from sim.results import thresholds
from sim.results.answers import report, standing
from sim.results.run import Run
from sim.scenario import Fleet, Pages, Scenario
from sim.workload import Poisson

SCENARIO = Scenario(name="tiny", duration=5.0, fleet=Fleet(users=2), workload=Poisson(rate=8.0), pages=(Pages("dashboard", 4),))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return sim.simulate(SCENARIO, output=tmp_path_factory.mktemp("standing") / "tiny")


def test_a_verdict_says_why() -> None:
    run = Run(report.data_dir() / "runs" / "start-here")
    run.manifest.validity = {"ok": False, "reasons": ["the clock jumped"]}
    run.manifest.partial = True
    assert standing.verdict(run) == "partial, invalid: the clock jumped"


@pytest.mark.parametrize(
    ("threshold", "value", "words"),
    [
        ("delivery_ratio: value >= 1", 0.99997, "0.99997"),
        ("delivery_ratio: value >= 1", 0.5, "0.5"),
        ("samples: deliveries >= 1000", 64_655, "64,655"),
        ("time_to_fresh_ms: p(99) < 250", 0.2504, "250 ms"),
        ("time_to_fresh_ms: p(99) < 250", 0.658012, "658 ms"),
        ("time_to_fresh: p(99) < 2", 1.9996, "1.9996 s"),
        ("time_to_fresh: p(99) < 2", None, "no samples"),
    ],
)
def test_a_threshold_got_as_many_digits_as_it_takes_to_see_the_verdict(threshold: str, value: float | None, words: str) -> None:
    metric, _, condition = threshold.partition(": ")
    wanted = thresholds.parse(metric, condition)
    (check,) = thresholds.check(wanted, {wanted[0].key: {"value": value, "n": 9}})
    assert check.got == words


def test_how_a_run_stands(bundle: Run) -> None:
    assert standing.state(bundle) == "no thresholds are set; the run is valid; its target: healthy"
    run = Run(bundle.directory)
    run.manifest.scenario = run.manifest.scenario | {"thresholds": {"delivery_ratio": "value >= 1", "updates": "value < 0"}}
    run.manifest.extra["target_trouble"] = ["2 pages were dropped"]
    run.manifest.validity["remarks"] = ["left out: api.workers"]
    assert standing.state(run) == "1 of 2 thresholds **fails**; the run is valid; its target: 2 pages were dropped"
    said = report.standing([run, bundle]).data
    assert "| delivery_ratio: value >= 1 | pass: 1 | – |" in said
    assert "left out: api.workers" in said
    assert said.index("**FAIL**") < said.index("| the run |") < said.index("| its target |")


def test_what_failed_at_a_target_is_said_by_the_summary_where_nothing_was_noted(bundle: Run) -> None:
    run = Run(bundle.directory)
    counts = {
        "refetches": 90,
        "refetches.failed": 12,
        "deliveries.expected": 40,
        "deliveries.missing.target": 3,
        "updates.failed": 0,
    }
    vars(run)["summary"] = {name: {"value": value} for name, value in counts.items()}
    assert standing.trouble(run) == ["12 of 90 refetches failed", "3 of 40 deliveries lost"]
