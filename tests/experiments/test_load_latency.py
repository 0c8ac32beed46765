"""Load against latency: the closed form of M/M/c by hand and by the engine, the knee where it is defined, saturation."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.errors import BadInput
from sim.experiments import load_latency
from sim.virtual import theory

SERVICE = 0.001


def test_one_worker_by_hand() -> None:
    for rate in (0.0, 300.0, 900.0):
        by_hand = -SERVICE * math.log(0.01) / (1 - rate * SERVICE)
        assert theory.response_quantile(0.99, rate, 1, SERVICE) == pytest.approx(by_hand)
    assert theory.response_quantile(1.0, 300.0, 1, SERVICE) == math.inf
    with pytest.raises(BadInput, match="utilisation 1"):
        theory.response_quantile(0.5, 1000.0, 1, SERVICE)


def test_two_workers_against_lindley() -> None:
    """M/M/2 at 70 %, drawn: each arrival takes the worker that is free first."""
    draws = np.random.default_rng(1)
    count, load = 200_000, 1.4
    arrivals, services = np.cumsum(draws.exponential(1 / load, count)), draws.exponential(1.0, count)
    free, took = [0.0, 0.0], np.empty(count)
    for i, (at, service) in enumerate(zip(arrivals.tolist(), services.tolist(), strict=True)):
        worker = 0 if free[0] <= free[1] else 1
        free[worker] = max(at, free[worker]) + service
        took[i] = free[worker] - at
    for q in (0.5, 0.9, 0.99):
        below = float((took <= theory.response_quantile(q, load, 2, 1.0)).mean())
        assert below == pytest.approx(q, abs=0.01)


PER_MILLE = st.integers(0, 990).map(lambda load: load / 1000)


@given(workers=st.integers(1, 40), busy=PER_MILLE, more=PER_MILLE, q=st.floats(0.01, 0.999))
def test_more_load_never_answers_sooner(workers: int, busy: float, more: float, q: float) -> None:
    low, high = sorted((busy, more))
    at = [theory.response_quantile(q, load * workers / SERVICE, workers, SERVICE) for load in (low, high)]
    assert at[0] <= at[1] * (1 + 1e-9)
    assert at[0] >= theory.response_quantile(q, 0.0, workers, SERVICE) * (1 - 1e-9)


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_the_knee_is_where_the_tail_is_twice_its_idle_value(workers: int) -> None:
    bend = load_latency.knee(SERVICE, workers)
    idle, there = (load_latency.FIXED + theory.response_quantile(0.99, rate, workers, SERVICE) for rate in (0.0, bend))
    assert there == pytest.approx(2 * idle, rel=1e-5)
    assert 0 < bend < workers / SERVICE
    assert theory.response_knee(1, SERVICE) == pytest.approx(0.5 / SERVICE, rel=1e-6)
    with pytest.raises(BadInput, match="factor"):
        theory.response_knee(1, SERVICE, 1.0)


def test_more_workers_have_their_knee_nearer_to_their_capacity() -> None:
    assert load_latency.knees(SERVICE, (1, 2, 4, 8))["share"].is_monotonic_increasing


def test_simulation_closed_form_knee_and_saturation() -> None:
    points = load_latency.simulated((0.1, 0.5, 0.9, 1.3), SERVICE, refetches=13_000)
    beside = load_latency.beside(points, SERVICE)
    assert len(beside) == 6
    assert load_latency.agree(beside)[0]
    assert not load_latency.agree(beside.assign(holds=False))[0]
    low, high = load_latency.bracket(points, SERVICE)
    assert load_latency.brackets(load_latency.knee(SERVICE), (low, high))[0]
    assert not load_latency.brackets(low / 2, (low, high))[0]
    assert load_latency.falls_behind(points)[0]
    assert not load_latency.falls_behind(points[points["utilisation"] < 1])[0]
    last = points.iloc[-1]
    assert last["delivered_low"] < 1 / SERVICE
    assert last["delivered"] < last["offered"]
    assert (points["fresh_p50"] > points["p50"])[points["utilisation"] < 1].all()


def test_the_bracket_is_open_where_nothing_is_sure() -> None:
    points = pd.DataFrame({"offered": [1.0, 2.0], "p99_low": [0.0, 0.0], "p99_high": [9.0, 9.0]})
    assert load_latency.bracket(points, SERVICE) == (0.0, math.inf)
    nothing_seen, words = load_latency.brackets(5.0, (0.0, math.inf))
    assert not nothing_seen
    assert words.endswith("and ∞")


def test_each_quantile_and_each_load_has_a_row_to_draw() -> None:
    points = pd.DataFrame(
        {"offered": [500.0, 1200.0], "utilisation": [0.5, 1.2], "delivered": [500.0, 1000.0], "p50": 1e-3, "p99": 4e-3}
        | {"p99_low": 3e-3, "p99_high": 5e-3, "delivered_low": 480.0, "source": "simulated"}
    )
    rows = load_latency.responses(pd.concat([load_latency.theory((0.2, 0.5, 0.8, 1.2), SERVICE), points]))
    assert rows.groupby(["source", "group"]).size().to_dict() == {
        ("simulated", "p50"): 2,
        ("simulated", "p99"): 2,
        ("theory", "p50"): 3,
        ("theory", "p99"): 3,
    }
    tail = rows[(rows["group"] == "p99") & (rows["source"] == "simulated")]
    assert tail[["response", "low", "high"]].to_numpy().tolist() == [[4e-3, 3e-3, 5e-3]] * 2
    assert load_latency.answered(points)["low"].tolist() == [480.0, 480.0]
