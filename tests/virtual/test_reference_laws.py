"""What must hold for any scenario: conservation laws, determinism, agreement with another simulator, honest refusals."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
import simpy
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.distributions import Constant, Exponential, Lognormal
from sim.errors import BadInput
from sim.policy import Debounce, Immediate, Throttle, Window
from sim.results.frames import INTEGERS
from sim.results.schema import TABLES, nullable
from sim.results.summary import summarise
from sim.scenario import Api, Broadcaster, Fleet, Network, Pages, Scenario
from sim.virtual import preparation
from sim.virtual.preparation import expected_size
from sim.virtual.reference import run
from sim.workload import Poisson, streams
from tests.virtual.scenes import EXACT, figure, play, scene

RANDOM = Scenario(
    name="random",
    seed=7,
    duration=60,
    drain=30,
    cooldown=0,
    fleet=Fleet(users=4, servers_per_user=3),
    workload=Poisson(rate=3.0),
    pages=(Pages("detail", 24), Pages("dashboard", 8)),
    policy=Debounce(0.3),
    network=Network(Exponential(0.002), Exponential(0.005), Exponential(0.004)),
    broadcaster=Broadcaster(nodes=2),
    api=Api(workers=2, service=Lognormal(0.01, 0.7)),
)

TROUBLED = RANDOM.replace(
    {
        "pages.0.session": {"kind": "exponential", "scale": 20.0},
        "pages.0.hidden": 0.3,
        "pages.1.policy": {"kind": "throttle", "wait": 0.4, "jitter": 0.1},
        "broadcast.dispatch": "queued",
        "api.timeout": 0.5,
        "api.retries": 2,
        "api.retry_backoff": 0.05,
        "api.rate_limit": 300,
        "api.queue_limit": 20,
        "api.cache": 0.02,
        "incidents": [
            {"kind": "disconnect", "at": 15.0, "share": 0.5},
            {"kind": "deploy", "at": 30.0, "down": 1.0},
            {"kind": "slowdown", "at": 40.0, "duration": 5.0, "factor": 20.0},
        ],
    }
)

policies = st.sampled_from(
    [
        Immediate(),
        Debounce(0.3),
        Debounce(0.2, jitter=0.3),
        Debounce(0.2, leading=True, max_wait=0.6, timing="lodash"),
        Throttle(0.4),
        Window(0.5),
    ]
)


def some(policy: Any, rule: str, rate: float, seed: int, troubled: bool = False) -> Scenario:
    base = TROUBLED if troubled else RANDOM
    return base.replace({"seed": seed, "in_flight": rule, "duration": 8.0, "workload.rate": rate}).replace(
        {"policy": {"kind": policy.kind, **{k: getattr(policy, k) for k in policy.__slots__ if getattr(policy, k) is not None}}}
    )


scenarios = st.builds(
    some,
    policies,
    st.sampled_from(["cancel", "overlap", "single_flight"]),
    st.floats(0.5, 20.0),
    st.integers(0, 1000),
)


@settings(max_examples=10, deadline=None)
@given(scenarios)
def test_without_loss_every_subscriber_of_a_channel_hears_every_event_once(scenario: Scenario) -> None:
    tables = run(scenario)
    expected = len(tables.updates) * 8 + sum(24 // 12 for resource in tables.updates["resource"] if resource == "server")
    assert len(tables.notifications) == expected
    assert not tables.notifications.duplicated(["update", "subscriber", "channel"]).any()
    summary = summarise(tables)
    assert summary["deliveries.expected"]["value"] == summary["deliveries.received"]["value"] == expected
    heard = tables.notifications.merge(tables.updates[["update", "published_at"]], on="update")
    for _, rows in heard.groupby("subscriber"):  # in the order in which the broadcaster had the events
        assert rows["published_at"].is_monotonic_increasing


@settings(max_examples=25, deadline=None)
@given(scenarios)
def test_causes_come_before_effects(scenario: Scenario) -> None:
    tables = run(scenario)
    updates, refetches = tables.updates, tables.refetches
    assert (updates["intended_at"] <= updates["committed_at"]).all()
    assert (updates["committed_at"] < updates["published_at"]).all()
    heard = tables.notifications.merge(updates[["update", "published_at"]], on="update")
    assert (heard["received_at"] > heard["published_at"]).all()
    sent = refetches.dropna(subset=["started_at"])
    assert (sent["due_at"] <= sent["started_at"]).all()
    done = refetches.dropna(subset=["finished_at"])
    assert (done["started_at"] <= done["finished_at"]).all()
    first_heard = tables.notifications.groupby("subscriber")["received_at"].min()
    first_due = refetches.groupby("subscriber")["due_at"].min()
    assert (first_due >= first_heard.reindex(first_due.index)).all(), "a refetch without a notification"


@settings(max_examples=25, deadline=None)
@given(scenarios)
def test_answered_notifications_are_those_received(scenario: Scenario) -> None:
    """Every policy here has a trailing edge and the drain is long: nothing stays unanswered, nothing is answered twice."""
    tables = run(scenario)
    answered = tables.refetches.groupby("subscriber")["answered"].sum()
    received = tables.notifications["subscriber"].value_counts()
    assert answered.sort_index().tolist() == received.sort_index().tolist()
    assert set(tables.refetches["outcome"]) <= {"applied", "not_newer", "superseded"}
    assert figure(tables, "pages.stale_at_end") <= (0 if scenario.in_flight != "overlap" else 32)


@settings(max_examples=25, deadline=None)
@given(scenarios)
def test_consecutive_trailing_refetches_are_a_wait_apart(scenario: Scenario) -> None:
    tables = run(scenario.replace({"policy": {"kind": "debounce", "wait": 0.25}}))
    for _, due in tables.refetches.groupby("subscriber")["due_at"]:
        assert all(later - earlier >= 0.25 - 1e-9 for earlier, later in pairwise(sorted(due)))


@settings(max_examples=20, deadline=None)
@given(policies, st.sampled_from(["cancel", "overlap", "single_flight"]), st.floats(0.5, 20.0), st.integers(0, 1000))
def test_in_trouble_too_every_refetch_has_one_outcome_and_every_frame_an_open_page(
    policy: Any, rule: str, rate: float, seed: int
) -> None:
    tables = run(some(policy, rule, rate, seed, troubled=True))
    assert not tables.refetches["outcome"].isna().any()
    life = tables.subscriptions[tables.subscriptions["reason"] != "refused"]
    heard = tables.notifications.merge(life, on=["subscriber", "channel"])
    inside = (heard["received_at"] > heard["subscribed_at"]) & (heard["received_at"] <= heard["ended_at"].fillna(np.inf))
    assert inside.groupby([heard["subscriber"], heard["update"], heard["channel"]], observed=True).sum().eq(1).all()


def test_little() -> None:
    """Time average of the updates that are not on the screen = rate x mean time to fresh (J. Little 1961), for any policy.

    One dashboard, observed from its first to its last change: both sides are the same area, computed once by rows, once by time.
    """
    tables = play([], duration=400, drain=50, workload={"kind": "poisson", "rate": 1.5}, pages__0__page="dashboard")
    committed = tables.updates["committed_at"].to_numpy()
    applied = tables.refetches[tables.refetches["outcome"] == "applied"]
    shown = applied["finished_at"].to_numpy()[np.searchsorted(applied["version"], tables.updates["sequence"])]
    step = 0.001
    at = np.arange(0, 450, step)
    waiting = np.searchsorted(committed, at, side="right") - np.searchsorted(np.sort(shown), at, side="right")
    assert waiting.sum() * step == pytest.approx((shown - committed).sum(), rel=1e-3)


@pytest.mark.parametrize("scenario", [RANDOM, TROUBLED], ids=lambda scenario: scenario.name + str(len(scenario.incidents)))
def test_the_same_seed_gives_the_same_tables_bit_for_bit(scenario: Scenario) -> None:
    one, two = run(scenario), run(scenario)
    for table in TABLES:
        pd.testing.assert_frame_equal(getattr(one, table), getattr(two, table), check_exact=True)
    other = run(scenario.replace({"seed": 8}))
    assert not one.refetches["due_at"].equals(other.refetches["due_at"])


def test_progress_and_its_slices_change_nothing() -> None:
    shares: list[float] = []
    one, two = run(RANDOM, progress=shares.append), run(RANDOM)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    pd.testing.assert_frame_equal(one.refetches, two.refetches, check_exact=True)


@pytest.mark.parametrize("table", TABLES)
def test_tables_have_the_columns_and_types_of_a_bundle(table: str) -> None:
    frame = getattr(run(TROUBLED), table)
    schema = TABLES[table]
    assert list(frame.columns) == schema.names
    for name in schema.names:
        if isinstance(frame[name].dtype, pd.CategoricalDtype):
            assert str(schema.field(name).type).startswith("dictionary")
        else:
            wanted = (
                INTEGERS[schema.field(name).type] if nullable(schema.field(name)) else schema.field(name).type.to_pandas_dtype()
            )
            assert frame[name].dtype == wanted, name


# --- another simulator -------------------------------------------------------------------------------------------------


def with_simpy(scenario: Scenario) -> list[float]:
    """The same loop as SimPy processes (dashboards, trailing debounce, c workers, constant times): instants of the answers."""
    env = simpy.Environment()
    pages, wait = scenario.pages[0].subscribers, scenario.policy.wait  # type: ignore[union-attr]
    workers = simpy.Resource(env, scenario.api.workers)
    node = simpy.Resource(env, 1)
    last = [0.0] * pages
    timing = [False] * pages
    answers: list[float] = []
    updates = scenario.draw_updates(streams(scenario.seed))

    def publish(at: int) -> Any:
        yield env.timeout(at / 1e9 + scenario.network.to_broadcaster.mean())
        with node.request() as turn:
            yield turn
            yield env.timeout(scenario.broadcaster.fixed)
            for page in range(pages):
                yield env.timeout(scenario.broadcaster.per_subscriber)
                env.process(deliver(page))

    def deliver(page: int) -> Any:
        yield env.timeout(scenario.network.to_subscriber.mean())
        last[page] = env.now
        if not timing[page]:
            timing[page] = True
            env.process(debounce(page))

    def debounce(page: int) -> Any:
        while env.now < last[page] + wait - 1e-9:
            yield env.timeout(last[page] + wait - env.now)
        timing[page] = False
        yield env.timeout(scenario.network.to_api.mean())
        with workers.request() as worker:
            yield worker
            yield env.timeout(scenario.api.service.mean())
        yield env.timeout(scenario.network.to_api.mean())
        answers.append(env.now)

    for at in updates.at.tolist():
        env.process(publish(at))
    env.run()
    return sorted(answers)


def test_simpy_agrees() -> None:
    scenario = EXACT.replace(
        {
            "duration": 60.0,
            "workload": {"kind": "poisson", "rate": 1.3},
            "pages": [{"page": "dashboard", "subscribers": 40}],
            "fleet.users": 40,
            "api.workers": 3,
        }
    )
    ours = np.sort(run(scenario).refetches["finished_at"].to_numpy())
    theirs = np.array(with_simpy(scenario))
    assert len(ours) == len(theirs) > 500
    # SimPy adds floats on the way; we count nanoseconds.
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


# --- nothing to do, and too much ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"duration": 0.0, "drain": 0.0},
        {"pages": []},
        {"pages.0.subscribers": 0},
        {"workload": {"kind": "poisson", "rate": 0.0}},
    ],
    ids=["no time", "no pages", "no subscribers", "no updates"],
)
def test_where_nothing_happens_the_result_is_empty(changes: dict[str, Any]) -> None:
    tables = run(scene().replace(changes))
    assert len(tables.notifications) == len(tables.refetches) == 0
    assert summarise(tables)["refetches"]["value"] == 0


def test_no_time_and_no_cost_at_all_is_exact_too() -> None:
    free = {"kind": "constant", "value": 0.0}
    network = {"to_broadcaster": free, "to_subscriber": free, "to_api": free}
    tables = play(
        [1.0, 1.0],
        network=network,
        broadcaster__fixed=0.0,
        broadcaster__per_subscriber=0.0,
        api__service=free,
        policy={"kind": "immediate"},
    )
    assert tables.refetches["finished_at"].tolist() == [1.0, 1.0]
    assert tables.refetches["outcome"].tolist() == ["applied", "not_newer"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fleet.servers_per_user": 0, "workload": {"kind": "poisson", "rate": 0.0}}, "shows servers, but the fleet has none"),
        ({"pages.0.page": "site", "fleet.sites_per_user": 0}, "shows sites, but the fleet has none"),
    ],
)
def test_a_page_of_what_there_is_not_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        run(scene().replace(changes))


def test_a_run_that_would_not_fit_is_refused_with_the_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparation, "available_memory", lambda: 10_000_000)
    with pytest.raises(BadInput, match=r"1,000,000 notifications .* need about 0\.\d GB, 0\.0 GB are available \(lower"):
        run(scene([float(i) for i in range(10)], pages__0__subscribers=100_000))


def test_polls_that_rest_wait_for_workers_and_need_no_more_memory_than_these_allow() -> None:
    """A hundred pages that poll again as soon as they may: one worker makes a thousand answers a second."""
    scenario = scene([], duration=5, drain=0, pages__0__subscribers=100).replace(
        {"policy": {"kind": "polling", "interval": 1e-6, "mode": "rest"}, "api.service": 0.001}
    )
    _, estimated = expected_size(scenario, scenario.draw_updates(streams(1)))
    assert len(run(scenario).refetches) <= estimated <= 5200


@settings(max_examples=25, deadline=None)
@given(scenarios)
def test_the_size_is_estimated_exactly_for_notifications_and_from_above_for_refetches(scenario: Scenario) -> None:
    notifications, refetches = expected_size(scenario, scenario.draw_updates(streams(scenario.seed)))
    tables = run(scenario)
    assert notifications == len(tables.notifications)
    assert refetches >= len(tables.refetches)


def test_constants_take_no_randomness() -> None:
    """So an exact scenario stays the same whatever its seed."""
    assert isinstance(EXACT.api.service, Constant)
    pd.testing.assert_frame_equal(play(seed=1).refetches, play(seed=2).refetches, check_exact=True)
