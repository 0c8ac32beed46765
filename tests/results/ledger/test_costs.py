"""Costs of a run from its counters: growth over processes, per event and per refetch; nothing where nothing was counted."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from sim.results.ledger import costs
from sim.results.run import Run, RunWriter
from sim.scenario import Pages, Scenario
from tests.results.frames import frame, notification, refetch, update

SCENARIO = Scenario(duration=10.0, pages=(Pages("dashboard", 3),))


def run(tmp_path: Path, *, metrics: list[dict[str, Any]] = [], events: int = 2) -> Run:  # noqa: B006
    board = {"page": "dashboard", "resource": "dashboard", "resource_id": 0, "channel": "private-servers"}
    tables = {
        "updates": frame("updates", [update(i, 1.0 + i) for i in range(events)]),
        "notifications": frame(
            "notifications",
            [notification(i, s, 1.02 + i + 0.1 * s, channel="private-servers") for i in range(events) for s in range(3)],
        ),
        "refetches": frame("refetches", [refetch(s, 1.5 + i, i + 1, bytes=1000) for i in range(events) for s in range(3)]),
        "subscriptions": frame("subscriptions", [{"subscriber": s} | board for s in range(3)]),
        "pages": frame(
            "pages", [{"subscriber": s, "page": "dashboard", "resource": "dashboard", "resource_id": 0} for s in range(3)]
        ),
        "metrics": frame("metrics", metrics),
    }
    with RunWriter(tmp_path / "run", SCENARIO, source="measured", command="") as writer:
        for name, rows in tables.items():
            writer.append(name, {column: rows[column] for column in rows.columns})
        return writer.close()


def samples(process: str, metric: str, *values: float) -> list[dict[str, Any]]:
    return [{"at": float(i), "process": process, "metric": metric, "value": value} for i, value in enumerate(values)]


def test_a_counter_grows_from_its_first_sample_to_its_last_over_all_nodes(tmp_path: Path) -> None:
    metrics = samples("broadcaster", "cpu_seconds", 1.0, 1.5, 3.0) + samples("broadcaster-1", "cpu_seconds", 2.0, 2.5)
    metrics += samples("application", "cpu_seconds", 10.0, 20.0)
    found = run(tmp_path, metrics=metrics)
    assert costs.growth(found, "broadcaster", "cpu_seconds") == 2.5
    assert costs.growth(found, "application", "cpu_seconds") == 10.0
    assert math.isnan(costs.growth(found, "publisher", "cpu_seconds"))
    assert costs.level(found, "broadcaster", "cpu_seconds") == 5.5


def test_costs_are_per_event_delivery_and_refetch(tmp_path: Path) -> None:
    metrics = samples("broadcaster", "cpu_seconds", 0.0, 0.6) + samples("application", "cpu_seconds", 1.0, 1.3)
    metrics += samples("broadcaster", "broadcaster_messages_sent_total", 0.0, 6.0)
    metrics += samples("broadcaster", "broadcaster_bytes_sent_total", 0.0, 1200.0)
    found = costs.costs(run(tmp_path, metrics=metrics))
    assert (found["events"], found["deliveries"], found["receivers"], found["refetches"]) == (2, 6, 3, 6)
    assert found["cpu_per_event"] == pytest.approx(0.3)
    assert found["cpu_per_delivery"] == pytest.approx(0.1)
    assert found["bytes_per_delivery"] == 200
    assert found["cpu_per_refetch"] == pytest.approx(0.05)
    assert found["bytes_per_refetch"] == 1000


def test_a_run_without_counters_has_counts_and_no_costs(tmp_path: Path) -> None:
    found = costs.costs(run(tmp_path))
    assert found["deliveries"] == 6
    assert math.isnan(found["cpu_per_delivery"])
    assert math.isnan(found["memory"])


def test_a_run_without_events_costs_nothing_that_could_be_divided(tmp_path: Path) -> None:
    found = costs.costs(run(tmp_path, events=0))
    assert found["deliveries"] == 0
    assert all(math.isnan(found[name]) for name in ("receivers", "cpu_per_delivery", "bytes_per_refetch"))


def test_arrivals_are_counted_from_the_commit(tmp_path: Path) -> None:
    events = costs.arrivals(run(tmp_path))
    assert events["receivers"].tolist() == [3, 3]
    assert events["first"].tolist() == pytest.approx([0.01, 0.01])
    assert events["spread"].tolist() == pytest.approx([0.2, 0.2])


def test_cpu_share_is_what_was_used_between_samples(tmp_path: Path) -> None:
    metrics = samples("application", "cpu_seconds", 0.0, 0.5, 0.5)
    shares = costs.cpu_share(run(tmp_path, metrics=metrics))
    pd.testing.assert_frame_equal(shares, pd.DataFrame({"at": [1.0, 2.0], "share": [0.5, 0.0]}))
