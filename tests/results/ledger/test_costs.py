"""Costs of a run from its counters: growth over processes, per event and per refetch; nothing where nothing was counted."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from sim.results.ledger import costs
from sim.results.ledger.book import ledger_of
from sim.results.run import Run, RunWriter
from sim.scenario import Pages, Scenario
from tests.results.frames import frame, notification, refetch, update

SCENARIO = Scenario(duration=10.0, pages=(Pages("dashboard", 3),))


def run(
    tmp_path: Path,
    *,
    metrics: list[dict[str, Any]] = [],  # noqa: B006
    events: int = 2,
    warmup: float = 0.0,
    until: float = 10.0,
    weight: float = 1.0,
) -> Run:
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
            "pages",
            [
                {"subscriber": s, "page": "dashboard", "resource": "dashboard", "resource_id": 0, "weight": weight}
                for s in range(3)
            ],
        ),
        "metrics": frame("metrics", metrics),
    }
    with RunWriter(tmp_path / "run", SCENARIO, source="measured", command="") as writer:
        writer.manifest.window = {"warmup": warmup, "start": warmup, "end": until, "cooldown": 0.0, "drain": 0.0}
        for name, rows in tables.items():
            writer.append(name, {column: rows[column] for column in rows.columns})
        return writer.close()


def samples(process: str, metric: str, *values: float, every: float = 1.0) -> list[dict[str, Any]]:
    return [{"at": i * every, "process": process, "metric": metric, "value": value} for i, value in enumerate(values)]


def test_what_was_spent_and_what_was_done_are_of_the_same_time(tmp_path: Path) -> None:
    # Samples at 0, 2, ...: the event at 1 is before the window, as are the handshakes in the first sample; the last lies beyond.
    metrics = samples("broadcaster", "cpu_seconds", 5.0, 8.0, 8.5, 9.0, 30.0, every=2.0)
    metrics += samples("broadcaster-1", "cpu_seconds", 1.0, 2.0, 2.1, 2.2, 9.0, every=2.0)
    found = run(tmp_path, metrics=metrics, events=4, warmup=1.5, until=6.0)
    spent = costs.spent(ledger_of(found), "broadcaster")
    assert spent["seconds"].tolist() == [2.0, 2.0]
    assert spent["used"].tolist() == pytest.approx([0.6, 0.6])
    assert spent["events"].tolist() == [2, 1]
    assert spent["deliveries"].tolist() == [6, 3]
    assert costs.costs(found)["cpu_per_event"] == pytest.approx(1.2 / 3)
    assert costs.spent(ledger_of(found), "publisher").empty
    assert costs.level(ledger_of(found), "broadcaster", "cpu_seconds") == 11.2


def test_a_load_process_that_counts_for_itself_is_not_counted_twice(tmp_path: Path) -> None:
    metrics = samples("harness", "cpu_seconds", 0.0, 1.0, 2.0) + samples("harness", "descriptors", 9.0, 9.0, 9.0)
    own = [row | {"at": row["at"] + 0.5} for row in samples("harness", "cpu_seconds", 100.0, 101.0, 102.0)]
    assert costs.spent(ledger_of(run(tmp_path, metrics=metrics + own)), "harness")["used"].tolist() == [1.0, 1.0]


def test_of_a_node_that_ended_early_what_all_were_sampled_for_counts(tmp_path: Path) -> None:
    metrics = samples("broadcaster", "cpu_seconds", 0.0, 1.0, 3.0) + samples("broadcaster-1", "cpu_seconds", 0.0, 4.0)
    spent = costs.spent(ledger_of(run(tmp_path, metrics=metrics)), "broadcaster")
    assert (spent["seconds"].tolist(), spent["used"].tolist()) == ([1.0], [5.0])


def test_costs_are_per_event_delivery_and_refetch(tmp_path: Path) -> None:
    metrics = samples("broadcaster", "cpu_seconds", 0.0, 0.6, every=5.0) + samples(
        "application", "cpu_seconds", 1.0, 1.3, every=5.0
    )
    metrics += samples("broadcaster", "broadcaster_messages_sent_total", 0.0, 6.0, every=5.0)
    metrics += samples("broadcaster", "broadcaster_bytes_sent_total", 0.0, 1200.0, every=5.0)
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


def test_ranks_of_a_random_sample_are_the_expected_ones(tmp_path: Path) -> None:
    events = costs.arrivals(run(tmp_path, weight=4.0))
    assert events["receivers"].tolist() == [12, 12]
    assert costs.costs(run(tmp_path / "again", weight=4.0))["bytes_per_refetch"] == 1000
    assert events["first_rank"].tolist() == [13 / 4, 13 / 4]
    assert events["ranks"].tolist() == [13 / 4 * 2, 13 / 4 * 2]
