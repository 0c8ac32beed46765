"""The flat summary: its figures on runs small enough to count by hand, and what it promises for every run."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

import sim
from sim.results.frames import typed
from sim.results.summary import metric_of, summarise
from sim.results.upgrade import upgraded
from sim.scenario import Pages, Scenario, build
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
    assert value(found, "fan_out.spread.p99") == pytest.approx(0.2)
    assert value(found, "refetches") == 4
    assert value(found, "refetches_per_update") == 2.0
    assert value(found, "refetches.wasted") == 1
    assert value(found, "refetches_per_notification") == pytest.approx(4 / 3)
    assert value(found, "publisher_lateness.max") == pytest.approx(0.004)


@pytest.mark.parametrize(("rule", "late"), [("overlap", [0.0, 0.3, 0.1, 0.1]), ("single_flight", [0.0, 0.05, 0.1, 0.1])])
def test_who_waits_for_the_answer_before_is_not_late(rule: str, late: list[float]) -> None:
    """Due at 1, 1.2 and 3 s; the second is sent at 1.5 s, because the first of its page was answered at 1.45 s. The other page
    waits for nobody."""
    rows = [(1, 1.0, 1.0, 1.45), (2, 1.4, 1.5, 1.55), (1, 1.2, 1.5, 1.6), (1, 3.0, 3.1, 3.2)]
    sent = [refetch(page, start, 1, due_at=due, finished_at=end) for page, due, start, end in rows]
    frames = two_pages()
    frames.refetches = frame("refetches", sent)
    found = summarise(frames, SCENARIO.replace({"in_flight": rule}))
    assert value(found, "refetch_delay.mean") == pytest.approx(sum(late) / 4)
    assert value(found, "refetch_delay.max") == pytest.approx(max(late))


def test_a_hidden_tab_whose_timer_is_held_back_is_not_late() -> None:
    scenario = Scenario(duration=20, cooldown=0, pages=(Pages(subscribers=8, hidden=0.5),))
    tables = sim.simulate(scenario)
    assert (tables.refetches["started_at"] - tables.refetches["due_at"]).max() > 0.1
    assert value(summarise(tables), "refetch_delay.max") == pytest.approx(0, abs=1e-6)


def test_an_update_never_shown_is_counted_and_is_longer_than_any_other() -> None:
    found = summarise(two_pages(), SCENARIO)
    assert value(found, "starved_updates") == 1
    assert value(found, "starved_ratio") == 0.25
    # Four pairs: 0.7, 0.8, 0.9 and never.
    assert value(found, "time_to_fresh.p50") == pytest.approx(0.8)
    for figure in ("p99", "mean", "max"):
        assert value(found, f"time_to_fresh.{figure}") is None
        assert found[f"time_to_fresh.{figure}"]["never"]
    assert value(found, "time_to_fresh.mean_of_shown") == pytest.approx(0.8)


def test_only_updates_of_the_window_count() -> None:
    scenario = Scenario(warmup=1.65, duration=10.0)
    found = summarise(two_pages(), scenario)
    assert value(found, "updates") == 1
    assert value(found, "deliveries.expected") == 2
    assert value(found, "refetches") == 3


def test_a_page_that_left_is_not_starved() -> None:
    run = two_pages()
    run.pages.loc[1, "closed_at"] = 2.5
    found = summarise(run, SCENARIO)
    assert value(found, "left_before_fresh") == 1
    assert value(found, "starved_updates") == 0
    assert value(found, "time_to_fresh.max") == pytest.approx(0.9)


def test_a_failed_update_is_counted_and_nobody_waits_for_it() -> None:
    run = two_pages()
    run.updates = frame("updates", [update(0, 1.0), update(1, 2.0, committed_at=NAN, published_at=NAN, status="failed")])
    found = summarise(run, SCENARIO)
    assert value(found, "updates.failed") == 1
    assert value(found, "deliveries.expected") == 2
    assert value(found, "starved_updates") == 0


@pytest.mark.parametrize("seed", range(4))
def test_any_run_gives_json_without_nan_and_intervals_around_their_figures(seed: int) -> None:
    found = summarise(random_run(seed, updates=200), SCENARIO)
    json.dumps(found, allow_nan=False)
    for name, row in found.items():
        assert set(row) - {"never"} == {"value", "ci_low", "ci_high", "n"}, name
        if row["ci_low"] is not None and row["value"] is not None:
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


def test_rows_of_a_share_of_the_pages_stand_for_all_of_them() -> None:
    run = two_pages()
    run.pages["weight"] = [10.0, 10.0]
    whole, sampled = summarise(two_pages(), SCENARIO), summarise(run, SCENARIO)
    for name in ("refetches", "deliveries.received", "pairs.never", "pages.stale_at_end", "refetch_rate.peak"):
        assert value(sampled, name) == pytest.approx(10 * whole[name]["value"]), name
        assert sampled[name]["source"] == "sample"
    for name in ("delivery_ratio", "refetches_per_notification", "time_to_fresh.p50", "stale_ratio", "starved_updates"):
        assert value(sampled, name) == pytest.approx(whole[name]["value"]), name


def test_what_is_unknown_takes_part_in_no_figure_and_too_much_of_it_leaves_none() -> None:
    run = two_pages()
    run.updates = frame("updates", [update(0, 1.0), update(1, 2.0) | {"version": None}])
    found = summarise(run, SCENARIO)
    assert value(found, "pairs.unknown") == 2
    for name in ("time_to_fresh.p50", "time_to_fresh.mean", "starved_ratio", "stale_ratio"):
        assert value(found, name) is None
        assert "never" not in found[name]
    assert value(found, "delivery_ratio") == 0.75


def test_percentiles_that_a_threshold_asks_for_are_there() -> None:
    scenario = SCENARIO.replace({"thresholds": {"time_to_notified_ms": "p(99.9) < 500 and p(75) < 400"}})
    found = summarise(two_pages(), scenario)
    assert value(found, "time_to_notified.p99.9") == pytest.approx(0.3)
    assert value(found, "time_to_notified.p75") == pytest.approx(0.3)


def test_every_metric_is_described() -> None:
    run = two_pages()
    run.pages["page"] = ["detail", "dashboard"]
    run.pages["page"] = run.pages["page"].astype("category")
    for name in summarise(run, SCENARIO):
        assert metric_of(name) is not None, name
    for name in ("time_to_fresh.p99.9", "time_to_fresh.dashboard.p50", "cpu.broadcaster", "refetch_time.max"):
        assert metric_of(name) is not None, name
    for name in (
        "time_to_fresh",
        "time_to_fresh.p0",
        "time_to_fresh.p100",
        "updates.mean",
        "fan_out.first.max",
        "cpu",
        "nothing",
    ):
        assert metric_of(name) is None, name


EXAMPLES = json.loads((Path(__file__).parents[1] / "data" / "ledger-examples.json").read_text())


@pytest.mark.parametrize("example", EXAMPLES["examples"], ids=lambda example: example["name"])
def test_examples_worked_out_by_hand(example: dict[str, Any]) -> None:
    manifest, tables = EXAMPLES["manifest"], {"metrics": frame("metrics", [])}
    for name, columns in EXAMPLES["columns"].items():
        if name in example["tables"]:
            rows = pd.DataFrame(example["tables"][name], columns=columns)
            tables[name] = typed(name, {column: rows[column] for column in columns})
    run = SimpleNamespace(manifest=SimpleNamespace(source=manifest["source"], window=manifest["window"]), **upgraded(tables))
    found = summarise(run, build(Scenario, manifest["scenario"], where=example["name"]))
    for name, right in example["right"].items():
        got = "never" if found[name].get("never") else found[name]["value"]
        assert got == (right if isinstance(right, str) else pytest.approx(right)), name


def test_a_bundle_gives_the_figures_that_it_was_written_with(tmp_path: Path) -> None:
    scenario = SCENARIO.replace({"pages": [{"page": "detail", "subscribers": 4}, {"page": "dashboard", "subscribers": 2}]})
    run = sim.simulate(scenario, output=tmp_path / "run")
    again = summarise(run)
    assert again == run.summary


def test_samples_count_that_lie_in_the_window() -> None:
    """From 2 to 12 s. The publisher's lateness is noted at the instant of the change: the first counts, the one at the end does
    not. A simulator's sample is of the time since the one before it: of those in the window a share has its mean over that time
    (here 1 s and 9 s), a peak its most, and a count is what it was at last."""
    late = [(2.0, 0.009), (5.0, 0.001), (12.0, 0.5), (1.0, 0.5)]
    seconds = {
        "busy_ratio": [(2.0, 0.9), (3.0, 0.2), (12.0, 0.4), (13.0, 0.9)],
        "in_flight_peak": [(2.0, 99.0), (3.0, 7.0), (4.0, 3.0), (13.0, 99.0)],
        "refused": [(3.0, 1.0), (4.0, 5.0)],
    }
    rows = [{"at": at, "metric": "lateness", "value": value} for at, value in late]
    for metric, samples in seconds.items():
        rows += [{"at": at, "process": "application", "metric": metric, "value": value} for at, value in samples]
    rows.append({"at": 15.0, "process": "application", "metric": "queue_peak", "value": 4.0})
    rows.append({"at": 5.0, "process": "harness-0", "metric": "cpu_seconds", "value": 3.0})
    frames = two_pages()
    frames.metrics = frame("metrics", rows)
    found = summarise(frames, SCENARIO.replace({"warmup": 2.0}))
    assert value(found, "publisher_lateness.max") == 0.009
    assert found["publisher_lateness.max"]["n"] == 2
    assert value(found, "application.busy_ratio") == pytest.approx(0.1 * 0.2 + 0.9 * 0.4)
    assert value(found, "application.in_flight_peak") == 7.0
    assert value(found, "application.refused") == 5.0
    assert value(found, "application.queue_peak") == 4.0, "said once, at the end"
    assert "cpu.harness" not in found, "one sample tells no rate"


def test_what_is_better_when_there_is_more_of_it() -> None:
    assert {name for name in summarise(two_pages(), SCENARIO) if metric_of(name).more_is_better} == {"delivery_ratio"}
