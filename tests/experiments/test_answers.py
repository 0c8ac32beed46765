"""Answers state what the frames hold, and stay sentences where something is missing."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sim.experiments import answers
from sim.experiments.fan_out import Capacity
from sim.results.statistics import Estimate

DRAIN = Estimate(4.0, 3.0, 5.0, 5)
HERDS = pd.DataFrame({"size": [5000.0] * 5, "span": [0.5] * 5, "p99": [3.5] * 5, "drain": [4.0] * 5, "answered": [1250.0] * 5})
TAMED = pd.DataFrame(
    {"worked": [500.0, 500.0, 4.0], "running": [500.0, 300.0, 4.0]},
    index=["as it is", "jitter over a herd's time", "a channel for each user"],
)


def sound(*words: str) -> str:
    text = " ".join(words)
    assert "nan" not in text
    assert "None" not in text
    assert "  " not in text
    return text


def test_fan_out_with_and_without_an_interval() -> None:
    sizes = pd.DataFrame(
        [{"subscribers": 5000.0, "first": 0.001, "median": 0.07, "last": 0.13, "events": 5.0, "bytes_per_delivery": 223.0}]
    )
    channels = pd.DataFrame({"messages": [0.5, 1.0, 500.0], "refetches": [0.5, 1.0, 27.0]}, index=["specific", "user", "generic"])
    limits = pd.DataFrame({"1 node": [2612.0], "8 nodes": [20900.0]}, index=[10.0])
    full = Capacity(
        subscribers=3000.0,
        each=Estimate(4e-6, 3.8e-6, 4.2e-6, 5),
        busy=0.96,
        idle=6.3e-6,
        merged=2.46e6,
        in_flight=16,
        bare=Estimate(2.9e-6, 2.5e-6, 3.3e-6, 5),
        bare_idle=4.9e-6,
        full=True,
    )
    text = sound(*answers.fan_out(sizes, Estimate(2.7e-5, 2.5e-5, 2.9e-5, 80), 1.1e-5, full, limits, 10.0, channels))
    assert "27 µs (95 % interval 25 µs to 29 µs, n = 80)" in text
    assert "the receivers' share included, one more subscriber takes 27 µs" in text
    assert "carries some 2,600 subscribers" in text
    assert "an idle node 6.3 µs, and a full node (96 % of a core) 4 µs (95 % interval 3.8 µs to 4.2 µs, n = 5)" in text
    assert "250,000 (240,000 to 260,000) deliveries a second one event at a time, and 2,500,000 with 16" in text
    bound = full._replace(busy=0.6, full=False)
    few = sound(*answers.fan_out(sizes, Estimate(2.7e-5, n=3), 1e-5, bound, limits, 10.0, channels))
    assert "too few for an interval" in few
    assert "carries at least 2,600 subscribers" in few
    assert "at least 250,000 (" in few
    assert "nan" not in answers.fan_out(sizes, Estimate(2.7e-5, n=3), float("nan"), bound, limits, 10.0, channels)[0]
    assert "6.3 µs of CPU on an idle node and 4 µs on a busy one" in answers.load_claim(bound)
    assert "500 times the messages" in answers.channel_claim(channels)
    assert answers.event_cost(1e-5, 0.0) == (
        "An event takes 10 µs of the broadcaster's CPU for each subscriber, the receivers' share included"
    )
    assert "on top of 2 ms" in answers.event_cost(1e-5, 0.002)
    assert "8 nodes carry 21,000" in answers.node_claim(limits, 10.0, full)


def test_herds_with_and_without_a_run_beside() -> None:
    jittered = HERDS.assign(span=5.0, p99=0.03)
    text = sound(*answers.herds(1.6, HERDS, DRAIN, jittered, 15751.0, 1313.0, TAMED))
    assert "needs 4 s for; with 15,800 pages" in text
    assert "p99 is 30 ms in place of 3.5 s" in text
    assert "a channel for each user brings 4 requests" in text
    assert "With jitter, a herd's" not in sound(*answers.herds(1.6, HERDS, DRAIN, jittered.head(0), 15751.0, 1313.0, TAMED))
    assert "and leaves 100 % of the work" in text
    claim = "Of what still refetches, a channel for each user takes 0.8 % of the requests, jitter 100 %"
    assert answers.tame_claim(TAMED) == claim
    payload = pd.DataFrame({"worked": [0.0], "running": [0.0]}, index=["the event carries the resource"])
    assert answers.tame_claim(pd.concat([TAMED, payload])) == claim


def test_flights_of_one_and_of_two_runs() -> None:
    one = {"a": pd.DataFrame({"at": [0.0], "running": [4632.0]})}
    assert answers.flight_claim(one) == "In a 4,632 refetches wait for an answer at once"
    assert answers.flight_claim(one | {"b": pd.DataFrame({"at": [0.0], "running": [28.0]})}).endswith("in b 28")


def test_recovery_and_boundary() -> None:
    up, down = (pd.DataFrame({"at": np.arange(20.0), "share": share}) for share in (1.0, 0.0))
    assert answers.recovery_claim({"a": up, "b": down}) == "The outage ends; b never recovers, unlike a"
    assert answers.recovery_claim({"a": up}) == "Every variant recovers after the outage"
    rows = [("theory", 0.0, 1.0), ("theory", 0.5, 1.0), ("theory", 0.5, 0.0), ("simulated", 0.4, 1.0), ("simulated", 0.6, 1.0)]
    boundary = pd.DataFrame(rows, columns=["source", "utilisation", "goodput"]).assign(group="1 retry")
    assert "1 of 2 runs" in answers.boundary_claim(boundary)


def test_regions_are_listed_widest_first() -> None:
    table = pd.DataFrame([["a", "a"], ["a", "b"]])
    assert answers.region_claim(table, "bytes") == "Fewest bytes: a in 75 %, b in 25 % of what is drawn"


def test_agreement_counts_what_is_inside_its_band() -> None:
    table = pd.DataFrame(
        {"off": [0.05, -0.5, 0.0], "group": ["fresh, p50", "fresh, p95", "fresh, p95"], "run": ["a", "b", "fitted"]},
        index=["a: x", "b: y", "fitted: y"],
    )
    exact = pd.DataFrame({"low": [-0.1, 0.1], "high": [0.1, 0.2], "off": [0.0, 0.15]})
    engines = pd.DataFrame({"off": [0.0, -0.001]})
    text = sound(*answers.agreement(table, 0.1, exact, engines, 0.2, 1.0, "fitted"))
    assert "predicts 1 of 2 measured figures within 10 %" in text
    assert "b: y: measured 50 % less than predicted" in text
    assert "Of 2 simulated means 1 have" in text
    alone = answers.agreement(table[table["run"] == "fitted"], 0.1, exact, engines, 0.2, 1.0, "fitted")
    assert "predicts 1 of 1 measured figures" in sound(*alone)
