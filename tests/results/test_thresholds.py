"""The grammar of thresholds, and what they make of a summary."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import sim
from sim.errors import BadInput
from sim.results.thresholds import check, complete, parse, parse_all
from sim.scenario import Pages, Scenario

SUMMARY = {
    "time_to_fresh.p50": {"value": 0.6, "n": 50},
    "time_to_fresh.p99": {"value": 1.4999, "n": 50},
    "time_to_fresh.mean": {"value": 0.7, "n": 50},
    "time_to_notified.p99": {"value": None, "n": 50},
    "time_to_fresh.max": {"value": None, "n": 50, "never": True},
    "delivery_ratio": {"value": 0.9999, "n": 50},
    "deliveries.received": {"value": 10_000, "n": 50},
    "updates": {"value": 0, "n": 0},
}


@pytest.mark.parametrize(
    ("metric", "text", "ok"),
    [
        ("time_to_fresh_ms", "p(99) < 1500", True),
        ("time_to_fresh_ms", "p(99)<1499.9", False),
        ("time_to_fresh", "p(99) < 1.5", True),
        ("time_to_fresh", "mean <= 0.7 and p( 50 ) <= 0.6", True),
        ("time_to_fresh", "mean <= 0.7, p(50) < 0.6", False),
        ("delivery_ratio", "value >= 0.9999", True),
        ("delivery_ratio", "value == 1", False),
        ("delivery_ratio", "value != 1", True),
        ("samples", "deliveries >= 10_000", True),
        ("samples", "deliveries > 1e4", False),
        ("time_to_fresh_ms", "p(99) < 1500 or abort", True),
    ],
)
def test_conditions(metric: str, text: str, ok: bool) -> None:
    assert all(found.ok for found in check(parse(metric, text), SUMMARY)) == ok


def test_a_figure_without_samples_fails_whatever_is_asked() -> None:
    for metric, text in [("samples", "updates >= 0"), ("time_to_notified", "p(99) < 1000"), ("time_to_notified", "p(99) > 0")]:
        (found,) = check(parse(metric, text), SUMMARY)
        assert not found.ok
        assert found.value is None
        assert "no samples" in found.text


def test_abort_belongs_to_every_condition_of_its_line() -> None:
    assert [t.abort for t in parse("time_to_fresh", "p(50) < 1 and p(99) < 2 or abort")] == [True, True]
    assert [t.abort for t in parse("time_to_fresh", "p(50) < 1")] == [False]


@pytest.mark.parametrize(
    ("metric", "text", "said"),
    [
        ("time_to_fresh", "fast", "must be FIGURE OP NUMBER"),
        ("time_to_fresh", "p(99) < fast", "must be FIGURE OP NUMBER"),
        ("time_to_fresh", "p(99) < 1 < 2", "must be FIGURE OP NUMBER"),
        ("time_to_fresh", "", "must be FIGURE OP NUMBER"),
        ("time_to_fresh", "median < 1", "known: p"),
        ("samples", "delivries > 1", "did you mean 'deliveries'"),
    ],
)
def test_what_is_no_condition(metric: str, text: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        parse(metric, text)


@pytest.mark.parametrize(
    ("metric", "text", "said"),
    [
        ("time_to_frsh_ms", "p(99) < 1", "did you mean 'time_to_fresh'"),
        ("delivery_ratio", "p(99) > 0.9", "write 'value'"),
        ("time_to_fresh", "value < 1", "time_to_fresh has no 'value'"),
        ("time_to_fresh", "p(100) < 1", "time_to_fresh has no"),
        ("updates_ms", "value > 1", "updates is no time"),
        ("unheard.of", "value > 1", "no such metric"),
    ],
)
def test_a_figure_that_no_run_has_is_refused_before_anything_runs(metric: str, text: str, said: str) -> None:
    with pytest.raises(BadInput, match=re.escape(said)):
        parse_all({metric: text})


def test_never_fails_whatever_is_asked_and_says_so() -> None:
    for text in ("max < 1e9", "max > 0"):
        (found,) = check(parse("time_to_fresh_ms", text), SUMMARY)
        assert (found.ok, found.value, found.got) == (False, None, "never")


def test_a_percentile_that_a_bundle_was_not_written_with_is_worked_out_from_its_rows(tmp_path: Path) -> None:
    run = sim.simulate(Scenario(duration=10.0, pages=(Pages(subscribers=3),)), output=tmp_path / "run")
    wanted = parse_all({"time_to_fresh_ms": "p(99.9) > 0", "delivery_ratio": "value > 0.5"})
    assert [found.ok for found in check(wanted, run.summary)] == [False, True]
    assert [found.ok for found in check(wanted, complete(wanted, run))] == [True, True]
