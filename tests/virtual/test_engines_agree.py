"""Two engines, one answer: on random small scenarios the fleet engine's rows are the reference engine's, column for column.

Both take service times and publication delays from the same streams in the same order, so these runs are equal to the
nanosecond although they are random. Where a stream differs (jitter, phases of polling, a random way to the application) means
agree within Monte-Carlo error. Requests of *different* groups that arrive at one and the same nanosecond may be served in
either order, so scenarios here have a single node and a cost per subscriber; several nodes are compared on one group.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from sim.distributions import Constant, Exponential, Lognormal
from sim.policy import Debounce, Polling
from sim.results.summary import summarise
from sim.scenario import Api, Broadcast, Broadcaster, Fleet, Network, Pages, Scenario
from sim.virtual import fleet, reference
from sim.virtual.fleet import compiled
from sim.workload import Bursty, Poisson, Tasks
from tests.strategies import policies

KEYS = {
    "updates": ["update"],
    "notifications": ["update", "subscriber"],
    "refetches": ["subscriber", "started_at"],
    "subscriptions": ["subscriber", "channel"],
    "pages": ["subscriber"],
}

waits = st.sampled_from([0.0, 0.0437, 0.211, 0.5003])
drawn = policies(
    Polling,
    wait=waits,
    leading=st.booleans(),
    max_wait=st.sampled_from([None, 0.3001, 0.9]),
    timing=st.sampled_from(["lodash", "use-debounce"]),
)
services = st.one_of(
    st.builds(Constant, st.sampled_from([0.0, 0.00071, 0.013])),
    st.builds(Exponential, st.sampled_from([0.0023, 0.02])),
    st.builds(Lognormal, st.just(0.006), st.just(1.2)),
)
pages = st.builds(
    Pages,
    page=st.sampled_from(["detail", "firewall", "dashboard", "dashboard", "site", "task"]),
    subscribers=st.integers(0, 25),
    policy=drawn,
    in_flight=st.sampled_from(["overlap", "overlap", "cancel"]),
)
scenarios = st.builds(
    Scenario,
    seed=st.integers(0, 10_000),
    warmup=st.sampled_from([0.0, 2.0]),
    duration=st.sampled_from([0.0, 9.0]),
    drain=st.sampled_from([0.0, 0.4, 6.0]),
    fleet=st.builds(Fleet, users=st.integers(1, 3), servers_per_user=st.integers(1, 2), sites_per_user=st.just(1)),
    workload=st.one_of(
        st.builds(Poisson, rate=st.sampled_from([0.0, 0.7, 6.0]), site_share=st.sampled_from([0.0, 0.3])),
        st.just(Bursty(rate=20.0)),
        st.builds(Tasks, takes=st.just(Exponential(0.7)), per_minute=st.just(200.0), parts=st.integers(0, 2)),
    ),
    pages=st.lists(pages, min_size=1, max_size=3).map(tuple),
    broadcast=st.builds(
        Broadcast,
        channels=st.sampled_from(["both", "both", "specific", "generic", "per_user"]),
        moment=st.sampled_from(["after_commit", "on_save"]),
        commit_delay=st.sampled_from([0.0, 0.0317]),
        payload=st.just("full"),
    ),
    network=st.builds(
        Network,
        to_broadcaster=st.sampled_from([Constant(0.0005), Exponential(0.004)]),
        to_subscriber=st.just(Constant(0.0021)),
        to_api=st.just(Constant(0.00033)),
    ),
    broadcaster=st.builds(
        Broadcaster,
        fixed=st.sampled_from([0.0, 0.0013]),
        per_subscriber=st.just(0.000707),
        compose_per_subscriber=st.sampled_from([0.0, 0.0003]),
    ),
    api=st.builds(
        Api,
        workers=st.integers(1, 3),
        service=services,
        service_per_row=st.sampled_from([0.0, 0.0007]),
        timeout=st.sampled_from([None, None, 0.05]),
        dashboard_of=st.sampled_from(["user", "everyone"]),
        save=st.sampled_from([Constant(0.0), Constant(0.0), Exponential(0.05)]),
        save_workers=st.just("own"),
        save_lock=st.sampled_from(["resource", "database"]),
    ),
)


def plain(frame: pd.DataFrame, key: list[str]) -> pd.DataFrame:
    kinds = {name: str if frame[name].dtype.name == "category" else "float64" for name in frame}
    return frame.astype(kinds).sort_values(key, kind="stable").reset_index(drop=True)


def assert_same_rows(scenario: Scenario) -> None:
    result, rows, sampling = fleet.sample(scenario, probes=scenario.subscribers)
    expected = reference.run(scenario)
    assert sampling == {"method": "all"}
    for table, key in KEYS.items():
        pd.testing.assert_frame_equal(
            plain(getattr(rows, table), key), plain(getattr(expected, table), key), rtol=0, atol=1e-9, obj=table
        )
    assert_same_figures(result, summarise(expected))


def assert_same_figures(result: fleet.FleetResult, summary: dict) -> None:
    """What the fleet engine counts without rows is what the rows of the reference engine come to."""
    found = result.summary()
    for name in set(found) & set(summary):
        mine, theirs = found[name]["value"], summary[name]["value"]
        if ".p" in name and "peak" not in name:  # a quantile of few values is a matter of definition
            continue
        assert (mine is None) == (theirs is None), (name, mine, theirs)
        if mine is not None:
            assert mine == pytest.approx(theirs, rel=1e-9, abs=1e-9), name


@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # to shrink a scenario takes minutes
)
@given(scenarios)
def test_random_small_scenarios_have_the_same_rows(scenario):
    assert fleet.supports(scenario) == []
    assert_same_rows(scenario)


@pytest.mark.parametrize("service", [Constant(0.004), Exponential(0.004)], ids=["constant", "random"])
@pytest.mark.parametrize("nodes", [1, 4, 7])
def test_a_group_on_several_nodes(nodes, service):
    """Nodes tell the same at the same instants where their members are as many; the group is one all the same."""
    assert_same_rows(
        Scenario(
            duration=30,
            workload=Poisson(2.0),
            pages=(Pages("dashboard", 28),),
            policy=Debounce(wait=0.3),
            broadcaster=Broadcaster(nodes=nodes, per_subscriber=0.0007),
            api=Api(workers=2, service=service),
        )
    )


def test_without_numba_it_is_the_same(monkeypatch):
    scenario = Scenario(
        duration=40, workload=Poisson(3.0), pages=(Pages("dashboard", 60),), api=Api(workers=3, service=Lognormal(0.01, 1.0))
    )
    monkeypatch.setattr(compiled, "ENABLED", compiled.INSTALLED)
    with_numba = fleet.run(scenario)
    monkeypatch.setattr(compiled, "ENABLED", False)
    without = fleet.run(scenario)
    assert with_numba.time_to_fresh == without.time_to_fresh
    np.testing.assert_array_equal(with_numba.load, without.load)


STREAMS_DIFFER = {
    "jitter": {"policy": {"kind": "debounce", "wait": 0.5, "jitter": 0.3}},
    "polling": {"policy": {"kind": "polling", "interval": 2.0}},
    "to_api": {"network.to_api": {"kind": "exponential", "scale": 0.01}},
}


@pytest.mark.parametrize("changes", STREAMS_DIFFER.values(), ids=STREAMS_DIFFER)
def test_where_streams_differ_means_agree(changes):
    """Twelve replications with paired updates: the mean difference lies within four standard errors of zero."""
    base = Scenario(
        duration=40,
        drain=8,
        workload=Poisson(1.5),
        pages=(Pages("dashboard", 20), Pages("detail", 15)),
        fleet=Fleet(users=3),
        api=Api(workers=1, service=Exponential(0.008)),
    ).replace(changes)
    differences = []
    for seed in range(12):
        scenario = base.replace({"seed": seed})
        mine, theirs = fleet.run(scenario).summary(), summarise(reference.run(scenario))
        assert mine["deliveries.received"]["value"] == theirs["deliveries.received"]["value"]
        differences.append(
            [mine[name]["value"] - theirs[name]["value"] for name in ("time_to_fresh.mean", "refetches_per_update")]
        )
    for values in np.array(differences).T:
        assert abs(values.mean()) <= 4 * values.std(ddof=1) / math.sqrt(values.size) + 1e-9


def test_pages_drawn_at_random_are_the_same_pages():
    """Probes are rows of the same run: each is found in the run with all rows."""
    scenario = Scenario(duration=20, workload=Poisson(2.0), pages=(Pages("dashboard", 40), Pages("detail", 40)))
    _, few, sampling = fleet.sample(scenario, probes=7)
    _, every, _ = fleet.sample(scenario, probes=80)
    assert sampling == {"method": "subscribers", "share": 7 / 80, "subscribers": 7, "of": 80}
    chosen = few.subscriptions["subscriber"].unique()
    assert chosen.size == 7
    mine = every.refetches[every.refetches["subscriber"].isin(chosen)]
    pd.testing.assert_frame_equal(plain(few.refetches, KEYS["refetches"]), plain(mine, KEYS["refetches"]))
