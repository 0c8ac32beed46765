"""The flat summary: its figures on runs small enough to count by hand, and what it promises for every run."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from sim.results.summary import DESCRIPTIONS, summarise
from sim.scenario import Pages, Scenario
from tests.results.frames import NAN, Frames, frame, notification, random_run, refetch, update

SCENARIO = Scenario(duration=10.0, drain=3.0, pages=(Pages(subscribers=2),))


def two_pages() -> Frames:
    return Frames(
        frame("updates", [update(0, 1.0), update(1, 2.0)]),
        frame("notifications", [notification(0, 1, 1.1), notification(1, 1, 2.1), notification(0, 2, 1.3)]),
        frame(
            "refetches", [refetch(1, 1.6, 1), refetch(1, 2.6, 2, outcome="superseded"), refetch(1, 2.7, 2), refetch(2, 1.8, 1)]
        ),
        frame("subscriptions", [{"subscriber": 1}, {"subscriber": 2}]),
        frame("metrics", [{"at": 1.0, "metric": "lateness", "value": 0.002}, {"at": 2.0, "metric": "lateness", "value": 0.004}]),
    )


def value(summary: dict, name: str) -> object:
    return summary[name]["value"]


def test_figures_of_a_run_counted_by_hand() -> None:
    found = summarise(two_pages(), SCENARIO)
    assert value(found, "updates") == 2
    assert [value(found, f"deliveries.{k}") for k in ("expected", "received", "missing")] == [4, 3, 1]
    assert value(found, "delivery_ratio") == 0.75
    assert value(found, "time_to_notified.p50") == pytest.approx(0.1)
    assert value(found, "time_to_notified.max") == pytest.approx(0.3)
    assert value(found, "fan_out.spread.p99") == pytest.approx(0.198)
    assert value(found, "refetches") == 4
    assert value(found, "refetches_per_update") == 2.0
    assert value(found, "refetches.wasted") == 1
    assert value(found, "refetches_per_notification") == pytest.approx(4 / 3)
    assert value(found, "publisher_lateness.max") == pytest.approx(0.004)


def test_an_update_never_shown_is_counted_and_is_longer_than_any_other() -> None:
    found = summarise(two_pages(), SCENARIO)
    assert value(found, "starved_updates") == 1
    assert value(found, "starved_ratio") == 0.25
    # Four pairs: 0.7, 0.8, 0.9 and never.
    assert value(found, "time_to_fresh.p50") == pytest.approx(0.85)
    assert value(found, "time_to_fresh.p99") is None
    assert value(found, "time_to_fresh.mean") is None


def test_only_updates_of_the_window_count() -> None:
    scenario = Scenario(warmup=1.7, duration=10.0)
    found = summarise(two_pages(), scenario)
    assert value(found, "updates") == 1
    assert value(found, "deliveries.expected") == 2
    assert value(found, "refetches") == 3


def test_a_page_that_left_is_not_starved() -> None:
    run = two_pages()
    run.subscriptions.loc[1, "ended_at"] = 2.5
    found = summarise(run, SCENARIO)
    assert value(found, "left_before_fresh") == 1
    assert value(found, "starved_updates") == 0
    assert value(found, "time_to_fresh.max") == pytest.approx(0.9)


def test_a_failed_update_is_counted_and_nobody_waits_for_it() -> None:
    run = two_pages()
    run.updates.loc[1, ["committed_at", "published_at"]] = NAN
    found = summarise(run, SCENARIO)
    assert value(found, "updates.failed") == 1
    assert value(found, "deliveries.expected") == 2
    assert value(found, "starved_updates") == 0


@pytest.mark.parametrize("seed", range(4))
def test_any_run_gives_json_without_nan_and_intervals_around_their_figures(seed: int) -> None:
    found = summarise(random_run(seed, updates=200), SCENARIO)
    json.dumps(found, allow_nan=False)
    for name, row in found.items():
        assert set(row) == {"value", "ci_low", "ci_high", "n"}, name
        if row["ci_low"] is not None:
            assert row["ci_low"] <= row["value"] + 1e-12, name
        if row["ci_high"] is not None:
            assert row["value"] <= row["ci_high"] + 1e-12, name
    assert value(found, "deliveries.received") + value(found, "deliveries.missing") == value(found, "deliveries.expected")


def test_an_empty_run_has_every_figure_and_none_of_them_is_made_up() -> None:
    found = summarise(Frames(), SCENARIO)
    json.dumps(found, allow_nan=False)
    assert value(found, "updates") == 0
    assert value(found, "delivery_ratio") is None
    assert value(found, "time_to_fresh.p99") is None


def test_processor_time_is_charged_to_deliveries_and_refetches() -> None:
    run = two_pages()
    run.metrics = frame(
        "metrics",
        [
            {"at": at, "process": process, "metric": "cpu_seconds", "value": value}
            for process, rate in (("broadcaster", 0.1), ("application", 0.4), ("harness-0", 0.2), ("harness-1", 0.2))
            for at, value in ((0.0, 1.0), (5.0, 1.0 + 5 * rate))
        ],
    )
    found = summarise(run, SCENARIO)
    assert value(found, "cpu.harness") == pytest.approx(0.4)
    assert value(found, "cpu_per_delivery") == pytest.approx(0.5 / 3)
    assert value(found, "cpu_per_refetch") == pytest.approx(2.0 / 4)


def test_a_sample_of_the_subscribers_stands_for_all_of_them() -> None:
    run = two_pages()
    run.manifest = SimpleNamespace(window={}, sampling={"method": "subscribers", "share": 0.1})  # type: ignore[attr-defined]
    whole, sampled = summarise(two_pages(), SCENARIO), summarise(run, SCENARIO)
    assert value(sampled, "refetches") == 40
    assert value(sampled, "refetches_per_update") == pytest.approx(20.0)
    for name in ("delivery_ratio", "refetches_per_notification", "time_to_fresh.p50"):
        assert value(sampled, name) == value(whole, name)


def test_every_metric_is_described() -> None:
    run = two_pages()
    run.subscriptions["page"] = ["detail", "dashboard"]
    run.subscriptions["page"] = run.subscriptions["page"].astype("category")
    for name in summarise(run, SCENARIO):
        stems = [name.rsplit(".", i)[0] for i in range(name.count(".") + 1)]
        assert any(stem in DESCRIPTIONS for stem in stems), name
