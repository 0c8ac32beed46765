"""What became of all refetches, and of all notifications: sums that must come out, on both engines, for every policy.

refetches = applied + not_newer + superseded + cancelled + failed + running
notifications heard = answered by refetches + answered by nobody
a refetch that a policy made answers at least one
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sim.distributions import Constant, Exponential
from sim.policy import Debounce, FullPayload, Polling
from sim.scenario import Api, Broadcast, Broadcaster, Fleet, Network, Pages, Scenario
from sim.virtual import fleet, reference
from sim.virtual.ledger import OUTCOMES, Tables
from sim.workload import Poisson
from sim.workload import Regular as Steady
from tests.strategies import policies
from tests.virtual.scenes import scene

TIES = Network(Constant(0.0), Constant(0.0), Constant(0.0))
"""Everything happens at round instants, so timers and notifications meet."""

waits = st.sampled_from([0.0, 0.25, 0.5, 1.0])
drawn = policies(
    FullPayload,
    wait=waits,
    leading=st.booleans(),
    max_wait=st.sampled_from([None, 0.5, 1.0]),
    interval=st.sampled_from([0.5, 2.0]),
)
scenarios = st.builds(
    Scenario,
    seed=st.integers(0, 1000),
    warmup=st.sampled_from([0.0, 2.0]),
    duration=st.just(8.0),
    drain=st.sampled_from([0.0, 0.5, 4.0]),
    cooldown=st.sampled_from([None, 0.0, 2.0]),
    fleet=st.builds(Fleet, users=st.integers(1, 2), servers_per_user=st.integers(1, 2)),
    workload=st.sampled_from([Steady(rate=2.0), Steady(rate=4.0), Poisson(rate=5.0)]),
    pages=st.lists(
        st.builds(Pages, page=st.sampled_from(["detail", "dashboard"]), subscribers=st.integers(1, 8), policy=drawn),
        min_size=1,
        max_size=2,
    ).map(tuple),
    in_flight=st.sampled_from(["overlap", "cancel"]),
    network=st.sampled_from([TIES, Network()]),
    broadcaster=st.sampled_from([Broadcaster(fixed=0.0, per_subscriber=0.0), Broadcaster()]),
    api=st.builds(
        Api,
        workers=st.integers(1, 2),
        service=st.sampled_from([Constant(0.0), Constant(0.25), Exponential(0.3)]),
        timeout=st.sampled_from([None, 0.5]),
    ),
)


def assert_sums(tables: Tables, end: float) -> None:
    refetches, pages = tables.refetches, tables.pages.set_index("subscriber")
    outcomes = refetches["outcome"].astype(str)
    assert outcomes.isin(OUTCOMES).all()
    policy = pages["policy"].astype(str).reindex(refetches["subscriber"]).to_numpy()
    assert (refetches["answered"][policy != "polling"] > 0).all(), "a policy refetches for something"
    assert (refetches["answered"][policy == "polling"] == 0).all()
    heard = tables.notifications["subscriber"].value_counts().reindex(pages.index, fill_value=0)
    answered = refetches.groupby("subscriber")["answered"].sum().reindex(pages.index, fill_value=0)
    assert (answered <= heard).all()

    finished, answer = refetches["finished_at"], outcomes.isin(["applied", "not_newer"])
    ended = outcomes.isin(["applied", "not_newer", "failed"])
    assert (finished.notna() == ended).all()
    assert (finished[ended] <= end + 1e-9).all()
    assert (refetches["version"].notna() == answer).all()
    assert refetches["status"].notna()[answer].all()
    assert refetches["status"].isna()[outcomes.isin(["superseded", "cancelled", "running"])].all()
    assert refetches["started_at"].notna().all(), "what was not sent has no row"
    left = pages["closed_at"].reindex(refetches["subscriber"]).notna().to_numpy()
    assert left[(outcomes == "cancelled").to_numpy()].all(), "cancelled: its page left"
    assert not left[(outcomes == "running").to_numpy()].any(), "running: its page did not"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(scenarios)
def test_the_sums_come_out_on_both_engines_and_are_the_same(scenario: Scenario) -> None:
    mine = reference.run(scenario)
    assert_sums(mine, scenario.length)
    if not fleet.supports(scenario):
        _, theirs, _ = fleet.sample(scenario, scenario.subscribers)
        assert_sums(theirs, scenario.length)
        if not any(isinstance(scenario.policy_of(pages), Polling) for pages in scenario.pages):
            # Polling pages draw their phases from streams of each engine's own.
            counts = [tables.refetches["outcome"].astype(str).value_counts().to_dict() for tables in (mine, theirs)]
            assert sum(counts[0].values()) == sum(counts[1].values())
            assert mine.refetches["answered"].sum() == theirs.refetches["answered"].sum()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(scenarios, st.integers(0, 3))
def test_in_trouble_too(scenario: Scenario, kind: int) -> None:
    trouble = {
        "pages.0.session": {"kind": "exponential", "scale": 3.0},
        "pages.0.hidden": 0.5,
        "in_flight": "single_flight" if kind % 2 else "overlap",
        "api.save": {"kind": "constant", "value": 0.1 if kind > 1 else 0.0},
        "incidents": [{"kind": "disconnect", "at": 3.0, "share": 0.5}, {"kind": "deploy", "at": 5.0, "down": 0.5}],
    }
    assert_sums(reference.run(scenario.replace(trouble)), scenario.length)


@pytest.mark.parametrize("engine", ["reference", "fleet"])
def test_a_notification_at_the_very_instant_of_a_timer_comes_after_it(engine: str) -> None:
    """Two updates a second and a wait of half a second: each notification finds the timer of the one before just rung."""
    scenario = Scenario(
        duration=10,
        drain=2,
        cooldown=0,
        fleet=Fleet(users=1, servers_per_user=1),
        workload=Steady(rate=2.0),
        pages=(Pages("detail", 3),),
        policy=Debounce(wait=0.5),
        api=Api(service=Constant(0.001)),
    )
    if engine == "fleet":
        _, tables, _ = fleet.sample(scenario, 3)
    else:
        tables = reference.run(scenario)
    assert len(tables.updates) == 19
    assert len(tables.refetches) == 3 * 19
    assert (tables.refetches["answered"] == 1).all()
    # Each is begun just after the next change was committed, and shows that one already.
    rows = tables.refetches.sort_values(["started_at", "subscriber"])
    assert rows["version"].tolist() == np.repeat([*range(2, 20), 19], 3).tolist()
    assert rows["outcome"].astype(str).tolist() == ["applied"] * 3 * 18 + ["not_newer"] * 3


@pytest.mark.parametrize(("timeout", "outcome"), [(0.018, "failed"), (0.018001, "applied")])
def test_an_answer_at_the_instant_of_the_time_out_is_too_late_on_both_engines(timeout: float, outcome: str) -> None:
    scenario = scene([1.0], api__timeout=timeout)
    _, theirs, _ = fleet.sample(scenario, 1)
    for tables in (reference.run(scenario), theirs):
        assert tables.refetches["outcome"].astype(str).tolist() == [outcome]


@pytest.mark.parametrize("lock", ["resource", "database"])
@pytest.mark.parametrize("moment", ["after_commit", "on_save"])
def test_changes_that_are_made_elsewhere_are_the_same_on_both_engines(lock: str, moment: str) -> None:
    scenario = Scenario(
        seed=3,
        duration=20,
        fleet=Fleet(users=2),
        workload=Poisson(rate=8.0),
        pages=(Pages("detail", 8), Pages("dashboard", 4)),
        broadcast=Broadcast(commit_delay=0.02, moment=moment),  # type: ignore[arg-type]
        api=Api(save=Exponential(0.1), save_workers="own", save_lock=lock),  # type: ignore[arg-type]
    )
    assert not fleet.supports(scenario)
    assert fleet.supports(scenario.replace({"api.save_workers": "shared"}))
    mine, (_, theirs, _) = reference.run(scenario), fleet.sample(scenario, 12)
    pd.testing.assert_frame_equal(mine.updates, theirs.updates)
    waited = mine.updates["committed_at"] - mine.updates["intended_at"] - 0.02
    assert waited.mean() > 0.1, "some wait for their lock"
    key = ["subscriber", "started_at"]
    columns = [*key, "finished_at", "version", "answered"]
    one, other = (t.refetches.sort_values(key, ignore_index=True)[columns] for t in (mine, theirs))
    pd.testing.assert_frame_equal(one, other, rtol=0, atol=1e-9)
