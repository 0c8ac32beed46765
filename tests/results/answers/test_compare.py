"""Verdicts of a comparison: exact on made-up batches, sensible on simulated runs, and refused where nothing can be compared."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

import sim
from sim.errors import BadInput
from sim.results.answers import compare
from sim.results.answers.compare import Measured, judge
from sim.results.run import Run
from sim.results.text import change
from sim.scenario import Fleet, Pages, Scenario
from sim.workload import Poisson

SCENARIO = Scenario(
    name="small",
    duration=40.0,
    drain=3.0,
    fleet=Fleet(users=2),
    workload=Poisson(rate=3.0),
    pages=(Pages(page="dashboard", subscribers=6),),
)


def made(value: float | None, spread: float = 0.0, n: int = 200, seed: int = 1) -> list[Measured]:
    rng = np.random.default_rng(seed)
    logs = np.log(value) + spread * rng.standard_normal(20) if value and math.isfinite(value) else np.array([])
    return [Measured(value, n, logs)]


def share(value: float, spread: float = 0.0) -> list[Measured]:
    return [Measured(value, 200, value + spread * np.random.default_rng(1).standard_normal(20), share=True)]


def test_inside_the_band_is_the_same_and_beyond_it_better_or_worse() -> None:
    assert judge("time_to_fresh.p50", made(1.0), made(1.04)).verdict == "same"
    assert judge("time_to_fresh.p50", made(1.0), made(1.06)).verdict == "worse"
    assert judge("time_to_fresh.p50", made(1.0), made(0.9)).verdict == "better"


def test_more_deliveries_are_better_and_few_lost_ones_are_not_the_same() -> None:
    assert judge("delivery_ratio", share(1.0), share(0.99)).verdict == "worse"
    assert judge("delivery_ratio", share(0.99), share(1.0)).verdict == "better"


def test_a_share_that_was_nothing_before_is_a_difference_in_points() -> None:
    found = judge("starved_ratio", share(0.0), share(0.3, 0.01))
    assert (found.verdict, found.relative) == ("worse", pytest.approx(0.3))
    assert judge("starved_ratio", share(0.0), share(0.0)).verdict == "same"


def test_a_wide_interval_is_undecided_and_says_how_many_updates_would_decide() -> None:
    found = judge("time_to_fresh.p50", made(1.0, 0.2), made(1.0, 0.2, seed=2))
    assert found.verdict.startswith("undecided: need n ≈ ")
    assert found.low is not None
    assert found.high is not None
    assert found.low < -compare.BAND < compare.BAND < found.high


def test_with_as_many_updates_as_it_asked_for_the_verdict_falls() -> None:
    undecided = judge("time_to_fresh.p50", made(1.0, 0.1), made(1.0, 0.1, seed=2))
    n = compare.needed(undecided.n, 0.0, *[side or 0.0 for side in (undecided.low, undecided.high)], compare.BAND)
    shrunk = 0.1 * math.sqrt(undecided.n / n) * 0.95
    assert judge("time_to_fresh.p50", made(1.0, shrunk), made(1.0, shrunk, seed=2)).verdict == "same"


def test_pairs_cancel_what_both_runs_share() -> None:
    rng = np.random.default_rng(3)
    shared = rng.standard_normal(20)
    a, b = [Measured(1.0, 200, shared)], [Measured(1.02, 200, shared + math.log(1.02))]
    assert judge("time_to_fresh.p50", a, b, paired=True).verdict == "same"
    assert judge("time_to_fresh.p50", a, b, paired=False).verdict.startswith("undecided")


@pytest.mark.parametrize(
    ("a", "b", "verdict"),
    [
        (1.0, math.inf, "worse: never"),
        (math.inf, 1.0, "better: was never"),
        (math.inf, math.inf, "same: never"),
        (None, 1.0, "undecided: no figure"),
        (0.0, 0.0, "same"),
        (0.0, 1.0, "undecided: no ratio to zero"),
    ],
)
def test_figures_without_a_ratio(a: float | None, b: float | None, verdict: str) -> None:
    found = judge("time_to_fresh.p99", made(a), made(b))
    assert found.verdict == verdict
    json.dumps(compare.jsonable(found), allow_nan=False)


def test_few_updates_have_a_difference_but_no_verdict() -> None:
    found = judge("time_to_fresh.p50", [Measured(1.0, 3, np.array([]))], [Measured(1.1, 3, np.array([]))])
    assert found.relative == pytest.approx(0.1)
    assert found.verdict == "undecided: need n ≥ 100 for an interval"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    root = tmp_path_factory.mktemp("runs")
    changes = {
        "before": {},
        "again": {"seed": 2},
        "slower": {"policy.wait": 0.8},
        "longer": {"duration": 60.0},
    }
    return {name: sim.simulate(SCENARIO, change, output=root / name) for name, change in changes.items()}


def test_a_run_is_the_same_as_itself_in_every_figure(runs: dict[str, Run], tmp_path: Path) -> None:
    short = sim.simulate(SCENARIO, {"duration": 1.0, "policy.wait": 30.0, "workload.rate": 1.0}, output=tmp_path / "short")
    for run in (runs["before"], short):
        found = compare.compare(run, run)
        assert {difference.verdict.partition(":")[0] for difference in found} == {"same"}
        assert compare.headline(found) == f"{len(found)} same"


def test_a_run_made_again_is_the_same_too(runs: dict[str, Run], tmp_path: Path) -> None:
    again = sim.simulate(SCENARIO, output=tmp_path / "again")
    for found in compare.compare(runs["before"], again):
        assert found.verdict == "same" or found.verdict.startswith("undecided: need n ≥"), found
        assert found.relative in (0.0, None)


def test_several_runs_a_side_decide_what_one_does_not(runs: dict[str, Run], tmp_path: Path) -> None:
    sides = [
        [sim.simulate(SCENARIO, change | {"seed": seed}, output=tmp_path / f"{name}-{seed}") for seed in seeds]
        for name, change, seeds in (("before", {}, range(4)), ("after", {"policy.wait": 0.6}, range(10, 14)))
    ]
    found = {d.metric: d for d in compare.compare(*sides, varied=["policy.wait"])}
    single = {d.metric: d for d in compare.compare(sides[0][0], sides[1][0], varied=["policy.wait", "seed"])}
    p95, alone = found["time_to_fresh.p95"], single["time_to_fresh.p95"]
    assert alone.verdict == "undecided: need n ≥ 1,000 for an interval"
    assert p95.n > 3 * alone.n
    assert p95.low is not None


def test_the_first_line_says_what_changed_and_by_how_much(runs: dict[str, Run]) -> None:
    found = compare.compare(runs["before"], runs["slower"], varied=["policy.wait"])
    first = compare.written(found, "before", "slower").splitlines()[0]
    assert "worse: " in first
    changed = next(d for d in found if d.metric == "refetches_per_update")
    assert f"better: refetches_per_update {change(changed.relative or 0.0)} (" in first


def test_a_longer_wait_is_later_and_cheaper(runs: dict[str, Run]) -> None:
    found = {d.metric: d for d in compare.compare(runs["before"], runs["slower"], varied=["policy.wait"])}
    assert found["time_to_fresh.p50"].verdict == "worse"
    assert found["refetches_per_update"].verdict == "better"
    assert found["delivery_ratio"].verdict == "same"


def test_markdown_has_a_row_per_metric_and_names_both_runs(runs: dict[str, Run]) -> None:
    found = compare.compare(runs["before"], runs["slower"], varied=["policy"])
    text = compare.written(found, "before", "slower")
    assert text.startswith("### `slower` against `before`:")
    assert sum(line.startswith("| ") for line in text.splitlines()) == len(found) + 2
    assert "nan" not in text
    assert "workbench fit" not in text
    assert compare.OF_BOTH_SOURCES in compare.written(found, "before", "slower", of_both_sources=True)


@pytest.mark.parametrize(("other", "said"), [("slower", "policy.wait"), ("longer", "duration")])
def test_runs_of_different_scenarios_are_refused_by_name(runs: dict[str, Run], other: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        compare.compare(runs["before"], runs[other])


def test_another_seed_is_compared_when_it_is_meant(runs: dict[str, Run]) -> None:
    assert compare.compare([runs["before"]], [runs["again"]])


def test_an_interrupted_run_is_refused(runs: dict[str, Run], tmp_path: Path) -> None:
    broken = Run(runs["before"].directory)
    broken.manifest.partial = True
    with pytest.raises(BadInput, match="interrupted"):
        compare.compare(runs["before"], broken)


def test_names_do_not_tell_runs_apart() -> None:
    assert compare.differing_keys({"name": "a", "x": {"y": 1}}, {"name": "b", "x": {"y": 1}}) == []
    assert compare.differing_keys({"pages": [{"n": 1}, {"n": 2}]}, {"pages": [{"n": 1}, {"n": 3}]}) == ["pages.1.n"]
