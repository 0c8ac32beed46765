"""The knee over subscribers: bracketed and halved, within its time, and nothing lost that was found."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.commands.measuring.climb import PRECISION, Climb, climb, expected, heading, line
from sim.commands.measuring.outcome import LoadTestOutcome
from sim.commands.measuring.search import SearchStep
from sim.experiments.advice import Bracket
from sim.scenario import Scenario

SUMMARY = {"time_to_fresh.p95": {"value": 1.23, "ci_low": 1.1, "ci_high": 1.4, "n": 9}, "delivery_ratio": {"value": 1.0, "n": 9}}
GOOD = LoadTestOutcome(Path("runs/x"), "x", SUMMARY, {}, {"missing.target": 0}, (), (), (), 1.0)


def taken(size: int, knee: float, **members: Any) -> SearchStep:
    return SearchStep(size, replace(GOOD, **members), "" if size <= knee else "too late")


@given(knee=st.integers(1, 400_000), first=st.floats(0.4, 500_000))
def test_the_bracket_holds_the_knee_and_is_narrow(knee: int, first: float) -> None:
    found = Climb()
    steps = list(climb(found, lambda size: taken(size, knee), first, math.inf))
    held, missed = found.bracket
    assert held <= knee < missed
    assert missed <= held * (1 + PRECISION) or missed == held + 1
    assert len({step.value for step in steps}) == len(steps) < 30
    assert found.agrees(knee, knee) == (True, "yes: the ranges meet")


def test_no_load_holds_or_all_do() -> None:
    none, every = Climb(), Climb()
    assert [step.value for step in climb(none, lambda size: taken(size, 0), 4, math.inf)] == [4, 2, 1]
    assert none.words() == "none held, 1 do not"
    assert len(list(climb(every, lambda size: taken(size, math.inf), 250_000, math.inf))) == 3
    assert every.words() == "1,000,000 subscribers hold, the knee lies above"
    assert every.agrees(1, 2_000_000)[0] is None
    assert every.agrees(1, 500_000) == (False, "no: 2 times what was predicted hold, or more")
    assert none.agrees(2, 3) == (False, "no: 0.5 times what was predicted do not hold")


def test_another_load_test_that_would_not_end_in_time_is_not_begun() -> None:
    now = iter(range(0, 1000, 5))  # seconds: the beginning, then begin and end of each load test
    found = Climb()
    steps = list(climb(found, lambda size: taken(size, 250), 100, budget=21, clock=lambda: float(next(now))))
    assert [step.value for step in steps] == [100, 200]
    assert found.words() == "200 subscribers hold, the knee lies above (there was no time for another load test)"


def test_an_interrupted_load_test_judges_nothing_and_ends_the_climb() -> None:
    found = Climb()

    def test(size: int) -> SearchStep:
        return taken(size, 300) if size < 400 else taken(size, 300, interrupted="SIGINT", reasons=("cut",))

    assert [step.value for step in climb(found, test, 100, math.inf)] == [100, 200, 400]
    assert found.words() == "200 subscribers hold, the knee lies above (it was interrupted)"
    assert found.to_dict()["missed"] is None


def test_what_was_found_outlives_an_error() -> None:
    found = Climb()

    def test(size: int) -> SearchStep:
        if size > 100:
            raise OSError("no more descriptors")
        return taken(size, 300)

    with pytest.raises(OSError, match="no more"):
        list(climb(found, test, 100, math.inf))
    assert found.bracket == Bracket(100)


def test_a_load_that_the_harness_could_not_judge_decides_no_agreement() -> None:
    found = Climb()
    list(climb(found, lambda size: taken(size, 100, reasons=("too busy",) if size > 100 else ()), 100, math.inf))
    assert found.words().startswith("100 subscribers hold, 1")
    assert "could not be judged" in found.words()
    assert found.agrees(50, 200) == (None, "not decided: no load was seen to be too much")


def test_a_line_for_each_load_test() -> None:
    assert heading("time_to_fresh.p95").split()[:2] == ["users", "time_to_fresh.p95"]
    for knee, metric, cells in (
        (9, "p95", ["5", "1.23 s", "1.1 s to 1.4 s", "100 %", "holds"]),
        (1, "p97", ["5", "–", "–", "100 %", "too late"]),
    ):
        assert re.split(r"\s{2,}", line(taken(5, knee), f"time_to_fresh.{metric}").strip()) == cells


def test_the_time_that_it_takes_is_said_before() -> None:
    count, seconds = expected(Scenario(warmup=1.0, duration=20.0, drain=4.0), 1000)
    assert count == len(list(climb(Climb(), lambda size: taken(size, 1000), 500, math.inf)))
    assert seconds > count * 25


@pytest.mark.parametrize(
    ("throughput", "said"),
    [
        (
            lambda n: 50 * n / (1 + 0.02 * (n - 1) + 0.0001 * n * (n - 1)),
            "contention 0.02, coherence 0.0001: throughput is largest at 99",
        ),
        (lambda n: 50 * n, "not fitted: throughput grows in proportion to the load"),
    ],
)
def test_scalability_is_fitted_where_it_is_seen(throughput: Any, said: str) -> None:
    loads = (320, 10, 40, 20, 80, 160)
    steps = [taken(n, 0, summary={"deliveries.received": {"value": 20 * throughput(float(n))}}) for n in loads]
    assert Climb(steps).scalability(20.0).startswith(said)
    assert "needs 6 different loads" in Climb(steps[:4]).scalability(20.0)
