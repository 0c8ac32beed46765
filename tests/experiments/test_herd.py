"""Herds: found in refetches, in flight, spread by jitter, tamed, and dead after an outage where theory says so."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sim.distributions import Constant
from sim.experiments import herd
from sim.policy import Debounce
from sim.results.statistics import mean_of
from sim.scenario import Api, Fleet, Pages, Scenario
from sim.workload import Regular
from tests.results.frames import Frames, frame, refetch

SCENARIO = Scenario(
    duration=40.0,
    fleet=Fleet(users=10),
    workload=Regular(rate=0.1),
    pages=(Pages("dashboard", 400),),
    policy=Debounce(wait=0.5),
    api=Api(workers=4, service=Constant(0.01)),
)


def test_in_flight_counts_what_was_sent_and_not_yet_answered() -> None:
    run = Frames(refetches=frame("refetches", [refetch(i, 1.0 + 0.1 * i, 1, took=0.25) for i in range(4)]))
    running = herd.in_flight(run)["running"]
    assert running.max() == 3
    assert running.iloc[-1] == 0
    assert herd.in_flight(run, share=0.5)["running"].max() == 6
    assert herd.in_flight(Frames()).empty


def test_mean_over_herds_has_an_interval_from_five_on() -> None:
    assert mean_of(pd.Series([1.0, 2.0])).low is None
    estimate = mean_of(pd.Series([1.0, 2.0, 3.0, 4.0, 5.0]))
    assert estimate.value == 3.0
    assert estimate.low is not None
    assert estimate.low < 3.0 < (estimate.high or 0.0)
    assert mean_of(pd.Series([], dtype=float)).value is None


def test_jitter_is_free_up_to_the_drain_and_no_further() -> None:
    drain = 400 * 0.01 / 4
    frame = herd.jitters(400, 0.01, 4, [0.0, drain / 2, 2 * drain])
    assert herd.jitter_error(frame) < 0.03
    means = frame[frame["source"] == "simulated"]["mean"].tolist()
    assert means[1] == pytest.approx(means[0], rel=0.05)
    assert means[2] > 1.7 * means[0]


def test_pages_from_which_on_the_workers_are_busy_all_the_time() -> None:
    limit = herd.limit(SCENARIO)
    loads = herd.loads(SCENARIO, [int(0.5 * limit), int(1.5 * limit)])
    assert loads["utilisation"].tolist() == pytest.approx([0.5, 1.5], rel=0.02)
    assert loads["never"].iloc[0] == 0
    assert loads["never"].iloc[1] > 0
    assert np.isfinite(herd.tails(loads)["latency"]).all()


def test_a_smaller_herd_takes_as_long() -> None:
    small = herd.smaller(SCENARIO, 100)
    assert small.subscribers == 100
    assert small.subscribers / herd.capacity(small) == pytest.approx(SCENARIO.subscribers / herd.capacity(SCENARIO))
    found = herd.tamed(herd.smaller(SCENARIO, 40), 1.0)
    assert found.loc["a channel for each user", "worked"] < found.loc["as it is", "worked"] / 5
    assert found.loc["answers cached for 1 s", "worked"] < found.loc["as it is", "worked"]
    assert found.loc["twice the application workers", "fresh_mean"] < found.loc["as it is", "fresh_mean"]


def test_retries_keep_an_outage_alive_above_the_boundary_only() -> None:
    found = herd.boundary((0.25, 0.6), retries=(0, 2))
    drawn = found[found["source"] == "simulated"].set_index(["group", "utilisation"])["goodput"]
    assert drawn["0 retries", 0.6] > 0.95
    assert drawn["2 retries", 0.25] > 0.95
    assert drawn["2 retries", 0.6] < 0.05


def test_goodput_of_nothing_is_empty() -> None:
    assert herd.goodput(Frames().refetches, 0.0, 10.0).empty
